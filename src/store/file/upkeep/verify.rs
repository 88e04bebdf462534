//! Reads the whole store and reports its problems; changes nothing.
//!
//! A suspected problem may be a call in progress. So it is checked again under the lock, or, if no
//! lock excludes all nodes, repeatedly until such a call would have ended.

use super::finding::{FileFinding, Problem, is_still_so};
use super::walk::Walk;
use crate::ipam::{Allocation, NodeName};
use crate::retry::{self, Deadline};
use crate::store::disk::Disk;
use crate::store::file::links::show_one_inode;
use crate::store::file::{FileStore, layout};
use crate::store::{StoreError, percent};
use std::path::Path;
use std::time::Duration;

/// After this time, a call of another node has ended, or never will.
const CALLS_END: Duration = Duration::from_secs(2);
/// The number of checks for which the lock is held at a time.
const CHECKS: usize = 64;

/// The result of reading the whole store.
#[derive(Debug)]
pub struct VerifiedFiles {
    /// The store's format; `None` if it cannot be read.
    pub format: Option<u64>,
    /// The number of readable records.
    pub records: usize,
    /// The number of index entries, by attachment and by pod.
    pub entries: usize,
    /// The problems, in order.
    pub findings: Vec<FileFinding>,
}

impl<D: Disk> FileStore<D> {
    /// Reads the whole store. Waits for the lock until the deadline.
    ///
    /// # Errors
    /// There is no store, or it has a newer format.
    pub fn verify(&self, deadline: Deadline) -> Result<VerifiedFiles, StoreError> {
        self.verify_each(deadline, &mut |_| {})
    }

    /// Does the same, and passes each readable record to `each`.
    pub(crate) fn verify_each(
        &self,
        deadline: Deadline,
        each: &mut dyn FnMut(Allocation),
    ) -> Result<VerifiedFiles, StoreError> {
        self.refuse_another()?;
        let mut walk = Walk::new(&self.disk);
        let mut format = None;
        match self.exists()?.then(|| self.read_format()) {
            None => return Err(self.absent()),
            Some(Ok(Some(found))) => format = Some(found.number),
            Some(Ok(None)) if self.disk.inode(Path::new(layout::SCOPES)).is_err() => {
                return Err(self.absent());
            }
            Some(Ok(None)) => {
                walk.suspect(Problem::Format, Path::new(layout::FORMAT), "it is missing")
            }
            Some(Err(StoreError::BadFormat { reason, .. })) => {
                walk.suspect(Problem::Format, Path::new(layout::FORMAT), &reason)
            }
            Some(Err(error)) => return Err(error),
        }
        walk.root();
        walk.records(each);
        walk.index(None);
        walk.unindexed();
        walk.doubles();
        let (records, entries) = (walk.count(), walk.entries);
        let mut suspects = walk.suspects;
        self.drop_false_copies(&mut suspects)?;
        let mut findings = self.recheck(suspects, deadline)?;
        findings.sort_by(|a, b| (a.problem, &a.path).cmp(&(b.problem, &b.path)));
        Ok(VerifiedFiles { format, records, entries, findings })
    }

    /// Drops suspected copies on a filesystem where every entry looks like one. On sshfs and unions
    /// the entry and the record of every healthy pair show two inodes, as if the tree had been
    /// copied. Two new names of one file tell the cases apart.
    fn drop_false_copies(&self, suspects: &mut Vec<FileFinding>) -> Result<(), StoreError> {
        let is_copy = |suspect: &FileFinding| suspect.problem == Problem::Split;
        if suspects.iter().any(is_copy)
            && !self.is_local()?
            && show_one_inode(&self.disk) == Some(false)
        {
            suspects.retain(|suspect| !is_copy(suspect));
        }
        Ok(())
    }

    /// Returns the dangling entries and temporary files that killed calls of a node have left.
    ///
    /// # Errors
    /// The lock was not free in time.
    pub fn orphans(
        &self,
        node: &NodeName,
        deadline: Deadline,
    ) -> Result<Vec<FileFinding>, StoreError> {
        self.refuse_another()?;
        let mut walk = Walk::new(&self.disk);
        walk.index(Some(&percent::escape(node.as_str())));
        walk.suspects.retain(|suspect| {
            matches!(
                suspect.problem,
                Problem::DanglingEntry | Problem::DanglingPodEntry | Problem::Temporary
            )
        });
        self.recheck(walk.suspects, deadline)
    }

    /// Checks again the suspected problems that may be calls in progress.
    pub(crate) fn recheck(
        &self,
        mut suspects: Vec<FileFinding>,
        deadline: Deadline,
    ) -> Result<Vec<FileFinding>, StoreError> {
        if suspects.is_empty() {
            return Ok(suspects);
        }
        // A read-only store has no lock.
        if self.is_local()? && self.wait_store(true, &deadline).is_ok() {
            let mut found = Vec::new();
            for some in suspects.chunks_mut(CHECKS) {
                let _lock = self.wait_store(true, &deadline)?;
                found.extend(
                    some.iter_mut()
                        .filter_map(|suspect| self.recheck_one(suspect).then(|| suspect.clone())),
                );
            }
            return Ok(found);
        }
        let limit = Deadline::after(CALLS_END);
        let nothing: Result<_, StoreError> = retry::until(&limit, || {
            suspects.retain_mut(|suspect| self.recheck_one(suspect));
            Ok(suspects.is_empty().then_some(()))
        });
        nothing?;
        Ok(suspects)
    }

    /// Returns whether a suspected problem still exists. A suspect that cannot be checked again
    /// stays, with the reason.
    fn recheck_one(&self, suspect: &mut FileFinding) -> bool {
        let confirmed = if suspect.problem.is_of_notes() {
            self.is_noted_still(suspect)
        } else {
            is_still_so(&self.disk, suspect)
        };
        confirmed.unwrap_or_else(|error| {
            suspect.reason = error.to_string();
            true
        })
    }
}
