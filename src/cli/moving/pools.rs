//! The pools of Whereabouts: those that exist, and those that it would create.

use super::Operator;
use super::api::Written;
use crate::cli::import::whereabouts::{Survey, SurveyedNetwork};
use crate::cli::output;
use crate::whereabouts::names::{self, is_pool_of};
use anyhow::bail;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The namespace of Whereabouts' pools, if there are none yet.
const USUAL: &str = "kube-system";

/// Returns whether Whereabouts gives an address, or would after it has created its pools. `networks` are
/// those of the survey.
pub(super) fn have(
    survey: &Survey,
    networks: &[SurveyedNetwork],
    scope: &str,
    address: IpAddr,
) -> bool {
    let of_network = |network: &SurveyedNetwork| {
        network.scope == scope && network.subnets.iter().any(|subnet| subnet.contains(address))
    };
    survey.pools().any(|pool| {
        is_pool_of(pool.name, scope, pool.text)
            && pool.range.is_some_and(|range| range.contains(address))
    }) || networks.iter().any(of_network)
}

/// Returns the pools that Whereabouts would create later: namespace, name and range. A node could
/// give an address that no pool can show.
pub(super) fn missing(survey: &Survey) -> BTreeSet<(String, String, String)> {
    let home = survey.pools().next().map_or(USUAL, |pool| pool.namespace).to_owned();
    let known: BTreeSet<&str> = survey.pools().map(|pool| pool.name).collect();
    let networks = survey.networks();
    // Those of nodes' slices come from the controller of Whereabouts.
    let whole = networks.iter().filter(|network| !network.has_slices);
    let all = whole.flat_map(|network| {
        network.subnets.iter().map(|subnet| (network.scope.as_str(), subnet.to_string()))
    });
    all.map(|(scope, range)| (home.clone(), names::pool(scope, &range), range))
        .filter(|(_, name, _)| !known.contains(name.as_str()))
        .collect()
}

/// Creates a pool without entries, if it is not there.
///
/// # Errors
/// The API server refuses.
pub(super) fn create(
    operator: &Operator<'_>,
    namespace: &str,
    name: &str,
    range: &str,
) -> anyhow::Result<()> {
    let path = format!("/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/{namespace}/ippools");
    let object: Value = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"range": range, "allocations": {}},
    });
    match operator.api.create(&path, &object)? {
        Written::Done(_) => output::say(&format!("created the IPPool {name} for {range}")),
        Written::Conflict => {}
        Written::Absent => bail!("the namespace {namespace} is not there"),
    }
    Ok(())
}
