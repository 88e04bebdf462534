//! What nodes publish about the addresses in their slices, in the status of the objects. For people
//! and for `list`: nothing else reads it, and no address is given or freed for it.
//!
//! A node writes the status of a slice at most once a minute, and only if it says something new. The
//! time of the last write is in the status itself, so that a DaemonSet that restarts writes no more.

use super::{of_pool, review};
use crate::ipam::NodeName;
use crate::retry::Deadline;
use crate::store::kube::api::Changed;
use crate::store::kube::api::paging::Place;
use crate::store::kube::node_state::slices::NotedSlice;
use crate::store::kube::objects::ip_slice::{self, IpSlice};
use crate::store::kube::objects::ip_slice_status::Status;
use crate::store::kube::objects::names;
use crate::store::kube::{KubeStore, PATIENCE};
use crate::store::slices::{Compared, PublishedSlice, SliceHolder};
use crate::store::{Filter, StoreError};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

/// The time between two writes of the status of one slice.
const PAUSE: Duration = Duration::from_secs(60);
/// How long a write may take. The next look repeats it, so a server that is full is left alone.
const LIMIT: Duration = Duration::from_secs(5);

/// The holders in the slices of this node, by the name of the slice.
pub(crate) type Holders = BTreeMap<String, Vec<SliceHolder>>;

impl KubeStore {
    /// Publishes what is held in the slices that this node owns or owned in this boot: of those
    /// whose status says something else and is old enough.
    pub(crate) fn publish_slices(
        &self,
        found: &[IpSlice],
        holders: &Holders,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let now = self.now();
        for (object, holders) in self.own_of(found, holders)? {
            let status = Status::new(holders, now);
            let before = object.status.as_ref();
            let is_due = before.is_none_or(|before| {
                !before.says_the_same(&status) && is_old_enough(before.at(), now)
            });
            let Some(version) = object.version().filter(|_| is_due) else { continue };
            let name = &object.metadata.name;
            let limit = Deadline::after(LIMIT.min(deadline.left()));
            let changed: Changed<IpSlice> =
                self.api.patch_status(ip_slice::PLURAL, name, &status, &version, &limit)?;
            // After a change in the meantime, the next look publishes.
            let Changed::Done(changed) = changed else { continue };
            self.note_revision(&changed, deadline)?;
        }
        Ok(())
    }

    /// Lets the note about a slice name the revision that the publication has made: its next change
    /// and its return then need no further request.
    fn note_revision(&self, changed: &IpSlice, deadline: &Deadline) -> Result<(), StoreError> {
        self.state.change_slices(deadline, |noted| {
            let metadata = &changed.metadata;
            let is_same = |known: &&mut NotedSlice| {
                known.name() == metadata.name && known.object.metadata.uid == metadata.uid
            };
            if let Some(known) = noted.slices.iter_mut().find(is_same) {
                known.object.metadata.resource_version.clone_from(&metadata.resource_version);
            }
        })
    }

    /// Returns the objects of slices whose addresses only this machine gives or gave in this boot,
    /// with their holders.
    fn own_of<'f>(
        &self,
        found: &'f [IpSlice],
        holders: &'f Holders,
    ) -> Result<Vec<(&'f IpSlice, &'f [SliceHolder])>, StoreError> {
        let noted = self.state.slices()?.slices;
        let own = found.iter().filter_map(|object| {
            let is_own = object.spec.node == self.host.node.as_str()
                && object.spec.machine == self.machine
                // Another boot: a copy of this machine runs, too, and publishes what it has given.
                && object.spec.boot_id == self.host.boot_id
                && object.metadata.deletion_timestamp.is_none();
            let is_noted = noted.iter().any(|noted| {
                noted.name() == object.metadata.name
                    && noted.object.metadata.uid == object.metadata.uid
            });
            let holders = holders.get(&object.metadata.name)?;
            (is_own && is_noted).then_some((object, holders.as_slice()))
        });
        Ok(own.collect())
    }

    /// Implements [`crate::store::slices::Slices::compare`].
    pub(crate) fn compare_slices(
        &self,
        holders: &Holders,
        deadline: &Deadline,
    ) -> Result<Vec<Compared>, StoreError> {
        if holders.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.slice_objects(Some(&self.host.node), deadline)?;
        let compared = self.own_of(&found, holders)?.into_iter().map(|(object, held)| {
            let published: Vec<SliceHolder> =
                object.status.iter().flat_map(Status::holders).collect();
            let now = Status::new(held, SystemTime::UNIX_EPOCH);
            let now: Vec<SliceHolder> = now.holders().collect();
            let missing = |from: &[SliceHolder], in_: &[SliceHolder]| {
                let known: HashSet<&SliceHolder> = in_.iter().collect();
                from.iter().filter(|holder| !known.contains(holder)).cloned().collect()
            };
            Compared {
                unpublished: missing(&now, &published),
                outdated: missing(&published, &now),
                slice: review::slice(object.clone()),
            }
        });
        Ok(compared.collect())
    }

    /// Implements [`crate::store::slices::Slices::published`]. `except` is a node whose slices are
    /// left out.
    pub(crate) fn published_slices<'s>(
        &'s self,
        filter: &Filter,
        except: Option<&NodeName>,
    ) -> impl Iterator<Item = Result<PublishedSlice, StoreError>> + use<'s> {
        let mut parts = Vec::new();
        if let Some(node) = &filter.node {
            parts.push(format!("{}={}", names::NODE, names::of_node(node)));
        }
        if let Some(pool) = filter.scope.as_ref().and_then(|scope| scope.sliced_pool()) {
            parts.push(of_pool(pool));
        }
        let (node, except) = (filter.node.clone(), except.cloned());
        let pages = Pages {
            store: self,
            selector: parts.join(","),
            place: Place::default(),
            deadline: filter.deadline,
        };
        pages
            .flat_map(|page| {
                let (page, failed) = match page {
                    Ok(page) => (page, None),
                    Err(error) => (Vec::new(), Some(Err(error))),
                };
                page.into_iter().map(|object| Ok(published(object))).chain(failed)
            })
            .filter(move |item| {
                let Ok(found) = item else { return true };
                let is = |node: &NodeName| found.slice.node == node.as_str();
                node.as_ref().is_none_or(is) && !except.as_ref().is_some_and(is)
            })
    }
}

/// The pages of a list of slices.
struct Pages<'s> {
    store: &'s KubeStore,
    selector: String,
    place: Place,
    deadline: Option<Deadline>,
}

impl Iterator for Pages<'_> {
    type Item = Result<Vec<IpSlice>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.place.is_ended() {
            return None;
        }
        let deadline = self.deadline.unwrap_or_else(|| Deadline::after(PATIENCE));
        let api = &self.store.api;
        let page =
            api.page_of_objects(ip_slice::PLURAL, &self.selector, &mut self.place, &deadline);
        if page.is_err() {
            self.place.end();
        }
        Some(page)
    }
}

fn published(object: IpSlice) -> PublishedSlice {
    let holders = object.status.iter().flat_map(Status::holders).collect();
    PublishedSlice { holders, slice: review::slice(object) }
}

/// Returns whether a status may be written again. One from the future shows that a clock was wrong.
fn is_old_enough(written: Option<SystemTime>, now: SystemTime) -> bool {
    let age = written.and_then(|written| now.duration_since(written).ok());
    // The time in the status is in whole seconds, and may be a second too early.
    age.is_none_or(|age| PAUSE < Duration::from_secs(age.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_writes_there_is_a_minute_and_a_wrong_clock_stops_none() {
        let at =
            |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 900);
        let written = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        for (now, expected) in [(100, false), (159, false), (160, false), (161, true), (99, true)] {
            assert_eq!(is_old_enough(written, at(now)), expected, "{now}");
        }
        assert!(is_old_enough(None, at(0)));
    }
}
