//! A store that answers claims without making them, for an ADD on trial. It reads the real store, and
//! finds free addresses as the real store does.

use crate::addr::{AddrSet, Range};
use crate::ipam::{
    Allocation, Attachment, ClaimAllocation, ClaimPod, HeldAddress, IfName, IpamClaim, NetworkName,
    PodRef, Record, Scope, Slicing, Source, Sticky, Version,
};
use crate::retry::Deadline;
use crate::store::disk::Held;
use crate::store::ipam_claims::IpamClaims;
use crate::store::pools::{Read, StoredPool};
use crate::store::upkeep::Upkeep;
use crate::store::{
    Access, Claim, Filter, HeldListing, Holdings, Listing, Rehome, Release, Session, Store,
    StoreError,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

/// What an ADD on trial would take from sandboxes that have ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    /// The records that it would free to have room.
    pub(crate) freed: Vec<Allocation>,
    /// The addresses of earlier sandboxes of the pod that it would keep.
    pub(crate) moved: Vec<IpAddr>,
}

/// See the module.
pub(super) struct TrialStore {
    store: Box<dyn Upkeep>,
    /// The addresses that were claimed on trial.
    claimed: RefCell<Vec<(Scope, IpAddr)>>,
    /// What IPAMClaims got on trial.
    of_claims: RefCell<Vec<ClaimAllocation>>,
    taken: Rc<RefCell<Taken>>,
}

/// A lock that excludes nobody: nothing is changed under it.
struct NoLock;

impl Held for NoLock {}

impl TrialStore {
    pub(super) fn new(store: Box<dyn Upkeep>, taken: Rc<RefCell<Taken>>) -> Self {
        Self { store, claimed: RefCell::default(), of_claims: RefCell::default(), taken }
    }

    /// Returns the address that a claim would get.
    fn find(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        source: Source,
    ) -> Result<Option<IpAddr>, StoreError> {
        let mut left = candidates.clone();
        for (_, address) in self.claimed.borrow().iter().filter(|(of, _)| of == scope) {
            left.remove(&Range::single(*address));
        }
        let taken = self.taken.borrow();
        let freed =
            taken.freed.iter().filter(|freed| freed.scope == *scope).map(|freed| freed.address);
        let freed = freed.filter(|address| left.contains(*address));
        Ok(self.store.lowest_free(scope, &left, source)?.into_iter().chain(freed).min())
    }
}

impl Store for TrialStore {
    fn lock_attachment(
        &self,
        _: &Attachment,
        _: Access,
        _: Deadline,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        Ok(Some(Box::new(NoLock)))
    }

    fn try_lock_attachment(&self, _: &Attachment) -> Result<Option<Box<dyn Held>>, StoreError> {
        Ok(Some(Box::new(NoLock)))
    }

    fn noted(&self, attachment: &Attachment) -> Option<Vec<Allocation>> {
        self.store.noted(attachment)
    }

    fn open(
        &self,
        access: Access,
        deadline: Deadline,
    ) -> Result<Box<dyn Session + '_>, StoreError> {
        if access == Access::Allocate {
            self.store.ready()?;
        }
        Ok(Box::new(TrialSession { real: self.store.open(Access::Read, deadline)?, store: self }))
    }

    fn list(&self, filter: &Filter) -> Result<Listing<'_>, StoreError> {
        let of_attachment = |item: Result<HeldAddress, _>| item.map(HeldAddress::of_attachment);
        Ok(Box::new(
            self.list_held(filter)?.filter_map(move |item| of_attachment(item).transpose()),
        ))
    }

    fn list_held(&self, filter: &Filter) -> Result<HeldListing<'_>, StoreError> {
        let freed = self.taken.borrow().freed.clone();
        let is_there = move |item: &Result<HeldAddress, StoreError>| match item {
            Ok(HeldAddress::Attachment(found)) => !freed.contains(found),
            Ok(HeldAddress::Claim(_)) | Err(_) => true,
        };
        Ok(Box::new(self.store.list_held(filter)?.filter(is_there)))
    }

    fn ready(&self) -> Result<(), StoreError> {
        self.store.ready()
    }

    fn has_room(&self, scope: &Scope, candidates: &AddrSet) -> Result<bool, StoreError> {
        self.store.has_room(scope, candidates)
    }

    fn pool(
        &self,
        name: &str,
        read: Read,
        deadline: Deadline,
    ) -> Result<Option<StoredPool>, StoreError> {
        self.store.pool(name, read, deadline)
    }

    fn why_full(&self, scope: &Scope) -> Option<String> {
        self.store.why_full(scope)
    }

    fn draw_from(&self, slicing: &Rc<Slicing>) -> Result<bool, StoreError> {
        self.store.draw_from(slicing)
    }

    fn node_labels(
        &self,
        read: Read,
        deadline: Deadline,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        self.store.node_labels(read, deadline)
    }

    fn sticky(&self, scope: &Scope, deadline: Deadline) -> Result<Vec<Sticky>, StoreError> {
        self.store.sticky(scope, deadline)
    }

    fn ipam_claims(&self) -> Option<&dyn IpamClaims> {
        self.store.ipam_claims().map(|_| self as &dyn IpamClaims)
    }
}

impl TrialStore {
    fn real(&self) -> Result<&dyn IpamClaims, StoreError> {
        self.store.ipam_claims().ok_or(StoreError::Changed)
    }
}

impl IpamClaims for TrialStore {
    fn claim(
        &self,
        namespace: &str,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<IpamClaim>, StoreError> {
        self.real()?.claim(namespace, name, deadline)
    }

    fn pod(&self, pod: &PodRef, deadline: &Deadline) -> Result<Option<ClaimPod>, StoreError> {
        self.real()?.pod(pod, deadline)
    }

    fn held(&self, uid: &str, deadline: &Deadline) -> Result<Vec<ClaimAllocation>, StoreError> {
        let mut held = self.real()?.held(uid, deadline)?;
        held.extend(self.of_claims.borrow().iter().cloned());
        Ok(held)
    }

    fn choose(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        _: u32,
        _: SystemTime,
        _: &Deadline,
    ) -> Result<Option<IpAddr>, StoreError> {
        self.find(scope, candidates, Source::Dynamic)
    }

    fn hold(
        &self,
        held: &ClaimAllocation,
        deadline: &Deadline,
    ) -> Result<Option<ClaimAllocation>, StoreError> {
        if self.holder(&held.scope, held.address, deadline)?.is_some() {
            return Ok(None);
        }
        let version = Version {
            uid: "on trial".to_owned(),
            revision: u64::MAX.to_string(),
            newer: Vec::new(),
        };
        let held = ClaimAllocation { version: Some(version), ..held.clone() };
        self.claimed.borrow_mut().push((held.scope.clone(), held.address));
        self.of_claims.borrow_mut().push(held.clone());
        Ok(Some(held))
    }

    fn note_use(&self, _: &[ClaimAllocation]) {}

    fn holder(
        &self,
        scope: &Scope,
        address: IpAddr,
        deadline: &Deadline,
    ) -> Result<Option<HeldAddress>, StoreError> {
        let of_claims = self.of_claims.borrow();
        let mut made = of_claims.iter().filter(|held| held.scope == *scope);
        match made.find(|held| held.address == address) {
            Some(held) => Ok(Some(HeldAddress::from(held.clone()))),
            None => self.real()?.holder(scope, address, deadline),
        }
    }
}

/// A session that reads the real store and changes nothing.
struct TrialSession<'s> {
    real: Box<dyn Session + 's>,
    store: &'s TrialStore,
}

impl Session for TrialSession<'_> {
    fn holdings(&self, attachment: &Attachment) -> Result<Holdings, StoreError> {
        self.real.holdings(attachment)
    }

    fn holdings_of_pod(
        &self,
        network: &NetworkName,
        pod: &PodRef,
        ifname: &IfName,
    ) -> Result<Vec<Allocation>, StoreError> {
        self.real.holdings_of_pod(network, pod, ifname)
    }

    fn claim(
        &mut self,
        scope: &Scope,
        candidates: &AddrSet,
        record: &Record,
    ) -> Result<Claim, StoreError> {
        let Some(address) = self.store.find(scope, candidates, record.source)? else {
            return Ok(Claim::Full);
        };
        self.store.claimed.borrow_mut().push((scope.clone(), address));
        let (scope, record) = (scope.clone(), record.clone());
        Ok(Claim::Claimed(Allocation { scope, address, record, version: None }))
    }

    fn confirm(&mut self, _: &Allocation) -> Result<(), StoreError> {
        Ok(())
    }

    fn rehome(&mut self, held: &Allocation, to: &Record) -> Result<Rehome, StoreError> {
        self.store.taken.borrow_mut().moved.push(held.address);
        Ok(Rehome::Done(Allocation { record: to.clone(), ..held.clone() }))
    }

    fn release(&mut self, held: &Allocation) -> Result<Release, StoreError> {
        self.release_unchanged(held)
    }

    fn release_unchanged(&mut self, held: &Allocation) -> Result<Release, StoreError> {
        let mut claimed = self.store.claimed.borrow_mut();
        let before = claimed.len();
        claimed.retain(|(scope, address)| (scope, address) != (&held.scope, &held.address));
        if claimed.len() == before {
            self.store.taken.borrow_mut().freed.push(held.clone());
        }
        Ok(Release::Done)
    }

    fn clean_up(&mut self, _: &Attachment) -> Result<(), StoreError> {
        Ok(())
    }
}
