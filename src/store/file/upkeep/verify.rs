//! Reads the whole store and says what is wrong with it; changes nothing.
//!
//! What looks wrong may be a call in flight: it is looked at again under the
//! lock, or, where no lock keeps all nodes out, until a call would have ended.

use super::finding::{Finding, Problem, is_still_so};
use super::walk::Walk;
use crate::ipam::{Allocation, NodeName};
use crate::retry::{self, Deadline};
use crate::store::disk::Disk;
use crate::store::file::links::show_one_inode;
use crate::store::file::{FileStore, layout};
use crate::store::{StoreError, percent};
use std::path::Path;
use std::time::Duration;

/// By then a call of another node has ended, or will never.
const SETTLED: Duration = Duration::from_secs(2);
/// Looks for which the lock is held at a time.
const LOOKS: usize = 64;

/// What a whole look showed.
#[derive(Debug)]
pub struct Verified {
    /// The store's format; `None` where it cannot be read.
    pub format: Option<u64>,
    /// Records that can be read.
    pub records: usize,
    /// Entries of the index by attachment and by pod.
    pub entries: usize,
    /// What is wrong, in order.
    pub findings: Vec<Finding>,
}

impl<D: Disk> FileStore<D> {
    /// Reads the whole store; waits for the lock no longer than the deadline.
    ///
    /// # Errors
    /// There is no store, or one of a newer format.
    pub fn verify(&self, deadline: Deadline) -> Result<Verified, StoreError> {
        self.verify_each(deadline, &mut |_| {})
    }

    /// The same, and shows each record that can be read.
    pub(crate) fn verify_each(&self, deadline: Deadline, each: &mut dyn FnMut(Allocation)) -> Result<Verified, StoreError> {
        self.refuse_another()?;
        let mut walk = Walk::new(&self.disk);
        let mut format = None;
        match self.exists()?.then(|| self.read_format()) {
            None => return Err(self.absent()),
            Some(Ok(Some(found))) => format = Some(found.number),
            Some(Ok(None)) if self.disk.inode(Path::new(layout::SCOPES)).is_err() => {
                return Err(self.absent());
            }
            Some(Ok(None)) => walk.suspect(Problem::Format, Path::new(layout::FORMAT), "it is missing"),
            Some(Err(StoreError::BadFormat { reason, .. })) => walk.suspect(Problem::Format, Path::new(layout::FORMAT), &reason),
            Some(Err(error)) => return Err(error),
        }
        walk.root();
        walk.records(each);
        walk.index(None);
        walk.unindexed();
        walk.doubles();
        let (records, entries) = (walk.count(), walk.entries);
        let mut suspects = walk.suspects;
        self.drop_what_only_looks_copied(&mut suspects)?;
        let mut findings = self.settle(suspects, deadline)?;
        findings.sort_by(|a, b| (a.problem, &a.path).cmp(&(b.problem, &b.path)));
        Ok(Verified { format, records, entries, findings })
    }

    /// On sshfs and unions the entry and the record of every healthy pair show two
    /// inodes, as if the tree had been copied. Two fresh names tell the one from the
    /// other.
    fn drop_what_only_looks_copied(&self, suspects: &mut Vec<Finding>) -> Result<(), StoreError> {
        let is_copy = |suspect: &Finding| suspect.problem == Problem::Split;
        if suspects.iter().any(is_copy) && !self.is_local()? && show_one_inode(&self.disk) == Some(false) {
            suspects.retain(|suspect| !is_copy(suspect));
        }
        Ok(())
    }

    /// What calls of a node that were killed have left behind.
    ///
    /// # Errors
    /// The lock was not free in time.
    pub fn left_overs(&self, node: &NodeName, deadline: Deadline) -> Result<Vec<Finding>, StoreError> {
        self.refuse_another()?;
        let mut walk = Walk::new(&self.disk);
        walk.index(Some(&percent::escape(node.as_str())));
        walk.suspects.retain(|suspect| matches!(suspect.problem, Problem::LeftOver | Problem::PodLeftOver | Problem::Temporary));
        self.settle(walk.suspects, deadline)
    }

    /// Looks again at what may have been a call in flight.
    pub(crate) fn settle(&self, mut suspects: Vec<Finding>, deadline: Deadline) -> Result<Vec<Finding>, StoreError> {
        if suspects.is_empty() {
            return Ok(suspects);
        }
        // A store that can only be read has no lock to give.
        if self.is_local()? && self.wait_store(true, &deadline).is_ok() {
            let mut found = Vec::new();
            for some in suspects.chunks_mut(LOOKS) {
                let _lock = self.wait_store(true, &deadline)?;
                found.extend(some.iter_mut().filter_map(|suspect| self.confirm(suspect).then(|| suspect.clone())));
            }
            return Ok(found);
        }
        let settled = Deadline::after(SETTLED);
        let nothing: Result<_, StoreError> = retry::until(&settled, || {
            suspects.retain_mut(|suspect| self.confirm(suspect));
            Ok(suspects.is_empty().then_some(()))
        });
        nothing?;
        Ok(suspects)
    }

    /// What cannot be looked at again stays, and says why.
    fn confirm(&self, suspect: &mut Finding) -> bool {
        let look = if suspect.problem.is_of_notes() { self.is_noted_still(suspect) } else { is_still_so(&self.disk, suspect) };
        look.unwrap_or_else(|error| {
            suspect.reason = error.to_string();
            true
        })
    }
}
