//! A kubeconfig file: which API server to use, whom to trust, and the client's credentials.
//!
//! It is read as client-go reads it, as far as a plugin without a terminal can use it. Data takes
//! precedence over files, and a token file over a token. Paths are relative to the kubeconfig. A
//! setting that is not supported is refused and not ignored: to act under another identity would be
//! worse. No error message shows content, because it may be secret.

use super::url::Url;
use crate::small_file::{error_text, read_small};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::path::{Path, PathBuf};

/// The reasons why a kubeconfig cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig, or a file that it names, cannot be read.
    #[error("cannot read {path}, {role}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The purpose of the file.
        role: String,
        /// The reason.
        reason: String,
    },
    /// A required setting is missing or wrong.
    #[error("kubeconfig {path}: {reason}")]
    Malformed {
        /// The kubeconfig.
        path: PathBuf,
        /// The expected content.
        reason: String,
    },
    /// The kubeconfig uses a feature that is not supported.
    #[error("kubeconfig {path}: {reason}")]
    Unsupported {
        /// The kubeconfig.
        path: PathBuf,
        /// The feature, and the alternative.
        reason: String,
    },
}

/// Bytes in PEM, and their place, for messages.
pub(crate) struct Pem {
    pub(crate) bytes: Vec<u8>,
    pub(crate) place: String,
}

/// The authorities that may sign the server's certificate.
pub(crate) enum Trust {
    /// These authorities.
    Authorities(Pem),
    /// The authorities that the system trusts.
    System,
    /// Any certificate is accepted: `insecure-skip-tls-verify`.
    Anybody,
}

/// A bearer token.
pub(crate) enum Token {
    /// The token itself.
    Text(String),
    /// The path of the token file. It is read again for each request, because the token in it is
    /// renewed.
    File(PathBuf),
}

/// The settings of a kubeconfig that are used. The files that it names are already read, except for
/// a token file.
pub(crate) struct Kubeconfig {
    pub(crate) server: Url,
    pub(crate) tls_server_name: Option<String>,
    pub(crate) trust: Trust,
    /// The certificate chain and the key.
    pub(crate) certificate: Option<(Pem, Pem)>,
    pub(crate) token: Option<Token>,
    pub(crate) proxy_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    current_context: Option<String>,
    #[serde(default)]
    clusters: Option<Vec<NamedCluster>>,
    #[serde(default)]
    contexts: Option<Vec<NamedContext>>,
    #[serde(default)]
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Option<Context>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: Option<User>,
}

#[derive(Deserialize)]
struct Context {
    cluster: Option<String>,
    user: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    #[serde(rename = "as")]
    act_as: Option<IgnoredAny>,
    as_uid: Option<IgnoredAny>,
    as_groups: Option<IgnoredAny>,
    as_user_extra: Option<IgnoredAny>,
}

/// The supported credentials of a user, for messages.
const UNDERSTOOD: &str = "only token, tokenFile, client-certificate and client-key are";

impl Kubeconfig {
    /// Reads a kubeconfig and the files that it names.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn read(path: &Path) -> Result<Self, ClientError> {
        let bytes = read(path, "the kubeconfig")?;
        Reader { path }.parse(&bytes)
    }
}

fn read(path: &Path, role: &str) -> Result<Vec<u8>, ClientError> {
    read_small(path).map_err(|error| ClientError::Unreadable {
        path: path.to_owned(),
        role: role.to_owned(),
        reason: error_text(&error),
    })
}

/// Returns a text that is present and not empty. client-go treats an empty text as missing.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// The reader of one kubeconfig.
struct Reader<'a> {
    path: &'a Path,
}

impl Reader<'_> {
    fn malformed(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Malformed { path: self.path.to_owned(), reason: reason.into() }
    }

    fn unsupported(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Unsupported { path: self.path.to_owned(), reason: reason.into() }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Kubeconfig, ClientError> {
        let file = self.decode(bytes)?;
        let Some(name) = given(file.current_context) else {
            return Err(
                self.malformed("current-context: expected the name of a context, found none")
            );
        };
        let contexts = file.contexts.unwrap_or_default();
        let Some(context) = contexts
            .into_iter()
            .find(|context| context.name == name)
            .and_then(|named| named.context)
        else {
            return Err(
                self.malformed(format!("current-context: no context has the name {name:?}"))
            );
        };
        let Some(name) = given(context.cluster) else {
            return Err(
                self.malformed("the current context: expected the name of a cluster, found none")
            );
        };
        let clusters = file.clusters.unwrap_or_default();
        let Some(cluster) = clusters
            .into_iter()
            .find(|cluster| cluster.name == name)
            .and_then(|named| named.cluster)
        else {
            return Err(
                self.malformed(format!("the current context: no cluster has the name {name:?}"))
            );
        };
        let user = match given(context.user) {
            None => User::default(),
            Some(name) => {
                match file.users.unwrap_or_default().into_iter().find(|user| user.name == name) {
                    Some(found) => found.user.unwrap_or_default(),
                    None => {
                        return Err(self.malformed(format!(
                            "the current context: no user has the name {name:?}"
                        )));
                    }
                }
            }
        };
        self.assemble(cluster, user)
    }

    /// Parses JSON with the JSON parser. JSON is also YAML, but the JSON parser is much faster.
    fn decode(&self, bytes: &[u8]) -> Result<File, ClientError> {
        if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
            && let Ok(file) = serde_json::from_slice(bytes)
        {
            return Ok(file);
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                return Err(self.malformed(format!(
                    "expected UTF-8 text, found other bytes at position {}",
                    error.valid_up_to()
                )));
            }
        };
        serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map_or_else(String::new, |at| {
                format!(", line {} column {}", at.line(), at.column())
            });
            self.malformed(format!("expected a kubeconfig in YAML or JSON{place}"))
        })
    }

    fn assemble(&self, cluster: Cluster, user: User) -> Result<Kubeconfig, ClientError> {
        let server = self.server(given(cluster.server))?;
        let authority = self.pem(
            cluster.certificate_authority_data,
            cluster.certificate_authority,
            "certificate-authority",
        )?;
        let trust = match (cluster.insecure_skip_tls_verify == Some(true), authority) {
            (false, Some(pem)) => Trust::Authorities(pem),
            (false, None) => Trust::System,
            (true, None) => Trust::Anybody,
            (true, Some(_)) => {
                return Err(self.malformed("expected either insecure-skip-tls-verify or a certificate-authority, found both"));
            }
        };
        self.refuse(&user)?;
        let certificate =
            self.pem(user.client_certificate_data, user.client_certificate, "client-certificate")?;
        let key = self.pem(user.client_key_data, user.client_key, "client-key")?;
        let certificate =
            match (certificate, key) {
                (Some(certificate), Some(key)) => Some((certificate, key)),
                (None, None) => None,
                (Some(_), None) => {
                    return Err(self
                        .malformed("client-certificate: expected also a client-key, found none"));
                }
                (None, Some(_)) => {
                    return Err(self
                        .malformed("client-key: expected also a client-certificate, found none"));
                }
            };
        let token = match (given(user.token_file), given(user.token)) {
            (Some(file), _) => Some(Token::File(self.beside(&file))),
            (None, Some(text)) => Some(Token::Text(text)),
            (None, None) => None,
        };
        Ok(Kubeconfig {
            server,
            tls_server_name: given(cluster.tls_server_name),
            trust,
            certificate,
            token,
            proxy_url: given(cluster.proxy_url),
        })
    }

    fn server(&self, text: Option<String>) -> Result<Url, ClientError> {
        let Some(text) = text else {
            return Err(self.malformed("the current cluster: expected a server, found none"));
        };
        let url =
            Url::parse(&text).map_err(|reason| self.malformed(format!("server: {reason}")))?;
        match url.scheme.as_str() {
            "https" if url.credentials.is_some() => Err(self.unsupported(format!(
                "server: a password in the URL is not supported, {UNDERSTOOD}"
            ))),
            "https" => Ok(url),
            "http" => Err(self.unsupported(format!(
                "server: expected https, because a token must not be sent unencrypted, found {url}"
            ))),
            _ => Err(self
                .malformed("server: expected a URL such as https://host:port, found another one")),
        }
    }

    fn refuse(&self, user: &User) -> Result<(), ClientError> {
        let kind = if user.exec.is_some() {
            "exec (a credential plugin)"
        } else if user.auth_provider.is_some() {
            "auth-provider"
        } else if user.username.as_ref().is_some_and(|name| !name.is_empty())
            || user.password.is_some()
        {
            "username and password (gone since Kubernetes 1.19)"
        } else if user.act_as.is_some()
            || user.as_uid.is_some()
            || user.as_groups.is_some()
            || user.as_user_extra.is_some()
        {
            "impersonation (as, as-uid, as-groups, as-user-extra)"
        } else {
            return Ok(());
        };
        Err(self.unsupported(format!("user: {kind} is not supported, {UNDERSTOOD}")))
    }

    /// Resolves a path relative to the directory of the kubeconfig.
    fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    fn pem(
        &self,
        data: Option<String>,
        file: Option<String>,
        key: &str,
    ) -> Result<Option<Pem>, ClientError> {
        if let Some(mut data) = given(data) {
            data.retain(|c| !c.is_ascii_whitespace());
            let bytes = STANDARD.decode(data).map_err(|_| {
                self.malformed(format!("{key}-data: expected base64, found other text"))
            })?;
            return Ok(Some(Pem {
                bytes,
                place: format!("{key}-data of {}", self.path.display()),
            }));
        }
        let Some(file) = given(file) else {
            return Ok(None);
        };
        let path = self.beside(&file);
        let bytes = read(&path, &format!("the {key} of {}", self.path.display()))?;
        Ok(Some(Pem { bytes, place: path.display().to_string() }))
    }
}
