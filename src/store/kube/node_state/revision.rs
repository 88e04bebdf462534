//! Detects that the cluster was set back, for example because etcd was restored from a backup.
//!
//! Each answer to a creation, a change or a list names the cluster's revision, which only grows.
//! The node notes the highest revision that it has seen. If an answer is below what was noted
//! before its request was sent, the cluster has lost everything in between, perhaps records of
//! living pods. The call leaves a mark and continues; `install --watch` looks for the mark and runs
//! `repair`, and so does `sweep`. The revision and the mark are two files, which are never synced:
//! a hint that is lost costs the hour until the next `repair`.
//!
//! Concurrent calls raise no alarm: if one call has noted a revision before another call sends its
//! request, the server had reached that revision before.

use super::State;
use crate::ipam::NodeName;
use crate::store::disk::RealDisk;
use crate::store::kube::KubeStore;
use crate::store::kube::api::{Api, Of};
use crate::store::upkeep::SetBack;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

const REVISION: &str = "revision";
const SET_BACK: &str = "set-back";
/// When a call has seen that last. A repair does not remove it.
const SET_BACK_AT: &str = "restored-at";
/// For how long it is of interest after a reboot.
const CARRIED_OVER: Duration = Duration::from_secs(600);

#[derive(Serialize, Deserialize)]
struct Mark {
    noted: u64,
    answered: u64,
    /// Milliseconds since 1970.
    at: u64,
}

/// When it was seen.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SeenAt {
    /// Milliseconds since the boot.
    since_boot: u64,
    /// Milliseconds since 1970. Only a reboot needs it.
    at: u64,
}

impl SeenAt {
    /// Returns what is of interest after a reboot. `now` is the time since 1970.
    fn after_a_boot(&self, now: Duration, since_boot: Duration) -> Option<Self> {
        let ago = now.abs_diff(Duration::from_millis(self.at));
        // The first list of this boot may have shown it.
        let is_of_this_boot = ago < since_boot;
        let since_boot = if is_of_this_boot { self.since_boot } else { 0 };
        (is_of_this_boot || ago < CARRIED_OVER).then_some(Self { since_boot, at: self.at })
    }
}

impl State {
    fn revision(&self) -> Option<u64> {
        let bytes = self.read(Path::new(REVISION)).ok()??;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    }

    /// Returns how long ago a call of this boot has seen that the cluster was set back.
    pub(crate) fn since_set_back(&self) -> Option<Duration> {
        let seen = self.set_back_at()?;
        self.disk().since_boot().checked_sub(Duration::from_millis(seen.since_boot))
    }

    fn set_back_at(&self) -> Option<SeenAt> {
        serde_json::from_slice(&self.read(Path::new(SET_BACK_AT)).ok()??).ok()
    }

    /// Lets what was seen shortly before a reboot count as seen at the boot, and forgets it
    /// otherwise: the time since another boot says nothing.
    pub(super) fn carry_set_back_over(&self) {
        let Some(seen) = self.set_back_at() else { return };
        let now = self.disk().now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let _ = match seen.after_a_boot(now, self.disk().since_boot()) {
            Some(carried) if carried == seen => Ok(()),
            Some(carried) => self.write(Path::new(SET_BACK_AT), &carried),
            None => self.remove(Path::new(SET_BACK_AT)),
        };
    }

    fn set_back(&self) -> Option<Mark> {
        let bytes = self.read(Path::new(SET_BACK)).ok()??;
        serde_json::from_slice(&bytes).ok()
    }
}

impl Api {
    /// Returns what is noted before a request is sent.
    pub(crate) fn noted(&self) -> Option<u64> {
        self.watched.as_ref().and_then(|state| state.revision())
    }

    /// Compares an answer with what had been noted before its request. A failure here does not fail
    /// the call.
    pub(crate) fn compare(&self, noted: Option<u64>, answered: Option<&str>, of: Of) {
        let (Some(state), Some(answered)) =
            (&self.watched, answered.and_then(|revision| revision.parse().ok()))
        else {
            return;
        };
        let was_set_back =
            noted.is_some_and(|noted| answered < noted || of == Of::Write && answered == noted);
        if let Some(noted) = noted.filter(|_| was_set_back) {
            tracing::error!(
                noted,
                answered,
                "the cluster was restored to an older state; \"repair\" recreates the lost objects of this node"
            );
            let at = state.disk().now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let mark = Mark { noted, answered, at: u64::try_from(at.as_millis()).unwrap_or(0) };
            if let Err(error) = state.write(Path::new(SET_BACK), &mark) {
                tracing::warn!(%error, "cannot note that the cluster was restored to an older state");
                return;
            }
            let since_boot = u64::try_from(state.disk().since_boot().as_millis()).unwrap_or(0);
            let _ = state.write(Path::new(SET_BACK_AT), &SeenAt { since_boot, at: mark.at });
        }
        if was_set_back || noted.is_none_or(|noted| noted < answered) {
            let _ = state.write(Path::new(REVISION), &answered);
        }
    }
}

impl KubeStore {
    /// Implements [`crate::store::upkeep::Upkeep::set_back`].
    pub(crate) fn find_set_back(&self) -> Option<SetBack> {
        if self.for_dead_node {
            return None;
        }
        self.find_cluster().ok()?;
        self.state.set_back().map(|mark| SetBack {
            noted: mark.noted,
            answered: mark.answered,
            at: mark.at,
        })
    }

    /// Removes the mark, unless another one has replaced it.
    pub(crate) fn remove_set_back(&self, known: &SetBack) {
        if self.find_set_back().as_ref() == Some(known)
            && let Err(error) = self.state.remove(Path::new(SET_BACK))
        {
            tracing::warn!(%error, "cannot remove the note that the cluster was restored to an older state");
        }
    }
}

/// Returns the marks in a node's state as they are; empty if there is none. `root` is the path at
/// which the node's own `/` is seen.
#[must_use]
pub(crate) fn marks(root: &Path, data_dir: &Path, node: &NodeName) -> Vec<u8> {
    let path = crate::store::kube::state_of(data_dir, node);
    let state =
        State::new(Box::new(RealDisk::new(root.join(path.strip_prefix("/").unwrap_or(&path)))));
    let mark = |cluster: PathBuf| {
        state.go_to(&cluster);
        state.read(Path::new(SET_BACK)).ok().flatten().unwrap_or_default()
    };
    state.clusters().flat_map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_cluster_is_known_after_a_reboot_and_not_for_ever() {
        let seen = SeenAt { since_boot: 50_000, at: 1_000_000 };
        let carried = |now: u64, since_boot: u64| {
            let at = |seconds| Duration::from_secs(seconds);
            seen.after_a_boot(at(now), at(since_boot)).map(|seen| seen.since_boot)
        };
        assert_eq!(carried(1_010, 60), Some(50_000), "the same boot");
        assert_eq!(carried(1_100, 20), Some(0), "the next boot");
        assert_eq!(carried(2_000, 20), None);
        assert_eq!(carried(10, 5), None, "the clock was set back");
    }
}
