//! Listings of records in the Kubernetes API, page by page. Never more than one page is in memory.

use super::api::paging::Place;
use super::objects::held::HeldObject;
use super::objects::names;
use super::{KubeStore, PATIENCE};
use crate::ipam::HeldAddress;
use crate::retry::Deadline;
use crate::store::{Filter, PodName, StoreError};
use std::collections::VecDeque;

/// An iterator over the objects that match a filter.
pub(super) struct Pages<'s> {
    store: &'s KubeStore,
    filter: Filter,
    selector: String,
    /// The rest of the page that was read last.
    page: VecDeque<Result<HeldObject, StoreError>>,
    /// The place where the next page begins.
    place: Place,
    has_failed: bool,
}

impl<'s> Pages<'s> {
    pub(super) fn new(store: &'s KubeStore, filter: &Filter) -> Self {
        let selector = selector(filter);
        Self {
            store,
            filter: filter.clone(),
            selector,
            page: VecDeque::new(),
            place: Place::default(),
            has_failed: false,
        }
    }

    /// Returns the address, or an error if its record belongs to another machine with this node's
    /// name. A caller that lists the records of its node to free those of dead sandboxes must not
    /// free such a record. Each one is an error item, and the listing continues.
    fn for_whom_it_is(
        &self,
        object: &HeldObject,
        held: HeldAddress,
    ) -> Result<HeldAddress, StoreError> {
        if let HeldObject::Attachment(object) = object
            && self.filter.node.as_ref() == Some(&self.store.host.node)
        {
            self.store.check_machine(object)?;
        }
        Ok(held)
    }

    fn read_page(&mut self) -> Result<(), StoreError> {
        let deadline = self.filter.deadline.unwrap_or_else(|| Deadline::after(PATIENCE));
        self.page = self.store.api.page(&self.selector, &mut self.place, &deadline)?.into();
        Ok(())
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<HeldAddress, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.page.pop_front() {
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(object)) => match object.address() {
                    Ok(held) if self.filter.matches_held(&held) => {
                        return Some(self.for_whom_it_is(&object, held));
                    }
                    Ok(_) => {}
                    Err(unreadable) => return Some(Err(unreadable.of(&object.metadata().name))),
                },
                None if self.has_failed || self.place.is_ended() => return None,
                None => {
                    if let Err(error) = self.read_page() {
                        self.has_failed = true;
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

/// Returns the label selector of a filter. Labels only reduce what the server sends; the filter
/// itself decides.
fn selector(filter: &Filter) -> String {
    let mut parts = Vec::new();
    if let Some(node) = &filter.node {
        parts.push(format!("{}={}", names::NODE, names::of_node(node)));
    }
    if let Some(network) = &filter.network {
        parts.push(format!("{}={}", names::NETWORK, names::of_network(network)));
    }
    if let Some(scope) = &filter.scope {
        parts.push(format!("{}={}", names::SCOPE, names::of_scope(scope)));
    }
    if let Some(PodName { namespace: Some(namespace), name }) = &filter.pod {
        parts.push(format!("{}={}", names::POD, names::of_pod(namespace, name)));
    }
    if filter.claim.is_some() {
        parts.push(names::CLAIM.to_owned());
    }
    if let Some(address) = filter.address {
        parts.push(format!("{}={}", names::ADDRESS, names::text(address)));
    }
    parts.join(",")
}
