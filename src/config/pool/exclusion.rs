//! What a pool does not give: `exclude` and `avoidBuggyAddresses`.

use crate::addr::{Family, Range, Subnet, address, number};
use crate::config::address_list::{listed, span};
use crate::config::field::Field;
use crate::config::keys::check_known;
use crate::config::{ConfigError, Mistakes};
use crate::json::Json;

type Result<T> = std::result::Result<T, Mistakes>;

const EXCLUDE_KEYS: &[&str] = &["addresses", "reason"];
/// The most blocks of 256 addresses of a pool with `avoidBuggyAddresses`, as in a /12. Each has two
/// excluded addresses.
pub(super) const MOST_BLOCKS: u128 = 4096;

/// Addresses that no pod gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// The addresses.
    pub range: Range,
    /// Why, in the words of the pool's author.
    pub reason: Option<String>,
}

/// Parses an entry of `exclude`: a text, or an object with a reason.
pub(super) fn exclusions(entry: &Field<'_>) -> Result<Vec<Exclusion>> {
    let Json::Object(_) = entry.value else {
        return Ok(vec![Exclusion { range: span(entry)?, reason: None }]);
    };
    check_known(entry, EXCLUDE_KEYS)?;
    let addresses = entry.find("addresses").ok_or_else(|| entry.lacks("addresses"))?;
    let ranges = match addresses.value {
        Json::Array(_) => listed(&addresses)?,
        _ => vec![span(&addresses)?],
    };
    let reason = entry.find("reason").map(|field| field.text().map(str::to_owned)).transpose()?;
    Ok(ranges.into_iter().map(|range| Exclusion { range, reason: reason.clone() }).collect())
}

/// Returns the IPv4 addresses of a subnet that end in .0 or .255: some devices take them for network
/// and broadcast addresses, whatever the prefix length is.
pub(super) fn buggy(
    field: &Field<'_>,
    subnet: &Subnet,
    blocks_left: &mut u128,
) -> std::result::Result<Vec<Exclusion>, ConfigError> {
    if subnet.family() == Family::V6 {
        return Ok(Vec::new());
    }
    let whole = subnet.whole();
    let (first, last) = (number(whole.first_address()), number(whole.last_address()));
    let Some(left) = blocks_left.checked_sub((last >> 8) - (first >> 8) + 1) else {
        return Err(field.wrong(&format!(
            "expected all IPv4 subnets of the pool to have at most {MOST_BLOCKS} blocks of 256 addresses with avoidBuggyAddresses"
        )));
    };
    *blocks_left = left;
    let blocks = (first >> 8..=last >> 8).flat_map(|block| [block << 8, block << 8 | 255]);
    let ends = blocks.filter(|number| (first..=last).contains(number));
    let reason = Some("avoidBuggyAddresses".to_owned());
    let exclusion = |number| Exclusion {
        range: Range::single(address(Family::V4, number)),
        reason: reason.clone(),
    };
    Ok(ends.map(exclusion).collect())
}
