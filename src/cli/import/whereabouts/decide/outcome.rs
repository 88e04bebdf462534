//! What happens with the entries that name one holder: they are recorded only if everything that was
//! read agrees.

use super::super::super::report::Outcome;
use super::super::facts::{Interface, NetworkStatus, Node};
use super::super::found::Found;
use super::super::index::Group;
use super::super::networks::{Definition, KnownNetwork};
use super::{Address, ON_NODE, Seen, WHEN_IT_RUNS, gone, left, no_pod, parse_pod};
use crate::ipam::{Attachment, ContainerId, IfName, NetworkName, NodeName, Part, PodRef, Scope};

impl<'f> Address<'f> {
    /// Returns what an import would record, or why it would not.
    pub(super) fn outcome(&self, group: &Group<'_>, seen: &Seen<'_>) -> Result<Found, Outcome> {
        let Some(holder) = group.holder else {
            return Err(left("its entry is not readable", ON_NODE));
        };
        let recorded = self.facts.recorded.get(self.scope).and_then(|all| all.get(&self.address));
        let is_same = recorded.is_some_and(|record| {
            record.pod.as_ref() == Some(&holder.pod)
                && record.container == holder.container
                && holder.interface.as_ref().is_none_or(|interface| *interface == record.interface)
        });
        if is_same {
            return Err(Outcome::Known);
        }
        let pod = parse_pod(&holder.pod).ok_or_else(|| no_pod(&holder.pod))?;
        if let Some(gone) = gone(seen.pod, "entry") {
            return Err(gone);
        }
        let replaces = recorded.and_then(|record| record.incomplete.clone());
        if let Some(record) = recorded.filter(|_| replaces.is_none()) {
            let who = record
                .pod
                .as_deref()
                .map_or_else(|| "a claim".to_owned(), |pod| format!("pod {pod}"));
            return Err(left(
                format!(
                    "hereabouts has recorded it for {who}, container {}, interface {}",
                    record.container, record.interface
                ),
                format!(
                    "find out which of them has the address; \"hereabouts show {}\" shows the record",
                    self.address
                ),
            ));
        }
        if let Some(rival) = self.rival(group, seen) {
            return Err(left(
                rival,
                "find out which of them has the address, and remove what names the other one",
            ));
        }
        if group.is_of_slice || seen.known().is_some_and(|network| network.has_slices) {
            return Err(left(
                "its network has node_slice_size, and such networks cannot be imported yet",
                "delete the pods of this network before the move",
            ));
        }
        let (node_name, node) = self.node(seen)?;
        let interface = self.interface(seen, holder.interface.as_deref())?;
        let network = self.network(interface, seen)?;
        let not_valid =
            |what: &str, text: &str| left(format!("its {what} is not valid: {text:?}"), ON_NODE);
        let attachment = Attachment {
            node: NodeName::parse(node_name).map_err(|_| not_valid("node", node_name))?,
            network: NetworkName::parse(&network.name)
                .map_err(|_| not_valid("network", &network.name))?,
            container: ContainerId::parse(&holder.container)
                .map_err(|_| not_valid("container ID", &holder.container))?,
            ifname: IfName::parse(&interface.name)
                .map_err(|_| not_valid("interface", &interface.name))?,
        };
        let uid = seen.pod.map(|pod| pod.uid.as_ref().to_owned()).filter(|uid| !uid.is_empty());
        let position = interface.addresses.iter().position(|one| *one == self.address);
        Ok(Found {
            scope: Scope::parse(self.scope).map_err(|_| not_valid("network_name", self.scope))?,
            address: self.address,
            prefix: self.prefix(group, network),
            gateway: network.gateway(self.address),
            attachment,
            pod: PodRef { namespace: pod.0.to_owned(), name: pod.1.to_owned(), uid },
            node_uid: node.uid.as_ref().to_owned(),
            boot_id: node.boot_id.as_ref().to_owned(),
            part: Part { index: 0, of: 1 },
            order: (
                network.position(self.address).unwrap_or(usize::MAX),
                position.unwrap_or(usize::MAX),
            ),
            of_interface: interface.addresses.len(),
            replaces,
        })
    }

    /// Returns who else has the address, in words, unless that pod is gone.
    fn rival(&self, group: &Group<'_>, seen: &Seen<'_>) -> Option<String> {
        let pod = &group.holder?.pod;
        let may_live = |pod: &str| parse_pod(pod).is_none() || self.facts.living(pod).is_some();
        let others = self.claims.groups.iter().filter(|other| !std::ptr::eq(*other, group));
        for other in others {
            let source = other.entries.first().map(|entry| self.facts.source(entry))?;
            match other.holder {
                None => return Some(format!("{source} names it, too, and is not readable")),
                Some(holder) if may_live(&holder.pod) => {
                    return Some(format!(
                        "{source} names it, too: for pod {}, container {}",
                        holder.pod, holder.container
                    ));
                }
                Some(_) => {}
            }
        }
        let mut reserved = self.claims.reservations.iter();
        if let Some(other) = reserved.find(|other| other.pod != *pod && may_live(&other.pod)) {
            return Some(format!("{} reserves it for pod {}", other.source(), other.pod));
        }
        let is_own = |name: &str, interface: &Interface| {
            name == &**pod && seen.interface.is_some_and(|own| std::ptr::eq(own, interface))
        };
        let mut shown = self.claims.shown.iter();
        let other = shown.find(|other| !is_own(other.pod, other.interface))?;
        // An interface that cannot be told apart is no other one.
        if other.pod == pod && seen.interface.is_none() {
            return None;
        }
        Some(format!("pod {} has it, too, on {}", other.pod, other.interface.name))
    }

    /// Returns the node of the pod.
    fn node(&self, seen: &Seen<'f>) -> Result<(&'f str, &'f Node), Outcome> {
        let Some(name) = seen.pod.and_then(|pod| pod.node.as_deref()) else {
            return Err(left("the pod has no node yet", WHEN_IT_RUNS));
        };
        let Some(node) = self.facts.nodes.get(name) else {
            return Err(left(
                format!("the cluster does not have the node {name}"),
                "if the machine is off for good, delete the pod",
            ));
        };
        if node.boot_id.is_empty() {
            return Err(left(format!("the node {name} has not reported its boot ID"), ON_NODE));
        }
        Ok((name, node))
    }

    /// Returns the interface, if the network-status has the address on it.
    fn interface(&self, seen: &Seen<'f>, name: Option<&str>) -> Result<&'f Interface, Outcome> {
        match seen.pod.map(|pod| &pod.status) {
            None | Some(NetworkStatus::Absent) => {
                return Err(left("the pod has no network-status yet", WHEN_IT_RUNS));
            }
            Some(NetworkStatus::Unreadable) => {
                return Err(left("the network-status of the pod is not readable", ON_NODE));
            }
            Some(NetworkStatus::Read(_)) => {}
        }
        match (seen.interface, name) {
            (Some(interface), _) if interface.addresses.contains(&self.address) => Ok(interface),
            (Some(interface), _) => {
                Err(left(format!("the pod has other addresses on {}", interface.name), ON_NODE))
            }
            (None, Some(name)) => {
                Err(left(format!("the pod does not show an interface {name}"), ON_NODE))
            }
            (None, None) => Err(left(
                "the entry names no interface, and not exactly one interface of the pod has the address",
                ON_NODE,
            )),
        }
    }

    /// Returns the network of the interface.
    fn network(&self, interface: &Interface, seen: &Seen<'f>) -> Result<&'f KnownNetwork, Outcome> {
        let name = &interface.network;
        let network = match seen.network {
            Some(Definition::Known(network)) => network,
            Some(Definition::Other(which)) => {
                return Err(left(
                    format!("network {name} has other addresses now: {which}"),
                    ON_NODE,
                ));
            }
            Some(Definition::Unknown(why)) => {
                return Err(left(
                    format!("the configuration of network {name} is not known: {why}"),
                    ON_NODE,
                ));
            }
            None if interface.is_default => {
                return Err(left(
                    "the interface is in the default network, whose configuration is on the nodes",
                    ON_NODE,
                ));
            }
            None => {
                return Err(left(
                    format!(
                        "the NetworkAttachmentDefinition {name}, which names the network, is gone"
                    ),
                    ON_NODE,
                ));
            }
        };
        if network.has_pools {
            return Err(left(
                format!("network {name} takes its addresses from pools now"),
                ON_NODE,
            ));
        }
        if network.network_name != *self.scope {
            return Err(left(
                format!(
                    "network {name} has the network_name {:?} now, and the pool is of {:?}",
                    network.network_name, self.scope
                ),
                "set the network_name of the network to that of the pool",
            ));
        }
        Ok(network)
    }

    /// Returns the prefix length: that of the pool. If several pools have the address, it is that of
    /// the network's range.
    fn prefix(&self, group: &Group<'_>, network: &KnownNetwork) -> u8 {
        let ranges =
            group.entries.iter().filter_map(|entry| self.facts.pools.get(entry.pool)?.range);
        let lengths: Vec<u8> = ranges.map(|range| range.length()).collect();
        let of_network = network.length(self.address);
        let found = lengths.iter().find(|length| Some(**length) == of_network);
        found.or_else(|| lengths.first()).copied().unwrap_or_default()
    }

    /// Returns what an operator should know about an address that would be recorded.
    pub(super) fn notes(&self, seen: &Seen<'_>) -> Vec<String> {
        let mut notes = Vec::new();
        let network = seen.interface.map_or("", |interface| &interface.network);
        match seen.known() {
            Some(KnownNetwork { mistake: Some(mistake), .. }) => notes.push(format!(
                "not compared with the ranges of network {network}, and recorded without gateway: {mistake}"
            )),
            Some(known) if known.position(self.address).is_none() => {
                notes.push(format!("it is outside of the ranges of network {network}"));
            }
            _ => {}
        }
        if seen.pod.is_some_and(|pod| pod.is_ending) {
            notes.push("the pod is being deleted".to_owned());
        }
        notes
    }
}
