//! IPPool and CIDRPool of NVIDIA's IPAM plugin. Each node gets a block of a pool; here each pod
//! gets an address of the whole pool.

use super::addresses::{ConvertedSubnet, Span, between, cidr, gateway};
use super::cluster_cidr::NO_BLOCKS;
use super::manifest::Converted;
use super::selector::{Labels, node_selector};
use super::source::{Result, Source, Unmatched, bare, unmatched};
use crate::addr::{Family, Subnet};
use crate::config::{Field, Mistakes};
use crate::json::Json;

const NO_BLOCK_INDEX: &str =
    "the numbers count from the start of a node's block, and nodes get no blocks";
const OF_A_NODE: &str =
    "the gateway is another one on each node, and a pool has one gateway for each subnet";

const READ: &[&str] =
    &["subnet", "gateway", "exclusions", "nodeSelector", "defaultGateway", "routes"];
const UNMATCHED: &[Unmatched] =
    &[unmatched("perNodeBlockSize", NO_BLOCKS), unmatched("perNodeExclusions", NO_BLOCK_INDEX)];
const CIDR_READ: &[&str] = &["cidr", "exclusions", "nodeSelector", "gatewayIndex"];
const CIDR_UNMATCHED: &[Unmatched] = &[
    unmatched(
        "perNodeNetworkPrefix",
        "nodes get no blocks of their own: the prefix length of an answer is that of the whole CIDR",
    ),
    unmatched("perNodeExclusions", NO_BLOCK_INDEX),
    unmatched(
        "staticAllocations",
        "nodes get no blocks of their own: make a pool for each node, with a nodeSelector",
    ),
    unmatched("defaultGateway", OF_A_NODE),
    unmatched("routes", OF_A_NODE),
];

/// Converts an IPPool.
pub(super) fn pool(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let (_, subnet) = cidr(&spec, "subnet")?;
    let gateway = gateway(spec.find("gateway"), subnet.family())?;
    let mut routes = Vec::new();
    if let Some(list) = spec.find("routes") {
        for item in list.list()? {
            let (_, dst) = cidr(item.object()?, "dst")?;
            routes.push((dst.to_string(), None));
            source.rest(&item, &["dst"], &[]);
        }
    }
    if let Some(field) =
        spec.find("defaultGateway").filter(|field| *field.value == Json::Bool(true))
    {
        match gateway {
            Some(_) => routes.push((everything(&subnet).to_owned(), None)),
            None => source.lost(&field.path, "the pool has no gateway"),
        }
    }
    let part =
        ConvertedSubnet { gateway, exclude: exclusions(&spec)?, ..ConvertedSubnet::whole(subnet) };
    let node_labels = labels(source, &spec)?;
    source.rest(&spec, READ, UNMATCHED);
    held(source);
    Ok(Converted { subnets: vec![part], node_labels, routes, ..Converted::default() })
}

/// Converts a CIDRPool.
pub(super) fn cidr_pool(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let (_, subnet) = cidr(&spec, "cidr")?;
    let part = ConvertedSubnet { exclude: exclusions(&spec)?, ..ConvertedSubnet::whole(subnet) };
    let node_labels = labels(source, &spec)?;
    // The number 0 stands for an address, too.
    if let Some(index) = spec.find("gatewayIndex") {
        source.lost(&index.path, format!("{}: {OF_A_NODE}", bare(index.value)));
    }
    source.rest(&spec, CIDR_READ, CIDR_UNMATCHED);
    held(source);
    Ok(Converted { subnets: vec![part], node_labels, ..Converted::default() })
}

/// Returns the destination of a default route.
fn everything(subnet: &Subnet) -> &'static str {
    match subnet.family() {
        Family::V4 => "0.0.0.0/0",
        Family::V6 => "::/0",
    }
}

fn labels(source: &mut Source<'_>, spec: &Field<'_>) -> Result<Labels> {
    match spec.find("nodeSelector") {
        Some(selector) => node_selector(source, &selector),
        None => Ok(Labels::new()),
    }
}

fn held(source: &mut Source<'_>) {
    let status = source.status.clone();
    source.held(status.as_ref(), "allocations", "block");
}

/// Parses `exclusions`: first and last addresses.
fn exclusions(spec: &Field<'_>) -> Result<Vec<Span>> {
    let Some(list) = spec.find("exclusions") else {
        return Ok(Vec::new());
    };
    Mistakes::each(list.list()?, |item| {
        let end = |key: &str| item.object()?.find(key).ok_or_else(|| item.lacks(key))?.address();
        between(&item, end("startIP")?, end("endIP")?)
    })
}
