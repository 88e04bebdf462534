//! An ADD on trial: the code of ADD, on a store that seems to claim and changes nothing. So
//! `explain` says what the next ADD would answer, and why.

use super::failure::Failure;
use super::stores::{self, OnBehalf};
pub(crate) use super::trial_store::Taken;
use super::trial_store::TrialStore;
use super::{Ipam, Surroundings, add, call_summary, machine};
use crate::cni::{Call, Sandbox, Success};
use crate::config::{Chosen, ConfigError, FlatFile, Settings, flat_file_places};
use crate::environment::{Environment, NodeVariables, ProxyVariables};
use crate::ipam::Allocation;
use crate::json::Json;
use crate::store::node_identity::NodeIdentity;
use crate::store::{Store, StoreError};
use std::cell::RefCell;
use std::rc::Rc;

/// Where an ADD is tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// The name of the node, if it is not this one.
    pub(crate) node: Option<String>,
    /// The labels of the node, if they are not those of the flat file.
    pub(crate) labels: Option<Vec<(String, String)>>,
}

/// What an ADD would answer.
pub(crate) struct Tried {
    pub(crate) success: Success,
    /// The allocations that it would make or keep, in the order of the result.
    pub(crate) held: Vec<Allocation>,
    /// What it would take from sandboxes that have ended.
    pub(crate) taken: Taken,
    /// Whether the store remembers that the pod had these addresses (`sticky`).
    pub(crate) is_remembered: bool,
}

impl Place {
    /// Returns the flat file for a network that is tried at this place.
    ///
    /// # Errors
    /// The flat file cannot be used.
    pub(crate) fn flat_file(
        &self,
        variables: &NodeVariables,
        configuration_path: Option<&str>,
    ) -> Result<Option<FlatFile>, ConfigError> {
        let mut flat = machine::flat_file(variables, configuration_path)?;
        let labels = self.labels.as_ref().map(|labels| {
            let text = |(key, value): &(String, String)| (key.clone(), Json::String(value.clone()));
            Json::Object(labels.iter().map(text).collect())
        });
        let node = self.node.clone().map(Json::String);
        for (key, value) in [("node_name", node), ("node_labels", labels)] {
            if let Some(value) = value {
                let empty = || FlatFile::parse(flat_file_places().remove(0), b"{}", Chosen::ByNode);
                flat = Some(flat.map_or_else(empty, Ok)?.with_own(key, value));
            }
        }
        Ok(flat)
    }

    /// Carries out an ADD that changes nothing.
    ///
    /// # Errors
    /// The failure that the ADD would answer with.
    pub(crate) fn add(
        &self,
        environment: &Environment,
        call: &Call,
        sandbox: &Sandbox,
    ) -> Result<Tried, Failure> {
        let taken = Rc::default();
        let ipam = Ipam {
            environment,
            orphaned: &|| false,
            log: &|_, _| {},
            report: call_summary::Report::default(),
            surroundings: Rc::new(OnTrial { place: self.clone(), taken: Rc::clone(&taken) }),
        };
        let allocated = add::add(&ipam, call, sandbox)?;
        let (success, given) = allocated.parts();
        let held = given.held.clone();
        // What is remembered already is not remembered again.
        let is_remembered = given.sticky.is_empty();
        let taken = taken.borrow().clone();
        Ok(Tried { success: success.clone(), held, taken, is_remembered })
    }
}

/// The surroundings of an ADD on trial.
struct OnTrial {
    place: Place,
    taken: Rc<RefCell<Taken>>,
}

impl Surroundings for OnTrial {
    fn flat_file(
        &self,
        variables: &NodeVariables,
        configuration_path: Option<&str>,
    ) -> Result<Option<FlatFile>, ConfigError> {
        self.place.flat_file(variables, configuration_path)
    }

    fn is_trial(&self) -> bool {
        true
    }

    fn open_store(
        &self,
        settings: &Settings,
        host: NodeIdentity,
        proxy: &ProxyVariables,
    ) -> Result<Box<dyn Store>, StoreError> {
        let on_behalf = match self.place.node {
            None => OnBehalf::OfThisNode,
            Some(_) => OnBehalf::OfAnother,
        };
        let store = stores::open_to_keep(settings, host, on_behalf, proxy)?;
        Ok(Box::new(TrialStore::new(store, Rc::clone(&self.taken))))
    }
}
