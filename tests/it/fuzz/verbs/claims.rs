//! Claims of a sequence, and what an answer must satisfy. The promises of each store are in its own
//! file.

use super::{Held, Key, PODS, RANGES, Run, Step, candidates, key};
use hereabouts::addr::{AddrSet, Range};
use hereabouts::ipam::{Allocation, Attachment, Part, Record, Scope};
use hereabouts::store::{Access, Claim};
use std::net::IpAddr;

/// Who asks for an address, and from which candidates.
pub(super) struct Asked<'a> {
    pub(super) node: usize,
    pub(super) boot: String,
    #[cfg_attr(
        not(feature = "kube"),
        allow(dead_code, reason = "one store alone remembers what an attachment has lost")
    )]
    pub(super) attachment: Option<&'a Attachment>,
    pub(super) scope: &'a Scope,
    pub(super) range: usize,
}

impl Asked<'_> {
    pub(super) fn candidates(&self) -> AddrSet {
        candidates(self.range)
    }

    /// Returns the candidates that nobody holds.
    pub(super) fn free(&self, held: &Held) -> AddrSet {
        self.without(held.keys())
    }

    /// Returns the candidates that are not among these.
    pub(super) fn without<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> AddrSet {
        let mut left = self.candidates();
        for (_, address) in keys.filter(|(scope, _)| scope == self.scope) {
            left.remove(&Range::single(*address));
        }
        left
    }

    /// Removes from the map what this node recorded before its last boot.
    pub(super) fn sweep(&self, held: &mut Held, node: &str, swept: impl Fn(&Allocation) -> bool) {
        held.retain(|_, held| {
            held.record.boot_id == self.boot
                || held.record.attachment.node.as_str() != node
                || !swept(held)
        });
    }
}

/// What a claim may answer.
pub(super) struct Promise {
    /// The addresses that it may take.
    pub(super) among: AddrSet,
    /// None above this one.
    pub(super) at_most: Option<IpAddr>,
    /// Whether it may say that there is none.
    pub(super) full: bool,
}

pub(super) fn lowest(set: &AddrSet) -> Option<IpAddr> {
    set.ranges().next().map(|range| range.first_address())
}

impl Promise {
    /// Returns a promise of the lowest free address.
    pub(super) fn lowest(free: AddrSet) -> Self {
        Self { at_most: lowest(&free), full: lowest(&free).is_none(), among: free }
    }

    fn check(&self, claim: Option<IpAddr>) {
        match claim {
            Some(address) => {
                assert!(self.among.contains(address), "{address} is not free, or no candidate");
                assert!(
                    self.at_most.is_none_or(|most| address <= most),
                    "{address} is above the lowest free one, {:?}",
                    self.at_most
                );
            }
            None => {
                assert!(self.full, "full, though an address is free: {:?}", lowest(&self.among))
            }
        }
    }
}

impl Run {
    pub(super) fn add(&mut self, node: usize, step: &Step) {
        let record = self.record(node, step.at(1, super::CONTAINERS), PODS[step.at(4, PODS.len())]);
        let held = self.held_by(&record.attachment);
        if !held.is_empty() {
            let mut session = self.session(node, Access::Allocate);
            assert_eq!(session.holdings(&record.attachment).unwrap().held.len(), held.len());
            held.iter().for_each(|held| session.confirm(held).unwrap());
            drop(session);
            return self.count("repeat");
        }
        let of = u16::try_from(1 + step.at(5, 3)).unwrap();
        let parts = (0..of).map(|index| Part { index, of });
        let (made, full) = self.claim(node, step, &record, parts);
        if full {
            // All or nothing.
            made.iter().rev().for_each(|allocation| self.release(node, allocation));
            self.count("full");
        }
    }

    /// Claims what a repeated ADD lacks.
    pub(super) fn more(&mut self, node: usize, step: &Step) {
        let record = self.record(node, step.at(1, super::CONTAINERS), None);
        let index = u16::try_from(self.held_by(&record.attachment).len()).unwrap();
        let (_, full) =
            self.claim(node, step, &record, std::iter::once(Part { index, of: index + 1 }));
        self.count(if full { "no more" } else { "more" });
    }

    /// Claims an address for each part, in one session, until the range is full.
    fn claim(
        &mut self,
        node: usize,
        step: &Step,
        record: &Record,
        parts: impl Iterator<Item = Part>,
    ) -> (Vec<Allocation>, bool) {
        let mut held = std::mem::take(&mut self.held);
        let scopes = &self.world.names().scopes;
        let asked = Asked {
            node,
            boot: record.boot_id.clone(),
            attachment: Some(&record.attachment),
            scope: &scopes[step.at(3, scopes.len())],
            range: step.at(2, RANGES.len()),
        };
        let mut session = self.session(node, Access::Allocate);
        session.holdings(&record.attachment).unwrap();
        let (mut made, mut full) = (Vec::new(), false);
        for part in parts {
            let record = Record { part, ..record.clone() };
            let promise = self.world.promise(&mut held, &asked);
            let claim = match session.claim(asked.scope, &asked.candidates(), &record).unwrap() {
                Claim::Claimed(allocation) => Some(allocation),
                Claim::Full => None,
            };
            promise.check(claim.as_ref().map(|allocation| allocation.address));
            self.world.claimed(&mut held, &asked, claim.as_ref());
            let Some(allocation) = claim else {
                full = true;
                break;
            };
            assert_eq!((&allocation.scope, &allocation.record), (asked.scope, &record));
            held.insert(key(&allocation), allocation.clone());
            made.push(allocation);
        }
        drop(session);
        self.held = held;
        self.answers.extend(made.iter().cloned());
        made.iter().for_each(|_| self.count("claim"));
        (made, full)
    }
}
