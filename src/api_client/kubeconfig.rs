//! A kubeconfig file: which API server to use, whom to trust, and the client's credentials.
//!
//! It is read as client-go reads it, as far as a plugin without a terminal can use it. Data takes
//! precedence over files, and a token file over a token. Paths are relative to the kubeconfig. A
//! setting that is not supported is refused and not ignored: to act under another identity would be
//! worse. No error message shows content, because it may be secret.

use super::url::Url;
use crate::json::Json;
use crate::small_file::{error_text, read_small};
use crate::yaml::{Documents, YamlError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

/// What is read of the current context's cluster.
#[derive(Default)]
struct Cluster {
    server: Option<String>,
    tls_server_name: Option<String>,
    is_insecure: bool,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    proxy_url: Option<String>,
}

/// What is read of the current context's user.
#[derive(Default)]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    token_file: Option<String>,
}

/// What a file should be, for messages.
const EXPECTED: &str = "expected a kubeconfig in YAML or JSON";

/// The maximum number of values of a kubeconfig, keys included.
const MOST_VALUES: usize = 100_000;

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
        let Some(name) = self.text(&file, "current-context")? else {
            return Err(
                self.malformed("current-context: expected the name of a context, found none")
            );
        };
        let Some(context) = self.named(&file, "contexts", "context", &name)? else {
            return Err(
                self.malformed(format!("current-context: no context has the name {name:?}"))
            );
        };
        let Some(name) = self.text(context, "cluster")? else {
            return Err(
                self.malformed("the current context: expected the name of a cluster, found none")
            );
        };
        let Some(cluster) = self.named(&file, "clusters", "cluster", &name)? else {
            return Err(
                self.malformed(format!("the current context: no cluster has the name {name:?}"))
            );
        };
        let cluster = self.cluster(cluster)?;
        let user = match self.text(context, "user")? {
            None => User::default(),
            Some(name) => match self.named(&file, "users", "user", &name)? {
                Some(user) => self.user(user)?,
                None => {
                    return Err(self
                        .malformed(format!("the current context: no user has the name {name:?}")));
                }
            },
        };
        self.assemble(cluster, user)
    }

    /// Returns what the file says. Parses JSON with the JSON parser: JSON is also YAML, but the JSON
    /// parser is much faster.
    fn decode(&self, bytes: &[u8]) -> Result<Json, ClientError> {
        if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
            && let Ok(file) = Json::parse_within(bytes, MOST_VALUES)
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
        // kubectl, too, passes over all documents but the first one.
        match Documents::new(text, MOST_VALUES).next() {
            None | Some(Ok(Json::Null)) => Ok(Json::Object(Vec::new())),
            Some(Ok(file @ Json::Object(_))) => Ok(file),
            Some(Ok(other)) => Err(self.malformed(format!("{EXPECTED}, found {}", other.kind()))),
            Some(Err(YamlError::Malformed { line, column, .. })) => {
                Err(self.malformed(format!("{EXPECTED}, line {line} column {column}")))
            }
            Some(Err(error @ YamlError::TooMany { .. })) => Err(self.malformed(error.to_string())),
        }
    }

    /// Returns the value of this field in the first item of a list that has this name.
    fn named<'j>(
        &self,
        file: &'j Json,
        list: &str,
        field: &str,
        name: &str,
    ) -> Result<Option<&'j Json>, ClientError> {
        let items = match file.find(list) {
            None => return Ok(None),
            Some(Json::Array(items)) => items,
            Some(other) => {
                return Err(
                    self.malformed(format!("{list}: expected a list, found {}", other.kind()))
                );
            }
        };
        let found =
            items.iter().find(|item| item.find("name").and_then(Json::as_str) == Some(name));
        Ok(found.and_then(|item| item.find(field)))
    }

    /// Returns a text that is present and not empty. client-go treats an empty text as missing.
    fn text(&self, object: &Json, key: &str) -> Result<Option<String>, ClientError> {
        match object.find(key) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(other) => {
                Err(self.malformed(format!("{key}: expected a string, found {}", other.kind())))
            }
        }
    }

    fn cluster(&self, cluster: &Json) -> Result<Cluster, ClientError> {
        let insecure = "insecure-skip-tls-verify";
        Ok(Cluster {
            server: self.text(cluster, "server")?,
            tls_server_name: self.text(cluster, "tls-server-name")?,
            is_insecure: match cluster.find(insecure) {
                None => false,
                Some(Json::Bool(value)) => *value,
                Some(other) => {
                    return Err(self.malformed(format!(
                        "{insecure}: expected true or false, found {}",
                        other.kind()
                    )));
                }
            },
            certificate_authority: self.text(cluster, "certificate-authority")?,
            certificate_authority_data: self.text(cluster, "certificate-authority-data")?,
            proxy_url: self.text(cluster, "proxy-url")?,
        })
    }

    fn user(&self, user: &Json) -> Result<User, ClientError> {
        self.refuse(user)?;
        Ok(User {
            client_certificate: self.text(user, "client-certificate")?,
            client_certificate_data: self.text(user, "client-certificate-data")?,
            client_key: self.text(user, "client-key")?,
            client_key_data: self.text(user, "client-key-data")?,
            token: self.text(user, "token")?,
            token_file: self.text(user, "tokenFile")?,
        })
    }

    fn assemble(&self, cluster: Cluster, user: User) -> Result<Kubeconfig, ClientError> {
        let server = self.server(cluster.server)?;
        let authority = self.pem(
            cluster.certificate_authority_data,
            cluster.certificate_authority,
            "certificate-authority",
        )?;
        let trust = match (cluster.is_insecure, authority) {
            (false, Some(pem)) => Trust::Authorities(pem),
            (false, None) => Trust::System,
            (true, None) => Trust::Anybody,
            (true, Some(_)) => {
                return Err(self.malformed("expected either insecure-skip-tls-verify or a certificate-authority, found both"));
            }
        };
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
        let token = match (user.token_file, user.token) {
            (Some(file), _) => Some(Token::File(self.beside(&file))),
            (None, Some(text)) => Some(Token::Text(text)),
            (None, None) => None,
        };
        Ok(Kubeconfig {
            server,
            tls_server_name: cluster.tls_server_name,
            trust,
            certificate,
            token,
            proxy_url: cluster.proxy_url,
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

    fn refuse(&self, user: &Json) -> Result<(), ClientError> {
        let has = |key: &str| user.find(key).is_some();
        let kind = if has("exec") {
            "exec (a credential plugin)"
        } else if has("auth-provider") {
            "auth-provider"
        } else if self.text(user, "username")?.is_some() || has("password") {
            "username and password (gone since Kubernetes 1.19)"
        } else if ["as", "as-uid", "as-groups", "as-user-extra"].into_iter().any(has) {
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
        if let Some(mut data) = data {
            data.retain(|c| !c.is_ascii_whitespace());
            let bytes = STANDARD.decode(data).map_err(|_| {
                self.malformed(format!("{key}-data: expected base64, found other text"))
            })?;
            return Ok(Some(Pem {
                bytes,
                place: format!("{key}-data of {}", self.path.display()),
            }));
        }
        let Some(file) = file else {
            return Ok(None);
        };
        let path = self.beside(&file);
        let bytes = read(&path, &format!("the {key} of {}", self.path.display()))?;
        Ok(Some(Pem { bytes, place: path.display().to_string() }))
    }
}
