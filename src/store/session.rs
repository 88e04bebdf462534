//! What a verb does with a store that it has opened: calls that compare, and how
//! each of them ends.

use super::StoreError;
use crate::addr::AddrSet;
use crate::ipam::{Allocation, Attachment, Draft, IfName, NetworkName, PodRef, Scope};

/// Calls that compare. Each names the whole attachment and is refused when the
/// store says another; each may be repeated.
pub trait Session {
    /// What the attachment holds, in the order of its ADD.
    ///
    /// # Errors
    /// The store cannot be read.
    fn holdings(&self, attachment: &Attachment) -> Result<Holdings, StoreError>;

    /// What any attachment of this pod and interface holds on this node, in
    /// this network.
    ///
    /// # Errors
    /// The store cannot be read.
    fn holdings_of_pod(&self, network: &NetworkName, pod: &PodRef, ifname: &IfName) -> Result<Vec<Allocation>, StoreError>;

    /// Takes the lowest free one of the candidates. Durable when it returns.
    ///
    /// # Errors
    /// Nothing was taken, unless the error says so.
    fn claim(&mut self, scope: &Scope, candidates: &AddrSet, draft: &Draft) -> Result<Claim, StoreError>;

    /// How many addresses a call of [`Self::claim_all`] or [`Self::release_all`]
    /// is given at most: so many share what makes them durable.
    fn at_once(&self) -> usize {
        1
    }

    /// Claims for each that is wanted from the first of its offers that has room,
    /// and adds what it has taken to `made`, also when it fails. `Some` is the
    /// first that no offer has room for. Durable when it returns.
    ///
    /// # Errors
    /// What is in `made` may not be durable; more is taken only when the error
    /// says so.
    fn claim_all(&mut self, scope: &Scope, wanted: &[Wanted<'_>], made: &mut Vec<Allocation>) -> Result<Option<usize>, StoreError> {
        for (number, wanted) in wanted.iter().enumerate() {
            match claim_one(self, scope, wanted)? {
                Claim::Claimed(allocation) => made.push(allocation),
                Claim::Full => return Ok(Some(number)),
            }
        }
        Ok(None)
    }

    /// Makes sure that what an earlier call wrote is durable, so that it may
    /// be printed again.
    ///
    /// # Errors
    /// It is not.
    fn confirm(&mut self, held: &Allocation) -> Result<(), StoreError>;

    /// Moves an address to another holder if its record is the very one that was
    /// read; `to` replaces the whole record. Both attachments must be locked.
    ///
    /// # Errors
    /// The old holder still has it, or nobody.
    fn rehome(&mut self, held: &Allocation, to: &Draft) -> Result<Rehome, StoreError>;

    /// Frees an address, whatever record of this attachment stands there: for
    /// DEL, which ends the attachment.
    ///
    /// # Errors
    /// It may be held still; a repeat is safe.
    fn release(&mut self, held: &Allocation) -> Result<Release, StoreError>;

    /// The same of several addresses of one attachment, from the last to the
    /// first: its index is made upwards.
    ///
    /// # Errors
    /// Some may be held still; a repeat is safe.
    fn release_all(&mut self, held: &[Allocation]) -> Result<(), StoreError> {
        for allocation in held.iter().rev() {
            self.release(allocation)?;
        }
        Ok(())
    }

    /// Frees an address if its record is the very one that was read or made, by
    /// identity and content: the attachment may have another by now.
    ///
    /// # Errors
    /// As [`Self::release`].
    fn release_unchanged(&mut self, held: &Allocation) -> Result<Release, StoreError>;

    /// Removes what calls of this attachment that were stopped in the middle
    /// left behind; it holds nothing.
    ///
    /// # Errors
    /// It stays; readers ignore it.
    fn mend(&mut self, attachment: &Attachment) -> Result<(), StoreError>;
}

/// What an attachment holds.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Readable records.
    pub held: Vec<Allocation>,
    /// Records of the attachment that cannot be read: damaged, or too new.
    pub damaged: Vec<StoreError>,
    /// Whether there is something to [`Session::mend`].
    pub left_over: bool,
}

/// An address that an ADD is to get: candidates, and what is recorded of one of
/// them, in the order of preference.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// At least one.
    pub offers: Vec<(&'a AddrSet, Draft)>,
}

/// Claims from the first offer that has room.
pub(super) fn claim_one<S: Session + ?Sized>(session: &mut S, scope: &Scope, wanted: &Wanted<'_>) -> Result<Claim, StoreError> {
    for (candidates, draft) in &wanted.offers {
        if let claimed @ Claim::Claimed(_) = session.claim(scope, candidates, draft)? {
            return Ok(claimed);
        }
    }
    Ok(Claim::Full)
}

/// How a claim ended.
#[allow(clippy::large_enum_variant, reason = "one at a time lives, on the stack")]
#[derive(Debug)]
pub enum Claim {
    /// Taken.
    Claimed(Allocation),
    /// Every candidate is held.
    Full,
}

/// How a re-homing ended.
#[allow(clippy::large_enum_variant, reason = "one at a time lives, on the stack")]
#[derive(Debug)]
pub enum Rehome {
    /// Moved.
    Done(Allocation),
    /// The record is not what it was: nothing was moved.
    Changed,
}

/// How a release ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Release {
    /// Freed.
    Done,
    /// The address is another's, or nobody's; nothing was freed.
    NotYours,
}
