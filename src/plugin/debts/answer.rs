//! What the caller of a DEL is told that could not be done. The only place that
//! decides it.
//!
//! Told of a failure, a runtime does not go on: kubelet makes no new sandbox until
//! the DEL of the dead one has succeeded, and a pod that ends stays Terminating.
//! Told of success it goes on, and removes the interface. So success is the answer
//! where nothing is lost by it, and while it is only that the API server is away:
//!
//! - the call has the attachment's lock, so that no ADD of it is under way;
//! - the node can tell by itself which records the attachment holds, and in which
//!   state each of them stands;
//! - the debt is written.
//!
//! Its address stays held until the debt is paid. Whatever a person has to mend (a
//! right that is missing, a disk, a store that is not mounted) is an error as ever,
//! for as long as it is not mended.

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

/// After so long without an answer of the API server a DEL leaves a debt, where it
/// may be answered with success: long enough for a second attempt at a server that
/// is silent; and ten in a row, as Multus makes those of a pod, take the two minutes
/// that kubelet has for them.
pub const SOON: Duration = Duration::from_secs(12);

impl Answer {
    /// Whether a DEL that holds the attachment's lock, or not, and to which its node
    /// shows these records, may be answered with success when the API server is away.
    #[must_use]
    pub fn may_be_success(held: Option<&[Allocation]>, exclusive: bool) -> bool {
        // Of a creation whose outcome is not known no payment could say that it is
        // the one that has ended.
        exclusive && held.is_some_and(|held| held.iter().all(|known| known.version.is_some()))
    }

    /// To a DEL that failed, if its debt can be written.
    #[must_use]
    pub fn to_del(error: &StoreError, held: Option<&[Allocation]>, exclusive: bool) -> Self {
        let is_away = matches!(error, StoreError::Unreachable { is_away: true, .. });
        if is_away && Self::may_be_success(held, exclusive) { Self::Success } else { Self::Error }
    }

    /// As notes and listings say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Success => "success",
        }
    }
}
