//! Takes the objects of the API apart and keeps of each what the decision needs.

use super::facts::{
    Entry, EntryHolder, Facts, Interface, NetworkStatus, Node, OurReservation, Ours, Pod, Pool,
    Recorded, Reservation,
};
use super::networks::Definition;
use super::objects::{
    AllocatedObject, POOLS, PodObject, RESERVATIONS, SLICES, SlicesObject, StatusEntry,
};
use crate::addr::{Subnet, parse_address};
use crate::cli::cluster_lists::{ALLOCATIONS, DEFINITIONS, NODES, PODS};
use crate::ipam::{Texts, Version};
use crate::store::kube::objects::evidence::{Identity, NodeObject};
use crate::store::kube::objects::ip_allocation::Namespace;
use crate::whereabouts::names::{self, SlicePool};
use crate::whereabouts::objects::{AllocationObject, PoolObject, ReservationObject};
use crate::whereabouts::range::{NoAddress, PoolRange};
use serde::Deserialize;
use std::collections::HashSet;
use std::net::IpAddr;
use std::rc::Rc;

/// What Whereabouts itself has noted.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) pools: Vec<Pool>,
    pub(super) entries: Vec<Entry>,
    pub(super) reservations: Vec<Reservation>,
    /// What nodes of hereabouts have written in a move.
    pub(super) ours: Vec<Ours>,
    pub(super) our_reservations: Vec<OurReservation>,
}

impl Noted {
    /// Adds an IPPool.
    pub(super) fn pool(&mut self, item: &str, texts: &mut Texts) -> anyhow::Result<()> {
        let object: PoolObject<'_> = POOLS.parse(item)?;
        let text = object.spec.range.unwrap_or_default();
        let range = PoolRange::parse(&text);
        let pool = self.pools.len();
        for (key, value) in object.spec.allocations.unwrap_or_default() {
            let address = range.map_or(Err(NoAddress::NoRange), |range| range.address(&key));
            let holder = serde_json::from_str::<AllocationObject<'_>>(value.get()).ok();
            if let Some(holder) = holder.as_ref().filter(|one| is_guarded(one.ifname.as_deref())) {
                let uid = holder.id.as_deref().unwrap_or_default().into();
                let pod = texts.shared(holder.podref.as_deref().unwrap_or_default());
                self.ours.push(Ours { pool, key: key.into(), uid, pod });
                continue;
            }
            let holder = holder.map(|holder| EntryHolder {
                container: holder.id.unwrap_or_default().into(),
                pod: texts.shared(&holder.podref.unwrap_or_default()),
                interface: given(holder.ifname.as_deref(), texts),
            });
            self.entries.push(Entry { pool, key: key.into(), address, holder });
        }
        let namespace = texts.shared(&object.metadata.namespace);
        self.pools.push(Pool { namespace, name: object.metadata.name, text, range });
        Ok(())
    }

    /// Adds an OverlappingRangeIPReservation.
    pub(super) fn reservation(&mut self, item: &str, texts: &mut Texts) -> anyhow::Result<()> {
        let object: ReservationObject = RESERVATIONS.parse(item)?;
        if is_guarded(object.spec.ifname.as_deref()) {
            self.our_reservations.push(OurReservation {
                namespace: texts.shared(&object.metadata.namespace),
                name: object.metadata.name.into(),
                uid: object.spec.containerid.unwrap_or_default().into(),
            });
            return Ok(());
        }
        self.reservations.push(Reservation {
            namespace: texts.shared(&object.metadata.namespace),
            name: object.metadata.name,
            pod: texts.shared(object.spec.podref.as_deref().unwrap_or_default()),
            interface: given(object.spec.ifname.as_deref(), texts),
        });
        Ok(())
    }
}

/// Everything that was read so far.
pub(super) struct Reading {
    pub(super) facts: Facts,
    texts: Texts,
    /// The pods that an entry or a reservation names.
    named: HashSet<Rc<str>>,
    /// The addresses whose records matter.
    addresses: HashSet<IpAddr>,
}

impl Reading {
    /// Begins with what Whereabouts has noted.
    pub(super) fn new(noted: Noted) -> Self {
        let Noted { pools, entries, reservations, ours, our_reservations } = noted;
        let of_entries = entries.iter().filter_map(|entry| Some(&entry.holder.as_ref()?.pod));
        let of_reservations = reservations.iter().map(|reservation| &reservation.pod);
        let named = of_entries.chain(of_reservations).map(Rc::clone).collect();
        let facts =
            Facts { pools, entries, reservations, ours, our_reservations, ..Facts::default() };
        Self { facts, texts: Texts::default(), named, addresses: HashSet::new() }
    }

    /// Adds a NodeSlicePool.
    pub(super) fn slice_pool(&mut self, item: &str) -> anyhow::Result<()> {
        let object: SlicesObject = SLICES.parse(item)?;
        let slices = object.status.allocations.unwrap_or_default();
        let slices = slices.into_iter().filter_map(|slice| {
            let node = slice.node_name.filter(|node| !node.is_empty())?;
            Some((node, slice.slice_range?))
        });
        let range = object.spec.range.and_then(|range| Subnet::parse(&range).ok());
        let pool = SlicePool { name: object.metadata.name, range, slices: slices.collect() };
        self.facts.slice_pools.push(pool);
        Ok(())
    }

    /// Adds a NetworkAttachmentDefinition.
    pub(super) fn network(&mut self, item: &str) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Head {
            metadata: Identity,
        }
        let Head { metadata } = DEFINITIONS.parse(item)?;
        let name = format!("{}/{}", metadata.namespace, metadata.name);
        self.facts.networks.insert(name.into(), Definition::read(item));
        Ok(())
    }

    /// Adds a Node.
    pub(super) fn node(&mut self, item: &str) -> anyhow::Result<()> {
        let object: NodeObject = NODES.parse(item)?;
        let node = object.node();
        let boot_id = node.boot_id.unwrap_or_else(|| "".into());
        let name = object.metadata.name.as_str().into();
        self.facts.nodes.insert(name, Node { uid: node.uid, boot_id });
        Ok(())
    }

    /// Adds a Pod, if it matters.
    pub(super) fn pod(&mut self, item: &str) -> anyhow::Result<()> {
        let object: PodObject = PODS.parse(item)?;
        let name = format!("{}/{}", object.metadata.namespace, object.metadata.name);
        let pod = pod(object, &mut self.texts);
        let is_of_known = |interface: &Interface| {
            matches!(self.facts.networks.get(&interface.network), Some(Definition::Known(_)))
        };
        // Of a pod without a status, nobody knows what it has.
        let is_unknown = !matches!(pod.status, NetworkStatus::Read(_));
        if is_unknown || self.named.contains(&*name) || pod.interfaces().iter().any(is_of_known) {
            self.facts.pods.insert(name.into(), pod);
        }
        Ok(())
    }

    /// Notes whose records matter: those of the addresses that Whereabouts has given or that pods
    /// show. A cluster may have many others.
    pub(super) fn expect_records(&mut self) {
        let facts = &self.facts;
        let of_entries = facts.entries.iter().filter_map(|entry| entry.address.ok());
        let of_pods = facts.pods.values().flat_map(Pod::interfaces);
        let of_pods = of_pods.flat_map(|interface| interface.addresses.iter().copied());
        let of_reservations = facts.reservations.iter().flat_map(|reserved| {
            names::reserved(&reserved.name).into_iter().map(|(_, address)| address)
        });
        self.addresses = of_entries.chain(of_reservations).chain(of_pods).collect();
    }

    /// Adds an IPAllocation, if it matters. Imported ones always do: their pods may have ended since.
    pub(super) fn record(&mut self, item: &str) -> anyhow::Result<()> {
        let AllocatedObject { metadata, spec } = ALLOCATIONS.parse(item)?;
        let is_incomplete = spec.netns.as_ref().is_some_and(Namespace::is_unseen);
        let address = parse_address(&spec.address).ok();
        let matters = |address: &IpAddr| is_incomplete || self.addresses.contains(address);
        let Some(address) = address.filter(matters) else { return Ok(()) };
        let texts = &mut self.texts;
        let pod = spec.pod_ref.map(|pod| texts.shared(&format!("{}/{}", pod.namespace, pod.name)));
        let record = Recorded {
            pod,
            container: spec.container_id.unwrap_or_default().into(),
            interface: texts.shared(spec.interface.as_deref().unwrap_or_default()),
            node: texts.shared(&spec.node),
            incomplete: is_incomplete.then(|| Version {
                uid: metadata.uid,
                revision: metadata.resource_version,
                newer: Vec::new(),
            }),
        };
        let scope = texts.shared(spec.scope.as_deref().unwrap_or_default());
        self.facts.recorded.entry(scope).or_default().insert(address, record);
        Ok(())
    }
}

/// Returns whether a node of hereabouts wrote an entry or a reservation.
fn is_guarded(interface: Option<&str>) -> bool {
    interface.is_some_and(crate::store::kube::moving::is_guarded)
}

/// Returns a text that is not empty.
fn given(text: Option<&str>, texts: &mut Texts) -> Option<Rc<str>> {
    text.filter(|text| !text.is_empty()).map(|text| texts.shared(text))
}

fn pod(object: PodObject, texts: &mut Texts) -> Pod {
    let PodObject { metadata, spec, status } = object;
    Pod {
        uid: metadata.annotations.uid(&metadata.uid).into(),
        node: given(spec.node_name.as_deref(), texts),
        has_ended: ["Succeeded", "Failed"].contains(&status.phase.as_str()),
        is_ending: metadata.deletion_timestamp.is_some(),
        status: match metadata.annotations.network_status.as_deref() {
            None | Some("") => NetworkStatus::Absent,
            Some(text) => network_status(text, texts),
        },
    }
}

fn network_status(text: &str, texts: &mut Texts) -> NetworkStatus {
    let Ok(entries) = serde_json::from_str::<Vec<StatusEntry>>(text) else {
        return NetworkStatus::Unreadable;
    };
    let interfaces = entries.into_iter().map(|entry| {
        let addresses = entry.ips.unwrap_or_default();
        // Other plugins than Multus write prefix lengths.
        let plain = |text: &String| parse_address(text.split('/').next().unwrap_or_default()).ok();
        Interface {
            name: texts.shared(&entry.interface.unwrap_or_default()),
            network: texts.shared(&entry.name.unwrap_or_default()),
            is_default: entry.default.unwrap_or_default(),
            addresses: addresses.iter().filter_map(plain).collect(),
        }
    });
    NetworkStatus::Read(interfaces.collect())
}
