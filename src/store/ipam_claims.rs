//! What a store with IPAMClaims tells about them, and how a claim gets an address.

use super::StoreError;
use crate::addr::AddrSet;
use crate::ipam::{ClaimAllocation, ClaimPod, HeldAddress, IpamClaim, PodRef, Scope};
use crate::retry::Deadline;
use std::net::IpAddr;
use std::time::SystemTime;

/// IPAMClaims, see [`crate::ipam::IpamClaim`].
pub trait IpamClaims {
    /// Returns the claim of a name.
    ///
    /// # Errors
    /// It cannot be read.
    fn claim(
        &self,
        namespace: &str,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<IpamClaim>, StoreError>;

    /// Returns what a pod says about the claims that it uses.
    ///
    /// # Errors
    /// It cannot be read.
    fn pod(&self, pod: &PodRef, deadline: &Deadline) -> Result<Option<ClaimPod>, StoreError>;

    /// Returns what a claim holds, the address that it got first before the others.
    ///
    /// # Errors
    /// It cannot be read.
    fn held(&self, uid: &str, deadline: &Deadline) -> Result<Vec<ClaimAllocation>, StoreError>;

    /// Returns an address that a claim may try to get, or `None` if all candidates are held.
    /// `misses` counts the candidates that others turned out to hold since `began`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn choose(
        &self,
        scope: &Scope,
        candidates: &AddrSet,
        misses: u32,
        began: SystemTime,
        deadline: &Deadline,
    ) -> Result<Option<IpAddr>, StoreError>;

    /// Gives an address to a claim. Returns `None` if somebody else holds it.
    ///
    /// # Errors
    /// It is not known whether the claim holds the address now. [`Self::held`] tells.
    fn hold(
        &self,
        held: &ClaimAllocation,
        deadline: &Deadline,
    ) -> Result<Option<ClaimAllocation>, StoreError>;

    /// Tells what a claim holds whose user the attachment of this call is about to become. The store
    /// notes it with the user.
    fn note_use(&self, held: &[ClaimAllocation]);

    /// Returns who holds an address now.
    ///
    /// # Errors
    /// It cannot be read.
    fn holder(
        &self,
        scope: &Scope,
        address: IpAddr,
        deadline: &Deadline,
    ) -> Result<Option<HeldAddress>, StoreError>;
}
