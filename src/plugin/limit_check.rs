//! Whether a network may allocate what it asks for. It binds new allocations
//! alone: what an attachment holds already is answered, whatever the limits say
//! by now.

use super::failure::Failure;
use crate::config::{ConfigError, Network, Problem};
use crate::ipam::{self, IfName, Slot};

/// Whether these slots may be allocated anew.
///
/// # Errors
/// A limit, or a static address that no interface may have.
pub(crate) fn check(network: &Network, slots: &[Slot]) -> Result<(), Failure> {
    if !network.beyond.is_empty() {
        return Err(network.beyond.clone().into());
    }
    ipam::check(&network.sets, &network.requested, slots, network.limits.most)?;
    Ok(ipam::check_statics(&network.sets, &network.statics)?)
}

/// Whether an interface's name can be shown: the kernel takes more than that.
///
/// # Errors
/// It has a control character.
pub(super) fn check_name(ifname: &IfName) -> Result<(), Failure> {
    let shown = ifname.as_str();
    match shown.chars().any(char::is_control) {
        true => Err(ConfigError {
            problem: Problem::Args,
            place: "CNI_IFNAME".to_owned(),
            reason: format!("expected a name without control characters: {}", crate::json::excerpt(shown)),
            hint: None,
        }
        .into()),
        false => Ok(()),
    }
}
