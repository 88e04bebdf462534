//! A debt as JSON, format 1. No other file knows its shape. Readers pass over keys that they do not
//! know.

use super::{Answer, Debt, Place, Since};
use crate::ipam::{
    Allocation, Attachment, ContainerId, IfName, NetworkName, NodeName, Scope, Version,
};
use crate::store::file::{record_from_json, record_to_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// The format that this version writes, and the newest that it reads.
const FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Note {
    format: u64,
    node: String,
    network: String,
    container_id: String,
    ifname: String,
    store: Store,
    answered: String,
    exclusive: bool,
    /// `null` if it is unknown.
    held: Option<Vec<Held>>,
    /// A record without an address: evidence alone.
    seen: Value,
    reason: String,
    since: String,
    boot_id: String,
    /// Milliseconds.
    uptime: u64,
}

#[derive(Serialize, Deserialize)]
struct Store {
    datastore: String,
    data_dir: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kubeconfig: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Held {
    /// The state of the record: in files the inode, in the API uid and resourceVersion. Absent for
    /// a creation whose outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    record: Value,
}

/// Why a debt cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// No version writes such a debt.
    Damaged(String),
    /// A newer version wrote it.
    Newer(u64),
}

pub(super) fn encode(debt: &Debt) -> Result<Vec<u8>, serde_json::Error> {
    let Attachment { node, network, container, ifname } = &debt.attachment;
    let held = |allocation: &Allocation| {
        let version = allocation.version.as_ref();
        let record = record_to_json(allocation)?;
        Ok::<_, serde_json::Error>(Held {
            uid: version.map(|version| version.uid.clone()),
            revision: version
                .map(|version| version.revision.clone())
                .filter(|revision| !revision.is_empty()),
            record,
        })
    };
    let nowhere = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let seen = Allocation {
        scope: Scope::default(),
        address: nowhere,
        record: debt.seen.clone(),
        version: None,
    };
    let note = Note {
        format: FORMAT,
        node: node.to_string(),
        network: network.to_string(),
        container_id: container.to_string(),
        ifname: ifname.to_string(),
        store: Store {
            datastore: if debt.store.kubeconfig.is_some() { "kubernetes" } else { "file" }
                .to_owned(),
            data_dir: debt.store.data_dir.clone(),
            kubeconfig: debt.store.kubeconfig.clone(),
            id: debt.store.id.clone(),
        },
        answered: debt.answered.as_str().to_owned(),
        exclusive: debt.exclusive,
        held: debt.held.as_ref().map(|known| known.iter().map(held).collect()).transpose()?,
        seen: record_to_json(&seen)?,
        reason: debt.reason.clone(),
        since: humantime::format_rfc3339_micros(debt.since.time).to_string(),
        boot_id: debt.since.boot_id.clone(),
        uptime: u64::try_from(debt.since.uptime.as_millis()).unwrap_or(u64::MAX),
    };
    let mut bytes = serde_json::to_vec(&note)?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Debt, Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        format: u64,
    }
    match serde_json::from_slice::<Head>(bytes) {
        Ok(head) if FORMAT < head.format => return Err(Unreadable::Newer(head.format)),
        _ => {}
    }
    let note: Note =
        serde_json::from_slice(bytes).map_err(|error| Unreadable::Damaged(error.to_string()))?;
    understand(note).map_err(Unreadable::Damaged)
}

fn understand(note: Note) -> Result<Debt, String> {
    let invalid = |key: &str| format!("{key} is not valid");
    let attachment = Attachment {
        node: NodeName::parse(&note.node).or(Err(invalid("node")))?,
        network: NetworkName::parse(&note.network).or(Err(invalid("network")))?,
        container: ContainerId::parse(&note.container_id).or(Err(invalid("container_id")))?,
        ifname: IfName::parse(&note.ifname).or(Err(invalid("ifname")))?,
    };
    let held = |held: &Held| {
        let version = held.uid.clone().map(|uid| Version {
            uid,
            revision: held.revision.clone().unwrap_or_default(),
            newer: Vec::new(),
        });
        let allocation = record_from_json(&held.record)?;
        if allocation.record.attachment == attachment {
            Ok(Allocation { version, ..allocation })
        } else {
            Err(invalid("held"))
        }
    };
    let is_kubernetes = match note.store.datastore.as_str() {
        "file" => false,
        "kubernetes" => true,
        _ => return Err(invalid("store.datastore")),
    };
    if is_kubernetes != note.store.kubeconfig.is_some() {
        return Err(invalid("store.kubeconfig"));
    }
    Ok(Debt {
        store: Place {
            data_dir: note.store.data_dir,
            kubeconfig: note.store.kubeconfig,
            id: note.store.id,
        },
        held: note
            .held
            .as_ref()
            .map(|known| known.iter().map(held).collect::<Result<_, String>>())
            .transpose()?,
        answered: match note.answered.as_str() {
            "error" => Answer::Error,
            "success" => Answer::Success,
            _ => return Err(invalid("answered")),
        },
        exclusive: note.exclusive,
        seen: record_from_json(&note.seen)?.record,
        reason: note.reason,
        since: Since {
            time: humantime::parse_rfc3339(&note.since).or(Err(invalid("since")))?,
            boot_id: note.boot_id,
            uptime: Duration::from_millis(note.uptime),
        },
        attachment,
    })
}
