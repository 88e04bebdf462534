//! A session while addresses are shown to Whereabouts.

use super::calls::Age;
use super::holder::Shown;
use super::pools::Pools;
use super::show::Showing;
use crate::addr::{AddrSet, Range};
use crate::ipam::{Allocation, Attachment, Scope, Version};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::objects::move_object::MoveState;
use crate::store::kube::objects::names;
use crate::store::kube::session::KubeSession;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;

/// What a session knows about the move.
#[derive(Default)]
pub(crate) struct During {
    /// Whether addresses are shown, once it was asked.
    shows: Cell<Option<bool>>,
    /// The pools as they were read for the candidates.
    pools: RefCell<Option<Pools>>,
    /// Addresses that Whereabouts got while this session was to give them.
    lost: RefCell<Vec<IpAddr>>,
}

impl KubeSession<'_> {
    /// Returns whether an address counts as given only when Whereabouts sees it.
    pub(crate) fn shows_addresses(&self) -> Result<bool, StoreError> {
        if let Some(shows) = self.during.shows.get() {
            return Ok(shows);
        }
        let shows = self.store.shows_addresses(&self.deadline)?;
        self.during.shows.set(Some(shows));
        Ok(shows)
    }

    /// Returns the candidates that Whereabouts has not given to others, and that it can note.
    ///
    /// # Errors
    /// There are candidates, and Whereabouts can note none of them.
    pub(crate) fn without_given<'c>(
        &self,
        scope: &Scope,
        candidates: &'c AddrSet,
        attachment: &Attachment,
    ) -> Result<Cow<'c, AddrSet>, StoreError> {
        if !self.shows_addresses()? {
            return Ok(Cow::Borrowed(candidates));
        }
        if !is_to_show(scope) {
            self.store.refuse_unshown("an address of an IPAMClaim", &self.deadline)?;
        }
        let is_near = |range: &Range| candidates.has_any_of(range);
        let mut pools = self.store.pools_with(Age::Cached, scope, &is_near, &self.deadline)?;
        self.store.make_missing_pools(&mut pools, scope, candidates, &self.deadline)?;
        let (mut free, cannot_note) = pools.free(candidates, attachment);
        for lost in self.during.lost.borrow().iter() {
            free.remove(&Range::single(*lost));
        }
        if free.is_empty() && cannot_note {
            return Err(StoreError::Unshowable {
                what: "an address that is as far from the first one of its range as these"
                    .to_owned(),
                reason: "Whereabouts cannot read an offset of 2^63 or more".to_owned(),
            });
        }
        self.during.pools.replace(Some(pools));
        Ok(Cow::Owned(free))
    }

    /// Shows an address that was just claimed. If somebody else has it, the claim ends, and the
    /// result is `None`.
    pub(crate) fn show_claimed(
        &self,
        claimed: Allocation,
    ) -> Result<Option<Allocation>, StoreError> {
        if !self.shows_addresses()? {
            return Ok(Some(claimed));
        }
        let shown = match self.during.pools.take() {
            Some(pools) => {
                let pools = pools.with(claimed.address);
                self.store.show_in(pools, &claimed, Shown::Guarded, &self.deadline)
            }
            None => self.store.show(&claimed, Shown::Guarded, &self.deadline),
        };
        match shown {
            Ok(Showing::Done) => Ok(Some(claimed)),
            Ok(Showing::Taken(who)) => {
                tracing::info!(address = %claimed.address, %who, "Whereabouts has given this address; another one is tried");
                self.release_shown(&claimed)?;
                self.during.lost.borrow_mut().push(claimed.address);
                Ok(None)
            }
            Err(error) => {
                // The caller does not know of this claim.
                if let Err(undo) = self.release_shown(&claimed) {
                    tracing::warn!(%undo, address = %claimed.address, "the next call of the attachment releases this address");
                }
                Err(error)
            }
        }
    }

    /// Returns whether somebody else got an address while this session was to give it.
    pub(crate) fn was_lost(&self, address: IpAddr) -> bool {
        self.during.lost.borrow().contains(&address)
    }

    /// Shows an address that an attachment of this node has. Returns who else has it, in words.
    pub(crate) fn show_again(&self, held: &Allocation) -> Result<Option<String>, StoreError> {
        if !is_to_show(&held.scope) || !self.shows_addresses()? {
            return Ok(None);
        }
        match self.store.show(held, Shown::Guarded, &self.deadline)? {
            Showing::Done => Ok(None),
            Showing::Taken(who) => {
                tracing::error!(address = %held.address, holder = %held.record.attachment, %who, "Whereabouts has given this address");
                Ok(Some(who))
            }
        }
    }
}

impl KubeSession<'_> {
    /// Takes an address out of what Whereabouts sees, before its record ends. `is_meant` says whether
    /// the record is still the one that is to end.
    pub(crate) fn withdraw_first(
        &self,
        held: &Allocation,
        version: &Version,
        is_meant: &dyn Fn(&Allocation) -> bool,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        if !is_to_show(&held.scope) || !self.shows_noted()? {
            return Ok(());
        }
        let name = names::object(&held.scope, held.address);
        let found = self.store.api.get_of_attachment(&name, deadline)?;
        let now = match found.map(|object| object.allocation()) {
            None => None,
            Some(Ok(now)) => Some(now),
            Some(Err(unreadable)) => return Err(unreadable.of(&name)),
        };
        let is_same =
            |now: &Allocation| now.version.as_ref().is_some_and(|now| now.uid == version.uid);
        match now.filter(is_same) {
            // Another record has the address by now, and what it shows stays.
            Some(now) if !is_meant(&now) => Ok(()),
            Some(now) => self.store.withdraw(&now, deadline),
            // The object of this uid is gone, and nobody else can have shown anything for it.
            None => {
                let gone = Allocation { version: Some(version.clone()), ..held.clone() };
                self.store.withdraw(&gone, deadline)
            }
        }
    }

    fn shows_noted(&self) -> Result<bool, StoreError> {
        match self.during.shows.get() {
            Some(shows) => Ok(shows),
            None => self.store.shows_noted(&self.deadline),
        }
    }
}

/// Returns whether Whereabouts can see the addresses of a scope. It knows nothing of IPAMClaims, and
/// nothing of slices, whose addresses are not in this half of the store.
fn is_to_show(scope: &Scope) -> bool {
    !scope.is_of_claim_user()
}

fn unshown(what: &str, are_shown: bool) -> Result<(), StoreError> {
    if !are_shown {
        return Ok(());
    }
    Err(StoreError::Unshowable {
        what: what.to_owned(),
        reason: "Whereabouts cannot see it".to_owned(),
    })
}

impl KubeStore {
    /// Returns whether an address counts as given only when Whereabouts sees it.
    pub(crate) fn shows_addresses(&self, deadline: &Deadline) -> Result<bool, StoreError> {
        Ok(self.move_state(deadline)?.is_some_and(MoveState::shows_addresses))
    }

    /// Returns the same as this node has noted it, for a call that ends a record.
    pub(crate) fn shows_noted(&self, deadline: &Deadline) -> Result<bool, StoreError> {
        Ok(self.noted_move_state(deadline)?.is_some_and(MoveState::shows_addresses))
    }

    /// Refuses an address that Whereabouts could not see.
    pub(crate) fn refuse_unshown(&self, what: &str, deadline: &Deadline) -> Result<(), StoreError> {
        unshown(what, self.shows_addresses(deadline)?)
    }

    /// Refuses an address of a slice in the same way, as this node has noted it: it is given without a
    /// request, also while the API server is away.
    pub(crate) fn refuse_unshown_slice(&self, deadline: &Deadline) -> Result<(), StoreError> {
        unshown("an address of a slice", self.shows_noted(deadline)?)
    }
}
