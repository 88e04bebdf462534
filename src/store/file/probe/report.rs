//! What a test of a filesystem has seen, and what to make of it.

use super::Guest;
use crate::store::disk::Kind;
use std::time::Duration;

/// Names that both tried to make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Links {
    /// How many.
    pub names: usize,
    /// How often the winner of one was not the winner of the one before: so
    /// often both were there at once.
    pub changes: usize,
    /// Names with two winners, with none, or with another's file.
    pub wrong: usize,
}

impl Links {
    /// Both counts in one.
    #[must_use]
    pub(super) const fn and(self, other: Self) -> Self {
        Self { names: self.names + other.names, changes: self.changes + other.changes, wrong: self.wrong + other.wrong }
    }
}

/// Turns under the lock, of both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Locks {
    /// How many.
    pub turns: usize,
    /// How often the lock was refused because the other had it.
    pub refused: usize,
    /// How often both were inside.
    pub met: usize,
}

/// An old view that lasts longer is not measured: a verdict is wanted within half a
/// minute, and an ADD passes over such a name.
pub const LONGEST_VIEW: Duration = Duration::from_secs(5);

/// How long a client of the filesystem keeps an old view, at worst.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Views {
    /// Until a name that the other has made is seen; `None`: not within [`LONGEST_VIEW`].
    pub made: Option<Duration>,
    /// Until a name that the other has removed can be made again.
    pub removed: Option<Duration>,
}

/// A name whose file was replaced while the other tried to take it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renames {
    /// How many times.
    pub times: usize,
    /// How often the name was free in between.
    pub free: usize,
}

/// Two names of one file, the second just made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// Both show one inode.
    pub same_inode: bool,
    /// How many names the file has, as the second one shows it.
    pub links: u64,
}

impl Names {
    /// The filesystem knows that it is one file and shows two: a union of several
    /// filesystems, each of which can have a name.
    #[must_use]
    pub const fn are_of_a_union(&self) -> bool {
        !self.same_inode && 1 < self.links
    }
}

/// How long fsync took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Syncs {
    /// Of a new file.
    pub file: Duration,
    /// Of its directory.
    pub directory: Duration,
}

/// What was seen. Both partners see the same.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The filesystem counts as one that machines share.
    pub shared: bool,
    /// What is known of it by its type.
    pub kind: Kind,
    /// Why no file can have a second name.
    pub no_links: Option<String>,
    /// See [`Names`]; `None` where no second name was seen.
    pub names: Option<Names>,
    /// The other; `None` when nobody came.
    pub partner: Option<Guest>,
    /// The other runs on this very machine.
    pub same_machine: bool,
    /// See [`Links`].
    pub links: Links,
    /// See [`Locks`]; `None` where links have failed already.
    pub locks: Option<Locks>,
    /// See [`Views`]; needs a partner.
    pub views: Option<Views>,
    /// See [`Renames`].
    pub renames: Option<Renames>,
    /// See [`Syncs`].
    pub syncs: Syncs,
}

/// What to make of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All that the store needs.
    Safe,
    /// Locks keep nobody out, or names do not show of which file they are. Addresses
    /// stay unique, since link(2) decides; nodes get in each other's way.
    SafeWithoutLocks,
    /// No partner came, or the two were never at one name at once.
    Unproven,
    /// An address could get two holders.
    Unsafe,
}

/// So many changes of the winner show that both were there at once.
const ENOUGH_CHANGES: usize = 10;

impl Report {
    /// Whether there is nothing to be tested any more: its type, or what one machine
    /// alone can see, makes it unsafe.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        matches!(self.kind, Kind::Unfit(_)) || self.no_links.is_some() || self.names.is_some_and(|names| names.are_of_a_union())
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let renames = self.renames.unwrap_or_default();
        let locks = self.locks.unwrap_or_default();
        if self.is_unfit() || 0 < self.links.wrong || 0 < renames.free {
            return Verdict::Unsafe;
        }
        if self.partner.is_none() || self.links.changes < ENOUGH_CHANGES {
            return Verdict::Unproven;
        }
        match (locks.met, locks.refused) {
            (0, 0) => Verdict::Unproven,
            (0, _) if self.names.is_none_or(|names| names.same_inode) => Verdict::Safe,
            _ => Verdict::SafeWithoutLocks,
        }
    }
}
