//! Reads what Whereabouts has in a cluster, and what tells who uses it. One page of objects is in
//! memory at a time.
//!
//! The entries are read first. So a pod that starts in the meantime is seen with its entry missing,
//! and never an entry with its pod missing. [`settle`] compares with a second reading.

use super::facts::{Entry, Facts, Pod, Reservation};
use super::objects::{POOLS, RESERVATIONS, SLICES};
use super::reading::{Noted, Reading};
use crate::cli::cluster_lists::{ALLOCATIONS, Cluster, DEFINITIONS, NODES, PODS};
use crate::ipam::Texts;
use std::collections::{HashMap, HashSet};

/// Reads everything.
///
/// # Errors
/// A list could not be read completely. No part of a list says that something is gone.
pub(super) fn read(api: &Cluster) -> anyhow::Result<Facts> {
    let mut reading = Reading::new(noted(api)?);
    // Versions before v0.8 have none.
    api.list_if_known(&SLICES, &mut |item| reading.slice_pool(item))?;
    api.list_if_known(&DEFINITIONS, &mut |item| reading.network(item))?;
    api.list(&NODES, &mut |item| reading.node(item))?;
    api.list(&PODS, &mut |item| reading.pod(item))?;
    reading.expect_records();
    // hereabouts need not be there yet.
    api.list_if_known(&ALLOCATIONS, &mut |item| reading.record(item))?;
    Ok(reading.facts)
}

/// Reads the entries and reservations alone.
///
/// # Errors
/// Those of [`read`].
pub(super) fn noted(api: &Cluster) -> anyhow::Result<Noted> {
    let (mut noted, mut texts) = (Noted::default(), Texts::default());
    api.list(&POOLS, &mut |item| noted.pool(item, &mut texts))?;
    api.list_if_known(&RESERVATIONS, &mut |item| noted.reservation(item, &mut texts))?;
    Ok(noted)
}

/// Corrects the entries and reservations with a second reading, so that what changed while the
/// cluster was read is not reported as a defect. What is gone by now is left out. A new entry counts
/// if its pod shows the address: about the other new ones, nobody knows enough yet.
pub(super) fn settle(facts: &mut Facts, now: Noted) {
    let addresses = now.entries.iter().filter_map(|entry| entry.address.ok());
    facts.noted_again = Some(addresses.collect());
    let pools = std::mem::take(&mut facts.pools);
    let places: HashMap<(&str, &str), usize> =
        pools.iter().enumerate().map(|(at, pool)| ((&*pool.namespace, &*pool.name), at)).collect();
    let then: HashSet<Entry> = std::mem::take(&mut facts.entries).into_iter().collect();
    let is_shown = |entry: &Entry| {
        let pod = entry.holder.as_ref().and_then(|holder| facts.pods.get(&holder.pod));
        let mut interfaces = pod.map(Pod::interfaces).unwrap_or_default().iter();
        let address = entry.address.ok();
        address.is_some_and(|address| interfaces.any(|one| one.addresses.contains(&address)))
    };
    let is_known = |entry: &Entry| {
        let pool = now.pools.get(entry.pool);
        let place = pool.and_then(|pool| places.get(&(&*pool.namespace, &*pool.name)));
        place.is_some_and(|pool| then.contains(&Entry { pool: *pool, ..entry.clone() }))
    };
    facts.entries =
        now.entries.into_iter().filter(|entry| is_shown(entry) || is_known(entry)).collect();
    facts.pools = now.pools;
    facts.ours = now.ours;
    facts.our_reservations = now.our_reservations;
    let again: HashSet<Reservation> = now.reservations.into_iter().collect();
    facts.reservations.retain(|reservation| again.contains(reservation));
}
