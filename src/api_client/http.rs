//! HTTP/1.1 for an API client (RFC 9112): writes one request and reads one answer of bounded size.
//!
//! It knows nothing of sockets, time or the meaning of the content. It follows no redirect and does
//! not retry.

use httparse::Status;
use std::io::{self, Read};
use std::time::Duration;

/// The maximum size of an answer's head, in bytes. An API server sends no larger one.
const LARGEST_HEAD: usize = 64 * 1024;
/// The maximum size of an answer's body, in bytes. Lists are read in pages, so no request needs a
/// larger one.
const LARGEST_BODY: u64 = 16 * 1024 * 1024;
const MOST_HEADERS: usize = 128;
/// The longest `Retry-After`, in seconds. A larger number is a mistake of the server.
const LONGEST_WAIT: u64 = 3600;
/// The maximum size of the line before a chunk, in bytes. It contains the chunk's length.
const LONGEST_CHUNK_LINE: usize = 4096;

/// One request. It is sent once.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The HTTP method.
    pub method: Method,
    /// The path with the query.
    pub path: &'a str,
    /// The value of `Accept:`.
    pub accept: &'a str,
    /// The value of `Content-Type:`, and the body.
    pub content: Option<(&'a str, &'a [u8])>,
}

/// The HTTP methods that the store uses with the Kubernetes API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Get or list.
    Get,
    /// Create.
    Post,
    /// Change.
    Patch,
    /// Delete.
    Delete,
}

/// The answer of a server, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Retry-After:`, if it is in seconds.
    pub retry_after: Option<Duration>,
    /// The body, at most 16 MiB.
    pub body: Vec<u8>,
}

/// The reasons why no complete answer was read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The connection failed or ended.
    Failed(io::Error),
    /// The answer is not HTTP/1.1, or is too large.
    Malformed(String),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// The destination of a request, and its sender.
pub(crate) struct Sender<'a> {
    /// The value of `Host:`.
    pub(crate) authority: &'a str,
    /// The prefix of each path.
    pub(crate) base: &'a str,
    /// The bearer token.
    pub(crate) token: Option<&'a str>,
}

/// Returns the bytes of a request.
///
/// # Errors
/// Fails if the path or the token contains a character that would end its line.
pub(crate) fn encode(sender: &Sender<'_>, request: &Request<'_>) -> Result<Vec<u8>, &'static str> {
    if !request.path.starts_with('/') || !is_word(request.path) {
        return Err("expected a path of visible ASCII characters, found others");
    }
    if !sender.token.is_none_or(|token| !token.is_empty() && is_word(token)) {
        return Err("expected a token of visible ASCII characters, found none or others");
    }
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    };
    let agent = concat!("hereabouts/", env!("CARGO_PKG_VERSION"));
    let mut head = format!(
        "{method} {}{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {agent}\r\nAccept: {}\r\n",
        sender.base, request.path, sender.authority, request.accept
    );
    if let Some(token) = sender.token {
        head.push_str("Authorization: Bearer ");
        head.push_str(token);
        head.push_str("\r\n");
    }
    if let Some((kind, body)) = request.content {
        head.push_str(&format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(request.content.map_or(&[], |(_, body)| body));
    Ok(bytes)
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

/// Reads one answer. Also returns whether the connection can carry another request.
///
/// # Errors
/// See [`Unread`].
pub(crate) fn read_answer(source: &mut dyn Read) -> Result<(Answer, bool), Unread> {
    let mut incoming = Incoming { source, buffer: Vec::with_capacity(8 * 1024) };
    let head = loop {
        let head = incoming.head()?;
        match head.status {
            101 => {
                return Err(malformed("the server switches to a protocol that was not asked for"));
            }
            100..200 => {}
            _ => break head,
        }
    };
    let body = match head.length {
        _ if matches!(head.status, 204 | 304) => Vec::new(),
        Length::Known(length) => incoming.exactly(length)?,
        Length::Chunked => incoming.chunks()?,
        Length::UntilClosed => incoming.until_closed()?,
    };
    let reusable =
        head.keep && !matches!(head.length, Length::UntilClosed) && incoming.buffer.is_empty();
    Ok((Answer { status: head.status, retry_after: head.retry_after, body }, reusable))
}

/// Reads only the head of an answer and returns its status. A proxy answers CONNECT with a head
/// alone.
///
/// # Errors
/// See [`Unread`].
pub(crate) fn read_head(source: &mut dyn Read) -> Result<u16, Unread> {
    Incoming { source, buffer: Vec::new() }.head().map(|head| head.status)
}

struct Head {
    status: u16,
    length: Length,
    keep: bool,
    retry_after: Option<Duration>,
}

enum Length {
    Known(u64),
    Chunked,
    UntilClosed,
}

/// The reader of an answer. `buffer` contains the bytes that were received and not yet used.
struct Incoming<'a> {
    source: &'a mut dyn Read,
    buffer: Vec<u8>,
}

impl Incoming<'_> {
    fn fill(&mut self) -> Result<(), Unread> {
        let filled = self.buffer.len();
        self.buffer.resize(filled + 8 * 1024, 0);
        let read = self.source.read(&mut self.buffer[filled..]);
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(ended()),
            _ => Ok(()),
        }
    }

    fn head(&mut self) -> Result<Head, Unread> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = response.parse(&self.buffer);
            match parsed {
                Ok(Status::Complete(length)) => {
                    let head = Head::new(&response)?;
                    self.buffer.drain(..length);
                    return Ok(head);
                }
                Ok(Status::Partial) if self.buffer.len() <= LARGEST_HEAD => self.fill()?,
                Ok(Status::Partial) => {
                    return Err(malformed("the head of the answer is larger than 64 KiB"));
                }
                Err(error) => {
                    return Err(malformed(format!("the answer is not HTTP/1.1: {error}")));
                }
            }
        }
    }

    fn exactly(&mut self, length: u64) -> Result<Vec<u8>, Unread> {
        let mut body = Vec::new();
        self.append(length, &mut body)?;
        Ok(body)
    }

    /// Moves the next `length` bytes to the body.
    fn append(&mut self, length: u64, body: &mut Vec<u8>) -> Result<(), Unread> {
        if LARGEST_BODY < length.saturating_add(body.len() as u64) {
            return Err(too_large());
        }
        let buffered = usize::try_from(length).unwrap_or(usize::MAX).min(self.buffer.len());
        body.extend(self.buffer.drain(..buffered));
        let missing = length - buffered as u64;
        if 0 < missing {
            let read = (&mut *self.source).take(missing).read_to_end(body)? as u64;
            if read < missing {
                return Err(ended());
            }
        }
        Ok(())
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Unread> {
        let mut body = Vec::new();
        loop {
            let length = self.chunk_length()?;
            if length == 0 {
                self.trailers()?;
                return Ok(body);
            }
            self.append(length, &mut body)?;
            while self.buffer.len() < 2 {
                self.fill()?;
            }
            if self.buffer.drain(..2).as_slice() != b"\r\n" {
                return Err(malformed("a chunk of the answer is longer than it says"));
            }
        }
    }

    fn chunk_length(&mut self) -> Result<u64, Unread> {
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(Status::Complete((used, length))) => {
                    self.buffer.drain(..used);
                    return Ok(length);
                }
                Ok(Status::Partial) if self.buffer.len() <= LONGEST_CHUNK_LINE => self.fill()?,
                Ok(Status::Partial) | Err(_) => {
                    return Err(malformed("the answer has a chunk without a valid length"));
                }
            }
        }
    }

    fn trailers(&mut self) -> Result<(), Unread> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
            match httparse::parse_headers(&self.buffer, &mut headers) {
                Ok(Status::Complete((used, _))) => {
                    self.buffer.drain(..used);
                    return Ok(());
                }
                Ok(Status::Partial) if self.buffer.len() <= LARGEST_HEAD => self.fill()?,
                Ok(Status::Partial) | Err(_) => {
                    return Err(malformed("the answer continues after its last chunk"));
                }
            }
        }
    }

    fn until_closed(&mut self) -> Result<Vec<u8>, Unread> {
        let mut body = std::mem::take(&mut self.buffer);
        let room = LARGEST_BODY + 1 - (body.len() as u64).min(LARGEST_BODY);
        (&mut *self.source).take(room).read_to_end(&mut body)?;
        if LARGEST_BODY < body.len() as u64 {
            return Err(too_large());
        }
        Ok(body)
    }
}

impl Head {
    fn new(response: &httparse::Response<'_, '_>) -> Result<Self, Unread> {
        let values = |name: &'static str| {
            let named = response
                .headers
                .iter()
                .filter(move |header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| String::from_utf8_lossy(header.value).trim().to_ascii_lowercase())
        };
        let chunked: Vec<String> = values("transfer-encoding").collect();
        let mut lengths: Vec<String> = values("content-length").collect();
        lengths.dedup();
        let length = match (chunked.as_slice(), lengths.as_slice()) {
            ([coding], _) if coding == "chunked" => Length::Chunked,
            ([], [digits]) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Length::Known(digits.parse().unwrap_or(u64::MAX))
            }
            ([], []) => Length::UntilClosed,
            _ => return Err(malformed("the answer does not say clearly how long it is")),
        };
        let says = |word: &str| {
            values("connection").any(|value| value.split(',').any(|part| part.trim() == word))
        };
        let newest = response.version == Some(1);
        // An answer with both headers is a sign of request smuggling (RFC 9112, section 6.3).
        let clear = chunked.is_empty() || lengths.is_empty();
        Ok(Self {
            status: response.code.unwrap_or(0),
            length,
            keep: newest && clear && !says("close"),
            retry_after: values("retry-after").next().and_then(|text| retry_after(&text)),
        })
    }
}

/// Parses a number of seconds. Ignores a date, which no API server sends.
fn retry_after(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)))
}

fn malformed(reason: impl Into<String>) -> Unread {
    Unread::Malformed(reason.into())
}

fn too_large() -> Unread {
    malformed("the answer is larger than 16 MiB")
}

fn ended() -> Unread {
    Unread::Failed(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the connection ended before the whole answer came",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reader that returns its bytes in pieces of this length.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len()).min(self.0.len());
            let (now, later) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    /// Parts of valid and invalid answers.
    const WORDS: &[&str] = &[
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 C\r\n",
        "HTTP/1.0 404 N\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Retry-After: 99999999999999999999\r\n",
        "Retry-After: 18446744073709551615\r\n",
        "\r\n",
        "3\r\n",
        "abc",
        "ffffffffffffffff\r\n",
        "0\r\n\r\n",
        "\0",
        "\u{fffd}",
    ];

    #[test]
    fn no_wait_is_longer_than_an_hour() {
        let read = |text: &str| retry_after(text).map(|wait| wait.as_secs());
        assert_eq!(["0", "32", "3600"].map(read), [0, 32, 3600].map(Some));
        assert_eq!(
            ["3601", "18446744073709551615", "99999999999999999999"].map(read),
            [Some(3600); 3]
        );
        assert_eq!(["", "-1", "+1", "1.5", "Fri, 27 Nov 2026 08:00:00 GMT"].map(read), [None; 5]);
    }

    proptest! {
        #[test]
        fn the_same_is_read_however_the_answer_is_cut(words in prop::collection::vec(prop::sample::select(WORDS), 0..12), piece in 1usize..9) {
            let text = words.concat();
            let read = |piece| match read_answer(&mut Pieces(text.as_bytes(), piece)) {
                Ok((answer, _)) => Ok((answer.status, answer.body)),
                Err(Unread::Failed(error)) => Err(error.to_string()),
                Err(Unread::Malformed(reason)) => Err(reason),
            };
            let (whole, cut) = (read(usize::MAX), read(piece));
            // If the connection ends in the middle, the rest of the answer is not seen. Then both
            // reads must fail, but the reasons may differ.
            prop_assert!(whole == cut || whole.is_err() && cut.is_err(), "{:?} {:?}", whole, cut);
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_answer(&mut Pieces(&bytes, 7));
            let _ = read_answer(&mut Pieces(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &*bytes].concat(), 7));
        }
    }
}
