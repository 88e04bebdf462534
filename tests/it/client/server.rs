//! A TLS server that does what a test tells it. It passes each connection to the test's script
//! after the handshake. It counts connections and keeps the requests, so that a test sees what was
//! sent, and how often.

use super::certificates::{Authority, Certificate};
use crate::support::sandbox::Sandbox;
use hereabouts::api_client::client::{CallError, Client};
use hereabouts::api_client::http::{Answer, Method, Request};
use hereabouts::environment::ProxyVariables;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than any call of a test: a call that waits this long hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// One connection, after the handshake.
pub(super) struct Talk {
    stream: StreamOwned<ServerConnection, TcpStream>,
    /// The first connection has number 0.
    pub(super) number: usize,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Talk {
    /// Reads one request, head and body. Returns `false` if none comes any more.
    pub(super) fn hears(&mut self) -> bool {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut byte) {
                Ok(1) => request.push(byte[0]),
                _ => return false,
            }
        }
        let head = String::from_utf8(request.clone()).unwrap().to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        if self.stream.read_exact(&mut body).is_err() {
            return false;
        }
        request.extend(body);
        self.requests.lock().unwrap().push(String::from_utf8(request).unwrap());
        true
    }

    /// Returns the last request, on any connection.
    pub(super) fn heard(&self) -> String {
        self.requests.lock().unwrap().last().cloned().unwrap_or_default()
    }

    /// Sends bytes. The client may have closed the connection by then.
    pub(super) fn says(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
        let _ = self.stream.flush();
    }

    /// Sends close_notify. Nothing after that is read.
    pub(super) fn ends(&mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
        let _ = self.stream.sock.shutdown(std::net::Shutdown::Write);
    }

    /// Makes the next close a reset.
    pub(super) fn resets(self) {
        setsockopt(
            &self.stream.sock,
            sockopt::Linger,
            &nix::libc::linger { l_onoff: 1, l_linger: 0 },
        )
        .unwrap();
    }

    /// Keeps the connection open until the client closes it.
    pub(super) fn holds(mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.sock.read_to_end(&mut rest);
    }
}

/// The certificate of the server, and the clients that it accepts.
pub(super) struct Identity {
    pub(super) certificate: Certificate,
    /// The authority whose client certificates the server requires, if it requires any.
    pub(super) clients: Option<String>,
    pub(super) versions: &'static [&'static SupportedProtocolVersion],
}

/// See the module.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Listens on 127.0.0.1 with a certificate for it.
    pub(super) fn start(
        authority: &Authority,
        script: impl Fn(Talk) + Send + Sync + 'static,
    ) -> Self {
        let certificate = authority.server(&["127.0.0.1", "localhost"]);
        Self::start_as(
            &Identity { certificate, clients: None, versions: rustls::ALL_VERSIONS },
            "127.0.0.1",
            script,
        )
    }

    pub(super) fn start_as(
        identity: &Identity,
        host: &str,
        script: impl Fn(Talk) + Send + Sync + 'static,
    ) -> Self {
        let config = Arc::new(configuration(identity));
        let listener = TcpListener::bind((host, 0)).unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (connections, requests) =
            (Arc::clone(&server.connections), Arc::clone(&server.requests));
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let (config, script, requests) =
                    (Arc::clone(&config), Arc::clone(&script), Arc::clone(&requests));
                std::thread::spawn(move || {
                    let mut socket = stream.unwrap();
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut tls = ServerConnection::new(config).unwrap();
                    while tls.is_handshaking() {
                        if tls.complete_io(&mut socket).is_err() {
                            return;
                        }
                    }
                    script(Talk { stream: StreamOwned::new(tls, socket), number, requests });
                });
            }
        });
        server
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// All requests so far, in order.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

fn configuration(identity: &Identity) -> ServerConfig {
    let builder =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(identity.versions)
            .unwrap();
    let builder = match &identity.clients {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .build()
                    .unwrap(),
            )
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.pem.as_bytes()).unwrap()];
    let key =
        PrivateKeyDer::from_pem_slice(identity.certificate.key.serialize_pem().as_bytes()).unwrap();
    builder.with_single_cert(chain, key).unwrap()
}

/// Lines of YAML for `cluster` and `user` of a kubeconfig.
pub(super) fn kubeconfig(sandbox: &Sandbox, cluster: &str, user: &str) -> PathBuf {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\ncontexts:\n- name: here\n  context: {{cluster: c, user: u}}\n\
         clusters:\n- name: c\n  cluster: {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n"
    );
    sandbox.write("kubeconfig", &text)
}

/// A client that trusts the authority and sends the token "s3cret".
pub(super) fn client(sandbox: &Sandbox, url: &str, authority: &Authority) -> Client {
    sandbox.write("ca.crt", &authority.pem);
    let kubeconfig = kubeconfig(
        sandbox,
        &format!("server: '{url}', certificate-authority: ca.crt"),
        "token: s3cret",
    );
    Client::open(&kubeconfig, &ProxyVariables::default()).unwrap()
}

pub(super) const GET: Request<'static> =
    Request { method: Method::Get, path: "/version", accept: "application/json", content: None };

/// Makes one call with a long time limit.
pub(super) fn get(client: &Client) -> Result<Answer, CallError> {
    client.call(&GET, PATIENCE)
}

/// Makes a call, and checks that it took less than half of the patience.
pub(super) fn timed<T>(act: impl FnOnce() -> T) -> T {
    #[allow(clippy::disallowed_methods, reason = "a test measures")]
    let start = Instant::now();
    let outcome = act();
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    outcome
}

pub(super) fn not_sent(outcome: Result<Answer, CallError>) -> (String, bool) {
    match outcome {
        Err(CallError::NotSent { reason, may_pass }) => (without_secret(reason), may_pass),
        other => panic!("expected a request that was not sent: {other:?}"),
    }
}

pub(super) fn unknown(outcome: Result<Answer, CallError>) -> String {
    match outcome {
        Err(CallError::Unknown { reason, may_pass: true }) => without_secret(reason),
        other => panic!("expected an unknown outcome: {other:?}"),
    }
}

fn without_secret(reason: String) -> String {
    assert!(!reason.contains("s3cret"), "{reason}");
    reason
}
