//! Parses the arguments that select records on the command line: a node, a network, a pod, an
//! address; and times.

use super::UsageError;
use crate::ipam::{NetworkName, NodeName};
use crate::store::{ClaimName, PodName};
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn parse_node(text: &str) -> anyhow::Result<NodeName> {
    NodeName::parse(text).map_err(|_| {
        UsageError::new(format!("--node: expected a node name, found {text:?}")).into()
    })
}

pub(super) fn parse_network(text: &str) -> anyhow::Result<NetworkName> {
    NetworkName::parse(text).map_err(|_| {
        UsageError::new(format!("--network: expected a network name, found {text:?}")).into()
    })
}

/// Parses a pod: with its namespace, or any pod of that name.
pub(super) fn parse_pod(text: &str) -> anyhow::Result<PodName> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
            Ok(PodName { namespace: Some(namespace.to_owned()), name: name.to_owned() })
        }
        [name] if !name.is_empty() => Ok(PodName { namespace: None, name: name.to_owned() }),
        _ => {
            Err(UsageError::new(format!("--pod: expected NAMESPACE/NAME or NAME, found {text:?}"))
                .into())
        }
    }
}

/// Parses a claim, with its namespace.
pub(super) fn parse_claim(text: &str) -> anyhow::Result<ClaimName> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(ClaimName { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => {
            Err(UsageError::new(format!("--claim: expected NAMESPACE/NAME, found {text:?}")).into())
        }
    }
}

/// Parses an address without a prefix length, although `list` shows it with one.
pub(super) fn parse_address(text: &str) -> Result<IpAddr, String> {
    if text.contains('/') {
        return Err("expected an address without a prefix length".to_owned());
    }
    crate::addr::parse_address(text).map_err(|error| error.to_string())
}

/// Parses a label of a node.
pub(super) fn parse_label(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE"),
    }
}

/// Parses a time. The parser's own errors name units that are not needed here.
pub(super) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    crate::config::parse_duration(text).map_err(|error| match error {
        humantime::DurationError::NumberOverflow => "expected a shorter time",
        _ => "expected a number with its unit, such as 500ms, 30s or 1h",
    })
}
