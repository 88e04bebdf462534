//! Checks whether a network may allocate what it asks for. The limits bind only new allocations:
//! what an attachment already holds is answered, whatever the limits say now.

use super::failure::Failure;
use crate::config::{ConfigError, Network, Problem};
use crate::ipam::{self, IfName, Slot};

/// Checks whether addresses may be newly allocated for these slots.
///
/// # Errors
/// A limit is exceeded, or a static address is one that no interface may have.
pub(crate) fn check(network: &Network, slots: &[Slot]) -> Result<(), Failure> {
    if !network.beyond.is_empty() {
        return Err(network.beyond.clone().into());
    }
    ipam::check(&network.sets, &network.requested, slots, network.limits.most)?;
    Ok(ipam::check_statics(&network.sets, &network.statics)?)
}

/// Checks that an interface's name can be shown. The kernel accepts more names than that.
///
/// # Errors
/// The name has a control character.
pub(super) fn check_name(ifname: &IfName) -> Result<(), Failure> {
    let shown = ifname.as_str();
    match shown.chars().any(char::is_control) {
        true => Err(ConfigError {
            problem: Problem::Args,
            place: "CNI_IFNAME".to_owned(),
            reason: format!(
                "expected a name without control characters, found {}",
                crate::json::excerpt(shown)
            ),
            hint: None,
        }
        .into()),
        false => Ok(()),
    }
}
