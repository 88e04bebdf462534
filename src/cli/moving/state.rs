//! Changes of the Move by the commands of an operator.

use super::api::{Api, Written};
use super::view::{MOVE, read_move};
use crate::retry::{Deadline, pause};
use crate::store::kube::objects::move_object::{MoveObject, MoveState};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// The collection of Moves.
const MOVES: &str = "/apis/hereabouts.dev/v1alpha1/moves";
/// How often a change is repeated that met another one, such as an answer of a node.
const ROUNDS: usize = 100;

/// Creates the Move.
///
/// # Errors
/// It cannot be created, or another command has created it.
pub(super) fn create(api: &Api, now: SystemTime) -> anyhow::Result<()> {
    let mut object = serde_json::to_value(MoveObject::new(text(now)))?;
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    match api.create(MOVES, &object)? {
        Written::Done(_) => Ok(()),
        Written::Conflict => {
            bail!("another command has created the Move meanwhile: repeat this one")
        }
        Written::Absent => bail!("the cluster does not know Moves: apply deploy/crd"),
    }
}

/// Changes the state from `from` to `to`. `more` are further keys of the spec.
///
/// # Errors
/// The state is another one by now, or the change is refused.
pub(super) fn step(
    api: &Api,
    from: MoveState,
    to: MoveState,
    more: &Value,
    now: SystemTime,
) -> anyhow::Result<MoveObject> {
    change(api, &mut |object| {
        if object.spec.state != from {
            bail!("the move is {} by now: repeat the command", object.spec.state);
        }
        let mut spec = more.clone();
        spec["state"] = json!(to);
        spec["generation"] = json!(object.spec.generation.saturating_add(1));
        spec["since"] = json!(text(now));
        Ok(spec)
    })
}

/// Changes keys of the spec.
///
/// # Errors
/// The Move is gone, or the change is refused.
pub(super) fn change(
    api: &Api,
    spec: &mut dyn FnMut(&MoveObject) -> anyhow::Result<Value>,
) -> anyhow::Result<MoveObject> {
    for _ in 0..ROUNDS {
        let object = read_move(api)?.context("the Move is gone")?;
        let version = json!(object.metadata.resource_version);
        match api.merge(MOVE, &version, json!({"spec": spec(&object)?}))? {
            Written::Done(object) => return Ok(serde_json::from_value(object)?),
            Written::Conflict => pause(&Deadline::after(PAUSE), PAUSE),
            Written::Absent => bail!("the Move is gone"),
        }
    }
    bail!("the Move changes too often: repeat the command")
}

const PAUSE: Duration = Duration::from_millis(20);

/// Returns how long ago the state began. `None` if the time is not readable, or in the future.
pub(super) fn age(object: &MoveObject, now: SystemTime) -> Option<Duration> {
    ago(&object.spec.since, now)
}

/// Returns how long ago a time was.
pub(super) fn ago(text: &str, now: SystemTime) -> Option<Duration> {
    now.duration_since(humantime::parse_rfc3339_weak(text).ok()?).ok()
}

fn text(now: SystemTime) -> String {
    humantime::format_rfc3339_seconds(now).to_string()
}
