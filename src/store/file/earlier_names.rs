//! Finds the other names under which this machine holds addresses. A store on a local filesystem
//! belongs to one machine. So a node directory with this machine's ID is this machine's own,
//! whatever its name is: the host had that name before. If machines share the store, the directory
//! may belong to a clone and is left alone.

use super::{Acting, FileStore, index, layout, read, record};
use crate::ipam::{Attachment, NodeName};
use crate::retry::Deadline;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Held};
use crate::store::{StoreError, percent};
use std::io;
use std::path::Path;

/// The locks of an attachment, one under each name.
struct Several(#[allow(dead_code, reason = "kept until they are dropped")] Vec<Box<dyn Held>>);

impl Held for Several {}

impl<D: Disk> FileStore<D> {
    /// Returns this machine's other names, in order; none if machines share the store.
    pub(super) fn earlier_names(&self) -> Result<&[NodeName], StoreError> {
        if let Some(known) = self.earlier.get() {
            return Ok(known);
        }
        let found = self.find_earlier_names()?;
        Ok(self.earlier.get_or_init(|| found))
    }

    fn find_earlier_names(&self) -> Result<Vec<NodeName>, StoreError> {
        let Some(ours) = self.host.machine_id.as_deref().filter(|_| self.acting == Acting::Here)
        else {
            return Ok(Vec::new());
        };
        if !self.exists()? || !self.is_local()? {
            return Ok(Vec::new());
        }
        let nodes = Path::new(layout::NODES);
        let names = match self.disk.names(nodes) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.disk, "list", nodes, error)),
        };
        let own = percent::escape(self.host.node.as_str());
        let mut found = Vec::new();
        for name in names.iter().filter_map(|name| name.to_str()).filter(|name| *name != own) {
            let directory = nodes.join(name);
            let noted = read(&self.disk, &directory.join(layout::MACHINE_ID))?;
            if noted.is_some_and(|noted| String::from_utf8_lossy(&noted.bytes).trim() == ours) {
                found.extend(self.name_of(name, &directory));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Returns the node that a directory belongs to. If the directory's name was cut, any record in
    /// it has the full name. A directory without a record holds nothing.
    fn name_of(&self, name: &str, directory: &Path) -> Option<NodeName> {
        if let Some(whole) = percent::unescape(name) {
            return NodeName::parse(&whole).ok();
        }
        let networks = self
            .disk
            .names(directory)
            .ok()?
            .into_iter()
            .filter(|name| !name.to_string_lossy().starts_with('@'));
        let entries = networks.filter_map(|network| {
            let network = directory.join(network);
            Some(self.disk.names(&network).ok()?.into_iter().map(move |entry| network.join(entry)))
        });
        let mut nodes = entries.flatten().filter_map(|entry| {
            Some(record::read(&self.disk.read(&entry).ok()?).ok()?.record.attachment.node)
        });
        nodes.find(|node| percent::escape(node.as_str()) == name)
    }

    /// Refuses a DEL on a shared store if this node's notes about the store contain another name
    /// under which the attachment holds something. A DEL that freed nothing and succeeded would
    /// leak the address.
    pub(super) fn check_not_renamed(&self, attachment: &Attachment) -> Result<(), StoreError> {
        let Some(terms) = self
            .terms
            .as_ref()
            .filter(|_| self.acting == Acting::Here && attachment.node == self.host.node)
        else {
            return Ok(());
        };
        if self.is_local()? {
            return Ok(());
        }
        // The notes are found by the store's id, because it may have been mounted elsewhere before.
        let Some(format) = self.read_format()? else { return Ok(()) };
        let noted = terms.notes.names_in(&format.id, self.disk.root())?;
        for earlier in noted
            .iter()
            .filter_map(|name| NodeName::parse(name).ok())
            .filter(|name| *name != attachment.node)
        {
            let held = Attachment { node: earlier, ..attachment.clone() };
            let entries = index::entries(&self.disk, &layout::attachment(&held))?;
            if entries.iter().any(|entry| matches!(entry.state, index::State::Live(_))) {
                return Err(StoreError::Renamed {
                    attachment: held.to_string(),
                    node: attachment.node.to_string(),
                    earlier: held.node.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Returns whether this node may change a node's records.
    pub(super) fn is_own_name(&self, node: &NodeName) -> Result<bool, StoreError> {
        Ok(*node == self.host.node || self.earlier_names()?.contains(node))
    }

    /// Returns an attachment under each of this machine's names, its own first.
    pub(super) fn under_each_name(
        &self,
        attachment: &Attachment,
    ) -> Result<Vec<Attachment>, StoreError> {
        let earlier: &[NodeName] =
            if attachment.node == self.host.node { self.earlier_names()? } else { &[] };
        let renamed =
            earlier.iter().map(|node| Attachment { node: node.clone(), ..attachment.clone() });
        Ok(std::iter::once(attachment.clone()).chain(renamed).collect())
    }

    /// Waits until no other call of the attachment is in progress, under any of this machine's
    /// names. All calls take the locks in one order, so that they cannot wait for each other in a
    /// circle.
    pub(super) fn wait_each_name(
        &self,
        attachment: &Attachment,
        deadline: &Deadline,
    ) -> Result<Box<dyn Held>, StoreError> {
        let mut all = self.under_each_name(attachment)?;
        if all.len() == 1 {
            return self.wait_attachment(attachment, deadline);
        }
        all.sort_by(|a, b| a.node.cmp(&b.node));
        let held = all
            .iter()
            .map(|attachment| self.wait_attachment(attachment, deadline))
            .collect::<Result<_, _>>()?;
        Ok(Box::new(Several(held)))
    }
}
