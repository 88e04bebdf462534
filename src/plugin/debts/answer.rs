//! What the caller of a DEL is told if the DEL failed. Only this file decides it.
//!
//! After a failure a runtime does not continue: kubelet makes no new sandbox until the DEL of the
//! dead one has succeeded, and a pod that ends stays Terminating. After a success it continues and
//! removes the interface. So success is the answer only if nothing is lost by it, and only while
//! the API server is away:
//!
//! - the call has the attachment's lock, so that no ADD of it is under way;
//! - the node itself knows which records the attachment holds, and in which state each of them is;
//! - the debt is written.
//!
//! The address stays held until the debt is settled. Everything that a person must repair (a
//! missing right, a disk, a store that is not mounted) is always an error, until it is repaired.

use crate::ipam::Allocation;
use crate::store::StoreError;
use std::time::Duration;

/// How the call that left a debt was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With an error: the interface may be up and use its address.
    Error,
    /// With success: the attachment has ended.
    Success,
}

/// After this time without an answer of the API server, a DEL leaves a debt if it may be answered
/// with success. The time is long enough for a second attempt at a server that is silent. Ten DELs
/// in a row, as Multus makes those of a pod, take the two minutes that kubelet has for them.
pub const SOON: Duration = Duration::from_secs(12);

impl Answer {
    /// Returns whether a DEL may be answered with success when the API server is away. `held` are
    /// the records that its node shows, and `exclusive` tells whether the DEL holds the
    /// attachment's lock.
    #[must_use]
    pub fn may_be_success(held: Option<&[Allocation]>, exclusive: bool) -> bool {
        // If the outcome of a creation is unknown, a later call could not tell that its object is
        // the one that has ended.
        exclusive && held.is_some_and(|held| held.iter().all(|known| known.version.is_some()))
    }

    /// Returns the answer to a DEL that failed, if its debt can be written.
    #[must_use]
    pub fn to_del(error: &StoreError, held: Option<&[Allocation]>, exclusive: bool) -> Self {
        let is_away = matches!(error, StoreError::Unreachable { is_away: true, .. });
        if is_away && Self::may_be_success(held, exclusive) { Self::Success } else { Self::Error }
    }

    /// Returns the word for notes and listings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Success => "success",
        }
    }
}
