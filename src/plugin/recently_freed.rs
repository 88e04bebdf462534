//! The addresses that this node's pods have recently given back, so that a pod keeps its address
//! when its sandbox is recreated.
//!
//! A runtime calls the DEL of a sandbox that died, or of all sandboxes after a boot, a moment
//! before the ADD of the new one. In that moment the address is free, and others ask for addresses.
//! So everything that a DEL, GC or `sweep` frees is noted by the pod's uid, network and interface.
//! The next ADD of that uid tries the address first, and for some seconds ADDs of other uids pass
//! it over while another address is free. All of it is a hint that decides nothing: the claim does.
//! The notes are of one boot and one node, and they are next to the debts, where no store is asked.

use super::note_lines::{NoteLines, millis};
use crate::addr::{AddrSet, Range};
use crate::digest;
use crate::ipam::{Allocation, Attachment, Candidates, NodeName, PodRef, Scope, Slot, Source};
use std::borrow::Cow;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// For how long other pods pass over what was freed.
const SPARED: Duration = Duration::from_secs(10);
/// For how long the address that a pod had is tried first.
const KEPT: Duration = Duration::from_secs(3600);

/// The key of what was freed for a call that names no pod.
const NO_POD: &str = "-";

/// One line: milliseconds since 1970, then hashes that tell who held the address and where, then
/// the address itself.
#[derive(Debug)]
struct Line<'l> {
    at: u64,
    /// The hash of the pod's uid, the network and the interface.
    key: &'l str,
    container: &'l str,
    scope: &'l str,
    address: &'l str,
}

impl<'l> Line<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next();
        let (at, key, container, scope) = (word()?.parse().ok()?, word()?, word()?, word()?);
        Some(Self { at, key, container, scope, address: word()? })
    }
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, key, container, scope, address } = self;
        writeln!(f, "{at} {key} {container} {scope} {address}")
    }
}

/// The addresses that an ADD tries, and those that it leaves to others.
#[derive(Debug, Default)]
pub struct Lately {
    own: Vec<IpAddr>,
    others: Vec<IpAddr>,
    /// What is not given at all: it is in use outside of the store.
    in_use: Vec<IpAddr>,
}

/// The notes of one node, see the module.
#[derive(Debug)]
pub struct Freed {
    lines: NoteLines,
    now: SystemTime,
    /// `reuse_after`: for how long a freed address is not given to another attachment.
    rest: Option<Duration>,
}

impl Freed {
    /// Returns the notes of a node that has its debts in the directory `debts`.
    #[must_use]
    pub fn new(debts: &Path, node: &NodeName, now: SystemTime) -> Self {
        let path = debts.with_file_name("freed").join(node.as_str());
        Self { lines: NoteLines { path }, now, rest: None }
    }

    /// Returns the same for a network whose freed addresses rest for some time.
    #[must_use]
    pub fn resting(self, rest: Option<Duration>) -> Self {
        Self { rest, ..self }
    }

    /// Notes an address that was freed just now. A failure to note it fails nothing.
    pub fn note(&self, freed: &Allocation) {
        let attachment = &freed.record.attachment;
        let key = match key(attachment, freed.record.pod.as_ref()) {
            Some(key) => key,
            None if self.rest.is_some() => NO_POD.to_owned(),
            None => return,
        };
        let (container, scope) =
            (digest::short(&[attachment.container.as_str()]), hash_of(&freed.scope));
        let address = freed.address.to_string();
        let line = Line {
            at: millis(self.now),
            key: &key,
            container: &container,
            scope: &scope,
            address: &address,
        };
        if let Err(error) = self.lines.add(&line.to_string()) {
            tracing::debug!(%error, "what was freed could not be noted");
        }
    }

    /// Returns what an ADD of a pod must know. A pod without a uid gets the lowest free address as
    /// always, unless freed addresses rest.
    #[must_use]
    pub fn lately(&self, attachment: &Attachment, pod: Option<&PodRef>, scope: &Scope) -> Lately {
        let key = key(attachment, pod);
        let spared = key.as_ref().map(|_| SPARED).max(self.rest);
        let Some(spared) = spared else {
            return Lately::default();
        };
        let (mut lately, mut container, scope, now) =
            (Lately::default(), None, hash_of(scope), millis(self.now));
        let end = self.lines.end();
        // Starts with the newest line. After the clock was set back, no address stays recent
        // forever.
        for line in end
            .lines()
            .rev()
            .filter_map(Line::parse)
            .filter(|line| line.scope == scope && line.at <= now)
        {
            let age = Duration::from_millis(now - line.at);
            if Some(line.key) == key.as_deref() {
                // Only what the pod's newest sandbox had counts, not what an earlier one had.
                if age < KEPT && *container.get_or_insert(line.container) == line.container {
                    lately.own.extend(line.address.parse::<IpAddr>());
                }
            } else if age < spared {
                lately.others.extend(line.address.parse::<IpAddr>());
            }
        }
        lately.others.sort_unstable();
        lately.others.dedup();
        lately
    }
}

impl Lately {
    /// Adds addresses that are remembered for longer. They come after the others.
    #[must_use]
    pub fn and(mut self, own: &[IpAddr], others: Vec<IpAddr>) -> Self {
        let new: Vec<IpAddr> =
            own.iter().copied().filter(|address| !self.own.contains(address)).collect();
        self.own.extend(new);
        self.others.extend(others);
        self.others.sort_unstable();
        self.others.dedup();
        self
    }

    /// Returns the same without addresses that this node or another host is known to have.
    #[must_use]
    pub fn without(self, in_use: Vec<IpAddr>) -> Self {
        Self { in_use, ..self }
    }

    /// Returns how many candidates of a slot are in use outside of the store.
    #[must_use]
    pub fn passed_over(&self, slot: &Slot) -> usize {
        let is_candidate = |address: &&IpAddr| {
            slot.candidates.iter().any(|candidates| candidates.addresses.contains(**address))
        };
        match slot.source {
            Source::Dynamic => self.in_use.iter().filter(is_candidate).count(),
            Source::Requested | Source::Static => 0,
        }
    }

    /// Returns the sets from which a slot's address is taken, in order: what its pod had; what no
    /// other pod had a moment ago; the rest.
    #[must_use]
    pub fn order<'s>(&self, slot: &'s Slot) -> Vec<(Cow<'s, AddrSet>, &'s Candidates)> {
        let mut ordered = Vec::new();
        if slot.source == Source::Dynamic {
            for address in &self.own {
                let candidates = slot
                    .candidates
                    .iter()
                    .find(|candidates| candidates.addresses.contains(*address));
                ordered.extend(candidates.map(|candidates| {
                    (Cow::Owned(AddrSet::from_range(&Range::single(*address))), candidates)
                }));
            }
            for candidates in &slot.candidates {
                let spared: Vec<IpAddr> = self
                    .others
                    .iter()
                    .copied()
                    .filter(|address| candidates.addresses.contains(*address))
                    .collect();
                if spared.is_empty() {
                    continue;
                }
                let mut left = candidates.addresses.clone();
                spared.into_iter().for_each(|address| left.remove(&Range::single(address)));
                if 0 < left.count() {
                    ordered.push((Cow::Owned(left), candidates));
                }
            }
        }
        ordered.extend(
            slot.candidates
                .iter()
                .map(|candidates| (Cow::Borrowed(&candidates.addresses), candidates)),
        );
        if 0 < self.passed_over(slot) {
            for (candidates, _) in &mut ordered {
                let in_use = self.in_use.iter().filter(|address| candidates.contains(**address));
                let in_use: Vec<Range> = in_use.copied().map(Range::single).collect();
                if !in_use.is_empty() {
                    let left = candidates.to_mut();
                    in_use.iter().for_each(|address| left.remove(address));
                }
            }
        }
        ordered
    }
}

fn key(attachment: &Attachment, pod: Option<&PodRef>) -> Option<String> {
    let uid = pod?.uid.as_ref()?;
    Some(digest::short(&[uid, attachment.network.as_str(), attachment.ifname.as_str()]))
}

fn hash_of(scope: &Scope) -> String {
    digest::short(&[scope.name().unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::super::note_lines::{LARGEST, READ};
    use super::*;
    use crate::ipam::{ContainerId, IfName, NetworkName, Part, Record};
    use std::time::UNIX_EPOCH;

    fn freed(uid: usize, now: SystemTime) -> Allocation {
        let attachment = Attachment {
            node: NodeName::parse("n1").unwrap(),
            network: NetworkName::parse("net").unwrap(),
            container: ContainerId::parse(&format!("c{uid}")).unwrap(),
            ifname: IfName::parse("net1").unwrap(),
        };
        let pod = Some(PodRef {
            namespace: "default".to_owned(),
            name: "p".to_owned(),
            uid: Some(format!("uid-{uid}")),
        });
        let held = Record {
            attachment,
            pod,
            netns: None,
            view: None,
            boot_id: String::new(),
            since: now,
            source: Source::Dynamic,
            part: Part { index: 0, of: 1 },
            prefix: 24,
            gateway: None,
        };
        Allocation {
            scope: Scope::default(),
            address: "10.0.0.1".parse().unwrap(),
            record: held,
            version: None,
        }
    }

    /// A node that creates a thousand pods per hour for a year has no larger file than one that
    /// created a thousand pods, and the newest pods are known.
    #[test]
    fn what_is_noted_does_not_grow_without_end() {
        let root = std::env::temp_dir().join(format!("hereabouts-freed-{}", std::process::id()));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let noted = Freed::new(&root.join("debts"), &NodeName::parse("n1").unwrap(), now);
        for uid in 0..10_000 {
            noted.note(&freed(uid, now));
        }
        let length = noted.lines.path.metadata().unwrap().len();
        assert!(READ < length && length <= LARGEST + 200, "{length}");
        for (uid, is_known) in [(0, false), (9_999, true), (9_500, true)] {
            let held = freed(uid, now).record;
            let lately = noted.lately(&held.attachment, held.pod.as_ref(), &Scope::default());
            assert_eq!(!lately.own.is_empty(), is_known, "{uid}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
