//! `move back`: nodes write for Whereabouts again, Whereabouts gets its rights again, and then its
//! nodes. Each step can be repeated: the Move says how far it is.

use super::answers::{self, TO_OPEN};
use super::export::{self, Gone};
use super::missing::{self, Missing};
use super::state;
use super::view::{View, read_move};
use super::{Operator, bindings, slices};
use crate::cli::import::whereabouts::Survey;
use crate::cli::output;
use crate::ipam::Allocation;
use crate::retry::Deadline;
use crate::store::kube::KubeStore;
use crate::store::kube::moving::{Showing, Shown};
use crate::store::kube::objects::move_object::{Executable, MoveObject, MoveState};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::time::Duration;

/// Does the next step of the way back. A call that has begun ends within `longest`, and a node whose
/// DaemonSet is gone repeats no answer for as long.
pub(super) fn back(
    operator: &Operator<'_>,
    node: Option<&str>,
    longest: Duration,
    is_dry_run: bool,
) -> anyhow::Result<()> {
    let object = read_move(&operator.api)?.context("nothing is moved")?;
    let state = object.spec.state;
    match (state, node) {
        (MoveState::Ended, _) => {
            output::say("the move has ended: Whereabouts has all nodes");
            Ok(())
        }
        (MoveState::Shared, Some(node)) => give_node(operator, node, longest, is_dry_run),
        (_, Some(_)) => {
            bail!("the move is {state}: run \"hereabouts move back\" without --node first")
        }
        (MoveState::Shared, None) => end(operator, is_dry_run),
        (_, None) if is_dry_run => try_it(operator, &object),
        (MoveState::Closing, None) => share(operator, MoveState::Closing),
        (MoveState::Finished, None) => {
            let survey = Survey::read(&operator.lists()?)?;
            slices::refuse(operator, &survey, "back")?;
            let now = super::now()?;
            let to = MoveState::Opening;
            state::step(&operator.api, MoveState::Finished, to, &json!({}), now)?;
            output::say("the move is opening: nodes write for Whereabouts again");
            open(operator, longest)
        }
        (MoveState::Opening, None) => open(operator, longest),
    }
}

/// Says what would be done, and changes nothing.
fn try_it(operator: &Operator<'_>, object: &MoveObject) -> anyhow::Result<()> {
    let state = object.spec.state;
    if state != MoveState::Closing {
        if state == MoveState::Finished {
            output::say("would let all nodes write for Whereabouts again, and wait until they do");
        } else {
            let view = View::read(&operator.api, &operator.lists()?)?;
            missing::refuse(&TO_OPEN.missing(&view, object.spec.generation), "back")?;
        }
        export::export(operator, Shown::Guarded, Gone::Go, true)?;
    }
    for text in &object.spec.kept {
        let binding: Value = serde_json::from_str(text)?;
        let name = binding["metadata"]["name"].as_str().unwrap_or_default();
        output::say(&format!("would create the ClusterRoleBinding {name} again"));
    }
    Ok(())
}

/// Waits until each node writes for Whereabouts, shows it everything that is held, and gives it its
/// rights.
fn open(operator: &Operator<'_>, longest: Duration) -> anyhow::Result<()> {
    TO_OPEN.wait(operator, "back")?;
    answers::wait_for_calls(operator, longest)?;
    export::export(operator, Shown::Guarded, Gone::Go, false)?;
    share(operator, MoveState::Opening)
}

/// Gives Whereabouts its rights again.
fn share(operator: &Operator<'_>, from: MoveState) -> anyhow::Result<()> {
    let object = read_move(&operator.api)?.context("the Move is gone")?;
    if object.spec.kept.is_empty() {
        output::say(
            "note: the Move keeps no ClusterRoleBinding; give Whereabouts its rights yourself",
        );
    }
    object.spec.kept.iter().try_for_each(|text| bindings::restore(&operator.api, text))?;
    let more = json!({"kept": null});
    state::step(&operator.api, from, MoveState::Shared, &more, super::now()?)?;
    output::say("the move is shared: nodes of both give addresses");
    output::say(
        "next: give each node to Whereabouts, and run \"hereabouts move back --node NODE\"",
    );
    Ok(())
}

/// Gives the addresses of a node to Whereabouts: its entries get their true form, then the records
/// end.
fn give_node(
    operator: &Operator<'_>,
    node: &str,
    longest: Duration,
    is_dry_run: bool,
) -> anyhow::Result<()> {
    let view = View::read(&operator.api, &operator.lists()?)?;
    let seen = view.nodes.get(node);
    let answer = seen.and_then(|seen| seen.answer.as_ref());
    let now = super::now()?;
    let is_silent = |at: &str| state::ago(at, now).is_some_and(|ago| longest <= ago);
    if let (Some(seen), Some(answer)) = (seen, answer)
        && answer.executable == Executable::Hereabouts
        && (seen.has_daemon || !is_silent(&answer.at))
    {
        let lack = Missing::new(
            format!("hereabouts serves node {node}"),
            format!(
                "let the DaemonSet of Whereabouts run on it in place of that of hereabouts, and wait {}",
                output::duration(longest)
            ),
        );
        return missing::refuse(&[lack], "back");
    }
    let store = operator.store()?;
    let mut held = export::held(&store)?.of_attachments;
    held.retain(|held| held.record.attachment.node.as_str() == node);
    let (mut given, mut left) = (0_usize, 0_usize);
    for held in &held {
        if is_dry_run {
            output::say(&format!("would give {} to Whereabouts", held.address));
            continue;
        }
        match store.show(held, Shown::AsWhereabouts, &Deadline::after(export::PATIENCE))? {
            Showing::Taken(who) => {
                left = left.saturating_add(1);
                let line = format!("left: {}: Whereabouts has it for {who}", held.address);
                output::say(&output::printable(&line));
            }
            Showing::Done => {
                forget(&store, held)?;
                given = given.saturating_add(1);
            }
        }
    }
    if !is_dry_run {
        let given = output::count(given, "address");
        output::say(&format!("Whereabouts has {given} of node {node} now"));
    }
    match left {
        0 => Ok(()),
        left => bail!(
            "{} left",
            output::count(left, "address") + if left == 1 { " is" } else { " are" }
        ),
    }
}

/// Ends a record whose address Whereabouts has now.
fn forget(store: &KubeStore, held: &Allocation) -> anyhow::Result<()> {
    let Some(version) = &held.version else { return Ok(()) };
    let deadline = Deadline::after(export::PATIENCE);
    match store.discard(&held.scope, held.address, version, &deadline)? {
        true => Ok(()),
        false => bail!("the record of {} has changed: repeat the command", held.address),
    }
}

/// Ends the move when no node has a record.
fn end(operator: &Operator<'_>, is_dry_run: bool) -> anyhow::Result<()> {
    let view = View::read(&operator.api, &operator.lists()?)?;
    let with_records = view.nodes.iter().filter(|(_, node)| 0 < node.records);
    let lacks: Vec<Missing> = with_records
        .map(|(name, node)| {
            Missing::new(
                format!("node {name} has {}", output::count(node.records, "record")),
                format!(
                    "give the node to Whereabouts, and run \"hereabouts move back --node {name}\""
                ),
            )
        })
        .collect();
    missing::refuse(&lacks, "the end of the move")?;
    if is_dry_run {
        output::say("would end the move");
        return Ok(());
    }
    let now = super::now()?;
    state::step(&operator.api, MoveState::Shared, MoveState::Ended, &json!({}), now)?;
    output::say("the move has ended: Whereabouts has all nodes");
    output::say(
        "next: when no node has the executable of hereabouts, kubectl delete move whereabouts",
    );
    Ok(())
}
