//! Who has each address of a scope, by everything that was read: entries of pools, reservations, and
//! the network-status of pods.

use super::facts::{Entry, EntryHolder, Facts, Interface, Pod, Reservation};
use super::networks::{Definition, KnownNetwork};
use crate::whereabouts::names::{self, Serves};
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

/// All addresses, by scope and address, and what stands for no address.
#[derive(Default)]
pub(super) struct Index<'f> {
    pub(super) claims: BTreeMap<(Rc<str>, IpAddr), Claims<'f>>,
    /// Entries whose address or scope is unknown.
    pub(super) entries: Vec<(&'f Entry, Serves)>,
    /// The pods and addresses of those whose scope is unknown.
    pub(super) without_scope: HashSet<(&'f str, IpAddr)>,
    /// Reservations whose address or scope is unknown.
    pub(super) reservations: Vec<&'f Reservation>,
}

/// Everything that names one address of a scope.
#[derive(Default)]
pub(super) struct Claims<'f> {
    pub(super) groups: Vec<Group<'f>>,
    pub(super) reservations: Vec<&'f Reservation>,
    pub(super) shown: Vec<Shown<'f>>,
}

/// The entries that name one holder. Pools whose ranges overlap may have one each.
pub(super) struct Group<'f> {
    /// `None` if the entry is not readable.
    pub(super) holder: Option<&'f EntryHolder>,
    /// At least one.
    pub(super) entries: Vec<&'f Entry>,
    /// Whether one of the pools is a node's slice.
    pub(super) is_of_slice: bool,
}

/// An interface of a living pod that has the address.
pub(super) struct Shown<'f> {
    pub(super) pod: &'f Rc<str>,
    pub(super) interface: &'f Interface,
    pub(super) network: &'f KnownNetwork,
}

impl<'f> Index<'f> {
    /// Sorts everything by scope and address.
    pub(super) fn of(facts: &'f Facts) -> Self {
        let serves = facts.serves();
        let mut index = Self::default();
        let mut entries: Vec<&Entry> = facts.entries.iter().collect();
        // They come in any order.
        entries.sort_by_cached_key(|entry| facts.source(entry));
        for entry in entries {
            let serves = serves.get(entry.pool).unwrap_or(&Serves::Unknown);
            let (scope, is_of_slice) = match serves {
                Serves::Scope(scope) => (scope, false),
                Serves::Slice(scope) => (scope, true),
                Serves::LostSlice | Serves::Unknown => {
                    let pod = entry.holder.as_ref().map(|holder| &*holder.pod);
                    index.without_scope.extend(pod.zip(entry.address.ok()));
                    index.entries.push((entry, serves.clone()));
                    continue;
                }
            };
            let Ok(address) = entry.address else {
                index.entries.push((entry, serves.clone()));
                continue;
            };
            let claims = index.claims.entry((Rc::clone(scope), address)).or_default();
            claims.add_entry(entry, is_of_slice);
        }
        index.add_shown(facts);
        for reservation in &facts.reservations {
            match index.meaning(facts, &serves, reservation) {
                Some(key) => {
                    let of_address = &mut index.claims.entry(key).or_default().reservations;
                    of_address.reserve_exact(1);
                    of_address.push(reservation);
                }
                None => index.reservations.push(reservation),
            }
        }
        index
    }

    fn add_shown(&mut self, facts: &'f Facts) {
        let mut pods: Vec<(&Rc<str>, &Pod)> =
            facts.pods.iter().filter(|(_, pod)| !pod.has_ended).collect();
        pods.sort_by_key(|(name, _)| *name);
        for (pod, interface) in pods
            .into_iter()
            .flat_map(|(name, pod)| pod.interfaces().iter().map(move |one| (name, one)))
        {
            let Some(Definition::Known(network)) = facts.networks.get(&interface.network) else {
                continue;
            };
            // Whereabouts does not know pools, so these are addresses of hereabouts.
            if network.has_pools {
                continue;
            }
            for address in &interface.addresses {
                let key = (Rc::clone(&network.network_name), *address);
                let shown = Shown { pod, interface, network };
                let of_address = &mut self.claims.entry(key).or_default().shown;
                // Nearly all have one, and there are many.
                of_address.reserve_exact(1);
                of_address.push(shown);
            }
        }
    }

    /// Returns the scope and the address that the name of a reservation means, if that is certain:
    /// those of an entry or of an interface, otherwise those that fit a pool or stand alone.
    fn meaning(
        &self,
        facts: &Facts,
        serves: &[Serves],
        reservation: &Reservation,
    ) -> Option<(Rc<str>, IpAddr)> {
        let all: Vec<(Rc<str>, IpAddr)> = names::reserved(&reservation.name)
            .into_iter()
            .map(|(scope, address)| (scope.into(), address))
            .collect();
        let fits = |(scope, address): &(Rc<str>, IpAddr)| {
            facts.pools.iter().zip(serves).any(|(pool, serves)| {
                let (Serves::Scope(of_pool) | Serves::Slice(of_pool)) = serves else {
                    return false;
                };
                of_pool == scope && pool.range.is_some_and(|range| range.contains(*address))
            })
        };
        let mut held = all.iter().filter(|key| self.claims.contains_key(*key));
        let mut fitting = all.iter().filter(|key| fits(key));
        let found = match (held.next(), held.next(), all.as_slice()) {
            (Some(key), None, _) | (None, None, [key]) => Some(key),
            _ => fitting.next().filter(|_| fitting.next().is_none()),
        };
        found.cloned()
    }
}

impl<'f> Claims<'f> {
    fn add_entry(&mut self, entry: &'f Entry, is_of_slice: bool) {
        let holder = entry.holder.as_ref();
        let same = |group: &&mut Group<'f>| holder.is_some() && group.holder == holder;
        match self.groups.iter_mut().find(same) {
            Some(group) => {
                group.entries.push(entry);
                group.is_of_slice |= is_of_slice;
            }
            None => {
                self.groups.reserve_exact(1);
                self.groups.push(Group { holder, entries: vec![entry], is_of_slice });
            }
        }
    }
}

impl Facts {
    /// Returns where an entry is.
    pub(super) fn source(&self, entry: &Entry) -> String {
        match self.pools.get(entry.pool) {
            Some(pool) => format!("IPPool {}/{} key {}", pool.namespace, pool.name, entry.key),
            None => format!("key {}", entry.key),
        }
    }
}

impl Reservation {
    /// Returns where it is.
    pub(super) fn source(&self) -> String {
        format!("OverlappingRangeIPReservation {}/{}", self.namespace, self.name)
    }
}

impl Shown<'_> {
    /// Returns where it is.
    pub(super) fn source(&self) -> String {
        format!("network-status of pod {}", self.pod)
    }
}
