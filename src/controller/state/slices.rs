//! The slices of pools, and the nodes that own them.

use super::{Kind, Name, PoolState, State, Version, Work};
use crate::addr::Subnet;
use crate::controller::overview::SliceNumbers;
use crate::controller::pool::{PoolId, PoolKind};
use crate::controller::shapes::SliceObject;
use crate::ipam::Block;
use crate::store::kube::objects::ip_slice_status::{self, Status};
use crate::store::slices::SliceHolder;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

/// A slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Which slice, and which state of it.
    pub version: Version,
    /// The name of the pool.
    pub pool: Rc<str>,
    /// The addresses.
    pub block: Block,
    /// The node that owns it.
    pub node: Rc<str>,
    /// Whether the token of the node named a Node when it got the slice.
    pub has_node_uid: bool,
    /// The boot in which the node uses it.
    pub boot: Rc<str>,
    /// When an operator released it. Nobody gives addresses from it then.
    pub released: Option<Rc<str>>,
    /// What its node has published.
    pub published: Option<Rc<Published>>,
}

/// What a node has published about a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// When.
    pub at: SystemTime,
    /// How many addresses are held.
    pub count: u32,
    /// The holders, as the lines of the status: as names and addresses they would take three times
    /// the memory.
    lines: Box<[Box<str>]>,
}

impl Published {
    fn of(status: &Status) -> Option<Self> {
        let (number, lines) = (status.number()?, status.held.iter());
        let lines = lines.map(|line| line.as_str().into()).collect();
        Some(Self { at: number.at, count: number.count, lines })
    }
}

/// The first address of a slice and the name of its object. Slices are shown in this order.
type Place = (Option<IpAddr>, Rc<str>);

/// All slices.
#[derive(Debug, Default)]
pub(super) struct Slices {
    known: HashMap<Rc<str>, Slice>,
    /// The slices of a pool.
    of_pools: HashMap<Rc<str>, BTreeSet<Place>>,
}

impl Slices {
    /// Returns the names of those that are known and were not seen.
    pub(super) fn missing(&self, seen: &HashSet<Name>) -> Vec<Name> {
        let names = self.known.keys().map(|name| Name { namespace: "".into(), name: name.clone() });
        names.filter(|name| !seen.contains(name)).collect()
    }

    fn remove(&mut self, name: &str) -> Option<Slice> {
        let (name, slice) = self.known.remove_entry(name)?;
        if let Some(names) = self.of_pools.get_mut(&slice.pool) {
            names.remove(&(slice.block.first(), name));
            if names.is_empty() {
                self.of_pools.remove(&slice.pool);
            }
        }
        Some(slice)
    }

    fn insert(&mut self, name: &Rc<str>, slice: Slice) {
        let names = self.of_pools.entry(Rc::clone(&slice.pool)).or_default();
        names.insert((slice.block.first(), Rc::clone(name)));
        self.known.insert(Rc::clone(name), slice);
    }
}

impl Slice {
    fn of(object: &SliceObject) -> Self {
        let spec = &object.spec;
        let status = object.status.as_ref().and_then(|status| status.0.as_ref());
        let subnet = |text: &str| Subnet::parse(text).ok();
        Self {
            version: Version::of(&object.metadata),
            pool: spec.pool.as_str().into(),
            block: Block { v4: subnet(&spec.ipv4), v6: subnet(&spec.ipv6) },
            node: spec.node.as_str().into(),
            has_node_uid: spec.node_uid.is_some(),
            boot: spec.boot_id.as_str().into(),
            released: spec.released.as_deref().map(Into::into),
            published: status.and_then(Published::of).map(Rc::new),
        }
    }

    /// Returns the addresses of the slice that are held, with their holders, in the order of the
    /// status.
    pub fn held(&self) -> impl Iterator<Item = (IpAddr, Rc<SliceHolder>)> {
        let lines = self.published.iter().flat_map(|published| &published.lines);
        let holders = lines.filter_map(|line| ip_slice_status::parse(line)).map(Rc::new);
        holders.flat_map(|holder| {
            let addresses = holder.addresses.clone().into_iter();
            // Only what is in the slice: the status is a text that its node has written.
            let own = addresses.filter(|address| self.block.contains(*address));
            own.map(move |address| (address, Rc::clone(&holder))).collect::<Vec<_>>()
        })
    }
}

impl State {
    /// Notes a slice. Returns what to look at: nothing, if its node only wrote another boot.
    pub fn apply_slice(&mut self, object: &SliceObject) -> Vec<Work> {
        let name = Name::of(&object.metadata).name;
        let slice = Slice::of(object);
        let before = self.slices.remove(&name);
        let (pool, is_released) = (Rc::clone(&slice.pool), slice.released.is_some());
        self.slices.insert(&name, slice);
        let changed = match before {
            Some(before) if before.pool == pool => {
                (before.released.is_some() != is_released).then_some(pool).into_iter().chain(None)
            }
            // An object of this name had another pool only if it was deleted in the meantime.
            before => Some(pool).into_iter().chain(before.map(|before| before.pool)),
        };
        changed.filter_map(|pool| self.look_at_own(&pool)).collect()
    }

    pub(super) fn remove_slice(&mut self, name: &str) -> Vec<Work> {
        let gone = self.slices.remove(name);
        gone.and_then(|gone| self.look_at_own(&gone.pool)).into_iter().collect()
    }

    /// Returns whether all slices have been read, or there can be none.
    #[must_use]
    pub fn has_read_slices(&self) -> bool {
        self.read.contains(&Kind::Slices)
    }

    /// Returns the slices of an IPPool of hereabouts that nodes own or that were released, in the
    /// order of their addresses.
    pub fn slices_of(&self, pool: &str) -> impl Iterator<Item = &Slice> {
        let names = self.slices.of_pools.get(pool).into_iter().flatten();
        names.filter_map(|(_, name)| self.slices.known.get(name))
    }

    /// Returns the slice of a pool whose first address this is.
    #[must_use]
    pub fn slice_at(&self, pool: &str, first: IpAddr) -> Option<&Slice> {
        self.slices_of(pool).find(|slice| slice.block.first() == Some(first))
    }

    /// Returns the names of the objects of all slices, in the order of pool and address.
    #[must_use]
    pub fn slice_names(&self) -> Vec<Rc<str>> {
        let mut pools: Vec<_> = self.slices.of_pools.iter().collect();
        pools.sort_unstable_by_key(|(pool, _)| Rc::clone(pool));
        pools.into_iter().flat_map(|(_, names)| names).map(|(_, name)| Rc::clone(name)).collect()
    }

    /// Returns a slice.
    #[must_use]
    pub fn slice(&self, name: &str) -> Option<&Slice> {
        self.slices.known.get(name)
    }

    /// Returns the slices that were released, each with the name of its object, in no order.
    pub fn released_slices(&self) -> impl Iterator<Item = (&Rc<str>, &Slice)> {
        self.slices.known.iter().filter(|(_, slice)| slice.released.is_some())
    }

    /// Returns the slices of a pool in numbers. `None` for a pool without slices or with a mistake,
    /// and before all slices have been read.
    #[must_use]
    pub fn slice_numbers(&self, id: &PoolId, pool: &PoolState) -> Option<SliceNumbers> {
        let total = pool.own.as_ref()?.slices.filter(|_| self.has_read_slices())?;
        let mut numbers = SliceNumbers { total, ..SliceNumbers::default() };
        for slice in self.slices_of(&id.name) {
            match slice.released {
                Some(_) => numbers.released += 1,
                None => numbers.owned += 1,
            }
            match &slice.published {
                Some(published) => numbers.held += u64::from(published.count),
                None => numbers.unpublished += 1,
            }
        }
        Some(numbers)
    }

    /// Returns a look at each pool with slices. Before everything has been read, there is none: then
    /// everything is looked at.
    pub(super) fn pools_with_slices(&self) -> Vec<Work> {
        let sliced = self.pools.iter().filter(|(_, pool)| pool.scope.is_of_slices());
        let work = sliced.filter(|_| self.is_synced()).map(|(id, _)| Work::Pool(Rc::clone(id)));
        work.collect()
    }

    fn look_at_own(&self, name: &str) -> Option<Work> {
        if !self.is_synced() {
            return None;
        }
        let id = PoolId { kind: PoolKind::Own, namespace: String::new(), name: name.to_owned() };
        self.pools.get_key_value(&id).map(|(id, _)| Work::Pool(Rc::clone(id)))
    }
}
