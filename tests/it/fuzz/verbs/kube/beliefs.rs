//! What a node knows, and what it may believe although it has changed. Its hint of taken addresses
//! decides nothing, but it determines which address comes first, and for how long "full" is
//! reported.

use super::super::claims::Asked;
use super::super::{Held, Key, key};
use hereabouts::addr::{AddrSet, Range};
use hereabouts::ipam::{Allocation, AllocationOrder, Attachment, Scope};
use hereabouts::retry::Deadline;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The longest time for which "full" is believed.
const BELIEVED: Duration = Duration::from_secs(10);

/// The beliefs of one node.
#[derive(Default)]
pub(super) struct Beliefs {
    /// Taken by this node, and not freed since: it knows this.
    told: BTreeSet<Key>,
    /// Freed by others: it may believe that they are taken.
    outdated: BTreeSet<Key>,
    /// Scopes in which it may have met another node's address: it need not begin with the lowest.
    astray: BTreeSet<Scope>,
    /// The time until which it reports "full" for any range that it believes to be taken: a listing
    /// shows the whole scope.
    full: BTreeMap<Scope, Deadline>,
    /// Deleted without its knowledge: it may remember who held it.
    gone: Vec<(Key, Attachment)>,
}

impl Beliefs {
    pub(super) fn take(&mut self, allocation: &Allocation) {
        let key = key(allocation);
        self.gone.retain(|(gone, attachment)| {
            (gone, attachment) != (&key, &allocation.record.attachment)
        });
        self.outdated.remove(&key);
        self.told.insert(key);
    }

    /// Frees an address by this node.
    pub(super) fn free(&mut self, key: &Key) {
        self.told.remove(key);
        self.outdated.remove(key);
    }

    pub(super) fn freed_elsewhere(&mut self, key: &Key) {
        self.told.remove(key);
        self.outdated.insert(key.clone());
    }

    pub(super) fn gone(&mut self, key: &Key, attachment: &Attachment) {
        self.gone.push((key.clone(), attachment.clone()));
    }

    /// Notes that a node has found that what it remembers is gone. It may believe the address to be
    /// free, whoever has got it since.
    pub(super) fn forget(&mut self, attachment: &Attachment, address: Option<&Key>) {
        let is_forgotten = |(gone, of): &(Key, Attachment)| {
            of == attachment && address.is_none_or(|address| address == gone)
        };
        for (key, _) in self.gone.iter().filter(|gone| is_forgotten(gone)) {
            self.told.remove(key);
        }
        self.gone.retain(|gone| !is_forgotten(gone));
    }

    pub(super) fn remembers(&self, key: &Key, attachment: &Attachment) -> bool {
        self.gone.iter().any(|(gone, of)| (gone, of) == (key, attachment))
    }

    pub(super) fn say_full(&mut self, asked: &Asked<'_>) {
        self.full.insert(asked.scope.clone(), Deadline::after(BELIEVED));
    }

    /// Returns whether it may still report "full", although a candidate is free now.
    pub(super) fn may_say_full(&self, held: &Held, asked: &Asked<'_>) -> bool {
        let lasts = self.full.get(asked.scope).is_some_and(|until| !until.left().is_zero());
        lasts && self.surely_free(asked, &asked.free(held)).count() == 0
    }

    /// Returns whether it knows all addresses that are held. It does not know those of others, nor
    /// its own from before it lost its files.
    fn knows_all(&self, held: &Held, asked: &Asked<'_>) -> bool {
        let candidates = asked.candidates();
        held.keys()
            .filter(|(scope, address)| scope == asked.scope && candidates.contains(*address))
            .all(|key| self.told.contains(key))
    }

    /// Notes whether a claim may try an address that another node holds.
    pub(super) fn may_miss(&mut self, held: &Held, asked: &Asked<'_>) {
        if !self.knows_all(held, asked) {
            self.astray.insert(asked.scope.clone());
        }
    }

    /// Returns whether a claim takes the lowest address that this node believes to be free.
    /// Addresses that the attachment has lost come first.
    pub(super) fn is_lowest_first(&self, order: AllocationOrder, asked: &Asked<'_>) -> bool {
        let straight = order == AllocationOrder::Lowest || !self.astray.contains(asked.scope);
        let candidates = asked.candidates();
        let lost = |(gone, of): &(Key, Attachment)| {
            Some(of) == asked.attachment && gone.0 == *asked.scope && candidates.contains(gone.1)
        };
        straight && !self.gone.iter().any(lost)
    }

    /// Returns the free addresses that this node cannot believe to be taken.
    pub(super) fn surely_free(&self, asked: &Asked<'_>, free: &AddrSet) -> AddrSet {
        let mut left = free.clone();
        for (_, address) in self.outdated.iter().filter(|(scope, _)| scope == asked.scope) {
            left.remove(&Range::single(*address));
        }
        left
    }

    /// Returns whether it reports that there is room; if it does not know, it may report either.
    pub(super) fn room(&self, held: &Held, asked: &Asked<'_>) -> Option<bool> {
        if 0 < asked.free(held).count() {
            return (!self.may_say_full(held, asked)).then_some(true);
        }
        self.knows_all(held, asked).then_some(false)
    }
}
