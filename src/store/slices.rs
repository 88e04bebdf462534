//! What a store tells about the slices of pools, and what is done with them beside ADD and DEL.

use super::StoreError;
use crate::ipam::{Block, NodeName};
use crate::retry::Deadline;

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

    /// Compares this node's slices with the cluster: creates those again whose objects are gone,
    /// stops the use of those that are not its own any more, and gives empty ones back. May be
    /// repeated.
    ///
    /// # Errors
    /// Something is left for the next time.
    fn sync(&self, deadline: &Deadline) -> Result<Synced, StoreError>;

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
