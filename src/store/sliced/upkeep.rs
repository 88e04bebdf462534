//! The operator commands on both halves. A finding of the file half bears a mark, so that its repair
//! finds the way back.

use super::SlicedStore;
use crate::ipam::{Allocation, Attachment, Block, NodeName, Scope};
use crate::retry::Deadline;
use crate::store::disk::Disk;
use crate::store::kube::Holders;
use crate::store::slices::{
    Compared, Keeps, OwnSlice, PublishedListing, Removal, Slice, SliceHolder, Slices, Synced,
};
use crate::store::upkeep::{
    Extent, Finding, IsAlive, IsLeftBehind, Repaired, SetBack, TakenOver, Upkeep, Verified,
};
use crate::store::{Filter, Store, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, SystemTime};

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

    fn sync(&self, keeps: Keeps<'_>, deadline: &Deadline) -> Result<Synced, StoreError> {
        if !self.has_files()? {
            return Ok(Synced::default());
        }
        let (synced, found) = self.kube.review_slices(deadline)?;
        let given_back = self.give_back_slices(keeps, deadline)?;
        // It decides nothing, so that a failure is only reported.
        let published =
            self.holders().and_then(|holders| self.kube.publish_slices(&found, &holders, deadline));
        let unpublished = published.err().map(|error| error.to_string());
        Ok(Synced { given_back, unpublished, ..synced })
    }

    fn published(&self, filter: &Filter) -> Result<PublishedListing<'_>, StoreError> {
        let own = Some(self.kube.node()).filter(|_| self.are_files_known);
        let own = own.filter(|_| self.has_files().unwrap_or(true));
        Ok(Box::new(self.kube.published_slices(filter, own)))
    }

    fn compare(&self, deadline: &Deadline) -> Result<Vec<Compared>, StoreError> {
        match self.has_files()? {
            true => self.kube.compare_slices(&self.holders()?, deadline),
            false => Ok(Vec::new()),
        }
    }

    fn give_back(&self, keeps: Keeps<'_>, deadline: &Deadline) -> Result<usize, StoreError> {
        match self.has_files()? {
            true => self.give_back_slices(keeps, deadline),
            false => Ok(0),
        }
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
    /// Returns who holds the addresses in the slices of this node, by the name of the slice. A record
    /// that cannot be read is left out.
    fn holders(&self) -> Result<Holders, StoreError> {
        let noted = self.kube.noted_slices()?;
        let mut holders: BTreeMap<String, Vec<SliceHolder>> = BTreeMap::new();
        let mut of_pools: BTreeMap<&str, Vec<(&str, Block)>> = BTreeMap::new();
        for slice in &noted {
            holders.insert(slice.name().to_owned(), Vec::new());
            let of_pool = of_pools.entry(&slice.object.spec.pool).or_default();
            of_pool.push((slice.name(), slice.object.block()));
        }
        for (pool, slices) in of_pools {
            let mut held: BTreeMap<&str, Vec<Allocation>> = BTreeMap::new();
            for allocation in self.files.list(&of_pool(pool))?.flatten() {
                let slice = slices.iter().find(|(_, block)| block.contains(allocation.address));
                if let Some((name, _)) = slice {
                    held.entry(name).or_default().push(allocation);
                }
            }
            for (name, held) in held {
                holders.insert(name.to_owned(), by_interface(held));
            }
        }
        Ok(holders)
    }

    /// Gives back the slices that are empty, but not yet the last one of a pool that may stay.
    fn give_back_slices(&self, keeps: Keeps<'_>, deadline: &Deadline) -> Result<usize, StoreError> {
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
            keeps,
            deadline,
        )
    }
}

/// Returns one holder for each interface, in the order of their first addresses.
fn by_interface(mut held: Vec<Allocation>) -> Vec<SliceHolder> {
    held.sort_by_key(|held| held.address);
    let mut holders: Vec<SliceHolder> = Vec::new();
    let mut places: HashMap<Attachment, usize> = HashMap::new();
    for Allocation { address, record, .. } in held {
        if let Some(known) = places.get(&record.attachment).and_then(|at| holders.get_mut(*at)) {
            known.addresses.push(address);
            known.since = known.since.min(in_seconds(record.since));
            continue;
        }
        let (namespace, pod) = record.pod.map(|pod| (pod.namespace, pod.name)).unwrap_or_default();
        holders.push(SliceHolder {
            addresses: vec![address],
            namespace,
            pod,
            ifname: record.attachment.ifname.to_string(),
            network: record.attachment.network.to_string(),
            since: in_seconds(record.since),
        });
        places.insert(record.attachment, holders.len() - 1);
    }
    holders
}

/// Returns a time without the part of its second.
fn in_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
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
            removed += self.give_back_slices(&|_| true, &deadline)?;
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
