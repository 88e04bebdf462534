//! `release`: releases addresses by hand, after a check of their holders. The functions that work
//! on a store are separate from those that ask and print.

use super::{
    HintedError, ReleaseArgs, StoreArgs, UsageError, What, confirm, debts, locate, output, records,
    selectors,
};
use crate::environment::Environment;
use crate::ipam::{Allocation, Attachment, ClaimAllocation, Life, NodeName};
use crate::plugin::failure::how_a_claim_ends;
use crate::retry::Deadline;
use crate::store::upkeep::{IsAlive, Upkeep};
use crate::store::{Access, Filter, Release, Store, StoreError};
use anyhow::bail;
use std::path::PathBuf;

pub(super) fn release(
    environment: &Environment,
    store: &StoreArgs,
    args: &ReleaseArgs,
) -> anyhow::Result<()> {
    let filter = Filter {
        node: args.node.as_deref().map(selectors::parse_node).transpose()?,
        network: args.network.as_deref().map(selectors::parse_network).transpose()?,
        address: args.what.address,
        pod: args.what.pod.as_deref().map(selectors::parse_pod).transpose()?,
        ..Filter::default()
    };
    let What { address, pod, container } = &args.what;
    let whole_node = address.is_none() && pod.is_none() && container.is_none();
    if whole_node && args.node.is_none() {
        return Err(UsageError::new("expected an address, --pod, --container or --node").into());
    }
    let located = locate::locate(environment, store)?;
    let found = find(located.store()?.as_ref(), &filter, args.what.container.as_deref())?;
    refuse_claims(&claims(located.store()?.as_ref(), &filter)?, &found)?;
    if found.is_empty() && !whole_node {
        bail!("no record matches");
    }
    if let Some(node) = filter
        .node
        .as_ref()
        .filter(|node| whole_node && !located.store().is_ok_and(|store| store.knows(node)))
    {
        bail!("no node of this name has used this store: {node}");
    }
    check_one_scope(&found, &located, args)?;
    let acting = acting_node(&located, args, found.allocations.first())?;
    let foreign =
        found.allocations.iter().find(|allocation| allocation.record.attachment.node != acting);
    if let Some(allocation) = foreign {
        let node = &allocation.record.attachment.node;
        let message = format!("{} is held by another node: {node}", allocation.address);
        return Err(
            HintedError::new(message, format!("if that node is off, pass --node {node}")).into()
        );
    }
    let other_node = located.node.as_ref() != Some(&acting);
    let store = if other_node {
        located.store_of_another(&acting, whole_node)?
    } else {
        located.store_of(&acting)?
    };
    if found.is_empty() {
        // This is printed before the question: a store may not know which nodes there are, and the
        // name may be mistyped.
        let network = args
            .network
            .as_ref()
            .map_or_else(String::new, |network| format!(" of network {network}"));
        output::say(&format!(
            "node {acting} holds no addresses{network}; check the name for typos"
        ));
    }
    await_calls(store.as_ref(), &found)?;
    if !args.force {
        refuse_the_living(&found, &|held| located.life(held))?;
    }
    announce(&found, &acting, other_node, &located);
    if !confirm::confirmed(args.yes, "release")? {
        bail!("nothing was released");
    }
    carry_out(store.as_ref(), &found, &mut |address, done| output::released(address, done))?;
    if !other_node {
        debts::settle_released(
            &located,
            store.as_ref(),
            found.allocations.iter().map(|allocation| allocation.record.attachment.clone()),
        );
    }
    if whole_node {
        forget_node(store.as_ref(), found.is_empty(), &|held| located.life(held))?;
        #[cfg(feature = "kube")]
        if other_node && args.network.is_none() {
            super::slices::release_of(store.as_ref(), &acting)?;
        }
    }
    Ok(())
}

/// A callback that gets each address, and whether it was freed.
pub type Report<'r> = &'r mut dyn FnMut(&dyn std::fmt::Display, bool) -> anyhow::Result<()>;

/// The records that one run of this command is about.
pub struct Found {
    /// The records as they were read.
    pub allocations: Vec<Allocation>,
    /// The records that cannot be read.
    pub damaged: Vec<PathBuf>,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.allocations.is_empty() && self.damaged.is_empty()
    }
}

/// Finds the records that the filter selects, and the container, if one is named.
///
/// # Errors
/// The store cannot be read.
pub fn find(store: &dyn Store, filter: &Filter, container: Option<&str>) -> anyhow::Result<Found> {
    let mut found = Found { allocations: Vec::new(), damaged: Vec::new() };
    // Found by address: a damaged record does not belong to any node in the index.
    let by_address =
        Filter { node: filter.node.clone().filter(|_| filter.address.is_none()), ..filter.clone() };
    let is_meant = |allocation: &Allocation| {
        filter.matches(allocation)
            && container.is_none_or(|id| id == allocation.record.attachment.container.as_str())
    };
    for item in records::listing(store, &by_address)? {
        match item {
            Ok(allocation) if is_meant(&allocation) => found.allocations.push(allocation),
            Ok(_) => {}
            Err(StoreError::Damaged { path, reason }) if filter.address.is_some() => {
                output::say(&format!("damaged: {}: {reason}", path.display()));
                found.damaged.push(path);
            }
            Err(error) if error.is_of_one_record() => output::warn(&error),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Returns the claims that hold the address, if the filter is for one address.
///
/// # Errors
/// The store cannot be read.
fn claims(store: &dyn Store, filter: &Filter) -> anyhow::Result<Vec<ClaimAllocation>> {
    let mut claims = Vec::new();
    if filter.address.is_some() {
        // `find` has named the records that cannot be read.
        for item in records::held(store, filter)?
            .filter(|item| item.as_ref().err().is_none_or(|error| !error.is_of_one_record()))
        {
            claims.extend(item?.of_claim());
        }
    }
    Ok(claims)
}

/// Refuses to release the address of a claim, with --force as well. The claim was answered with the
/// address: only the controller takes the answer back before it frees the address.
fn refuse_claims(claims: &[ClaimAllocation], found: &Found) -> anyhow::Result<()> {
    let Some(first) = claims.first() else { return Ok(()) };
    let holder = |held: &ClaimAllocation| {
        let (claim, scope) = (held.claim.to_string(), held.scope.to_string());
        match held.scope.name() {
            Some(_) => output::printable(&format!("{claim}, in scope {scope}")),
            None => output::printable(&claim),
        }
    };
    let holders: Vec<String> = claims.iter().map(holder).collect();
    let message = format!(
        "{} is held by a claim, whose controller alone releases it: {}",
        first.address,
        holders.join("; ")
    );
    let hint = match found.allocations.first() {
        None => output::printable(&how_a_claim_ends(first)),
        // The same address in another scope.
        Some(held) => {
            let Attachment { network, .. } = &held.record.attachment;
            format!("pass --network {network} to release the address that a pod holds")
        }
    };
    Err(HintedError::new(message, hint).into())
}

/// Waits until the calls that were under way for the found records have ended. An ADD may still
/// take back a record that was read, or may not have answered with it yet. After this wait, either
/// the record is gone, or the sandbox had the address before the operator saw it.
///
/// # Errors
/// A call does not end.
pub fn await_calls(store: &dyn Store, found: &Found) -> Result<(), StoreError> {
    for allocation in &found.allocations {
        drop(store.lock_attachment(
            &allocation.record.attachment,
            Access::Release,
            Deadline::after(records::PATIENCE),
        )?);
    }
    Ok(())
}

/// Refuses if the sandbox of a record is visible from here, no matter which node the record belongs
/// to. The name of a node may have changed, but a visible namespace is certain.
///
/// # Errors
/// The sandboxes that are visible, and their places.
pub fn refuse_the_living(found: &Found, life: IsAlive<'_>) -> anyhow::Result<()> {
    let alive: Vec<String> = found
        .allocations
        .iter()
        .filter(|allocation| life(&allocation.record).is_seen())
        .map(seen_at)
        .collect();
    if alive.is_empty() {
        return Ok(());
    }
    let message = format!("a running sandbox uses the address: {}", alive.join("; "));
    Err(HintedError::new(message, "delete its pod, or pass --force").into())
}

fn seen_at(allocation: &Allocation) -> String {
    let netns = allocation.record.netns.as_ref();
    let place = netns.map_or_else(String::new, |netns| {
        format!(" at {}, inode {}", output::printable(&netns.path.to_string_lossy()), netns.inode)
    });
    format!("the network namespace of {}{place}", output::holder(allocation))
}

/// Releases what was found, with one session per record, because a long run must not make ADDs
/// wait. Only the very records that were shown are freed. `report` gets each address, and whether
/// it was freed.
///
/// # Errors
/// The records after the failed one may still be held. A repeat is safe.
pub fn carry_out(store: &dyn Upkeep, found: &Found, report: Report<'_>) -> anyhow::Result<()> {
    for allocation in found.allocations.iter().rev() {
        let deadline = Deadline::after(records::PATIENCE);
        let lock =
            store.lock_attachment(&allocation.record.attachment, Access::Release, deadline)?;
        let released = match lock {
            Some(_lock) => store.open(Access::Release, deadline)?.release_unchanged(allocation)?,
            None => Release::NotYours,
        };
        report(&allocation.address, released == Release::Done)?;
    }
    for damaged in &found.damaged {
        let address = damaged.file_name().unwrap_or_default().to_string_lossy();
        report(&address, store.release_damaged(damaged, Deadline::after(records::PATIENCE))?)?;
    }
    Ok(())
}

/// Removes what calls of a node that is off have left behind.
///
/// # Errors
/// Some of it may still exist. A repeat is safe.
pub fn forget_node(
    store: &dyn Upkeep,
    held_nothing: bool,
    is_alive: IsAlive<'_>,
) -> anyhow::Result<()> {
    if held_nothing {
        // The opening of a session is the step that forgets the machine.
        drop(store.open(Access::Release, Deadline::after(records::PATIENCE))?);
    }
    for orphan in store.orphans(is_alive, Deadline::after(records::PATIENCE))? {
        store.repair(&orphan, is_alive, Deadline::after(records::PATIENCE))?;
    }
    Ok(())
}

/// Checks that the address is held in one scope only. It may be held once in each scope, and then
/// the operator must choose one: by its network, or, if networks share it, by its container.
fn check_one_scope(
    found: &Found,
    located: &locate::Located<'_>,
    args: &ReleaseArgs,
) -> anyhow::Result<()> {
    let (Some(address), [first, _, ..]) = (args.what.address, &found.allocations[..]) else {
        return Ok(());
    };
    let holders: Vec<String> = found
        .allocations
        .iter()
        .map(|allocation| {
            let holder = output::printable(&allocation.record.attachment.to_string());
            format!("in {} by {holder}", output::printable(&allocation.scope.to_string()))
        })
        .collect();
    let Attachment { network, container, node, .. } = &first.record.attachment;
    let is_alone = |of: &dyn Fn(&Attachment) -> bool| {
        1 == found.allocations.iter().filter(|one| of(&one.record.attachment)).count()
    };
    let options = format!(
        "{}{}",
        if located.node.as_ref() == Some(node) { String::new() } else { format!(" --node {node}") },
        store_options(&args.store)
    );
    let hint = if is_alone(&|other| other.network == *network) {
        format!(
            "choose one by its network: \"hereabouts release {address} --network {network}{options}\""
        )
    } else {
        format!(
            "choose one by its container: \"hereabouts release --container {container} --network {network}{options}\"; \
             this releases every address that the container holds in the network"
        )
    };
    let message = format!("{address} is held in several scopes: {}", holders.join("; "));
    Err(UsageError::hinted(message, hint).into())
}

/// Returns the options that selected the store, for a command that the operator is to run next.
fn store_options(store: &StoreArgs) -> String {
    let named = [("--data-dir", &store.data_dir), ("--config", &store.config)];
    #[cfg(feature = "kube")]
    let named = named.into_iter().chain([("--kubeconfig", &store.kubeconfig)]);
    named
        .into_iter()
        .filter_map(|(option, path)| Some(format!(" {option} {}", path.as_ref()?.display())))
        .collect()
}

fn acting_node(
    located: &locate::Located<'_>,
    args: &ReleaseArgs,
    first: Option<&Allocation>,
) -> anyhow::Result<NodeName> {
    match (&args.node, &located.node) {
        (Some(node), _) => selectors::parse_node(node),
        (None, Some(node)) => Ok(node.clone()),
        // No node is given: an operator who names one address means its holder.
        (None, None) => {
            if let Some(first) = first.filter(|_| args.what.address.is_some()) {
                return Ok(first.record.attachment.node.clone());
            }
            let holder = first.map_or_else(
                || "NODE".to_owned(),
                |first| first.record.attachment.node.to_string(),
            );
            let message = format!(
                "a release by pod or container acts for one node, and {}",
                located.why_no_node()
            );
            let hint = format!(
                "pass --node {holder}, the node of the pod; that node must be off, or the pod gone"
            );
            Err(HintedError::new(message, hint).into())
        }
    }
}

fn announce(found: &Found, acting: &NodeName, other_node: bool, located: &locate::Located<'_>) {
    if !found.is_empty() {
        output::say("will release:");
    }
    for allocation in &found.allocations {
        output::say(&format!("  {}", output::holder(allocation)));
        match located.life(&allocation.record) {
            Life::Alive => output::say(
                "    warning: its sandbox still exists, so the next pod would get an address that is in use",
            ),
            Life::Doubted(doubt) if !other_node => {
                output::say(&format!(
                    "    warning: its sandbox may still exist: {doubt}; a pod that still runs keeps using the address"
                ));
            }
            Life::Doubted(_) | Life::Dead => {}
        }
    }
    for damaged in &found.damaged {
        output::say(&format!(
            "  {}  damaged record, its holder is unknown",
            damaged.file_name().unwrap_or_default().to_string_lossy()
        ));
        output::say("    warning: a pod that still runs keeps using the address");
    }
    if other_node {
        output::say(&format!(
            "warning: node {acting} must be off, or its pods gone: a pod that still runs there keeps using its address"
        ));
    }
}
