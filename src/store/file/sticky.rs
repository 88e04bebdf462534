//! The notes about sticky addresses: `scopes/<scope>/sticky-<ip>` says which pod of a StatefulSet
//! got the address last. Each file has one JSON object and replaces the one before. It is not
//! flushed, and decides nothing.

use super::hint::replace;
use super::{FileStore, layout, read};
use crate::ipam::{IfName, NetworkName, Scope, Sticky, StickyOwner};
use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::IpAddr;

#[derive(Serialize, Deserialize)]
struct Note {
    network: String,
    interface: String,
    namespace: String,
    pod: String,
    /// In the form of RFC 3339.
    since: String,
}

impl<D: Disk> FileStore<D> {
    /// Reads all notes of a scope. Skips content that no version writes.
    pub(super) fn read_sticky(&self, scope: &Scope) -> Result<Vec<Sticky>, StoreError> {
        let directory = layout::scope(scope);
        let names = match self.disk.names(&directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.disk, "list", &directory, error)),
        };
        let mut all = Vec::new();
        for address in names.iter().filter_map(|name| layout::parse_sticky(name.to_str()?)) {
            let content = read(&self.disk, &layout::sticky(scope, address))?;
            all.extend(content.and_then(|content| decode(address, &content.bytes)));
        }
        Ok(all)
    }

    pub(super) fn write_sticky(&self, scope: &Scope, sticky: &Sticky) -> Result<(), StoreError> {
        let path = layout::sticky(scope, sticky.address);
        let bytes =
            encode(sticky).map_err(|error| failed(&self.disk, "write", &path, error.into()))?;
        replace(self, &path, &bytes)
    }
}

fn encode(sticky: &Sticky) -> Result<Vec<u8>, serde_json::Error> {
    let StickyOwner { network, ifname, namespace, pod } = &sticky.owner;
    let mut bytes = serde_json::to_vec(&Note {
        network: network.to_string(),
        interface: ifname.to_string(),
        namespace: namespace.clone(),
        pod: pod.clone(),
        since: humantime::format_rfc3339_micros(sticky.since).to_string(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn decode(address: IpAddr, bytes: &[u8]) -> Option<Sticky> {
    let note: Note = serde_json::from_slice(bytes).ok()?;
    let owner = StickyOwner {
        network: NetworkName::parse(&note.network).ok()?,
        ifname: IfName::parse(&note.interface).ok()?,
        namespace: note.namespace,
        pod: note.pod,
    };
    Some(Sticky { address, owner, since: humantime::parse_rfc3339(&note.since).ok()? })
}
