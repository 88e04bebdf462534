//! The operator commands on both halves. A finding of the file half bears a mark, so that its repair
//! finds the way back.

use super::SlicedStore;
use crate::ipam::{Allocation, NodeName, Scope};
use crate::retry::Deadline;
use crate::store::disk::Disk;
use crate::store::slices::{OwnSlice, Removal, Slice, Slices, Synced};
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

impl<D: Disk> Slices for SlicedStore<D> {
    fn all(&self, node: Option<&NodeName>, deadline: &Deadline) -> Result<Vec<Slice>, StoreError> {
        self.kube.list_slices(node, deadline)
    }

    fn own(&self) -> Result<Vec<OwnSlice>, StoreError> {
        let mut own = Vec::new();
        for noted in self.kube.noted_slices()? {
            let block = noted.object.block();
            let held = match self.has_files()? {
                false => 0,
                true => {
                    let of_block = |held: &Result<Allocation, StoreError>| {
                        held.as_ref().is_ok_and(|held| block.contains(held.address))
                    };
                    self.files.list(&of_pool(&noted.object.spec.pool))?.filter(of_block).count()
                }
            };
            let state = self.kube.state_of_slice(&noted);
            own.push(OwnSlice { name: noted.name().to_owned(), state, held });
        }
        Ok(own)
    }

    fn sync(&self, deadline: &Deadline) -> Result<Synced, StoreError> {
        if !self.has_files()? {
            return Ok(Synced::default());
        }
        let synced = self.kube.review_slices(deadline)?;
        Ok(Synced { given_back: self.give_back_slices(deadline)?, ..synced })
    }

    fn release(&self, node: &NodeName, deadline: &Deadline) -> Result<Vec<Slice>, StoreError> {
        self.kube.release_slices(node, deadline)
    }

    fn remove(&self, name: &str, deadline: &Deadline) -> Result<Removal, StoreError> {
        self.kube.remove_slice(name, deadline)
    }
}

fn of_pool(pool: &str) -> Filter {
    Filter { scope: Some(Scope::of_slices(pool)), ..Filter::default() }
}

impl<D: Disk> SlicedStore<D> {
    /// Gives back the slices that are empty, but not yet the last one of a pool.
    fn give_back_slices(&self, deadline: &Deadline) -> Result<usize, StoreError> {
        // Files that are new show no address of a living pod.
        self.bind_files(deadline)?;
        self.kube.give_back_slices(
            &|pool, block| {
                for held in self.files.list(&of_pool(pool))? {
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
    fn slices(&self) -> Option<&dyn Slices> {
        Some(self)
    }

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
        if self.has_files()? {
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
        if self.has_files()? {
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
        if self.has_files()? {
            removed += self.give_back_slices(&deadline)?;
            removed += self.files.tidy(deadline)?;
        }
        Ok(removed)
    }

    fn knows(&self, node: &NodeName) -> bool {
        self.kube.knows(node)
    }

    fn release_damaged(&self, record: &Path, deadline: Deadline) -> Result<bool, StoreError> {
        Ok(self.has_files()? && Upkeep::release_damaged(&self.files, record, deadline)?)
    }
}
