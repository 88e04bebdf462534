//! Reads what the API server has into the state: a list, and then every change.

use super::extent::Extent;
use super::network_ranges;
use super::pool::{PoolId, PoolKind, Supply};
use super::recovery;
use super::shapes::{
    AddressObject, AllocationObject, CORE, ClaimObject, ClusterObject, IpamClaimObject,
    NetworkObject, OwnPoolObject, PAUSED, PoolObject, SCOPE, SCOPE_IN_USE, ServiceRangesObject,
    SliceObject, resource,
};
use super::state::{
    Answer, Claim, ClaimHolder, Cluster, Holder, Holding, Kind, Name, OwnPool, PoolState, Said,
    State, Version, Work,
};
use super::work::Controller;
use crate::addr::{Hull, Subnet};
use crate::config::Pool;
use crate::ipam::{IPAM_CLAIM, IPAM_CLAIM_GROUP, Scope};
use crate::json::Json;
use crate::store::kube::objects::{ip_allocation as allocation, ip_slice, ipam_claim, names};
use futures::TryStreamExt;
use k8s::api::{Api, ApiResource};
use k8s::runtime::watcher::{self, Event};
use k8s::{Resource, ResourceExt};
use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

/// How many objects one answer to a list has at most.
const PAGE: u32 = 500;
/// The same for networks. One may have 1.5 MB, and everybody with rights in a namespace may write
/// them.
const PAGE_OF_NETWORKS: u32 = 10;

/// The pause before the API server is asked again for a kind that it does not know.
const NOT_SERVED: Duration = Duration::from_secs(10);

/// The group of ServiceCIDRs.
pub const SERVICES: &str = "networking.k8s.io";

/// All kinds that must have been read before anything is decided. Networks, IPAMClaims and slices
/// are not among them: an older role may lack the right to list them, and claims of machines must not
/// wait for it. An IPAMClaim that is not known is asked for before anything of it is freed.
#[must_use]
pub fn kinds() -> BTreeSet<Kind> {
    let pools = PoolKind::ALL.into_iter().map(Kind::Pools);
    pools.chain([Kind::Claims, Kind::Answers, Kind::Clusters, Kind::Allocations]).collect()
}

/// Watches everything, without end.
pub async fn run(controller: Rc<Controller>, clusters: String, has_services: bool) {
    let requests = &controller.requests;
    let own = resource(PoolKind::Own.group(), PoolKind::Own.version(), PoolKind::Own.name());
    let allocations = resource(allocation::GROUP, allocation::VERSION, allocation::KIND);
    let slices = resource(allocation::GROUP, allocation::VERSION, ip_slice::KIND);
    let clusters = resource(CORE, &clusters, "Cluster");
    let services = resource(SERVICES, "v1", "ServiceCIDR");
    let ipam_claims = resource(IPAM_CLAIM_GROUP, ipam_claim::VERSION, IPAM_CLAIM);
    let networks = resource(network_ranges::GROUP, network_ranges::VERSION, network_ranges::KIND);
    let of = |kind: PoolKind| resource(kind.group(), kind.version(), kind.name());
    futures::join!(
        recovery::run(&controller),
        one(
            &controller,
            Kind::Pools(PoolKind::InCluster),
            requests.all::<PoolObject>(&of(PoolKind::InCluster)),
            in_cluster
        ),
        one(
            &controller,
            Kind::Pools(PoolKind::GlobalInCluster),
            requests.all::<PoolObject>(&of(PoolKind::GlobalInCluster)),
            global
        ),
        one(&controller, Kind::Pools(PoolKind::Own), requests.all::<OwnPoolObject>(&own), own_pool),
        one(&controller, Kind::Clusters, requests.all::<ClusterObject>(&clusters), cluster),
        one(&controller, Kind::Allocations, requests.all::<AllocationObject>(&allocations), held),
        async {
            if has_services {
                let api = requests.all::<ServiceRangesObject>(&services);
                one(&controller, Kind::Services, api, State::apply_services).await;
            }
        },
        one(
            &controller,
            Kind::IpamClaims,
            requests.all::<IpamClaimObject>(&ipam_claims),
            State::apply_ipam_claim
        ),
        one(&controller, Kind::Slices, requests.all::<SliceObject>(&slices), State::apply_slice),
        one(&controller, Kind::Networks, requests.all::<NetworkObject>(&networks), network),
        one(&controller, Kind::Answers, requests.all_answers(), answer),
        one(&controller, Kind::Claims, requests.all_claims(), claim),
    );
}

/// Watches one kind, without end.
async fn one<K>(
    controller: &Controller,
    kind: Kind,
    api: Api<K>,
    apply: fn(&mut State, &K) -> Vec<Work>,
) where
    K: Resource<DynamicType = ApiResource>
        + Clone
        + Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let page = if kind == Kind::Networks { PAGE_OF_NETWORKS } else { PAGE };
    let start = || recovery::watching(&api, page);
    let mut events = start();
    let mut seen = HashSet::new();
    let mut again = controller.again.subscribe();
    let mut is_said = false;
    loop {
        let mut is_not_served = false;
        let event = tokio::select! {
            event = events.try_next() => event,
            _ = again.changed() => {
                events = start();
                continue;
            }
        };
        if let Ok(Some(Event::Apply(object) | Event::InitApply(object))) = &event {
            controller.saw(object.meta());
        }
        let work = match event {
            Ok(Some(Event::Init)) => {
                seen.clear();
                controller.state.borrow_mut().begin(kind);
                continue;
            }
            Ok(Some(Event::InitApply(object))) => {
                seen.insert(Name::of(object.meta()));
                apply(&mut controller.state.borrow_mut(), &object)
            }
            Ok(Some(Event::InitDone)) => {
                is_said = false;
                let seen = std::mem::take(&mut seen);
                controller.state.borrow_mut().finish(kind, &seen)
            }
            Ok(Some(Event::Apply(object))) => apply(&mut controller.state.borrow_mut(), &object),
            Ok(Some(Event::Delete(object))) => {
                let uid = object.meta().uid.clone().unwrap_or_default();
                controller.state.borrow_mut().remove(kind, &Name::of(object.meta()), &uid)
            }
            Ok(None) => return,
            Err(error) => {
                is_not_served = watches_no_kind(&error);
                // A cluster without Multus, KubeVirt or newer custom resources of hereabouts has none
                // of these, and may get them at any time.
                let may_be_absent =
                    matches!(kind, Kind::Networks | Kind::IpamClaims | Kind::Slices);
                if !is_not_served || !may_be_absent && !std::mem::replace(&mut is_said, true) {
                    say_that_it_failed(kind, &error);
                }
                if is_not_served || kind == Kind::Networks {
                    // Nothing of this kind can exist, or nothing waits for it. What is known of it is
                    // kept: a server that starts says the same for a moment.
                    controller.state.borrow_mut().not_served(kind)
                } else {
                    Vec::new()
                }
            }
        };
        controller.add(work);
        if is_not_served {
            // The watch itself would ask again each second.
            tokio::select! {
                () = tokio::time::sleep(NOT_SERVED) => {}
                _ = again.changed() => events = start(),
            }
        }
    }
}

/// Says that a watch failed. It goes on by itself.
fn say_that_it_failed(kind: Kind, error: &watcher::Error) {
    tracing::warn!("cannot watch {kind:?}: {}", text_of(error));
}

/// Returns the error of a watch for people.
pub(super) fn text_of(error: &watcher::Error) -> String {
    let mut text = error.to_string();
    // What follows is the same in the form of a debugger.
    if let Some(at) = text.find(" (Status {") {
        text.truncate(at);
    }
    text
}

fn watches_no_kind(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(k8s::Error::Api(status)) if status.code == 404)
}

/// Notes a claim as the API server has it.
pub fn claim(state: &mut State, object: &ClaimObject) -> Vec<Work> {
    let name = Name::of(&object.metadata);
    let pool = PoolId::named(&object.spec.pool_ref, &name.namespace).map(|id| state.id(id));
    state.apply_claim(name, Claim::of(object, pool))
}

/// Notes an answer as the API server has it.
pub fn answer(state: &mut State, object: &AddressObject) -> Vec<Work> {
    let name = Name::of(&object.metadata);
    let pool = PoolId::named(&object.spec.pool_ref, &name.namespace).map(|id| state.id(id));
    let answer = Answer::of(object, pool);
    state.apply_answer(name, answer)
}

fn cluster(state: &mut State, object: &ClusterObject) -> Vec<Work> {
    state.apply_cluster(&Name::of(&object.metadata), Cluster::of(object))
}

fn network(state: &mut State, object: &NetworkObject) -> Vec<Work> {
    let configuration = object.data.get("spec").and_then(|spec| spec.get("config")?.as_str());
    let name = Name::of(&object.metadata);
    let ranges = network_ranges::of(configuration.unwrap_or_default(), &name.name);
    state.apply_network(&name, ranges)
}

/// Notes an IPAllocation as the API server has it.
pub fn held(state: &mut State, object: &AllocationObject) -> Vec<Work> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let version = Version::of(&object.metadata);
    let Some((_, address)) = names::split(&name) else { return Vec::new() };
    let holder = match &object.spec.claim {
        None => {
            let attached = object.spec.attachment.attachment(address, &mut state.texts);
            Holder::Attachment(Rc::new(attached))
        }
        Some(claim) => {
            let pool = object.spec.pool.as_ref().and_then(|pool| {
                let reference = super::shapes::PoolRef {
                    api_group: pool.api_group.clone(),
                    kind: pool.kind.clone(),
                    name: pool.name.clone(),
                };
                PoolId::named(&reference, &pool.namespace)
            });
            Holder::Claim(Box::new(ClaimHolder {
                kind: claim.kind.clone(),
                uid: claim.uid.as_str().into(),
                name: Name {
                    namespace: claim.namespace.as_str().into(),
                    name: claim.name.as_str().into(),
                },
                pool: pool.map(|id| state.id(id)),
                prefix: object.spec.prefix,
                gateway: crate::addr::parse_address(&object.spec.gateway).ok(),
                is_ending: object.metadata.deletion_timestamp.is_some(),
                later_format: object.spec.format.filter(|format| allocation::FORMAT < *format),
            }))
        }
    };
    let used = Scope::parse(&object.spec.attachment.scope).ok();
    let used = used.as_ref().and_then(Scope::used_claim).filter(|_| object.spec.claim.is_none());
    let claim = holder.claim().filter(|claim| claim.kind == IPAM_CLAIM);
    let claim = claim.map(|claim| Work::IpamClaim(claim.name.clone()));
    let mut work = state.apply_allocation(&name, Holding { version, holder });
    if !work.is_empty() {
        work.extend(claim);
    }
    work.extend(used.into_iter().flat_map(|uid| state.apply_user(&name, uid)));
    work
}

fn in_cluster(state: &mut State, object: &PoolObject) -> Vec<Work> {
    pool(state, PoolKind::InCluster, object)
}

fn global(state: &mut State, object: &PoolObject) -> Vec<Work> {
    pool(state, PoolKind::GlobalInCluster, object)
}

/// Notes a pool of Cluster API as the API server has it.
pub fn pool(state: &mut State, kind: PoolKind, object: &PoolObject) -> Vec<Work> {
    let name = Name::of(&object.metadata);
    let id = PoolId { kind, namespace: name.namespace.to_string(), name: name.name.to_string() };
    let annotation = |key: &str| object.annotations().get(key).map(String::as_str);
    let scope = id.scope(annotation(SCOPE_IN_USE));
    let wished = id.wished_scope(annotation(SCOPE));
    let pool = PoolState {
        version: Version::of(&object.metadata),
        supply: Supply::of_cluster_api(&object.spec),
        namespaces: Vec::new(),
        scope_label: names::of_scope_in_name(&scope).as_str().into(),
        wished: (wished != scope).then_some(wished),
        scope,
        is_paused: object.annotations().contains_key(PAUSED),
        is_ending: object.metadata.deletion_timestamp.is_some(),
        finalizers: object.metadata.finalizers.clone().unwrap_or_default(),
        written: object.status.as_ref().and_then(|status| status.ip_addresses),
        written_at: None,
        empty_since: None,
        hull: Hull::default(),
        own: None,
        said: Said::default(),
    };
    state.apply_pool(id, pool)
}

/// Notes an IPPool of hereabouts as the API server has it.
pub fn own_pool(state: &mut State, object: &OwnPoolObject) -> Vec<Work> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let id = PoolId { kind: PoolKind::Own, namespace: String::new(), name };
    let metadata = object.metadata.clone();
    let document = serde_json::to_vec(object)
        .map_err(|error| error.to_string())
        .and_then(|bytes| Json::parse(&bytes).map_err(|error| error.to_string()));
    let parsed = document.and_then(|document| {
        Pool::parse(&document, "").map_err(|mistakes| {
            mistakes.first().first().map(ToString::to_string).unwrap_or_default()
        })
    });
    let spec = object.data.get("spec");
    let scope = match &parsed {
        Ok(pool) => pool.scope.clone(),
        // What it gave while it had no mistake is still held there: a scope never changes.
        Err(_) if spec.is_some_and(|spec| spec.get("slices").is_some()) => {
            Scope::of_slices(&id.name)
        }
        Err(_) => {
            let text = spec.and_then(|spec| spec.get("scope")?.as_str());
            text.and_then(|text| Scope::parse(text).ok()).unwrap_or_default()
        }
    };
    let extent = parsed.as_ref().map_or_else(
        |_| {
            let listed = spec.and_then(|spec| spec.get("subnets")?.as_array());
            let texts =
                listed.into_iter().flatten().filter_map(|entry| entry.get("subnet")?.as_str());
            Extent::of_subnets(texts.filter_map(|text| Some(Subnet::parse(text).ok()?.whole())))
        },
        Extent::of,
    );
    let status = object.data.get("status").cloned().unwrap_or_default();
    let own = OwnPool {
        extent,
        slices: parsed.as_ref().ok().and_then(|pool| Some(pool.slices.as_ref()?.geometry.count())),
        // A status that somebody else wrote in another shape is written again.
        status: serde_json::from_value(status).unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
    };
    let pool = PoolState {
        version: Version::of(&metadata),
        namespaces: parsed.as_ref().map(|pool| pool.namespaces.clone()).unwrap_or_default(),
        supply: parsed.as_ref().map(Supply::of_own).map_err(Clone::clone),
        scope_label: names::of_scope_in_name(&scope).as_str().into(),
        scope,
        wished: None,
        is_paused: metadata.annotations.as_ref().is_some_and(|map| map.contains_key(PAUSED)),
        is_ending: metadata.deletion_timestamp.is_some(),
        finalizers: metadata.finalizers.unwrap_or_default(),
        written: None,
        written_at: None,
        empty_since: None,
        hull: Hull::default(),
        own: Some(Rc::new(own)),
        said: Said::default(),
    };
    state.apply_pool(id, pool)
}
