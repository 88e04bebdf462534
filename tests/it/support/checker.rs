//! Compares the promise with a store: every printed result exists and is found by its holder, every
//! address has one record, every record has an index entry that is the same file.
//!
//! It asks the library, and reads the files itself. Records whose result no caller got count as
//! leaked, which is not a fault. It does not know how the store came into its state.

use hereabouts::ipam::{Allocation, Attachment, ContainerId, IfName, NetworkName, NodeName};
use hereabouts::retry::Deadline;
use hereabouts::store::file::FileStore;
use hereabouts::store::node_identity::NodeIdentity;
use hereabouts::store::{Access, Filter, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// What was printed and not deleted since: the addresses of each container, on node `n1`, in
/// network `net1`, at interface `net1`.
pub(crate) type Printed = BTreeMap<String, Vec<IpAddr>>;

/// What exists in addition to what was promised.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Container and address of records whose result no caller got.
    pub(crate) leaked: BTreeSet<(String, IpAddr)>,
    /// Index entries without a record.
    pub(crate) orphan: usize,
}

/// Checks a store. Fails the test if a promise is broken.
pub(crate) fn check(store: &Path, printed: &Printed) -> Found {
    let files = FileStore::new(store.to_owned(), host());
    let records = match files.list(&Filter::default()) {
        Ok(listing) => {
            listing.map(|record| record.unwrap_or_else(|error| panic!("{error}"))).collect()
        }
        Err(StoreError::Absent { .. }) => Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let names = names_below_scopes(store);
    assert_eq!(
        names.len(),
        records.len(),
        "a name is no record, or the other way round: {names:?}"
    );
    let entries = index_entries(store);
    let mut owners = BTreeSet::new();
    for record in &records {
        let inode = names.get(&key(record)).unwrap_or_else(|| panic!("no name: {record:?}"));
        let stems = entries.get(inode).cloned().unwrap_or_default();
        assert!(
            stems.contains(&stem(record)),
            "the index does not lead to {record:?}, only {stems:?} do"
        );
        let whole = (record.record.attachment.clone().to_string(), record.record.part.index);
        assert!(owners.insert(whole), "one part of one attachment has two records: {record:?}");
    }
    check_printed(&files, &records, printed);
    let standing: BTreeSet<u64> = names.values().copied().collect();
    Found {
        leaked: records
            .iter()
            .map(|record| (record.record.attachment.container.to_string(), record.address))
            .filter(|(container, address)| {
                printed.get(container).is_none_or(|addresses| !addresses.contains(address))
            })
            .collect(),
        orphan: entries.keys().filter(|inode| !standing.contains(inode)).count(),
    }
}

/// Checks that every printed address has one record, which belongs to its holder, and which its
/// holder finds.
fn check_printed(
    files: &FileStore<impl hereabouts::store::disk::Disk>,
    records: &[Allocation],
    printed: &Printed,
) {
    let mut holders: BTreeMap<IpAddr, &str> = BTreeMap::new();
    if printed.is_empty() {
        return;
    }
    let session = files.open(Access::Release, Deadline::after(Duration::from_secs(20))).unwrap();
    for (container, addresses) in printed {
        let held = session.holdings(&attachment(container)).unwrap();
        assert!(held.damaged.is_empty(), "{:?}", held.damaged);
        for address in addresses {
            let other = holders.insert(*address, container);
            assert_eq!(other, None, "{address} was printed to {container} as well");
            let standing: Vec<_> =
                records.iter().filter(|record| record.address == *address).collect();
            assert_eq!(
                standing.len(),
                1,
                "printed to {container}, and it has another number of records: {standing:?}"
            );
            assert_eq!(
                standing[0].record.attachment,
                attachment(container),
                "printed to {container}"
            );
            assert!(
                held.held.contains(standing[0]),
                "{container} does not find {address}: {held:?}"
            );
        }
    }
}

/// Returns the identity under which the checker reads: it needs no machine and writes nothing.
fn host() -> NodeIdentity {
    NodeIdentity { node: NodeName::parse("n1").unwrap(), machine_id: None, boot_id: String::new() }
}

fn attachment(container: &str) -> Attachment {
    Attachment {
        node: NodeName::parse("n1").unwrap(),
        network: NetworkName::parse("net1").unwrap(),
        container: ContainerId::parse(container).unwrap(),
        ifname: IfName::parse("net1").unwrap(),
    }
}

/// Returns the scope's directory and the address: a name may be free in one scope and taken in
/// another.
fn key(record: &Allocation) -> (String, IpAddr) {
    (record.scope.name().unwrap_or("@").to_owned(), record.address)
}

/// Returns the inode of each name in `scopes/*/*`.
fn names_below_scopes(store: &Path) -> BTreeMap<(String, IpAddr), u64> {
    let mut names = BTreeMap::new();
    for (scope, path) in children(&store.join("scopes")) {
        for (_, shard) in children(&path).into_iter().filter(|(_, path)| path.is_dir()) {
            for (name, path) in children(&shard) {
                let address: IpAddr =
                    name.parse().unwrap_or_else(|_| panic!("no address: {}", path.display()));
                let before = names.insert((scope.clone(), address), inode(&path));
                assert_eq!(before, None, "two names for {address}");
            }
        }
    }
    names
}

/// Returns for each inode its entries by attachment, `<node>/<network>/<stem>`.
fn index_entries(store: &Path) -> BTreeMap<u64, Vec<String>> {
    let mut entries: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (node, path) in children(&store.join("nodes")) {
        for (network, directory) in
            children(&path).into_iter().filter(|(name, _)| !name.starts_with('@'))
        {
            for (name, path) in children(&directory) {
                let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
                entries.entry(inode(&path)).or_default().push(format!("{node}/{network}/{stem}"));
            }
        }
    }
    entries
}

/// Returns the stem of a record whose ids need no escaping.
fn stem(record: &Allocation) -> String {
    let Attachment { node, network, container, ifname } = &record.record.attachment;
    format!("{node}/{network}/{container}@{ifname}")
}

fn children(directory: &Path) -> Vec<(String, std::path::PathBuf)> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect()
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}
