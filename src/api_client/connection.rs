//! One connection to the API server: TCP and TLS, through a proxy if one is configured. Every wait
//! ends at the deadline of the call.

use super::http::{self, Unread};
use super::resolver;
use super::tls::{self, Tls};
use super::trouble::Trouble;
use super::url::{HTTPS, Host, Url};
use crate::retry::Deadline;
use crate::small_file::error_text;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// The server to connect to, and how.
pub(crate) struct Target {
    pub(crate) server: Url,
    pub(crate) name: ServerName<'static>,
    pub(crate) proxy: Option<Url>,
    pub(crate) tls: Tls,
}

const HTTP: u16 = 80;

/// The number of reads after which [`Connection::is_open`] gives up a kept connection: a server
/// that sends so much without a request gets none on it.
const MOST_READS: usize = 64;

/// An open connection.
pub(crate) struct Connection {
    socket: TcpStream,
    tls: ClientConnection,
}

impl Connection {
    /// Connects and completes the TLS handshake.
    ///
    /// # Errors
    /// Fails before any byte of a request was sent.
    pub(crate) fn open(target: &Target, deadline: &Deadline) -> Result<Self, Trouble> {
        let socket = match &target.proxy {
            None => connect(&target.server.host, target.server.port.unwrap_or(HTTPS), deadline)?,
            Some(proxy) => through(proxy, &target.server.authority(HTTPS), deadline)?,
        };
        let config = Arc::clone(&target.tls.config);
        let mut tls = match ClientConnection::new(config, target.name.clone()) {
            Ok(tls) => tls,
            Err(error) => return Err(Trouble::lasting(format!("cannot begin TLS: {error}"))),
        };
        let mut wire = Wire { socket: &socket, deadline };
        match shake_hands(&mut tls, &mut wire) {
            Ok(()) => Ok(Self { socket, tls }),
            Err(error) => Err(target.explain("TLS with", &error, deadline)),
        }
    }

    /// Returns whether a kept connection can carry another request. Reads what has arrived since
    /// the last answer, without waiting, and so notices a closed connection.
    pub(crate) fn is_open(&mut self) -> bool {
        if self.socket.set_nonblocking(true).is_err() {
            return false;
        }
        let mut reads = 0;
        let quiet = loop {
            reads += 1;
            match self.tls.read_tls(&mut &self.socket) {
                Ok(0) => break false,
                Ok(_) => match self.tls.process_new_packets() {
                    Ok(state)
                        if reads < MOST_READS
                            && !state.peer_has_closed()
                            && state.plaintext_bytes_to_read() == 0 => {}
                    Ok(_) | Err(_) => break false,
                },
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
        };
        quiet && self.socket.set_nonblocking(false).is_ok()
    }

    /// Hands a whole request to the kernel.
    ///
    /// # Errors
    /// Fails if a part of the request was not handed over. The server cannot have the whole request
    /// then.
    pub(crate) fn send(&mut self, bytes: &[u8], deadline: &Deadline) -> io::Result<()> {
        let mut wire = Wire { socket: &self.socket, deadline };
        self.tls.set_buffer_limit(None);
        self.tls.writer().write_all(bytes)?;
        while self.tls.wants_write() {
            self.tls.write_tls(&mut wire)?;
        }
        Ok(())
    }

    /// Returns a reader of the answer that stops at the deadline.
    pub(crate) fn incoming<'a>(&'a mut self, deadline: &'a Deadline) -> impl Read + 'a {
        Incoming { connection: self, deadline }
    }
}

impl Target {
    /// Describes an I/O error on this connection in words.
    pub(crate) fn explain(&self, doing: &str, error: &io::Error, deadline: &Deadline) -> Trouble {
        let (reason, may_pass) =
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => tls::explain(error, &self.tls.authorities),
                None => (io_error_text(error, deadline), true),
            };
        Trouble { reason: format!("{doing} {} failed: {reason}", self.server), may_pass }
    }
}

/// Completes the TLS handshake. Does not send the last handshake message: it goes out together with
/// the request. With TLS 1.3 it contains the client's certificate.
fn shake_hands(tls: &mut ClientConnection, wire: &mut Wire<'_>) -> io::Result<()> {
    while tls.is_handshaking() {
        while tls.wants_write() {
            tls.write_tls(wire)?;
        }
        if tls.read_tls(wire)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Err(error) = tls.process_new_packets() {
            // Tell the server the reason. If this fails too, nothing more can be done.
            let _ = tls.write_tls(wire);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
    Ok(())
}

/// Returns whether the server refused the client certificate. It has not read the request then.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(alert)) if tls::is_about_certificate(*alert))
}

/// Describes an I/O error that does not come from TLS.
fn io_error_text(error: &io::Error, deadline: &Deadline) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            format!("no answer within {}", humantime::format_duration(rounded(deadline.limit())))
        }
        io::ErrorKind::UnexpectedEof => "the connection ended too early".to_owned(),
        _ => error_text(error),
    }
}

struct Incoming<'a> {
    connection: &'a mut Connection,
    deadline: &'a Deadline,
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Connection { socket, tls } = &mut *self.connection;
        let mut wire = Wire { socket, deadline: self.deadline };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                ended => return ended,
            }
            tls.read_tls(&mut wire)?;
            tls.process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            while tls.wants_write() {
                tls.write_tls(&mut wire)?;
            }
        }
    }
}

/// A socket on which no wait is longer than the deadline.
struct Wire<'a> {
    socket: &'a TcpStream,
    deadline: &'a Deadline,
}

impl Wire<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.left();
        // A timeout of zero would mean to wait forever.
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

fn in_time<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match attempt() {
        // A socket reports an expired timeout as `WouldBlock`.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::ErrorKind::TimedOut.into())
        }
        ended => ended,
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket.set_read_timeout(Some(self.left()?))?;
            match in_time(|| self.socket.read(buffer)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                ended => return ended,
            }
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    /// Sends all pending TLS records in one packet.
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            self.socket.set_write_timeout(Some(self.left()?))?;
            match in_time(|| self.socket.write_vectored(parts)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                ended => return ended,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connects to the first address of a host that answers. Each address gets a share of the time, so
/// that a silent address does not keep the next from being tried.
fn connect(host: &Host, port: u16, deadline: &Deadline) -> Result<TcpStream, Trouble> {
    let addresses: Vec<IpAddr> = resolver::addresses(host, deadline)?;
    let mut failed = Vec::new();
    for (at, address) in addresses.iter().enumerate() {
        let share = deadline.left() / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let place = SocketAddr::new(*address, port);
        if share.is_zero() {
            failed.push(format!("{place}: no time was left"));
            break;
        }
        match TcpStream::connect_timeout(&place, share) {
            // Nagle's algorithm would delay a request by 40 ms.
            Ok(socket) => match socket.set_nodelay(true) {
                Ok(()) => return Ok(socket),
                Err(error) => failed.push(format!("{place}: {}", error_text(&error))),
            },
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                failed.push(format!(
                    "{place}: no answer within {}",
                    humantime::format_duration(rounded(share))
                ));
            }
            Err(error) => failed.push(format!("{place}: {}", error_text(&error))),
        }
    }
    Err(Trouble::passing(format!("cannot connect to {}", failed.join("; "))))
}

fn rounded(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Opens a tunnel to the server through an HTTP proxy (CONNECT; RFC 9110, section 9.3.6).
fn through(proxy: &Url, authority: &str, deadline: &Deadline) -> Result<TcpStream, Trouble> {
    let socket = connect(&proxy.host, proxy.port.unwrap_or(HTTP), deadline).map_err(|trouble| {
        Trouble { reason: format!("proxy {proxy}: {}", trouble.reason), ..trouble }
    })?;
    let credentials = proxy.credentials.as_ref().map_or_else(String::new, |credentials| {
        let plain = percent_decoded(credentials);
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(plain))
    });
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{credentials}\r\n");
    let mut wire = Wire { socket: &socket, deadline };
    let status = match wire
        .write_all(request.as_bytes())
        .map_err(Unread::Failed)
        .and_then(|()| http::read_head(&mut wire))
    {
        Ok(status) => status,
        Err(Unread::Failed(error)) => {
            return Err(Trouble::passing(format!(
                "proxy {proxy}: {}",
                io_error_text(&error, deadline)
            )));
        }
        Err(Unread::Malformed(reason)) => {
            return Err(Trouble::lasting(format!("proxy {proxy}: {reason}")));
        }
    };
    match status {
        200..300 => Ok(socket),
        407 => Err(Trouble::lasting(format!("proxy {proxy}: it requires other credentials (407)"))),
        500.. => {
            Err(Trouble::passing(format!("proxy {proxy}: it cannot reach {authority} ({status})")))
        }
        _ => Err(Trouble::lasting(format!(
            "proxy {proxy}: it refuses a connection to {authority} ({status})"
        ))),
    }
}

/// Decodes percent-encoded bytes such as `%40` in the credentials of a URL (RFC 3986, section 2.1).
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits
            .filter(|_| *first == b'%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        {
            Some(byte) => {
                plain.push(byte);
                rest = &after[2..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}
