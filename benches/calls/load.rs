//! Fills a store of hereabouts with the library's own code: it claims every record in a session of
//! the file store, through the trait of the disk.
//!
//! There is one difference to the same number of ADDs: `sync` of the disk does nothing, and
//! everything is flushed once at the end. After that, the store's own listing must show every
//! record.

use anyhow::{Context, Result, anyhow, bail, ensure};
use hereabouts::addr::{AddrSet, Subnet};
use hereabouts::ipam::{
    Attachment, ContainerId, IdError, IfName, NetworkName, NodeName, Part, Record, Scope, Source,
};
use hereabouts::retry::Deadline;
use hereabouts::store::disk::{Content, Disk, Inode, Locked, Patience, RealDisk};
use hereabouts::store::file::FileStore;
use hereabouts::store::node_identity::NodeIdentity;
use hereabouts::store::{Access, Claim, Filter, Store};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The number of claims per session. The disk keeps directories open for the life of a process. A
/// new session with a new disk keeps their number below any limit.
const BATCH: u32 = 200;

/// Gives each container an address, the lowest free one.
///
/// # Errors
/// Fails if the store refuses a record, or does not list each of them once.
pub(crate) fn load(
    data_dir: &Path,
    network: &str,
    node: &str,
    containers: Range<u32>,
) -> Result<()> {
    let node = id(NodeName::parse(node))?;
    // Read as the plugin reads them, so that these are records of this machine.
    let machine_id = std::fs::read_to_string("/etc/machine-id")
        .ok()
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty());
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let host = NodeIdentity { node: node.clone(), machine_id, boot_id: boot_id.clone() };
    let store = || FileStore::on(Unsynced(RealDisk::new(data_dir.to_owned())), host.clone());
    let scope = Scope::default();
    let candidates = AddrSet::from_range(&Subnet::parse(crate::RANGE)?.usable());
    let mut record = Record {
        attachment: Attachment {
            node: node.clone(),
            network: id(NetworkName::parse(network))?,
            container: id(ContainerId::parse(&crate::loaded_container(0)))?,
            ifname: id(IfName::parse("net1"))?,
        },
        pod: None,
        netns: None,
        view: None,
        boot_id,
        since: SystemTime::now(),
        source: Source::Dynamic,
        part: Part { index: 0, of: 1 },
        prefix: 8,
        gateway: None,
    };
    let mut next = containers.start;
    // This runs once even for 0 records and creates an empty store.
    loop {
        let store = store();
        let mut session = store.open(Access::Allocate, Deadline::after(Duration::from_secs(10)))?;
        let end = containers.end.min(next + BATCH);
        while next < end {
            record.attachment.container = id(ContainerId::parse(&crate::loaded_container(next)))?;
            match session.claim(&scope, &candidates, &record)? {
                Claim::Claimed(_) => next += 1,
                Claim::Full => bail!("the range is full at record {next}"),
            }
        }
        if next == containers.end {
            break;
        }
    }
    let names: HashSet<String> = containers.clone().map(crate::loaded_container).collect();
    let (store, mut listed) = (store(), 0);
    for record in store.list(&Filter { node: Some(node), ..Filter::default() })? {
        let record = record.context("the store's own listing finds a damaged record")?;
        listed += usize::from(names.contains(record.record.attachment.container.as_str()));
    }
    ensure!(
        listed == names.len(),
        "the store's own listing shows {listed} records of {} containers",
        names.len()
    );
    nix::unistd::sync();
    Ok(())
}

fn id<T>(parsed: std::result::Result<T, IdError>) -> Result<T> {
    parsed.map_err(|error| anyhow!("not an id: {error:?}"))
}

/// The kernel's disk without its flushes.
struct Unsynced(RealDisk);

impl Disk for Unsynced {
    fn sync(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn root(&self) -> &Path {
        self.0.root()
    }
    fn exists(&self) -> io::Result<bool> {
        self.0.exists()
    }
    fn make_root(&self) -> io::Result<()> {
        self.0.make_root()
    }
    fn is_local(&self) -> io::Result<bool> {
        self.0.is_local()
    }
    fn check_writable(&self) -> io::Result<()> {
        self.0.check_writable()
    }
    fn read(&self, path: &Path) -> io::Result<Content> {
        self.0.read(path)
    }
    fn inode(&self, path: &Path) -> io::Result<Inode> {
        self.0.inode(path)
    }
    fn visit(&self, directory: &Path, visitor: &mut dyn FnMut(&OsStr, u64)) -> io::Result<()> {
        self.0.visit(directory, visitor)
    }
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.0.make_directory(path)
    }
    fn is_marked(&self, directory: &Path) -> io::Result<bool> {
        self.0.is_marked(directory)
    }
    fn mark(&self, directory: &Path) -> io::Result<()> {
        self.0.mark(directory)
    }
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Inode> {
        self.0.create(path, bytes)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.link(from, to)
    }
    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.0.remove_directory(path)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.0.unlink(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn lock(&self, path: &Path, patience: Patience) -> io::Result<Locked> {
        self.0.lock(path, patience)
    }
    fn lock_byte(&self, path: &Path, byte: u64, patience: Patience) -> io::Result<Locked> {
        self.0.lock_byte(path, byte, patience)
    }
    fn lock_local(&self, path: &Path, patience: Patience) -> io::Result<Locked> {
        self.0.lock_local(path, patience)
    }
    fn lock_holder(&self, path: &Path) -> String {
        self.0.lock_holder(path)
    }
    fn byte_holder(&self, path: &Path, byte: u64) -> String {
        self.0.byte_holder(path, byte)
    }
    fn random(&self) -> io::Result<[u8; 16]> {
        self.0.random()
    }
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}
