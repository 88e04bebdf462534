//! Percent encoding: ids as file names, and paths of the system as text.

use crate::digest::hex;
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The maximum length of an escaped id. It leaves room for an interface name and a number in 255
/// bytes.
const LONGEST: usize = 180;

/// Returns an id as one file name.
pub(crate) fn escape(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    for (at, byte) in id.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'-' | b':')
            || (byte == b'.' && 0 < at);
        if plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if LONGEST < name.len() {
        let digest = hex(&Sha256::digest(id.as_bytes())[..16]);
        // Escaped text is ASCII: any byte is a character boundary.
        name.truncate(100);
        name = format!("{name}~{digest}");
    }
    name
}

/// Returns the id of a name; `None` if the name was cut or is not a valid name.
pub(crate) fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('%');
    let mut id = parts.next().filter(|_| !name.contains('~'))?.as_bytes().to_vec();
    for part in parts {
        id.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        id.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(id).ok()
}

/// Returns a path as text. A path need not be valid text: `%` and bytes that are not valid become
/// `%XX`.
pub(crate) fn encode_path(path: &OsStr) -> String {
    let mut text = String::new();
    for chunk in path.as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Returns the path that [`encode_path`] wrote.
pub(crate) fn decode_path(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_escapes_its_folder_or_meets_bookkeeping() {
        for id in ["lock", "a..b", "..", ".", "...", "@", "@tmp", "a/b", "\u{1}", "~", "%41"] {
            let name = escape(id);
            assert!(!name.contains(['/', '@', '~']) && !name.starts_with('.'), "{id} {name}");
        }
        assert_ne!(escape("%41"), escape("A"));
        for id in ["lock", ".a", "a@b", "%41", "\u{e9}/x", "100%"] {
            assert_eq!(unescape(&escape(id)).as_deref(), Some(id));
        }
        for name in ["%4", "%", "%zz", "a~0123", "%E9"] {
            assert_eq!(unescape(name), None, "{name}");
        }
    }

    #[test]
    fn long_ids_stay_apart_and_fit_a_file_name() {
        let (one, other) = (escape(&"a".repeat(300)), escape(&"a".repeat(301)));
        assert_ne!(one, other);
        assert!(one.len() < 200);
        assert!(escape(&"\u{1}".repeat(70)).len() < 200);
    }
}
