//! Questions to the kernel over rtnetlink (RFC 3549, rtnetlink(7)), each with one answer.
//!
//! The kernel serves such a question before the write returns, so the answer is there when it is
//! read. Nothing waits here.

use super::socket;
use nix::libc;
use std::fs::File;
use std::io::{self, Read, Write};

/// The size of a message header (`nlmsghdr`).
const HEADER: usize = 16;

/// The answer to a question.
pub(super) enum Answer {
    /// A message of the expected type: the part after the header.
    Found(Vec<u8>),
    /// The kernel has no such thing, and says so with an error number.
    Error(i32),
}

/// A socket to the kernel, for one question after the other.
pub(super) struct Kernel {
    socket: File,
    /// The number of the last question.
    number: u32,
}

impl Kernel {
    /// Opens the socket.
    ///
    /// # Errors
    /// The kernel offers no rtnetlink.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
        Ok(Self { socket, number: 0 })
    }

    /// Asks one question: a fixed part, then attributes. `answered_with` is the type of the answer,
    /// of which the first `room` bytes are read. Fresh memory costs more than the question.
    ///
    /// # Errors
    /// The kernel answers something else.
    pub(super) fn ask(
        &mut self,
        question: u16,
        answered_with: u16,
        fixed: &[u8],
        attributes: &[(u16, &[u8])],
        room: usize,
    ) -> io::Result<Answer> {
        let mut body = fixed.to_vec();
        for (kind, value) in attributes {
            let length = u16::try_from(4 + value.len()).map_err(|_| malformed())?;
            body.extend(length.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let length = u32::try_from(HEADER + body.len()).map_err(|_| malformed())?;
        let flags: u16 = 1; // NLM_F_REQUEST
        self.number = self.number.wrapping_add(1);
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(question.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.number.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);

        self.socket.write_all(&message)?;
        let mut answer = vec![0; room];
        let read = self.socket.read(&mut answer)?;
        answer.truncate(read);
        read_answer(&answer, self.number, answered_with)
    }
}

fn read_answer(answer: &[u8], question: u32, answered_with: u16) -> io::Result<Answer> {
    const ERROR: u16 = 2; // NLMSG_ERROR
    let (kind, number) = (u16_at(answer, 4), u32_at(answer, 8));
    let body = answer.get(HEADER..).filter(|_| number == Some(question)).ok_or_else(malformed)?;
    match kind {
        Some(ERROR) => {
            let code = u32_at(body, 0).ok_or_else(malformed)?.cast_signed();
            Ok(Answer::Error(code.wrapping_neg()))
        }
        Some(kind) if kind == answered_with => Ok(Answer::Found(body.to_vec())),
        _ => Err(malformed()),
    }
}

/// Returns an attribute of an answer, which has a fixed part of `fixed` bytes.
pub(super) fn attribute(body: &[u8], fixed: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(fixed..)?;
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        // The two highest bits are flags.
        let kind = u16_at(rest, 2)? & 0x3fff;
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is not the expected one")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No byte of an answer leads to a panic or to an endless loop.
    #[test]
    fn any_bytes_are_an_answer_or_an_error() {
        let mut answer = vec![0; HEADER];
        answer[4..6].copy_from_slice(&24u16.to_ne_bytes());
        answer[8..12].copy_from_slice(&1u32.to_ne_bytes());
        answer.extend([0; 12]);
        answer.extend([8, 0, 4, 0, 7, 0, 0, 0]);
        let Ok(Answer::Found(body)) = read_answer(&answer, 1, 24) else { panic!("{answer:?}") };
        assert_eq!(attribute(&body, 12, 4), Some(&[7, 0, 0, 0][..]));
        assert_eq!(attribute(&body, 12, 5), None);
        for at in 0..answer.len() {
            for byte in [0, 1, 3, 4, 255] {
                let mut changed = answer.clone();
                changed[at] = byte;
                changed.truncate(answer.len() - at % 9);
                if let Ok(Answer::Found(body)) = read_answer(&changed, 1, 24) {
                    attribute(&body, 12, 5);
                }
            }
        }
        assert!(read_answer(&answer, 1, 25).is_err());
        assert!(read_answer(&answer, 2, 24).is_err(), "the answer to an earlier question");
        assert!(read_answer(&[], 1, 24).is_err());
    }
}
