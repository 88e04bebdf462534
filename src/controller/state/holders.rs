//! The attachments that hold addresses, as far as leak candidates need them.

use super::objects::Version;
use crate::ipam::leak::Holder;
use crate::store::kube::objects::evidence::HolderFields;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The attachments, by the name of the IPAllocation.
#[derive(Debug, Default)]
pub struct Holders {
    known: HashMap<Rc<str>, (Version, Holder)>,
    /// Texts that many have in common: nodes, boots, namespaces, interfaces.
    shared: HashSet<Rc<str>>,
}

impl Holders {
    /// Notes an IPAllocation as a watch told of it. One that a claim holds has no attachment.
    pub fn note(&mut self, name: &str, version: Version, fields: &HolderFields) {
        let shared = &mut self.shared;
        let holder = fields.holder(&mut |text| match shared.get(text) {
            Some(known) => Rc::clone(known),
            None => {
                let text: Rc<str> = text.into();
                shared.insert(Rc::clone(&text));
                text
            }
        });
        match holder {
            Some(holder) => self.put(name, version, holder),
            None => self.remove(name),
        }
    }

    /// Notes an attachment, in place of an earlier one.
    pub fn put(&mut self, name: &str, version: Version, holder: Holder) {
        match self.known.get_mut(name) {
            Some(known) => *known = (version, holder),
            None => drop(self.known.insert(name.into(), (version, holder))),
        }
    }

    /// Forgets an attachment.
    pub fn remove(&mut self, name: &str) {
        self.known.remove(name);
        // Nodes and boots come and go.
        if 2 * self.known.len() + 1000 < self.shared.len() {
            self.shared.retain(|text| 1 < Rc::strong_count(text));
        }
    }

    /// Returns all attachments, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Rc<str>, &Version, &Holder)> {
        self.known.iter().map(|(name, (version, holder))| (name, version, holder))
    }
}
