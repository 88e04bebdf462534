//! Decides for each address of Whereabouts what an import does with it. It reads nothing: `facts`
//! has everything.
//!
//! Only what is certain is recorded: an entry whose pod is there, on a known node, and shows the
//! address on the interface, in a network whose name is known. The API server alone never says that
//! an address is free, because a pod that was deleted by force may run on. So what is not certain is
//! left for the node, which sees the sandboxes.
//!
//! - `ended`: records of pods that Whereabouts has seen end since they were imported
//! - `outcome`: what happens with an entry
//! - `without_entry`: reservations and addresses of pods for which no pool has an entry

mod ended;
mod outcome;
mod without_entry;

use super::super::report::{Outcome, Row};
use super::facts::{Entry, Facts, Interface, Pod};
use super::found::{self, Decision, Task};
use super::index::{Claims, Group, Index};
use super::networks::{Definition, KnownNetwork};
use crate::whereabouts::names::Serves;
use std::net::IpAddr;
use std::rc::Rc;

const ON_NODE: &str = "run \"hereabouts import whereabouts\" on the node";
const WHEN_IT_RUNS: &str = "repeat it when the pod runs";

/// Decides about everything that was read. The decisions are sorted by scope and address.
pub(super) fn decide(facts: &Facts) -> Vec<Decision> {
    let mut decisions = Vec::with_capacity(facts.entries.len());
    let unplaced = {
        let index = Index::of(facts);
        for ((scope, address), claims) in &index.claims {
            let one = Address { facts, index: &index, scope, address: *address, claims };
            decisions.extend(claims.groups.iter().map(|group| one.group(group)));
            one.without_entry(&mut decisions);
        }
        let entries = index.entries.iter().map(|(entry, serves)| unplaced(facts, entry, serves));
        let reservations = index.reservations.iter();
        let unplaced = entries.chain(reservations.map(|one| without_entry::unplaced(one)));
        let unplaced: Vec<Decision> = unplaced.collect();
        decisions.extend(ended::ended(facts, &index));
        unplaced
    };
    found::number(&mut decisions);
    decisions.extend(unplaced);
    decisions
}

/// One address of a scope, and everything that names it.
struct Address<'f> {
    facts: &'f Facts,
    index: &'f Index<'f>,
    scope: &'f Rc<str>,
    address: IpAddr,
    claims: &'f Claims<'f>,
}

/// What the API server says about the holder that an entry names.
struct Seen<'f> {
    pod: Option<&'f Pod>,
    interface: Option<&'f Interface>,
    network: Option<&'f Definition>,
}

impl<'f> Seen<'f> {
    /// Returns the network, if it is known.
    fn known(&self) -> Option<&'f KnownNetwork> {
        match self.network {
            Some(Definition::Known(network)) => Some(network),
            _ => None,
        }
    }
}

fn left(reason: impl Into<String>, hint: impl Into<String>) -> Outcome {
    Outcome::Left { reason: reason.into(), hint: hint.into() }
}

/// Returns why a pod that is not there, or has ended, needs nothing. `None` if it lives.
fn gone(pod: Option<&Pod>, what: &str) -> Option<Outcome> {
    let why = match pod {
        None => "the pod is gone",
        Some(pod) if pod.has_ended => "the pod has ended",
        Some(_) => return None,
    };
    Some(Outcome::Gone(format!("{why}; Whereabouts keeps its {what} until its own cleanup")))
}

/// Returns the namespace and the name in a reference to a pod.
fn parse_pod(text: &str) -> Option<(&str, &str)> {
    let is_name = |name: &&str| !name.is_empty() && !name.contains('/');
    let (namespace, name) = text.split_once('/')?;
    (is_name(&namespace) && is_name(&name)).then_some((namespace, name))
}

fn no_pod(text: &str) -> Outcome {
    left(format!("its reference to a pod is not namespace/name: {text:?}"), ON_NODE)
}

/// Returns the row of an entry that stands for no address, or whose scope is unknown.
fn unplaced(facts: &Facts, entry: &Entry, serves: &Serves) -> Decision {
    let holder = entry.holder.as_ref();
    let range = facts.pools.get(entry.pool).map_or("", |pool| &pool.text);
    let pod = holder.and_then(|holder| facts.pods.get(&holder.pod));
    let gone = holder.filter(|holder| parse_pod(&holder.pod).is_some()).and(gone(pod, "entry"));
    let outcome = match (entry.address, serves, gone) {
        (Err(why), _, gone) => {
            let hint = match gone {
                Some(_) => "its pod is gone: remove the key from the IPPool",
                None => ON_NODE,
            };
            left(why.reason(&entry.key, range), hint)
        }
        (Ok(_), _, Some(gone)) => gone,
        (Ok(_), Serves::LostSlice, None) => {
            left("its pool is probably the slice of a node, and no NodeSlicePool has it", ON_NODE)
        }
        (Ok(_), _, None) => {
            left("the name of its pool does not fit the range of the pool", ON_NODE)
        }
    };
    let address = match entry.address {
        Ok(address) => address.to_string(),
        Err(_) => format!("key {}", entry.key),
    };
    let row = Row {
        address,
        scope: match serves {
            Serves::Scope(scope) | Serves::Slice(scope) => scope.as_ref().to_owned(),
            Serves::LostSlice | Serves::Unknown => String::new(),
        },
        network: None,
        pod: holder.map(|holder| holder.pod.to_string()),
        container: holder.map(|holder| holder.container.to_string()),
        interface: holder.and_then(|holder| holder.interface.as_deref().map(str::to_owned)),
        node: pod.and_then(|pod| pod.node.as_deref().map(str::to_owned)),
        source: facts.source(entry),
        outcome,
        notes: Vec::new(),
        record: None,
    };
    Decision { row, task: None }
}

impl<'f> Address<'f> {
    /// Returns what the API server says about a pod and its interface. Without a name, it is the one
    /// interface that has the address.
    fn seen(&self, pod: &str, interface: Option<&str>) -> Seen<'f> {
        let pod = self.facts.pods.get(pod);
        let interfaces = pod.map(Pod::interfaces).unwrap_or_default();
        let interface = match interface {
            Some(name) => interfaces.iter().find(|one| &*one.name == name),
            None => {
                let mut all = interfaces.iter().filter(|one| one.addresses.contains(&self.address));
                all.next().filter(|_| all.next().is_none())
            }
        };
        let network = interface.and_then(|one| self.facts.networks.get(&one.network));
        Seen { pod, interface, network }
    }

    /// Returns the row of a holder, without an outcome.
    fn row(&self, seen: &Seen<'_>, pod: &str, interface: Option<&str>, source: String) -> Row {
        let interface = interface.or_else(|| seen.interface.map(|one| &*one.name));
        Row {
            address: self.address.to_string(),
            scope: self.scope.as_ref().to_owned(),
            network: seen.known().map(|network| network.name.as_ref().to_owned()),
            pod: Some(pod.to_owned()).filter(|pod| !pod.is_empty()),
            container: None,
            interface: interface.map(str::to_owned),
            node: seen.pod.and_then(|pod| pod.node.as_deref().map(str::to_owned)),
            source,
            outcome: Outcome::New,
            notes: Vec::new(),
            record: None,
        }
    }

    /// Decides about the entries that name one holder.
    fn group(&self, group: &Group<'_>) -> Decision {
        let sources: Vec<String> =
            group.entries.iter().map(|entry| self.facts.source(entry)).collect();
        let source = sources.join(", ");
        let Some(holder) = group.holder else {
            let row =
                self.row(&Seen { pod: None, interface: None, network: None }, "", None, source);
            let outcome = left("its entry is not readable", ON_NODE);
            return Decision { row: Row { outcome, ..row }, task: None };
        };
        let seen = self.seen(&holder.pod, holder.interface.as_deref());
        let row = self.row(&seen, &holder.pod, holder.interface.as_deref(), source);
        let mut row = Row { container: Some(holder.container.to_string()), ..row };
        match self.outcome(group, &seen) {
            Ok(found) => {
                row.notes = self.notes(&seen);
                Decision { row, task: Some(Task::Record(Box::new(found))) }
            }
            Err(outcome) => Decision { row: Row { outcome, ..row }, task: None },
        }
    }
}

#[cfg(test)]
mod tests;
