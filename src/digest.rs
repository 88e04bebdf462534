//! Hashes that stand for a text in a file name, a label or an offset, where the text itself does
//! not fit.

use sha2::{Digest, Sha256};

/// Returns the SHA-256 of several texts. The length of each text is hashed too, so that the
/// boundaries count.
pub(crate) fn of_parts(parts: &[&str]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// Returns 16 hexadecimal digits of the hash of several texts, see [`of_parts`].
pub(crate) fn short(parts: &[&str]) -> String {
    hex(&of_parts(parts)[..8])
}

/// Returns whether a text has the form of a result of [`short`].
pub(crate) fn is_short(text: &str) -> bool {
    text.len() == 16
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Returns bytes as hexadecimal digits, two for each byte. Does not use `format!`, which took a
/// seventh of the time of an ADD here.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_parts() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa0, 0xff]), "000fa0ff");
        assert_ne!(short(&["ab", "c"]), short(&["a", "bc"]));
        assert_eq!(short(&["store", "/var/lib/cni/hereabouts", ""]).len(), 16);
    }
}
