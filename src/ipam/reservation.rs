//! Reservations: addresses that a network keeps for certain pods, and addresses that it gives only
//! to a caller that asks for them. Neither kind is given dynamically.

use super::{IfName, PodRef};
use crate::addr::{Blocks, Family, Range, address, number};
use std::fmt;
use std::net::IpAddr;

/// What a reservation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerKind {
    /// One pod.
    Pod,
    /// The pods of a StatefulSet. The pod whose name ends in n gets the nth address of each family,
    /// counted from 0.
    StatefulSet,
}

/// The pods for which addresses are reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Whether it is a pod or a StatefulSet.
    pub kind: OwnerKind,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The interface in the pod that gets the addresses. `None` for the first interface that is
    /// added.
    pub interface: Option<IfName>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(interface) = &self.interface {
            write!(f, "interface {interface} of ")?;
        }
        let kind = match self.kind {
            OwnerKind::Pod => "pod",
            OwnerKind::StatefulSet => "StatefulSet",
        };
        write!(f, "{kind} {}/{}", self.namespace, self.name)
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
        let Owner { kind, namespace, name, .. } = &self.owner;
        match kind {
            OwnerKind::Pod => {
                let is_its = (namespace, name) == (&pod.namespace, &pod.name);
                let all = self.ranges.iter().flat_map(|range| (0..).map_while(|n| nth(range, n)));
                is_its.then(|| all.collect())
            }
            OwnerKind::StatefulSet => {
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
    /// The addresses that are reserved for the pod and the interface of this call.
    pub own: Vec<IpAddr>,
}

impl Reservations {
    /// Notes the addresses of the pod and the interface of this call.
    pub fn set_pod(&mut self, pod: Option<&PodRef>, interface: Option<&IfName>) {
        self.own = pod.map_or_else(Vec::new, |pod| self.of(pod, interface));
        // No limit allows more than 1024.
        self.own.truncate(1025);
    }

    /// Returns the addresses that are reserved for an interface of a pod. A reservation for the pod
    /// itself takes precedence over that of its StatefulSet, and one that names the interface over
    /// one that names none.
    #[must_use]
    pub fn of(&self, pod: &PodRef, interface: Option<&IfName>) -> Vec<IpAddr> {
        let found = |kind: OwnerKind, named: Option<&IfName>| {
            let entries = self.entries.iter().filter(move |entry| {
                (entry.owner.kind, entry.owner.interface.as_ref()) == (kind, named)
            });
            entries.filter_map(|entry| entry.of(pod)).flatten().collect::<Vec<_>>()
        };
        let order = [OwnerKind::Pod, OwnerKind::StatefulSet]
            .into_iter()
            .flat_map(|kind| [interface, None].map(|named| (kind, named)));
        let mut all = order.map(|(kind, named)| found(kind, named));
        all.find(|own| !own.is_empty()).unwrap_or_default()
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
        reservations.of(&pod, None).iter().map(ToString::to_string).collect()
    }

    fn owner(kind: OwnerKind, name: &str, interface: Option<&str>) -> Owner {
        let interface = interface.map(|name| IfName::parse(name).unwrap());
        Owner { kind, namespace: "default".to_owned(), name: name.to_owned(), interface }
    }

    /// In order of precedence, from the highest.
    #[test]
    fn a_reservation_that_names_the_interface_takes_precedence() {
        let (mut reservations, pod) = (
            Reservations::default(),
            PodRef { namespace: "default".to_owned(), name: "web-0".to_owned(), uid: None },
        );
        let owners = [
            (OwnerKind::StatefulSet, "web", None, "10.0.0.4", "10.0.0.4"),
            (OwnerKind::StatefulSet, "web", Some("net2"), "10.0.0.3", "10.0.0.4"),
            (OwnerKind::Pod, "web-0", None, "10.0.0.2", "10.0.0.2"),
            (OwnerKind::Pod, "web-0", Some("net2"), "10.0.0.1", "10.0.0.2"),
        ];
        for (kind, name, interface, address, of_net1) in owners {
            let entry = Reservation {
                owner: owner(kind, name, interface),
                ranges: vec![range(address, address)],
            };
            reservations.entries.push(entry);
            let own = |name: &str| reservations.of(&pod, Some(&IfName::parse(name).unwrap()));
            assert_eq!(own("net2"), [address.parse::<IpAddr>().unwrap()]);
            assert_eq!(own("net1"), [of_net1.parse::<IpAddr>().unwrap()], "{address}");
            assert_eq!(reservations.of(&pod, None), own("net1"));
        }
    }

    #[test]
    fn a_pod_of_a_stateful_set_gets_the_address_of_its_ordinal_in_each_family() {
        let web = owner(OwnerKind::StatefulSet, "web", None);
        let ranges = vec![
            range("10.0.0.10", "10.0.0.11"),
            range("fd00::10", "fd00::12"),
            range("10.0.0.20", "10.0.0.20"),
        ];
        let mut reservations = Reservations {
            entries: vec![Reservation { owner: web, ranges }],
            ..Default::default()
        };
        assert_eq!(of(&reservations, "web-0"), ["10.0.0.10", "fd00::10"]);
        assert_eq!(of(&reservations, "web-2"), ["10.0.0.20", "fd00::12"]);
        for name in ["web-3", "web-01", "web-", "web-+1", "web", "db-0", "web-x-0"] {
            assert!(of(&reservations, name).is_empty(), "{name}");
        }
        let owner = owner(OwnerKind::Pod, "web-1", None);
        let ranges = vec![range("10.0.0.40", "10.0.0.41")];
        reservations.entries.push(Reservation { owner, ranges });
        assert_eq!(of(&reservations, "web-1"), ["10.0.0.40", "10.0.0.41"]);
    }
}
