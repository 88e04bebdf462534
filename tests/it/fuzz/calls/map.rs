//! A map of who holds what, and of what each ADD and CHECK must answer. It knows rules and no
//! files.

use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) const CONTAINERS: usize = 6;

/// As `CNI_ARGS`: no pod, one pod twice (recreated with another uid), another pod.
pub(super) const PODS: &[&str] = &[
    "",
    "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=1",
    "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=2",
    "K8S_POD_NAMESPACE=default;K8S_POD_NAME=db;K8S_POD_UID=3",
];

/// What a configuration gives: its text, its scope, and for each address of an ADD the first and
/// last candidate and the prefix. Typed by hand.
pub(super) struct Configuration {
    pub(super) ipam: &'static str,
    scope: &'static str,
    slots: &'static [(&'static str, &'static str, u8)],
}

pub(super) const CONFIGURATIONS: &[Configuration] = &[
    Configuration {
        ipam: r#""range":"10.0.0.0/29""#,
        scope: "",
        slots: &[("10.0.0.1", "10.0.0.6", 29)],
    },
    Configuration {
        ipam: r#""range":"10.0.0.0/28","range_start":"10.0.0.4","range_end":"10.0.0.9""#,
        scope: "",
        slots: &[("10.0.0.4", "10.0.0.9", 28)],
    },
    Configuration {
        ipam: r#""ipRanges":[{"range":"10.0.0.0/29"},{"range":"2001:db8::/125"}]"#,
        scope: "",
        slots: &[("10.0.0.1", "10.0.0.6", 29), ("2001:db8::1", "2001:db8::6", 125)],
    },
    // The second range is soon full: then the first address must be freed again.
    Configuration {
        ipam: r#""ipRanges":[{"range":"10.0.0.0/29"},{"range":"10.0.1.0/30"}]"#,
        scope: "",
        slots: &[("10.0.0.1", "10.0.0.6", 29), ("10.0.1.1", "10.0.1.2", 30)],
    },
    Configuration {
        ipam: r#""range":"10.0.0.0/30","network_name":"blue""#,
        scope: "blue",
        slots: &[("10.0.0.1", "10.0.0.2", 30)],
    },
];

/// The record of an address.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) node: usize,
    pub(super) container: usize,
    pub(super) pod: String,
    pub(super) has_namespace: bool,
    pub(super) index: usize,
    pub(super) of: usize,
    pub(super) prefix: u8,
}

/// Records by scope and address.
pub(super) type Held = BTreeMap<(String, IpAddr), Record>;

#[derive(Default)]
pub(super) struct Map {
    pub(super) held: Held,
}

/// Whether an answer is one that the rules allow.
pub(super) enum Ended {
    /// It is allowed, and this is its kind.
    Right(&'static str),
    /// What was expected.
    Wrong(String),
}

/// One address that an ADD is to get.
struct Slot {
    index: usize,
    of: usize,
    candidates: Vec<IpAddr>,
    prefix: u8,
    requested: bool,
}

/// Returns whether the network namespace of a container of a node exists.
type Exists<'a> = &'a dyn Fn(usize, usize) -> bool;

impl Configuration {
    /// Returns the slots of an ADD, or `None` if the requested address is in no range.
    fn slots(&self, asked: Option<IpAddr>) -> Option<Vec<Slot>> {
        let mut slots: Vec<Slot> = Vec::new();
        for (index, (first, last, prefix)) in self.slots.iter().enumerate() {
            slots.push(Slot {
                index,
                of: self.slots.len(),
                candidates: between(first, last),
                prefix: *prefix,
                requested: false,
            });
        }
        if let Some(asked) = asked {
            let slot = slots.iter_mut().find(|slot| slot.candidates.contains(&asked))?;
            (slot.candidates, slot.requested) = (vec![asked], true);
        }
        Some(slots)
    }
}

/// Returns all addresses from the first to the last. Only the last byte differs.
fn between(first: &str, last: &str) -> Vec<IpAddr> {
    let (mut found, mut next, last): (Vec<IpAddr>, IpAddr, IpAddr) =
        (Vec::new(), first.parse().unwrap(), last.parse().unwrap());
    while next <= last {
        found.push(next);
        next = match next {
            IpAddr::V4(address) => (u32::from(address) + 1).to_be_bytes().into(),
            IpAddr::V6(address) => (u128::from(address) + 1).to_be_bytes().into(),
        };
    }
    found
}

impl Map {
    fn of(&self, node: usize, container: usize) -> Vec<((String, IpAddr), Record)> {
        let mut found: Vec<_> = self
            .held
            .clone()
            .into_iter()
            .filter(|(_, of)| (of.node, of.container) == (node, container))
            .collect();
        found.sort_by_key(|(_, record)| record.index);
        found
    }

    /// Returns the prefix with which an address was printed.
    pub(super) fn prefix(&self, address: IpAddr, node: usize, container: usize) -> u8 {
        self.of(node, container)
            .iter()
            .find(|((_, held), _)| *held == address)
            .map_or(24, |(_, record)| record.prefix)
    }

    /// Returns the expected code of a CHECK.
    pub(super) fn check(&self, node: usize, container: usize, printed: &[IpAddr]) -> u64 {
        let held = self.of(node, container);
        match held.iter().map(|(_, record)| record.of).max() {
            Some(of) if of <= held.len() => {
                let all = held.iter().all(|((_, address), _)| printed.contains(address));
                if all { 0 } else { 103 }
            }
            _ => 102,
        }
    }

    /// Carries out an ADD that was answered with `given`.
    pub(super) fn add(
        &mut self,
        exists: Exists<'_>,
        (node, container): (usize, usize),
        of: &Configuration,
        pod: &str,
        asked: Option<IpAddr>,
        given: &Result<Vec<IpAddr>, u64>,
    ) -> Ended {
        let Some(slots) = of.slots(asked) else {
            return right_if(*given == Err(101), "outside", "the code 101");
        };
        let ours = self.of(node, container);
        let has_namespace = exists(node, container);
        let new = |slot: &Slot| {
            let (index, of, prefix) = (slot.index, slot.of, slot.prefix);
            Record { node, container, pod: pod.to_owned(), has_namespace, index, of, prefix }
        };
        let Some(missing) = lacking(&ours, slots) else {
            return right_if(*given == Err(101), "holds others", "the code 101");
        };
        // A record without its namespace gets the current one.
        for (key, record) in
            ours.iter().filter(|(_, record)| !(record.has_namespace && has_namespace))
        {
            self.held.insert(key.clone(), Record { has_namespace, ..record.clone() });
        }
        let kind = match (ours.is_empty(), missing.is_empty()) {
            (true, _) => "given",
            (_, true) => "repeated",
            _ => "completed",
        };
        let dead = self.dead_of_pod(exists, (node, container), pod, of.scope);
        let mut made = Vec::new();
        let to_claim = self.rehome(missing, dead, of.scope, &new, given, &mut made);
        let moved = !made.is_empty();
        let may_be_taken = |record: &Record| {
            let is_of_same_pod = !pod.is_empty() && name_of(&record.pod) == name_of(pod);
            record.node == node
                && record.container != container
                && match record.has_namespace {
                    true => !exists(node, record.container),
                    false => is_of_same_pod,
                }
        };
        // A call without a pod takes an address over only if it can be no other.
        let may_be_taken = |slot: &Slot, record: &Record| {
            (!pod.is_empty() || slot.candidates.len() == 1) && may_be_taken(record)
        };
        if let Err(code) = self.claim(to_claim, of.scope, &new, &may_be_taken, &mut made) {
            made.iter().for_each(|(key, _)| drop(self.held.remove(key)));
            return right_if(
                *given == Err(code),
                if code == 100 { "full" } else { "taken" },
                &format!("the code {code}"),
            );
        }
        let mut expected: Vec<(usize, IpAddr)> =
            ours.iter().map(|((_, address), record)| (record.index, *address)).collect();
        expected.extend(made.iter().map(|((_, address), slot)| (slot.index, *address)));
        expected.sort();
        let expected: Vec<IpAddr> = expected.into_iter().map(|(_, address)| address).collect();
        right_if(
            *given == Ok(expected.clone()),
            if moved { "re-homed" } else { kind },
            &format!("{expected:?}"),
        )
    }

    /// Returns what may move: records of the same pod, node and scope, of another container that is
    /// not alive.
    fn dead_of_pod(
        &self,
        exists: Exists<'_>,
        (node, container): (usize, usize),
        pod: &str,
        scope: &str,
    ) -> Vec<IpAddr> {
        let is_dead = |record: &Record| !(record.has_namespace && exists(node, record.container));
        let found = self.held.iter().filter(|((of, _), record)| {
            of == scope
                && record.node == node
                && record.container != container
                && !pod.is_empty()
                && record.pod == pod
                && is_dead(record)
        });
        found.map(|((_, address), _)| *address).collect()
    }

    /// Moves what can be moved. Returns the slots that are left. The store chooses which of several
    /// records moves.
    fn rehome(
        &mut self,
        slots: Vec<Slot>,
        mut dead: Vec<IpAddr>,
        scope: &str,
        new: &dyn Fn(&Slot) -> Record,
        given: &Result<Vec<IpAddr>, u64>,
        made: &mut Vec<((String, IpAddr), Slot)>,
    ) -> Vec<Slot> {
        let mut left = Vec::new();
        for slot in slots {
            let movable: Vec<IpAddr> =
                dead.iter().copied().filter(|old| slot.candidates.contains(old)).collect();
            let said = given.iter().flatten().find(|said| movable.contains(said));
            let Some(chosen) = said.or(movable.first()).copied() else {
                left.push(slot);
                continue;
            };
            dead.retain(|address| *address != chosen);
            self.held.insert((scope.to_owned(), chosen), new(&slot));
            made.push(((scope.to_owned(), chosen), slot));
        }
        left
    }

    /// Claims the lowest free candidates. If there is none, claims the lowest one whose sandbox on
    /// the node has ended.
    fn claim(
        &mut self,
        slots: Vec<Slot>,
        scope: &str,
        new: &dyn Fn(&Slot) -> Record,
        may_be_taken: &dyn Fn(&Slot, &Record) -> bool,
        made: &mut Vec<((String, IpAddr), Slot)>,
    ) -> Result<(), u64> {
        for slot in slots {
            let holder = |address: &IpAddr| self.held.get(&(scope.to_owned(), *address));
            let mut candidates = slot.candidates.iter();
            let free = candidates.clone().find(|address| holder(address).is_none());
            let left = || {
                candidates.find(|address| {
                    holder(address).is_some_and(|record| may_be_taken(&slot, record))
                })
            };
            let Some(free) = free.or_else(left) else {
                return Err(if slot.requested { 101 } else { 100 });
            };
            let key = (scope.to_owned(), *free);
            self.held.insert(key.clone(), new(&slot));
            made.push((key, slot));
        }
        Ok(())
    }
}

/// Returns the namespace and the name of a pod.
fn name_of(pod: &str) -> &str {
    pod.split(";K8S_POD_UID").next().unwrap()
}

/// Returns the slots that are not held yet: all, none, or those that a half-done ADD lacks. Returns
/// `None` if an address is requested that is not held.
fn lacking(ours: &[((String, IpAddr), Record)], slots: Vec<Slot>) -> Option<Vec<Slot>> {
    if ours.is_empty() {
        return Some(slots);
    }
    let whole = ours.iter().all(|(_, record)| record.of <= ours.len());
    let has_part = |slot: &Slot| ours.iter().any(|(_, record)| record.index == slot.index);
    let has_address =
        |slot: &Slot| ours.iter().any(|((_, address), _)| slot.candidates.contains(address));
    if slots.iter().any(|slot| slot.requested && !has_address(slot) && (whole || has_part(slot))) {
        return None;
    }
    Some(slots.into_iter().filter(|slot| !whole && !has_part(slot)).collect())
}

fn right_if(right: bool, kind: &'static str, expected: &str) -> Ended {
    if right { Ended::Right(kind) } else { Ended::Wrong(format!("expected {expected}")) }
}
