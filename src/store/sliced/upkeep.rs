//! The operator commands on both halves. A finding of the file half bears a mark, so that its repair
//! finds the way back.

use super::SlicedStore;
use crate::ipam::{NodeName, Scope};
use crate::retry::Deadline;
use crate::store::disk::Disk;
use crate::store::upkeep::{
    Extent, Finding, IsAlive, IsLeftBehind, Repaired, SetBack, TakenOver, Upkeep, Verified,
};
use crate::store::{Filter, Store, StoreError};
use std::path::Path;

/// The begin of the key of a finding of the file half.
const OF_FILES: &str = "slices/";

fn marked(finding: Finding) -> Finding {
    Finding { key: format!("{OF_FILES}{}", finding.key), ..finding }
}

impl<D: Disk> SlicedStore<D> {
    /// Gives back the slices that are empty, but not yet the last one of a pool.
    fn give_back_slices(&self, deadline: &Deadline) -> Result<usize, StoreError> {
        self.kube.give_back_slices(
            &|pool, block| {
                let filter = Filter { scope: Some(Scope::of_slices(pool)), ..Filter::default() };
                for held in self.files.list(&filter)? {
                    // A record that cannot be read may be of any address.
                    if held.map_or(true, |held| block.contains(held.address)) {
                        return Ok(false);
                    }
                }
                Ok(true)
            },
            deadline,
        )
    }
}

impl<D: Disk> Upkeep for SlicedStore<D> {
    fn complete(&self, deadline: Deadline) -> Result<(), StoreError> {
        self.kube.complete(deadline)
    }

    fn set_back(&self) -> Option<SetBack> {
        self.kube.set_back()
    }

    fn forget_set_back(&self, known: &SetBack) {
        self.kube.forget_set_back(known);
    }

    fn take_over(
        &self,
        node_uid: &str,
        is_left_behind: IsLeftBehind<'_>,
        deadline: Deadline,
    ) -> Result<TakenOver, StoreError> {
        self.kube.take_over(node_uid, is_left_behind, deadline)
    }

    fn verify(
        &self,
        extent: Extent,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Verified, StoreError> {
        let mut verified = self.kube.verify(extent, is_alive, deadline)?;
        if self.files.is_there()? {
            let files = Upkeep::verify(&self.files, extent, is_alive, deadline)?;
            verified.records += files.records;
            verified.entries += files.entries;
            verified.findings.extend(files.findings.into_iter().map(marked));
            verified.census.add(files.census);
        }
        Ok(verified)
    }

    fn orphans(
        &self,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Vec<Finding>, StoreError> {
        let mut orphans = self.kube.orphans(is_alive, deadline)?;
        if self.files.is_there()? {
            let files = Upkeep::orphans(&self.files, is_alive, deadline)?;
            orphans.extend(files.into_iter().map(marked));
        }
        Ok(orphans)
    }

    fn repair(
        &self,
        finding: &Finding,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Repaired, StoreError> {
        match finding.key.strip_prefix(OF_FILES) {
            Some(key) => {
                let finding = Finding { key: key.to_owned(), ..finding.clone() };
                Upkeep::repair(&self.files, &finding, is_alive, deadline)
            }
            None => self.kube.repair(finding, is_alive, deadline),
        }
    }

    fn tidy(&self, deadline: Deadline) -> Result<usize, StoreError> {
        let mut removed = self.kube.tidy(deadline)?;
        if self.files.is_there()? {
            removed += self.give_back_slices(&deadline)?;
            removed += self.files.tidy(deadline)?;
        }
        Ok(removed)
    }

    fn knows(&self, node: &NodeName) -> bool {
        self.kube.knows(node)
    }

    fn release_damaged(&self, record: &Path, deadline: Deadline) -> Result<bool, StoreError> {
        Ok(self.files.is_there()? && Upkeep::release_damaged(&self.files, record, deadline)?)
    }
}
