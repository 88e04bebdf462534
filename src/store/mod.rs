//! The stores of allocations: the interface that all of them implement, and their errors.
//!
//! No store can commit two addresses at once. So a [`Session`] offers calls that change a record
//! only after a comparison, not a transaction. One place, `plugin/add`, knows for every store what
//! must be undone.
//!
//! - [`file`]: one file per address; for one machine, or a filesystem that several machines share
//! - `kube`: one custom resource per address; for a cluster of any size
//! - `sliced`: the same for pools with slices: the node owns blocks by custom resources, and keeps
//!   the addresses in files of its own
//! - [`memory`]: for tests; no configuration selects it
//! - [`disk`]: the interface to the disk and the locks, for both stores
//! - [`ipam_claims`]: what a store tells about claims of addresses that outlive a pod
//! - [`node_identity`]: the node and the machine that a store acts for
//! - `lowest_free`: finds the lowest free address of a store that tells only whether there is one
//! - [`slices`]: what a store tells about slices of pools
//! - `percent`: ids as file names
//! - [`pools`]: what a store tells about pools
//! - `filter`: the allocations that a listing selects
//! - [`upkeep`]: the operator commands for a store, beyond the verbs
//! - [`census`]: which node holds how many records

pub(crate) mod attachment_hash;
pub mod census;
pub mod disk;
pub mod file;
mod filter;
mod hint;
pub mod ipam_claims;
#[cfg(feature = "kube")]
pub mod kube;
mod lowest_free;
pub mod memory;
pub mod node_identity;
pub(crate) mod percent;
pub mod pools;
mod session;
#[cfg(feature = "kube")]
pub mod sliced;
pub mod slices;
pub mod upkeep;

use crate::addr::{AddrSet, Subnet};
use crate::ipam::{Allocation, Attachment, HeldAddress, Scope, Slicing, Source, Sticky};
use crate::retry::Deadline;
pub use filter::{ClaimName, Filter, PodName, Spared};
use pools::{Read, StoredPool};
use session::claim_one;
pub use session::{Claim, Holdings, Rehome, Release, Session, Wanted};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;

/// A store of allocations.
pub trait Store {
    /// Excludes other calls of an attachment until the lock is dropped. Every call that changes
    /// what the attachment holds takes this lock before [`Self::open`]. An ADD keeps it until its
    /// answer is delivered, so that no other call sees a record that the ADD may still remove.
    /// Calls of other attachments do not wait for it. The lock ends with its process.
    ///
    /// Returns `None` if there is no store, so that the attachment holds nothing.
    /// `Access::Allocate` creates a store.
    ///
    /// # Errors
    /// [`StoreError::AttachmentBusy`] at the deadline; any other failure, but not a store that does
    /// not exist yet.
    fn lock_attachment(
        &self,
        attachment: &Attachment,
        access: Access,
        deadline: Deadline,
    ) -> Result<Option<Box<dyn disk::Held>>, StoreError>;

    /// Does the same without waiting, for a call that may skip a busy attachment: GC, sweep,
    /// re-homing. Returns `None` if the attachment is busy, too.
    ///
    /// # Errors
    /// As [`Self::lock_attachment`].
    fn try_lock_attachment(
        &self,
        attachment: &Attachment,
    ) -> Result<Option<Box<dyn disk::Held>>, StoreError>;

    /// Returns what this node itself knows about an attachment's records, without the store's lock
    /// and without a request to another machine. For a call that has the attachment's lock. Returns
    /// `None` if the node cannot tell.
    fn noted(&self, attachment: &Attachment) -> Option<Vec<Allocation>>;

    /// Opens a session and takes the store's locks, if it has any, before the deadline.
    /// `Access::Release` creates nothing that does not exist.
    ///
    /// # Errors
    /// Any failure, but not a store that does not exist yet.
    fn open(&self, access: Access, deadline: Deadline)
    -> Result<Box<dyn Session + '_>, StoreError>;

    /// Lists the allocations of attachments one by one, without a lock. Records that are added or removed in the
    /// meantime may be missed or seen.
    ///
    /// # Errors
    /// The store cannot be read. A single damaged record is an error item.
    fn list(&self, filter: &Filter) -> Result<Listing<'_>, StoreError>;

    /// Lists the addresses of both kinds of holder, as [`Self::list`] does. Only a store that
    /// controllers of the cluster share has claims.
    ///
    /// # Errors
    /// As [`Self::list`].
    fn list_held(&self, filter: &Filter) -> Result<HeldListing<'_>, StoreError> {
        Ok(Box::new(self.list(filter)?.map(|item| item.map(HeldAddress::from))))
    }

    /// Checks whether a claim could be served, as far as that can be determined without a claim.
    ///
    /// # Errors
    /// The reason why it could not.
    fn ready(&self) -> Result<(), StoreError>;

    /// Returns whether one of the candidates is free. Takes no lock.
    ///
    /// # Errors
    /// The store cannot be read.
    fn has_room(&self, scope: &Scope, candidates: &AddrSet) -> Result<bool, StoreError>;

    /// Returns the pool of a name, if the store keeps pools and has it.
    ///
    /// # Errors
    /// The pool cannot be read.
    fn pool(
        &self,
        name: &str,
        read: Read,
        deadline: Deadline,
    ) -> Result<Option<StoredPool>, StoreError> {
        let _ = (name, read, deadline);
        Ok(None)
    }

    /// Returns the IPAMClaims of the cluster, if the store has them.
    fn ipam_claims(&self) -> Option<&dyn ipam_claims::IpamClaims> {
        None
    }

    /// Gives the further addresses in the scope of a pool from slices of the pool that this node
    /// owns. Returns whether the store has slices.
    ///
    /// # Errors
    /// The node cannot keep the addresses of slices.
    fn draw_from(&self, slicing: &Rc<Slicing>) -> Result<bool, StoreError> {
        let _ = slicing;
        Ok(false)
    }

    /// Returns why the last claim in a scope found no free address, if there is more to say than that
    /// each is held.
    fn why_full(&self, scope: &Scope) -> Option<String> {
        let _ = scope;
        None
    }

    /// Returns the labels of this node, if the store keeps them.
    ///
    /// # Errors
    /// The labels cannot be read.
    fn node_labels(
        &self,
        read: Read,
        deadline: Deadline,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let _ = (read, deadline);
        Ok(BTreeMap::new())
    }

    /// Returns the lowest free candidate, for a claim of this source. Takes no lock. A store whose
    /// nodes avoid each other may claim another candidate.
    ///
    /// # Errors
    /// The store cannot be read.
    fn lowest_free(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        source: Source,
    ) -> Result<Option<IpAddr>, StoreError> {
        let _ = source;
        lowest_free::by_halves(candidates, &|part| self.has_room(scope, part))
    }

    /// Names the ranges of the network.
    fn expect_ranges(&self, ranges: &[Subnet]) {
        let _ = ranges;
    }

    /// Removes what Whereabouts, from which the cluster moves, wrote for an attachment in these
    /// ranges. For a DEL without a record.
    ///
    /// # Errors
    /// Something may be left. The call may be repeated.
    fn forget_shown(
        &self,
        attachment: &Attachment,
        ranges: &dyn Fn() -> Option<(Scope, Vec<Subnet>)>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let _ = (attachment, ranges, deadline);
        Ok(())
    }

    /// Returns the notes about the sticky addresses of a scope: who got each of them last. This is
    /// a hint that says nothing about who holds an address. A store that keeps no such notes
    /// returns an empty list.
    ///
    /// # Errors
    /// The notes cannot be read.
    fn sticky(&self, scope: &Scope, deadline: Deadline) -> Result<Vec<Sticky>, StoreError> {
        let _ = (scope, deadline);
        Ok(Vec::new())
    }

    /// Notes who got an address, and replaces the earlier note about that address. May be repeated.
    /// Is not flushed.
    ///
    /// # Errors
    /// The note was not written.
    fn remember(
        &self,
        scope: &Scope,
        sticky: &Sticky,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let _ = (scope, sticky, deadline);
        Ok(())
    }
}

/// Allocations as they are read.
pub type Listing<'s> = Box<dyn Iterator<Item = Result<Allocation, StoreError>> + 's>;

/// Addresses of both kinds of holder as they are read.
pub type HeldListing<'s> = Box<dyn Iterator<Item = Result<HeldAddress, StoreError>> + 's>;

/// The purpose of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Claims addresses. A store that does not exist yet is created.
    Allocate,
    /// Reads and releases. A store that does not exist holds nothing.
    Release,
    /// Only reads the current state.
    Read,
}

/// The reason why a store cannot do its work. The texts never contain the words that runtimes take
/// for the success of a DEL.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {action} {path}: {reason}")]
    Io {
        /// The action that was tried.
        action: &'static str,
        /// The path that it was tried on.
        path: PathBuf,
        /// Our text for the error.
        reason: String,
        /// The error.
        source: std::io::Error,
    },
    /// The lock was not free in time.
    #[error("the lock {path} was not free within {waited}: {holder}")]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long the call tried.
        waited: String,
        /// The holder of the lock, as far as it can be seen.
        holder: String,
    },
    /// Another call of the same attachment is in progress.
    #[error("another call for {attachment} did not end within {waited}: {holder}")]
    AttachmentBusy {
        /// The attachment.
        attachment: String,
        /// How long the call waited.
        waited: String,
        /// The process of the other call, as far as it can be seen.
        holder: String,
    },
    /// The deadline passed between two addresses.
    #[error("the deadline of {limit} passed after {done} of {all} addresses")]
    OutOfTime {
        /// The deadline.
        limit: String,
        /// The number of addresses that were served.
        done: usize,
        /// The number of addresses that were requested.
        all: usize,
    },
    /// The attachment changed while the call searched the store.
    #[error("the addresses of this attachment changed while the call searched for free ones")]
    Changed,
    /// Names that are listed as free are refused as taken.
    #[error(
        "the mount at {path} returns stale directory entries: addresses it lists as free could not be created for {waited}"
    )]
    OldView {
        /// The scope.
        path: PathBuf,
        /// How long the call tried.
        waited: String,
    },
    /// The filesystem cannot lock.
    #[error("the filesystem of {path} does not support locks: {reason}")]
    NoLocks {
        /// The lock file.
        path: PathBuf,
        /// The kernel's error.
        reason: String,
    },
    /// The filesystem gives no file a second name.
    #[error("the filesystem of {path} does not support hard links: {reason}")]
    NoHardLinks {
        /// The data directory.
        path: PathBuf,
        /// The kernel's error.
        reason: String,
    },
    /// Machines that share the filesystem could get the same address, or lose one.
    #[error("machines cannot share a store on the filesystem of {path}: {reason}")]
    Unfit {
        /// The data directory.
        path: PathBuf,
        /// The guarantee that is missing.
        reason: String,
    },
    /// No version of hereabouts writes such a record.
    #[error("the record {path} is damaged: {reason}")]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No version of hereabouts writes such an object. Its holder is unknown.
    #[error("the object {name} is damaged: {reason}")]
    DamagedObject {
        /// Resource and name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file that states the format is damaged.
    #[error("the format file {path} is damaged: {reason}")]
    BadFormat {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another node holds the address and may still use it.
    #[error("{path} is held by another node: {node}")]
    NotOurs {
        /// The record.
        path: PathBuf,
        /// The node that holds it.
        node: String,
    },
    /// A newer version wrote the store, or one record.
    #[error("{path} has format {found}, but this version reads only up to {known}")]
    Newer {
        /// The data directory, or the record.
        path: PathBuf,
        /// The format that was found.
        found: u64,
        /// The newest format that this version reads.
        known: u64,
    },
    /// A newer version wrote the node state.
    #[error("the node state {path} has format {found}, but this version reads only up to {known}")]
    NewerState {
        /// The directory of the node state.
        path: PathBuf,
        /// The format that was found.
        found: u64,
        /// The newest format that this version reads.
        known: u64,
    },
    /// The directory is not a store.
    #[error("{path} is not a hereabouts store: {found}")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Names that differ only in capital letters are one name on this filesystem.
    #[error(
        "the filesystem ignores case, so two scopes, networks or nodes could share a name: {path}"
    )]
    FoldsCase {
        /// The data directory.
        path: PathBuf,
    },
    /// Another machine uses the same node name.
    #[error(
        "another machine uses the node name {node}: {path} has the machine-id {theirs}, and this machine has {ours}"
    )]
    SecondMachine {
        /// The name.
        node: String,
        /// The path of the note about the first machine.
        path: PathBuf,
        /// The machine ID in the note.
        theirs: String,
        /// This machine's ID.
        ours: String,
    },
    /// The node had another name when it got the addresses that a DEL must free.
    #[error(
        "nothing was released: {attachment} got its addresses under the node name {earlier}, and this node is now named {node}"
    )]
    Renamed {
        /// The attachment under the earlier name.
        attachment: String,
        /// The current name.
        node: String,
        /// The earlier name.
        earlier: String,
    },
    /// The API server could not be reached, or did not answer, in time.
    #[error(
        "the API server {server} did not serve the request \"{call}\" within {waited}: {reason}"
    )]
    Unreachable {
        /// The server's URL.
        server: String,
        /// The request.
        call: String,
        /// How long the call tried.
        waited: String,
        /// The failure of the last attempt.
        reason: String,
        /// Whether the server may come back by itself. False if somebody must repair a certificate,
        /// or if other writers changed the object before each attempt.
        is_away: bool,
    },
    /// The API server refuses the request permanently.
    #[error("the API server {server} {} the request \"{call}\" ({status}): {reason}", refusal(*status))]
    Refused {
        /// The server's URL.
        server: String,
        /// The request.
        call: String,
        /// The HTTP status.
        status: u16,
        /// The server's text.
        reason: String,
    },
    /// The admission policy of deploy/ admits only records of the node that the token names.
    #[error("the API server {server} denies the request \"{call}\": {reason}")]
    Denied {
        /// The server's URL.
        server: String,
        /// The request.
        call: String,
        /// The text of the policy.
        reason: String,
    },
    /// The custom resource is not defined.
    #[error("the API server {server} does not know the resource: {resource}")]
    NoResource {
        /// The server's URL.
        server: String,
        /// `ipallocations.hereabouts.dev`.
        resource: String,
    },
    /// The kubeconfig, or a file that it names, cannot be used.
    #[error("kubernetes.kubeconfig: {reason}")]
    Kubeconfig {
        /// What is wrong, with the path.
        reason: String,
    },
    /// The directory does not contain the expected store. DEL is refused too: the addresses that it
    /// would free are elsewhere.
    #[error("wrong store at {path}: {reason}")]
    NotMounted {
        /// The data directory.
        path: PathBuf,
        /// What was expected, and what was found.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// No node names the store, which machines share.
    #[error(
        "only the network configuration names this store, and machines share its filesystem: {path}"
    )]
    Unnamed {
        /// The data directory.
        path: PathBuf,
    },
    /// The node may not claim a slice because somebody holds an address in it.
    #[error("the pool {pool} has no free slice: {holder}, in the block {block}")]
    SliceInUse {
        /// The pool.
        pool: String,
        /// The block.
        block: String,
        /// Who holds which address in which scope.
        holder: String,
        /// The address.
        address: IpAddr,
    },
    /// The node may not claim a slice because it overlaps with that of another pool.
    #[error(
        "the pool {pool} has no free slice: {owner} of the pool {other_pool}, which overlaps with the block {block}"
    )]
    SlicesOverlap {
        /// The pool.
        pool: String,
        /// The block.
        block: String,
        /// Which node owns which slice of the other pool.
        owner: String,
        /// The other pool.
        other_pool: String,
    },
    /// The Move is older than what this node has noted.
    #[error("the cluster was set back: {reason}")]
    MoveSetBack {
        /// What was noted, and what was found.
        reason: String,
    },
    /// The requested address is in a slice that another node owns.
    #[error("the requested address {address} is in a slice of the node {node}")]
    SliceOfAnother {
        /// The address.
        address: IpAddr,
        /// The node.
        node: String,
    },
    /// Another node owns the slice of an address that this attachment holds.
    #[error("the slice of {address} in the pool {pool} is not this node's any more")]
    SliceLost {
        /// The address.
        address: IpAddr,
        /// The pool.
        pool: String,
    },
    /// The pool was cut into other slices before.
    #[error("the pool {pool} is cut in another way: expected {wanted}, found {found} in {object}")]
    OtherGeometry {
        /// The pool.
        pool: String,
        /// The object that says how it is cut.
        object: String,
        /// What the pool says.
        wanted: String,
        /// What the object says.
        found: String,
    },
    /// A node owns a slice that a network would cut in another way.
    #[error(
        "the network {network} is cut in another way: expected {wanted}, but {node} owns {block}"
    )]
    OtherCut {
        /// The network.
        network: String,
        /// What the network says.
        wanted: String,
        /// The slice.
        block: String,
        /// Its node.
        node: String,
    },
    /// The cluster was restored to an older state, and other nodes may own slices whose objects are
    /// gone.
    #[error("no slice is claimed for {left}, because the cluster was restored to an older state")]
    RestoredLately {
        /// For how long.
        left: String,
    },
    /// The cluster moves from Whereabouts, which could not see this address.
    #[error("while the cluster moves from Whereabouts, {what} is not given: {reason}")]
    Unshowable {
        /// The address, or what it would be from.
        what: String,
        /// Why Whereabouts could not see it.
        reason: String,
    },
    /// There is no store yet.
    #[error("there is no store at {path} yet")]
    Absent {
        /// The directory.
        path: PathBuf,
        /// Whether an ADD may create one there, too.
        by_add: bool,
    },
}

impl StoreError {
    /// Returns advice, if there is any.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        hint::of(self)
    }

    /// Returns the message and the advice in one line, for logs.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let hint = self.hint().map_or_else(String::new, |hint| format!("; hint: {hint}"));
        format!("{self}{hint}")
    }

    /// Returns whether the error is about a single record, so that a listing continues after it.
    #[must_use]
    pub fn is_of_one_record(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::DamagedObject { .. }
                | Self::Newer { .. }
                | Self::Io { .. }
                | Self::SecondMachine { .. }
        )
    }
}

/// Returns what the server did. An answer of success that cannot be used is no refusal.
const fn refusal(status: u16) -> &'static str {
    if status < 300 { "gave no usable answer to" } else { "refuses" }
}
