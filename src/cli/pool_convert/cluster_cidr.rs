//! Pools of which each node gets a block of its own: ClusterCIDRConfig of GKE on bare metal, and
//! ClusterCIDR of Kubernetes and of node-ipam-controller. They become pools with slices.

use super::addresses::{ConvertedSubnet, bits, cidr};
use super::manifest::{Converted, Cut};
use super::selector::{Labels, label_selector, node_selector};
use super::source::{Result, Source};
use crate::addr::{Family, Subnet};
use crate::config::{ConfigError, Field};
use crate::ipam::{Block, Geometry};

/// What becomes of the size of the blocks.
pub(super) const NO_BLOCKS: &str =
    "nodes get no blocks of their own: each pod gets the lowest free address of the whole pool";

/// Converts a ClusterCIDRConfig.
pub(super) fn config(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let v4 = family(source, spec.find("ipv4"), Family::V4)?;
    let v6 = family(source, spec.find("ipv6"), Family::V6)?;
    if let (Some((_, v4)), Some((_, v6))) = (v4, v6)
        && Family::V4.bits() - v4 != Family::V6.bits() - v6
    {
        let reason = format!(
            "expected as many IPv4 as IPv6 addresses for each node, found 2^{} and 2^{}: make 32 - ipv4.perNodeMaskSize equal to 128 - ipv6.perNodeMaskSize",
            Family::V4.bits() - v4,
            Family::V6.bits() - v6
        );
        return Err(ConfigError::meaning("spec", reason).into());
    }
    let labels = match spec.find("nodeSelector") {
        Some(selector) => label_selector(source, &selector)?,
        None => Labels::new(),
    };
    source.rest(&spec, &["ipv4", "ipv6", "nodeSelector"], &[]);
    let ranges = Block { v4: v4.map(|of| of.0), v6: v6.map(|of| of.0) };
    let cut = cut(&ranges, v4.map(|of| of.1), v6.map(|of| of.1));
    pool(source, &spec, &ranges, cut, labels)
}

/// Returns the subnet of a family, and the prefix length of each node's block.
fn family(
    source: &mut Source<'_>,
    field: Option<Field<'_>>,
    family: Family,
) -> Result<Option<(Subnet, u8)>> {
    let Some(field) = field else {
        return Ok(None);
    };
    let (_, subnet) = of_family(field.object()?, "cidr", family)?;
    let size = field.find("perNodeMaskSize").ok_or_else(|| field.lacks("perNodeMaskSize"))?;
    let length = bits(&size, "a prefix length", family.bits())?;
    if length < subnet.length() {
        return Err(size
            .wrong(&format!("expected a prefix length that is not shorter than {subnet}"))
            .into());
    }
    source.rest(&field, &["cidr", "perNodeMaskSize"], &[]);
    Ok(Some((subnet, length)))
}

/// Parses a CIDR of a family.
fn of_family(object: &Field<'_>, key: &str, family: Family) -> Result<(Field<'static>, Subnet)> {
    let (field, subnet) = cidr(object, key)?;
    if subnet.family() == family {
        return Ok((field, subnet));
    }
    let reason = format!("expected an {family} CIDR, found {subnet}");
    Err(ConfigError::meaning(field.path, reason).into())
}

/// Converts a ClusterCIDR.
pub(super) fn convert(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let subnet = |key, family| match spec.find(key) {
        None => Ok(None),
        Some(_) => of_family(&spec, key, family).map(|(_, subnet)| Some(subnet)),
    };
    let ranges = Block { v4: subnet("ipv4", Family::V4)?, v6: subnet("ipv6", Family::V6)? };
    let cut = match spec.find("perNodeHostBits") {
        None => Err("spec.perNodeHostBits: expected a number, found none".to_owned()),
        Some(field) => {
            let host_bits = bits(&field, "a number of bits", 128)?;
            let length = |of: Option<Subnet>| of?.family().bits().checked_sub(host_bits);
            cut(&ranges, length(ranges.v4), length(ranges.v6))
        }
    };
    let labels = match spec.find("nodeSelector") {
        Some(selector) => node_selector(source, &selector)?,
        None => Labels::new(),
    };
    source.rest(&spec, &["ipv4", "ipv6", "perNodeHostBits", "nodeSelector"], &[]);
    pool(source, &spec, &ranges, cut, labels)
}

/// Returns the slices of these lengths, or why the ranges cannot be cut so.
fn cut(ranges: &Block, v4: Option<u8>, v6: Option<u8>) -> std::result::Result<Cut, String> {
    Geometry::new(vec![ranges.clone()], v4, v6)?;
    Ok(Cut { ranges: ranges.clone(), v4, v6 })
}

/// Returns the pool. If it cannot be cut into slices, each pod gets an address of the whole pool.
fn pool(
    source: &mut Source<'_>,
    spec: &Field<'_>,
    ranges: &Block,
    cut: std::result::Result<Cut, String>,
    node_labels: Labels,
) -> Result<Converted> {
    let subnets: Vec<_> = ranges.subnets().map(ConvertedSubnet::whole).collect();
    if subnets.is_empty() {
        return Err(ConfigError::meaning(&spec.path, "expected ipv4, ipv6 or both").into());
    }
    let cut = cut.map_err(|reason| {
        source.lost(&spec.path, format!("the size of each node's block: {reason}; {NO_BLOCKS}"));
    });
    Ok(Converted { subnets, cut: cut.ok(), node_labels, ..Converted::default() })
}
