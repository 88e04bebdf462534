//! Paths and queries of requests: the names in them, and the links to pages.

use crate::controller::pool::{PoolId, PoolKind};
use std::fmt::Write;

/// Returns a value of a query, decoded; `None` if the query does not have the key.
pub(super) fn value(query: &str, key: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, text) = pairs.into_iter().find(|(name, _)| *name == key)?;
    Some(decoded(&text.replace('+', " ")))
}

/// Returns the number of a page of a list, from 1.
pub(super) fn page_number(query: &str) -> usize {
    let number = value(query, "page").and_then(|text| text.parse().ok());
    number.filter(|number| 0 < *number).unwrap_or(1)
}

/// Returns a text in which `%XX` stands for a byte. What is not UTF-8 is replaced.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'%', [high, low, ..]) => {
                digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        rest = if byte.is_some() { &after[2..] } else { after };
        bytes.push(byte.unwrap_or(first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}

/// Returns a text for a part of a path, or for a value of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            encoded.push(char::from(byte));
        } else {
            // A String does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Returns the way from `/` to the page of a pool.
pub(super) fn path_of_pool(id: &PoolId) -> String {
    let (kind, name) = (id.kind.name(), encoded(&id.name));
    match id.namespace.is_empty() {
        true => format!("pool/{kind}/{name}"),
        false => format!("pool/{kind}/{}/{name}", encoded(&id.namespace)),
    }
}

/// Returns the pool of a path after `/pool/`.
pub(super) fn pool_of_path(path: &str) -> Option<PoolId> {
    let (kind, rest) = path.split_once('/')?;
    let kind = PoolKind::ALL.into_iter().find(|known| known.name() == kind)?;
    let (namespace, name) = match kind {
        PoolKind::InCluster => rest.split_once('/')?,
        PoolKind::GlobalInCluster | PoolKind::Own => ("", rest),
    };
    let is_whole = !name.is_empty() && !name.contains('/');
    is_whole.then(|| PoolId { kind, namespace: decoded(namespace), name: decoded(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_a_pool_leads_back_to_it() {
        for (kind, namespace, name) in [
            (PoolKind::Own, "", "a.b-c"),
            (PoolKind::GlobalInCluster, "", "x"),
            (PoolKind::InCluster, "machines", "a/b?c#d%41 \u{e4}"),
        ] {
            let id = PoolId { kind, namespace: namespace.to_owned(), name: name.to_owned() };
            let path = path_of_pool(&id);
            assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
            assert_eq!(pool_of_path(path.strip_prefix("pool/").unwrap()), Some(id));
        }
        for path in ["", "IPPool", "IPPool/", "IPPool/a/b", "InClusterIPPool/a", "Secret/a"] {
            assert_eq!(pool_of_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_query_is_decoded_and_may_be_anything() {
        let query = "q=web%2D0+x%&by=node&page=3&empty";
        assert_eq!(value(query, "q").unwrap(), "web-0 x%");
        assert_eq!(value(query, "empty").unwrap(), "");
        assert_eq!(value(query, "b"), None);
        assert_eq!(page_number(query), 3);
        for query in ["", "page=0", "page=-1", "page=99999999999999999999999", "page"] {
            assert_eq!(page_number(query), 1);
        }
        assert_eq!(decoded("%ff%"), "\u{fffd}%");
    }
}
