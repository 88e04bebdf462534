//! The result of a filesystem test, and the verdict that follows from it.

use super::Participant;
use crate::store::disk::Kind;
use std::time::Duration;

/// The names that both sides tried to create.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Links {
    /// The number of names.
    pub names: usize,
    /// How often the winner of a name was not the winner of the name before. Each change shows that
    /// both sides were active at the same time.
    pub changes: usize,
    /// The number of names with two winners, with no winner, or with the other side's file.
    pub wrong: usize,
}

impl Links {
    /// Adds the counts of two reports.
    #[must_use]
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            names: self.names + other.names,
            changes: self.changes + other.changes,
            wrong: self.wrong + other.wrong,
        }
    }
}

/// The turns under the lock, of both sides together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Locks {
    /// The number of turns.
    pub turns: usize,
    /// How often the lock was refused because the other side had it.
    pub refused: usize,
    /// How often both sides were inside.
    pub met: usize,
}

/// An old view that lasts longer is not measured: the verdict is due within half a minute, and an
/// ADD skips such a name.
pub const LONGEST_VIEW: Duration = Duration::from_secs(5);

/// How long a client of the filesystem keeps an old view, in the worst case.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Views {
    /// The time until a name created by the other side is seen; `None` if that took longer than
    /// [`LONGEST_VIEW`].
    pub made: Option<Duration>,
    /// The time until a name removed by the other side can be created again.
    pub removed: Option<Duration>,
}

/// A name whose file was replaced while the other side tried to take the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renames {
    /// The number of replacements.
    pub times: usize,
    /// How often the name was free in between.
    pub free: usize,
    /// Whether the mount moves an open file before another takes its name. Then nothing was replaced:
    /// the store does not do it there either.
    pub moves_open_files: bool,
}

/// Two names of one file, the second just created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// Whether both names show one inode.
    pub same_inode: bool,
    /// The number of names that the file has, as the second name shows it.
    pub links: u64,
}

impl Names {
    /// Returns whether the filesystem counts the names as one file and yet shows two files: a union
    /// of several filesystems, each of which can have its own name.
    #[must_use]
    pub const fn are_of_a_union(&self) -> bool {
        !self.same_inode && 1 < self.links
    }
}

/// How long fsync took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Syncs {
    /// The fsync of a new file.
    pub file: Duration,
    /// The fsync of the file's directory.
    pub directory: Duration,
}

/// The observations of a test. Both partners get the same.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Whether the filesystem counts as one that machines share.
    pub shared: bool,
    /// What the type of the filesystem says about it.
    pub kind: Kind,
    /// The reason why no file can have a second name.
    pub no_links: Option<String>,
    /// See [`Names`]; `None` if no second name was seen.
    pub names: Option<Names>,
    /// The other side; `None` if no partner came.
    pub partner: Option<Participant>,
    /// Whether the other side runs on this same machine.
    pub same_machine: bool,
    /// See [`Links`].
    pub links: Links,
    /// See [`Locks`]; `None` if links have already failed.
    pub locks: Option<Locks>,
    /// See [`Views`]; needs a partner.
    pub views: Option<Views>,
    /// See [`Renames`].
    pub renames: Option<Renames>,
    /// See [`Syncs`].
    pub syncs: Syncs,
}

/// The conclusion from a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The filesystem has everything that the store needs.
    Safe,
    /// Locks do not exclude, or names do not show which file they belong to. Addresses stay unique,
    /// since link(2) decides, but nodes get in each other's way.
    SafeWithoutLocks,
    /// No partner came, or the two never wanted one name at the same time.
    Unproven,
    /// An address could get two holders.
    Unsafe,
}

/// This many changes of the winner show that both sides were active at the same time.
const ENOUGH_CHANGES: usize = 10;

impl Report {
    /// Returns whether the rest of the test is pointless: the type, or what one machine alone can
    /// see, already makes the filesystem unsafe.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        matches!(self.kind, Kind::Unfit(_))
            || self.no_links.is_some()
            || self.names.is_some_and(|names| names.are_of_a_union())
    }

    /// Returns the verdict.
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
