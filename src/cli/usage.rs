//! `usage`: counts the held, free and excluded addresses of each range of a configuration or pool.

use super::networks::{self, Named};
use super::published::{self, Coverage, ago};
use super::{Format, StoreArgs, UsageArgs, locate, output, records, set_aside};
use crate::addr::AddrSet;
use crate::config::Network;
use crate::environment::Environment;
use crate::ipam::{ConfiguredRange, Slicing};
use crate::plugin::set_aside::Aside;
use crate::retry::Deadline;
use crate::store::Filter;
use crate::store::slices::Slice;
use crate::store::upkeep::Upkeep;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

struct Row {
    network: Option<String>,
    pool: Option<String>,
    scope: Option<String>,
    range: String,
    held: u128,
    free: u128,
    /// The number of addresses for certain pods or for callers that ask, held or not.
    reserved: u128,
    excluded: u128,
    /// The free addresses that this node passes over, because it or another host uses them.
    asides: Vec<Aside>,
    total: u128,
    /// The slices of the pool, if it has slices.
    slices: Option<SliceCount>,
}

/// How many slices a pool has.
#[derive(Clone)]
struct SliceCount {
    total: u32,
    /// Those from which their nodes give addresses.
    owned: usize,
    released: usize,
    /// Those that their nodes marked because they had given them back before the cluster was restored.
    returned: usize,
    /// Those that are no slices of the pool as it is cut now.
    unknown: usize,
    free: u32,
    /// Those whose nodes publish nothing: what is held there is not counted.
    unpublished: usize,
    /// The age of the oldest publication.
    oldest: Option<Duration>,
}

pub(super) fn usage(
    environment: &Environment,
    store: &StoreArgs,
    args: &UsageArgs,
) -> anyhow::Result<()> {
    // If a configuration names its own store, that store is used.
    let mut store_args = store.clone();
    if !store.is_given() {
        store_args.config = args.file.clone().filter(|file| file != std::path::Path::new("-"));
    }
    // This comes first, so that a mistake in the file is reported before any store is read.
    let file = args.file.as_deref();
    let mut networks = file.map_or(Ok(Vec::new()), |file| networks::read(environment, file))?;
    let located = locate::locate(environment, &store_args)?;
    networks.extend(networks::of_pools(&located, &args.pool)?);
    let (store, asides) = (located.store()?, set_aside::matching(&located, &Filter::default()));
    let mut rows = Vec::new();
    for Named { name, pool, network } in &networks {
        if network.sets.is_empty() {
            output::say(&format!(
                "network {} has no ranges to count; \"hereabouts list\" shows who holds its addresses",
                output::printable(name.as_deref().unwrap_or("-"))
            ));
        }
        let now = located.machine.now;
        let (counted, coverage) = count(store.as_ref(), name.as_deref(), network, &asides, now)?;
        let slices = match &network.slicing {
            Some(slicing) => count_slices(store.as_ref(), slicing, &coverage)?,
            None => None,
        };
        if let (Some(slices), Some(slicing)) = (&slices, &network.slicing) {
            say(slices, &slicing.pool);
            coverage.say();
        }
        rows.extend(counted.into_iter().map(|row| Row {
            pool: pool.clone(),
            slices: slices.clone(),
            ..row
        }));
    }
    if args.output == Format::Json {
        return output::print_json(&Value::Array(rows.iter().map(encode).collect()));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let asides: Vec<Aside> = rows.iter().flat_map(|row| &row.asides).cloned().collect();
    let has_pools = rows.iter().any(|row| row.pool.is_some());
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let count = |number: u128| {
                if number == u128::MAX { ">= 2^128-1".to_owned() } else { number.to_string() }
            };
            let or_dash = |name: Option<String>| {
                name.map_or_else(|| "-".to_owned(), |name| output::printable(&name))
            };
            let mut cells = vec![
                or_dash(row.network),
                row.range,
                or_dash(row.scope),
                count(row.held),
                count(row.free),
                count(row.reserved),
                count(row.excluded),
                count(row.total),
            ];
            if has_pools {
                cells.insert(1, or_dash(row.pool));
            }
            cells
        })
        .collect();
    let mut headings =
        vec!["NETWORK", "RANGE", "SCOPE", "HELD", "FREE", "RESERVED", "EXCLUDED", "TOTAL"];
    if has_pools {
        headings.insert(1, "POOL");
    }
    output::print(&output::table(&headings, &cells))?;
    set_aside::append(&asides)
}

/// Counts the slices of a pool. Returns `None` if the store has none.
fn count_slices(
    store: &dyn Upkeep,
    slicing: &Slicing,
    coverage: &Coverage,
) -> anyhow::Result<Option<SliceCount>> {
    let Some(slices) = store.slices() else { return Ok(None) };
    let mut of_pool = slices.all(None, &Deadline::after(records::PATIENCE))?;
    of_pool.retain(|slice| slice.pool == slicing.pool);
    let all = of_pool.len();
    of_pool.retain(|slice| {
        let place = slice.block.first().and_then(|first| slicing.geometry.slice_of(first));
        place.as_ref() == Some(&slice.block)
    });
    let unknown = all.saturating_sub(of_pool.len());
    let total = slicing.geometry.count();
    let free = total.saturating_sub(u32::try_from(of_pool.len()).unwrap_or(u32::MAX));
    let (mut owned, mut released, mut returned) = (0_usize, 0_usize, 0_usize);
    for slice in &of_pool {
        let number = match slice {
            Slice { released: Some(_), .. } => &mut released,
            Slice { returned: Some(_), .. } => &mut returned,
            _ => &mut owned,
        };
        *number = number.saturating_add(1);
    }
    let (unpublished, oldest) = (coverage.unpublished, coverage.oldest);
    Ok(Some(SliceCount { total, owned, released, returned, unknown, free, unpublished, oldest }))
}

fn say(slices: &SliceCount, pool: &str) {
    let SliceCount { total, owned, released, returned, unknown, free, oldest, .. } = slices;
    let more = |count: &usize, what: &str| match count {
        0 => String::new(),
        count => format!(", {count} {what}"),
    };
    let (returned, unknown) = (more(returned, "returned"), more(unknown, "of another cut"));
    let published = oldest.map_or_else(String::new, |oldest| {
        format!("; HELD counts what nodes have published, the oldest of it {}", ago(oldest))
    });
    output::say(&format!(
        "pool {}: {total} slices, {owned} owned, {released} released{returned}{unknown}, {free} free, one for each node that needs more{published}",
        output::printable(pool)
    ));
}

/// Returns one row for each range. Counts the records while they are read, and what nodes publish,
/// and keeps none of them.
fn count(
    store: &dyn Upkeep,
    name: Option<&str>,
    network: &Network,
    asides: &[Aside],
    now: SystemTime,
) -> anyhow::Result<(Vec<Row>, Coverage)> {
    let mut ranges: Vec<Counted<'_>> = network
        .ranges()
        .map(|configured| Counted {
            configured,
            candidates: configured.candidates(),
            reserved: configured.reserved_candidates(),
            held: 0,
            held_reserved: 0,
        })
        .collect();
    let mut asides: Vec<Aside> =
        asides.iter().filter(|aside| aside.scope == network.scope).cloned().collect();
    let filter = Filter { scope: Some(network.scope.clone()), ..Filter::default() };
    let mut note = |held: IpAddr| {
        for range in &mut ranges {
            // An address that an earlier configuration gave out and that is now excluded counts as
            // excluded.
            range.held += u128::from(range.candidates.contains(held));
            range.held_reserved += u128::from(range.reserved.contains(held));
        }
        // A held address is not free, set aside or not.
        asides.retain(|aside| aside.address != held);
    };
    records::each(store, &filter, &mut |held| {
        note(held.address());
        Ok(())
    })?;
    let coverage = match &network.slicing {
        Some(_) => published::each(store, &filter, now, &mut |found| {
            note(found.address);
            Ok(())
        })?,
        None => Coverage::default(),
    };
    let complete = |range: &Counted<'_>| {
        let in_range = asides.iter().filter(|aside| range.candidates.contains(aside.address));
        let asides: Vec<Aside> = in_range.cloned().collect();
        let row = row(name, network, range);
        let free = row.free.saturating_sub(asides.len() as u128);
        Row { free, asides, ..row }
    };
    Ok((ranges.iter().map(complete).collect(), coverage))
}

/// A range, and how many of its addresses are held.
struct Counted<'n> {
    configured: &'n ConfiguredRange,
    candidates: AddrSet,
    reserved: AddrSet,
    held: u128,
    held_reserved: u128,
}

fn row(name: Option<&str>, network: &Network, range: &Counted<'_>) -> Row {
    let total = AddrSet::from_range(&range.configured.bounds).count();
    let (usable, reserved) = (range.candidates.count(), range.reserved.count());
    Row {
        network: name.map(str::to_owned),
        pool: None,
        scope: network.scope.name().map(str::to_owned),
        range: format!("{} ({})", range.configured.bounds, range.configured.subnet),
        held: range.held + range.held_reserved,
        free: usable.saturating_sub(range.held),
        reserved,
        excluded: total - usable - reserved,
        asides: Vec::new(),
        total,
        slices: None,
    }
}

/// Returns a row as JSON.
fn encode(row: &Row) -> Value {
    let mut document = json!({
        "network": row.network,
        "pool": row.pool,
        "range": row.range,
        "scope": row.scope,
        "held": output::number(row.held),
        "free": output::number(row.free),
        "reserved": output::number(row.reserved),
        "excluded": output::number(row.excluded),
        "setAside": row.asides.iter().map(set_aside::document).collect::<Vec<_>>(),
        "total": output::number(row.total),
    });
    if let Some(slices) = &row.slices {
        let SliceCount { total, owned, released, returned, unknown, free, unpublished, oldest } =
            slices;
        document["slices"] = json!({
            "total": total, "owned": owned, "released": released, "returned": returned,
            "unknown": unknown, "free": free, "unpublished": unpublished, "oldestAgeSeconds": oldest.map(|oldest| oldest.as_secs()),
        });
    }
    document
}
