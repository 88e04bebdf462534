//! `move finish`: Whereabouts loses its rights, what it has given is recorded, and then nodes write
//! nothing for it any more. Each step can be repeated: the Move says how far it is.

use super::Operator;
use super::missing;
use super::state;
use super::view::View;
use super::{Wait, bindings};
use crate::cli::import::whereabouts::Survey;
use crate::cli::output;
use crate::store::kube::objects::move_object::{MoveObject, MoveState};
use anyhow::{Context, bail};
use serde_json::json;
use std::time::Duration;

/// Ends a move. A call of Whereabouts that has begun ends within `longest`.
pub(super) fn finish(
    operator: &Operator<'_>,
    longest: Duration,
    is_dry_run: bool,
) -> anyhow::Result<()> {
    let view = View::read(&operator.api, &operator.lists()?)?;
    let object =
        view.object.as_ref().context("nothing is moved: \"hereabouts move start\" begins")?;
    match object.spec.state {
        MoveState::Shared | MoveState::Closing => {}
        MoveState::Finished => {
            output::say("the move is finished: nodes write nothing for Whereabouts any more");
            return Ok(());
        }
        state => bail!("the move is {state}: \"hereabouts move status\" shows the next command"),
    }
    if is_dry_run {
        return try_it(operator, &view, object, longest);
    }
    if object.spec.state == MoveState::Shared {
        let mut lacks = missing::cleaners(&view);
        lacks.extend(missing::to_close(&view, object));
        missing::refuse(&lacks, "finish")?;
        close(operator)?;
    }
    take_rights(operator)?;
    let object = super::view::read_move(&operator.api)?.context("the Move is gone")?;
    Wait { what: "calls of Whereabouts that have begun", time: longest }.since(&object)?;
    let lists = operator.lists()?;
    let mut survey = Survey::read(&lists)?;
    output::say(&survey.in_words());
    survey.write(operator.environment, &operator.located, operator.kubeconfig)?;
    // What was recorded just now counts as recorded.
    let survey = Survey::read(&lists)?;
    let view = View::read(&operator.api, &lists)?;
    let mut lacks = missing::to_finish(&view, &survey, &object);
    lacks.extend(missing::not_recorded(&survey));
    missing::refuse(&lacks, "finish")?;
    let now = super::now()?;
    state::step(&operator.api, MoveState::Closing, MoveState::Finished, &json!({}), now)?;
    output::say("the move is finished: nodes write nothing for Whereabouts any more");
    output::say(
        "next: remove deploy/moving and Whereabouts itself; keep its custom resources until nobody wants to go back",
    );
    Ok(())
}

/// Says what is missing, and changes nothing.
fn try_it(
    operator: &Operator<'_>,
    view: &View,
    object: &MoveObject,
    longest: Duration,
) -> anyhow::Result<()> {
    let survey = Survey::read(&operator.lists()?)?;
    let mut lacks = missing::cleaners(view);
    lacks.extend(missing::to_finish(view, &survey, object));
    for binding in bindings::read(&operator.api)? {
        let name = binding["metadata"]["name"].as_str().unwrap_or_default();
        output::say(&format!(
            "would remove the ClusterRoleBinding {name}, and keep it in the Move"
        ));
    }
    missing::refuse(&lacks, "finish")?;
    output::say(&format!(
        "would wait {} after that, import again, and finish the move",
        output::duration(longest)
    ));
    Ok(())
}

/// The Move keeps the bindings before one of them is removed.
fn close(operator: &Operator<'_>) -> anyhow::Result<()> {
    let found = bindings::read(&operator.api)?;
    if found.is_empty() {
        output::say(
            "note: no ClusterRoleBinding gives Whereabouts its rights; make sure that it has no others",
        );
    }
    let object = super::view::read_move(&operator.api)?.context("the Move is gone")?;
    let kept = bindings::keep(&object.spec.kept, &found)?;
    let now = super::now()?;
    state::step(&operator.api, MoveState::Shared, MoveState::Closing, &json!({"kept": kept}), now)?;
    output::say("the move is closing: Whereabouts loses its rights");
    Ok(())
}

/// Takes away the bindings that are there, also one that somebody has created again.
fn take_rights(operator: &Operator<'_>) -> anyhow::Result<()> {
    let found = bindings::read(&operator.api)?;
    if found.is_empty() {
        return Ok(());
    }
    let now = super::now()?;
    state::change(&operator.api, &mut |object| {
        let kept = bindings::keep(&object.spec.kept, &found)?;
        // Whereabouts may have begun a call just now.
        let since = humantime::format_rfc3339_seconds(now).to_string();
        Ok(json!({"kept": kept, "since": since}))
    })?;
    found.iter().try_for_each(|binding| bindings::remove(&operator.api, binding))
}
