//! The move of a cluster from Whereabouts to hereabouts, while nodes of both give addresses out of
//! one range.
//!
//! While the move shows addresses (`objects/move_object`), an address of hereabouts counts as given
//! only when Whereabouts sees it: entries in its IPPools, and an OverlappingRangeIPReservation.
//!
//! - `holder`: what stands in these objects for a record, and whose an entry is
//! - `pools`: which pools matter, and what stands in them
//! - `turn`: a turn under Whereabouts' Lease
//! - `show`: makes an address visible
//! - `withdraw`: takes it back
//! - `ended`: whether a pod has ended under Whereabouts
//! - `note`: what this node has noted about the move
//! - `during`: when a session does so
//! - `answer`: what this node answers to the move
//! - `calls`: the requests

mod answer;
mod calls;
mod during;
mod ended;
mod holder;
mod note;
mod pools;
mod show;
mod turn;
mod withdraw;

use super::KubeStore;
use super::objects::move_object::{MoveObject, NAME, PLURAL};
use crate::retry::Deadline;
use crate::store::StoreError;
pub(crate) use during::During;
pub use holder::Shown;
pub(crate) use holder::is_guarded;
pub use show::Showing;

impl KubeStore {
    /// Reads the Move of the cluster. Returns `None` if nothing is moved, also if the cluster does not
    /// know such objects.
    ///
    /// # Errors
    /// The API server cannot be asked, or its answer cannot be read.
    pub fn read_move(&self, deadline: &Deadline) -> Result<Option<MoveObject>, StoreError> {
        match self.api.get_object(PLURAL, NAME, deadline) {
            Err(StoreError::NoResource { .. }) => Ok(None),
            answer => answer,
        }
    }
}
