//! What a cluster has: pools of Cluster API, their IPAddresses, and who holds the addresses.

use crate::addr::parse_address;
use crate::cli::HintedError;
use crate::cli::cluster_lists::{ALLOCATIONS, Cluster, List, Resource};
use crate::environment::Environment;
use crate::ipam::adoption::{Adoption, Recorded};
use crate::ipam::{Scope, Texts};
use crate::store::kube::objects::cluster_api::{
    AddressSpec, PoolId, PoolKind, SCOPE, SCOPE_IN_USE,
};
use crate::store::kube::objects::evidence::{AllocationSpec, Identity};
use crate::store::kube::objects::names;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The IPAddresses, in the versions of the resource, the newest first.
const ANSWERS: [List; 2] = [
    answers("/apis/ipam.cluster.x-k8s.io/v1beta2/ipaddresses"),
    answers("/apis/ipam.cluster.x-k8s.io/v1beta1/ipaddresses"),
];

const fn answers(path: &'static str) -> List {
    List {
        what: "ipaddresses.ipam.cluster.x-k8s.io",
        right: "ipaddresses.ipam.cluster.x-k8s.io in all namespaces",
        absent: "check that the kubeconfig names a management cluster of Cluster API",
        path,
        query: "?limit=500",
        accept: "application/json",
    }
}

/// The pools that the provider of Cluster API serves.
const POOLS: [(PoolKind, List); 2] = [
    (
        PoolKind::InCluster,
        pools(
            "inclusterippools.ipam.cluster.x-k8s.io",
            "inclusterippools.ipam.cluster.x-k8s.io in all namespaces",
            "/apis/ipam.cluster.x-k8s.io/v1alpha2/inclusterippools",
        ),
    ),
    (
        PoolKind::GlobalInCluster,
        pools(
            "globalinclusterippools.ipam.cluster.x-k8s.io",
            "globalinclusterippools.ipam.cluster.x-k8s.io",
            "/apis/ipam.cluster.x-k8s.io/v1alpha2/globalinclusterippools",
        ),
    ),
];

const fn pools(what: &'static str, right: &'static str, path: &'static str) -> List {
    List {
        what,
        right,
        absent: "install the custom resources of Cluster API's in-cluster provider",
        path,
        query: "?limit=100",
        accept: "application/json",
    }
}

/// What was found.
pub(super) struct Found {
    /// The pools, in order.
    pub(super) pools: Vec<Pool>,
    /// The number of IPAddresses whose pool does not exist.
    pub(super) without_pool: usize,
}

/// A pool of Cluster API.
pub(super) struct Pool {
    pub(super) id: PoolId,
    /// The scope from which it gives.
    pub(super) scope: Scope,
    /// The scope for which it asks.
    pub(super) wished: Scope,
    /// Its IPAddresses, in the order of the addresses.
    pub(super) answers: Vec<Answer>,
}

/// An IPAddress.
pub(super) struct Answer {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) adoption: Adoption,
    /// What is in conflict with it.
    pub(super) conflict: Option<String>,
}

#[derive(Deserialize)]
struct AnswerObject {
    metadata: Identity,
    spec: AddressSpec,
}

#[derive(Deserialize)]
struct PoolObject {
    metadata: PoolMetadata,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PoolMetadata {
    namespace: String,
    name: String,
    annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct AllocationObject {
    metadata: Identity,
    spec: AllocationSpec,
}

/// Looks at a cluster. `wanted` are the pools to return, all if it is empty.
///
/// IPAddresses are read before IPAllocations: the controller writes them in the other order. So an
/// address that it gives meanwhile does not look as if nobody held it.
///
/// # Errors
/// Something could not be read completely, or there is no such pool.
pub(super) fn look(
    kubeconfig: &Path,
    environment: &Environment,
    wanted: &[String],
) -> anyhow::Result<Found> {
    let cluster = Cluster::open(kubeconfig, environment)?;
    let mut of_pools: BTreeMap<PoolId, Vec<Answer>> = BTreeMap::new();
    read_answers(&cluster, &mut |object| {
        let Identity { namespace, name, .. } = object.metadata;
        let pool = PoolId::named(&object.spec.pool_ref, &namespace);
        if let Some(id) = pool.filter(|id| id.kind != PoolKind::Own) {
            let address = object.spec.address;
            let answer =
                Answer { namespace, name, address, adoption: Adoption::Conflict, conflict: None };
            of_pools.entry(id).or_default().push(answer);
        }
    })?;
    let mut pools = Vec::new();
    for (kind, list) in &POOLS {
        cluster.list(list, &mut |item| {
            let PoolObject { metadata } = list.parse(item)?;
            let annotation = |key: &str| metadata.annotations.get(key).map(String::as_str);
            let (in_use, wished) = (annotation(SCOPE_IN_USE), annotation(SCOPE));
            let PoolMetadata { namespace, name, .. } = &metadata;
            let id = PoolId { kind: *kind, namespace: namespace.clone(), name: name.clone() };
            let answers = of_pools.remove(&id).unwrap_or_default();
            let (scope, wished) = (id.scope(in_use), id.wished_scope(wished));
            pools.push(Pool { id, scope, wished, answers });
            Ok(())
        })?;
    }
    decide(&cluster, &mut pools)?;
    let pools = selected(pools, wanted)?;
    Ok(Found { pools, without_pool: of_pools.values().map(Vec::len).sum() })
}

fn read_answers(cluster: &Cluster, each: &mut dyn FnMut(AnswerObject)) -> anyhow::Result<()> {
    let [newest, older] = &ANSWERS;
    let mut visit = |item: &str| {
        each(newest.parse(item)?);
        Ok(())
    };
    match cluster.list_if_known(newest, &mut visit)? {
        Resource::Known => Ok(()),
        Resource::Unknown => cluster.list(older, &mut visit),
    }
}

/// Decides about each IPAddress, by who holds its address in the scope of its pool.
fn decide(cluster: &Cluster, pools: &mut [Pool]) -> anyhow::Result<()> {
    // The IPAddresses that need the same IPAllocation, by its name.
    let mut needed: HashMap<String, Vec<&mut Answer>> = HashMap::new();
    for Pool { scope, answers, .. } in pools {
        for answer in answers {
            match parse_address(&answer.address) {
                Ok(address) => {
                    needed.entry(names::object(scope, address)).or_default().push(answer);
                }
                Err(error) => answer.conflict = Some(error.to_string()),
            }
        }
    }
    let mut texts = Texts::default();
    cluster.list(&ALLOCATIONS, &mut |item| {
        let object: AllocationObject = ALLOCATIONS.parse(item)?;
        let Some(answers) = needed.remove(&object.metadata.name) else { return Ok(()) };
        let attached;
        let recorded = match &object.spec.claim {
            Some(claim) => Recorded::Claim {
                kind: &claim.kind,
                namespace: &claim.namespace,
                name: &claim.name,
            },
            None => {
                let Some(address) = names::parse(&object.metadata.name) else { return Ok(()) };
                attached = object.spec.attachment.attachment(address, &mut texts);
                Recorded::Attachment(&attached)
            }
        };
        for answer in answers {
            answer.adoption = Adoption::of(&answer.namespace, &answer.name, Some(&recorded));
            if answer.adoption == Adoption::Conflict {
                answer.conflict = Some(format!("held by {}", recorded.told()));
            }
        }
        Ok(())
    })?;
    for answers in needed.into_values() {
        let several: Vec<String> = match answers.len() {
            1 => Vec::new(),
            _ => answers.iter().map(|one| format!("{}/{}", one.namespace, one.name)).collect(),
        };
        for (at, answer) in answers.into_iter().enumerate() {
            answer.adoption = Adoption::of(&answer.namespace, &answer.name, None);
            // The controller holds the address for the one that it sees first.
            if let Some(other) = several.iter().enumerate().find(|(other, _)| *other != at) {
                answer.adoption = Adoption::Conflict;
                answer.conflict = Some(format!("IPAddress {} has it, too", other.1));
            }
        }
    }
    Ok(())
}

/// Returns the wanted pools, in order.
fn selected(mut pools: Vec<Pool>, wanted: &[String]) -> anyhow::Result<Vec<Pool>> {
    let name = |pool: &Pool| match pool.id.namespace.as_str() {
        "" => pool.id.name.clone(),
        namespace => format!("{namespace}/{}", pool.id.name),
    };
    if let Some(unknown) = wanted.iter().find(|text| !pools.iter().any(|pool| name(pool) == **text))
    {
        let known: Vec<String> = pools.iter().map(name).collect();
        return Err(HintedError::new(
            format!(
                "no InClusterIPPool or GlobalInClusterIPPool has this name: {}",
                crate::cli::output::printable(unknown)
            ),
            match known.is_empty() {
                true => "the cluster has no such pools".to_owned(),
                false => format!("the pools of the cluster are: {}", known.join(", ")),
            },
        )
        .into());
    }
    pools.retain(|pool| wanted.is_empty() || wanted.contains(&name(pool)));
    pools.sort_by(|one, other| one.id.cmp(&other.id));
    for pool in &mut pools {
        pool.answers.sort_by_cached_key(|answer| {
            (parse_address(&answer.address).ok(), answer.namespace.clone(), answer.name.clone())
        });
    }
    Ok(pools)
}
