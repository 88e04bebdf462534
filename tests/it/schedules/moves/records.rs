//! What the operator's commands do with the records and with the entries of Whereabouts: `import`,
//! `export`, and `move back --node`.

use super::happens;
use super::objects::{HOME, POOL};
use super::operator::{Done, PATIENCE, refused, words};
use super::theirs::{address, send};
use crate::schedules::calls::{Answered, Around};
use hereabouts::api_client::http::Method;
use hereabouts::cli::import::ended;
use hereabouts::ipam::{Allocation, IfName, Scope};
use hereabouts::retry::Deadline;
use hereabouts::store::kube::KubeStore;
use hereabouts::store::kube::moving::{Showing, Shown};
use hereabouts::store::{Filter, Store};
use serde_json::{Value, json};

/// Returns the entries that Whereabouts wrote: the key and the container.
fn entries_of_whereabouts(around: &Around) -> Vec<(String, Value)> {
    let (_, pool) = send(around, Method::Get, &format!("{HOME}{POOL}"), None);
    let entries = pool["spec"]["allocations"].as_object().cloned().unwrap_or_default();
    entries.into_iter().filter(|(_, entry)| !is_guarded(entry)).collect()
}

/// Returns whether a node of hereabouts wrote an entry.
pub(super) fn is_guarded(entry: &Value) -> bool {
    entry["ifname"].as_str().is_some_and(|ifname| ifname.ends_with("/hereabouts"))
}

fn held(store: &KubeStore) -> Done<Vec<Allocation>> {
    let listing = store.list(&Filter::default()).map_err(words)?;
    listing.map(|item| item.map_err(words)).collect()
}

fn has(held: &Allocation, key: &str, entry: &Value) -> bool {
    Some(held.address) == address(key) && entry["id"] == held.record.attachment.container.as_str()
}

/// Records what Whereabouts has given, and frees records that were imported and that it has freed.
/// The entries are read before the records, and once more after them.
pub(super) fn import(around: &Around, store: &KubeStore) -> Answered {
    let then = entries_of_whereabouts(around);
    let held = held(store)?;
    let now = entries_of_whereabouts(around);
    let deadline = || Deadline::after(PATIENCE);
    let is_entry_of = |held: &Allocation| now.iter().any(|(key, entry)| has(held, key, entry));
    for held in &held {
        let is_imported = held.record.netns.as_ref().is_some_and(|netns| netns.is_unseen());
        if is_imported
            && !is_entry_of(held)
            && let Some(version) = &held.version
        {
            store.discard(&held.scope, held.address, version, &deadline()).map_err(words)?;
        }
    }
    for (key, entry) in now.iter().filter(|one| then.contains(one)) {
        if held.iter().any(|held| has(held, key, entry)) {
            continue;
        }
        let container = entry["id"].as_str().unwrap_or_default();
        let pod = entry["podref"].as_str().and_then(|pod| pod.split_once('/'));
        let mut record = crate::conformance::record("n2", container, pod.map(|(_, pod)| pod));
        record.attachment.ifname = IfName::parse("net1").unwrap();
        record.boot_id = around.call.boot.to_owned();
        record.prefix = 29;
        let address = address(key).unwrap();
        store.import(&Scope::default(), address, &record, "", &deadline()).map_err(words)?;
    }
    Ok(())
}

/// Frees what the node's pods had that have ended under Whereabouts. No runtime knows their containers.
pub(super) fn free_ended(around: &Around) -> Answered {
    let host = around.host(around.call.node);
    let store = around.objects(host.clone());
    for held in held(&store)? {
        let is_imported = held.record.netns.as_ref().is_some_and(|netns| netns.is_unseen());
        if is_imported && held.record.attachment.node == host.node {
            ended::free_one(&store, around.store(host.clone()).as_ref(), &held, false, false)
                .map_err(words)?;
        }
    }
    Ok(())
}

/// Returns whether each entry of Whereabouts has a record.
pub(super) fn is_all_recorded(around: &Around, store: &KubeStore) -> Done<bool> {
    let entries = entries_of_whereabouts(around);
    let held = held(store)?;
    let is_held = |(key, entry): &(String, Value)| held.iter().any(|held| has(held, key, entry));
    Ok(entries.iter().all(is_held))
}

/// Makes the pool equal to what is held.
pub(super) fn export(around: &Around, store: &KubeStore) -> Answered {
    happens(around, "an export begins", "export", |world| world.is_exported = true);
    let (_, pool) = send(around, Method::Get, &format!("{HOME}{POOL}"), None);
    let entries = pool["spec"]["allocations"].as_object().cloned().unwrap_or_default();
    let held = held(store)?;
    for (key, entry) in &entries {
        let is_of = |held: &Allocation| match is_guarded(entry) {
            true => held.version.as_ref().is_some_and(|version| entry["id"] == *version.uid),
            false => has(held, key, entry),
        };
        if held.iter().any(is_of) {
            continue;
        }
        let address = address(key).unwrap();
        let path = format!("{HOME}overlappingrangeipreservations/{address}");
        let (status, found) = send(around, Method::Get, &path, None);
        let is_its_own = match is_guarded(entry) {
            true => found["spec"]["containerid"] == entry["id"],
            false => found["spec"]["podref"] == entry["podref"],
        };
        if status == 200 && is_its_own {
            let options = json!({"preconditions": found["metadata"]});
            send(around, Method::Delete, &path, Some(("application/json", options)));
        }
        let at = format!("/spec/allocations/{key}");
        let change = json!([
            {"op": "test", "path": format!("{at}/id"), "value": entry["id"]},
            {"op": "test", "path": format!("{at}/podref"), "value": entry["podref"]},
            {"op": "remove", "path": at},
        ]);
        let change = Some(("application/json-patch+json", change));
        send(around, Method::Patch, &format!("{HOME}{POOL}"), change);
    }
    for held in &held {
        if let Some(Showing::Taken(who)) = store
            .show_while_held(held, Shown::Guarded, &Deadline::after(PATIENCE))
            .map_err(words)?
        {
            return refused(&format!("{} is left: {who}", held.address));
        }
    }
    happens(around, "an export ends", "export", |world| world.is_exported = false);
    Ok(())
}

/// Gives the addresses of the node to Whereabouts.
pub(super) fn give_node(around: &Around, store: &KubeStore) -> Answered {
    happens(around, "Whereabouts serves the node", "rights", |world| world.is_given = true);
    for held in held(store)? {
        if held.record.attachment.node.as_str() != "n1" {
            continue;
        }
        let deadline = Deadline::after(PATIENCE);
        if let Showing::Done = store.show(&held, Shown::AsWhereabouts, &deadline).map_err(words)?
            && let Some(version) = &held.version
        {
            store.discard(&held.scope, held.address, version, &deadline).map_err(words)?;
        }
    }
    Ok(())
}
