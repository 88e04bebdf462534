//! The Kubernetes store on a real API server: two nodes, each with its own files. Other tests share
//! the server, so each sequence has its own nodes and scopes, and frees everything that it made.

mod beliefs;

use super::claims::{Asked, Promise, lowest};
use super::world::{Move, Names, World};
use super::{Held, Key, Run, boot_id, deadline, key, steps};
use crate::conformance::host;
use crate::support::cluster::Cluster;
use crate::support::nodes::own_name;
use beliefs::Beliefs;
use hereabouts::api_client::client::Client;
use hereabouts::api_client::http::{Answer, Method, Request};
use hereabouts::environment::ProxyVariables;
use hereabouts::ipam::{Allocation, AllocationOrder, Attachment, NodeName, Record, Version};
use hereabouts::store::kube::KubeStore;
use hereabouts::store::kube::objects::ip_allocation::IpAllocation;
use hereabouts::store::node_identity::NodeIdentity;
use hereabouts::store::{Access, Filter, Store};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An input takes longer than on files: "full" alone takes 0.2 s.
const MOST_STEPS: usize = 40;

/// Runs one sequence. Each order is used for half of the inputs.
pub(in crate::fuzz) fn check(cluster: &'static Cluster, root: &Path, input: &[u8]) -> String {
    let mut steps = steps(input);
    steps.truncate(MOST_STEPS);
    let order =
        if input.len().is_multiple_of(2) { AllocationOrder::Lowest } else { AllocationOrder::Auto };
    let _ = std::fs::remove_dir_all(root);
    let played = Run::new(Box::new(Nodes::new(cluster, root.to_owned(), order))).play(&steps);
    format!("{order:?} {played}")
}

struct Nodes {
    cluster: &'static Cluster,
    /// A directory for each node.
    root: PathBuf,
    order: AllocationOrder,
    names: Names,
    boot: usize,
    stores: Vec<KubeStore>,
    beliefs: RefCell<Vec<Beliefs>>,
    kubectl: Client,
}

impl Nodes {
    fn new(cluster: &'static Cluster, root: PathBuf, order: AllocationOrder) -> Self {
        let own = own_name("verbs");
        let of = |words: [&str; 2]| words.map(|word| format!("{own}-{word}"));
        let nodes = of(["n1", "n2"]);
        let scopes = [own.clone(), format!("{own}-blue"), format!("{own}/b")];
        let names = Names::new(
            &nodes.each_ref().map(|name| &**name),
            &scopes.each_ref().map(|name| &**name),
        );
        let beliefs = RefCell::new(nodes.iter().map(|_| Beliefs::default()).collect());
        let mut new = Self {
            cluster,
            root,
            order,
            names,
            boot: 0,
            stores: Vec::new(),
            beliefs,
            kubectl: client(cluster),
        };
        new.reopen();
        new
    }

    fn data(&self, node: usize) -> PathBuf {
        self.root.join(&self.names.nodes[node])
    }

    fn open(&self, node: usize) -> KubeStore {
        let host = NodeIdentity { boot_id: boot_id(self.boot), ..host(&self.names.nodes[node]) };
        KubeStore::new(client(self.cluster), &self.data(node), host, self.order)
    }

    fn node_of(&self, attachment: &Attachment) -> Option<usize> {
        self.names.nodes.iter().position(|node| *node == attachment.node.as_str())
    }

    /// Changes an object as an operator does, without a condition.
    fn write(&self, held: &Allocation, method: Method, content: Option<(&str, &[u8])>) -> Answer {
        let name = IpAllocation::new(&held.scope, held.address, &held.record, None).metadata.name;
        let path = format!("/apis/hereabouts.dev/v1alpha1/ipallocations/{name}");
        let request = Request { method, path: &path, accept: "application/json", content };
        let answer = self.kubectl.call(&request, Duration::from_secs(20)).unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer
    }

    /// Returns whether a candidate that the node recorded before its last boot still exists.
    fn has_earlier_boots(&self, asked: &Asked<'_>) -> bool {
        let node = NodeName::parse(&self.names.nodes[asked.node]).ok();
        let filter = Filter { node, scope: Some(asked.scope.clone()), ..Filter::default() };
        let mut listed = self.stores[asked.node].list(&filter).unwrap().map(Result::unwrap);
        listed.any(|listed| {
            asked.candidates().contains(listed.address) && listed.record.boot_id != asked.boot
        })
    }
}

fn client(cluster: &Cluster) -> Client {
    Client::open(&cluster.kubeconfig(), &ProxyVariables::default()).unwrap()
}

impl World for Nodes {
    fn names(&self) -> &Names {
        &self.names
    }

    fn store(&self, node: usize) -> &dyn Store {
        &self.stores[node]
    }

    fn is_alone(&self) -> bool {
        false
    }

    /// Promises a free candidate: the lowest one, as far as this node can know. If there is none,
    /// the node frees those that it recorded before its last boot, unless it has just reported that
    /// all are held.
    fn promise(&self, held: &mut Held, asked: &Asked<'_>) -> Promise {
        let said = self.beliefs.borrow()[asked.node].may_say_full(held, asked);
        self.beliefs.borrow_mut()[asked.node].may_miss(held, asked);
        let mut among = asked.free(held);
        if among.count() == 0 {
            let swept = self.swept(held, asked);
            among = asked.free(&swept);
            if !said {
                self.sweep(held, asked);
            }
        }
        let full = said || among.count() == 0;
        let beliefs = &self.beliefs.borrow()[asked.node];
        let at_most = beliefs
            .is_lowest_first(self.order, asked)
            .then(|| lowest(&beliefs.surely_free(asked, &among)))
            .flatten();
        Promise { among, at_most, full }
    }

    fn claimed(&self, held: &mut Held, asked: &Asked<'_>, claim: Option<&Allocation>) {
        // The node may no longer have believed that it is full.
        if asked.free(held).count() == 0 && (claim.is_some() || !self.has_earlier_boots(asked)) {
            self.sweep(held, asked);
        }
        let beliefs = &mut self.beliefs.borrow_mut()[asked.node];
        match claim {
            Some(allocation) => beliefs.take(allocation),
            None => beliefs.say_full(asked),
        }
    }

    fn room(&self, held: &Held, asked: &Asked<'_>) -> Option<bool> {
        self.beliefs.borrow()[asked.node].room(held, asked)
    }

    /// Returns whether the record is the one that was read, whatever its labels, or already the new
    /// one. The definition of the resource lets an address move only within a pod.
    fn moves(&self, standing: &Allocation, old: &Allocation, to: &Record) -> Move {
        let uid = |allocation: &Allocation| {
            allocation.version.as_ref().map(|version| version.uid.clone())
        };
        if standing.record == *to {
            Move::Done
        } else if standing.record != old.record || uid(standing) != uid(old) {
            Move::Changed
        } else if to.pod.is_none() && to.attachment != old.record.attachment {
            Move::Refused
        } else {
            Move::Done
        }
    }

    fn freed(&self, by: Option<usize>, allocation: &Allocation) {
        let key = key(allocation);
        for (node, beliefs) in self.beliefs.borrow_mut().iter_mut().enumerate() {
            if by == Some(node) {
                beliefs.free(&key)
            } else {
                beliefs.freed_elsewhere(&key)
            }
            if by.is_none() && self.node_of(&allocation.record.attachment) == Some(node) {
                beliefs.gone(&key, &allocation.record.attachment);
            }
        }
    }

    fn forgot(&self, node: usize, attachment: &Attachment, address: Option<&Key>) {
        self.beliefs.borrow_mut()[node].forget(attachment, address);
    }

    fn remembers(&self, node: usize, allocation: &Allocation) -> bool {
        self.beliefs.borrow()[node].remembers(&key(allocation), &allocation.record.attachment)
    }

    fn reopen(&mut self) {
        self.stores = (0..self.names.nodes.len()).map(|node| self.open(node)).collect();
    }

    /// If the files are on a disk, they are from another boot; otherwise they are gone.
    fn reboot(&mut self, boot: usize, kept: bool) {
        self.boot = boot;
        for node in 0..self.names.nodes.len() {
            if kept {
                self.beliefs.borrow_mut()[node] = Beliefs::default()
            } else {
                self.lose(node)
            }
        }
        self.reopen();
    }

    /// Between two processes: a running one keeps its directory open.
    fn lose(&mut self, node: usize) {
        let _ = std::fs::remove_dir_all(self.data(node));
        self.beliefs.borrow_mut()[node] = Beliefs::default();
        self.stores[node] = self.open(node);
    }

    fn operator(&self, node: usize) -> Option<Box<dyn Store>> {
        Some(Box::new(self.open(node).for_dead_node()))
    }

    fn vanish(&self, held: &Allocation) -> bool {
        self.write(held, Method::Delete, None);
        true
    }

    fn edit(&self, held: &Allocation) -> Option<Version> {
        let revision = held.version.as_ref().map(|version| version.revision.clone());
        let patch = serde_json::json!({"metadata": {"labels": {"after": revision}}}).to_string();
        let answer = self.write(
            held,
            Method::Patch,
            Some(("application/merge-patch+json", patch.as_bytes())),
        );
        let object: IpAllocation = serde_json::from_slice(&answer.body).unwrap();
        object.version()
    }

    fn check_nothing_left(&self) {
        for node in 0..self.names.nodes.len() {
            let state = self.data(node).join("kubernetes").join(&self.names.nodes[node]);
            for directory in ["attachments", "@tmp"] {
                let left = std::fs::read_dir(state.join(directory)).unwrap().count();
                assert_eq!(left, 0, "{directory} of node {node}");
            }
        }
    }
}

impl Nodes {
    /// Returns the map without what a sweep of these candidates frees.
    fn swept(&self, held: &Held, asked: &Asked<'_>) -> Held {
        let candidates = asked.candidates();
        let mut left = held.clone();
        asked.sweep(&mut left, &self.names.nodes[asked.node], |swept| {
            swept.scope == *asked.scope && candidates.contains(swept.address)
        });
        left
    }

    /// Sweeps. Another node may still believe that the addresses are taken.
    fn sweep(&self, held: &mut Held, asked: &Asked<'_>) {
        let left = self.swept(held, asked);
        for allocation in held.values().filter(|allocation| !left.contains_key(&key(allocation))) {
            self.freed(Some(asked.node), allocation);
        }
        *held = left;
    }
}

/// Frees what a failed sequence leaves, as far as possible.
impl Drop for Nodes {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (node, store) in self.stores.iter().enumerate() {
            let filter =
                Filter { node: NodeName::parse(&self.names.nodes[node]).ok(), ..Filter::default() };
            let (Ok(listing), Some(operator)) = (store.list(&filter), self.operator(node)) else {
                continue;
            };
            let Ok(mut session) = operator.open(Access::Release, deadline()) else { continue };
            listing.flatten().for_each(|held| drop(session.release(&held)));
        }
    }
}
