//! What a store tells about the slices of pools, and what is done with them beside ADD and DEL.

use super::{Filter, StoreError};
use crate::ipam::{Block, NodeName};
use crate::retry::Deadline;
use std::net::IpAddr;
use std::time::SystemTime;

/// A slice and its owner, as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The name of the object.
    pub name: String,
    /// The name of the pool.
    pub pool: String,
    /// The addresses.
    pub block: Block,
    /// The node that owns it.
    pub node: String,
    /// When the node got it (RFC 3339).
    pub since: String,
    /// When an operator released it because the node is off (RFC 3339).
    pub released: Option<String>,
    /// When its node marked it because it had given the slice back before the cluster was restored
    /// (RFC 3339).
    pub returned: Option<String>,
    /// How many addresses of it are held, if its node has published that.
    pub published: Option<Published>,
}

/// How many addresses of a slice are held, as its node has published it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// When the node wrote it, by the clock of the node. It writes only what has changed.
    pub at: SystemTime,
    /// The number of addresses.
    pub count: u32,
}

/// An interface, and the addresses of one slice that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SliceHolder {
    /// The addresses, in order. Never empty.
    pub addresses: Vec<IpAddr>,
    /// The namespace of the pod, or empty if the runtime gave none.
    pub namespace: String,
    /// The name of the pod, or empty if the runtime gave none.
    pub pod: String,
    /// The interface.
    pub ifname: String,
    /// The network.
    pub network: String,
    /// Since when, in whole seconds.
    pub since: SystemTime,
}

/// A slice and the holders that its node has published. A slice may have more of them than an object
/// can list: then they are fewer than the number of addresses says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedSlice {
    /// The slice.
    pub slice: Slice,
    /// The holders. Empty if the node has published nothing.
    pub holders: Vec<SliceHolder>,
}

/// Published slices, read page by page.
pub type PublishedListing<'s> = Box<dyn Iterator<Item = Result<PublishedSlice, StoreError>> + 's>;

/// What a node has published about a slice of its own, and how its files differ from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The slice.
    pub slice: Slice,
    /// The holders that are in the files and were not published, or not so.
    pub unpublished: Vec<SliceHolder>,
    /// The holders that were published and are not in the files, or not so.
    pub outdated: Vec<SliceHolder>,
}

/// A slice that this node owns or owned, as its notes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSlice {
    /// The name of the object.
    pub name: String,
    /// What the node may do with it: `asked`, `unconfirmed`, `owned`, `closing` or `lost`.
    pub state: &'static str,
    /// How many addresses of it are held.
    pub held: usize,
}

/// What [`Slices::sync`] has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// The slices whose objects were gone and are there again.
    pub created_again: Vec<String>,
    /// The slices that are not this node's any more.
    pub lost: Vec<String>,
    /// How many slices were given back.
    pub given_back: usize,
    /// Why what is held was not published, if that failed. It decides nothing.
    pub unpublished: Option<String>,
}

/// Why a slice is not removed, or that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It was removed.
    Done,
    /// No slice has this name.
    Absent,
    /// It was not released, so its node gives addresses from it.
    NotReleased,
    /// Its node may still give addresses from it: the reason in words.
    NodeMayLive(String),
}

/// Returns whether the node may keep the last empty slice of a pool for a while.
pub type Keeps<'k> = &'k dyn Fn(&str) -> bool;

/// The slices of the cluster.
pub trait Slices {
    /// Returns all slices, or those of one node.
    ///
    /// # Errors
    /// They cannot be listed.
    fn all(&self, node: Option<&NodeName>, deadline: &Deadline) -> Result<Vec<Slice>, StoreError>;

    /// Returns what this node knows about its slices. Asks nobody.
    ///
    /// # Errors
    /// The notes or the files cannot be read.
    fn own(&self) -> Result<Vec<OwnSlice>, StoreError>;

    /// Returns what nodes publish about the slices that the filter may select: by node and scope.
    /// For people only: it decides nothing. On a node, its own slices are left out, because its
    /// files know more.
    ///
    /// # Errors
    /// They cannot be listed.
    fn published(&self, filter: &Filter) -> Result<PublishedListing<'_>, StoreError>;

    /// Compares what this node has published with its files. Returns nothing if the command does not
    /// act for this node.
    ///
    /// # Errors
    /// The slices cannot be listed, or the files cannot be read.
    fn compare(&self, deadline: &Deadline) -> Result<Vec<Compared>, StoreError>;

    /// Compares this node's slices with the cluster: creates those again whose objects are gone,
    /// stops the use of those that are not its own any more, gives empty ones back, and publishes
    /// what is held in the others. May be repeated.
    ///
    /// # Errors
    /// Something is left for the next time.
    fn sync(&self, keeps: Keeps<'_>, deadline: &Deadline) -> Result<Synced, StoreError>;

    /// Gives empty slices of this node back. Returns how many. May be repeated.
    ///
    /// # Errors
    /// Some are left for the next time.
    fn give_back(&self, keeps: Keeps<'_>, deadline: &Deadline) -> Result<usize, StoreError>;

    /// Marks the slices of a node that is off: nobody gives addresses from them. Returns those that
    /// were marked. May be repeated.
    ///
    /// # Errors
    /// Some are not marked.
    fn release(&self, node: &NodeName, deadline: &Deadline) -> Result<Vec<Slice>, StoreError>;

    /// Removes a slice that was released, so that another node may claim it, if its node has been
    /// silent for ten minutes or has booted since.
    ///
    /// # Errors
    /// It is not known whether that is so, or the slice was not removed.
    fn remove(&self, name: &str, deadline: &Deadline) -> Result<Removal, StoreError>;
}
