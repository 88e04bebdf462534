//! Nodes: each has one block of addresses for pods, and an internal address, of each family.

use super::printer::Printer;
use super::row::{ByFamily, Row, Verdict};
use crate::cli::cluster_lists::{Cluster, NODES};
use serde::Deserialize;
use std::collections::HashMap;

/// For each node, whether it has internal addresses of both families.
pub(super) type Nodes = HashMap<String, bool>;

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Status {
    addresses: Option<Vec<Address>>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// Checks all nodes.
pub(super) fn check(cluster: &Cluster, printer: &mut Printer) -> anyhow::Result<Nodes> {
    let mut nodes = Nodes::new();
    cluster.list(&NODES, &mut |item| {
        let node: Node = NODES.parse(item)?;
        let rows = rows(&node);
        nodes.insert(node.metadata.name, rows[1].found.is_dual());
        rows.iter().try_for_each(|row| printer.add(row))
    })?;
    Ok(nodes)
}

/// Returns the rows of a node: its blocks, and its internal addresses.
fn rows(node: &Node) -> [Row; 2] {
    let blocks = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    let blocks = ByFamily::of(blocks.iter().map(String::as_str));
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref());
    let internal = addresses.unwrap_or_default().iter().filter(|entry| entry.kind == "InternalIP");
    let internal = ByFamily::of(internal.map(|entry| entry.address.as_str()));
    let row = |what: &str, verdict: Verdict, found: ByFamily| Row {
        kind: "Node",
        namespace: String::new(),
        name: node.metadata.name.clone(),
        what: what.to_owned(),
        found,
        verdict,
    };
    [
        row("pod CIDRs", verdict_on_blocks(&blocks), blocks),
        row("internal addresses", internal.verdict("address"), internal),
    ]
}

fn verdict_on_blocks(blocks: &ByFamily) -> Verdict {
    let too_many = |family: &str, texts: &[String]| {
        (1 < texts.len()).then(|| format!("{} {family} blocks, expected one", texts.len()))
    };
    blocks
        .missing("block")
        .or_else(|| too_many("IPv4", &blocks.ipv4))
        .or_else(|| too_many("IPv6", &blocks.ipv6))
        .map_or(Verdict::Good, Verdict::Gap)
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn a_node_has_one_block_and_an_internal_address_of_each_family() {
        for (node, blocks, addresses) in [
            (r#"{"metadata":{"name":"a"}}"#, "gap: no block", "gap: no address"),
            (
                r#"{"metadata":{"name":"a"},"spec":{"podCIDRs":["10.0.0.0/24","fd00::/64"]},"status":{"addresses":[
                   {"type":"InternalIP","address":"192.0.2.1"},{"type":"InternalIP","address":"fd00:9::1"},{"type":"Hostname","address":"a"}]}}"#,
                "ok",
                "ok",
            ),
            (
                r#"{"metadata":{"name":"a"},"spec":{"podCIDRs":["10.0.0.0/24","10.0.1.0/24","fd00::/64"]},"status":{"addresses":[
                   {"type":"InternalIP","address":"192.0.2.1"},{"type":"ExternalIP","address":"fd00:9::1"}]}}"#,
                "gap: 2 IPv4 blocks, expected one",
                "gap: no IPv6 address",
            ),
            (
                r#"{"metadata":{"name":"a"},"spec":{"podCIDRs":["fd00::/64"]},"status":{"addresses":null}}"#,
                "gap: no IPv4 block",
                "gap: no address",
            ),
        ] {
            let rows = rows(&serde_json::from_str(node).unwrap()).map(|row| row.cells());
            assert_eq!([&*rows[0][5], &*rows[1][5]], [blocks, addresses], "{node}");
        }
    }
}
