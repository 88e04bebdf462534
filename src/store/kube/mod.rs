//! The store in the Kubernetes API: one custom resource is one held address.
//!
//! The API server lets a name be created only once: **the creation is the commit**. No lock in the
//! cluster, no lease and no list comes before it. An object is removed or changed only in exactly
//! the state that was read. A call can leave a request open: its answer was lost, or the call was
//! killed. Therefore the call writes the request down on this node before it sends it, and the next
//! call of the attachment checks it: see `node_state`.
//!
//! ```text
//! claim    choose a candidate . write the INTENT . POST the object (commit) .
//!          replace the intent by the answer
//! release  DELETE the object with its uid and resourceVersion (commit) .
//!          remove it from the node state
//! re-home  write the INTENT . PATCH the object with its resourceVersion (commit) .
//!          replace the intent by the answer . remove it from the old holder's state
//! ```
//!
//! A kill at any point leaves at most an intent. Its object exists, belongs to another attachment,
//! or does not exist (yet): the next call of the attachment asks the server.

pub(crate) mod api;
mod claim;
pub mod imported;
mod ipam_claims;
mod listing;
pub mod moving;
pub(crate) mod node_state;
pub mod objects;
mod pools;
mod rehome;
mod session;
pub(crate) mod slices;
pub mod sticky;
pub(super) mod upkeep;

use super::disk::{Disk, Held, RealDisk};
use super::ipam_claims::IpamClaims;
use super::node_identity::NodeIdentity;
use super::pools::{Read, StoredPool};
use super::{Access, Filter, HeldListing, Listing, Session, Store, StoreError};
use crate::addr::{AddrSet, Subnet};
use crate::api_client::client::{Client, Server};
use crate::digest;
use crate::ipam::{
    Allocation, AllocationOrder, Attachment, ClaimAllocation, HeldAddress, Life, NodeName, Record,
    Scope, Sticky,
};
use crate::retry::Deadline;
use api::Api;
use node_state::cluster_identity::{self, NodeStateIdentity};
use node_state::{State, clusters};
use objects::names;
use session::KubeSession;
pub(super) use slices::publish::Holders;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// The deadline of each request of STATUS and of listings, which have no deadline of their own.
const PATIENCE: Duration = Duration::from_secs(10);
/// The directory of the node states, below the data directory.
const DIRECTORY: &str = "kubernetes";

/// The store in the Kubernetes API, see the module.
pub struct KubeStore {
    api: Api,
    state: Rc<State>,
    /// The directory that holds the node states of all names of this node.
    all_states: Option<PathBuf>,
    host: NodeIdentity,
    order: AllocationOrder,
    /// A hash of the machine ID. The ID itself does not leave this machine.
    machine: Option<String>,
    /// The uid of this node's Node object, if the token names it.
    node_uid: Option<String>,
    /// Whether the store acts for a node that is off, whose node state is not on this machine.
    for_dead_node: bool,
    life: Option<fn(&Record) -> Life>,
    /// What an IPAMClaim holds whose user this call is about to become.
    used: RefCell<Vec<ClaimAllocation>>,
    /// The ranges of the network whose addresses are asked for.
    ranges: RefCell<Vec<Subnet>>,
    /// Copies of answers for which the node state has no place yet.
    unkept: RefCell<Vec<(PathBuf, Vec<u8>)>>,
}

/// The placeholder for the lock of an attachment of another node.
struct Elsewhere;

impl Held for Elsewhere {}

impl KubeStore {
    /// Returns the store behind an API server, with its node state below `data_dir`.
    #[must_use]
    pub fn new(
        client: Client,
        data_dir: &Path,
        host: NodeIdentity,
        order: AllocationOrder,
    ) -> Self {
        let root = state_of(data_dir, &host.node);
        let mut store = Self::on(Box::new(client), Box::new(RealDisk::new(root)), host, order);
        store.api.watched = Some(Rc::clone(&store.state));
        store.all_states = Some(data_dir.join(DIRECTORY));
        store
    }

    /// Returns the store behind any server, with its node state on any disk, as tests need it. This
    /// store does not check whether the cluster was set back.
    #[must_use]
    pub fn on(
        server: Box<dyn Server>,
        disk: Box<dyn Disk>,
        host: NodeIdentity,
        order: AllocationOrder,
    ) -> Self {
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
            used: RefCell::default(),
            ranges: RefCell::default(),
            unkept: RefCell::default(),
        }
    }

    /// Returns the node for which the store acts.
    pub(super) const fn node(&self) -> &NodeName {
        &self.host.node
    }

    /// Makes the store work without node state: for a node that is off and cannot act for itself,
    /// or, for reading, for no node.
    #[must_use]
    pub fn for_dead_node(mut self) -> Self {
        self.for_dead_node = true;
        self.api.watched = None;
        self
    }

    /// Sets the function that decides whether the sandbox of a record of another boot exists.
    /// Without it every such sandbox counts as gone.
    #[must_use]
    pub fn classifying_with(mut self, life: fn(&Record) -> Life) -> Self {
        self.life = Some(life);
        self
    }

    /// Sets the uid of the node's Node object, which new records contain.
    #[must_use]
    pub fn with_node_uid(mut self, uid: Option<String>) -> Self {
        self.node_uid = uid;
        self
    }

    fn now(&self) -> SystemTime {
        self.state.disk().now()
    }

    /// Returns the label selector of this node's objects.
    fn own_selector(&self) -> String {
        format!("{}={}", names::NODE, names::of_node(&self.host.node))
    }

    fn identity(&self) -> NodeStateIdentity {
        NodeStateIdentity {
            format: cluster_identity::FORMAT,
            ways: Vec::new(),
            cluster: self.api.cluster().to_owned(),
            node: self.host.node.to_string(),
            machine: self.machine.clone(),
            boot: self.host.boot_id.clone(),
        }
    }
}

/// Returns the directory of a node's state.
fn state_of(data_dir: &Path, node: &NodeName) -> PathBuf {
    data_dir.join(DIRECTORY).join(super::percent::escape(node.as_str()))
}

/// Returns the name and the uid of the Node that a token says it is bound to.
#[must_use]
pub fn node_of_token(token: &str) -> Option<(String, String)> {
    crate::api_client::token::node(token)
}

impl Store for KubeStore {
    fn lock_attachment(
        &self,
        attachment: &Attachment,
        access: Access,
        deadline: Deadline,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        if self.for_dead_node {
            return Ok(Some(Box::new(Elsewhere)));
        }
        if access == Access::Release {
            self.check_not_renamed(attachment, &deadline)?;
        }
        self.state.lock_attachment(attachment, &deadline).map(Some)
    }

    fn try_lock_attachment(
        &self,
        attachment: &Attachment,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
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
        let known =
            known.iter().map(|object| object.allocation().ok()).collect::<Option<Vec<_>>>()?;
        Some(known.into_iter().filter(|known| known.record.attachment == *attachment).collect())
    }

    fn open(
        &self,
        access: Access,
        deadline: Deadline,
    ) -> Result<Box<dyn Session + '_>, StoreError> {
        if !self.for_dead_node {
            self.make_complete(&deadline)?;
            if access == Access::Allocate {
                self.keep_unkept();
            }
        }
        let session = KubeSession::new(self, access, deadline);
        if access != Access::Read {
            session.check_tombstones();
        }
        Ok(Box::new(session))
    }

    fn list(&self, filter: &Filter) -> Result<Listing<'_>, StoreError> {
        let of_attachment = |item: Result<HeldAddress, _>| item.map(HeldAddress::of_attachment);
        let pages = listing::Pages::new(self, filter);
        Ok(Box::new(pages.filter_map(move |item| of_attachment(item).transpose())))
    }

    fn list_held(&self, filter: &Filter) -> Result<HeldListing<'_>, StoreError> {
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
        self.list_scope(
            scope,
            &|believed| !believed.is_listed_since(asked, self.now()),
            &deadline,
        )?;
        Ok(self.state.occupancy(scope).peek(candidates).is_some())
    }

    fn pool(
        &self,
        name: &str,
        read: Read,
        deadline: Deadline,
    ) -> Result<Option<StoredPool>, StoreError> {
        self.read_pool(name, read, &deadline)
    }

    fn ipam_claims(&self) -> Option<&dyn IpamClaims> {
        Some(self)
    }

    fn node_labels(
        &self,
        read: Read,
        deadline: Deadline,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        self.read_node_labels(read, &deadline)
    }

    fn expect_ranges(&self, ranges: &[Subnet]) {
        self.ranges.replace(ranges.to_vec());
    }

    fn forget_shown(
        &self,
        attachment: &Attachment,
        ranges: &dyn Fn() -> Option<(Scope, Vec<Subnet>)>,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        if !self.shows_noted(&deadline)? {
            return Ok(());
        }
        match ranges() {
            Some((scope, ranges)) => self.forget_container(attachment, &scope, &ranges, &deadline),
            None => Ok(()),
        }
    }

    fn sticky(&self, scope: &Scope, deadline: Deadline) -> Result<Vec<Sticky>, StoreError> {
        self.list_sticky(scope, &deadline)
    }

    fn remember(
        &self,
        scope: &Scope,
        sticky: &Sticky,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        self.apply_sticky(scope, sticky, &deadline)
    }
}
