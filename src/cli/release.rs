//! `release`: give addresses back by hand, after a look at who holds them.

use super::{Lookup, ReleaseArgs, StoreArgs, Usage, list, locate, output};
use crate::ipam::{self, Allocation, NodeName};
use crate::plugin::host;
use crate::store::retry::Deadline;
use crate::store::{Access, Filter, Release, Store};
use anyhow::bail;
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

pub(super) fn release(lookup: Lookup<'_>, store: &StoreArgs, args: &ReleaseArgs) -> anyhow::Result<()> {
    let filter = Filter {
        node: args.node.as_deref().map(list::parse_node).transpose()?,
        network: args.network.as_deref().map(list::parse_network).transpose()?,
        address: args.what.address,
        ..Filter::default()
    };
    let located = locate::locate(lookup, store)?;
    let store = located.store()?;
    let mut found = Vec::new();
    for item in list::listing(&store, &filter)? {
        match item {
            Ok(allocation) if is_meant(&allocation, args) => found.push(allocation),
            Ok(_) => {}
            Err(error) => output::say(&format!("warning: {error}")),
        }
    }
    let Some(first) = found.first() else {
        bail!("no record matches");
    };
    check_one_scope(&found, args)?;
    let acting = acting_node(&located, args, first)?;
    let foreign = found.iter().find(|allocation| allocation.held.attachment.node != acting);
    if let Some(allocation) = foreign {
        let node = &allocation.held.attachment.node;
        bail!("{} is held by node {node}, give --node {node} when that node is off", allocation.address);
    }
    let other_node = located.node.as_ref() != Some(&acting);
    announce(&found, &acting, other_node, &located);
    if !args.yes && !confirmed()? {
        bail!("nothing was released");
    }
    let store = if other_node { located.store_of(&acting).for_dead_node() } else { located.store_of(&acting) };
    let mut session = store.open(Access::Release, Deadline::after(Duration::from_secs(30)))?;
    for allocation in found.iter().rev() {
        match session.release(allocation)? {
            Release::Done => output::print(&format!("released {}\n", allocation.address))?,
            Release::NotYours => output::say(&format!("{} was freed or given to another holder meanwhile", allocation.address)),
        }
    }
    Ok(())
}

fn is_meant(allocation: &Allocation, args: &ReleaseArgs) -> bool {
    args.what.address.is_none_or(|address| address == allocation.address)
        && args.what.pod.as_deref().is_none_or(|pod| list::is_of_pod(allocation, pod))
        && args.what.container.as_deref().is_none_or(|id| id == allocation.held.attachment.container.as_str())
}

/// One address may be held once in each scope: which one is meant must be said.
fn check_one_scope(found: &[Allocation], args: &ReleaseArgs) -> anyhow::Result<()> {
    if args.what.address.is_none() || found.len() < 2 {
        return Ok(());
    }
    let holders: Vec<String> = found.iter().map(|allocation| allocation.held.attachment.network.to_string()).collect();
    Err(Usage(format!("this address is held in several scopes, choose with --network: {}", holders.join(", "))).into())
}

fn acting_node(located: &locate::Located, args: &ReleaseArgs, first: &Allocation) -> anyhow::Result<NodeName> {
    match (&args.node, &located.node) {
        (Some(node), _) => list::parse_node(node),
        (None, Some(node)) => Ok(node.clone()),
        (None, None) => bail!("this node's name cannot be told, give --node: {}", first.held.attachment.node),
    }
}

fn announce(found: &[Allocation], acting: &NodeName, other_node: bool, located: &locate::Located) {
    output::say(if found.len() == 1 { "will release:" } else { "will release these:" });
    for allocation in found {
        let pod = allocation.held.pod.as_ref().map_or_else(String::new, |pod| format!(", pod {}", output::plain(&pod.to_string())));
        output::say(&format!("  {}  {}{pod}", allocation.address, output::plain(&allocation.held.attachment.to_string())));
        let alive = !other_node && ipam::is_alive(&allocation.held, &located.machine.boot_id, |netns| host::look_at_netns(&netns.path));
        if alive {
            output::say("    warning: its sandbox is still there; the next pod would get an address that is in use");
        }
    }
    if other_node {
        output::say(&format!("warning: node {acting} must be off: a pod that runs there goes on using the address"));
    }
}

fn confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Usage("stdin is no terminal, give --yes to release without being asked".to_owned()).into());
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "release? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
