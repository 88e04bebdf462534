//! A node whose name has changed: its attachments hold their addresses under the earlier name. In
//! the API two machines may have the same ID, as clones do, so nothing is freed under another name.
//! But a DEL that freed nothing and succeeded would leak the address, so it is refused. The node
//! state, which has a directory for each name, shows what is held.

use super::State;
use crate::ipam::{Attachment, NodeName};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::disk::{Disk, RealDisk};
use crate::store::kube::KubeStore;
use crate::store::kube::objects::names;
use std::path::Path;

impl KubeStore {
    /// Refuses a DEL if this node was given an address for the attachment under another name, and
    /// the object still exists.
    pub(crate) fn check_not_renamed(
        &self,
        attachment: &Attachment,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let Some(directory) = &self.all_states else {
            return Ok(());
        };
        // If something is held under the current name, it is freed: the name is not a mistake.
        if self
            .state
            .objects(&names::of_attachment(attachment))
            .is_ok_and(|known| !known.is_empty())
        {
            return Ok(());
        }
        let own = crate::store::percent::escape(attachment.node.as_str());
        let states = RealDisk::new(directory.clone());
        // If nothing can be listed, nothing is remembered.
        for name in states.names(Path::new("")).unwrap_or_default() {
            if name == *own {
                continue;
            }
            let state = State::new(Box::new(RealDisk::new(directory.join(&name))));
            // The name of a state that was invalidated is known only from its directory.
            let named = state
                .identity()
                .ok()
                .flatten()
                .map_or_else(|| name.to_string_lossy().into_owned(), |identity| identity.node);
            let Ok(earlier) = NodeName::parse(&named) else { continue };
            let held = Attachment { node: earlier, ..attachment.clone() };
            self.check_none_stands(&state, &held, &attachment.node, deadline)?;
        }
        Ok(())
    }

    fn check_none_stands(
        &self,
        state: &State,
        held: &Attachment,
        now: &NodeName,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let hash = names::of_attachment(held);
        // An unreadable file gives no object that this node could name.
        for known in state.objects(&hash).unwrap_or_default() {
            let found = self.api.get_of_attachment(&known.metadata.name, deadline)?;
            let stands = found
                .and_then(|object| object.allocation().ok())
                .is_some_and(|found| found.record.attachment == *held);
            if stands {
                return Err(StoreError::Renamed {
                    attachment: held.to_string(),
                    node: now.to_string(),
                    earlier: held.node.to_string(),
                });
            }
        }
        Ok(())
    }
}
