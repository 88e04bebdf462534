//! What must be true after a schedule: a living sandbox whose caller was told an address holds it,
//! unless its caller or an operator ended it; and everything that is left is found by a DEL, a GC
//! or a sweep.

use super::calls::{Answered, Call, Looked, Setting, What, look, perform};
use super::scheduler::{Plan, Run, run};
use super::world::{Event, Holder, Shown, World};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Mutex;

/// What was seen before: the same state has the same consequences.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What a reader sees, by the state of disks and API.
    looked: BTreeMap<u64, Looked>,
    /// Clean-ups that leave nothing, by the state in which they begin.
    clean: BTreeSet<u64>,
}

/// Runs one call alone.
pub(super) fn alone(setting: &Setting, world: World, call: Call) -> (World, Answered) {
    let answered = Mutex::new(Ok(()));
    let run = run(
        world,
        &Plan::default(),
        vec![Box::new(|scheduler, thread| {
            *answered.lock().unwrap() = perform(setting, scheduler, thread, call)
        })],
        false,
    );
    assert!(run.faults.is_empty(), "{call:?}: {:?}", run.faults);
    (run.world, answered.into_inner().unwrap())
}

/// Runs calls one after the other. Each must succeed.
pub(super) fn then(setting: &Setting, world: World, calls: &[Call]) -> World {
    calls.iter().fold(world, |world, call| {
        let (world, answered) = alone(setting, world, *call);
        assert_eq!(answered, Ok(()), "{call:?}");
        world
    })
}

fn looked(setting: &Setting, world: World) -> Result<Looked, String> {
    let found = Mutex::new(Err("it did not look".to_owned()));
    let call = Call::new(What::Sweep);
    let run = run(
        world,
        &Plan::default(),
        vec![Box::new(|scheduler, thread| {
            *found.lock().unwrap() =
                look(setting, scheduler, thread, call).map_err(|error| format!("{error:#}"));
        })],
        false,
    );
    drop(run);
    found.into_inner().unwrap()
}

/// Returns who was told what, and may rely on it. An address that two callers rely on is a fault.
fn promises(events: &[Event]) -> Result<BTreeMap<Holder, Vec<IpAddr>>, String> {
    let mut standing: BTreeMap<Holder, Vec<IpAddr>> = BTreeMap::new();
    let mut ending: Vec<(usize, &Holder)> = Vec::new();
    let mut given_up = Vec::new();
    // An operator has said to free exactly these records: a caller that is told them once more is
    // not promised them. What was not told before belongs to a call in progress, which an operator
    // is not shown.
    let mut condemned: Vec<&Shown> = Vec::new();
    let mut told_before: Vec<&Shown> = Vec::new();
    // Except for what a killed call has left.
    let mut one_was_killed = false;
    for event in events {
        match event {
            Event::Told(told) => {
                told_before.extend(told);
                let Some(holder) = told
                    .first()
                    .map(|told| &told.holder)
                    .filter(|holder| !holder.1.starts_with("dead"))
                else {
                    continue;
                };
                let addresses: Vec<IpAddr> = told
                    .iter()
                    .filter(|told| !condemned.contains(told))
                    .map(|told| told.address)
                    .collect();
                let other = standing.iter().find(|(known, held)| {
                    *known != holder && addresses.iter().any(|one| held.contains(one))
                });
                if let Some((other, _)) =
                    other.filter(|(other, _)| !ending.iter().any(|(_, known)| known == other))
                {
                    return Err(format!(
                        "{addresses:?} was told to {holder:?} while {other:?} relies on it"
                    ));
                }
                if !given_up.contains(&holder.0) {
                    standing.insert(holder.clone(), addresses);
                }
            }
            Event::Ending(call, holder) => ending.push((*call, holder)),
            Event::Ended(call, holder) | Event::Broken(call, holder) => {
                ending.retain(|known| *known != (*call, holder));
                standing.remove(holder);
            }
            // A DEL may have freed everything or nothing, and comes again.
            Event::Killed(call) => {
                one_was_killed = true;
                ending.retain(|(known, holder)| {
                    if known == call {
                        standing.remove(*holder);
                    }
                    known != call
                });
            }
            Event::Shown(shown) => shown.iter().for_each(|shown| {
                standing.remove(&shown.holder);
                condemned.extend(
                    Some(shown).filter(|shown| one_was_killed || told_before.contains(shown)),
                );
            }),
            // The operator says that the node is off: a call that runs there all the same is
            // promised nothing.
            Event::GivenUp(node) => {
                given_up.push(*node);
                standing.retain(|holder, _| holder.0 != *node);
            }
        }
    }
    Ok(standing)
}

/// Returns what is wrong after a run.
///
/// # Errors
///
/// A text.
pub(super) fn check(
    setting: &Setting,
    known: &mut Known,
    run: &Run,
    calls: &[Call],
) -> Result<(), String> {
    if let Some(fault) = run.faults.first() {
        return Err(fault.clone());
    }
    let promises = promises(&run.world.events)?;
    let state = run.world.state();
    let found = match known.looked.entry(state) {
        Entry::Occupied(seen) => seen.into_mut(),
        Entry::Vacant(unseen) => unseen.insert(looked(setting, run.world.clone())?),
    };
    // A sweep finds what a fault leaves, and what a node leaves that is given up and runs all the
    // same.
    let is_fault =
        |event: &Event| matches!(event, Event::Killed(_) | Event::Broken(..) | Event::GivenUp(_));
    // On a node that Whereabouts serves again, nobody looks.
    let undisturbed = !run.world.is_given
        && !run.world.events.iter().any(is_fault)
        && calls.iter().all(|call| call.bad_flush.is_none() && call.bad_request.is_none());
    if undisturbed && !found.wrong.is_empty() {
        return Err(format!("verify finds {:?}", found.wrong));
    }
    for (holder, addresses) in &promises {
        for address in addresses {
            if setting.is_moving {
                super::moves::stands::stands(&run.world, &found.held, holder, *address)?;
                continue;
            }
            match found.held.iter().find(|(known, ..)| known == address) {
                Some((_, node, container)) if node == holder.0 && *container == holder.1 => {}
                Some((_, node, container)) => {
                    return Err(format!(
                        "{address} was told to {holder:?} and is held by {container} of {node}"
                    ));
                }
                None => return Err(format!("{address} was told to {holder:?} and is free")),
            }
        }
    }
    super::slices::each_is_in_a_slice_of_its_node(setting, &run.world, &promises)?;
    super::debts::nothing_is_owed_with_an_answer(&run.world, calls)?;
    nothing_is_left(setting, known, run.world.clone(), calls)
}

/// The time between two checks for creations that may come late, in seconds.
const LOOK_AGAIN: u64 = 6;

/// Makes a DEL of every container, then a GC and a sweep that see no living sandbox.
fn nothing_is_left(
    setting: &Setting,
    known: &mut Known,
    mut world: World,
    calls: &[Call],
) -> Result<(), String> {
    let mut holders: Vec<Holder> = calls.iter().filter_map(Call::holder).collect();
    holders.extend(world.events.iter().filter_map(|event| match event {
        Event::Told(told) => told.first().map(|told| told.holder.clone()),
        _ => None,
    }));
    holders.sort();
    holders.dedup();
    let (is_moving, begun) = (setting.is_moving, world.clone());
    let del = |later: u64| {
        let what = |container| match is_moving {
            true => super::moves::stands::end_of(&begun, container),
            false => What::Del(container),
        };
        let call = |(node, container): &Holder| Call {
            later,
            ..Call::new(what(super::known(container))).on(node)
        };
        holders.iter().map(call).collect::<Vec<Call>>()
    };
    // What is left is found when no call can be writing it any more.
    let later = 2 * 24 * 60 * 60;
    let nodes = super::calls::NODES.iter();
    let collects = nodes.flat_map(|node| {
        [What::Gc, What::Sweep].map(|what| Call { dead: "", later, ..Call::new(what).on(node) })
    });
    // A call that checks for late creations deletes them, some seconds later.
    let dels: Vec<Call> = [del(0), del(LOOK_AGAIN)].concat();
    let frees = dels.len();
    let all_free = !world.events.iter().any(|event| matches!(event, Event::Broken(..)));
    // What an export has shown while its record ended is removed by the next one.
    let export = begun.is_exported.then_some(super::moves::EXPORT);
    let todo: Vec<Call> = dels.into_iter().chain(collects).chain(export).collect();
    let mut passed = Vec::new();
    for (done, call) in todo.iter().enumerate() {
        let mut hasher = DefaultHasher::new();
        (world.state(), &todo[done..], all_free && done <= frees).hash(&mut hasher);
        let begins = hasher.finish();
        if known.clean.contains(&begins) {
            known.clean.extend(passed);
            return Ok(());
        }
        passed.push(begins);
        if all_free && done == frees {
            let found = &looked(setting, world.clone())?.held;
            let left = found.iter().find(|(_, node, container)| {
                // An imported record ends with the next import, and that of a node that goes back with
                // the repeated command.
                let is_ended = is_moving && super::moves::is_theirs(container) || begun.is_given;
                !is_ended && holders.iter().any(|holder| holder.0 == node && holder.1 == *container)
            });
            if let Some(left) = left {
                return Err(format!("a DEL of its holder has left {left:?}"));
            }
        }
        let (next, answered) = alone(setting, world, *call);
        answered.map_err(|(code, words)| format!("{call:?} afterwards: {code} {words}"))?;
        world = next;
    }
    let left = looked(setting, world.clone())?.held;
    if !left.is_empty() {
        return Err(format!("left when all is freed: {left:?}"));
    }
    let entries: Vec<_> = world
        .disks
        .values()
        .flat_map(super::disk::Tree::files)
        .filter(|path| is_entry(path))
        .collect();
    if !entries.is_empty() {
        return Err(format!("files are left when all is freed: {entries:?}"));
    }
    if is_moving {
        super::moves::stands::nothing_is_left(&world)?;
    }
    known.clean.extend(passed);
    Ok(())
}

/// Returns whether a file exists because of a holder.
fn is_entry(path: &std::path::Path) -> bool {
    let text = path.to_string_lossy();
    super::debts::is_debt(&text)
        || text.starts_with("attachments/")
        || text.starts_with("pods/")
        || text.contains("@tmp/")
        || text.contains("@net1.")
}
