//! Whether the API server's pods and nodes say that the holder of an address is gone: a leak
//! candidate.
//!
//! Nothing here frees an address. The API server does not know what runs on a node: a pod that was
//! deleted by force runs on if its node is cut off. Only the node itself knows whether a sandbox is
//! alive (`alive`), and an operator knows whether a machine is off.
//!
//! `hereabouts leaks` and the controller use the same function.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// The time between two looks at one candidate. A sandbox that starts or ends has reached the API
/// server by then: a node reports its status every 10 s, and an ADD or DEL takes at most a minute.
pub const LOOKS_APART: Duration = Duration::from_secs(120);

/// What an IPAllocation says about the attachment that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The address.
    pub address: IpAddr,
    /// The node.
    pub node: Rc<str>,
    /// The uid of the node's Node object, if the ADD knew it.
    pub node_uid: Option<Rc<str>>,
    /// The boot ID of the node. `None` if it came from a file that was mounted over the kernel's
    /// own: the kubelet may then report another one.
    pub boot_id: Option<Rc<str>>,
    /// The interface in the pod.
    pub interface: Rc<str>,
    /// The pod.
    pub pod: Option<HolderPod>,
}

impl Holder {
    /// Returns who it is, for people.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.pod {
            None => format!("an attachment on the node {}", self.node),
            Some(pod) => format!("pod {}/{}", pod.namespace, pod.name),
        }
    }
}

/// The pod of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderPod {
    /// Its namespace.
    pub namespace: Rc<str>,
    /// Its name.
    pub name: Rc<str>,
    /// Its uid, if the runtime passed it.
    pub uid: Option<Rc<str>>,
}

/// What the API server says about a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    /// The uid that the runtime knows. For a static pod it is not the object's own uid.
    pub uid: Rc<str>,
    /// The node on which it is.
    pub node: Option<Rc<str>>,
    /// Whether all its containers have ended for good.
    pub has_ended: bool,
    /// The interfaces of all its networks; `None` if this is not known for certain.
    pub interfaces: Option<Box<[Interface]>>,
}

/// An interface of a pod, as the network-status names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the pod.
    pub name: Rc<str>,
    /// Its addresses.
    pub addresses: Box<[IpAddr]>,
}

/// What the API server says about a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// The uid of the object.
    pub uid: Rc<str>,
    /// The ID of the boot that it reported last.
    pub boot_id: Option<Rc<str>>,
    /// The second at which the object was created, since 1970.
    pub created: Option<u64>,
    /// Whether an operator has said that the machine is off.
    pub is_out_of_service: bool,
}

/// Why an address may have no holder any more. Of several reasons the first one is reported, because
/// it says most about what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// There is no Node of this name or uid.
    NodeGone,
    /// The Node of this name is another object, of another machine or another boot.
    NodeReplaced,
    /// The node has booted since.
    NodeBooted,
    /// There is no pod of this name.
    PodGone,
    /// The pod of this name is another one.
    PodReplaced,
    /// The pod has ended.
    PodEnded,
    /// The pod runs, and its network-status has other addresses.
    NotInStatus,
}

impl Evidence {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::NodeGone,
        Self::NodeReplaced,
        Self::NodeBooted,
        Self::PodGone,
        Self::PodReplaced,
        Self::PodEnded,
        Self::NotInStatus,
    ];

    /// Returns the word for JSON and for metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NodeGone => "node-gone",
            Self::NodeReplaced => "node-replaced",
            Self::NodeBooted => "node-booted",
            Self::PodGone => "pod-gone",
            Self::PodReplaced => "pod-replaced",
            Self::PodEnded => "pod-ended",
            Self::NotInStatus => "not-in-status",
        }
    }

    /// Returns the evidence for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NodeGone => "the node is gone",
            Self::NodeReplaced => "another node has this name now",
            Self::NodeBooted => "the node has booted since",
            Self::PodGone => "the pod is gone",
            Self::PodReplaced => "another pod has this name now",
            Self::PodEnded => "the pod has ended",
            Self::NotInStatus => "the pod has other addresses",
        }
    }
}

/// All pods and nodes of a cluster, as far as they are needed.
#[derive(Debug, Default)]
pub struct Cluster {
    pods: HashMap<Rc<str>, HashMap<Rc<str>, Pod>>,
    nodes: HashMap<Rc<str>, Node>,
    /// The names of nodes, by uid.
    names: HashMap<Rc<str>, Rc<str>>,
}

/// The names of nodes on which a pod that holds an address lives. Such a node is not gone, even if
/// no Node has this name: hereabouts may know it by another name than the API server.
pub type LivingNodes = HashSet<Rc<str>>;

impl Cluster {
    /// Notes a pod, in place of an earlier one of its name.
    pub fn put_pod(&mut self, namespace: &str, name: &str, pod: Pod) {
        let pods = match self.pods.get_mut(namespace) {
            Some(pods) => pods,
            None => self.pods.entry(namespace.into()).or_default(),
        };
        match pods.get_mut(name) {
            Some(known) => *known = pod,
            None => drop(pods.insert(name.into(), pod)),
        }
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        if let Some(pods) = self.pods.get_mut(namespace) {
            pods.remove(name);
            if pods.is_empty() {
                self.pods.remove(namespace);
            }
        }
    }

    /// Notes a node, in place of an earlier one of its name.
    pub fn put_node(&mut self, name: &str, node: Node) {
        self.remove_node(name);
        let name: Rc<str> = name.into();
        self.names.insert(Rc::clone(&node.uid), Rc::clone(&name));
        self.nodes.insert(name, node);
    }

    /// Forgets a node.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.remove(name) {
            self.names.remove(&node.uid);
        }
    }

    /// Forgets the pods that are not to be kept, by namespace and name.
    pub fn retain_pods(&mut self, keep: &dyn Fn(&str, &str) -> bool) {
        self.pods.retain(|namespace, pods| {
            pods.retain(|name, _| keep(namespace, name));
            !pods.is_empty()
        });
    }

    /// Forgets the nodes that are not to be kept, by name.
    pub fn retain_nodes(&mut self, keep: &dyn Fn(&str) -> bool) {
        self.nodes.retain(|name, _| keep(name));
        self.names.retain(|_, name| keep(name));
    }

    /// Returns the nodes that are out of service, each with its name.
    pub fn out_of_service(&self) -> impl Iterator<Item = (&Rc<str>, &Node)> {
        self.nodes.iter().filter(|(_, node)| node.is_out_of_service)
    }

    /// Returns the name of the node with this uid.
    #[must_use]
    pub fn named(&self, uid: &str) -> Option<Rc<str>> {
        self.names.get(uid).cloned()
    }

    /// Returns whether a node reports this boot.
    #[must_use]
    pub fn reports(&self, boot: &str) -> bool {
        self.nodes.values().any(|node| node.boot_id.as_deref() == Some(boot))
    }

    /// Returns whether the pod of a holder is there, and has not ended.
    #[must_use]
    pub fn has_living_pod(&self, holder: &Holder) -> bool {
        self.living_pod(holder).is_some()
    }

    /// Returns the names of the nodes on which a pod of these holders lives.
    pub fn living_nodes<'h>(&self, holders: impl Iterator<Item = &'h Holder>) -> LivingNodes {
        let mut living = LivingNodes::new();
        for holder in holders {
            if !living.contains(&holder.node)
                && let Some(pod) = self.living_pod(holder)
                && pod.node.as_ref().is_some_and(|node| self.nodes.contains_key(node))
            {
                living.insert(Rc::clone(&holder.node));
            }
        }
        living
    }

    /// Returns why the address may have no holder any more. `None`: nothing speaks against its
    /// holder.
    #[must_use]
    pub fn evidence(&self, holder: &Holder, living: &LivingNodes) -> Option<Evidence> {
        self.evidence_of_node(holder, living).or_else(|| self.evidence_of_pod(holder))
    }

    fn evidence_of_node(&self, holder: &Holder, living: &LivingNodes) -> Option<Evidence> {
        let of_uid = holder.node_uid.as_ref().and_then(|uid| self.names.get(uid));
        let of_uid = of_uid.and_then(|name| self.nodes.get(name));
        let boots = |node: &Node| holder.boot_id.clone().zip(node.boot_id.clone());
        let has_booted = |node: &Node| boots(node).is_some_and(|(then, now)| then != now);
        match (of_uid, self.nodes.get(&holder.node)) {
            (Some(node), _) => has_booted(node).then_some(Evidence::NodeBooted),
            (None, Some(node)) if holder.node_uid.is_none() => {
                has_booted(node).then_some(Evidence::NodeBooted)
            }
            // A Node that somebody deleted and the kubelet made again: the machine has not changed.
            (None, Some(node)) if boots(node).is_some_and(|(then, now)| then == now) => None,
            (None, Some(_)) => Some(Evidence::NodeReplaced),
            (None, None) if living.contains(&holder.node) => None,
            (None, None) if self.living_pod(holder).is_some() => None,
            (None, None) => Some(Evidence::NodeGone),
        }
    }

    fn evidence_of_pod(&self, holder: &Holder) -> Option<Evidence> {
        let named = holder.pod.as_ref()?;
        let Some(pod) = self.pod(named) else {
            return Some(Evidence::PodGone);
        };
        if named.uid.as_ref().is_some_and(|uid| *uid != pod.uid) {
            return Some(Evidence::PodReplaced);
        }
        if pod.has_ended {
            return Some(Evidence::PodEnded);
        }
        let interfaces = pod.interfaces.as_deref()?;
        has_other_addresses(interfaces, holder).then_some(Evidence::NotInStatus)
    }

    fn pod(&self, named: &HolderPod) -> Option<&Pod> {
        self.pods.get(&named.namespace)?.get(&named.name)
    }

    fn living_pod(&self, holder: &Holder) -> Option<&Pod> {
        let named = holder.pod.as_ref()?;
        let is_it = |pod: &&Pod| named.uid.as_ref().is_none_or(|uid| *uid == pod.uid);
        self.pod(named).filter(is_it).filter(|pod| !pod.has_ended)
    }
}

/// Returns whether the interfaces of a pod have addresses, and this one is not among them. Some main
/// plugins do not report the addresses of their interface: then nothing is known about it.
fn has_other_addresses(interfaces: &[Interface], holder: &Holder) -> bool {
    if interfaces.iter().any(|interface| interface.addresses.contains(&holder.address)) {
        return false;
    }
    let is_family = |address: &IpAddr| address.is_ipv4() == holder.address.is_ipv4();
    match interfaces.iter().find(|interface| interface.name == holder.interface) {
        Some(interface) => interface.addresses.iter().any(is_family),
        None => interfaces.iter().any(|interface| !interface.addresses.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> Holder {
        Holder {
            address: "10.0.0.5".parse().unwrap(),
            node: "n1".into(),
            node_uid: Some("node-1".into()),
            boot_id: Some("boot-1".into()),
            interface: "net1".into(),
            pod: Some(HolderPod {
                namespace: "default".into(),
                name: "web-0".into(),
                uid: Some("pod-1".into()),
            }),
        }
    }

    fn pod() -> Pod {
        let interface = |name: &str, address: &str| Interface {
            name: name.into(),
            addresses: [address.parse().unwrap()].into(),
        };
        Pod {
            uid: "pod-1".into(),
            node: Some("n1".into()),
            has_ended: false,
            interfaces: Some(
                [interface("eth0", "10.244.0.5"), interface("net1", "10.0.0.5")].into(),
            ),
        }
    }

    fn node(uid: &str, boot_id: &str) -> Node {
        Node { uid: uid.into(), boot_id: Some(boot_id.into()), ..Node::default() }
    }

    fn cluster(pod: Option<Pod>, nodes: &[(&str, Node)]) -> Cluster {
        let mut cluster = Cluster::default();
        if let Some(pod) = pod {
            cluster.put_pod("default", "web-0", pod);
        }
        nodes.iter().for_each(|(name, node)| cluster.put_node(name, node.clone()));
        cluster
    }

    fn words(cluster: &Cluster, holder: &Holder) -> &'static str {
        let living = cluster.living_nodes([holder].into_iter());
        cluster.evidence(holder, &living).map_or("-", Evidence::word)
    }

    #[test]
    fn evidence_of_the_pod() {
        let there = [("n1", node("node-1", "boot-1"))];
        let of = |pod: Option<Pod>, holder: &Holder| words(&cluster(pod, &there), holder);
        let (held, without_uid) = (holder(), {
            let mut holder = holder();
            holder.pod.as_mut().unwrap().uid = None;
            holder
        });
        let other = || Pod { uid: "pod-2".into(), ..pod() };
        assert_eq!(of(Some(pod()), &held), "-");
        assert_eq!(of(None, &held), "pod-gone");
        assert_eq!(of(Some(other()), &held), "pod-replaced");
        assert_eq!(of(Some(other()), &without_uid), "-");
        assert_eq!(of(None, &without_uid), "pod-gone");
        assert_eq!(of(Some(Pod { has_ended: true, ..pod() }), &held), "pod-ended");
        // Without a pod there is only the node.
        assert_eq!(of(None, &Holder { pod: None, ..holder() }), "-");
    }

    #[test]
    fn evidence_of_the_network_status() {
        let there = [("n1", node("node-1", "boot-1"))];
        let of = |interfaces: Option<&[(&str, &[&str])]>| {
            let interfaces = interfaces.map(|all| {
                let one = |(name, addresses): &(&str, &[&str])| Interface {
                    name: (*name).into(),
                    addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
                };
                all.iter().map(one).collect()
            });
            words(&cluster(Some(Pod { interfaces, ..pod() }), &there), &holder())
        };
        let main = ("eth0", &["10.244.0.5"][..]);
        assert_eq!(of(None), "-");
        assert_eq!(of(Some(&[])), "-");
        assert_eq!(of(Some(&[main, ("net1", &["10.0.0.6"])])), "not-in-status");
        assert_eq!(of(Some(&[main, ("net1", &["10.0.0.6", "10.0.0.5"])])), "-");
        assert_eq!(of(Some(&[main, ("net2", &["10.0.0.5"])])), "-");
        assert_eq!(of(Some(&[main, ("net2", &["10.0.0.6"])])), "not-in-status");
        // A main plugin that does not report what it got, or only one family of it.
        assert_eq!(of(Some(&[main, ("net1", &[])])), "-");
        assert_eq!(of(Some(&[main, ("net1", &["fd00::5"])])), "-");
    }

    #[test]
    fn evidence_of_the_node() {
        let of = |nodes: &[(&str, Node)], holder: &Holder| words(&cluster(None, nodes), holder);
        let (held, old) = (holder(), Holder { node_uid: None, ..holder() });
        for (nodes, with_uid, without_uid) in [
            (&[][..], "node-gone", "node-gone"),
            (&[("n1", node("node-1", "boot-1"))], "pod-gone", "pod-gone"),
            (&[("n1", node("node-1", "boot-2"))], "node-booted", "node-booted"),
            // Another machine of the same name.
            (&[("n1", node("node-2", "boot-2"))], "node-replaced", "node-booted"),
            // The Node was deleted, and the kubelet has made it again.
            (&[("n1", node("node-2", "boot-1"))], "pod-gone", "pod-gone"),
            // The API server has another name for this node.
            (&[("n1.example", node("node-1", "boot-1"))], "pod-gone", "node-gone"),
            (&[("n1", Node { uid: "node-1".into(), ..Node::default() })], "pod-gone", "pod-gone"),
            (
                &[("n1", Node { uid: "node-2".into(), ..Node::default() })],
                "node-replaced",
                "pod-gone",
            ),
        ] {
            assert_eq!([of(nodes, &held), of(nodes, &old)], [with_uid, without_uid], "{nodes:?}");
        }
        // A boot ID that came from a mounted file cannot be compared.
        let mounted = Holder { boot_id: None, ..holder() };
        assert_eq!(of(&[("n1", node("node-1", "boot-2"))], &mounted), "pod-gone");
    }

    /// Otherwise each pod of such a cluster would be a candidate, and the advice would be to release
    /// everything that the node holds.
    #[test]
    fn a_node_on_which_a_pod_lives_is_not_gone_whatever_its_name() {
        let named = Pod { node: Some("n1.example".into()), ..pod() };
        let mut cluster = cluster(Some(named), &[("n1.example", node("node-1", "boot-1"))]);
        let old = Holder { node_uid: None, ..holder() };
        let mut gone = old.clone();
        gone.pod.as_mut().unwrap().name = "web-1".into();
        let living = cluster.living_nodes([&old, &gone].into_iter());
        assert_eq!(cluster.evidence(&old, &living), None);
        assert_eq!(cluster.evidence(&gone, &living), Some(Evidence::PodGone));
        // A pod whose object is still there is not on a living node if that node is gone.
        cluster.remove_node("n1.example");
        let living = cluster.living_nodes([&old, &gone].into_iter());
        assert_eq!(cluster.evidence(&old, &living), None);
        assert_eq!(cluster.evidence(&gone, &living), Some(Evidence::NodeGone));
    }
}
