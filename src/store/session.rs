//! The session of a store: the calls that a verb makes after it has opened the store, and the
//! result of each.

use super::StoreError;
use crate::addr::AddrSet;
use crate::ipam::{Allocation, Attachment, IfName, NetworkName, PodRef, Record, Scope};

/// Calls that change a record only after a comparison. Each names the complete attachment, and is
/// refused if the store has another attachment. Each may be repeated.
pub trait Session {
    /// Returns what the attachment holds, in the order of its ADD.
    ///
    /// # Errors
    /// The store cannot be read.
    fn holdings(&self, attachment: &Attachment) -> Result<Holdings, StoreError>;

    /// Returns what any attachment of this pod and interface holds on this node, in this network.
    ///
    /// # Errors
    /// The store cannot be read.
    fn holdings_of_pod(
        &self,
        network: &NetworkName,
        pod: &PodRef,
        ifname: &IfName,
    ) -> Result<Vec<Allocation>, StoreError>;

    /// Claims the lowest free candidate. The claim is durable when the call returns.
    ///
    /// # Errors
    /// No address was claimed, unless the error says so.
    fn claim(
        &mut self,
        scope: &Scope,
        candidates: &AddrSet,
        record: &Record,
    ) -> Result<Claim, StoreError>;

    /// Returns the maximum number of addresses for one call of [`Self::claim_all`] or
    /// [`Self::release_all`]. These addresses share the steps that make them durable.
    fn at_once(&self) -> usize {
        1
    }

    /// Claims an address for each wanted item, from the first candidates that have room, and adds
    /// the claimed addresses to `made`, even if the call fails. Returns `Some` with the index of
    /// the first item whose candidates are all held. The claims are durable when the call returns.
    ///
    /// # Errors
    /// The addresses in `made` may not be durable. No other address was claimed, unless the error
    /// says so.
    fn claim_all(
        &mut self,
        scope: &Scope,
        wanted: &[Wanted<'_>],
        made: &mut Vec<Allocation>,
    ) -> Result<Option<usize>, StoreError> {
        for (number, wanted) in wanted.iter().enumerate() {
            match claim_one(self, scope, wanted)? {
                Claim::Claimed(allocation) => made.push(allocation),
                Claim::Full => return Ok(Some(number)),
            }
        }
        Ok(None)
    }

    /// Makes sure that the record of an earlier call is durable, so that it may be printed again.
    ///
    /// # Errors
    /// The record is not durable.
    fn confirm(&mut self, held: &Allocation) -> Result<(), StoreError>;

    /// Moves an address to another holder if its record is exactly the one that was read. `to`
    /// replaces the complete record. Both attachments must be locked.
    ///
    /// # Errors
    /// The old holder still holds the address, or no attachment does.
    fn rehome(&mut self, held: &Allocation, to: &Record) -> Result<Rehome, StoreError>;

    /// Frees an address, whichever record of this attachment is there. For DEL, which ends the
    /// attachment.
    ///
    /// # Errors
    /// The address may still be held. The call may be repeated.
    fn release(&mut self, held: &Allocation) -> Result<Release, StoreError>;

    /// Does the same for several addresses of one attachment, from the last to the first, because
    /// the index is built upwards.
    ///
    /// # Errors
    /// Some addresses may still be held. The call may be repeated.
    fn release_all(&mut self, held: &[Allocation]) -> Result<(), StoreError> {
        for allocation in held.iter().rev() {
            self.release(allocation)?;
        }
        Ok(())
    }

    /// Frees an address if its record is exactly the one that was read or made, by identity and
    /// content: the attachment may have another record there now.
    ///
    /// # Errors
    /// As [`Self::release`].
    fn release_unchanged(&mut self, held: &Allocation) -> Result<Release, StoreError>;

    /// Removes what interrupted calls of this attachment left behind. The attachment holds nothing.
    ///
    /// # Errors
    /// The remains stay; readers ignore them.
    fn clean_up(&mut self, attachment: &Attachment) -> Result<(), StoreError>;
}

/// What an attachment holds.
#[derive(Debug, Default)]
pub struct Holdings {
    /// The readable records.
    pub held: Vec<Allocation>,
    /// The records of the attachment that cannot be read: damaged, or too new.
    pub damaged: Vec<StoreError>,
    /// Whether there is something for [`Session::clean_up`] to remove.
    pub needs_cleanup: bool,
}

/// An address that an ADD must get: sets of candidates, each with the record to write, in the order
/// of preference.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The candidates and their records; at least one.
    pub candidates: Vec<(&'a AddrSet, Record)>,
}

/// Claims from the first candidates that have room.
pub(super) fn claim_one<S: Session + ?Sized>(
    session: &mut S,
    scope: &Scope,
    wanted: &Wanted<'_>,
) -> Result<Claim, StoreError> {
    for (candidates, record) in &wanted.candidates {
        if let claimed @ Claim::Claimed(_) = session.claim(scope, candidates, record)? {
            return Ok(claimed);
        }
    }
    Ok(Claim::Full)
}

/// The result of a claim.
#[allow(clippy::large_enum_variant, reason = "only one exists at a time, on the stack")]
#[derive(Debug)]
pub enum Claim {
    /// The address was claimed.
    Claimed(Allocation),
    /// Every candidate is held.
    Full,
}

/// The result of a re-homing.
#[allow(clippy::large_enum_variant, reason = "only one exists at a time, on the stack")]
#[derive(Debug)]
pub enum Rehome {
    /// The address was moved.
    Done(Allocation),
    /// The record has changed: nothing was moved.
    Changed,
}

/// The result of a release.
#[derive(Debug, PartialEq, Eq)]
pub enum Release {
    /// The address was freed.
    Done,
    /// The address belongs to another holder or to none; nothing was freed.
    NotYours,
}
