//! `show`: prints the record of an address, in every scope that holds it, the pools that contain the
//! address, and for whom networks and pools reserve it.

use super::networks::{self, Named};
use super::published::{self, PublishedAddress};
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
    let around = Around { networks: &networks, pools: &pools, reserved: &reserved };
    let is_reserved_shown = args.network.is_some() || !args.pool.is_empty();
    let store = located.store()?;
    let (mut pages, mut documents) = (Vec::new(), Vec::new());
    let mut read = records::each(store.as_ref(), &filter, &mut |held| {
        let rows = match &held {
            HeldAddress::Attachment(allocation) => rows(allocation, &located),
            HeldAddress::Claim(held) => rows_of_claim(held),
        };
        let place = (held.scope(), held.address());
        pages.push(around.page(rows, place));
        documents.push(around.document(output::held(&held), place, is_reserved_shown));
        Ok(())
    });
    let now = located.machine.now;
    let mut coverage = published::Coverage::default();
    if let Ok(unreadable) = read {
        let published = published::each(store.as_ref(), &filter, now, &mut |found| {
            let (scope, address) = (found.scope(), found.address);
            pages.push(around.page(rows_of_published(found), (&scope, address)));
            documents.push(around.document(found.document(), (&scope, address), is_reserved_shown));
            Ok(())
        });
        read = published.map(|seen| {
            coverage = seen;
            unreadable
        });
    }
    let read = match read {
        Err(error) if pages.is_empty() => return Err(error),
        read => read,
    };
    let unreadable = *read.as_ref().unwrap_or(&0);
    coverage.say();
    if pages.is_empty() && 0 < unreadable {
        bail!("this address is taken, but its record is unreadable: {}", args.address);
    }
    if pages.is_empty() && 0 < coverage.unpublished {
        bail!("whether this address is held is known on its node only: {}", args.address);
    }
    if pages.is_empty() {
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
    if args.output == Format::Json {
        output::print_json(&Value::Array(documents))?;
    } else {
        output::print(&pages.join("\n"))?;
    }
    records::complete(read).map(drop)
}

/// The pools that contain the address, the networks and pools that the operator names, and for whom
/// they reserve it.
struct Around<'n> {
    networks: &'n [Named],
    pools: &'n [Pool],
    reserved: &'n [ReservedFor],
}

impl<'n> Around<'n> {
    /// Returns the pools of a scope that contain the address.
    fn pools_of<'s>(&self, scope: &'s Scope) -> impl Iterator<Item = &'n Pool> + use<'n, 's> {
        self.pools.iter().filter(move |pool| pool.scope == *scope)
    }

    /// Returns for whom the address is reserved in a scope.
    fn reserved_in<'s>(
        &self,
        scope: &'s Scope,
    ) -> impl Iterator<Item = &'n ReservedFor> + use<'n, 's> {
        self.reserved.iter().filter(move |entry| entry.is_in(scope))
    }

    /// Returns whether no pod gets the address after its holder, from what the operator names.
    fn is_draining(&self, (scope, address): Place<'_>) -> bool {
        let gives = |named: &Named| pools::may_give(&named.network, scope, address);
        // A user of an IPAMClaim gets its address from the claim, not from a network.
        let is_of_user = scope.is_of_claim_user();
        !self.networks.is_empty() && !is_of_user && !self.networks.iter().any(gives)
    }

    /// Adds what is around an address to its document.
    fn document(&self, mut document: Value, place: Place<'_>, with_reserved: bool) -> Value {
        document["pools"] = self.pools_of(place.0).map(|pool| pool.name.clone()).collect();
        if !self.networks.is_empty() {
            document["draining"] = self.is_draining(place).into();
        }
        if with_reserved {
            let entries = self.reserved_in(place.0);
            document["reservedFor"] = entries.map(ReservedFor::document).collect();
        }
        document
    }

    /// Returns the page of an address.
    fn page(&self, mut rows: Vec<Row>, place: Place<'_>) -> String {
        self.add_to(&mut rows, place);
        let row = |(name, value): &Row| format!("{:<11}{value}\n", format!("{name}:"));
        rows.iter().map(row).collect()
    }

    /// Adds the pools that contain the address, and for whom it is reserved.
    fn add_to(&self, rows: &mut Vec<Row>, place: Place<'_>) {
        let pools = self.pools_of(place.0);
        rows.extend(pools.map(|pool| ("Pool", in_pool(pool, place.1))));
        let reserved = self.reserved_in(place.0);
        rows.extend(reserved.map(|entry| ("Reserved", format!("for {}", entry.text()))));
        if self.is_draining(place) {
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
/// The scope and the address.
type Place<'p> = (&'p Scope, IpAddr);

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn rows_of_published(found: &PublishedAddress<'_>) -> Vec<Row> {
    let node = output::printable(&found.slice.node);
    vec![
        ("Address", found.address.to_string()),
        ("Scope", output::printable(&found.scope().to_string())),
        ("Slice", found.slice.block.to_string()),
        ("Network", output::printable(&found.holder.network)),
        ("Pod", or_dash(found.pod())),
        ("Interface", output::printable(&found.holder.ifname)),
        ("Node", node.clone()),
        ("Since", output::time(found.holder.since)),
        ("As of", format!("{}: node {node} published it then", found.as_of())),
    ]
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
