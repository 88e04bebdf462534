//! `leaks`: shows addresses whose holders are probably gone, with the evidence. It reads the API of
//! a cluster and changes nothing.
//!
//! - `look`: one look at the cluster

mod look;

use super::cluster_lists::Cluster;
use super::{Format, HintedError, LeaksArgs, locate, output, pools, selectors};
use crate::config::{Pool, StoreKind};
use crate::environment::Environment;
use crate::ipam::leak::Evidence;
use crate::ipam::{NetworkName, NodeName, Scope};
use crate::retry::{self, Deadline};
use crate::store::PodName;
use anyhow::bail;
use look::Candidate;
use serde_json::{Value, json};
use std::time::Duration;

const HEADINGS: [&str; 6] = ["ADDRESS", "SCOPE", "NODE", "POD", "EVIDENCE", "WHAT TO DO"];
/// The index of the scope column. It is shown if an address is in a named scope.
const SCOPE: usize = 1;

pub(super) fn leaks(environment: &Environment, args: &LeaksArgs) -> anyhow::Result<()> {
    let mut selected = Selected {
        network: args.network.as_deref().map(selectors::parse_network).transpose()?,
        node: args.node.as_deref().map(selectors::parse_node).transpose()?,
        pod: args.pod.as_deref().map(selectors::parse_pod).transpose()?,
        pools: Vec::new(),
    };
    let located = locate::locate(environment, &args.store)?;
    let StoreKind::Kubernetes { kubeconfig } = &located.store_settings().kind else {
        return Err(HintedError::new(
            format!("the pods of a file store are not known to any API server: {}", located.name),
            "run \"hereabouts sweep\" on each node, or pass --kubeconfig FILE for a cluster",
        )
        .into());
    };
    selected.pools = pools::named(&located, &args.pool)?;
    let look = || look::look(&Cluster::open(kubeconfig, environment)?);
    let (mut count, mut candidates) = look()?;
    if let Some(time) = args.wait {
        wait(time);
        let (again, now) = look()?;
        count = again;
        candidates.retain(|then| now.iter().any(|now| is_same(then, now)));
    }
    candidates.retain(|candidate| selected.has(candidate));
    candidates.sort_by(|a, b| key(a).cmp(&key(b)));
    match args.output {
        Format::Json => output::print_json(&document(&candidates, count, args.wait))?,
        Format::Table => describe(&candidates, count, args.wait)?,
    }
    match candidates.len() {
        0 => Ok(()),
        found => bail!("{} found", output::count(found, "leak candidate")),
    }
}

fn key(candidate: &Candidate) -> (&str, std::net::IpAddr) {
    (&candidate.fields.scope, candidate.holder.address)
}

fn is_same(then: &Candidate, now: &Candidate) -> bool {
    then.version == now.version && then.evidence == now.evidence
}

fn wait(time: Duration) {
    output::say(&format!("looking again in {}", output::duration(time)));
    let deadline = Deadline::after(time);
    while !deadline.left().is_zero() {
        retry::pause(&deadline, deadline.left());
    }
}

/// What is shown.
struct Selected {
    network: Option<NetworkName>,
    node: Option<NodeName>,
    pod: Option<PodName>,
    /// Only addresses of these pools. If there is none, all addresses.
    pools: Vec<Pool>,
}

impl Selected {
    fn has(&self, candidate: &Candidate) -> bool {
        let fields = &candidate.fields;
        let is_pod = |wanted: &PodName| {
            fields.pod_ref.as_ref().is_some_and(|pod| {
                pod.name == wanted.name
                    && wanted.namespace.as_ref().is_none_or(|name| *name == pod.namespace)
            })
        };
        let is_of = |pool: &Pool| {
            Scope::parse(&fields.scope)
                .is_ok_and(|scope| pools::has(pool, &scope, candidate.holder.address))
        };
        self.network.as_ref().is_none_or(|network| network.as_str() == fields.network)
            && self.node.as_ref().is_none_or(|node| node.as_str() == fields.node)
            && self.pod.as_ref().is_none_or(is_pod)
            && (self.pools.is_empty() || self.pools.iter().any(is_of))
    }
}

/// Returns what an operator can do about a candidate.
fn advice(candidate: &Candidate) -> String {
    let (node, address) = (output::printable(&candidate.fields.node), candidate.holder.address);
    match candidate.evidence {
        Evidence::NodeGone => {
            format!("if the machine is off: hereabouts release --node {node}")
        }
        // This releases nothing of the machine that has the name now.
        Evidence::NodeReplaced => {
            format!("if the earlier machine is off: hereabouts release {address}")
        }
        Evidence::NodeBooted
        | Evidence::PodGone
        | Evidence::PodReplaced
        | Evidence::PodEnded
        | Evidence::NotInStatus => format!("on {node}: hereabouts sweep"),
    }
}

fn describe(candidates: &[Candidate], count: usize, wait: Option<Duration>) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = candidates
        .iter()
        .map(|candidate| {
            let fields = &candidate.fields;
            let pod = fields.pod_ref.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name));
            let scope = if fields.scope.is_empty() { "-" } else { &fields.scope };
            vec![
                candidate.holder.address.to_string(),
                output::printable(scope),
                output::printable(&fields.node),
                output::printable(pod.as_deref().unwrap_or("-")),
                candidate.evidence.text().to_owned(),
                advice(candidate),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let mut columns = output::Columns::fit(&HEADINGS, rows.iter().map(Vec::as_slice));
        if candidates.iter().all(|candidate| candidate.fields.scope.is_empty()) {
            columns.hide(SCOPE);
        }
        let mut text = columns.line(&HEADINGS);
        rows.iter().for_each(|row| text.push_str(&columns.line(row)));
        output::print(&text)?;
        output::say(
            "A candidate is not proof: a pod that was deleted by force runs on if its node is cut off.\n\
             sweep checks the sandboxes on their node; release does not.",
        );
    }
    let looks = match wait {
        None => {
            "looked once; --wait 2m looks twice, and leaves out what starts or ends now".to_owned()
        }
        Some(time) => format!("looked twice, {} apart", output::duration(time)),
    };
    let verdict = if rows.is_empty() { "no leak candidates: " } else { "" };
    output::print(&format!(
        "{verdict}compared {} of pods with pods and nodes\n",
        output::count(count, "address")
    ))?;
    output::say(&looks);
    Ok(())
}

/// Returns the candidates as JSON. The keys are documented and stable.
fn document(candidates: &[Candidate], count: usize, wait: Option<Duration>) -> Value {
    let one = |candidate: &Candidate| {
        let fields = &candidate.fields;
        json!({
            "address": candidate.holder.address,
            "scope": Some(&fields.scope).filter(|scope| !scope.is_empty()),
            "network": fields.network,
            "node": fields.node,
            "pod": fields.pod_ref.as_ref().map(|pod| json!({"namespace": pod.namespace, "name": pod.name, "uid": pod.uid})),
            "interface": fields.interface,
            "evidence": candidate.evidence.word(),
            "text": candidate.evidence.text(),
            "advice": advice(candidate),
        })
    };
    json!({
        "addresses": count,
        "looks": if wait.is_some() { 2 } else { 1 },
        "secondsApart": wait.map(|time| time.as_secs_f64()),
        "candidates": candidates.iter().map(one).collect::<Vec<_>>(),
    })
}
