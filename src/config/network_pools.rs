//! `pool` and `pools`: a network that takes its addresses from pools, and has no ranges of its own.

use super::ConfigError;
use super::field::Field;
use super::merge::Merged;
use super::node_slices;
use super::pool::is_subdomain;

/// The largest number of pools of one network. An ADD may have to look into each of them.
const MOST_POOLS: usize = 16;

/// Parses the names of the pools, in order of preference.
pub(super) fn names(merged: &Merged<'_>) -> Result<Vec<String>, ConfigError> {
    let name = |field: &Field<'_>| match field.text()? {
        text if is_subdomain(text) => Ok(text.to_owned()),
        _ => Err(field.wrong("expected the name of a pool, such as zone-a")),
    };
    match (merged.field("pool"), merged.field("pools")) {
        (None, None) => Ok(Vec::new()),
        (Some(pool), None) => Ok(vec![name(&pool)?]),
        (Some(_), Some(pools)) => Err(pools.clashes("expected either pool or pools, not both")),
        (None, Some(pools)) => {
            let names = pools.list()?.map(|item| name(&item)).collect::<Result<Vec<_>, _>>()?;
            match names.len() {
                1..=MOST_POOLS => Ok(names),
                _ => Err(pools.wrong(&format!("expected 1 to {MOST_POOLS} names of pools"))),
            }
        }
    }
}

/// Returns the mistake of a network that names pools and has what only a pool decides.
pub(super) fn check(merged: &Merged<'_>, has_ranges: bool) -> Option<ConfigError> {
    if has_ranges {
        let reason = "expected either a pool or ranges, not both";
        return Some(ConfigError::meaning("ipam.pool", reason));
    }
    if let Some(field) = node_slices::field(merged) {
        let reason = "expected no node_slice_size beside a pool";
        return Some(field.clashes(reason).with_hint("set slices in the pool"));
    }
    merged.field("network_name").map(|field| {
        field.clashes("expected no network_name beside a pool").with_hint("set scope in the pool")
    })
}
