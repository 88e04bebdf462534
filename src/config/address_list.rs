//! Lists of addresses: `exclude`, `reserved` and the addresses of a StatefulSet.

use super::field::Field;
use super::{ConfigError, Mistakes};
use crate::addr::{Range, parse_address};

/// Parses a list of addresses, subnets and `first-last`.
pub(super) fn listed(field: &Field<'_>) -> Result<Vec<Range>, Mistakes> {
    if field.value.as_str().is_some() {
        return Err(field.wrong("expected a list, such as [\"10.0.0.0/28\"]").into());
    }
    Mistakes::each(field.list()?, |item| span(&item))
}

/// Parses an address, a subnet or `first-last`.
pub(super) fn span(item: &Field<'_>) -> Result<Range, ConfigError> {
    match item.text()?.split_once('-') {
        None => item.block().map(|block| block.whole()),
        Some((first, last)) => {
            let first = item.parsed(|_| parse_address(first))?;
            let last = item.parsed(|_| parse_address(last))?;
            Range::new(first, last)
                .ok_or_else(|| item.wrong("expected a first address that is not above the last"))
        }
    }
}
