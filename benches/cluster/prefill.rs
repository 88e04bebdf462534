//! Creates the entries that exist before a case.
//!
//! They are written as the plugins write them, by the administrator over kept connections, for
//! another node. They have the lowest addresses of the range, so that every ADD has to get past
//! them.

use crate::plugin::{container, pod};
use crate::server::{OUR_OBJECTS, Server, THEIR_POOLS, THEIR_RESERVATIONS};
use anyhow::{Result, anyhow};
use hereabouts::ipam::{
    Attachment, ContainerId, IdError, IfName, Netns, NetworkName, NodeName, Part, PodRef, Record,
    Scope, Source,
};
use hereabouts::store::kube::objects::ip_allocation::IpAllocation;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

/// The number of the first container of these entries.
const CONTAINERS: usize = 0x1000_0000;
const BASE: u32 = 0x0a00_0000;
const POOL: &str = "10.0.0.0-8";

/// Creates these entries of hereabouts in 10.0.0.0/8. The number of an entry is its distance to the
/// first address. Returns the time that it took.
///
/// # Errors
/// Fails if the server does not accept an object.
pub(crate) fn ours(server: &Server, network: &str, entries: Range<usize>) -> Result<Duration> {
    let object = |index: usize| -> Result<Value> {
        let record = record(network, index)?;
        let address = Ipv4Addr::from(BASE + 1 + u32::try_from(index)?);
        Ok(serde_json::to_value(IpAllocation::new(
            &Scope::default(),
            address.into(),
            &record,
            Some("0123456789abcdef"),
        ))?)
    };
    server.create_all(OUR_OBJECTS, entries, &object)
}

/// Returns a record as a real ADD writes it, with a pod and a network namespace.
fn record(network: &str, index: usize) -> Result<Record> {
    let container = container(CONTAINERS + index);
    let namespace = format!("/var/run/netns/cni-0a1b2c3d-4e5f-6071-8293-{index:012x}");
    Ok(Record {
        attachment: Attachment {
            node: id(NodeName::parse("another-node"))?,
            network: id(NetworkName::parse(network))?,
            container: id(ContainerId::parse(&container))?,
            ifname: id(IfName::parse("net1"))?,
        },
        pod: Some(PodRef {
            namespace: "bench".to_owned(),
            name: pod(&container),
            uid: Some(format!("0a1b2c3d-4e5f-6071-8293-{index:012x}")),
        }),
        netns: Some(Netns {
            path: namespace.into(),
            inode: 4_026_532_000 + index as u64,
            directory_device: 25,
        }),
        view: None,
        boot_id: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".to_owned(),
        since: SystemTime::now(),
        source: Source::Dynamic,
        part: Part { index: 0, of: 1 },
        prefix: 8,
        gateway: None,
    })
}

fn id<T>(parsed: std::result::Result<T, IdError>) -> Result<T> {
    parsed.map_err(|error| anyhow!("not an id: {error:?}"))
}

/// Fills the pool of Whereabouts for 10.0.0.0/8 up to this number of entries, and creates a
/// reservation for each new entry.
///
/// # Errors
/// Fails if the server does not accept an object.
pub(crate) fn theirs(server: &Server, entries: Range<usize>) -> Result<()> {
    let admin = server.admin()?;
    let allocation = |index: usize| {
        let container = container(CONTAINERS + index);
        let held = serde_json::json!({ "id": container, "podref": format!("bench/{}", pod(&container)), "ifname": "net1" });
        ((index + 1).to_string(), held)
    };
    let allocations: BTreeMap<String, Value> = (0..entries.end).map(allocation).collect();
    admin.delete(&format!("{THEIR_POOLS}/{POOL}"))?;
    let pool = serde_json::json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
        "kind": "IPPool",
        "metadata": { "name": POOL },
        "spec": { "range": "10.0.0.0/8", "allocations": allocations },
    });
    admin.create(THEIR_POOLS, &pool)?;
    let reservation = |index: usize| -> Result<Value> {
        let address = Ipv4Addr::from(BASE + 1 + u32::try_from(index)?);
        Ok(serde_json::json!({
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": "OverlappingRangeIPReservation",
            "metadata": { "name": address },
            "spec": { "podref": format!("bench/{}", pod(&container(CONTAINERS + index))), "ifname": "net1" },
        }))
    };
    server.create_all(THEIR_RESERVATIONS, entries, &reservation).map(|_| ())
}

/// Removes every pool and reservation of Whereabouts.
///
/// # Errors
/// Fails if the server does not remove them.
pub(crate) fn forget_theirs(server: &Server) -> Result<()> {
    let admin = server.admin()?;
    admin.delete(THEIR_POOLS)?;
    admin.delete(THEIR_RESERVATIONS)
}

/// Returns the time of `count` LISTs by a label that no object has. The first ADD of a node after a
/// boot sends this request for its own objects.
///
/// # Errors
/// Fails if the server does not answer.
pub(crate) fn lists_of_nothing(server: &Server, count: usize) -> Result<Duration> {
    let admin = server.admin()?;
    let start = Instant::now();
    for _ in 0..count {
        admin.text(&format!(
            "{OUR_OBJECTS}?limit=500&labelSelector=hereabouts.dev%2Fnode%3Dffffffffffffffff"
        ))?;
    }
    Ok(start.elapsed())
}

/// Returns the time of one LIST of all names, page by page. An ADD sends these requests if it found
/// its addresses taken.
///
/// # Errors
/// Fails if the server does not answer.
pub(crate) fn list_of_names(server: &Server) -> Result<Duration> {
    let admin = server.admin()?;
    let start = Instant::now();
    let mut token = String::new();
    loop {
        let page = admin.table(&format!("{OUR_OBJECTS}?limit=500&includeObject=None{token}"))?;
        let page: Value = serde_json::from_str(&page)?;
        match page.pointer("/metadata/continue").and_then(Value::as_str) {
            Some(next) if !next.is_empty() => {
                token = format!("&continue={}", next.replace('=', "%3D").replace('+', "%2B"))
            }
            _ => return Ok(start.elapsed()),
        }
    }
}
