//! Addresses that no entry of a pool names. Whereabouts' ADD can succeed with a reservation alone
//! (its issue 712), and does not note static addresses at all.

use super::super::super::report::{Outcome, Row};
use super::super::facts::Reservation;
use super::super::index::{Group, Shown};
use super::{Address, Decision, ON_NODE, gone, left, no_pod, parse_pod};
use std::rc::Rc;

/// Returns the row of a reservation whose name means no address, or more than one.
pub(super) fn unplaced(reservation: &Reservation) -> Decision {
    let row = Row {
        address: reservation.name.clone(),
        scope: String::new(),
        network: None,
        pod: Some(reservation.pod.to_string()).filter(|pod| !pod.is_empty()),
        container: None,
        interface: reservation.interface.as_deref().map(str::to_owned),
        node: None,
        source: reservation.source(),
        outcome: left(
            "the name of the reservation does not say which address of which network_name it is",
            "compare it with the network-status of the pod",
        ),
        notes: Vec::new(),
        record: None,
    };
    Decision { row, task: None }
}

impl Address<'_> {
    /// Adds the rows of reservations without an entry of their pod, and of interfaces with neither.
    pub(super) fn without_entry(&self, decisions: &mut Vec<Decision>) {
        for reservation in &self.claims.reservations {
            let has_entry = |pod: &str| {
                let mut holders = self.claims.groups.iter().filter_map(|group| group.holder);
                holders.any(|holder| &*holder.pod == pod)
            };
            if !has_entry(&reservation.pod) {
                decisions.push(self.reservation(reservation));
            }
        }
        for shown in &self.claims.shown {
            decisions.extend(self.shown(shown));
        }
    }

    fn reservation(&self, reservation: &Reservation) -> Decision {
        let (pod, interface) = (&reservation.pod, reservation.interface.as_deref());
        let seen = self.seen(pod, interface);
        let row = self.row(&seen, pod, interface, reservation.source());
        let outcome = if self.is_recorded(pod, row.interface.as_deref()) {
            Outcome::Known
        } else if parse_pod(pod).is_none() {
            no_pod(pod)
        } else if let Some(gone) = gone(seen.pod, "reservation") {
            gone
        } else if self.claims.groups.is_empty() {
            left("no pool has an entry for it, only this reservation", ON_NODE)
        } else {
            left("the entry of the pool is for another pod than this reservation", ON_NODE)
        };
        Decision { row: Row { outcome, ..row }, task: None }
    }

    /// Returns the row of an interface that has the address, unless an entry, a reservation or a
    /// record of its pod names it.
    fn shown(&self, shown: &Shown<'_>) -> Option<Decision> {
        let (pod, interface) = (shown.pod, &shown.interface.name);
        // An entry that does not say for which pod it is may be for this one.
        let is_of = |group: &Group<'_>| {
            group.holder.is_none_or(|holder| {
                let is_own = |name: &Rc<str>| name == interface;
                let is_same = holder.pod == *pod && holder.interface.as_ref().is_none_or(is_own);
                is_same || parse_pod(&holder.pod).is_none()
            })
        };
        let is_reserved = |reserved: &&Reservation| {
            reserved.pod == *pod && reserved.interface.as_ref().is_none_or(|name| name == interface)
        };
        let is_named = self.claims.groups.iter().any(is_of)
            || self.claims.reservations.iter().any(is_reserved)
            || self.index.without_scope.contains(&(&**pod, self.address));
        if is_named || !shown.network.is_of_whereabouts || self.is_recorded(pod, Some(interface)) {
            return None;
        }
        let seen = self.seen(pod, Some(interface));
        let row = self.row(&seen, pod, Some(interface), shown.source());
        let reason = if shown.network.statics.contains(&self.address) {
            "it is a static address of its network, which Whereabouts does not note"
        } else {
            "the pod has it, and Whereabouts has noted neither an entry nor a reservation for the pod"
        };
        Some(Decision { row: Row { outcome: left(reason, ON_NODE), ..row }, task: None })
    }

    /// Returns whether hereabouts has recorded the address for a pod and its interface.
    fn is_recorded(&self, pod: &str, interface: Option<&str>) -> bool {
        let record = self.facts.recorded.get(self.scope).and_then(|all| all.get(&self.address));
        record.is_some_and(|record| {
            record.pod.as_deref() == Some(pod)
                && interface.is_none_or(|name| &*record.interface == name)
        })
    }
}
