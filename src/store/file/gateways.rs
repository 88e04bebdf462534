//! Keeps the address of a gateway from being given to a pod. A gateway is an address that a record
//! of the scope names as one. Another network of the scope may have a configuration that does not
//! mention the router, and would otherwise give the router's address to a pod.
//!
//! `scopes/<scope>/gateway-<ip>` contains the address of one record that names the gateway. The ADD
//! that names it writes this note and does not flush it. A claim reads the note only when that
//! address is the lowest free one. A note counts only while the record that it points to exists. So
//! the notes of a gateway end with the last record that names it.

use super::session::FileSession;
use super::{FileStore, layout, listing, read, record, remove};
use crate::ipam::{Allocation, Scope, Source};
use crate::store::disk::Disk;
use crate::store::{Filter, StoreError};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

/// What one claim knows about the gateways of a scope.
pub(super) struct Gateways<'s, D: Disk> {
    store: &'s FileStore<D>,
    scope: &'s Scope,
    /// Whether gateways block addresses in this claim. They do not block an address that the
    /// configuration itself assigns: a pod may be the router.
    bar: bool,
    /// The gateway whose note points to a record that is gone.
    doubtful: Cell<Option<IpAddr>>,
    /// The gateways that were already checked.
    checked: RefCell<HashSet<IpAddr>>,
}

impl<'s, D: Disk> Gateways<'s, D> {
    pub(super) fn new(store: &'s FileStore<D>, scope: &'s Scope, source: Source) -> Self {
        let (doubtful, checked) = Default::default();
        Self { store, scope, bar: source != Source::Static, doubtful, checked }
    }

    /// Returns whether a free address is a gateway. A gateway in doubt counts as one until it is
    /// checked again.
    pub(super) fn bars(&self, address: IpAddr) -> Result<bool, StoreError> {
        if !self.bar {
            return Ok(false);
        }
        let Some(content) = read(&self.store.disk, &layout::gateway(self.scope, address))? else {
            return Ok(false);
        };
        if !self.checked.borrow().contains(&address)
            && !self.is_confirmed(address, &content.bytes)?
        {
            self.doubtful.set(Some(address));
        }
        Ok(true)
    }

    /// Returns whether a skipped gateway must be checked again.
    pub(super) fn are_in_doubt(&self) -> bool {
        self.doubtful.get().is_some()
    }

    /// Returns whether the record that a note points to exists and names the gateway.
    fn is_confirmed(&self, gateway: IpAddr, note: &[u8]) -> Result<bool, StoreError> {
        let Some(address) = std::str::from_utf8(note).ok().and_then(|text| text.parse().ok())
        else {
            return Ok(false);
        };
        let content = read(&self.store.disk, &layout::record(self.scope, address))?;
        let held = content.and_then(|content| record::decode(&content.bytes).ok());
        Ok(held.is_some_and(|held| names(&held, self.scope, gateway)))
    }
}

fn names(held: &Allocation, scope: &Scope, gateway: IpAddr) -> bool {
    held.scope == *scope && held.record.gateway == Some(gateway)
}

impl<D: Disk> FileStore<D> {
    /// Notes the gateway that a record is about to name. Runs under the store's lock. A failure
    /// fails no verb.
    pub(super) fn note_gateway(&self, allocation: &Allocation) {
        let Some(gateway) = allocation.record.gateway else {
            return;
        };
        let note = layout::gateway(&allocation.scope, gateway);
        let noted = self.disk.read(&note).ok();
        let address =
            noted.and_then(|content| std::str::from_utf8(&content.bytes).ok()?.parse().ok());
        let stands = address.is_some_and(|address| {
            self.disk.inode(&layout::record(&allocation.scope, address)).is_ok()
        });
        if !stands && let Err(error) = self.point(&note, allocation.address) {
            tracing::debug!(%error, %gateway, "a gateway could not be noted");
        }
    }

    /// Creates a note, or replaces it.
    fn point(&self, note: &std::path::Path, address: IpAddr) -> io::Result<()> {
        let make = || self.disk.create(note, address.to_string().as_bytes()).map(|_| ());
        match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.unlink(note).and_then(|()| make())
            }
            made => made,
        }
    }
}

impl<D: Disk> FileSession<'_, D> {
    /// Finds another record that names a gateway whose note is in doubt, or removes the note.
    /// Returns whether a gateway was in doubt: the caller must then search for free addresses
    /// again. Releases the locks during the search, because it may read all records of the scope.
    pub(super) fn recheck_gateway(
        &mut self,
        gateways: &Gateways<'_, D>,
    ) -> Result<bool, StoreError> {
        let Some(gateway) = gateways.doubtful.take() else {
            return Ok(false);
        };
        gateways.checked.borrow_mut().insert(gateway);
        let (store, scope) = (gateways.store, gateways.scope);
        let note = layout::gateway(scope, gateway);
        let before = read(&store.disk, &note)?;
        self.unlock();
        let found = self.find_record_with(scope, gateway);
        self.relock()?;
        // An ADD that named the gateway in the meantime has written another note.
        let now = read(&store.disk, &note)?.map(|content| content.bytes);
        let is_stale =
            |bytes: &Vec<u8>| Ok::<_, StoreError>(!gateways.is_confirmed(gateway, bytes)?);
        if now == before.map(|content| content.bytes) && now.as_ref().map_or(Ok(false), is_stale)? {
            match found? {
                Some(Ok(address)) => {
                    let pointed = store.point(&note, address);
                    tracing::debug!(?pointed, %gateway, "another record names the gateway");
                }
                Some(Err(Unsure)) => {}
                None => remove(&store.disk, &note)?,
            }
        }
        Ok(true)
    }

    fn find_record_with(
        &self,
        scope: &Scope,
        gateway: IpAddr,
    ) -> Result<Option<Result<IpAddr, Unsure>>, StoreError> {
        for held in listing::list(
            &self.store.disk,
            Filter { scope: Some(scope.clone()), ..Filter::default() },
        )? {
            match held {
                Ok(held) if names(&held, scope, gateway) => return Ok(Some(Ok(held.address))),
                Ok(_) if !self.deadline.left().is_zero() => {}
                // An unreadable record may name the gateway.
                Ok(_) | Err(_) => return Ok(Some(Err(Unsure))),
            }
        }
        Ok(None)
    }
}

/// The result of a search that cannot rule out such a record.
struct Unsure;
