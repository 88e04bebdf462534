//! One look at a cluster: reads allocations, pods and nodes, and decides about each allocation.

use crate::cli::cluster_lists::{ALLOCATIONS, Cluster, NODES, PODS};
use crate::ipam::Texts;
use crate::ipam::leak::{self, Evidence, Holder};
use crate::store::kube::objects::evidence::{HolderFields, Identity, NodeObject, PodObject};
use serde::Deserialize;
use std::collections::HashMap;

/// An address whose holder is probably gone.
pub(super) struct Candidate {
    pub(super) fields: HolderFields,
    pub(super) holder: Holder,
    pub(super) evidence: Evidence,
    /// The uid and the state of the object. A re-homed record has another state.
    pub(super) version: (String, String),
}

#[derive(Deserialize)]
struct Object {
    metadata: Identity,
    spec: HolderFields,
}

/// Returns the number of addresses that pods hold, and the candidates among them.
///
/// The allocations are read first. So a pod that starts in the meantime is seen with its pod. A pod
/// that ends in the meantime may look like a leak: therefore the allocations are read once more, and
/// those that are no longer the same are left out.
///
/// # Errors
/// Something could not be read completely. No part of an answer is evidence.
pub(super) fn look(api: &Cluster) -> anyhow::Result<(usize, Vec<Candidate>)> {
    let mut held = Vec::new();
    let mut texts = Texts::default();
    api.list(&ALLOCATIONS, &mut |item| {
        let object: Object = ALLOCATIONS.parse(item)?;
        if let Some(holder) = object.spec.holder(&mut texts) {
            held.push((object, holder));
        }
        Ok(())
    })?;
    let mut cluster = leak::Cluster::default();
    api.list(&PODS, &mut |item| {
        let object: PodObject = PODS.parse(item)?;
        cluster.put_pod(&object.metadata.namespace, &object.metadata.name, object.pod());
        Ok(())
    })?;
    api.list(&NODES, &mut |item| {
        let object: NodeObject = NODES.parse(item)?;
        cluster.put_node(&object.metadata.name, object.node());
        Ok(())
    })?;
    let living = cluster.living_nodes(held.iter().map(|(_, holder)| holder));
    let count = held.len();
    let found = held.into_iter().filter_map(|(object, holder)| {
        let evidence = cluster.evidence(&holder, &living)?;
        let version = (object.metadata.uid, object.metadata.resource_version);
        Some(Candidate { fields: object.spec, holder, evidence, version })
    });
    let mut candidates: Vec<Candidate> = found.collect();
    if !candidates.is_empty() {
        let now = versions(api)?;
        candidates.retain(|candidate| now.get(&candidate.version.0) == Some(&candidate.version.1));
    }
    Ok((count, candidates))
}

/// Returns the states of all allocations, by uid.
fn versions(api: &Cluster) -> anyhow::Result<HashMap<String, String>> {
    #[derive(Deserialize)]
    struct Head {
        metadata: Identity,
    }
    let mut versions = HashMap::new();
    api.list(&ALLOCATIONS, &mut |item| {
        let Head { metadata } = ALLOCATIONS.parse(item)?;
        versions.insert(metadata.uid, metadata.resource_version);
        Ok(())
    })?;
    Ok(versions)
}
