//! What the controller knows of the cluster, as it was last told: by the watches, and by the
//! answers to its own writes.
//!
//! It may be behind the API server. So nothing here decides who holds an address: a write does,
//! which the API server refuses if the address has a holder or the object has changed.

mod answers;
mod clusters;
mod gone;
mod held;
mod ipam_claims;
mod listing;
mod numbers;
mod objects;
mod others;
mod services;
mod slices;

use gone::Gone;
pub use held::{ClaimHolder, Held, Holder, Holding};
pub use ipam_claims::{Finding, IpamClaim};
use listing::Listings;
pub use objects::{Answer, Claim, Cluster, Name, OwnPool, PoolState, Provider, Said, Version};
pub use slices::{Published, Slice};

use super::network_ranges::NetworkRanges;
use super::pool::{PoolId, PoolKind};
use crate::addr::{Blocks, parse_address};
use crate::ipam::Texts;
use crate::store::kube::objects::names;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use tokio::time::Instant;

/// A piece of work: something changed, and one look decides what to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// Answer or release a claim.
    Claim(Name),
    /// Write the numbers and finalizers of a pool.
    Pool(Rc<PoolId>),
    /// Find out whether an IPAllocation of a claim still has its claim. By the object's name.
    Allocation(Rc<str>),
    /// Give an answer that hereabouts did not write its IPAllocation.
    Adoption(Name),
    /// Write the status of an IPAMClaim.
    IpamClaim(Name),
}

/// The kinds of objects that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// IPAddressClaims.
    Claims,
    /// IPAddresses.
    Answers,
    /// The pools of one kind.
    Pools(PoolKind),
    /// Clusters.
    Clusters,
    /// IPAllocations.
    Allocations,
    /// ServiceCIDRs.
    Services,
    /// IPAMClaims.
    IpamClaims,
    /// NetworkAttachmentDefinitions.
    Networks,
    /// IPSlices.
    Slices,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct State {
    claims: HashMap<Name, Claim>,
    answers: HashMap<Name, Answer>,
    pools: BTreeMap<Rc<PoolId>, PoolState>,
    clusters: HashMap<Name, Cluster>,
    services: services::Services,
    slices: slices::Slices,
    ipam_claims: ipam_claims::IpamClaims,
    /// The podCIDRs of nodes.
    nodes: others::Others<Blocks>,
    /// The ranges of networks.
    networks: others::Others<Vec<NetworkRanges>>,
    /// The objects of networks, by the names of the networks.
    networks_of: HashMap<Rc<str>, BTreeSet<Name>>,
    /// Why claims of a network and a namespace have no address, and when that was found.
    pub lacks: HashMap<(Rc<str>, Rc<str>), (Instant, Finding)>,
    /// What is held, by scope and address.
    pub held: Held,
    /// The texts that many attachments have in common.
    pub texts: Texts,
    claims_of: HashMap<Rc<PoolId>, BTreeSet<Name>>,
    answers_of: HashMap<Rc<PoolId>, BTreeSet<(IpAddr, Name)>>,
    ids: HashSet<Rc<PoolId>>,
    /// The claims that wait for their pool, by pool.
    waiting: HashMap<Rc<PoolId>, BTreeSet<Name>>,
    /// What must have been read before anything is decided.
    needed: BTreeSet<Kind>,
    /// What has been read once.
    read: BTreeSet<Kind>,
    /// What is being read from the beginning.
    listings: Listings,
    /// Objects that are gone. The answer to a write may come after the watch told of the end.
    gone: Gone,
    /// Whether a claim's status has conditions as other objects have them. Before Cluster API's
    /// v1beta2, it had another shape.
    pub has_conditions: bool,
    /// The answers whose address somebody else holds, and who.
    pub conflicts: BTreeMap<Name, String>,
    /// The IPAllocations of a later version of which that was said.
    pub later: BTreeSet<Rc<str>>,
    /// The answers without a claim: since when, and whether that was said.
    pub left: BTreeMap<Name, (Instant, bool)>,
    /// Whether the provider of Cluster API answers claims, too.
    pub provider: Provider,
}

impl Work {
    /// Returns the kind of object that the work is about.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Claim(_) => "IPAddressClaim",
            Self::Pool(_) => "pool",
            Self::Allocation(_) => "IPAllocation",
            Self::Adoption(_) => "IPAddress",
            Self::IpamClaim(_) => "IPAMClaim",
        }
    }
}

impl State {
    /// Returns a state that knows nothing and needs to know these kinds.
    #[must_use]
    pub fn new(needed: BTreeSet<Kind>, has_conditions: bool) -> Self {
        Self { needed, has_conditions, ..Self::default() }
    }

    /// Returns a claim.
    #[must_use]
    pub fn claim(&self, name: &Name) -> Option<&Claim> {
        self.claims.get(name)
    }

    /// Returns the answer to a claim.
    #[must_use]
    pub fn answer(&self, name: &Name) -> Option<&Answer> {
        self.answers.get(name)
    }

    /// Returns a pool.
    #[must_use]
    pub fn pool(&self, id: &PoolId) -> Option<&PoolState> {
        self.pools.get(id)
    }

    /// Returns all pools, in the order of kind, namespace and name.
    pub fn pools(&self) -> impl Iterator<Item = (&Rc<PoolId>, &PoolState)> {
        self.pools.iter()
    }

    /// Returns a pool, to note something about it.
    pub fn pool_mut(&mut self, id: &PoolId) -> Option<&mut PoolState> {
        self.pools.get_mut(id)
    }

    /// Returns a cluster.
    #[must_use]
    pub fn cluster(&self, name: &Name) -> Option<&Cluster> {
        self.clusters.get(name)
    }

    /// Returns whether the pools of a kind are served here. Those of Cluster API are not, while its
    /// own provider serves them.
    #[must_use]
    pub fn serves(&self, kind: PoolKind) -> bool {
        kind == PoolKind::Own || self.provider == Provider::Away
    }

    /// Returns the one copy of a pool's name: thousands of claims share it.
    pub fn id(&mut self, id: PoolId) -> Rc<PoolId> {
        if let Some(known) = self.ids.get(&id) {
            return Rc::clone(known);
        }
        let id = Rc::new(id);
        self.ids.insert(Rc::clone(&id));
        id
    }

    /// Returns the claims of a pool.
    pub fn claims_of(&self, pool: &PoolId) -> impl Iterator<Item = &Name> {
        self.claims_of.get(pool).into_iter().flatten()
    }

    /// Returns the addresses of a pool's answers, each with the name of its answer.
    pub fn answers_of(&self, pool: &PoolId) -> impl Iterator<Item = &(IpAddr, Name)> {
        self.answers_of.get(pool).into_iter().flatten()
    }

    /// Returns the number of answers of a pool.
    #[must_use]
    pub fn answer_count(&self, pool: &PoolId) -> usize {
        self.answers_of.get(pool).map_or(0, BTreeSet::len)
    }

    /// Returns whether an answer of a pool has this address.
    #[must_use]
    pub fn is_answered(&self, pool: &PoolId, address: IpAddr) -> bool {
        self.answered_with(pool, address).next().is_some()
    }

    /// Returns the answers of a pool that have this address.
    fn answered_with(&self, pool: &PoolId, address: IpAddr) -> impl Iterator<Item = &Name> {
        let answers = self.answers_of.get(pool).into_iter();
        let from = answers.flat_map(move |answers| answers.range((address, Name::default())..));
        from.take_while(move |(found, _)| *found == address).map(|(_, name)| name)
    }

    /// Notes that a claim waits for its pool.
    pub fn wait(&mut self, pool: &Rc<PoolId>, claim: &Name) {
        self.waiting.entry(Rc::clone(pool)).or_default().insert(claim.clone());
    }

    /// Notes that a claim no longer waits.
    pub fn stop_waiting(&mut self, pool: &PoolId, claim: &Name) {
        if let Some(names) = self.waiting.get_mut(pool) {
            names.remove(claim);
            if names.is_empty() {
                self.waiting.remove(pool);
            }
        }
    }

    /// Returns the claims that may now get an address of a pool that was freed: those that ask for
    /// it, and the first of those that wait for any address. Those that wait for something else
    /// must not stand in the way.
    #[must_use]
    pub fn next_in_line(&self, pool: &PoolId, freed: IpAddr) -> Vec<Work> {
        let names = || self.waiting.get(pool).into_iter().flatten();
        let any = names().find(|name| self.claims.get(*name).is_some_and(Claim::waits_for_any));
        let asking = names().filter(|name| {
            let wanted = self.claims.get(*name).and_then(|claim| claim.wanted.as_deref());
            wanted.is_some_and(|text| parse_address(text).is_ok_and(|address| address == freed))
        });
        asking.chain(any).cloned().map(Work::Claim).collect()
    }

    /// Notes that everything must be read again before anything is decided.
    pub fn read_again(&mut self) {
        self.read.clear();
    }

    /// Notes that the API server does not know a kind, so that it has no such object.
    pub fn not_served(&mut self, kind: Kind) -> Vec<Work> {
        let is_new = self.read.insert(kind);
        match kind {
            Kind::Networks => self.networks_are_read(),
            Kind::Slices if is_new => self.pools_with_slices(),
            _ => Vec::new(),
        }
    }

    /// Forgets an object that is gone, unless another one of its name is known by now. Returns what
    /// to look at.
    pub fn remove(&mut self, kind: Kind, name: &Name, uid: &str) -> Vec<Work> {
        let is_by_name =
            matches!(kind, Kind::Clusters | Kind::Services | Kind::Networks | Kind::Slices);
        let is_known = self.version(kind, name).is_some_and(|known| *known.uid == *uid);
        if !is_by_name {
            self.gone.insert(kind, uid.into());
        }
        match is_by_name || is_known {
            true => self.forget(kind, name),
            false => Vec::new(),
        }
    }

    /// Returns which object of a name is known, unless objects of the kind are known by their name
    /// alone.
    fn version(&self, kind: Kind, name: &Name) -> Option<&Version> {
        match kind {
            Kind::Claims => self.claims.get(name).map(|known| &known.version),
            Kind::Answers => self.answers.get(name).map(|known| &known.version),
            Kind::Pools(of) => self.pools.get(&id_of(of, name)).map(|known| &known.version),
            Kind::Allocations => self.held.named(&name.name).map(|known| &known.version),
            Kind::IpamClaims => self.ipam_claims.version(name),
            Kind::Clusters | Kind::Services | Kind::Networks | Kind::Slices => None,
        }
    }

    fn forget(&mut self, kind: Kind, name: &Name) -> Vec<Work> {
        match kind {
            Kind::Claims => self.remove_claim(name),
            Kind::Answers => self.remove_answer(name),
            Kind::Pools(of) => {
                let id = id_of(of, name);
                let gone = self.pools.remove(&id);
                let mut work = self.work_of_pool(&id);
                if let Some(pool) = gone {
                    work.extend(self.neighbors(&pool));
                }
                work
            }
            Kind::Services => {
                self.services.remove(name);
                self.own_pools()
            }
            Kind::IpamClaims => self.remove_ipam_claim(name),
            Kind::Networks => self.apply_network(name, Vec::new()),
            Kind::Slices => self.remove_slice(&name.name),
            Kind::Clusters => {
                self.clusters.remove(name);
                self.work_of_cluster(name)
            }
            Kind::Allocations => {
                self.later.remove(&name.name);
                let Some((_, address)) = names::split(&name.name) else { return Vec::new() };
                let claim = self.held.named(&name.name).and_then(|held| held.holder.claim());
                let claim = claim.map(|holder| Work::Claim(holder.name.clone()));
                let Some(scope) = self.held.remove(&name.name) else { return Vec::new() };
                let mut work = self.work_of_freed(&scope, address);
                work.extend(claim);
                work.extend(self.forget_user(&name.name));
                work
            }
        }
    }

    /// Notes a claim. Returns what to look at.
    pub fn apply_claim(&mut self, name: Name, claim: Claim) -> Vec<Work> {
        let known = self.claims.get(&name);
        if self.is_old(Kind::Claims, &name, &claim.version, known.map(|known| &known.version)) {
            return Vec::new();
        }
        if let Some(known) = known
            && known.pool != claim.pool
            && let Some(pool) = known.pool.clone()
        {
            self.forget_claim_of(&pool, &name);
        }
        if let Some(pool) = &claim.pool {
            self.claims_of.entry(Rc::clone(pool)).or_default().insert(name.clone());
        }
        self.left.remove(&name);
        self.listings.note(Kind::Claims, &name);
        self.claims.insert(name.clone(), claim);
        vec![Work::Claim(name)]
    }

    fn forget_claim_of(&mut self, pool: &PoolId, name: &Name) {
        self.stop_waiting(pool, name);
        if let Some(names) = self.claims_of.get_mut(pool) {
            names.remove(name);
            if names.is_empty() {
                self.claims_of.remove(pool);
            }
        }
    }

    fn remove_claim(&mut self, name: &Name) -> Vec<Work> {
        let Some(claim) = self.claims.remove(name) else {
            return Vec::new();
        };
        let mut work: Vec<Work> =
            self.held.of_claim(&claim.version.uid).map(Work::Allocation).collect();
        if self.answers.contains_key(name) {
            work.push(Work::Adoption(name.clone()));
        }
        if let Some(pool) = &claim.pool {
            self.forget_claim_of(pool, name);
            work.push(Work::Pool(Rc::clone(pool)));
        }
        work
    }

    /// Notes a pool. Returns what to look at.
    pub fn apply_pool(&mut self, id: PoolId, pool: PoolState) -> Vec<Work> {
        let id = self.id(id);
        let (kind, name) = (Kind::Pools(id.kind), Name::of_pool(&id));
        let known = self.pools.get(&id);
        // The answer to the write that took its last finalizer may come after the message that it
        // is gone.
        if self.is_old(kind, &name, &pool.version, known.map(|known| &known.version)) {
            return Vec::new();
        }
        let only_numbers = known.is_some_and(|known| known.is_same_but_for_numbers(&pool));
        let is_new = known.is_none();
        let written_at = known.and_then(|known| known.written_at);
        let empty_since = known.and_then(|known| known.empty_since);
        let said = known.map(|known| known.said).unwrap_or_default();
        let same_addresses = known.is_some_and(|known| known.has_same_addresses(&pool));
        let hull = pool.reach().collect();
        let pool = PoolState { written_at, empty_since, said, hull, ..pool };
        self.listings.note(kind, &name);
        let before = self.pools.insert(Rc::clone(&id), pool.clone());
        if only_numbers {
            return Vec::new();
        }
        let mut work = self.work_of_pool(&id);
        // After all have been read, all are looked at.
        if !same_addresses && !self.listings.contains(kind) {
            work.extend(before.iter().flat_map(|before| self.neighbors(before)));
            work.extend(self.neighbors(&pool));
        }
        if is_new {
            work.extend(self.answers_of(&id).map(|(_, name)| Work::Adoption(name.clone())));
        }
        work
    }

    /// Returns what may change with a pool: the pool, and its claims that are not answered or end.
    fn work_of_pool(&mut self, id: &PoolId) -> Vec<Work> {
        let mut work = vec![Work::Pool(self.id(id.clone()))];
        let names = self.claims_of.get(id).into_iter().flatten();
        let open = names.filter(|name| self.claims.get(*name).is_some_and(Claim::is_open));
        work.extend(open.cloned().map(Work::Claim));
        work
    }

    /// Notes that an address is held. Returns what to look at.
    pub fn apply_allocation(&mut self, name: &str, holding: Holding) -> Vec<Work> {
        let claim = holding.holder.claim().map(|holder| holder.name.clone());
        if !self.insert_held(name, holding) {
            return Vec::new();
        }
        let mut work = self.own_pools_of(name);
        if let Some(claim) = claim {
            work.push(Work::Allocation(name.into()));
            // The answer to the creation was lost, or another replica has created it.
            let waits = self.claims.get(&claim).is_some_and(Claim::is_open);
            work.extend(waits.then_some(Work::Claim(claim)));
        }
        work
    }

    /// Returns the claims that may now get an address, the answers that have it although another
    /// held it, and the pools whose numbers change, because an address of a scope was freed.
    fn work_of_freed(&self, scope: &str, address: IpAddr) -> Vec<Work> {
        let of_scope = || self.pools.iter().filter(|(_, pool)| *pool.scope_label == *scope);
        let answers = of_scope().flat_map(|(id, _)| self.answered_with(id, address));
        let adoptions = answers.cloned().map(Work::Adoption);
        let looks = of_scope().filter(|(_, pool)| pool.may_count(address)).flat_map(|(id, _)| {
            let mut work = self.next_in_line(id, address);
            work.push(Work::Pool(Rc::clone(id)));
            work
        });
        adoptions.chain(looks).collect()
    }

    /// Returns all work that there is, for a look at everything.
    #[must_use]
    pub fn everything(&self) -> Vec<Work> {
        let claims = self.claims.keys().cloned().map(Work::Claim);
        let pools = self.pools.keys().cloned().map(Work::Pool);
        let allocations = self.held.names_of_claims().map(Work::Allocation);
        let adoptions = self.answers.keys().cloned().map(Work::Adoption);
        let of_pods = self.ipam_claims.names().map(Work::IpamClaim);
        adoptions.chain(allocations).chain(claims).chain(pools).chain(of_pods).collect()
    }
}

impl State {
    /// Returns whether everything has been read once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.needed.is_subset(&self.read)
    }

    /// Returns whether everything that is held has been read once.
    #[must_use]
    pub fn has_read_allocations(&self) -> bool {
        self.read.contains(&Kind::Allocations)
    }
}

fn id_of(kind: PoolKind, name: &Name) -> PoolId {
    PoolId { kind, namespace: name.namespace.to_string(), name: name.name.to_string() }
}
