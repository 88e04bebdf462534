//! A proxy between the plugin and the API server that does with each connection and each request
//! what the test says: forwards it, answers in the server's place, loses it, or delays it. It
//! records the requests and their outcome.
//!
//! TLS ends here: the plugin trusts the proxy's authority because of its kubeconfig. The proxy
//! opens one connection to the server per request, and keeps those of the plugin.

/// Certificates.
pub(crate) mod authority;
/// Requests and answers.
mod wire;

use super::cluster::Cluster;
use authority::{Authority, Validity};
use hereabouts::retry::{Deadline, until};
use nix::libc;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
pub(crate) use wire::{Asked, Reply};

/// What happens to a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Pass,
    /// It is answered here. The server does not receive it.
    Answer(Reply),
    /// The server carries it out, and its answer is replaced.
    AnswerAfter(Reply),
    /// The connection is reset. The server does not receive the request.
    Reset,
    /// The server carries it out, and the connection is reset.
    ResetAfter,
    /// The server carries it out, and half of its answer is forwarded.
    ResetWithin,
    /// Nothing is answered. The server does not receive the request.
    Mute,
    /// The server carries it out, and nothing is answered.
    Lose,
    /// The server carries it out, and its answer is delayed by this time.
    Delay(Duration),
    /// Nothing is answered. The server carries it out when the test says so.
    HoldBack,
    /// It is answered here. The server carries it out nevertheless, when the test says so.
    HoldBackAfter(Reply),
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// It is accepted, and nothing is sent: the TLS handshake does not complete.
    Mute,
    /// It is accepted and reset.
    Reset,
}

/// A request, and the status of the server's answer, if the server was asked.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) done: Option<u16>,
}

type Script = Box<dyn FnMut(&Asked) -> Act + Send>;

/// Returns an unused address: no other process takes a port there while connections to it must be
/// refused.
fn own_host() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    // Not 127.0, because other connections start from there.
    Ipv4Addr::new(127, 64 | high & 63, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A running proxy, see the module.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    pub(crate) authority: Authority,
    token: String,
    acceptor: Mutex<Option<(Arc<TcpListener>, JoinHandle<()>)>>,
    /// Called before the proxy begins to disturb, and before it forwards everything again.
    disturbs: Mutex<Box<dyn Fn(bool) + Send>>,
}

struct Shared {
    server: SocketAddr,
    client: Arc<ClientConfig>,
    state: Mutex<State>,
    /// Notified when the state changes.
    changed: Condvar,
}

struct State {
    tls: Arc<ServerConfig>,
    door: Door,
    script: Script,
    connections: usize,
    seen: Vec<Seen>,
    held_back: Vec<(usize, Asked)>,
    open: BTreeMap<usize, TcpStream>,
    ending: bool,
}

impl Proxy {
    /// Starts a proxy in front of a cluster's API server that forwards everything.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let kubeconfig = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
        let server = word_after(&kubeconfig, "server: https://").parse().unwrap();
        let token = word_after(&kubeconfig, "token: ").to_owned();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(cluster.directory().join("pki/ca.crt")).unwrap())
            .unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = own_host();
        let authority = Authority::new("proxy of the tests");
        let state = State {
            tls: authority.server(&[&host.to_string()], Validity::Today),
            door: Door::Open,
            script: Box::new(|_| Act::Pass),
            connections: 0,
            seen: Vec::new(),
            held_back: Vec::new(),
            open: BTreeMap::new(),
            ending: false,
        };
        let shared = Arc::new(Shared {
            server,
            client: Arc::new(client),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Self {
            shared,
            address,
            authority,
            token,
            acceptor: Mutex::default(),
            disturbs: Mutex::new(Box::new(|_| {})),
        };
        // The socket is not closed and bound again: a child of another thread that has not called
        // exec yet holds everything that was open when it was forked.
        proxy.accept(listener);
        proxy
    }

    /// Returns the name that its certificate must have.
    pub(crate) fn host(&self) -> String {
        self.address.ip().to_string()
    }

    /// Returns a kubeconfig that leads here, for the user with all rights.
    pub(crate) fn kubeconfig(&self, directory: &Path) -> PathBuf {
        self.kubeconfig_with(
            directory,
            self.authority.pem(),
            &serde_json::json!({"token": self.token}),
        )
    }

    /// Returns the same for another user, with another trusted authority. JSON is YAML.
    pub(crate) fn kubeconfig_with(
        &self,
        directory: &Path,
        authority: &str,
        user: &serde_json::Value,
    ) -> PathBuf {
        let text = kubeconfig(&self.address.to_string(), authority, user);
        let path = directory.join("proxy.kubeconfig");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Reports that faults begin or end.
    fn disturb(&self, begins: bool) {
        self.disturbs.lock().unwrap()(begins);
    }

    /// Sets what happens to every request from now on.
    pub(crate) fn script(&self, script: impl FnMut(&Asked) -> Act + Send + 'static) {
        self.disturb(true);
        self.state().script = Box::new(script);
    }

    /// Sets the function that is told when faults begin (`true`) and end.
    pub(crate) fn tell(&self, disturbs: impl Fn(bool) + Send + 'static) {
        *self.disturbs.lock().unwrap() = Box::new(disturbs);
    }

    /// Does the same to the first requests of a method, and then forwards everything.
    pub(crate) fn first(&self, mut times: usize, method: &'static str, act: Act) {
        self.script(move |asked| {
            if asked.method != method || times == 0 {
                return Act::Pass;
            }
            times -= 1;
            act.clone()
        });
    }

    pub(crate) fn pass(&self) {
        self.disturb(false);
        let mut state = self.state();
        state.script = Box::new(|_| Act::Pass);
        state.door = Door::Open;
    }

    /// Sets what happens to every connection from now on.
    pub(crate) fn door(&self, door: Door) {
        self.disturb(true);
        self.state().door = door;
    }

    /// Shows another certificate from now on.
    pub(crate) fn certificate(&self, tls: Arc<ServerConfig>) {
        self.state().tls = tls;
    }

    /// Returns the requests since the last call of this function, without the look at the Move, which
    /// comes with the first call of a node and then once a minute.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let mut seen = std::mem::take(&mut self.state().seen);
        seen.retain(|seen| !seen.path.contains("/moves/"));
        seen
    }

    /// Returns the methods of these requests, in order.
    pub(crate) fn methods(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.method).collect()
    }

    /// Sends what was held back to the server. Returns the statuses of its answers.
    pub(crate) fn send_held_back(&self) -> Vec<u16> {
        let held = std::mem::take(&mut self.state().held_back);
        held.into_iter()
            .filter_map(|(at, asked)| self.shared.ask(at, &asked).ok())
            .map(|reply| reply.status)
            .collect()
    }

    /// Does the same with only the first of them.
    pub(crate) fn send_first_held_back(&self) -> u16 {
        let (at, asked) = self.state().held_back.remove(0);
        self.shared.ask(at, &asked).unwrap().status
    }

    /// Returns when no request of a caller that has ended is in progress any more: what a killed
    /// call had sent may still be on its way to the server.
    pub(crate) fn wait_for_what_was_sent(&self) {
        let limit = Duration::from_secs(120);
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(self.state(), limit, |state| !state.open.is_empty())
            .unwrap();
        drop(state);
        assert!(!waited.timed_out(), "connections are open though all callers have ended");
    }

    /// Accepts connections, on the same port as from the start. A process that another thread is
    /// just starting has the old socket for a moment longer.
    pub(crate) fn listen(&self) {
        let bind = || match TcpListener::bind(self.address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            bound => bound.map(Some),
        };
        self.accept(
            until(&Deadline::after(Duration::from_secs(60)), bind)
                .unwrap()
                .expect("the port is free again"),
        );
    }

    fn accept(&self, listener: TcpListener) {
        let listener = Arc::new(listener);
        let (shared, accepting) = (Arc::clone(&self.shared), Arc::clone(&listener));
        let thread = std::thread::spawn(move || {
            // Ends when the socket is shut down.
            while let Ok((stream, _)) = accepting.accept() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        *self.acceptor.lock().unwrap() = Some((listener, thread));
    }

    /// Refuses connections from now on.
    pub(crate) fn refuse(&self) {
        self.disturb(true);
        if let Some((listener, thread)) = self.acceptor.lock().unwrap().take() {
            shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
            thread.join().unwrap();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
        let mut state = self.state();
        state.ending = true;
        for stream in state.open.values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

/// Returns the text of a kubeconfig.
pub(crate) fn kubeconfig(server: &str, authority: &str, user: &serde_json::Value) -> String {
    use base64::Engine;
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        "clusters": [{"name": "here", "cluster": {"server": format!("https://{server}"), "certificate-authority-data": authority}}],
        "users": [{"name": "here", "user": user}],
    });
    config.to_string()
}

fn word_after<'t>(text: &'t str, before: &str) -> &'t str {
    let at = text.find(before).unwrap() + before.len();
    text[at..].split_whitespace().next().unwrap()
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut state = self.state.lock().unwrap();
        if state.ending {
            return;
        }
        state.connections += 1;
        let number = state.connections;
        state.open.insert(number, stream.try_clone().unwrap());
        let (door, tls) = (state.door, Arc::clone(&state.tls));
        drop(state);
        match door {
            Door::Open => {
                let mut tls = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
                let _ = tls.sock.set_nodelay(true);
                while let Some(asked) = Asked::read(&mut tls) {
                    if self.play(&asked, &mut tls).is_err() {
                        break;
                    }
                }
            }
            Door::Mute => wait_until_closed(stream),
            Door::Reset => reset(&stream),
        }
        self.state.lock().unwrap().open.remove(&number);
        self.changed.notify_all();
    }

    /// Does with a request what the script says. An error ends the connection.
    fn play(&self, asked: &Asked, tls: &mut Tls) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let act = (state.script)(asked);
        let at = state.seen.len();
        state.seen.push(Seen {
            method: asked.method.clone(),
            path: asked.path.clone(),
            done: None,
        });
        drop(state);
        match act {
            Act::Pass => self.ask_or_reset(at, asked, tls)?.write(tls),
            Act::Answer(reply) => reply.write(tls),
            Act::AnswerAfter(reply) => {
                self.ask_or_reset(at, asked, tls).and_then(|_| reply.write(tls))
            }
            Act::Reset => Err(reset_now(tls)),
            Act::ResetAfter => self.ask(at, asked).and_then(|_| Err(reset_now(tls))),
            Act::ResetWithin => {
                self.ask_or_reset(at, asked, tls)?.write_half(tls)?;
                Err(reset_now(tls))
            }
            Act::Mute => Err(mute(tls)),
            Act::Lose => self.ask(at, asked).and_then(|_| Err(mute(tls))),
            Act::Delay(time) => {
                let reply = self.ask_or_reset(at, asked, tls)?;
                self.pause(time);
                reply.write(tls)
            }
            Act::HoldBack => {
                self.hold_back(at, asked);
                Err(mute(tls))
            }
            Act::HoldBackAfter(reply) => {
                self.hold_back(at, asked);
                reply.write(tls)
            }
        }
    }

    fn hold_back(&self, at: usize, asked: &Asked) {
        self.state.lock().unwrap().held_back.push((at, asked.clone()));
    }

    fn ask_or_reset(&self, at: usize, asked: &Asked, tls: &mut Tls) -> io::Result<Reply> {
        self.ask(at, asked).inspect_err(|_| reset(&tls.sock))
    }

    /// Sends a request to the server.
    fn ask(&self, at: usize, asked: &Asked) -> io::Result<Reply> {
        let stream = TcpStream::connect(self.server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(70)))?;
        let connection =
            ClientConnection::new(Arc::clone(&self.client), ServerName::from(self.server.ip()))
                .unwrap();
        let mut tls = StreamOwned::new(connection, stream);
        tls.write_all(&asked.bytes())?;
        tls.flush()?;
        let reply = Reply::read(&mut tls)?;
        // The list may have been taken in the meantime.
        let mut state = self.state.lock().unwrap();
        if let Some(seen) = state
            .seen
            .get_mut(at)
            .filter(|seen| seen.method == asked.method && seen.path == asked.path)
        {
            seen.done = Some(reply.status);
        }
        Ok(reply)
    }

    /// Waits for a fault that consists of time. Ends early with the proxy.
    fn pause(&self, time: Duration) {
        let state = self.state.lock().unwrap();
        let _ = self.changed.wait_timeout_while(state, time, |state| !state.ending).unwrap();
    }
}

fn reset(stream: &TcpStream) {
    // Makes the close a reset, which drops unsent bytes.
    let _ = setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}

fn reset_now(tls: &Tls) -> io::Error {
    reset(&tls.sock);
    io::Error::from(io::ErrorKind::ConnectionReset)
}

fn mute(tls: &Tls) -> io::Error {
    if let Ok(stream) = tls.sock.try_clone() {
        wait_until_closed(stream);
    }
    io::Error::from(io::ErrorKind::TimedOut)
}

/// Reads until the other side closes the connection.
fn wait_until_closed(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|read| 0 < read) {}
}
