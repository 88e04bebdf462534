//! Where allocations live.
//!
//! Neither store can commit two addresses at once, so a [`Session`] is a list
//! of calls that compare, not a transaction. What has to be undone is known in
//! one place, `plugin/add`, for every store.
//!
//! - [`file`]: one file an address; one machine, or a filesystem that several
//!   share
//! - `kube`: one custom resource an address; a cluster of any size
//! - [`memory`]: for tests; no configuration selects it
//! - [`disk`]: the port to the disk and the locks, for both stores
//! - [`node_identity`]: which node and machine a store acts for
//! - `percent`: ids as file names
//! - `filter`: which allocations a listing means
//! - `hint`: what to do about an error
//! - [`upkeep`]: what an operator does with a store beyond the verbs; [`census`]:
//!   who holds how much, as it counts

pub(crate) mod attachment_hash;
pub mod census;
pub mod disk;
pub mod file;
mod filter;
mod hint;
#[cfg(feature = "kube")]
pub mod kube;
pub mod memory;
pub mod node_identity;
pub(crate) mod percent;
mod session;
pub mod upkeep;

use crate::addr::AddrSet;
use crate::ipam::{Allocation, Attachment, Scope, Sticky};
use crate::retry::Deadline;
pub use filter::{Filter, PodName, Spared};
use session::claim_one;
pub use session::{Claim, Holdings, Rehome, Release, Session, Wanted};
use std::path::PathBuf;

/// A store of allocations.
pub trait Store {
    /// Keeps other calls of an attachment out until the lock is dropped: it is
    /// taken before [`Self::open`] by everything that changes what the
    /// attachment holds. An ADD keeps it until its answer is delivered, so that
    /// no call sees a record that its maker may still take back. Calls of other
    /// attachments do not wait for it; it is gone with its process.
    ///
    /// `None` when there is no store, so that the attachment holds nothing:
    /// `Access::Allocate` makes one.
    ///
    /// # Errors
    /// [`StoreError::AttachmentBusy`] at the deadline; anything but "nothing is
    /// stored yet".
    fn lock_attachment(
        &self,
        attachment: &Attachment,
        access: Access,
        deadline: Deadline,
    ) -> Result<Option<Box<dyn disk::Held>>, StoreError>;

    /// The same without waiting, for a call that may pass over a busy
    /// attachment: GC, sweep, re-homing. `None` when it is busy, too.
    ///
    /// # Errors
    /// As [`Self::lock_attachment`].
    fn try_lock_attachment(&self, attachment: &Attachment) -> Result<Option<Box<dyn disk::Held>>, StoreError>;

    /// What this node can tell of an attachment's records by itself: without the
    /// store's lock, and without asking anybody. Of a call that has the
    /// attachment's lock. `None` where it cannot be told.
    fn noted(&self, attachment: &Attachment) -> Option<Vec<Allocation>>;

    /// Opens a session; takes what exclusion the store has, within the
    /// deadline. `Access::Release` makes nothing that is not there.
    ///
    /// # Errors
    /// Anything but "nothing is stored yet".
    fn open(&self, access: Access, deadline: Deadline) -> Result<Box<dyn Session + '_>, StoreError>;

    /// What is allocated, one by one, without a lock. Records that are added
    /// or removed meanwhile may be missed or seen.
    ///
    /// # Errors
    /// The store cannot be read; a single damaged record is an error item.
    fn list(&self, filter: &Filter) -> Result<Listing<'_>, StoreError>;

    /// Whether a claim could be served, as far as can be told without one.
    ///
    /// # Errors
    /// Why not.
    fn ready(&self) -> Result<(), StoreError>;

    /// Whether one of the candidates is free; without a lock.
    ///
    /// # Errors
    /// The store cannot be read.
    fn has_room(&self, scope: &Scope, candidates: &AddrSet) -> Result<bool, StoreError>;

    /// What is remembered of the addresses of a scope: to whom each was given last,
    /// of those that get theirs again. It is a hint, and says nothing of who holds an
    /// address. A store that remembers nothing says so.
    ///
    /// # Errors
    /// It cannot be read.
    fn sticky(&self, scope: &Scope, deadline: Deadline) -> Result<Vec<Sticky>, StoreError> {
        let _ = (scope, deadline);
        Ok(Vec::new())
    }

    /// Remembers to whom an address was given, in the place of what was remembered of
    /// that address. May be repeated; not flushed.
    ///
    /// # Errors
    /// It is not remembered.
    fn remember(&self, scope: &Scope, sticky: &Sticky, deadline: Deadline) -> Result<(), StoreError> {
        let _ = (scope, sticky, deadline);
        Ok(())
    }
}

/// Allocations as they are read.
pub type Listing<'s> = Box<dyn Iterator<Item = Result<Allocation, StoreError>> + 's>;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Claims: the store is made ready where it is not.
    Allocate,
    /// Looks and releases: a store that is not there holds nothing.
    Release,
    /// Looks alone, at what stands now.
    Read,
}

/// Why a store cannot do what it was asked. Texts never hold the words that
/// runtimes take for success of a DEL.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {action} {path}: {reason}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Our words for the error.
        reason: String,
        /// The error.
        source: std::io::Error,
    },
    /// The lock was not free in time.
    #[error("the lock {path} was not free within {waited}: {holder}")]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long it was tried.
        waited: String,
        /// Who holds it, as far as can be seen.
        holder: String,
    },
    /// Another call of the same attachment is under way.
    #[error("another call for {attachment} did not end within {waited}: {holder}")]
    AttachmentBusy {
        /// The attachment.
        attachment: String,
        /// How long was waited.
        waited: String,
        /// Which process it is, as far as can be seen.
        holder: String,
    },
    /// The deadline passed between two addresses.
    #[error("the deadline of {limit} passed after {done} of {all} addresses")]
    OutOfTime {
        /// The deadline.
        limit: String,
        /// How many addresses were served.
        done: usize,
        /// Of how many.
        all: usize,
    },
    /// The attachment changed while the store was looked through.
    #[error("the addresses of this attachment changed while free ones were looked for")]
    Changed,
    /// Names that are listed as free are refused as taken.
    #[error("the mount at {path} returns stale directory entries: addresses it lists as free could not be created for {waited}")]
    OldView {
        /// The scope.
        path: PathBuf,
        /// How long it was tried.
        waited: String,
    },
    /// The filesystem cannot lock.
    #[error("the filesystem of {path} does not support locks: {reason}")]
    NoLocks {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },
    /// The filesystem gives no file a second name.
    #[error("the filesystem of {path} does not support hard links: {reason}")]
    NoHardLinks {
        /// The data directory.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },
    /// Machines that share the filesystem could get the same address, or lose one.
    #[error("machines cannot share a store on the filesystem of {path}: {reason}")]
    Unfit {
        /// The data directory.
        path: PathBuf,
        /// What it fails in.
        reason: String,
    },
    /// A record that no version of ours wrote.
    #[error("the record {path} is damaged: {reason}")]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An object that no version of ours wrote; its holder is unknown.
    #[error("the object {name} is damaged: {reason}")]
    DamagedObject {
        /// Resource and name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file that says which format this is.
    #[error("the format file {path} is damaged: {reason}")]
    BadFormat {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another node's, which may use the address still.
    #[error("{path} is held by another node: {node}")]
    NotOurs {
        /// The record.
        path: PathBuf,
        /// Who holds it.
        node: String,
    },
    /// The store, or one record, was written by a newer version.
    #[error("{path} has format {found}, but this version reads only up to {known}")]
    Newer {
        /// The data directory, or the record.
        path: PathBuf,
        /// Its number.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// The node state was written by a newer version.
    #[error("the node state {path} has format {found}, but this version reads only up to {known}")]
    NewerState {
        /// Its directory.
        path: PathBuf,
        /// Its number.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// The directory is something else.
    #[error("{path} is not a hereabouts store: {found}")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Names that differ in capital letters alone are one name there.
    #[error("the filesystem ignores case, so two scopes, networks or nodes could share a name: {path}")]
    FoldsCase {
        /// The data directory.
        path: PathBuf,
    },
    /// Another machine goes by the same node name.
    #[error("another machine uses the node name {node}: {path} has the machine-id {theirs}, and this machine has {ours}")]
    SecondMachine {
        /// The name.
        node: String,
        /// Where the first machine is noted.
        path: PathBuf,
        /// What is noted there.
        theirs: String,
        /// This machine's id.
        ours: String,
    },
    /// The node had another name when it was given what a DEL is to free.
    #[error("nothing was released: {attachment} got its addresses under the node name {earlier}, and this node is now named {node}")]
    Renamed {
        /// The attachment, as it was.
        attachment: String,
        /// The name by now.
        node: String,
        /// The name then.
        earlier: String,
    },
    /// The API server could not be reached, or could not answer, in time.
    #[error("the API server {server} did not serve {call} within {waited}: {reason}")]
    Unreachable {
        /// Its URL.
        server: String,
        /// What was asked.
        call: String,
        /// How long it was tried.
        waited: String,
        /// What the last attempt met.
        reason: String,
        /// Whether it may come back by itself: nobody has to mend a certificate, and
        /// it is not that others change the object before each attempt.
        is_away: bool,
    },
    /// The API server refuses for good.
    #[error("the API server {server} refuses {call} ({status}): {reason}")]
    Refused {
        /// Its URL.
        server: String,
        /// What was asked.
        call: String,
        /// HTTP status.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// The admission policy of deploy/ admits only records of the node that the
    /// token names.
    #[error("the API server {server} denies {call}: {reason}")]
    Denied {
        /// Its URL.
        server: String,
        /// What was asked.
        call: String,
        /// The policy's words.
        reason: String,
    },
    /// The custom resource is not defined.
    #[error("the API server {server} does not know the resource: {resource}")]
    NoResource {
        /// Its URL.
        server: String,
        /// `ipallocations.hereabouts.dev`.
        resource: String,
    },
    /// The kubeconfig, or what it names, cannot be used.
    #[error("kubernetes.kubeconfig: {reason}")]
    Kubeconfig {
        /// What is wrong, with the path.
        reason: String,
    },
    /// The directory has not the store in it that it should. DEL, too, is refused:
    /// what it would free is elsewhere.
    #[error("wrong store at {path}: {reason}")]
    NotMounted {
        /// The data directory.
        path: PathBuf,
        /// What was expected, and what was found.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A store that machines share is named by no node.
    #[error("only the network configuration names this store, and machines share its filesystem: {path}")]
    Unnamed {
        /// The data directory.
        path: PathBuf,
    },
    /// There is no store yet.
    #[error("there is no store at {path} yet")]
    Absent {
        /// The directory.
        path: PathBuf,
        /// Whether an ADD may make one there, too.
        by_add: bool,
    },
}

impl StoreError {
    /// Returns what to do about it, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        hint::of(self)
    }

    /// Returns message and advice in one line, for logs and for what keeps a text alone.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let hint = self.hint().map_or_else(String::new, |hint| format!("; hint: {hint}"));
        format!("{self}{hint}")
    }

    /// Whether it is about one record alone: a listing goes on after it.
    #[must_use]
    pub fn is_of_one_record(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::DamagedObject { .. } | Self::Newer { .. } | Self::Io { .. } | Self::SecondMachine { .. }
        )
    }
}
