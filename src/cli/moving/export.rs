//! `export whereabouts`: makes the pools and reservations of Whereabouts equal to what is held. Each
//! change names what it replaces, so that nothing is lost that another program writes meanwhile.

use super::Operator;
use super::api::Written;
use super::view::View;
use super::{pools, slices};
use crate::cli::import::report::Outcome;
use crate::cli::import::whereabouts::{Survey, SurveyedEntry, SurveyedNetwork};
use crate::cli::{output, records};
use crate::ipam::{Allocation, ClaimAllocation, HeldAddress, Netns, Scope};
use crate::retry::Deadline;
use crate::store::Filter;
use crate::store::kube::KubeStore;
use crate::store::kube::moving::{Showing, Shown};
use crate::store::kube::objects::move_object::MoveState;
use crate::whereabouts::names;
use anyhow::bail;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const GROUP: &str = "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces";
/// The time limit of one address.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What an export has done, or would do.
#[derive(Debug, Default)]
struct Exported {
    /// Addresses that Whereabouts sees now.
    shown: usize,
    /// Addresses in no range of Whereabouts.
    elsewhere: usize,
    /// Entries and reservations without a record that were removed.
    removed: usize,
    /// Addresses that somebody else has in Whereabouts' objects.
    left: usize,
}

pub(super) fn command(operator: &Operator<'_>, is_dry_run: bool) -> anyhow::Result<()> {
    let object = super::view::read_move(&operator.api)?;
    let state = object.map(|object| object.spec.state);
    let shown = match state {
        None | Some(MoveState::Ended) => Shown::AsWhereabouts,
        Some(_) => Shown::Guarded,
    };
    export(operator, shown, Gone::Stay, is_dry_run)
}

/// What happens to entries that Whereabouts wrote for pods that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// They stay: Whereabouts may know more.
    Stay,
    /// They are removed. Since the move was finished, Whereabouts has written none, and whatever
    /// stood there was recorded before.
    Go,
}

/// Makes the objects of Whereabouts equal to what is held.
///
/// # Errors
/// An address has another holder there, or the API server refuses.
pub(super) fn export(
    operator: &Operator<'_>,
    shown: Shown,
    gone: Gone,
    is_dry_run: bool,
) -> anyhow::Result<()> {
    let lists = operator.lists()?;
    let mut survey = Survey::read(&lists)?;
    slices::refuse(operator, &survey, "export")?;
    let pools = pools::missing(&survey);
    if !pools.is_empty() {
        for (namespace, name, range) in &pools {
            match is_dry_run {
                true => output::say(&format!("would create the IPPool {name} for {range}")),
                false => pools::create(operator, namespace, name, range)?,
            }
        }
        survey = Survey::read(&operator.lists()?)?;
    }
    // The records are read after the entries: an entry is there only while its record is.
    let view = View::read(&operator.api, &operator.lists()?)?;
    let mut exported = Exported::default();
    remove_strays(operator, &survey, &view, is_dry_run, &mut exported)?;
    let store = operator.store()?;
    let Held { of_attachments: all, of_claims } = held(&store)?;
    let networks = survey.networks();
    if gone == Gone::Go {
        remove_gone(operator, &survey, &all, is_dry_run, &mut exported)?;
        survey = Survey::read(&operator.lists()?)?;
    }
    for held in &all {
        match pools::have(&survey, &networks, name(&held.scope), held.address) {
            false => exported.elsewhere = exported.elsewhere.saturating_add(1),
            true if is_dry_run => exported.shown = exported.shown.saturating_add(1),
            true => show(&store, held, shown, &mut exported)?,
        }
    }
    leave_claims(&of_claims, &survey, &networks, &mut exported);
    for row in survey.rows().filter(|row| row.outcome != Outcome::Known) {
        let pod = row.pod.as_deref().unwrap_or("-");
        let line = format!("not touched: {} of pod {pod}, {}", row.address, row.source);
        output::say(&output::printable(&line));
    }
    print(&exported, is_dry_run)
}

/// Shows Whereabouts what nodes of hereabouts gave before the move: their networks may have the same
/// ranges. What was imported and not completed stands there as Whereabouts wrote it.
///
/// # Errors
/// An address has another holder there or is held by a claim, or the API server refuses.
pub(super) fn show_given(operator: &Operator<'_>) -> anyhow::Result<()> {
    let survey = Survey::read(&operator.lists()?)?;
    let networks = survey.networks();
    let seen: BTreeSet<&str> = survey.ours().map(|entry| entry.uid).collect();
    let store = operator.store()?;
    let Held { of_attachments: mut given, of_claims } = held(&store)?;
    given.retain(|held| {
        let is_imported = held.record.netns.as_ref().is_some_and(Netns::is_unseen);
        let is_seen = held.version.as_ref().is_some_and(|version| seen.contains(&*version.uid));
        !is_imported && !is_seen && pools::have(&survey, &networks, name(&held.scope), held.address)
    });
    let mut exported = Exported::default();
    for held in &given {
        show(&store, held, Shown::Guarded, &mut exported)?;
    }
    // A node may have given them since `start` has looked.
    leave_claims(&of_claims, &survey, &networks, &mut exported);
    match given.is_empty() && exported.left == 0 {
        true => Ok(()),
        false => print(&exported, false),
    }
}

/// Everything that is held.
#[derive(Default)]
pub(super) struct Held {
    pub(super) of_attachments: Vec<Allocation>,
    of_claims: Vec<ClaimAllocation>,
}

/// Returns everything that is held.
///
/// # Errors
/// A record cannot be read.
pub(super) fn held(store: &KubeStore) -> anyhow::Result<Held> {
    let mut found = Held::default();
    let unreadable = records::each(store, &Filter::default(), &mut |held| {
        match held {
            HeldAddress::Attachment(held) => found.of_attachments.push(*held),
            HeldAddress::Claim(held) => found.of_claims.push(*held),
        }
        Ok(())
    })?;
    match unreadable {
        0 => Ok(found),
        count => bail!("{} cannot be read", output::count(count, "record")),
    }
}

/// Whereabouts knows no claims.
fn leave_claims(
    of_claims: &[ClaimAllocation],
    survey: &Survey,
    networks: &[SurveyedNetwork],
    exported: &mut Exported,
) {
    for held in of_claims {
        if !pools::have(survey, networks, name(&held.scope), held.address) {
            continue;
        }
        exported.left = exported.left.saturating_add(1);
        output::say(&output::printable(&format!(
            "left: {} is held by {}: Whereabouts cannot see it, and would give it to a pod; delete the claim",
            held.address,
            HeldAddress::from(held.clone()).holder()
        )));
    }
}

fn name(scope: &Scope) -> &str {
    scope.name().unwrap_or_default()
}

fn show(
    store: &KubeStore,
    held: &Allocation,
    shown: Shown,
    exported: &mut Exported,
) -> anyhow::Result<()> {
    match store.show_while_held(held, shown, &Deadline::after(PATIENCE))? {
        Some(Showing::Done) => exported.shown = exported.shown.saturating_add(1),
        Some(Showing::Taken(who)) => {
            exported.left = exported.left.saturating_add(1);
            output::say(&output::printable(&format!(
                "left: {} is held by {}, and Whereabouts has it for {who}",
                held.address,
                held.holder()
            )));
        }
        None => {
            exported.removed = exported.removed.saturating_add(1);
            output::say(&format!("has ended meanwhile: {}", held.address));
        }
    }
    Ok(())
}

/// Removes what Whereabouts wrote for pods that are gone, unless a record says that the sandbox lives.
fn remove_gone(
    operator: &Operator<'_>,
    survey: &Survey,
    held: &[Allocation],
    is_dry_run: bool,
    exported: &mut Exported,
) -> anyhow::Result<()> {
    for (entry, scope, address) in survey.gone() {
        let is_held = held.iter().any(|held| {
            held.address == address
                && name(&held.scope) == scope
                && held.record.attachment.container.as_str() == entry.uid
        });
        if is_held {
            continue;
        }
        exported.removed = exported.removed.saturating_add(1);
        output::say(&output::printable(&format!(
            "of pod {}, which is gone: {}",
            entry.pod, entry.place
        )));
        let name = names::reservation(scope, address);
        let path = format!("{GROUP}/{}/overlappingrangeipreservations/{name}", entry.namespace);
        if !is_dry_run {
            if let Some(object) = operator.api.get(&path)?
                && object["spec"]["podref"] == entry.pod
            {
                operator.api.delete(&path, &object["metadata"])?;
            }
            remove_entry(operator, &entry)?;
        }
    }
    Ok(())
}

/// Removes an entry if it is still the one that was read.
fn remove_entry(operator: &Operator<'_>, entry: &SurveyedEntry<'_>) -> anyhow::Result<()> {
    let at = format!("/spec/allocations/{}", entry.key);
    let change = json!([
        {"op": "test", "path": format!("{at}/id"), "value": entry.uid},
        {"op": "test", "path": format!("{at}/podref"), "value": entry.pod},
        {"op": "remove", "path": at},
    ]);
    let path = format!("{GROUP}/{}/ippools/{}", entry.namespace, entry.pool);
    if matches!(operator.api.patch(&path, &change)?, Written::Conflict) {
        output::say(&format!("{} is another one by now", entry.place));
    }
    Ok(())
}

/// Removes what nodes of hereabouts have written for records that are gone.
fn remove_strays(
    operator: &Operator<'_>,
    survey: &Survey,
    view: &View,
    is_dry_run: bool,
    exported: &mut Exported,
) -> anyhow::Result<()> {
    let is_stray = |uid: &str| !view.records.contains_key(uid);
    for (namespace, name, uid) in survey.our_reservations().filter(|(_, _, uid)| is_stray(uid)) {
        exported.removed = exported.removed.saturating_add(1);
        output::say(&format!("without a record: the reservation {namespace}/{name}"));
        let path = format!("{GROUP}/{namespace}/overlappingrangeipreservations/{name}");
        if !is_dry_run
            && let Some(object) = operator.api.get(&path)?
            && object["spec"]["containerid"] == uid
        {
            operator.api.delete(&path, &object["metadata"])?;
        }
    }
    for entry in survey.ours().filter(|entry| is_stray(entry.uid)) {
        exported.removed = exported.removed.saturating_add(1);
        output::say(&format!("without a record: {}", entry.place));
        if !is_dry_run {
            remove_entry(operator, &entry)?;
        }
    }
    Ok(())
}

fn print(exported: &Exported, is_dry_run: bool) -> anyhow::Result<()> {
    let Exported { shown, elsewhere, removed, left } = exported;
    let would = if is_dry_run { "would be " } else { "" };
    output::print(&format!(
        "{}: {shown} {would}shown to Whereabouts, {elsewhere} in none of its ranges, {left} left; {} without a record {would}removed\n",
        output::count(shown.saturating_add(*elsewhere).saturating_add(*left), "held address"),
        output::count(*removed, "object"),
    ))?;
    match left {
        0 => Ok(()),
        count => bail!(
            "{} left: find out which pod uses each, delete the other one, and repeat",
            output::count(*count, "address") + if *count == 1 { " is" } else { " are" }
        ),
    }
}
