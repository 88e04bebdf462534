//! What the main plugin does with gateways (containernetworking/plugins v1.9.1).

use crate::addr::{Family, Subnet, address, number};
use crate::json::Json;
use std::net::IpAddr;

/// The kinds of main plugins that treat gateways specially.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MainPlugin {
    /// A bridge with `isGateway` or `isDefaultGateway`: where the answer has no gateway, the bridge
    /// itself takes the first address of the subnet, even if a pod has it.
    GatewayBridge,
    /// ptp, which makes the gateway the address of the other end.
    Ptp,
    /// Any other one.
    Other,
}

impl MainPlugin {
    /// Returns the kind of the main plugin of a configuration.
    pub(super) fn of(whole: &Json) -> Self {
        let is_set = |key: &str| whole.find_in_any_case(key) == Some(&Json::Bool(true));
        match whole.find("type").and_then(Json::as_str) {
            Some("bridge") if is_set("isGateway") || is_set("isDefaultGateway") => {
                Self::GatewayBridge
            }
            Some("ptp") => Self::Ptp,
            _ => Self::Other,
        }
    }

    /// Returns the gateway of a subnet for which the configuration has none.
    pub(super) fn gateway_of(self, subnet: &Subnet) -> Option<IpAddr> {
        let network = subnet.network();
        let next = number(network).checked_add(1);
        let family = Family::of(network);
        let next = next.filter(|next| self == Self::GatewayBridge && *next <= family.highest());
        next.map(|next| address(family, next))
    }
}
