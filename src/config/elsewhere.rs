//! What to do about addresses that are in use although no record says so: addresses of this node
//! (`own_addresses`).

use super::ConfigError;
use super::merge::Merged;
use crate::ipam::Scope;

/// Reads `own_addresses` of the node's own flat file: returns whether pods may get addresses of
/// this node's interfaces in a scope.
pub(super) fn own_addresses(merged: &Merged<'_>, scope: &Scope) -> Result<bool, ConfigError> {
    let Some(field) = merged.node_setting("own_addresses") else {
        return Ok(false);
    };
    let mut is_allowed = false;
    for (name, value) in field.object()?.value.entries() {
        let entry = field.inner(format!("{}.{}", field.path, field.key(name)), value);
        let allowed = match entry.value.as_str() {
            Some("allowed") => true,
            Some("passed_over") => false,
            _ => return Err(entry.wrong("expected \"allowed\" or \"passed_over\"")),
        };
        if name == scope.name().unwrap_or_default() {
            is_allowed = allowed;
        }
    }
    Ok(is_allowed)
}
