//! Pools of which each node gets a block of its own: ClusterCIDRConfig of GKE on bare metal, and
//! ClusterCIDR of Kubernetes and of node-ipam-controller. Here each pod gets an address of the
//! whole pool.

use super::addresses::{ConvertedSubnet, bits, cidr};
use super::manifest::Converted;
use super::selector::{Labels, label_selector, node_selector};
use super::source::{Result, Source};
use crate::addr::{Family, Subnet};
use crate::config::{ConfigError, Field};

/// What becomes of the size of the blocks.
pub(super) const NO_BLOCKS: &str =
    "nodes get no blocks of their own: each pod gets the lowest free address of the whole pool";

/// Converts a ClusterCIDRConfig.
pub(super) fn config(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let v4 = family(source, spec.find("ipv4"), Family::V4)?;
    let v6 = family(source, spec.find("ipv6"), Family::V6)?;
    if let (Some((_, v4)), Some((_, v6))) = (v4, v6)
        && v4 != v6
    {
        let reason = format!(
            "expected as many IPv4 as IPv6 addresses for each node, found 2^{v4} and 2^{v6}: make 32 - ipv4.perNodeMaskSize equal to 128 - ipv6.perNodeMaskSize"
        );
        return Err(ConfigError::meaning("spec", reason).into());
    }
    let labels = match spec.find("nodeSelector") {
        Some(selector) => label_selector(source, &selector)?,
        None => Labels::new(),
    };
    source.rest(&spec, &["ipv4", "ipv6", "nodeSelector"], &[]);
    pool(&spec, [v4, v6].into_iter().flatten().map(|(subnet, _)| subnet), labels)
}

/// Returns the subnet of a family, and the number of host bits of each node's block.
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
    source.lost(&size.path, format!("{length}: {NO_BLOCKS}"));
    source.rest(&field, &["cidr", "perNodeMaskSize"], &[]);
    Ok(Some((subnet, family.bits() - length)))
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
    let mut subnets = Vec::new();
    for (key, family) in [("ipv4", Family::V4), ("ipv6", Family::V6)] {
        if spec.find(key).is_some() {
            subnets.push(of_family(&spec, key, family)?.1);
        }
    }
    if let Some(field) = spec.find("perNodeHostBits") {
        let host_bits = bits(&field, "a number of bits", 128)?;
        source.lost(&field.path, format!("{host_bits}: {NO_BLOCKS}"));
    }
    let labels = match spec.find("nodeSelector") {
        Some(selector) => node_selector(source, &selector)?,
        None => Labels::new(),
    };
    source.rest(&spec, &["ipv4", "ipv6", "perNodeHostBits", "nodeSelector"], &[]);
    pool(&spec, subnets, labels)
}

fn pool(
    spec: &Field<'_>,
    subnets: impl IntoIterator<Item = Subnet>,
    node_labels: Labels,
) -> Result<Converted> {
    let subnets: Vec<_> = subnets.into_iter().map(ConvertedSubnet::whole).collect();
    if subnets.is_empty() {
        return Err(ConfigError::meaning(&spec.path, "expected ipv4, ipv6 or both").into());
    }
    Ok(Converted { subnets, node_labels, ..Converted::default() })
}
