//! The pools of Whereabouts: which of them have an address of a scope, and what stands in them.
//!
//! The list of all pools is read as names, because a pool can be as large as an object may be. The
//! name says the scope and the range. Only the pools that matter are read.

use super::calls::{Age, POOLS, Place};
use super::holder;
use crate::addr::{AddrSet, Blocks, Range};
use crate::ipam::{Attachment, Scope};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::whereabouts::names;
use crate::whereabouts::objects::PoolObject;
use crate::whereabouts::range::{NoKey, PoolRange};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// The namespace of Whereabouts' objects, if they are nowhere else.
const USUAL: &str = "kube-system";

/// A pool as it was read.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) place: Place,
    /// The range as it is written.
    pub(super) text: String,
    pub(super) range: PoolRange,
    /// The entries by their keys.
    pub(super) entries: HashMap<String, Box<RawValue>>,
}

/// Some pools of a scope, and the names of all pools when they were read.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pub(super) pools: Vec<Pool>,
    names: HashSet<String>,
}

impl Pool {
    /// Returns whether the pool has a key for the address, or why it has none. A pool that does not
    /// have the address at all returns `None`.
    pub(super) fn key(&self, address: IpAddr) -> Option<Result<String, NoKey>> {
        self.range.contains(address).then(|| self.range.key(address))
    }

    /// Returns the addresses that have an entry, except for those that Whereabouts gave to this very
    /// attachment.
    fn taken(&self, attachment: &Attachment) -> impl Iterator<Item = Range> {
        let of_others =
            self.entries.iter().filter(|(_, entry)| !holder::is_theirs_for(entry, attachment));
        let addresses = of_others.filter_map(|(key, _)| self.range.address(key).ok());
        addresses.map(Range::single)
    }
}

impl Pools {
    /// Returns the candidates for which no pool has an entry of another attachment, and which each
    /// pool can note. The
    /// second value is whether any was left out because a pool cannot note it.
    pub(super) fn free(&self, candidates: &AddrSet, attachment: &Attachment) -> (AddrSet, bool) {
        let taken: Blocks = self.pools.iter().flat_map(|pool| pool.taken(attachment)).collect();
        let mut free = candidates.without(&taken);
        let mut cannot_note = false;
        for far in self.pools.iter().filter_map(|pool| pool.range.too_far()) {
            cannot_note |= candidates.has_any_of(&far);
            free.remove(&far);
        }
        (free, cannot_note)
    }

    /// Returns the pools that have an address, as they were read.
    pub(super) fn with(self, address: IpAddr) -> Self {
        let pools = self.pools.into_iter().filter(|pool| pool.range.contains(address)).collect();
        Self { pools, names: self.names }
    }
}

impl KubeStore {
    /// Reads the pools of a scope that have one of these addresses.
    pub(super) fn pools_with(
        &self,
        age: Age,
        scope: &Scope,
        wanted: &dyn Fn(&Range) -> bool,
        deadline: &Deadline,
    ) -> Result<Pools, StoreError> {
        let mut pools = Pools::default();
        let names = self.api.names_of_pools(age, deadline)?;
        self.add_pools(&mut pools, names, scope, wanted, deadline)?;
        Ok(pools)
    }

    /// Reads the pools of a scope that have one of these addresses and that were not there before.
    /// Returns whether there are any.
    pub(super) fn add_new_pools(
        &self,
        known: &mut Pools,
        scope: &Scope,
        wanted: &dyn Fn(&Range) -> bool,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let names = self.api.names_of_pools(Age::Now, deadline)?;
        self.add_pools(known, names, scope, wanted, deadline)
    }

    fn add_pools(
        &self,
        known: &mut Pools,
        names: Vec<String>,
        scope: &Scope,
        wanted: &dyn Fn(&Range) -> bool,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let scope = scope.name().unwrap_or_default();
        let mut found = false;
        let mut seen = HashSet::new();
        let repeated: HashSet<String> =
            names.iter().filter(|name| !seen.insert(*name)).cloned().collect();
        for name in names {
            if known.names.contains(&name) {
                continue;
            }
            let is_wanted =
                names::range_in(&name, scope).is_some_and(|range| wanted(&range.whole()));
            if is_wanted {
                let pools = self.pools_named(&name, scope, repeated.contains(&name), deadline)?;
                found |= !pools.is_empty();
                known.pools.extend(pools);
            }
            known.names.insert(name);
        }
        Ok(found)
    }

    /// Reads the pools of a name that are of this scope.
    fn pools_named(
        &self,
        name: &str,
        scope: &str,
        is_repeated: bool,
        deadline: &Deadline,
    ) -> Result<Vec<Pool>, StoreError> {
        let place =
            |namespace: &str| Place { namespace: namespace.to_owned(), name: name.to_owned() };
        if !is_repeated && let Some(body) = self.api.pool_text(&place(USUAL), deadline)? {
            return Ok(self.parse_pool(&place(USUAL), scope, &body)?.into_iter().collect());
        }
        let mut pools = Vec::new();
        for namespace in self.api.namespaces_of_pool(name, deadline)? {
            pools.extend(self.read_pool_of(&place(&namespace), scope, deadline)?);
        }
        Ok(pools)
    }

    /// Reads a pool. `None` if it is gone, or if its range says that it is not of this scope.
    pub(super) fn read_pool_of(
        &self,
        place: &Place,
        scope: &str,
        deadline: &Deadline,
    ) -> Result<Option<Pool>, StoreError> {
        let Some(body) = self.api.pool_text(place, deadline)? else { return Ok(None) };
        self.parse_pool(place, scope, &body)
    }

    fn parse_pool(
        &self,
        place: &Place,
        scope: &str,
        body: &[u8],
    ) -> Result<Option<Pool>, StoreError> {
        let object: PoolObject<'_> = serde_json::from_slice(body)
            .map_err(|error| self.api.unexpected("get", POOLS, &error.to_string()).error)?;
        let text = object.spec.range.unwrap_or_default();
        let Some(range) =
            PoolRange::parse(&text).filter(|_| names::is_pool_of(&place.name, scope, &text))
        else {
            return Ok(None);
        };
        let entries = object.spec.allocations.unwrap_or_default().into_iter();
        let entries = entries.map(|(key, value)| (key.into_owned(), value.to_owned())).collect();
        Ok(Some(Pool { place: place.clone(), text, range, entries }))
    }

    /// Creates the pools that Whereabouts would create for the ranges of the network, and adds them.
    ///
    /// Without a pool, only the reservation shows an address. Whereabouts takes that for its own if the
    /// pod has the same name.
    pub(super) fn make_missing_pools(
        &self,
        known: &mut Pools,
        scope: &Scope,
        candidates: &AddrSet,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let scope = scope.name().unwrap_or_default();
        for range in self.ranges.borrow().iter() {
            let text = range.to_string();
            let name = names::pool(scope, &text);
            if !candidates.has_any_of(&range.whole()) || known.names.contains(&name) {
                continue;
            }
            let place = Place { namespace: self.home(known, deadline)?, name: name.clone() };
            self.api.make_pool(&place, &text, deadline)?;
            known.pools.extend(self.read_pool_of(&place, scope, deadline)?);
            known.names.insert(name);
        }
        Ok(())
    }

    /// Returns the namespace in which Whereabouts keeps its objects.
    pub(super) fn home(&self, pools: &Pools, deadline: &Deadline) -> Result<String, StoreError> {
        if let Some(pool) = pools.pools.first() {
            return Ok(pool.place.namespace.clone());
        }
        let Some(name) = pools.names.iter().min() else { return Ok(USUAL.to_owned()) };
        let usual = Place { namespace: USUAL.to_owned(), name: name.clone() };
        if self.api.has_pool(&usual, deadline)? {
            return Ok(usual.namespace);
        }
        let namespaces = self.api.namespaces_of_pool(name, deadline)?;
        Ok(namespaces.into_iter().next().unwrap_or(usual.namespace))
    }
}
