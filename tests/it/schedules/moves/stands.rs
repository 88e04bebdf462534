//! What must be true after a schedule of a move: whoever was told an address has it where both look,
//! and what has ended leaves nothing.

use super::is_theirs;
use super::records::is_guarded;
use super::theirs::address;
use crate::schedules::calls::What;
use crate::schedules::world::{Event, Holder, World};
use serde_json::Value;
use std::net::IpAddr;

/// Returns the state of the move.
fn state(world: &World) -> &str {
    world.objects.moved()["spec"]["state"].as_str().unwrap_or("none")
}

fn entry(world: &World, wanted: IpAddr) -> &Value {
    let found = world.objects.theirs.entries().find(|(key, _)| address(key) == Some(wanted));
    found.map_or(&Value::Null, |(_, entry)| entry)
}

fn reservation(world: &World, address: IpAddr) -> &Value {
    &world.objects.theirs.object(&format!("overlappingrangeipreservations/{address}"))["spec"]
}

/// Checks that an address that was told to a holder still stands. `held` are the records.
///
/// # Errors
/// A text.
pub(in crate::schedules) fn stands(
    world: &World,
    held: &[(IpAddr, String, String)],
    holder: &Holder,
    address: IpAddr,
) -> Result<(), String> {
    let state = state(world);
    let (entry, reservation) = (entry(world, address), reservation(world, address));
    let who = format!("{address} was told to {holder:?} ({state})");
    let record = held.iter().find(|(known, ..)| *known == address);
    let is_recorded =
        record.is_some_and(|(_, node, container)| *node == *holder.0 && *container == holder.1);
    // Another record is one that was not told, or an imported one whose pod has ended. Where both see
    // the entry, it gives nobody the address.
    let uid = world.record_at(address);
    let is_ours = is_recorded
        && uid.is_some_and(|uid| entry["id"] == *uid && reservation["containerid"] == *uid);
    let is_of_whereabouts = entry["id"] == *holder.1
        && !is_guarded(entry)
        && reservation["podref"] == entry["podref"]
        && reservation["containerid"].is_null();
    let serves_whereabouts = is_theirs(&holder.1) || world.is_given && holder.0 == "n1";
    // A command that was killed may have changed the entry, and not the reservation.
    let was_killed = world.events.iter().any(|event| matches!(event, Event::Killed(_)));
    let is_halfway = world.is_given && was_killed && is_recorded && entry["id"] == *holder.1;
    let stands = match (state, serves_whereabouts) {
        ("finished" | "opening", _) => is_recorded,
        (_, true) => is_of_whereabouts || is_ours || is_halfway,
        (_, false) => is_ours,
    };
    match stands {
        true => Ok(()),
        false => {
            Err(format!("{who}; record: {record:?}, entry: {entry}, reservation: {reservation}"))
        }
    }
}

/// Returns the DEL of a container: by whom its node is served in the end.
pub(in crate::schedules) fn end_of(world: &World, container: &'static str) -> What {
    // A node of hereabouts ends what has a record.
    let is_ours = world.objects.holds(container) && state(world) != "none";
    let has_whereabouts = is_theirs(container) && !is_ours || world.is_given;
    match has_whereabouts && world.objects.theirs.has_rights {
        true => What::TheirDel(container),
        false => What::Del(container),
    }
}

/// Checks that no entry and no reservation is left.
///
/// # Errors
/// A text.
pub(in crate::schedules) fn nothing_is_left(world: &World) -> Result<(), String> {
    // Nobody writes for Whereabouts any more, and the way back removes what is left. A call of
    // Whereabouts that was killed leaves what its own cleanup removes.
    if matches!(state(world), "finished" | "opening") || world.is_theirs_killed {
        return Ok(());
    }
    let theirs = &world.objects.theirs;
    let entries: Vec<String> =
        theirs.entries().map(|(key, entry)| format!("{key}: {entry}")).collect();
    let reservations: Vec<&String> = theirs.reservations().collect();
    match entries.is_empty() && reservations.is_empty() {
        true => Ok(()),
        false => Err(format!("left in Whereabouts' objects: {entries:?}, {reservations:?}")),
    }
}
