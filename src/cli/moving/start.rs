//! `move start`: from here on, nodes of Whereabouts and of hereabouts give addresses out of one range.

use super::Operator;
use super::answers::{self, TO_START};
use super::missing::{self, Missing};
use super::view::View;
use super::{export, pools, slices, state};
use crate::cli::import::report::Outcome;
use crate::cli::import::whereabouts::Survey;
use crate::cli::output;
use crate::retry::{Deadline, pause};
use crate::store::kube::objects::move_object::MoveState;
use anyhow::bail;
use serde_json::json;
use std::time::Duration;

/// The resources that a move needs: the path of their group, the plural name, and how they come.
const RESOURCES: [(&str, &str, &str); 4] = [
    ("/apis/hereabouts.dev/v1alpha1", "moves", "kubectl apply -k deploy/crd"),
    ("/apis/hereabouts.dev/v1alpha1", "ipallocations", "kubectl apply -k deploy/crd"),
    ("/apis/whereabouts.cni.cncf.io/v1alpha1", "ippools", INSTALL),
    ("/apis/whereabouts.cni.cncf.io/v1alpha1", "overlappingrangeipreservations", INSTALL),
];
const INSTALL: &str =
    "check that the kubeconfig names the cluster of Whereabouts, and that it is v0.5 or later";

/// How long an API server may take to serve a resource that was just applied, and the time between two
/// looks.
const SERVED: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(500);

/// Starts the move. A call that has begun on a node of hereabouts ends within `longest`.
pub(super) fn start(
    operator: &Operator<'_>,
    longest: Duration,
    is_dry_run: bool,
) -> anyhow::Result<()> {
    missing::refuse(&resources(operator)?, "start")?;
    let lists = operator.lists()?;
    let view = View::read(&operator.api, &lists)?;
    let state = view.object.as_ref().map(|object| object.spec.state);
    match state {
        None | Some(MoveState::Ended) => {}
        Some(MoveState::Shared) if is_dry_run => {
            output::say("the move has started: nodes of both give addresses");
            return Ok(());
        }
        Some(MoveState::Shared) => return await_nodes(operator, longest),
        Some(state) => {
            bail!("the move is {state}: \"hereabouts move status\" shows the next command")
        }
    }
    let mut survey = Survey::read(&lists)?;
    output::say(&survey.in_words());
    missing::refuse(&missing::to_start(&view, &survey), "start")?;
    slices::refuse(operator, &survey, "start")?;
    let pools = pools::missing(&survey);
    let count =
        |outcome: fn(&Outcome) -> bool| survey.rows().filter(|row| outcome(&row.outcome)).count();
    let new = count(|outcome| *outcome == Outcome::New);
    let left = count(|outcome| matches!(outcome, Outcome::Left { .. }));
    if 0 < left {
        output::say(&format!(
            "{} cannot be recorded yet: Whereabouts' pools keep {} until \"move finish\"; \"hereabouts import whereabouts --dry-run\" says why",
            output::count(left, "address"),
            if left == 1 { "it" } else { "them" },
        ));
    }
    if is_dry_run {
        pools.iter().for_each(|(_, name, range)| {
            output::say(&format!("would create the IPPool {name} for {range}"));
        });
        output::say(&format!("would record {}", output::count(new, "address")));
        output::say("would create the Move, state shared");
        return Ok(());
    }
    for (namespace, name, range) in &pools {
        pools::create(operator, namespace, name, range)?;
    }
    survey.write(operator.environment, &operator.located, operator.kubeconfig)?;
    output::say(&format!("recorded {}", output::count(new, "address")));
    let now = operator.located.machine.now;
    match state {
        None => state::create(&operator.api, now)?,
        Some(from) => {
            state::step(&operator.api, from, MoveState::Shared, &json!({}), now)?;
        }
    }
    await_nodes(operator, longest)
}

/// Waits for the nodes that run hereabouts already, and shows Whereabouts what they hold. Until they
/// have seen the move, they do not look at what Whereabouts has given.
fn await_nodes(operator: &Operator<'_>, longest: Duration) -> anyhow::Result<()> {
    TO_START.wait(operator, "the next step")?;
    if TO_START.concerns(&View::read(&operator.api, &operator.lists()?)?) {
        answers::wait_for_calls(operator, longest)?;
    }
    export::show_given(operator)?;
    output::say("the move has started: nodes of both give addresses");
    output::say(
        "next: put nodes under hereabouts, one after the other; \"hereabouts move status\" shows them",
    );
    Ok(())
}

/// Returns the resources that the cluster does not have. Waits for those that it will have in a moment.
fn resources(operator: &Operator<'_>) -> anyhow::Result<Vec<Missing>> {
    let deadline = Deadline::after(SERVED);
    loop {
        let mut missing = Vec::new();
        let mut will_be_served = true;
        for (name, hint) in unknown_resources(operator)? {
            let is_defined = is_defined(operator, &name)?;
            will_be_served &= is_defined;
            missing.push(match is_defined {
                true => Missing::new(
                    format!("the API server does not serve the resource {name}, which is defined"),
                    format!("kubectl describe crd/{name} says why"),
                ),
                false => {
                    Missing::new(format!("the cluster does not have the resource {name}"), hint)
                }
            });
        }
        if missing.is_empty() || !will_be_served || deadline.left().is_zero() {
            return Ok(missing);
        }
        pause(&deadline, LOOK);
    }
}

/// Returns the names of resources that the API server does not serve, and how they come.
fn unknown_resources(operator: &Operator<'_>) -> anyhow::Result<Vec<(String, &'static str)>> {
    let mut unknown = Vec::new();
    for (path, plural, hint) in RESOURCES {
        let group = operator.api.get(path)?.unwrap_or_default();
        let known = group["resources"].as_array().into_iter().flatten();
        if !known.into_iter().any(|resource| resource["name"] == plural) {
            let group = path.split('/').nth(2).unwrap_or_default();
            unknown.push((format!("{plural}.{group}"), hint));
        }
    }
    Ok(unknown)
}

fn is_defined(operator: &Operator<'_>, name: &str) -> anyhow::Result<bool> {
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
    Ok(operator.api.get(&path)?.is_some())
}
