//! Checks the document of a pool: what it would give, and every mistake with its JSON path.

use super::case::Case;
use super::known_pools::KnownPools;
use super::network::examine_served;
use super::outline::Outline;
use super::report::{PoolSummary, Report};
use crate::addr::AddrSet;
use crate::cli::pools::configuration_of;
use crate::config::{Chain, CniArgs, Merged, Network, Pool};
use crate::json::Json;

/// Checks the document of a pool. It serves a network that has nothing but the pool.
pub(super) fn examine(report: &mut Report, document: &Json, known: &KnownPools) {
    report.name.clone_from(&report.origin.name);
    let Some(pool) = report.mistakes.note(Pool::parse(document, "")) else {
        return;
    };
    let configuration = configuration_of(&pool);
    let served = Merged::new(&configuration, None)
        .map_err(Into::into)
        .and_then(|merged| Network::parse(&merged, &CniArgs::default()))
        .and_then(|network| network.served_by(&pool, &CniArgs::default()));
    let in_spec = |place: &str| place.replacen("ipam", "spec", 1);
    let Some(network) = report.mistakes.note(served.map_err(|all| all.at(in_spec))) else {
        return;
    };
    let outline = Outline::of(&network, None, 0);
    let all = outline.addresses();
    let count = |sum: u128, set: AddrSet| sum.saturating_add(set.count());
    report.pool = Some(PoolSummary {
        subnets: pool.subnets.len(),
        addresses: all.ranges().map(|range| AddrSet::from_range(&range)).fold(0, count),
        reservations: pool.reservations.len(),
        namespaces: pool.namespaces.clone(),
        node_labels: pool.node_labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
    });
    report.outlines.push(outline);
    let origin = report.origin.clone();
    let (configuration, chain) = (&configuration, &Chain::default());
    let (origin, network, pool) = (&origin, &network, Some(&pool));
    examine_served(report, &Case { configuration, chain, origin, flat: None, network, pool });
    let others = known.others(report.name.as_deref().unwrap_or_default(), &report.file);
    if !others.is_empty() {
        report.note(format!(
            "another pool has the same name, and one of them would replace the other: {}",
            others.join(", ")
        ));
    }
}
