//! What this node has given out of stores that machines share, noted on its own
//! disk, outside of them: a snapshot, a split brain or an `rm` that takes a record
//! away does not take its note. `verify` finds such a record missing, and
//! `repair` makes it again while its sandbox lives.
//!
//! ```text
//! <store's id>/<node>/<hash of an attachment>    its records, one a line
//! <store's id>/<node>/begun                      what stood before is noted, too
//! ```
//!
//! A note is written when the record is durable and before the answer, and goes
//! before the record's name goes: a note without a record is of one that was
//! taken away, or of a call under way. Each file is written under the lock of its
//! attachment. Nothing is flushed: a power loss of the node ends its sandboxes,
//! and their notes say nothing then. No failure here fails a verb: it costs a
//! record that cannot be brought back.

use super::{Acting, FileStore, layout, listing, read, record};
use crate::digest::hex;
use crate::ipam::{Allocation, Attachment, NodeName};
use crate::store::attachment_hash::of_attachment;
use crate::store::disk::Disk;
use crate::store::{Filter, StoreError, percent};
use std::io;
use std::path::{Path, PathBuf};

const BEGUN: &str = "begun";
/// Of a file that is being written.
const NEW: &str = ".new";

/// The notes of one node about one store.
pub(super) struct Given<'n> {
    disk: &'n dyn Disk,
    directory: PathBuf,
}

/// What stands at the name of a record that was noted.
pub(super) enum Standing {
    /// A record of the same attachment.
    Ours,
    /// Nothing.
    Nothing,
    /// Another's record; its holder.
    Anothers(String),
    /// What cannot be read, and is a finding of its own.
    Unreadable,
}

impl<'n> Given<'n> {
    pub(super) fn new(disk: &'n dyn Disk, id: &str, node: &NodeName) -> Self {
        Self { disk, directory: Path::new(&*percent::escape(id)).join(&*percent::escape(node.as_str())) }
    }

    fn path(&self, attachment: &Attachment) -> PathBuf {
        self.directory.join(hex(&of_attachment(attachment)[..16]))
    }

    fn read(&self, path: &Path) -> Vec<Allocation> {
        let Ok(content) = self.disk.read(path) else {
            return Vec::new();
        };
        content.bytes.split(|byte| *byte == b'\n').filter_map(|line| record::decode(line).ok()).collect()
    }

    /// What is noted of an attachment.
    pub(super) fn of(&self, attachment: &Attachment) -> Vec<Allocation> {
        self.read(&self.path(attachment))
    }

    /// All that is noted; nothing where nothing can be read.
    pub(super) fn all(&self) -> Vec<Allocation> {
        let mut names = self.disk.names(&self.directory).unwrap_or_default();
        names.retain(|name| name != BEGUN && !name.to_string_lossy().ends_with(NEW));
        names.sort();
        names.iter().flat_map(|name| self.read(&self.directory.join(name))).collect()
    }

    /// Notes a record, in the place of what was noted of the same part.
    fn put(&self, allocation: &Allocation) -> io::Result<()> {
        let attachment = &allocation.held.attachment;
        let before = self.of(attachment);
        let is_same = |noted: &Allocation| record::encode(noted).ok() == record::encode(allocation).ok();
        if before.iter().any(is_same) {
            return Ok(());
        }
        let is_other = |noted: &Allocation| !is_at(noted, allocation) && noted.held.part.index != allocation.held.part.index;
        let mut noted: Vec<Allocation> = before.into_iter().filter(is_other).collect();
        noted.push(allocation.clone());
        self.write(attachment, &noted)
    }

    /// Takes a record out of the notes.
    pub(super) fn take(&self, allocation: &Allocation) -> io::Result<()> {
        let attachment = &allocation.held.attachment;
        let mut noted = self.of(attachment);
        let before = noted.len();
        noted.retain(|noted| !is_at(noted, allocation));
        if noted.len() == before { Ok(()) } else { self.write(attachment, &noted) }
    }

    /// Forgets an attachment, which has ended.
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

/// Whether two records are of one address.
pub(super) fn is_at(one: &Allocation, other: &Allocation) -> bool {
    one.address == other.address && one.scope == other.scope
}

impl<D: Disk> FileStore<D> {
    /// This node's notes, where the store is one that machines share.
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

    /// Notes what was given, which is durable by now.
    pub(super) fn note_given(&self, allocation: &Allocation) {
        let Some(given) = self.given().filter(|_| self.acting == Acting::Here) else {
            return;
        };
        if let Err(error) = given.put(allocation) {
            tracing::warn!(%error, "what was given could not be noted, \"repair\" cannot bring it back");
        }
    }

    /// Takes what is about to be freed out of the notes: "repair" must not bring
    /// it back.
    pub(super) fn take_given(&self, allocation: &Allocation) {
        if let Some(Err(error)) = self.given().map(|given| given.take(allocation)) {
            tracing::warn!(%error, "a note of what is freed stays until the next sweep");
        }
    }

    /// Notes what this node was given before it kept notes of this store; once.
    pub(super) fn begin_given(&self) -> Result<(), StoreError> {
        let Some(given) = self.given().filter(|given| self.acting == Acting::Here && !given.is_begun()) else {
            return Ok(());
        };
        let filter = Filter { node: Some(self.host.node.clone()), ..Filter::default() };
        for allocation in listing::list(&self.disk, filter)?.filter_map(Result::ok) {
            // A call of that attachment is under way: it writes its own note.
            let Some(_lock) = self.try_attachment(&allocation.held.attachment)? else { continue };
            if matches!(self.standing_for(&allocation)?, Standing::Ours) {
                self.note_given(&allocation);
            }
        }
        if let Err(error) = given.begin() {
            tracing::warn!(%error, "the notes of what this node was given could not be begun");
        }
        Ok(())
    }

    /// What stands where a record was noted.
    pub(super) fn standing_for(&self, noted: &Allocation) -> Result<Standing, StoreError> {
        let name = layout::record(&noted.scope, noted.address);
        let Some(content) = read(&self.disk, &name)? else {
            return Ok(Standing::Nothing);
        };
        Ok(match record::decode(&content.bytes) {
            Ok(standing) if standing.held.attachment == noted.held.attachment => Standing::Ours,
            Ok(standing) => Standing::Anothers(standing.held.attachment.to_string()),
            Err(_) => Standing::Unreadable,
        })
    }
}
