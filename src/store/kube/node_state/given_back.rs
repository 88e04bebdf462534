//! The slices that this node has given back, by the uids of their objects.
//!
//! A cluster that is restored to an older state has their objects again, and they name this node,
//! though another node may have claimed the blocks since. So the uid is noted durably before the
//! object is deleted, and a slice with this uid is never used again: see `slices/restored`.

use super::State;
use super::slices::Moment;
use crate::retry::Deadline;
use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use std::path::Path;

const GIVEN_BACK: &str = "given-back";
/// The maximum number of uids that are kept. Beyond that the oldest are dropped: a backup from
/// before so many returns counts as if the node had lost its disk.
const MOST: usize = 4096;

/// A slice that this node has given back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GivenBack {
    /// The uid of its object.
    pub(crate) uid: String,
    /// Since when this node has seen the object again, with its mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seen: Option<Moment>,
}

impl State {
    /// Returns the slices that this node has given back, the oldest first. A damaged file counts as
    /// a lost disk: only in a cluster that was restored, it is missed.
    pub(crate) fn given_back(&self) -> Result<Vec<GivenBack>, StoreError> {
        let path = Path::new(GIVEN_BACK);
        let Some(bytes) = self.read_unless_damaged(path)? else { return Ok(Vec::new()) };
        serde_json::from_slice(&bytes).or_else(|error| {
            tracing::error!(%error, "the notes about slices that were given back are damaged");
            self.put_aside(&self.at(path))?;
            Ok(Vec::new())
        })
    }

    /// Changes the notes durably.
    fn change_given_back(
        &self,
        deadline: &Deadline,
        change: impl FnOnce(&mut Vec<GivenBack>),
    ) -> Result<(), StoreError> {
        let _lock = self.lock_briefly(deadline)?;
        let mut noted = self.given_back()?;
        let before = noted.clone();
        change(&mut noted);
        noted.drain(..noted.len().saturating_sub(MOST));
        match noted == before {
            true => Ok(()),
            false => self.write_durably(Path::new(GIVEN_BACK), &noted),
        }
    }

    /// Notes that a slice is given back.
    pub(crate) fn note_given_back(
        &self,
        uid: Option<&str>,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let Some(uid) = uid else { return Ok(()) };
        self.change_given_back(deadline, |noted| {
            if noted.iter().all(|known| known.uid != uid) {
                noted.push(GivenBack { uid: uid.to_owned(), seen: None });
            }
        })
    }

    /// Notes that a slice is this node's after all.
    pub(crate) fn forget_given_back(
        &self,
        uid: Option<&str>,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        self.change_given_back(deadline, |noted| {
            noted.retain(|known| Some(known.uid.as_str()) != uid)
        })
    }

    /// Notes since when a slice that was given back is seen again.
    pub(crate) fn note_seen_again(
        &self,
        uid: &str,
        seen: Option<&Moment>,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        self.change_given_back(deadline, |noted| {
            for known in noted.iter_mut().filter(|known| known.uid == uid) {
                known.seen = seen.cloned();
            }
        })
    }
}
