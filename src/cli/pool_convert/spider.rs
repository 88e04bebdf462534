//! SpiderIPPool of Spiderpool.

use super::addresses::{ConvertedSubnet, cidr, gateway, name_ends, spans};
use super::manifest::Converted;
use super::selector::{Labels, label_selector, texts};
use super::source::{Result, Source, Unmatched, shown, unmatched};
use crate::config::Field;
use crate::json::Json;

const READ: &[&str] = &[
    "subnet",
    "ips",
    "excludeIPs",
    "gateway",
    "ipVersion",
    "routes",
    "namespaceName",
    "nodeAffinity",
    "multusName",
];
const UNMATCHED: &[Unmatched] = &[
    unmatched("default", "there is no default pool: name it in the networks"),
    unmatched("disable", "a pool cannot be disabled: name it in no network"),
    unmatched("nodeName", "a pool is for nodes with certain labels: use nodeSelector"),
    unmatched(
        "podAffinity",
        "a pool does not select pods: it is for every pod of its networks and namespaces",
    ),
    unmatched(
        "namespaceAffinity",
        "a pool does not select namespaces by labels: list them in namespaces",
    ),
    unmatched("vlan", "the VLAN belongs to the network configuration"),
];

/// Converts a pool.
pub(super) fn convert(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let (_, subnet) = cidr(&spec, "subnet")?;
    let addresses = spans(spec.find("ips"))?;
    if addresses.is_empty() {
        return Err(spec.lacks("ips").into());
    }
    let part = ConvertedSubnet {
        subnet,
        gateway: gateway(spec.find("gateway"), subnet.family())?,
        addresses,
        exclude: spans(spec.find("excludeIPs"))?,
    };
    name_ends(source, "spec.ips", std::slice::from_ref(&part), false);
    let node_labels = match spec.find("nodeAffinity") {
        Some(selector) => label_selector(source, &selector)?,
        None => Labels::new(),
    };
    let routes = routes(source, &spec)?;
    let networks = texts(spec.find("multusName"))?;
    if !networks.is_empty() {
        let networks = shown(&networks.join(", "));
        source.lost("spec.multusName", format!("name the pool in these networks: {networks}"));
    }
    let namespaces = texts(spec.find("namespaceName"))?;
    source.rest(&spec, READ, UNMATCHED);
    let count = source.status.as_ref().and_then(|status| status.find("allocatedIPCount"));
    if let Some(Json::Number(number)) = count.map(|count| count.value)
        && let Some(number) = number.as_u64().and_then(|number| usize::try_from(number).ok())
    {
        source.held_count("status.allocatedIPs", number, "allocation");
    }
    Ok(Converted { subnets: vec![part], namespaces, node_labels, routes, ..Converted::default() })
}

fn routes(source: &mut Source<'_>, spec: &Field<'_>) -> Result<Vec<(String, Option<String>)>> {
    let Some(list) = spec.find("routes") else {
        return Ok(Vec::new());
    };
    let mut routes = Vec::new();
    for item in list.list()? {
        let (_, dst) = cidr(item.object()?, "dst")?;
        let gw = gateway(item.find("gw"), dst.family())?;
        routes.push((dst.to_string(), gw.map(|gw| gw.to_string())));
        source.rest(&item, &["dst", "gw"], &[]);
    }
    Ok(routes)
}
