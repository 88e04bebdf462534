//! The operator commands for a file store (verify, repair, sweep), in the terms that all stores
//! share.

pub mod finding;
mod missing_records;
pub mod repair;
pub mod verify;
mod walk;

use super::{FileStore, layout};
use crate::ipam::{Life, NodeName};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::census::Census;
use crate::store::disk::Disk;
use crate::store::upkeep::{Extent, Finding, IsAlive, Repaired, Upkeep, Verified};
use std::path::Path;

impl<D: Disk> FileStore<D> {
    fn describe(&self, found: finding::FileFinding) -> Finding {
        Finding {
            problem: found.problem.name(),
            meaning: found.problem.meaning(),
            done: found.problem.done(),
            is_repairable: found.problem.is_repairable(),
            is_ours: self.is_ours(&found),
            node: found.node().map(|node| node.to_string_lossy().into_owned()),
            key: found.problem.name().to_owned(),
            path: found.path,
            other: found.other,
            reason: found.reason,
        }
    }
}

impl<D: Disk> Upkeep for FileStore<D> {
    /// Reads the whole store, because the index by which a node finds its own records is itself in
    /// doubt.
    fn verify(
        &self,
        _: Extent,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Verified, StoreError> {
        self.refuse_another()?;
        let mut census =
            Census { earlier_names: self.earlier_names()?.to_vec(), ..Census::default() };
        let own = |node: &NodeName| {
            *node == self.host.node
                || self.earlier_names().is_ok_and(|earlier| earlier.contains(node))
        };
        let found = self.verify_each(deadline, &mut |allocation| {
            census.count(&allocation);
            if own(&allocation.record.attachment.node)
                && let Life::Doubted(doubt) = is_alive(&allocation.record)
            {
                census.doubt(allocation, doubt);
            }
        })?;
        let lost = self.recheck(self.noted_and_lost(is_alive)?, deadline)?;
        let findings =
            found.findings.into_iter().chain(lost).map(|finding| self.describe(finding)).collect();
        Ok(Verified {
            format: found.format,
            records: found.records,
            entries: found.entries,
            findings,
            unseen: None,
            census,
        })
    }

    fn orphans(
        &self,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Vec<Finding>, StoreError> {
        let mut found = self.orphans(&self.host.node, deadline)?;
        for node in self.earlier_names()? {
            found.extend(self.orphans(node, deadline)?);
        }
        let mut notes = self.noted_and_lost(is_alive)?;
        notes.retain(|finding| finding.problem == finding::Problem::UnusedNote);
        Ok(found
            .into_iter()
            .chain(self.recheck(notes, deadline)?)
            .map(|finding| self.describe(finding))
            .collect())
    }

    fn repair(
        &self,
        finding: &Finding,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Repaired, StoreError> {
        let Finding { path, other, reason, key, .. } = finding;
        let Some(problem) = finding::Problem::find(key) else {
            return Ok(Repaired::NotYours);
        };
        let found = finding::FileFinding {
            problem,
            path: path.clone(),
            other: other.clone(),
            reason: reason.clone(),
        };
        if problem.is_of_notes() && problem.is_repairable() {
            return self.repair_noted(&found, is_alive, deadline);
        }
        self.repair(&found, deadline)
    }

    fn tidy(&self, deadline: Deadline) -> Result<usize, StoreError> {
        self.remove_empty_directories(deadline)
    }

    fn knows(&self, node: &NodeName) -> bool {
        self.disk.inode(&layout::node(node)).is_ok()
    }

    fn release_damaged(&self, record: &Path, deadline: Deadline) -> Result<bool, StoreError> {
        // A listing names a record by its path including the data directory.
        match record.strip_prefix(self.disk.root()) {
            Ok(record) => self.release_damaged(record, deadline),
            Err(_) => Ok(false),
        }
    }
}
