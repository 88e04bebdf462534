//! Pools of pod CIDRs: IPPool of Calico and CiliumPodIPPool.

use super::addresses::{ConvertedSubnet, around, cidr, name_ends, spans};
use super::cluster_cidr::NO_BLOCKS;
use super::manifest::Converted;
use super::selector::{Labels, expression};
use super::source::{Result, Source, Unmatched, unmatched};
use crate::addr::Family;
use crate::config::ConfigError;

const ROUTING: &str = "a pool says nothing about routing";

const CALICO: &[Unmatched] = &[
    unmatched("blockSize", NO_BLOCKS),
    unmatched("ipipMode", ROUTING).unless("Never"),
    unmatched("vxlanMode", ROUTING).unless("Never"),
    unmatched("ipip", ROUTING),
    unmatched("natOutgoing", ROUTING),
    unmatched("nat-outgoing", ROUTING),
    unmatched("disableBGPExport", ROUTING),
    unmatched("disabled", "a pool cannot be disabled: name it in no network"),
    unmatched("allowedUses", "a pool is for the pods of the networks that name it"),
    unmatched("assignmentMode", "a pool is used by the networks that name it").unless("Automatic"),
    unmatched(
        "namespaceSelector",
        "a pool does not select namespaces by labels: list them in namespaces",
    )
    .unless("all()"),
];
const CILIUM: &[Unmatched] = &[
    unmatched(
        "podSelector",
        "a pool does not select pods: it is for every pod of its networks and namespaces",
    ),
    unmatched(
        "namespaceSelector",
        "a pool does not select namespaces by labels: list them in namespaces",
    ),
];
const CILIUM_FAMILY: &[Unmatched] = &[unmatched("maskSize", NO_BLOCKS)];

/// Converts an IPPool of Calico.
pub(super) fn calico(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let (_, subnet) = cidr(&spec, "cidr")?;
    let subnets = vec![ConvertedSubnet::whole(subnet)];
    name_ends(source, "spec.cidr", &subnets, false);
    let node_labels = match spec.find("nodeSelector") {
        Some(selector) => expression(source, &selector)?,
        None => Labels::new(),
    };
    source.rest(&spec, &["cidr", "nodeSelector"], CALICO);
    Ok(Converted { subnets, node_labels, ..Converted::default() })
}

/// Converts a CiliumPodIPPool.
pub(super) fn cilium(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let mut all = Vec::new();
    for (key, family) in [("ipv4", Family::V4), ("ipv6", Family::V6)] {
        let Some(field) = spec.find(key) else {
            continue;
        };
        let listed = spans(field.object()?.find("cidrs"))?;
        if let Some(wrong) = listed.iter().find(|span| span.range.family() != family) {
            let reason = format!("expected {family} CIDRs, found {}", wrong.text);
            return Err(ConfigError::meaning(field.path_of("cidrs"), reason).into());
        }
        all.extend(listed);
        source.rest(&field, &["cidrs"], CILIUM_FAMILY);
    }
    if all.is_empty() {
        return Err(ConfigError::meaning("spec", "expected ipv4.cidrs, ipv6.cidrs or both").into());
    }
    source.rest(&spec, &["ipv4", "ipv6"], CILIUM);
    Ok(Converted { subnets: around(all), ..Converted::default() })
}
