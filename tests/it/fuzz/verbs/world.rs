//! What a sequence must know about a store: how it is opened, lost and edited, and what it promises
//! where the map alone does not say it.

use super::claims::{Asked, Promise};
use super::{Held, Key};
use hereabouts::ipam::{Allocation, Attachment, Record, Scope, Version};
use hereabouts::store::Store;

/// The nodes and scopes of a sequence.
pub(super) struct Names {
    pub(super) nodes: Vec<String>,
    pub(super) scopes: Vec<Scope>,
}

impl Names {
    pub(super) fn new(nodes: &[&str], scopes: &[&str]) -> Self {
        Self {
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            scopes: scopes.iter().map(|scope| Scope::parse(scope).unwrap()).collect(),
        }
    }
}

/// The stores of a sequence, one for each node, and what they promise.
pub(super) trait World {
    fn names(&self) -> &Names;
    fn store(&self, node: usize) -> &dyn Store;
    /// Returns the node of a step.
    fn node(&self, asked: usize) -> usize {
        asked
    }
    /// Returns whether nobody else has records in the store.
    fn is_alone(&self) -> bool {
        true
    }

    /// Returns what a claim may answer. Frees in the map what the store frees for it.
    fn promise(&self, held: &mut Held, asked: &Asked<'_>) -> Promise;
    /// Notes what it has answered.
    fn claimed(&self, _held: &mut Held, _asked: &Asked<'_>, _claim: Option<&Allocation>) {}
    /// Returns whether a store reports that there is room; `None` if it may report either.
    fn room(&self, held: &Held, asked: &Asked<'_>) -> Option<bool> {
        Some(0 < asked.free(held).count())
    }
    /// Returns how a move of the current record ends for a caller that has read `old`.
    fn moves(&self, standing: &Allocation, old: &Allocation, _to: &Record) -> Move {
        if standing == old { Move::Done } else { Move::Changed }
    }
    /// Notes that an address is free now, by a node's call or an operator's.
    fn freed(&self, _by: Option<usize>, _allocation: &Allocation) {}
    /// Notes that a node has found that an attachment does not hold an address, or holds nothing.
    fn forgot(&self, _node: usize, _attachment: &Attachment, _address: Option<&Key>) {}
    /// Returns whether a node may remember what is gone.
    fn remembers(&self, _node: usize, _allocation: &Allocation) -> bool {
        false
    }

    fn reopen(&mut self) {}
    fn reboot(&mut self, _boot: usize, _kept: bool) {}
    fn lose(&mut self, _node: usize) {}
    /// Acts for a node that is off.
    fn operator(&self, _node: usize) -> Option<Box<dyn Store>> {
        None
    }
    /// Deletes a record as no verb does. Returns whether this is possible.
    fn vanish(&self, _held: &Allocation) -> bool {
        false
    }
    /// Changes a record without changing its content.
    fn edit(&self, _held: &Allocation) -> Option<Version> {
        None
    }
    /// Checks that nothing is held any more.
    fn check_nothing_left(&self) {}
}

/// How a move ends.
#[derive(Debug, PartialEq)]
pub(super) enum Move {
    Done,
    Changed,
    #[cfg_attr(
        not(feature = "kube"),
        allow(dead_code, reason = "one store alone has a server that refuses")
    )]
    Refused,
}
