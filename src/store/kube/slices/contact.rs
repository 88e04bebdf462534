//! How long ago a node has heard from the API server about its slices.
//!
//! The slices of a node that seems to be off are released, and other nodes claim them. A node that
//! was only cut off must see this before it gives another address. The look of the DaemonSet each
//! minute shows it. A call that finds that the last look is long ago looks first. Without an answer
//! it goes on: a node that reaches no API server gets no new pods, and its slices are used until
//! then.

use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::node_state::slices::{Moment, NotedSlice, NotedSlices};
use std::time::Duration;

/// After this time a call looks itself. A slice is removed at the earliest twice as long after the
/// last sign of life of its node.
const LONG: Duration = Duration::from_secs(300);
/// The time between two attempts without an answer.
const PAUSE: Duration = Duration::from_secs(60);
/// How long an ADD waits for the answer.
const PATIENCE: Duration = Duration::from_secs(1);

impl KubeStore {
    /// Compares this node's slices with the cluster, for a call that finds that the last time is long
    /// ago. Goes on without an answer.
    pub(super) fn look(&self, deadline: &Deadline) {
        let patience = Deadline::after(PATIENCE.min(deadline.left()));
        if let Err(error) = self.look_once(&patience) {
            tracing::warn!(%error, "the API server does not tell whether this node still owns its slices; they are used as before");
        }
    }

    /// Only one call looks. The others wait for it.
    fn look_once(&self, patience: &Deadline) -> Result<(), StoreError> {
        let lock = self.state.lock_slices(patience)?;
        let noted = self.state.slices()?;
        let has_tried = noted.tried.as_ref().is_some_and(|tried| self.is_within(tried, PAUSE));
        if has_tried || !self.is_long_ago(&noted) {
            return Ok(());
        }
        let now = self.moment();
        self.state.change_slices(patience, |noted| noted.tried = Some(now))?;
        self.compare_with_cluster(patience)?;
        drop(lock);
        self.refresh_copies(patience)
    }

    /// Notes a slice of which the API server has just said that it is this node's.
    pub(super) fn note_owned(
        &self,
        owned: NotedSlice,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let now = self.moment();
        self.state.change_slices(deadline, |noted| {
            noted.put(owned);
            // The first one of a boot: the node has no others that are used.
            let is_first = noted.looked.as_ref().is_none_or(|looked| looked.boot != now.boot);
            if is_first {
                noted.looked = Some(now);
            }
        })
    }

    /// Returns whether the last look is long ago.
    pub(super) fn is_long_ago(&self, noted: &NotedSlices) -> bool {
        !noted.looked.as_ref().is_some_and(|looked| self.is_within(looked, LONG))
    }

    /// Returns whether a moment is in this boot, and at most this long ago.
    fn is_within(&self, moment: &Moment, time: Duration) -> bool {
        moment.before(&self.moment()).is_some_and(|ago| ago < time)
    }

    pub(in crate::store::kube) fn moment(&self) -> Moment {
        Moment { boot: self.host.boot_id.clone(), at: self.now_since_boot() }
    }
}
