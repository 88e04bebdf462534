//! HTTP/1.1 for the proxy of the tests: whole requests with a known length and whole answers, both
//! as bytes. It knows nothing about faults.

use std::io::{self, Read, Write};

/// One request, as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// The path with the query.
    pub(crate) path: String,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// Returns the next request of a connection; `None` at its end.
    pub(super) fn read(source: &mut impl Read) -> Option<Self> {
        let (head, mut body) = read_head(source)?;
        let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        read_more(source, &mut body, length)?;
        let mut words = head.split_ascii_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self { method, path, head, body })
    }

    /// Returns the bytes for the server, which should close the connection after its answer.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.replacen("\r\n", "\r\nConnection: close\r\n", 1).into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// An answer: the server's own, or another one in its place.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    bytes: Vec<u8>,
}

impl Reply {
    fn new(status: u16, headers: &str, content: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Said by the test\r\nContent-Type: {content}\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        Self { status, bytes: (head + body).into_bytes() }
    }

    /// Returns the API server's answer for a failure, about no object in particular.
    pub(crate) fn status(status: u16) -> Self {
        Self::with_headers(status, "")
    }

    /// Returns the API server's answer to a creation whose name is taken.
    pub(crate) fn taken() -> Self {
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "already exists", "reason": "AlreadyExists", "code": 409,
        });
        Self::new(409, "", "application/json", &body.to_string())
    }

    /// Returns a failure with a time to wait.
    pub(crate) fn retry_after(status: u16, seconds: u64) -> Self {
        Self::with_headers(status, &format!("Retry-After: {seconds}\r\n"))
    }

    fn with_headers(status: u16, headers: &str) -> Self {
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "said by the test", "reason": "Test", "code": status,
        });
        Self::new(status, headers, "application/json", &body.to_string())
    }

    /// Returns the answer of a proxy with its own page.
    pub(crate) fn garbage(status: u16) -> Self {
        Self::new(status, "", "text/html", "<html><body>Welcome to the guest network</body></html>")
    }

    /// Reads the server's answer, without its header about closing the connection.
    pub(super) fn read(source: &mut impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match source.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let end = end_of_head(&bytes).ok_or_else(invalid)?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head
            .split_ascii_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .ok_or_else(invalid)?;
        let kept: Vec<&str> = head
            .split("\r\n")
            .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
            .collect();
        let body = bytes.split_off(end);
        Ok(Self { status, bytes: [kept.join("\r\n").into_bytes(), body].concat() })
    }

    pub(super) fn write(&self, sink: &mut impl Write) -> io::Result<()> {
        sink.write_all(&self.bytes)?;
        sink.flush()
    }

    pub(super) fn write_half(&self, sink: &mut impl Write) -> io::Result<()> {
        sink.write_all(&self.bytes[..self.bytes.len() / 2])?;
        sink.flush()
    }
}

/// Reads a head. Returns it with the part of the body that came with it.
fn read_head(source: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = end_of_head(&bytes) {
            let body = bytes.split_off(end);
            return Some((String::from_utf8(bytes).ok()?, body));
        }
        let length = bytes.len();
        read_more(source, &mut bytes, length + 1)?;
    }
}

/// Reads until there are at least this many bytes.
fn read_more(source: &mut impl Read, bytes: &mut Vec<u8>, length: usize) -> Option<()> {
    let mut buffer = [0; 16 * 1024];
    while bytes.len() < length {
        match source.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
    Some(())
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.trim().to_owned())
}
