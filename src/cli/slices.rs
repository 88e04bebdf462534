//! `slices`: which node owns which block of a pool.

use super::published::{age, ago};
use super::{
    Format, HintedError, SlicesCommand, SlicesListArgs, SlicesRemoveArgs, StoreArgs, locate,
    output, records, selectors,
};
use crate::addr::Subnet;
use crate::environment::Environment;
use crate::ipam::NodeName;
use crate::plugin::pools::Pools;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::pools::Read;
use crate::store::slices::{OwnSlice, Removal, Slice, Slices};
use crate::store::upkeep::Upkeep;
use anyhow::bail;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

const HEADINGS: [&str; 7] = ["POOL", "BLOCK", "NODE", "SINCE", "STATE", "HELD", "AS OF"];

pub(super) fn slices(environment: &Environment, command: &SlicesCommand) -> anyhow::Result<()> {
    match command {
        SlicesCommand::List(args) => list(environment, args),
        SlicesCommand::Remove(args) => remove(environment, args),
        SlicesCommand::Return => give_back(environment),
        SlicesCommand::Sync => sync(environment),
    }
}

fn of(store: &dyn Upkeep) -> anyhow::Result<&dyn Slices> {
    store.slices().ok_or_else(|| {
        let hint = "slices are blocks of pools in the Kubernetes store";
        HintedError::new("the file store has no slices", hint).into()
    })
}

fn list(environment: &Environment, args: &SlicesListArgs) -> anyhow::Result<()> {
    let node = args.node.as_deref().map(selectors::parse_node).transpose()?;
    let located = locate::locate(environment, &args.store)?;
    let store = located.store()?;
    let mut found = of(store.as_ref())?.all(node.as_ref(), &Deadline::after(records::PATIENCE))?;
    found.retain(|slice| {
        (args.pool.is_empty() || args.pool.contains(&slice.pool))
            && args.address.is_none_or(|address| slice.block.contains(address))
    });
    let own = own(&located);
    let now = located.machine.now;
    if args.output == Format::Json {
        let document = |slice: &Slice| encode(slice, own.get(&slice.name), now);
        return output::print_json(&Value::Array(found.iter().map(document).collect()));
    }
    if found.is_empty() {
        output::say("no slice matches");
        return Ok(());
    }
    let rows: Vec<Vec<String>> =
        found.iter().map(|slice| row(slice, own.get(&slice.name), now)).collect();
    output::print(&output::table(&HEADINGS, &rows))
}

/// Returns what this node knows about its own slices. A command that acts for no node knows nothing.
fn own(located: &locate::Located<'_>) -> BTreeMap<String, OwnSlice> {
    let of_node = |node: &NodeName| -> anyhow::Result<Vec<OwnSlice>> {
        Ok(of(located.store_of(node)?.as_ref())?.own()?)
    };
    let known = located.node.as_ref().map_or(Ok(Vec::new()), of_node);
    let known = known.unwrap_or_else(|error| {
        output::say(&format!("warning: {}", output::in_one_line(&error)));
        Vec::new()
    });
    known.into_iter().map(|own| (own.name.clone(), own)).collect()
}

fn state<'s>(slice: &Slice, own: Option<&OwnSlice>) -> &'s str {
    match (&slice.released, &slice.returned, own) {
        (Some(_), _, _) => "released",
        (None, Some(_), _) => "returned",
        (None, None, Some(own)) => own.state,
        (None, None, None) => "owned",
    }
}

/// Returns how many addresses are held, and the time since the node of the slice has published it.
/// This node knows its own slices by itself.
fn held(
    slice: &Slice,
    own: Option<&OwnSlice>,
    now: SystemTime,
) -> (Option<usize>, Option<Duration>) {
    match (own, slice.published) {
        (Some(own), _) => (Some(own.held), None),
        (None, Some(published)) => {
            (usize::try_from(published.count).ok(), Some(age(published, now)))
        }
        (None, None) => (None, None),
    }
}

fn row(slice: &Slice, own: Option<&OwnSlice>, now: SystemTime) -> Vec<String> {
    let (held, age) = held(slice, own, now);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        output::printable(&slice.pool),
        slice.block.to_string(),
        output::printable(&slice.node),
        output::printable(slice.since.split('.').next().unwrap_or_default()),
        state(slice, own).to_owned(),
        or_dash(held.map(|held| held.to_string())),
        or_dash(age.map(ago)),
    ]
}

fn encode(slice: &Slice, own: Option<&OwnSlice>, now: SystemTime) -> Value {
    let (held, age) = held(slice, own, now);
    let text = |subnet: Option<Subnet>| subnet.map(|subnet| subnet.to_string());
    json!({
        "name": slice.name,
        "pool": slice.pool,
        "ipv4": text(slice.block.v4),
        "ipv6": text(slice.block.v6),
        "node": slice.node,
        "since": slice.since,
        "state": state(slice, own),
        "released": slice.released,
        "returned": slice.returned,
        "held": held,
        "ageSeconds": age.map(|age| age.as_secs()),
    })
}

fn remove(environment: &Environment, args: &SlicesRemoveArgs) -> anyhow::Result<()> {
    let located = locate::locate(environment, &args.store)?;
    let store = located.store()?;
    let slices = of(store.as_ref())?;
    let mut kept = 0;
    for name in &args.names {
        let shown = output::printable(name);
        let reason = match slices.remove(name, &Deadline::after(records::PATIENCE))? {
            Removal::Done => {
                output::print(&format!("removed {shown}\n"))?;
                continue;
            }
            Removal::Absent => "no slice has this name".to_owned(),
            Removal::NotReleased => {
                "its node gives addresses from it; \"hereabouts release --node NODE\" releases the slices of a node that is off".to_owned()
            }
            Removal::NodeMayLive(reason) => reason,
        };
        output::say(&format!("kept {shown}: {reason}"));
        kept += 1;
    }
    match kept {
        0 => Ok(()),
        _ => bail!("{} not removed", output::count(kept, "slice")),
    }
}

fn give_back(environment: &Environment) -> anyhow::Result<()> {
    let located = locate::locate(environment, &StoreArgs::default())?;
    let store = located.store_of(&located.own_node()?)?;
    let slices = of(store.as_ref())?;
    let given_back = slices.give_back(&|_| false, &Deadline::after(records::PATIENCE))?;
    let kept = slices.own()?;
    for own in &kept {
        let why = match own.held {
            0 => format!("it is {}", own.state),
            held => format!("pods hold {} of it", output::count(held, "address")),
        };
        output::say(&format!("kept {}: {why}", output::printable(&own.name)));
    }
    if 0 < given_back || kept.is_empty() {
        output::say(&gave_back(given_back));
    }
    Ok(())
}

/// Returns the message of a command that gives slices back.
pub(super) fn gave_back(count: usize) -> String {
    format!("gave back {}", output::count(count, "empty slice"))
}

fn sync(environment: &Environment) -> anyhow::Result<()> {
    let located = locate::locate(environment, &StoreArgs::default())?;
    let store = located.store_of(&located.own_node()?)?;
    let Some(slices) = store.slices() else { return Ok(()) };
    let deadline = Deadline::after(records::PATIENCE);
    // The look has just read the pools again.
    let pools = Pools {
        flat: located.flat.as_ref(),
        settings: located.settings(),
        store: store.as_ref(),
        read: Read::Copies,
        deadline,
    };
    let synced = slices.sync(&|pool| pools.is_for_this_node(pool), &deadline)?;
    for name in &synced.created_again {
        output::say(&format!(
            "created {} again, which the cluster had lost",
            output::printable(name)
        ));
    }
    for name in &synced.lost {
        output::say(&format!(
            "error: {} is not this node's slice any more; its addresses may have two holders: delete the pods of this node that hold them",
            output::printable(name)
        ));
    }
    if 0 < synced.given_back {
        output::say(&gave_back(synced.given_back));
    }
    if let Some(reason) = &synced.unpublished {
        output::say(&format!(
            "warning: the status of this node's slices does not show what is held now: {reason}"
        ));
    }
    Ok(())
}

/// Marks the slices of a node that is off as released, and says so.
///
/// # Errors
/// Some slices are not marked.
pub(super) fn release_of(store: &dyn Upkeep, node: &NodeName) -> anyhow::Result<()> {
    let Some(slices) = store.slices() else { return Ok(()) };
    let released = match slices.release(node, &Deadline::after(records::PATIENCE)) {
        // A cluster whose resources are older has no slices.
        Err(StoreError::NoResource { .. }) => return Ok(()),
        released => released?,
    };
    for slice in released {
        let name = output::printable(&slice.name);
        output::print(&format!(
            "released slice {} of the pool {}\n",
            slice.block,
            output::printable(&slice.pool)
        ))?;
        output::say(&format!(
            "  \"hereabouts slices remove {name}\" lets another node claim it, ten minutes after the node went off"
        ));
    }
    Ok(())
}
