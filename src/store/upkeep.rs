//! The interface behind the operator commands verify, repair and sweep. Each store itself knows its
//! problems and their repairs; this file has the terms that all stores share.

use super::census::Census;
use super::slices::Slices;
use super::{Store, StoreError};
use crate::ipam::{Allocation, Life, NodeName, NodeRelation, Record};
use crate::retry::Deadline;
use std::path::{Path, PathBuf};

/// Returns whether the sandbox of a record of this node exists.
pub type IsAlive<'a> = &'a dyn Fn(&Record) -> Life;

/// Returns whether a record of another machine was left behind, given the relation of the two
/// machines.
pub type IsLeftBehind<'a> = &'a dyn Fn(&Record, NodeRelation) -> bool;

/// The result of taking over the records of other machines under this node's name.
#[derive(Debug, Default)]
pub struct TakenOver {
    /// The records whose machine is gone.
    pub freed: Vec<Allocation>,
    /// The records whose machine may be alive.
    pub left: Vec<Allocation>,
}

/// How much of a store is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// At least the records of the node that runs the check. For a check that every node runs, so
    /// that no node reads the records of all the others.
    Own,
}

/// A store as its operator uses it. Each call may run at the same time as any other call.
pub trait Upkeep: Store {
    /// Returns the slices of the cluster, if the store has slices.
    fn slices(&self) -> Option<&dyn Slices> {
        None
    }

    /// Makes sure that the node that the store acts for remembers all records that it can, so that
    /// a repair can recreate them.
    ///
    /// # Errors
    /// The store cannot be read.
    fn complete(&self, deadline: Deadline) -> Result<(), StoreError> {
        let _ = deadline;
        Ok(())
    }

    /// Returns the rollback of the store to an older state, if a call of the node that the store
    /// acts for has seen one and nothing was repaired since.
    fn set_back(&self) -> Option<SetBack> {
        None
    }

    /// Notes that everything which can be repaired after this rollback has been repaired.
    fn forget_set_back(&self, known: &SetBack) {
        let _ = known;
    }

    /// Frees the records that a machine which is gone has left under this node's name, on the
    /// evidence of the token of the node's own pod. A store without Nodes frees nothing.
    ///
    /// # Errors
    /// Some records may still be held. The call may be repeated.
    fn take_over(
        &self,
        node_uid: &str,
        is_left_behind: IsLeftBehind<'_>,
        deadline: Deadline,
    ) -> Result<TakenOver, StoreError> {
        let _ = (node_uid, is_left_behind, deadline);
        Ok(TakenOver::default())
    }

    /// Reads the store and reports its problems; changes nothing.
    ///
    /// # Errors
    /// There is no store, it cannot be read, or it has a newer format.
    fn verify(
        &self,
        extent: Extent,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Verified, StoreError>;

    /// Returns what killed or abandoned calls of the node that the store acts for have left behind.
    ///
    /// # Errors
    /// The store cannot tell.
    fn orphans(
        &self,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Vec<Finding>, StoreError>;

    /// Repairs one finding, after another check.
    ///
    /// # Errors
    /// The problem still exists. The call may be repeated.
    fn repair(
        &self,
        finding: &Finding,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Repaired, StoreError>;

    /// Removes what is kept for names under which no address is held any more. Without this, each
    /// network and scope that ever existed would leave something behind. Returns how much was
    /// removed.
    ///
    /// # Errors
    /// Some of it may stay. The call may be repeated.
    fn tidy(&self, deadline: Deadline) -> Result<usize, StoreError>;

    /// Returns whether a node has ever used this store, if the store keeps that.
    fn knows(&self, node: &NodeName) -> bool;

    /// Frees the address of a record that cannot be read and that is named as
    /// [`StoreError::Damaged`] names it. Returns whether the record still existed and was damaged.
    ///
    /// # Errors
    /// The record may still exist. The call may be repeated.
    fn release_damaged(&self, record: &Path, deadline: Deadline) -> Result<bool, StoreError>;
}

/// The rollback of a store to an older state, as a call has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBack {
    /// The revision that had been seen before.
    pub noted: u64,
    /// The revision of the answer.
    pub answered: u64,
    /// Milliseconds since 1970.
    pub at: u64,
}

/// The result of checking the whole store.
#[derive(Debug)]
pub struct Verified {
    /// The store's format, if it has one and it can be read.
    pub format: Option<u64>,
    /// The number of readable records.
    pub records: usize,
    /// The number of entries by which holders find their records.
    pub entries: usize,
    /// The problems, in order.
    pub findings: Vec<Finding>,
    /// What was not checked, and why.
    pub unseen: Option<String>,
    /// Which node holds how many records, and which records are in doubt.
    pub census: Census,
}

/// One problem that was found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The kind of the problem, for programs; stable.
    pub problem: &'static str,
    /// What the problem means and what to do, for people.
    pub meaning: &'static str,
    /// What a repair has done, before the path: `removed`.
    pub done: &'static str,
    /// Whether [`Upkeep::repair`] repairs it, on the right node.
    pub is_repairable: bool,
    /// Whether this is the right node.
    pub is_ours: bool,
    /// The path of the problem.
    pub path: PathBuf,
    /// The other path that the problem concerns.
    pub other: Option<PathBuf>,
    /// The content that was read or the system's error, if it says more.
    pub reason: String,
    /// The node that the finding belongs to; `None` if it belongs to no node.
    pub node: Option<String>,
    /// The key by which the store finds the finding again; opaque to all other code.
    pub(super) key: String,
}

/// The result of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repaired {
    /// The problem was repaired.
    Done,
    /// The problem no longer exists.
    Gone,
    /// The finding belongs to another node, which must repair it.
    NotYours,
    /// An operator must decide.
    ByHand,
    /// The lost address now has another holder, who is named here.
    GivenAway(String),
}
