//! The names of objects and the values of labels.
//!
//! An object's name is `[<scope>.]<address>`, so that the API server itself lets an address be held
//! only once in its scope. Labels hold hashes, because most values that they stand for are longer
//! than a label may be or contain other characters.

use crate::digest::short;
use crate::ipam::{
    Attachment, ClaimAllocation, IfName, NetworkName, NodeName, ObjectRef, PodRef, Record, Scope,
};
use crate::store::attachment_hash::short_of_attachment;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The label of the node.
pub(crate) const NODE: &str = "hereabouts.dev/node";
/// The label of the network.
pub(crate) const NETWORK: &str = "hereabouts.dev/network";
/// The label of the scope.
pub(crate) const SCOPE: &str = "hereabouts.dev/scope";
/// The label of the pod.
pub(crate) const POD: &str = "hereabouts.dev/pod";
/// The label of the attachment.
pub(crate) const ATTACHMENT: &str = "hereabouts.dev/attachment";
/// The label of the address, in any scope.
pub(crate) const ADDRESS: &str = "hereabouts.dev/address";
/// The label of the claim: its UID.
pub(crate) const CLAIM: &str = "hereabouts.dev/claim";
/// The label of the pool that the claim names.
pub(crate) const POOL: &str = "hereabouts.dev/pool";

/// All labels that an object may have.
pub(crate) const LABELS: &[&str] = &[NODE, NETWORK, SCOPE, POD, ATTACHMENT, ADDRESS, CLAIM, POOL];

/// The longest DNS label (RFC 1123), and the part of a name that is kept before a hash.
const LONGEST_LABEL: usize = 63;
const KEPT: usize = 40;

/// Returns the name of the object of an address.
pub(crate) fn object(scope: &Scope, address: IpAddr) -> String {
    match scope.name() {
        None => text(address),
        Some(name) => format!("{}.{}", label(name), text(address)),
    }
}

/// Returns whether a name is that of an address in a scope, which an object names.
pub(crate) fn is_of(name: &str, scope: Option<&str>, address: IpAddr) -> bool {
    Scope::parse(scope.unwrap_or_default()).is_ok_and(|scope| object(&scope, address) == name)
}

/// Returns an address in the characters of a name. IPv6 addresses have all their groups, so that
/// names sort like addresses.
pub(crate) fn text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:04x}")).join("-"),
    }
}

/// Returns the address in an object's name.
pub(crate) fn parse(name: &str) -> Option<IpAddr> {
    let last = name.rsplit('.').next()?;
    if last.contains('-') {
        return last.replace('-', ":").parse().ok().map(IpAddr::V6);
    }
    let parts: Vec<&str> = name.split('.').collect();
    let four = parts.get(parts.len().checked_sub(4)?..)?;
    four.join(".").parse().ok().map(IpAddr::V4)
}

/// Returns the part of the scope in an object's name, which is empty for the unnamed scope, and the
/// address.
#[cfg(feature = "controller")]
pub(crate) fn split(name: &str) -> Option<(&str, IpAddr)> {
    let address = parse(name)?;
    let scope = name.strip_suffix(&text(address))?;
    match scope.strip_suffix('.') {
        Some(scope) => Some((scope, address)),
        None => scope.is_empty().then_some((scope, address)),
    }
}

/// Returns the name of an object from the part of its scope and its address.
#[cfg(feature = "controller")]
pub(crate) fn join(scope: &str, address: IpAddr) -> String {
    if scope.is_empty() { text(address) } else { format!("{scope}.{}", text(address)) }
}

/// Returns the part of a scope in the names of objects.
#[cfg(feature = "controller")]
pub(crate) fn of_scope_in_name(scope: &Scope) -> String {
    scope.name().map(label).unwrap_or_default()
}

/// Returns a scope's name if it is a DNS label. Otherwise returns the characters of it that a label
/// may contain, and a hash.
pub(crate) fn label(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.len() <= LONGEST_LABEL
        && name.bytes().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
    {
        return name.to_owned();
    }
    let lowered = name.to_ascii_lowercase();
    let kept: String = lowered
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte) } else { '-' })
        .take(KEPT)
        .collect();
    format!("{}-{}", kept.trim_matches('-'), short(&[name])).trim_start_matches('-').to_owned()
}

/// Returns the labels of a record.
pub(crate) fn labels(scope: &Scope, address: IpAddr, held: &Record) -> BTreeMap<String, String> {
    let attachment = &held.attachment;
    let mut labels = BTreeMap::from([
        (NODE.to_owned(), of_node(&attachment.node)),
        (NETWORK.to_owned(), of_network(&attachment.network)),
        (SCOPE.to_owned(), of_scope(scope)),
        (ATTACHMENT.to_owned(), of_attachment(attachment)),
        (ADDRESS.to_owned(), text(address)),
    ]);
    if let Some(pod) = &held.pod {
        labels.insert(POD.to_owned(), of_pod(&pod.namespace, &pod.name));
    }
    if let Some(uid) = scope.used_claim() {
        labels.insert(CLAIM.to_owned(), uid.to_owned());
    }
    labels
}

/// Returns the labels of an object that is held by a claim.
pub(crate) fn labels_of_claim(held: &ClaimAllocation) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (SCOPE.to_owned(), of_scope(&held.scope)),
        (ADDRESS.to_owned(), text(held.address)),
        (CLAIM.to_owned(), held.claim.uid.clone()),
    ]);
    if let Some(pool) = &held.pool {
        labels.insert(POOL.to_owned(), of_pool(pool));
    }
    labels
}

/// Returns the label value of a pool. It does not depend on the UID, so a pool that is deleted and
/// created again finds the addresses of the earlier one.
pub(crate) fn of_pool(pool: &ObjectRef) -> String {
    short(&[&pool.api_group, &pool.kind, pool.namespace.as_deref().unwrap_or_default(), &pool.name])
}

/// Returns whether a text can be the value of a label. A UID has to be one.
pub(crate) fn is_label_value(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= LONGEST_LABEL
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Returns the label value of a node.
pub(crate) fn of_node(node: &NodeName) -> String {
    short(&[node.as_str()])
}

/// Returns the label value of a network.
pub(crate) fn of_network(network: &NetworkName) -> String {
    short(&[network.as_str()])
}

/// Returns the label value of a scope.
pub(crate) fn of_scope(scope: &Scope) -> String {
    scope.name().map_or_else(|| "unnamed".to_owned(), |name| short(&[name]))
}

/// Returns the label value of a pod.
pub(crate) fn of_pod(namespace: &str, name: &str) -> String {
    short(&[namespace, name])
}

/// Returns the label value of an attachment, which is also its directory in the node state.
pub(crate) fn of_attachment(attachment: &Attachment) -> String {
    short_of_attachment(attachment)
}

/// Returns the key of a pod's interface in a network of this node, in the node state.
pub(crate) fn of_pod_interface(network: &NetworkName, pod: &PodRef, ifname: &IfName) -> String {
    short(&[network.as_str(), &pod.namespace, &pod.name, ifname.as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_names_and_tell_scopes_apart() {
        let name = |scope: &str, address: &str| {
            object(&Scope::parse(scope).unwrap(), address.parse().unwrap())
        };
        assert_eq!(name("", "10.0.0.5"), "10.0.0.5");
        assert_eq!(name("", "2001:db8::1"), "2001-0db8-0000-0000-0000-0000-0000-0001");
        assert_eq!(name("blue", "10.0.0.5"), "blue.10.0.0.5");
        for name in ["10.0.0.5", "blue.10.0.0.5", "10.10.0.0.5"] {
            assert_eq!(parse(name), Some("10.0.0.5".parse().unwrap()), "{name}");
        }
        assert_eq!(parse(&name("a-b", "2001:db8::1")), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(["", "blue", "1.2.3", "a.b.c.d.e", "a-b"].map(parse), [None; 5]);
        assert_eq!(name(&"a".repeat(63), "10.0.0.5").find('.'), Some(63));
        let odd = ["Blue", "bl_ue", "a/b", "..", "-a", "a-", "\u{e9}", &"b".repeat(200)];
        let names: Vec<String> = odd.iter().map(|scope| name(scope, "10.0.0.5")).collect();
        for name in &names {
            let label = name.strip_suffix(".10.0.0.5").unwrap();
            assert!(
                label.len() <= 63
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
            assert!(
                !label.starts_with('-') && !label.ends_with('-') && !label.is_empty(),
                "{name}"
            );
        }
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), odd.len());
    }

    #[test]
    fn parts_do_not_run_into_one_another() {
        assert_ne!(short(&["ab", "c"]), short(&["a", "bc"]));
    }
}
