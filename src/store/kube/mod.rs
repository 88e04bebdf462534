//! The store in the Kubernetes API: one custom resource is one address held.
//!
//! The API server lets a name be created once: **the creation is the commit**,
//! and no lock, lease or list is on its way. What is removed or changed is the
//! very state of the object that was read. What a call leaves open (its answer
//! was lost, it was killed) is written down on this node before it begins, so
//! that the next call of the attachment looks at it: see `state`.
//!
//! ```text
//! claim    choose a candidate . write the INTENT . POST the object (commit) .
//!          put the answer in the intent's place
//! release  DELETE the object, uid and resourceVersion given (commit) .
//!          forget it
//! re-home  write the INTENT . PATCH the object, resourceVersion given (commit) .
//!          put the answer in the intent's place . forget it of the old holder
//! ```
//!
//! Killed anywhere, this leaves at worst an intent whose object is there, is
//! another's, or is not there (yet): the next call of the attachment asks.

pub(crate) mod api;
mod claim;
mod listing;
pub(crate) mod node_state;
pub mod objects;
mod rehome;
mod session;
pub mod sticky;
pub(super) mod upkeep;

use super::disk::{Disk, Held, RealDisk};
use super::node_identity::NodeIdentity;
use super::{Access, Filter, Listing, Session, Store, StoreError};
use crate::addr::AddrSet;
use crate::api_client::client::{Client, Server};
use crate::digest;
use crate::ipam::{Allocation, AllocationOrder, Attachment, Life, NodeName, Record, Scope, Sticky};
use crate::retry::Deadline;
use api::Api;
use node_state::cluster_identity::{self, Origin};
use node_state::{State, clusters};
use objects::names;
use session::KubeSession;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// STATUS and listings have no deadline of their own; each request of theirs
/// gets this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Below the data directory.
const DIRECTORY: &str = "kubernetes";

/// See the module.
pub struct KubeStore {
    api: Api,
    state: Rc<State>,
    /// Where the states of all names of this node are.
    all_states: Option<PathBuf>,
    host: NodeIdentity,
    order: AllocationOrder,
    /// A hash of the machine id: the id itself is for this machine's eyes.
    machine: Option<String>,
    /// The uid of this node's Node object, where the token says so.
    node_uid: Option<String>,
    /// Acting for a node that is off: its state is not here.
    for_dead_node: bool,
    life: Option<fn(&Record) -> Life>,
}

/// The place of the lock of an attachment of a node that is not this one.
struct Elsewhere;

impl Held for Elsewhere {}

impl KubeStore {
    /// The store behind an API server, with its node state below `data_dir`.
    #[must_use]
    pub fn new(client: Client, data_dir: &Path, host: NodeIdentity, order: AllocationOrder) -> Self {
        let root = state_of(data_dir, &host.node);
        let mut store = Self::on(Box::new(client), Box::new(RealDisk::new(root)), host, order);
        store.api.watched = Some(Rc::clone(&store.state));
        store.all_states = Some(data_dir.join(DIRECTORY));
        store
    }

    /// The store behind any server, with its node state on any disk; tests bring
    /// theirs. It does not look whether the cluster was set back.
    #[must_use]
    pub fn on(server: Box<dyn Server>, disk: Box<dyn Disk>, host: NodeIdentity, order: AllocationOrder) -> Self {
        let machine = host.machine_id.as_deref().map(|id| digest::short(&["machine", id]));
        Self {
            api: Api::new(server),
            state: Rc::new(State::new(disk)),
            all_states: None,
            host,
            order,
            machine,
            node_uid: None,
            for_dead_node: false,
            life: None,
        }
    }

    /// Does without node state: for a node that is off and cannot act for
    /// itself, or, to read, for none.
    #[must_use]
    pub fn for_dead_node(mut self) -> Self {
        self.for_dead_node = true;
        self.api.watched = None;
        self
    }

    /// Asks this whether the sandbox of a record of another boot is there. Without
    /// it every such sandbox is gone.
    #[must_use]
    pub fn classifying_with(mut self, life: fn(&Record) -> Life) -> Self {
        self.life = Some(life);
        self
    }

    /// Records this as the uid of the node's Node object.
    #[must_use]
    pub fn with_node_uid(mut self, uid: Option<String>) -> Self {
        self.node_uid = uid;
        self
    }

    fn now(&self) -> SystemTime {
        self.state.disk().now()
    }

    /// What this node's objects are selected by.
    fn own_selector(&self) -> String {
        format!("{}={}", names::NODE, names::of_node(&self.host.node))
    }

    fn origin(&self) -> Origin {
        Origin {
            format: cluster_identity::FORMAT,
            ways: Vec::new(),
            cluster: self.api.cluster().to_owned(),
            node: self.host.node.to_string(),
            machine: self.machine.clone(),
            boot: self.host.boot_id.clone(),
        }
    }
}

/// Where the node state of a node is.
fn state_of(data_dir: &Path, node: &NodeName) -> PathBuf {
    data_dir.join(DIRECTORY).join(super::percent::escape(node.as_str()))
}

/// The Node that a token is bound to, by its own word: name and uid.
#[must_use]
pub fn node_of_token(token: &str) -> Option<(String, String)> {
    crate::api_client::token::node(token)
}

impl Store for KubeStore {
    fn lock_attachment(&self, attachment: &Attachment, access: Access, deadline: Deadline) -> Result<Option<Box<dyn Held>>, StoreError> {
        if self.for_dead_node {
            return Ok(Some(Box::new(Elsewhere)));
        }
        if access == Access::Release {
            self.check_not_renamed(attachment, &deadline)?;
        }
        self.state.lock_attachment(attachment, &deadline).map(Some)
    }

    fn try_lock_attachment(&self, attachment: &Attachment) -> Result<Option<Box<dyn Held>>, StoreError> {
        if self.for_dead_node {
            return Ok(Some(Box::new(Elsewhere)));
        }
        Ok(self.state.try_lock_attachment(&names::of_attachment(attachment)))
    }

    fn noted(&self, attachment: &Attachment) -> Option<Vec<Allocation>> {
        if self.for_dead_node || self.find_cluster().ok()? != clusters::Known::Complete {
            return None;
        }
        let known = self.state.objects(&names::of_attachment(attachment)).ok()?;
        let known = known.iter().map(|object| object.allocation().ok()).collect::<Option<Vec<_>>>()?;
        Some(known.into_iter().filter(|known| known.record.attachment == *attachment).collect())
    }

    fn open(&self, access: Access, deadline: Deadline) -> Result<Box<dyn Session + '_>, StoreError> {
        if !self.for_dead_node {
            self.make_complete(&deadline)?;
        }
        let session = KubeSession::new(self, access, deadline);
        if access != Access::Read {
            session.look_at_tombstones();
        }
        Ok(Box::new(session))
    }

    fn list(&self, filter: &Filter) -> Result<Listing<'_>, StoreError> {
        Ok(Box::new(listing::Pages::new(self, filter)))
    }

    fn ready(&self) -> Result<(), StoreError> {
        self.check_ready()
    }

    fn has_room(&self, scope: &Scope, candidates: &AddrSet) -> Result<bool, StoreError> {
        let deadline = Deadline::after(PATIENCE);
        self.find_cluster()?;
        let candidates = &self.without_gateways(scope, candidates, &deadline)?;
        let believed = self.state.occupancy(scope);
        if believed.peek(candidates).is_some() {
            return Ok(true);
        }
        if believed.is_full(candidates, self.now()) {
            return Ok(false);
        }
        self.make_complete(&deadline)?;
        let asked = self.now();
        self.list_scope(scope, &|believed| !believed.is_listed_since(asked, self.now()), &deadline)?;
        Ok(self.state.occupancy(scope).peek(candidates).is_some())
    }

    fn sticky(&self, scope: &Scope, deadline: Deadline) -> Result<Vec<Sticky>, StoreError> {
        self.list_sticky(scope, &deadline)
    }

    fn remember(&self, scope: &Scope, sticky: &Sticky, deadline: Deadline) -> Result<(), StoreError> {
        self.apply_sticky(scope, sticky, &deadline)
    }
}
