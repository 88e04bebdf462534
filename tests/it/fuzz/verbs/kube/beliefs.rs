//! What a node knows, and what it may believe that is no longer so: its hint of
//! what is taken decides nothing, but which address comes first, and for how
//! long "full" is said.

use super::super::claims::Asked;
use super::super::{Held, Key, key};
use hereabouts::addr::{AddrSet, Range};
use hereabouts::ipam::{Allocation, AllocationOrder, Attachment, Scope};
use hereabouts::retry::Deadline;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long "full" is believed at the longest.
const BELIEVED: Duration = Duration::from_secs(10);

/// Of one node.
#[derive(Default)]
pub(super) struct Beliefs {
    /// Taken by this node, and not freed since: it knows.
    told: BTreeSet<Key>,
    /// Freed by others: it may believe that they are taken.
    outdated: BTreeSet<Key>,
    /// Where it may have met another's address: it need not begin at the lowest.
    astray: BTreeSet<Scope>,
    /// Until when it says so of whatever range it believes to be taken: a look
    /// shows the whole scope.
    full: BTreeMap<Scope, Deadline>,
    /// Deleted behind its back: it may remember who held it.
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

    /// By this node.
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

    /// A node that finds what it remembers gone may believe the address to be free,
    /// whoever of its attachments has been given it since.
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

    /// Whether it may still say "full", although a candidate is free by now.
    pub(super) fn may_say_full(&self, held: &Held, asked: &Asked<'_>) -> bool {
        let lasts = self.full.get(asked.scope).is_some_and(|until| !until.left().is_zero());
        lasts && self.surely_free(asked, &asked.free(held)).count() == 0
    }

    /// Whether it knows all that are held. Not those of others, nor its own
    /// from before it lost its files.
    fn knows_all(&self, held: &Held, asked: &Asked<'_>) -> bool {
        let candidates = asked.candidates();
        held.keys()
            .filter(|(scope, address)| scope == asked.scope && candidates.contains(*address))
            .all(|key| self.told.contains(key))
    }

    /// Notes whether a claim may try an address that another holds.
    pub(super) fn may_miss(&mut self, held: &Held, asked: &Asked<'_>) {
        if !self.knows_all(held, asked) {
            self.astray.insert(asked.scope.clone());
        }
    }

    /// Whether a claim takes the lowest that this node believes to be free.
    /// What the attachment has lost comes before.
    pub(super) fn is_lowest_first(&self, order: AllocationOrder, asked: &Asked<'_>) -> bool {
        let straight = order == AllocationOrder::Lowest || !self.astray.contains(asked.scope);
        let candidates = asked.candidates();
        let lost = |(gone, of): &(Key, Attachment)| {
            Some(of) == asked.attachment && gone.0 == *asked.scope && candidates.contains(gone.1)
        };
        straight && !self.gone.iter().any(lost)
    }

    /// The free ones that this node cannot believe to be taken.
    pub(super) fn surely_free(&self, asked: &Asked<'_>, free: &AddrSet) -> AddrSet {
        let mut left = free.clone();
        for (_, address) in self.outdated.iter().filter(|(scope, _)| scope == asked.scope) {
            left.remove(&Range::single(*address));
        }
        left
    }

    /// Whether it says that there is room; where it does not know, either.
    pub(super) fn room(&self, held: &Held, asked: &Asked<'_>) -> Option<bool> {
        if 0 < asked.free(held).count() {
            return (!self.may_say_full(held, asked)).then_some(true);
        }
        self.knows_all(held, asked).then_some(false)
    }
}
