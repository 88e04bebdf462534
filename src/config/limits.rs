//! `limits`: how much one ADD may ask for.
//!
//! The author of a network or of a pod is not the node's operator, and every address that one pod
//! takes is missing for the others. A site that needs more sets higher limits in the node's own
//! flat file.
//!
//! Limits apply only to new allocations. Existing allocations are reported, checked and freed
//! regardless of the limits. Therefore a violation is only noted when a configuration is read, and
//! reported when something would be allocated.

use super::field::Field;
use super::merge::Merged;
use super::{ConfigError, Problem};
use crate::ipam::{Most, Scope};

/// The limits of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The limits on addresses.
    pub most: Most,
    /// The maximum number of ranges of a configuration, including the alternatives of an inner
    /// list.
    pub ranges: usize,
    /// The maximum number of entries of all `exclude` lists together.
    pub excludes: usize,
    /// The maximum number of routes.
    pub routes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            most: Most { addresses: 16, requested: 1 },
            ranges: 64,
            excludes: 4096,
            routes: 1024,
        }
    }
}

impl Limits {
    /// Reads the limits that the node's own flat file sets.
    pub(super) fn parse(merged: &Merged<'_>) -> Result<Self, ConfigError> {
        let mut limits = Self::default();
        let Some(field) = merged.node_setting("limits") else {
            return Ok(limits);
        };
        let field = field.object()?;
        let number = |key: &str, highest: u32, limit: &mut usize| match field.find(key) {
            None => Ok(()),
            Some(entry) => match entry.unsigned()? {
                number if (1..=highest).contains(&number) => {
                    *limit = usize::try_from(number).unwrap_or(*limit);
                    Ok(())
                }
                _ => Err(entry.wrong(&format!("expected a number from 1 to {highest}"))),
            },
        };
        // Each address is a file or an object. No site needs thousands of them for one interface.
        number("addresses", 1024, &mut limits.most.addresses)?;
        number("requested", 1024, &mut limits.most.requested)?;
        number("ranges", 16_384, &mut limits.ranges)?;
        number("excludes", 49_152, &mut limits.excludes)?;
        number("routes", 16_384, &mut limits.routes)?;
        Ok(limits)
    }
}

/// Returns a mistake if a number exceeds its limit.
pub(super) fn beyond(key: &str, what: &str, found: usize, most: usize) -> Option<ConfigError> {
    (most < found).then(|| {
        let reason = format!("expected at most {most} {what}, found {found}");
        ConfigError::meaning(format!("ipam ({what})"), reason)
            .with_hint(format!("limits.{key} in the node's flat file sets the limit"))
    })
}

/// Checks the name of a scope, which is written to logs and shown in tables.
pub(super) fn check_scope(field: &Field<'_>, scope: &Scope) -> Result<(), ConfigError> {
    if field.text()?.chars().any(char::is_control) {
        return Err(field.wrong("expected a name without control characters"));
    }
    let kept = match scope {
        _ if scope.is_of_cluster_api() => (Scope::OF_CLUSTER_API, "pools of Cluster API"),
        _ if scope.is_of_claim_user() => (Scope::OF_CLAIM_USERS, "users of IPAMClaims"),
        _ if scope.is_of_slices() => (Scope::OF_SLICES, "pools with slices"),
        _ => return Ok(()),
    };
    let (begin, whom) = kept;
    let reason = format!("expected a name that does not begin with \"{begin}\"");
    Err(ConfigError { problem: Problem::Unsupported, ..field.wrong(&reason) }
        .with_hint(format!("these names are kept for {whom}; choose another name")))
}
