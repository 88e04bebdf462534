//! `slices`: which node owns which block of a pool.

use super::{
    Format, HintedError, SlicesCommand, SlicesListArgs, SlicesRemoveArgs, StoreArgs, locate,
    output, records, selectors,
};
use crate::addr::Subnet;
use crate::environment::Environment;
use crate::ipam::NodeName;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::slices::{OwnSlice, Removal, Slice, Slices};
use crate::store::upkeep::Upkeep;
use anyhow::bail;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const HEADINGS: [&str; 6] = ["POOL", "BLOCK", "NODE", "SINCE", "STATE", "HELD"];

pub(super) fn slices(environment: &Environment, command: &SlicesCommand) -> anyhow::Result<()> {
    match command {
        SlicesCommand::List(args) => list(environment, args),
        SlicesCommand::Remove(args) => remove(environment, args),
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
    if args.output == Format::Json {
        let document = |slice: &Slice| encode(slice, own.get(&slice.name));
        return output::print_json(&Value::Array(found.iter().map(document).collect()));
    }
    if found.is_empty() {
        output::say("no slice matches");
        return Ok(());
    }
    let rows: Vec<Vec<String>> =
        found.iter().map(|slice| row(slice, own.get(&slice.name))).collect();
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
    match (&slice.released, own) {
        (Some(_), _) => "released",
        (None, Some(own)) => own.state,
        (None, None) => "owned",
    }
}

fn row(slice: &Slice, own: Option<&OwnSlice>) -> Vec<String> {
    vec![
        output::printable(&slice.pool),
        slice.block.to_string(),
        output::printable(&slice.node),
        output::printable(slice.since.split('.').next().unwrap_or_default()),
        state(slice, own).to_owned(),
        own.map_or_else(|| "-".to_owned(), |own| own.held.to_string()),
    ]
}

fn encode(slice: &Slice, own: Option<&OwnSlice>) -> Value {
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
        "held": own.map(|own| own.held),
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

fn sync(environment: &Environment) -> anyhow::Result<()> {
    let located = locate::locate(environment, &StoreArgs::default())?;
    let store = located.store_of(&located.own_node()?)?;
    let Some(slices) = store.slices() else { return Ok(()) };
    let synced = slices.sync(&Deadline::after(records::PATIENCE))?;
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
        output::say(&format!("gave back {}", output::count(synced.given_back, "empty slice")));
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
