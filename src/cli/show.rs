//! `show`: prints the record of an address, in every scope that holds it, the pools that contain the
//! address, and for whom networks and pools reserve it.

use super::networks::{self, Named};
use super::reserved_for::{self, ReservedFor};
use super::{Format, ShowArgs, StoreArgs, locate, output, pools, records};
use crate::config::Pool;
use crate::environment::Environment;
use crate::ipam::{Allocation, ClaimAllocation, HeldAddress, Life, Scope};
use crate::store::Filter;
use anyhow::bail;
use serde_json::Value;
use std::net::IpAddr;

pub(super) fn show(
    environment: &Environment,
    store: &StoreArgs,
    args: &ShowArgs,
) -> anyhow::Result<()> {
    // This comes first, so that a mistake in the file is reported before any store is read.
    let file = args.network.as_deref();
    let mut networks = file.map_or(Ok(Vec::new()), |file| networks::read(environment, file))?;
    let located = locate::locate(environment, store)?;
    networks.extend(networks::of_pools(&located, &args.pool)?);
    let reserved = reserved_for::find(&networks, args.address);
    let pools: Vec<Pool> = pools::of_store(&located)
        .into_iter()
        .filter(|pool| pools::contains(pool, args.address))
        .collect();
    let filter = Filter { address: Some(args.address), ..Filter::default() };
    let mut found = Vec::new();
    let unreadable = records::each(located.store()?.as_ref(), &filter, &mut |held| {
        found.push(held);
        Ok(())
    })?;
    if found.is_empty() && 0 < unreadable {
        bail!("this address is taken, but its record is unreadable: {}", args.address);
    }
    if found.is_empty() {
        let by: Vec<String> = reserved.iter().map(ReservedFor::text).collect();
        let mut text = format!("this address is not held: {}", args.address);
        if !pools.is_empty() {
            let pools: Vec<String> = pools.iter().map(|pool| in_pool(pool, args.address)).collect();
            text.push_str(&format!("; it is in pool {}", pools.join(" and in pool ")));
        }
        if !by.is_empty() {
            text.push_str(&format!("; it is reserved for {}", by.join(" and for ")));
        }
        bail!(text);
    }
    let around = Around { networks: &networks, pools: &pools };
    let of_scope = |held: &HeldAddress| -> Vec<&ReservedFor> {
        reserved.iter().filter(|entry| entry.is_in(held.scope())).collect()
    };
    if args.output == Format::Json {
        let documents = found.iter().map(|held| {
            let mut document = output::held(held);
            let pools = around.pools_of(held.scope()).map(|pool| &pool.name);
            document["pools"] = pools.cloned().collect();
            if !networks.is_empty() {
                document["draining"] = around.is_draining(held).into();
            }
            if args.network.is_some() || !args.pool.is_empty() {
                let entries = of_scope(held).into_iter();
                document["reservedFor"] = entries.map(ReservedFor::document).collect();
            }
            document
        });
        return output::print_json(&Value::Array(documents.collect()));
    }
    let page = |held: &HeldAddress| {
        let mut rows = match held {
            HeldAddress::Attachment(allocation) => rows(allocation, &located),
            HeldAddress::Claim(held) => rows_of_claim(held),
        };
        around.add_to(&mut rows, held, &of_scope(held));
        let row = |(name, value): &Row| format!("{:<11}{value}\n", format!("{name}:"));
        rows.iter().map(row).collect()
    };
    let pages: Vec<String> = found.iter().map(page).collect();
    output::print(&pages.join("\n"))
}

/// The pools that contain the address, and the networks and pools that the operator names.
struct Around<'n> {
    networks: &'n [Named],
    pools: &'n [Pool],
}

impl<'n> Around<'n> {
    /// Returns the pools of a scope that contain the address.
    fn pools_of<'s>(&self, scope: &'s Scope) -> impl Iterator<Item = &'n Pool> + use<'n, 's> {
        self.pools.iter().filter(move |pool| pool.scope == *scope)
    }

    /// Returns whether no pod gets the address after its holder, from what the operator names.
    fn is_draining(&self, held: &HeldAddress) -> bool {
        let gives = |named: &Named| pools::may_give(&named.network, held.scope(), held.address());
        // A user of an IPAMClaim gets its address from the claim, not from a network.
        let is_of_user = held.scope().is_of_claim_user();
        !self.networks.is_empty() && !is_of_user && !self.networks.iter().any(gives)
    }

    /// Adds the pools that contain the address, and for whom it is reserved.
    fn add_to(&self, rows: &mut Vec<Row>, held: &HeldAddress, reserved: &[&ReservedFor]) {
        let pools = self.pools_of(held.scope());
        rows.extend(pools.map(|pool| ("Pool", in_pool(pool, held.address()))));
        rows.extend(reserved.iter().map(|entry| ("Reserved", format!("for {}", entry.text()))));
        if self.is_draining(held) {
            let names = self.names();
            let both = if names.contains(" nor ") { "neither " } else { "" };
            let verb = if both.is_empty() { "does not give" } else { "gives" };
            rows.push(("Draining", format!("yes, {both}{names} {verb} it to another pod")));
        }
    }

    /// Returns what does not give the address.
    fn names(&self) -> String {
        let name = |named: &Named| match (&named.pool, &named.name) {
            (Some(pool), _) => format!("pool {pool}"),
            (None, name) => {
                format!("network {}", output::printable(name.as_deref().unwrap_or("-")))
            }
        };
        self.networks.iter().map(name).collect::<Vec<_>>().join(" nor ")
    }
}

/// Returns the name of a pool, with the reason if it excludes the address.
fn in_pool(pool: &Pool, address: IpAddr) -> String {
    match pools::excluded(pool, address) {
        Some(reason) => format!("{} (excluded: {})", pool.name, output::printable(reason)),
        None => pool.name.clone(),
    }
}

/// A line of the page: its name and its value.
type Row = (&'static str, String);

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn rows_of_claim(held: &ClaimAllocation) -> Vec<Row> {
    vec![
        ("Address", format!("{}/{}", held.address, held.prefix)),
        ("Gateway", or_dash(held.gateway.map(|gateway| gateway.to_string()))),
        ("Scope", output::printable(&held.scope.to_string())),
        ("Claim", output::printable(&held.claim.to_string())),
        ("Claim UID", output::printable(&held.claim.uid)),
        ("Of pool", or_dash(held.pool.as_ref().map(|pool| output::printable(&pool.to_string())))),
        ("Since", output::time(held.since)),
        ("Source", output::source(held.source).to_owned()),
    ]
}

fn rows(allocation: &Allocation, located: &locate::Located<'_>) -> Vec<Row> {
    let held = &allocation.record;
    let attachment = &held.attachment;
    let of_this_node = located.node.as_ref() == Some(&attachment.node);
    let alive = if !of_this_node {
        format!("unknown, only node {} can tell", attachment.node)
    } else {
        match located.life(held) {
            Life::Alive => "yes".to_owned(),
            Life::Doubted(doubt) => format!("in doubt: {doubt}"),
            Life::Dead => "no, its sandbox is gone".to_owned(),
        }
    };
    vec![
        ("Address", format!("{}/{}", allocation.address, held.prefix)),
        ("Gateway", or_dash(held.gateway.map(|gateway| gateway.to_string()))),
        ("Scope", output::printable(&allocation.scope.to_string())),
        ("Network", attachment.network.to_string()),
        ("Pod", or_dash(held.pod.as_ref().map(|pod| output::printable(&pod.to_string())))),
        (
            "Pod UID",
            or_dash(held.pod.as_ref().and_then(|pod| pod.uid.as_deref()).map(output::printable)),
        ),
        ("Interface", output::printable(attachment.ifname.as_str())),
        ("Container", attachment.container.to_string()),
        ("Node", attachment.node.to_string()),
        (
            "Netns",
            or_dash(
                held.netns.as_ref().map(|netns| output::printable(&netns.path.to_string_lossy())),
            ),
        ),
        ("Alive", alive),
        ("Since", output::since(allocation)),
        ("Source", output::source(held.source).to_owned()),
    ]
}
