//! What an operator does with a store beyond the verbs: looks whether it is
//! sound, and mends it. What can be wrong, and how it is mended, each store
//! knows for itself; here is what all of them say of it.

use super::census::Census;
use super::{Store, StoreError};
use crate::ipam::{Allocation, Draft, Life, NodeName, Word};
use crate::retry::Deadline;
use std::path::{Path, PathBuf};

/// Whether the sandbox of a record of this node is there.
pub type IsAlive<'a> = &'a dyn Fn(&Draft) -> Life;

/// Whether a record of another machine is left behind, given who says so.
pub type IsLeftBehind<'a> = &'a dyn Fn(&Draft, Word) -> bool;

/// What was done with the records of other machines under this node's name.
#[derive(Debug, Default)]
pub struct TakenOver {
    /// Their machine is gone.
    pub freed: Vec<Allocation>,
    /// Their machine may live.
    pub left: Vec<Allocation>,
}

/// How much of a store is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// At least what is of the node that looks: where every node looks, none
    /// should read what is of all the others.
    Own,
}

/// A store as its operator has it. Each call may run beside everything else.
pub trait Upkeep: Store {
    /// Sees to it that the node that is acted for remembers all that it can, so
    /// that a repair can bring it back.
    ///
    /// # Errors
    /// The store cannot be read.
    fn complete(&self, deadline: Deadline) -> Result<(), StoreError> {
        let _ = deadline;
        Ok(())
    }

    /// Whether a call of the node that is acted for has seen that the store was set
    /// back to an older state, and nothing was repaired since.
    fn set_back(&self) -> Option<SetBack> {
        None
    }

    /// Says that all was repaired that could be after this.
    fn forget_set_back(&self, known: &SetBack) {
        let _ = known;
    }

    /// Frees what a machine that is gone has left under this node's name, by the
    /// word of the token of the node's own pod; a store that knows no Nodes, nothing.
    ///
    /// # Errors
    /// Something may be held still; a repeat is safe.
    fn take_over(&self, node_uid: &str, is_left_behind: IsLeftBehind<'_>, deadline: Deadline) -> Result<TakenOver, StoreError> {
        let _ = (node_uid, is_left_behind, deadline);
        Ok(TakenOver::default())
    }

    /// Reads the store and says what is wrong; changes nothing.
    ///
    /// # Errors
    /// There is no store, it cannot be read, or it is of a newer format.
    fn verify(&self, extent: Extent, is_alive: IsAlive<'_>, deadline: Deadline) -> Result<Verified, StoreError>;

    /// What calls of the node that is acted for, killed or given up, have left
    /// behind.
    ///
    /// # Errors
    /// It cannot be told.
    fn left_overs(&self, is_alive: IsAlive<'_>, deadline: Deadline) -> Result<Vec<Finding>, StoreError>;

    /// Mends one finding, after another look.
    ///
    /// # Errors
    /// It is as it was; a repeat is safe.
    fn repair(&self, finding: &Finding, is_alive: IsAlive<'_>, deadline: Deadline) -> Result<Repaired, StoreError>;

    /// Removes what is kept for names that nothing holds an address of any more:
    /// each network and scope that there ever was would leave some. How much.
    ///
    /// # Errors
    /// Some of it may stay; a repeat is safe.
    fn tidy(&self, deadline: Deadline) -> Result<usize, StoreError>;

    /// Whether a node has ever used this store, where the store keeps that.
    fn knows(&self, node: &NodeName) -> bool;

    /// Frees the address of a record that cannot be read, named as
    /// [`StoreError::Damaged`] names it. Whether it was still there and damaged.
    ///
    /// # Errors
    /// It may stand still; a repeat is safe.
    fn release_damaged(&self, record: &Path, deadline: Deadline) -> Result<bool, StoreError>;
}

/// A store that was set back to an older state, as a call has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBack {
    /// The revision that had been seen before.
    pub noted: u64,
    /// That of the answer.
    pub answered: u64,
    /// Milliseconds since 1970.
    pub at: u64,
}

/// What a look at the whole store showed.
#[derive(Debug)]
pub struct Verified {
    /// The store's format, where it has one and it can be read.
    pub format: Option<u64>,
    /// Records that can be read.
    pub records: usize,
    /// Entries by which holders find their records.
    pub entries: usize,
    /// What is wrong, in order.
    pub findings: Vec<Finding>,
    /// What was not looked at, and why.
    pub unseen: Option<String>,
    /// Who holds how much, and what of it is in doubt.
    pub census: Census,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What, for programs; stable.
    pub problem: &'static str,
    /// What it means and what to do, for people.
    pub meaning: &'static str,
    /// Whether [`Upkeep::repair`] mends it, on the right node.
    pub is_repairable: bool,
    /// Whether this is the right node.
    pub is_ours: bool,
    /// Where.
    pub path: PathBuf,
    /// The other place that it is about.
    pub other: Option<PathBuf>,
    /// What was read or what the system said, where it says more.
    pub reason: String,
    /// The node that it belongs to; what is everybody's has none.
    pub node: Option<String>,
    /// By which the store that found it finds it again; opaque to everybody else.
    pub(super) key: String,
}

/// How a repair ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repaired {
    /// Mended.
    Done,
    /// It is no longer so.
    Gone,
    /// It belongs to another node, which has to repair it.
    NotYours,
    /// An operator has to decide.
    ByHand,
    /// What was lost has another holder by now, who is named.
    GivenAway(String),
}
