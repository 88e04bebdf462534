//! Gateways: one rule for `gateway`, for a range's own gateway and for that of a static address.
//!
//! A gateway may be outside the subnet, as for Whereabouts and host-local: in clouds the router of
//! a part of a subnet is in another part. It must only be of the family of the address. `0.0.0.0`
//! and `::` mean that there is none.

use super::ConfigError;
use super::field::Field;
use super::routes::Route;
use crate::addr::{Blocks, Family, Subnet, is_link_local};
use crate::ipam::{RangeSet, Static, subnets};
use std::net::IpAddr;

/// Parses a gateway. Returns `None` if the value means that there is none.
pub(super) fn gateway(field: &Field<'_>) -> Result<Option<IpAddr>, ConfigError> {
    let gateway = field.address()?;
    let is_of_many = match gateway {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    };
    if is_of_many {
        return Err(field.wrong("expected a unicast address"));
    }
    Ok(Some(gateway).filter(|gateway| !gateway.is_unspecified()))
}

/// Does the same for the gateway of addresses of one family.
pub(super) fn gateway_of(field: &Field<'_>, family: Family) -> Result<Option<IpAddr>, ConfigError> {
    match gateway(field)? {
        Some(gateway) if Family::of(gateway) != family => {
            Err(field.wrong(&format!("expected an {family} address, as the range has")))
        }
        gateway => Ok(gateway),
    }
}

/// Returns whether a pod with an address of the subnet reaches the gateway. A link-local IPv6
/// gateway fits every IPv6 subnet, because routers announce themselves with it.
#[must_use]
pub fn fits(subnet: &Subnet, gateway: IpAddr) -> bool {
    subnet.contains(gateway) || (is_link_local(gateway) && subnet.family() == Family::V6)
}

/// Returns the mistake of a configuration in which a route without `gw` leads over a gateway that
/// is outside every subnet: the kernel refuses such a route. Main plugins give it the gateway of
/// the first address that has one (containernetworking/plugins v1.9.1, `ConfigureIface`).
pub(super) fn unusable(
    sets: &[RangeSet],
    statics: &[Static],
    routes: &[Route],
) -> Option<ConfigError> {
    let subnets: Blocks = subnets(sets, statics).map(|subnet| subnet.whole()).collect();
    [Family::V4, Family::V6].into_iter().find_map(|family| {
        let is_without_gw = |route: &&Route| route.gw.is_none() && route.dst.family() == family;
        let route = routes.iter().find(is_without_gw)?;
        let outside = used(sets, statics, family)
            .into_iter()
            .find(|gateway| !is_link_local(*gateway) && !subnets.contains(*gateway))?;
        let reason = format!(
            "expected gw, because gateway {outside} is outside every subnet and the route to {} cannot use it",
            route.dst
        );
        let hint = "write a gw that the pod can reach into the route, or leave the gateway out";
        Some(ConfigError::meaning("ipam.routes", reason).with_hint(hint))
    })
}

/// Returns the gateways that a route without `gw` may get: those of the first range set of the
/// family that has any, or that of the first static address.
fn used(sets: &[RangeSet], statics: &[Static], family: Family) -> Vec<IpAddr> {
    let of_family = |gateway: &IpAddr| Family::of(*gateway) == family;
    let mut of_sets = sets.iter().map(|set| {
        let gateways = set.ranges.iter().filter_map(|range| range.gateway);
        gateways.filter(of_family).collect::<Vec<_>>()
    });
    let of_statics = || statics.iter().filter_map(|fixed| fixed.gateway).find(of_family);
    of_sets
        .find(|gateways| !gateways.is_empty())
        .unwrap_or_else(|| of_statics().into_iter().collect())
}
