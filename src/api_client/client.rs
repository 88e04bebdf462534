//! The HTTP client of the Kubernetes store: sends one request per call to one API server, within a
//! time limit.
//!
//! It never retries and never follows a redirect. Only the caller knows whether a request whose
//! outcome is unknown may be repeated. It knows nothing of Kubernetes objects.

use super::connection::{Connection, Target, is_refusal};
use super::http::{self, Answer, Request, Sender, Unread};
use super::kubeconfig::{Kubeconfig, Pem, Token, Trust};
use super::proxy;
use super::tls::Tls;
use super::trouble::Trouble;
use super::url::{Host, Url};
use super::way::Way;
use crate::digest;
use crate::environment::ProxyVariables;
use crate::retry::Deadline;
use crate::small_file::{error_text, read_small};
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

pub use super::kubeconfig::ClientError;

/// A client of one API server. Keeps its connection between calls.
///
/// [`Client::open`] reads the kubeconfig and the certificates in it once. A token file is read
/// again for each call.
pub struct Client {
    target: Target,
    authority: String,
    cluster: String,
    /// The path of the kubeconfig.
    file: String,
    token: Option<Token>,
    kept: RefCell<Option<Connection>>,
}

/// The interface to an API server that the store uses. [`Client`] implements it for a real server;
/// tests use their own implementation.
pub trait Server {
    /// Returns the cluster's identity.
    fn cluster(&self) -> &str;
    /// Returns the server's URL, for messages.
    fn url(&self) -> String;
    /// Returns the way to the cluster.
    fn way(&self) -> Way {
        Way::of(self.cluster())
    }
    /// Sends exactly one request and reads its answer, within `limit`.
    ///
    /// # Errors
    /// See [`CallError`]. An HTTP error status is not an error here.
    fn call(&self, request: &Request<'_>, limit: Duration) -> Result<Answer, CallError>;
}

impl Server for Client {
    fn cluster(&self) -> &str {
        self.cluster()
    }
    fn url(&self) -> String {
        self.server()
    }
    fn way(&self) -> Way {
        self.way()
    }
    fn call(&self, request: &Request<'_>, limit: Duration) -> Result<Answer, CallError> {
        self.call(request, limit)
    }
}

/// The reasons why a call got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The server did not receive the request, or received only a part of it.
    #[error("{reason}")]
    NotSent {
        /// What failed.
        reason: String,
        /// Whether a retry may help.
        may_pass: bool,
    },
    /// The request was sent, but its outcome is not known.
    #[error("{reason}")]
    Unknown {
        /// What failed.
        reason: String,
        /// Whether a retry may help.
        may_pass: bool,
    },
}

impl CallError {
    /// Returns whether a retry may help. It does not help against a wrong authority or an expired
    /// certificate.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotSent { may_pass, .. } | Self::Unknown { may_pass, .. } => *may_pass,
        }
    }

    fn not_sent(trouble: Trouble) -> Self {
        Self::NotSent { reason: trouble.reason, may_pass: trouble.may_pass }
    }
}

impl Client {
    /// Reads a kubeconfig and the files that it names. Does not connect.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn open(kubeconfig: &Path, proxy: &ProxyVariables) -> Result<Self, ClientError> {
        let malformed =
            |reason: String| ClientError::Malformed { path: kubeconfig.to_owned(), reason };
        let read = Kubeconfig::read(kubeconfig)?;
        let tls = Tls::new(&read).map_err(malformed)?;
        let proxy = proxy_of(kubeconfig, &read, proxy)?;
        let name = match (&read.tls_server_name, &read.server.host) {
            (Some(name), _) => ServerName::try_from(name.clone()).ok(),
            (None, Host::Address(address)) => Some(ServerName::from(*address)),
            (None, Host::Name(name)) => {
                ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned()).ok()
            }
        };
        let Some(name) = name else {
            return Err(malformed(
                "tls-server-name or the host in server: expected a DNS name or an address, found neither"
                    .to_owned(),
            ));
        };
        let cluster = identity(&read.server, &read.trust);
        let authority = read.server.authority(super::url::HTTPS);
        let target = Target { server: read.server, name, proxy, tls };
        Ok(Self {
            target,
            authority,
            cluster,
            file: kubeconfig.display().to_string(),
            token: read.token,
            kept: RefCell::new(None),
        })
    }

    /// Returns the cluster's identity: a hash of its authorities, `-`, and a hash of its URL. If
    /// only one of the two changes, it is still the same cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Returns the way to the cluster. Reads the token.
    #[must_use]
    pub fn way(&self) -> Way {
        let account = self.token().ok().flatten().and_then(|token| super::token::account(&token));
        Way { account, file: Some(self.file.clone()), ..Way::of(&self.cluster) }
    }

    /// Returns the server's URL, for messages.
    #[must_use]
    pub fn server(&self) -> String {
        self.target.server.to_string()
    }

    /// Sends exactly one request and reads its answer. `limit` covers all of it: name resolution,
    /// connection, TLS, sending and receiving.
    ///
    /// # Errors
    /// See [`CallError`]. An HTTP error status is not an error here.
    pub fn call(&self, request: &Request<'_>, limit: Duration) -> Result<Answer, CallError> {
        let deadline = Deadline::after(limit);
        let bytes = self.encode(request).map_err(CallError::not_sent)?;
        let mut connection = self.connection(&deadline).map_err(CallError::not_sent)?;
        if let Err(error) = connection.send(&bytes, &deadline) {
            return Err(CallError::not_sent(self.target.explain("sending to", &error, &deadline)));
        }
        let answer = http::read_answer(&mut connection.incoming(&deadline));
        match answer {
            Ok((answer, reusable)) => {
                if reusable {
                    self.kept.replace(Some(connection));
                }
                Ok(answer)
            }
            Err(Unread::Failed(error)) => {
                let trouble = self.target.explain("reading the answer of", &error, &deadline);
                if is_refusal(&error) {
                    return Err(CallError::not_sent(trouble));
                }
                Err(CallError::Unknown { reason: trouble.reason, may_pass: trouble.may_pass })
            }
            Err(Unread::Malformed(reason)) => Err(CallError::Unknown {
                reason: format!("reading the answer of {} failed: {reason}", self.target.server),
                may_pass: true,
            }),
        }
    }

    /// Returns the kept connection, or opens a new one if there is none or the server has closed
    /// it.
    fn connection(&self, deadline: &Deadline) -> Result<Connection, Trouble> {
        if let Some(mut kept) = self.kept.take()
            && kept.is_open()
        {
            return Ok(kept);
        }
        Connection::open(&self.target, deadline)
    }

    fn encode(&self, request: &Request<'_>) -> Result<Vec<u8>, Trouble> {
        let token = self.token()?;
        let sender = Sender {
            authority: &self.authority,
            base: &self.target.server.path,
            token: token.as_deref(),
        };
        http::encode(&sender, request).map_err(Trouble::lasting)
    }

    /// Returns the name and the UID of the Node that the token is bound to.
    #[must_use]
    pub fn node_of_token(&self) -> Option<(String, String)> {
        super::token::node(&self.token().ok().flatten()?)
    }

    fn token(&self) -> Result<Option<String>, Trouble> {
        let path = match &self.token {
            None => return Ok(None),
            Some(Token::Text(text)) => return Ok(Some(text.clone())),
            Some(Token::File(path)) => path,
        };
        match read_small(path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(error) => Err(Trouble::lasting(format!(
                "cannot read {}, the tokenFile of the kubeconfig: {}",
                path.display(),
                error_text(&error)
            ))),
        }
    }
}

fn proxy_of(
    kubeconfig: &Path,
    read: &Kubeconfig,
    variables: &ProxyVariables,
) -> Result<Option<Url>, ClientError> {
    proxy::choose(&read.server, read.proxy_url.as_deref(), variables).map_err(|(place, reason)| {
        ClientError::Unsupported {
            path: kubeconfig.to_owned(),
            reason: format!("{place}: {reason}"),
        }
    })
}

fn identity(server: &Url, trust: &Trust) -> String {
    let hash = |bytes: &[u8]| digest::hex(&Sha256::digest(bytes));
    let authorities = match trust {
        Trust::Authorities(Pem { bytes, .. }) => hash(bytes),
        Trust::System => "system".to_owned(),
        Trust::Anybody => "anybody".to_owned(),
    };
    format!("{authorities}-{}", hash(server.to_string().as_bytes()))
}
