//! What Whereabouts cannot be shown: the addresses of slices, which are in the files of their nodes, and
//! those of networks with `node_slice_size`, for which it has no pool of the whole range.

use super::Operator;
use super::missing::{self, Missing};
use super::view::View;
use crate::addr::{Range, Subnet, parse_address};
use crate::cli::cluster_lists::List;
use crate::cli::import::whereabouts::Survey;
use crate::ipam::Block;
use crate::store::kube::objects::ip_slice;
use serde::Deserialize;

const SLICES: List = List {
    what: "ipslices.hereabouts.dev",
    right: "ipslices.hereabouts.dev",
    absent: "apply deploy/crd: the cluster does not have this resource",
    path: "/apis/hereabouts.dev/v1alpha1/ipslices",
    query: "?limit=500",
    accept: "application/json",
};
const HINT: &str = "scale what uses this network or pool to 0, and wait until no node owns a slice of it: a node keeps its last empty one for ten minutes, \"hereabouts slices list\" shows them; release those of nodes that are off";

#[derive(Deserialize)]
struct Slice {
    spec: ip_slice::Spec,
}

/// Refuses a step after which Whereabouts gives addresses, if it cannot be shown some that are held, or
/// that a node may give without asking. The networks are not enough to tell: `node_slice_size` may have
/// been removed from one since, and a pool has its slices without any.
///
/// # Errors
/// Something is missing, or the cluster cannot be read.
pub(super) fn refuse(operator: &Operator<'_>, survey: &Survey, step: &str) -> anyhow::Result<()> {
    let networks = survey.networks();
    let ranges = networks.iter().flat_map(|network| network.subnets.iter().map(Subnet::whole));
    let of_pools = survey.pools().filter_map(|pool| Subnet::parse(pool.text).ok());
    let ranges: Vec<Range> = ranges.chain(of_pools.map(|subnet| subnet.whole())).collect();
    let unread = networks.iter().find(|network| network.mistake.is_some());
    let mut missing = Vec::new();
    operator.lists()?.list_if_known(&SLICES, &mut |item| {
        let spec = SLICES.parse::<Slice>(item)?.spec;
        let block = spec.block();
        let why = match (overlaps(&block, &ranges), unread) {
            (true, _) => "which is in a range of Whereabouts".to_owned(),
            (false, Some(network)) => {
                format!(
                    "and the network {}, which may have its range, cannot be read",
                    network.name
                )
            }
            (false, None) => return Ok(()),
        };
        missing.push(Missing::new(
            format!("node {} owns the slice {block} of {}, {why}", spec.node, spec.pool),
            HINT,
        ));
        Ok(())
    })?;
    if networks.iter().any(|network| network.has_slices) {
        let records = View::read(&operator.api, &operator.lists()?)?.records;
        for network in networks.iter().filter(|network| network.has_slices) {
            let held = records.values().find(|held| {
                let address = parse_address(&held.address).ok();
                held.scope == network.scope
                    && address.is_some_and(|address| {
                        network.subnets.iter().any(|subnet| subnet.contains(address))
                    })
            });
            missing.extend(held.map(|held| {
                Missing::new(
                    format!(
                        "{} is held, and the network {} has node_slice_size",
                        held.address, network.name
                    ),
                    HINT,
                )
            }));
        }
    }
    missing::refuse(&missing, step)
}

fn overlaps(block: &Block, ranges: &[Range]) -> bool {
    block.subnets().any(|of| ranges.iter().any(|range| of.whole().intersection(range).is_some()))
}
