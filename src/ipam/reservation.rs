//! Reservations: addresses that a network keeps for certain pods, and addresses that it gives only
//! to a caller that asks for them. Neither kind is given dynamically.

use super::PodRef;
use crate::addr::{Blocks, Family, Range, address, number};
use std::fmt;
use std::net::IpAddr;

/// The pods for which addresses are reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// One pod.
    Pod {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// The pods of a StatefulSet. The pod whose name ends in n gets the nth address of each family,
    /// counted from 0.
    StatefulSet {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "pod {namespace}/{name}"),
            Self::StatefulSet { namespace, name } => write!(f, "StatefulSet {namespace}/{name}"),
        }
    }
}

/// Addresses that are reserved for one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The pods that get them.
    pub owner: Owner,
    /// The addresses, in the order in which a StatefulSet's pods get them.
    pub ranges: Vec<Range>,
}

impl Reservation {
    /// Returns the addresses of a pod, or `None` if the reservation is for other pods.
    fn of(&self, pod: &PodRef) -> Option<Vec<IpAddr>> {
        match &self.owner {
            Owner::Pod { namespace, name } => {
                let is_its = (namespace, name) == (&pod.namespace, &pod.name);
                let all = self.ranges.iter().flat_map(|range| (0..).map_while(|n| nth(range, n)));
                is_its.then(|| all.collect())
            }
            Owner::StatefulSet { namespace, name } => {
                let (set, ordinal) = pod.name.rsplit_once('-')?;
                let is_its = (namespace.as_str(), name.as_str()) == (&pod.namespace, set);
                let ordinal = ordinal.parse::<u32>().ok().filter(|n| n.to_string() == ordinal)?;
                let of = |family| self.nth(family, u128::from(ordinal));
                is_its.then(|| [Family::V4, Family::V6].into_iter().filter_map(of).collect())
            }
        }
    }

    /// Returns the address of a family that has `at` addresses before it.
    fn nth(&self, family: Family, at: u128) -> Option<IpAddr> {
        let mut left = at;
        for range in self.ranges.iter().filter(|range| range.family() == family) {
            if let Some(found) = nth(range, left) {
                return Some(found);
            }
            left -= number(range.last_address()) - number(range.first_address()) + 1;
        }
        None
    }
}

fn nth(range: &Range, at: u128) -> Option<IpAddr> {
    let number = number(range.first_address()).checked_add(at)?;
    let found = address(range.family(), number);
    Some(found).filter(|_| number <= crate::addr::number(range.last_address()))
}

/// All reservations of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reservations {
    /// The addresses that are kept for certain pods.
    pub entries: Vec<Reservation>,
    /// The addresses that are given only to a caller that asks for them.
    pub on_request: Blocks,
    /// The addresses that are reserved for the pod of this call.
    pub own: Vec<IpAddr>,
}

impl Reservations {
    /// Notes the addresses of the pod of this call.
    pub fn set_pod(&mut self, pod: Option<&PodRef>) {
        self.own = pod.map_or_else(Vec::new, |pod| self.of(pod));
        // No limit allows more than 1024.
        self.own.truncate(1025);
    }

    /// Returns the addresses that are reserved for a pod. A reservation for the pod itself takes
    /// precedence over that of its StatefulSet.
    #[must_use]
    pub fn of(&self, pod: &PodRef) -> Vec<IpAddr> {
        let is_for_pod = |entry: &&Reservation| matches!(entry.owner, Owner::Pod { .. });
        let found = |wanted: bool| {
            let entries = self.entries.iter().filter(move |entry| is_for_pod(entry) == wanted);
            entries.filter_map(|entry| entry.of(pod)).flatten().collect::<Vec<_>>()
        };
        let own = found(true);
        if own.is_empty() { found(false) } else { own }
    }

    /// Returns the owner of an address that is reserved for certain pods.
    #[must_use]
    pub fn owner_of(&self, address: IpAddr) -> Option<&Owner> {
        let has = |entry: &&Reservation| entry.ranges.iter().any(|range| range.contains(address));
        self.entries.iter().find(has).map(|entry| &entry.owner)
    }

    /// Returns the addresses that are kept for certain pods.
    pub fn of_pods(&self) -> impl Iterator<Item = Range> + '_ {
        self.entries.iter().flat_map(|entry| entry.ranges.iter().copied())
    }

    /// Returns all addresses that are not given dynamically.
    #[must_use]
    pub fn blocks(&self) -> Blocks {
        self.of_pods().chain(self.on_request.ranges()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str) -> Range {
        Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    fn of(reservations: &Reservations, name: &str) -> Vec<String> {
        let pod = PodRef { namespace: "default".to_owned(), name: name.to_owned(), uid: None };
        reservations.of(&pod).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pod_of_a_stateful_set_gets_the_address_of_its_ordinal_in_each_family() {
        let owner = Owner::StatefulSet { namespace: "default".to_owned(), name: "web".to_owned() };
        let ranges = vec![
            range("10.0.0.10", "10.0.0.11"),
            range("fd00::10", "fd00::12"),
            range("10.0.0.20", "10.0.0.20"),
        ];
        let mut reservations =
            Reservations { entries: vec![Reservation { owner, ranges }], ..Default::default() };
        assert_eq!(of(&reservations, "web-0"), ["10.0.0.10", "fd00::10"]);
        assert_eq!(of(&reservations, "web-2"), ["10.0.0.20", "fd00::12"]);
        for name in ["web-3", "web-01", "web-", "web-+1", "web", "db-0", "web-x-0"] {
            assert!(of(&reservations, name).is_empty(), "{name}");
        }
        let owner = Owner::Pod { namespace: "default".to_owned(), name: "web-1".to_owned() };
        let ranges = vec![range("10.0.0.40", "10.0.0.41")];
        reservations.entries.push(Reservation { owner, ranges });
        assert_eq!(of(&reservations, "web-1"), ["10.0.0.40", "10.0.0.41"]);
    }
}
