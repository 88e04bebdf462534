//! The steps of an operator who moves the cluster, and the looks of the DaemonSet at the Move.
//!
//! The commands read the cluster with a kubeconfig and cannot run in a test's process. So this is a
//! model of them (except for what the import on a node frees): the writes of `cli/moving/{start,finish,back,export}.rs` in their order, with their
//! conditions, and through the store where they use the store. Pods are left out: who has an entry of
//! Whereabouts lives. Where a command waits for calls that have begun, the model waits until they have
//! ended; a call does not take longer than the command waits.

use super::happens;
use super::records::{export, free_ended, give_node, import, is_all_recorded};
use super::theirs::{merge, send};
use crate::schedules::calls::{Answered, Around};
use hereabouts::api_client::http::Method;
use hereabouts::retry::{Deadline, pause};
use hereabouts::store::kube::objects::move_object::Executable;
use serde_json::json;
use std::time::Duration;

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::schedules) enum Step {
    /// `import whereabouts`.
    Import,
    /// The part of `import whereabouts` on a node that frees what has ended.
    FreeEnded,
    /// `export whereabouts`.
    Export,
    /// `move start`.
    Start,
    /// `move finish`.
    Finish,
    /// `move back` in the state `finished`.
    Open,
    /// `move back` in the state `closing`.
    ShareAgain,
    /// `move back --node n1`.
    GiveNode,
}

const MOVE: &str = "/apis/hereabouts.dev/v1alpha1/moves/whereabouts";
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The time between two looks of a command.
const LOOK: Duration = Duration::from_secs(5);
/// How often a command looks.
const LOOKS: usize = 40;

pub(super) type Done<T = ()> = Result<T, (u64, String)>;

pub(super) fn refused<T>(words: &str) -> Done<T> {
    Err((1, words.to_owned()))
}

/// Carries out a command.
pub(super) fn operate(around: &Around, step: Step) -> Answered {
    let store = around.objects(around.host("operator")).for_dead_node();
    let store = &store;
    match step {
        Step::Import => import(around, store),
        Step::FreeEnded => free_ended(around),
        Step::Export => export(around, store),
        Step::Start => {
            import(around, store)?;
            let object = json!({
                "apiVersion": "hereabouts.dev/v1alpha1", "kind": "Move",
                "metadata": {"name": "whereabouts"},
                "spec": {"state": "shared", "generation": 1, "since": "2026-11-30T10:00:00Z"},
            });
            let all = MOVE.rsplit_once('/').unwrap().0;
            match send(around, Method::Post, all, Some(("application/json", object))).0 {
                201 | 409 => Ok(()),
                status => refused(&format!("the Move cannot be created: {status}")),
            }
        }
        Step::Finish if is(around, "finished") => Ok(()),
        Step::Finish => {
            change(around, "shared", "closing")?;
            set_rights(around, false);
            await_calls(around, false);
            import(around, store)?;
            if !is_all_recorded(around, store)? {
                return refused("an address is not recorded");
            }
            await_answer(around)?;
            change(around, "closing", "finished")
        }
        Step::Open if is(around, "shared") => Ok(()),
        Step::Open => {
            change(around, "finished", "opening")?;
            await_answer(around)?;
            await_calls(around, false);
            export(around, store)?;
            set_rights(around, true);
            change(around, "opening", "shared")
        }
        Step::ShareAgain => {
            set_rights(around, true);
            change(around, "closing", "shared")
        }
        Step::GiveNode => {
            // The node has answered nothing for two minutes.
            await_calls(around, true);
            give_node(around, store)
        }
    }
}

/// Changes the state of the Move. A command that was killed has done so before, if it is repeated.
fn change(around: &Around, from: &str, to: &str) -> Answered {
    loop {
        let (_, object) = send(around, Method::Get, MOVE, None);
        if object["spec"]["state"] == to {
            return Ok(());
        }
        if object["spec"]["state"] != from {
            return refused(&format!("the move is not {from}"));
        }
        let generation = object["spec"]["generation"].as_u64().unwrap() + 1;
        let spec = json!({"spec": {"state": to, "generation": generation}});
        match merge(around, MOVE, &object, spec).0 {
            200 => return Ok(()),
            409 => pause(&Deadline::after(PATIENCE), Duration::from_millis(20)),
            status => return refused(&format!("the Move cannot be changed: {status}")),
        }
    }
}

fn is(around: &Around, state: &str) -> bool {
    send(around, Method::Get, MOVE, None).1["spec"]["state"] == state
}

/// Creates or removes the binding of Whereabouts.
fn set_rights(around: &Around, rights: bool) {
    around.scheduler.step(
        around.thread,
        || format!("Whereabouts has rights: {rights}"),
        |world, touches| {
            touches.write("rights");
            world.objects.theirs.has_rights = rights;
        },
    );
}

/// Waits until every call has ended that has begun by now; only those of hereabouts with `ours`.
fn await_calls(around: &Around, ours: bool) {
    let mut begun = None;
    loop {
        let left = around.scheduler.step(
            around.thread,
            || "calls that have begun?".to_owned(),
            |world, touches| {
                (0..8_usize).for_each(|thread| touches.read(("running", thread)));
                let running = world.running.iter().filter(|(_, theirs)| !ours || !**theirs);
                let running: Vec<usize> = running.map(|(thread, _)| *thread).collect();
                let begun = begun.get_or_insert_with(|| running.clone());
                begun.iter().any(|thread| running.contains(thread))
            },
        );
        if !left {
            return;
        }
        pause(&Deadline::after(PATIENCE), Duration::from_secs(1));
    }
}

/// Waits until the node has answered this generation.
fn await_answer(around: &Around) -> Answered {
    for _ in 0..LOOKS {
        let (_, object) = send(around, Method::Get, MOVE, None);
        let answered = object["status"]["nodes"]["n1"]["generation"].as_u64();
        if object["spec"]["generation"].as_u64() <= answered {
            return Ok(());
        }
        pause(&Deadline::after(PATIENCE), LOOK);
    }
    refused("node n1 has not answered")
}

/// Looks at the Move and answers, as the DaemonSet does, until it has answered this generation or the
/// operator is done. Then it looks no more, as if its pod had ended.
pub(super) fn answer(around: &Around, generation: u64) -> Answered {
    let store = around.objects(around.host(around.call.node));
    for _ in 0..LOOKS {
        store.answer_move(Executable::Hereabouts, &Deadline::after(PATIENCE)).map_err(words)?;
        let answered = around.scheduler.step(
            around.thread,
            || "what has it answered?".to_owned(),
            |world, touches| {
                touches.read(("object", "moves/whereabouts"));
                world.objects.moved()["status"]["nodes"]["n1"]["generation"].as_u64()
            },
        );
        if Some(generation) <= answered || is_done(around) {
            return Ok(());
        }
        pause(&Deadline::after(PATIENCE), LOOK);
    }
    refused("the operator does not end")
}

fn is_done(around: &Around) -> bool {
    around.scheduler.step(
        around.thread,
        || "is the operator done?".to_owned(),
        |world, touches| {
            touches.read("operator");
            world.is_operated
        },
    )
}

/// Waits until the operator is done.
pub(super) fn wait(around: &Around) -> Answered {
    for _ in 0..LOOKS {
        if is_done(around) {
            return Ok(());
        }
        pause(&Deadline::after(PATIENCE), LOOK);
    }
    refused("the operator does not end")
}

/// Notes that the operator is done.
pub(super) fn done(around: &Around) {
    happens(around, "the operator is done", "operator", |world| world.is_operated = true);
}

pub(super) fn words(error: impl std::fmt::Display) -> (u64, String) {
    (1, error.to_string())
}
