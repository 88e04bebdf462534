//! An ADD of a pod with an IPAMClaim: the claim gets the addresses, unless it has them, and the
//! sandbox becomes a user of the claim.
//!
//! The claim holds an address like anybody else, in the scope of the network. A user holds the same
//! address again, in one of the two scopes of users that only this claim has. So everything that
//! ends a sandbox (DEL, GC, sweep, release) ends its use and leaves the claim what it has.
//!
//! The controller frees an address of a claim that is gone: it deletes the IPAllocation, which stays
//! because of its finalizer, then looks for users, and then takes the finalizer away. A user looks at
//! the IPAllocation after it has become a user. So one of the two sees the other.

use super::allocating::allocate;
use super::ask::Ask;
use super::claim::no_room;
use super::failure::Failure;
use super::given::{Given, out_of_time};
use super::left_by_the_dead;
use super::preferred::Preferred;
use super::request::Request;
use crate::cni::Version;
use crate::config::{ClaimName, ConfigError, Network, parse_requested};
use crate::ipam::{
    self, Allocation, ClaimAllocation, ClaimPod, ClaimProblem, HeldAddress, IPAM_CLAIM,
    IPAM_CLAIM_GROUP, IpamClaim, Machine, ObjectRef, PodRef, Record, Requested, Scope, Slot,
    Source,
};
use crate::retry::Deadline;
use crate::store::Store;
use crate::store::ipam_claims::IpamClaims;
use std::cell::OnceCell;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// The claim of a pod, for one ADD.
pub(super) struct OfClaim<'a> {
    store: &'a dyn Store,
    claims: &'a dyn IpamClaims,
    claim: IpamClaim,
    pod: &'a PodRef,
    record: &'a Record,
    deadline: Deadline,
    /// The virtual machine of the pod, as soon as it is known.
    machine: OnceCell<Option<Machine>>,
}

/// The times of an ADD: when it has to end, and what it may take to undo what it did.
pub(super) type Times = (Deadline, Duration);

impl<'a> OfClaim<'a> {
    /// Returns the claim of the pod. `None` if the pod names none for the interface.
    ///
    /// # Errors
    /// The pod may not use the claim, or the store cannot tell.
    pub(super) fn find(
        store: &'a dyn Store,
        asked: &ClaimName,
        record: &'a Record,
        deadline: Deadline,
    ) -> Result<Option<Self>, Failure> {
        let name = match asked {
            ClaimName::Named(name) => Some(name.as_str()),
            ClaimName::InPod => None,
        };
        let pod = record.pod.as_ref().filter(|pod| pod.is_whole());
        let refused = |problem| Failure::of_claim(pod, name, problem);
        let Some(claims) = store.ipam_claims() else {
            return Err(refused(ClaimProblem::NoClaims));
        };
        let Some(pod) = pod else {
            return match name {
                Some(_) => Err(refused(ClaimProblem::NoPod)),
                None => Ok(None),
            };
        };
        let read = match name {
            Some(_) => None,
            None => Some(read_pod(claims, pod, deadline)?),
        };
        let interface = record.attachment.ifname.as_str();
        let referred = read.as_ref().and_then(|read| read.claim_of(interface)).map(str::to_owned);
        let Some(name) = name.or(referred.as_deref()) else { return Ok(None) };
        let refused = |problem| Failure::of_claim(Some(pod), Some(name), problem);
        let found = match ClaimName::is_valid(name) {
            true => claims.claim(&pod.namespace, name, &deadline)?,
            false => None,
        };
        let Some(claim) = found else {
            return Err(refused(ClaimProblem::Absent));
        };
        let network = record.attachment.network.as_str();
        if claim.is_ending {
            return Err(refused(ClaimProblem::Ending));
        }
        if !claim.network.is_empty() && claim.network != network {
            let (expected, found) = (claim.network, network.to_owned());
            return Err(refused(ClaimProblem::OtherNetwork { expected, found }));
        }
        let known = OnceCell::new();
        if let Some(expected) = &claim.machine {
            let machine = match read {
                Some(read) => read.machine,
                None => read_pod(claims, pod, deadline)?.machine,
            };
            let machine = known.get_or_init(|| machine);
            if !machine.as_ref().is_some_and(|machine| machine.is_named(expected)) {
                let none = || "none".to_owned();
                let found = machine.as_ref().map_or_else(none, |machine| machine.owner.clone());
                let expected = expected.clone();
                return Err(refused(ClaimProblem::OtherMachine { expected, found }));
            }
        }
        Ok(Some(Self { store, claims, claim, pod, record, deadline, machine: known }))
    }

    /// Gives the addresses of the claim to the sandbox. `ask` is what the ADD asks for in the
    /// network.
    ///
    /// # Errors
    /// The claim gets no address, or somebody else uses it.
    pub(super) fn give(
        &self,
        ask: &Ask<'_>,
        request: &Request,
        version: Version,
        (deadline, reserve): Times,
    ) -> Result<Given, Failure> {
        let (slots, held) = self.addresses(ask, request, version)?;
        self.claims.note_use(&held);
        let mut holder = None;
        for number in 0..ipam::USERS {
            let scope = Scope::of_claim_user(&self.claim.uid, number);
            let confirm = |given: &[Allocation]| self.confirm(given);
            let ask = Ask {
                scope: &scope,
                slots: &slots,
                // The other user of the claim may answer for the address.
                elsewhere: None,
                // Nobody else ever gets these addresses.
                freed: None,
                sticky: false,
                confirm: Some(&confirm),
                ..*ask
            };
            match allocate(self.store, &ask, deadline, reserve) {
                Err(Failure::Held { holder: Some(found), .. }) => match *found {
                    HeldAddress::Attachment(found) if self.may_share(&found)? => {
                        holder = Some(found);
                    }
                    found => return Err(self.refused(ClaimProblem::InUse(found.holder()))),
                },
                other => return other,
            }
        }
        Err(match holder {
            Some(found) => self.refused(ClaimProblem::InUse(found.holder())),
            None => crate::store::StoreError::Changed.into(),
        })
    }

    /// Returns the slots of the user, and the address of the claim for each of them. The claim gets
    /// those that it does not have.
    fn addresses(
        &self,
        ask: &Ask<'_>,
        request: &Request,
        version: Version,
    ) -> Result<(Vec<Slot>, Vec<ClaimAllocation>), Failure> {
        // No pool serves the network any more. The sandbox still gets what it has.
        if request.slots.is_empty() {
            return Ok(Default::default());
        }
        let all = self.held()?;
        let wished = match all.is_empty() {
            true => self.wished(&request.network, version)?,
            // What a claim asks for never changes. The ranges may have changed since.
            false if !self.claim.wanted.is_empty() => {
                self.wished(&request.network, version).ok().flatten()
            }
            false => None,
        };
        let held = self.in_scope(all, ask.scope)?;
        let slots = wished.as_ref().unwrap_or(&request.slots);
        let lacking = self.assign(slots, &held)?;
        if lacking.iter().any(Option::is_none) {
            (ask.may_allocate)()?;
        }
        for (slot, _) in slots.iter().zip(&lacking).filter(|(_, held)| held.is_none()) {
            self.get_address(&Ask { slots: std::slice::from_ref(slot), ..*ask }, slot)?;
        }
        let of_user = |held: Vec<ClaimAllocation>| {
            let all = slots.iter().zip(&held);
            (all.map(|(slot, held)| ipam::slot_of_user(slot, held)).collect(), held)
        };
        if lacking.iter().all(Option::is_some) {
            return Ok(of_user(lacking.into_iter().flatten().cloned().collect()));
        }
        // Another node may have got addresses for the claim at the same time. Those that were
        // created first count.
        let held = self.in_scope(self.held()?, ask.scope)?;
        let all: Option<Vec<ClaimAllocation>> =
            self.assign(slots, &held)?.into_iter().map(|held| held.cloned()).collect();
        all.map(of_user).ok_or_else(|| crate::store::StoreError::Changed.into())
    }

    fn assign<'h>(
        &self,
        slots: &[Slot],
        held: &'h [ClaimAllocation],
    ) -> Result<Vec<Option<&'h ClaimAllocation>>, Failure> {
        ipam::assign(slots, held).map_err(|problem| self.refused(problem))
    }

    /// Leaves what the claim holds in a scope. In another scope, somebody else may have the same
    /// address.
    fn in_scope(
        &self,
        mut held: Vec<ClaimAllocation>,
        scope: &Scope,
    ) -> Result<Vec<ClaimAllocation>, Failure> {
        held.retain(|held| held.scope == *scope);
        match held.iter().find(|held| held.is_ending) {
            Some(ending) => Err(self.refused(ClaimProblem::AddressEnding(ending.address))),
            None => Ok(held),
        }
    }

    /// Returns what the claim holds.
    pub(super) fn held(&self) -> Result<Vec<ClaimAllocation>, Failure> {
        Ok(self.claims.held(&self.claim.uid, &self.deadline)?)
    }

    /// Returns the slots with the addresses that the claim asks for, or that its status names. The
    /// status may be that of another cluster, from a backup, so that the network cannot give them.
    fn wished(&self, network: &Network, version: Version) -> Result<Option<Vec<Slot>>, Failure> {
        let with = |requested: Vec<Requested>| {
            let network = Network { requested, ..network.clone() };
            Request::new(network, version).map(|request| request.slots)
        };
        let parse = |(at, text): (usize, &String), key: &str| {
            let origin = format!("{} {key}[{at}]", self.claim);
            let (address, prefix) = parse_requested(text).map_err(|error| {
                ConfigError::meaning(&*origin, format!("{error}, found \"{text}\""))
            })?;
            Ok::<_, ConfigError>(Requested { address, prefix, gateway: None, origin })
        };
        let all = |texts: &[String], key: &str| -> Result<Vec<Requested>, ConfigError> {
            texts.iter().enumerate().map(|entry| parse(entry, key)).collect()
        };
        if !self.claim.wanted.is_empty() {
            return Ok(Some(with(all(&self.claim.wanted, "spec.ipRequests")?)?));
        }
        if self.claim.told.is_empty() || !network.requested.is_empty() {
            return Ok(None);
        }
        let told = all(&self.claim.told, "status.ips").ok();
        Ok(told.and_then(|told| with(told).ok()))
    }

    /// Gets an address of a slot for the claim: the first that nobody holds or uses.
    fn get_address(&self, ask: &Ask<'_>, slot: &Slot) -> Result<(), Failure> {
        let (mut misses, began) = (0, self.record.since);
        'looking: loop {
            let preferred = Preferred::find(self.store, ask, self.deadline)?;
            for (from, candidates) in preferred.lately.order(slot) {
                while let Some(address) = self.choose(ask, &from, misses, began)? {
                    let record = slot.record(candidates, self.record);
                    if self.is_in_use(ask, address, &record)? {
                        continue 'looking;
                    }
                    let held = self.holding(ask.scope, address, &record);
                    if let Some(held) = self.claims.hold(&held, &self.deadline)? {
                        tracing::info!(address = %held.address, scope = %held.scope, claim = %held.claim, "the claim got an address");
                        return Ok(());
                    }
                    if from.count() == 1 {
                        break;
                    }
                    misses += 1;
                    if self.deadline.left().is_zero() {
                        return Err(out_of_time(self.deadline, 0, 1).into());
                    }
                }
            }
            let left = left_by_the_dead::find(self.store, ask, slot, self.deadline);
            let is_freed = !self.deadline.left().is_zero()
                && left_by_the_dead::free_one(self.store, &left.records, self.deadline)?;
            if !is_freed {
                return Err(no_room(slot, preferred.lately.passed_over(slot)).held_by(left.holder));
            }
        }
    }

    fn choose(
        &self,
        ask: &Ask<'_>,
        from: &crate::addr::AddrSet,
        misses: u32,
        began: SystemTime,
    ) -> Result<Option<IpAddr>, Failure> {
        match from.nth(0) {
            // What the node believes about a single candidate may be old.
            Some(only) if from.count() == 1 => Ok(Some(only)),
            _ => Ok(self.claims.choose(ask.scope, from, misses, began, &self.deadline)?),
        }
    }

    /// Returns whether this node or another host has the address. It is asked before the claim gets
    /// it, because no node may take an address from a claim.
    fn is_in_use(&self, ask: &Ask<'_>, address: IpAddr, record: &Record) -> Result<bool, Failure> {
        let Some(elsewhere) = ask.elsewhere else { return Ok(false) };
        let (scope, record) = (ask.scope.clone(), record.clone());
        let asked = Allocation { scope, address, record, version: None };
        Ok(!elsewhere.in_use(&[&asked], self.deadline)?.is_empty())
    }

    fn holding(&self, scope: &Scope, address: IpAddr, record: &Record) -> ClaimAllocation {
        ClaimAllocation {
            scope: scope.clone(),
            address,
            prefix: record.prefix,
            gateway: record.gateway,
            since: record.since,
            source: match record.source {
                Source::Dynamic => Source::Dynamic,
                Source::Requested | Source::Static => Source::Requested,
            },
            claim: ObjectRef {
                api_group: IPAM_CLAIM_GROUP.to_owned(),
                kind: IPAM_CLAIM.to_owned(),
                namespace: Some(self.claim.namespace.clone()),
                name: self.claim.name.clone(),
                uid: self.claim.uid.clone(),
            },
            pool: None,
            is_ending: false,
            version: None,
        }
    }

    /// Checks, now that the sandbox is a user, that the claim still has the addresses, and that the
    /// other user is one that it may share them with.
    fn confirm(&self, given: &[Allocation]) -> Result<(), Failure> {
        let held = self.held()?;
        for allocation in given {
            let Some(uid) = allocation.scope.used_claim() else { continue };
            let mut same = held.iter().filter(|held| held.address == allocation.address);
            if uid != self.claim.uid || !same.any(|held| !held.is_ending) {
                return Err(self.refused(ClaimProblem::Freed(allocation.address)));
            }
            for number in 0..ipam::USERS {
                let scope = Scope::of_claim_user(uid, number);
                if scope == allocation.scope {
                    continue;
                }
                match self.claims.holder(&scope, allocation.address, &self.deadline)? {
                    None => {}
                    Some(HeldAddress::Attachment(other)) if self.may_share(&other)? => {}
                    Some(other) => {
                        return Err(self.refused(ClaimProblem::InUse(other.holder())));
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns whether the sandbox may use the claim beside another user: one of the same virtual
    /// machine, or an earlier sandbox of the same pod.
    fn may_share(&self, other: &Allocation) -> Result<bool, Failure> {
        let (own, theirs) = (&self.record.attachment, &other.record.attachment);
        if (&own.node, &own.container) == (&theirs.node, &theirs.container) {
            return Ok(own == theirs);
        }
        let Some(pod) = &other.record.pod else { return Ok(false) };
        if self.pod.is_same(pod) && pod.uid.is_some() {
            return Ok(true);
        }
        let Some(machine) = self.machine()? else { return Ok(false) };
        match self.claims.pod(pod, &self.deadline)? {
            Some(found) if is_pod(&found, pod) => {
                Ok(found.machine.is_some_and(|other| other.label == machine.label))
            }
            // It was a pod of the machine: the claim is owned by the machine, and each user was
            // checked.
            _ => Ok(self.claim.machine.is_some()),
        }
    }

    fn machine(&self) -> Result<Option<&Machine>, Failure> {
        if let Some(known) = self.machine.get() {
            return Ok(known.as_ref());
        }
        let found = self.claims.pod(self.pod, &self.deadline)?;
        let found = found.filter(|found| is_pod(found, self.pod)).and_then(|found| found.machine);
        Ok(self.machine.get_or_init(|| found).as_ref())
    }

    fn refused(&self, problem: ClaimProblem) -> Failure {
        Failure::of_claim(Some(self.pod), Some(&self.claim.name), problem)
    }
}

impl Failure {
    fn of_claim(pod: Option<&PodRef>, name: Option<&str>, problem: ClaimProblem) -> Self {
        let claim = match (pod, name) {
            (Some(pod), Some(name)) => format!("{IPAM_CLAIM} {}/{name}", pod.namespace),
            (None, Some(name)) => format!("{IPAM_CLAIM} {name}"),
            (Some(pod), None) => format!("{IPAM_CLAIM} of pod {pod}"),
            (None, None) => IPAM_CLAIM.to_owned(),
        };
        Self::OfClaim { claim, problem }
    }
}

/// Reads the pod of the call, and makes sure that it is not a later one of its name.
fn read_pod(
    claims: &dyn IpamClaims,
    pod: &PodRef,
    deadline: Deadline,
) -> Result<ClaimPod, Failure> {
    let found = claims.pod(pod, &deadline)?.filter(|found| is_pod(found, pod));
    found.ok_or_else(|| {
        Failure::of_claim(Some(pod), None, ClaimProblem::UnknownPod(pod.to_string()))
    })
}

fn is_pod(found: &ClaimPod, pod: &PodRef) -> bool {
    pod.uid.as_ref().is_none_or(|uid| *uid == found.uid)
}
