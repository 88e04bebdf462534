//! Pools of load balancers: IPAddressPool of MetalLB and CiliumLoadBalancerIPPool. They list
//! addresses and have no subnets.

use super::addresses::{ConvertedSubnet, Span, around, between, name_ends, span, spans};
use super::manifest::Converted;
use super::selector::texts;
use super::source::{Result, Source, Unmatched, shown, unmatched};
use crate::addr::Family;
use crate::config::{ConfigError, Field};
use crate::json::Json;

const NO_SUBNET: &str = "the object has no subnets: each subnet here is the smallest one around the addresses; set the real subnets and their gateways";
const NO_SERVICES: &str = "a pool does not select Services";

const METALLB: &[Unmatched] =
    &[unmatched("autoAssign", "a pool is used by the networks that name it").unless("true")];
const ALLOCATION: &[Unmatched] = &[
    unmatched("priority", "a network lists its pools in the order of their use"),
    unmatched(
        "namespaceSelectors",
        "a pool does not select namespaces by labels: list them in namespaces",
    ),
    unmatched("serviceSelectors", NO_SERVICES),
];
const CILIUM: &[Unmatched] =
    &[unmatched("disabled", "a pool cannot be disabled: name it in no network")];

/// The label with which a CiliumLoadBalancerIPPool selects a namespace.
const NAMESPACE: &str = "io.kubernetes.service.namespace";

/// The maximum number of blocks of 256 addresses of a pool with `avoidBuggyAddresses`.
const MOST_BLOCKS: u64 = 4096;

/// Converts an IPAddressPool of MetalLB.
pub(super) fn metallb(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let listed = spans(spec.find("addresses"))?;
    if listed.is_empty() {
        return Err(spec.lacks("addresses").into());
    }
    let subnets = around(listed);
    let avoided = spec.find("avoidBuggyIPs").filter(|field| *field.value == Json::Bool(true));
    let avoids_buggy = avoided.is_some() && blocks(&subnets) <= MOST_BLOCKS;
    if let Some(field) = avoided.filter(|_| !avoids_buggy) {
        source.lost(&field.path, "the pool is too large: add the addresses to exclude");
    }
    name_ends(source, "spec.addresses", &subnets, avoids_buggy);
    let mut namespaces = Vec::new();
    if let Some(allocation) = spec.find("serviceAllocation") {
        namespaces = texts(allocation.object()?.find("namespaces"))?;
        source.rest(&allocation, &["namespaces"], ALLOCATION);
    }
    source.rest(&spec, &["addresses", "avoidBuggyIPs", "serviceAllocation"], METALLB);
    source.note(NO_SUBNET);
    Ok(Converted { subnets, namespaces, avoids_buggy, ..Converted::default() })
}

/// Returns the number of blocks of 256 addresses in large IPv4 subnets.
fn blocks(subnets: &[ConvertedSubnet]) -> u64 {
    let large = subnets
        .iter()
        .filter(|part| part.subnet.family() == Family::V4 && part.subnet.length() < 24);
    large.map(|part| 1_u64 << (24 - part.subnet.length())).sum()
}

/// Converts a CiliumLoadBalancerIPPool.
pub(super) fn cilium(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let mut listed = Vec::new();
    let mut spares_ends = true;
    // Earlier versions say `cidrs`.
    let mut path = "spec.blocks".to_owned();
    for list in ["blocks", "cidrs"].iter().filter_map(|key| spec.find(key)) {
        path.clone_from(&list.path);
        for item in list.list()? {
            let (addresses, is_cidr) = block(source, &item)?;
            spares_ends &= is_cidr;
            listed.push(addresses);
        }
    }
    if listed.is_empty() {
        return Err(spec.lacks("blocks").into());
    }
    let subnets = around(listed);
    // By default, the first and the last address of a CIDR are spared there, too.
    let gives_ends =
        spec.find("allowFirstLastIPs").is_some_and(|field| field.value.as_str() == Some("Yes"));
    if gives_ends || !spares_ends {
        name_ends(source, &path, &subnets, false);
    }
    let namespaces = match spec.find("serviceSelector") {
        Some(selector) => service_selector(source, &selector)?,
        None => Vec::new(),
    };
    let read = &["blocks", "cidrs", "allowFirstLastIPs", "serviceSelector"];
    source.rest(&spec, read, CILIUM);
    source.note(NO_SUBNET);
    Ok(Converted { subnets, namespaces, ..Converted::default() })
}

/// Returns the addresses of a block, and whether they are a CIDR.
fn block(source: &mut Source<'_>, item: &Field<'_>) -> Result<(Span, bool)> {
    item.object()?;
    source.rest(item, &["cidr", "start", "stop"], &[]);
    match (item.find("cidr"), item.find("start"), item.find("stop")) {
        (Some(cidr), None, None) => Ok((span(&cidr)?, true)),
        (None, Some(start), stop) => {
            let first = start.address()?;
            let last = stop.map_or(Ok(first), |stop| stop.address())?;
            Ok((between(item, first, last)?, false))
        }
        _ => {
            Err(ConfigError::meaning(&item.path, "expected either cidr, or start and stop").into())
        }
    }
}

/// Returns the namespace that a selector of Services requires.
fn service_selector(source: &mut Source<'_>, selector: &Field<'_>) -> Result<Vec<String>> {
    let mut namespaces = Vec::new();
    if let Some(labels) = selector.object()?.find("matchLabels") {
        for (key, value) in labels.object()?.value.entries() {
            let path = labels.path_of(&labels.key(key));
            match value {
                Json::String(value) if key == NAMESPACE => namespaces.push(value.clone()),
                value => {
                    let value = value.as_str().map(shown).unwrap_or_default();
                    source.lost(&path, format!("{value}: {NO_SERVICES}"));
                }
            }
        }
    }
    if let Some(expressions) = selector.find("matchExpressions") {
        source.lost(&expressions.path, NO_SERVICES);
    }
    source.rest(selector, &["matchLabels", "matchExpressions"], &[]);
    Ok(namespaces)
}
