//! The gateways that standing records of a scope name. Another network of the
//! scope, whose configuration is silent about the router, would give the
//! router's address to a pod.
//!
//! `scopes/<scope>/gateway-<ip>` holds the address of one record that names the
//! gateway. The ADD that names it writes this note and does not flush it; a
//! claim reads it when that very address is free and the lowest. A note is as
//! good as the record that it points to, so that it ends with the last of them.

use super::session::FileSession;
use super::{FileStore, layout, listing, read, record, remove};
use crate::ipam::{Allocation, Scope, Source};
use crate::store::disk::Disk;
use crate::store::{Filter, StoreError};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

/// What one claim knows of the gateways of a scope.
pub(super) struct Gateways<'s, D: Disk> {
    store: &'s FileStore<D>,
    scope: &'s Scope,
    /// Whether they bar anything. What the configuration itself assigns, they
    /// do not: a pod may be the router.
    bar: bool,
    /// Whose note points to a record that has gone.
    doubtful: Cell<Option<IpAddr>>,
    /// Looked at already.
    settled: RefCell<HashSet<IpAddr>>,
}

impl<'s, D: Disk> Gateways<'s, D> {
    pub(super) fn new(store: &'s FileStore<D>, scope: &'s Scope, source: Source) -> Self {
        let (doubtful, settled) = Default::default();
        Self { store, scope, bar: source != Source::Static, doubtful, settled }
    }

    /// Whether a free address is a gateway. One in doubt is, until it is settled.
    pub(super) fn bars(&self, address: IpAddr) -> Result<bool, StoreError> {
        if !self.bar {
            return Ok(false);
        }
        let Some(content) = read(&self.store.disk, &layout::gateway(self.scope, address))? else {
            return Ok(false);
        };
        if !self.settled.borrow().contains(&address) && !self.is_borne_out(address, &content.bytes)? {
            self.doubtful.set(Some(address));
        }
        Ok(true)
    }

    /// Whether one that was passed over has to be settled.
    pub(super) fn are_in_doubt(&self) -> bool {
        self.doubtful.get().is_some()
    }

    /// Whether the record that a note points to stands and names the gateway.
    fn is_borne_out(&self, gateway: IpAddr, note: &[u8]) -> Result<bool, StoreError> {
        let Some(address) = std::str::from_utf8(note).ok().and_then(|text| text.parse().ok()) else {
            return Ok(false);
        };
        let content = read(&self.store.disk, &layout::record(self.scope, address))?;
        let held = content.and_then(|content| record::decode(&content.bytes).ok());
        Ok(held.is_some_and(|held| names(&held, self.scope, gateway)))
    }
}

fn names(held: &Allocation, scope: &Scope, gateway: IpAddr) -> bool {
    held.scope == *scope && held.held.gateway == Some(gateway)
}

impl<D: Disk> FileStore<D> {
    /// Notes the gateway that a record is about to name. Under the store's lock.
    /// A failure fails no verb.
    pub(super) fn note_gateway(&self, allocation: &Allocation) {
        let Some(gateway) = allocation.held.gateway else {
            return;
        };
        let note = layout::gateway(&allocation.scope, gateway);
        let noted = self.disk.read(&note).ok();
        let address = noted.and_then(|content| std::str::from_utf8(&content.bytes).ok()?.parse().ok());
        let stands = address.is_some_and(|address| self.disk.inode(&layout::record(&allocation.scope, address)).is_ok());
        if !stands && let Err(error) = self.point(&note, allocation.address) {
            tracing::debug!(%error, %gateway, "a gateway could not be noted");
        }
    }

    /// Makes a note, or another in its place.
    fn point(&self, note: &std::path::Path, address: IpAddr) -> io::Result<()> {
        let make = || self.disk.create(note, address.to_string().as_bytes()).map(|_| ());
        match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.disk.unlink(note).and_then(|()| make()),
            made => made,
        }
    }
}

impl<D: Disk> FileSession<'_, D> {
    /// Looks for another record that names a gateway whose note is in doubt, or
    /// removes the note. Whether there was a doubt: free addresses have to be
    /// looked for again then. The locks are let go meanwhile, because all records
    /// of the scope may be read.
    pub(super) fn settle_gateway(&mut self, gateways: &Gateways<'_, D>) -> Result<bool, StoreError> {
        let Some(gateway) = gateways.doubtful.take() else {
            return Ok(false);
        };
        gateways.settled.borrow_mut().insert(gateway);
        let (store, scope) = (gateways.store, gateways.scope);
        let note = layout::gateway(scope, gateway);
        let before = read(&store.disk, &note)?;
        self.unlock();
        let found = self.find_record_with(scope, gateway);
        self.relock()?;
        // An ADD that named it meanwhile has put another note there.
        let now = read(&store.disk, &note)?.map(|content| content.bytes);
        let is_stale = |bytes: &Vec<u8>| Ok::<_, StoreError>(!gateways.is_borne_out(gateway, bytes)?);
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

    fn find_record_with(&self, scope: &Scope, gateway: IpAddr) -> Result<Option<Result<IpAddr, Unsure>>, StoreError> {
        for held in listing::list(&self.store.disk, Filter { scope: Some(scope.clone()), ..Filter::default() })? {
            match held {
                Ok(held) if names(&held, scope, gateway) => return Ok(Some(Ok(held.address))),
                Ok(_) if !self.deadline.left().is_zero() => {}
                // A record that cannot be read may name it.
                Ok(_) | Err(_) => return Ok(Some(Err(Unsure))),
            }
        }
        Ok(None)
    }
}

/// There may be such a record.
struct Unsure;
