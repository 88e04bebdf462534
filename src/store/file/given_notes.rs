//! This node's notes about the addresses that it got from shared stores. They are on the node's own
//! disk, outside the stores: a snapshot, a split brain or an `rm` that removes a record does not
//! remove its note. `verify` reports such a record as missing, and `repair` recreates it while its
//! sandbox lives.
//!
//! ```text
//! <store's id>/<node>/<hash of an attachment>    its records, one per line
//! <store's id>/<node>/begun                      earlier records are noted too
//! ```
//!
//! A call writes a note when the record is durable and before it answers, and removes the note
//! before the record's name. So a note without a record means that the record was removed by
//! something else, or that a call is in progress. Each file is written under the lock of its
//! attachment. Nothing is flushed: a power loss of the node ends its sandboxes, and then their
//! notes mean nothing. A failure here fails no verb. It only means that a record cannot be
//! recreated.

use super::{Acting, FileStore, layout, listing, read, record};
use crate::digest::hex;
use crate::ipam::{Allocation, Attachment, NodeName};
use crate::store::attachment_hash::of_attachment;
use crate::store::disk::Disk;
use crate::store::{Filter, StoreError, percent};
use std::io;
use std::path::{Path, PathBuf};

const BEGUN: &str = "begun";
/// The extension of a file that is being written.
const NEW: &str = ".new";

/// The notes of one node about one store.
pub(super) struct Given<'n> {
    disk: &'n dyn Disk,
    directory: PathBuf,
}

/// What is at the name of a noted record.
pub(super) enum RecordAtName {
    /// A record of the same attachment.
    Ours,
    /// No record.
    Nothing,
    /// The record of another holder, who is named here.
    Anothers(String),
    /// A record that cannot be read, which is a finding of its own.
    Unreadable,
}

impl<'n> Given<'n> {
    pub(super) fn new(disk: &'n dyn Disk, id: &str, node: &NodeName) -> Self {
        Self {
            disk,
            directory: Path::new(&*percent::escape(id)).join(&*percent::escape(node.as_str())),
        }
    }

    fn path(&self, attachment: &Attachment) -> PathBuf {
        self.directory.join(hex(&of_attachment(attachment)[..16]))
    }

    fn read(&self, path: &Path) -> Vec<Allocation> {
        let Ok(content) = self.disk.read(path) else {
            return Vec::new();
        };
        content
            .bytes
            .split(|byte| *byte == b'\n')
            .filter_map(|line| record::decode(line).ok())
            .collect()
    }

    /// Returns the noted records of an attachment.
    pub(super) fn of(&self, attachment: &Attachment) -> Vec<Allocation> {
        self.read(&self.path(attachment))
    }

    /// Returns all noted records; none if nothing can be read.
    pub(super) fn all(&self) -> Vec<Allocation> {
        let mut names = self.disk.names(&self.directory).unwrap_or_default();
        names.retain(|name| name != BEGUN && !name.to_string_lossy().ends_with(NEW));
        names.sort();
        names.iter().flat_map(|name| self.read(&self.directory.join(name))).collect()
    }

    /// Notes a record. Replaces the note about the same part.
    fn put(&self, allocation: &Allocation) -> io::Result<()> {
        let attachment = &allocation.record.attachment;
        let before = self.of(attachment);
        let is_same =
            |noted: &Allocation| record::encode(noted).ok() == record::encode(allocation).ok();
        if before.iter().any(is_same) {
            return Ok(());
        }
        let is_other = |noted: &Allocation| {
            !is_at(noted, allocation) && noted.record.part.index != allocation.record.part.index
        };
        let mut noted: Vec<Allocation> = before.into_iter().filter(is_other).collect();
        noted.push(allocation.clone());
        self.write(attachment, &noted)
    }

    /// Removes a record from the notes.
    pub(super) fn take(&self, allocation: &Allocation) -> io::Result<()> {
        let attachment = &allocation.record.attachment;
        let mut noted = self.of(attachment);
        let before = noted.len();
        noted.retain(|noted| !is_at(noted, allocation));
        if noted.len() == before { Ok(()) } else { self.write(attachment, &noted) }
    }

    /// Removes all notes of an attachment that has ended.
    pub(super) fn forget(&self, attachment: &Attachment) -> io::Result<()> {
        self.write(attachment, &[])
    }

    fn write(&self, attachment: &Attachment, noted: &[Allocation]) -> io::Result<()> {
        let path = self.path(attachment);
        if noted.is_empty() {
            return match self.disk.unlink(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let mut bytes = Vec::new();
        for allocation in noted {
            bytes.extend(record::encode(allocation)?);
            bytes.push(b'\n');
        }
        let new = path.with_extension(&NEW[1..]);
        let _ = self.disk.unlink(&new);
        match self.disk.create(&new, &bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.prepare()?;
                self.disk.create(&new, &bytes)?
            }
            made => made?,
        };
        self.disk.rename(&new, &path)
    }

    fn prepare(&self) -> io::Result<()> {
        self.disk.make_root()?;
        for directory in [self.directory.parent().unwrap_or(Path::new("")), &self.directory] {
            match self.disk.make_directory(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_begun(&self) -> bool {
        self.disk.inode(&self.directory.join(BEGUN)).is_ok()
    }

    fn begin(&self) -> io::Result<()> {
        self.prepare()?;
        match self.disk.create(&self.directory.join(BEGUN), b"") {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
}

/// Returns whether two records have the same scope and address.
pub(super) fn is_at(one: &Allocation, other: &Allocation) -> bool {
    one.address == other.address && one.scope == other.scope
}

impl<D: Disk> FileStore<D> {
    /// Returns this node's notes, if machines share the store.
    pub(super) fn given(&self) -> Option<Given<'_>> {
        let terms = self.terms.as_ref()?;
        if self.is_local().unwrap_or(true) {
            return None;
        }
        let id = match self.agreed.get() {
            Some(id) => id.clone(),
            None => self.read_format().ok()??.id,
        };
        Some(Given::new(terms.notes.disk(), &id, &self.host.node))
    }

    /// Notes a given address whose record is durable.
    pub(super) fn note_given(&self, allocation: &Allocation) {
        let Some(given) = self.given().filter(|_| self.acting == Acting::Here) else {
            return;
        };
        if let Err(error) = given.put(allocation) {
            tracing::warn!(%error, "cannot note an address; if its record is lost, \"repair\" cannot recreate it");
        }
    }

    /// Removes a record that is about to be freed from the notes, because `repair` must not
    /// recreate it.
    pub(super) fn take_given(&self, allocation: &Allocation) {
        if let Some(Err(error)) = self.given().map(|given| given.take(allocation)) {
            tracing::warn!(%error, "cannot remove the note about a freed address; the next sweep removes it");
        }
    }

    /// Notes, once, the records that this node got before it kept notes about this store.
    pub(super) fn begin_given(&self) -> Result<(), StoreError> {
        let Some(given) =
            self.given().filter(|given| self.acting == Acting::Here && !given.is_begun())
        else {
            return Ok(());
        };
        let filter = Filter { node: Some(self.host.node.clone()), ..Filter::default() };
        for allocation in listing::list(&self.disk, filter)?.filter_map(Result::ok) {
            // A call of that attachment is in progress and writes its own note.
            let Some(_lock) = self.try_attachment(&allocation.record.attachment)? else { continue };
            if matches!(self.record_at_name(&allocation)?, RecordAtName::Ours) {
                self.note_given(&allocation);
            }
        }
        if let Err(error) = given.begin() {
            tracing::warn!(%error, "cannot begin the notes about the addresses of this node");
        }
        Ok(())
    }

    /// Returns what is at the name of a noted record.
    pub(super) fn record_at_name(&self, noted: &Allocation) -> Result<RecordAtName, StoreError> {
        let name = layout::record(&noted.scope, noted.address);
        let Some(content) = read(&self.disk, &name)? else {
            return Ok(RecordAtName::Nothing);
        };
        Ok(match record::decode(&content.bytes) {
            Ok(found) if found.record.attachment == noted.record.attachment => RecordAtName::Ours,
            Ok(found) => RecordAtName::Anothers(found.holder()),
            Err(_) => RecordAtName::Unreadable,
        })
    }
}
