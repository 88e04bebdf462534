//! Checks whether a network may allocate what it asks for. The limits bind only new allocations:
//! what an attachment already holds is answered, whatever the limits say now.

use super::failure::Failure;
use crate::config::{ConfigError, MainPlugin, Network, Problem};
use crate::ipam::{self, IfName, Slot};
use std::collections::HashSet;

/// Checks whether addresses may be newly allocated for these slots.
///
/// # Errors
/// A limit is exceeded, a static address is one that no interface may have, or the main plugin
/// needs a gateway that is missing.
pub(crate) fn check(network: &Network, slots: &[Slot]) -> Result<(), Failure> {
    if !network.beyond.is_empty() {
        return Err(network.beyond.clone().into());
    }
    check_gateways(network, slots)?;
    ipam::check(&network.sets, &network.requested, slots, network.limits.most)?;
    Ok(ipam::check_statics(&network.sets, &network.statics)?)
}

/// Checks that ptp gets for each address a gateway in its subnet: without one it fails after the
/// addresses were given, with an error of the kernel.
fn check_gateways(network: &Network, slots: &[Slot]) -> Result<(), Failure> {
    if network.main_plugin != MainPlugin::Ptp {
        return Ok(());
    }
    let mut used = HashSet::new();
    for slot in slots {
        let gateways: HashSet<_> =
            slot.candidates.iter().map(|candidates| candidates.gateway).collect();
        let reason = if gateways.contains(&None) {
            "expected a gateway for each address, because the main plugin ptp needs it, found none"
        } else if gateways.iter().any(|gateway| used.contains(gateway)) {
            "expected another gateway for each address, because the main plugin ptp needs it"
        } else {
            used.extend(gateways);
            continue;
        };
        return Err(ConfigError::meaning("ipam", reason)
            .with_hint("set gateway in the range, or in addresses")
            .into());
    }
    Ok(())
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
