//! What can be wrong with a store, and the second look that tells what is
//! wrong from what a call in flight has just not finished.

use crate::ipam::Allocation;
use crate::store::StoreError;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Inode};
use crate::store::file::free_address::held_in;
use crate::store::file::hint::FullShards;
use crate::store::file::record::{self, Unreadable};
use crate::store::file::{index, layout, read};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The file that says which format this is.
    Format,
    /// A record that cannot be read, or is not of its name.
    Damaged,
    /// A record that a later version wrote.
    Newer,
    /// Two records for the same part of one ADD.
    TwoRecords,
    /// A record that its holder does not find.
    Unindexed,
    /// An index entry that is a copy of its record, no longer a link to it.
    Split,
    /// An index entry whose record is not there.
    LeftOver,
    /// The same by pod.
    PodLeftOver,
    /// A file of a call that was killed.
    Temporary,
    /// The hint says that an address is held which is not.
    WrongHint,
    /// Nothing that hereabouts puts there.
    Foreign,
    /// What a living sandbox was given has another holder.
    GivenAway,
    /// What a living sandbox was given has no record.
    Lost,
    /// A note of what a sandbox was given that is gone, and that has no record.
    LeftOverNote,
}

impl Problem {
    /// Every problem, in order.
    pub const ALL: [Self; 14] = [
        Self::Format,
        Self::Damaged,
        Self::Newer,
        Self::TwoRecords,
        Self::Unindexed,
        Self::Split,
        Self::LeftOver,
        Self::PodLeftOver,
        Self::Temporary,
        Self::WrongHint,
        Self::Foreign,
        Self::GivenAway,
        Self::Lost,
        Self::LeftOverNote,
    ];

    /// Returns the problem that [`Self::name`] names.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.name() == name)
    }

    /// For programs; stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Damaged => "damaged-record",
            Self::Newer => "newer-record",
            Self::TwoRecords => "two-records",
            Self::Unindexed => "not-in-index",
            Self::Split => "split-link",
            Self::LeftOver => "left-over",
            Self::PodLeftOver => "left-over-by-pod",
            Self::Temporary => "temporary-file",
            Self::WrongHint => "wrong-hint",
            Self::Foreign => "foreign-file",
            Self::GivenAway => "given-away",
            Self::Lost => "lost-record",
            Self::LeftOverNote => "left-over-note",
        }
    }

    /// What it means and what to do, for people.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Format => "missing or unreadable; while no pod starts or ends, remove it and run \"hereabouts store init DIR\"",
            Self::Damaged => "its address stays taken; \"hereabouts release ADDRESS\" releases it",
            Self::Newer => "written by a newer version; install a newer hereabouts",
            Self::TwoRecords => "two records for the same part of one ADD; DEL releases both, \"hereabouts release ADDRESS\" releases one",
            Self::Unindexed => "a DEL of its holder would miss it; \"repair\" links it again",
            Self::Split => "a copy of the record instead of a link, as in a store that was copied; it works, and \"repair\" links it again",
            Self::LeftOver => "harmless; the next call of its attachment, \"sweep\" or \"repair\" removes it",
            Self::PodLeftOver => "harmless; \"sweep\" or \"repair\" removes it",
            Self::Temporary => "left behind by a killed call; harmless; \"sweep\" or \"repair\" removes it",
            Self::WrongHint => "makes ADD skip a free address until the range is full; \"repair\" removes it",
            Self::Foreign => "not a file of hereabouts; remove it by hand",
            Self::GivenAway => "two pods use this address; delete the pod named first, and its replacement gets a new address",
            Self::Lost => "the address is in use without a record, so another pod could get it; \"repair\" recreates the record",
            Self::LeftOverNote => "note about a sandbox that is gone and has no record; harmless; \"sweep\" or \"repair\" removes it",
        }
    }

    /// Whether the node's own notes say it.
    #[must_use]
    pub const fn is_of_notes(self) -> bool {
        matches!(self, Self::GivenAway | Self::Lost | Self::LeftOverNote)
    }

    /// Whether [`crate::store::file::FileStore::repair`] mends it.
    #[must_use]
    pub const fn is_repairable(self) -> bool {
        !matches!(self, Self::Format | Self::Damaged | Self::Newer | Self::TwoRecords | Self::Foreign | Self::GivenAway)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub problem: Problem,
    /// Where, below the data directory.
    pub path: PathBuf,
    /// The other record, of two; where the holder would look, of a record that
    /// it does not find; the index entry of a damaged record, which names the
    /// holder.
    pub other: Option<PathBuf>,
    /// What was read or what the system said, where it says more.
    pub reason: String,
}

impl Finding {
    pub(crate) fn new(problem: Problem, path: PathBuf) -> Self {
        Self { problem, path, other: None, reason: String::new() }
    }

    pub(crate) fn with_reason(self, reason: String) -> Self {
        Self { reason, ..self }
    }

    pub(crate) fn with_other(self, other: PathBuf) -> Self {
        Self { other: Some(other), ..self }
    }

    /// The directory name of the node it belongs to; a hint is everybody's.
    #[must_use]
    pub fn node(&self) -> Option<&OsStr> {
        layout::node_of(&self.path).or_else(|| layout::node_of(self.other.as_deref()?))
    }
}

/// Whether it is still so; nothing else is then in flight, or has been given
/// the time to end.
pub(crate) fn is_still_so(disk: &dyn Disk, finding: &Finding) -> Result<bool, StoreError> {
    let path = &finding.path;
    match finding.problem {
        Problem::Format => Ok(true),
        Problem::Damaged => Ok(matches!(look(disk, path)?, Look::Damaged)),
        Problem::Newer => Ok(matches!(look(disk, path)?, Look::Newer)),
        Problem::TwoRecords => {
            let other = finding.other.as_deref().unwrap_or(path);
            Ok(match (look(disk, path)?, look(disk, other)?) {
                (Look::Whole(one), Look::Whole(two)) => {
                    one.held.attachment == two.held.attachment && one.held.part.index == two.held.part.index
                }
                _ => false,
            })
        }
        Problem::Unindexed => match look(disk, path)? {
            Look::Whole(allocation) => Ok(!is_indexed(disk, &allocation)?),
            Look::Gone | Look::Damaged | Look::Newer => Ok(false),
        },
        Problem::Split => Ok(split_from(disk, path)?.is_some()),
        Problem::LeftOver | Problem::PodLeftOver => is_left_over(disk, path),
        Problem::Temporary | Problem::Foreign => match disk.inode(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            _ => Ok(true),
        },
        Problem::WrongHint => is_wrong_hint(disk, path),
        // By the notes of the node: see `lost`.
        Problem::GivenAway | Problem::Lost | Problem::LeftOverNote => Ok(true),
    }
}

/// Whether a file is the record of the name where it was found. A filesystem that
/// takes `Blue` for `blue` lists it under one of them and finds it under both.
pub(crate) fn stands_at(disk: &dyn Disk, found: &Allocation, path: &Path, inode: Inode) -> bool {
    let name = layout::record(&found.scope, found.address);
    name == path || name.as_os_str().eq_ignore_ascii_case(path) && disk.inode(&name).is_ok_and(|at_name| at_name == inode)
}

enum Look {
    Gone,
    Damaged,
    Newer,
    Whole(Box<Allocation>),
}

/// A record at its name.
fn look(disk: &dyn Disk, path: &Path) -> Result<Look, StoreError> {
    let content = match disk.read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Gone),
        Err(_) => return Ok(Look::Damaged),
    };
    Ok(match record::decode(&content.bytes) {
        Ok(allocation) if stands_at(disk, &allocation, path, content.inode) => Look::Whole(Box::new(allocation)),
        Err(Unreadable::Newer(_)) => Look::Newer,
        Ok(_) | Err(Unreadable::Damaged(_)) => Look::Damaged,
    })
}

/// Whether a look-up by attachment leads to the record.
fn is_indexed(disk: &dyn Disk, allocation: &Allocation) -> Result<bool, StoreError> {
    let entries = index::entries(disk, &layout::attachment(&allocation.held.attachment))?;
    Ok(entries.iter().any(|entry| match &entry.state {
        index::State::Stands(found) => found.scope == allocation.scope && found.address == allocation.address,
        index::State::LeftOver(_) | index::State::Damaged(_) => false,
    }))
}

/// The record of which an index entry is a copy.
pub(crate) fn split_from(disk: &dyn Disk, path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let Some(content) = read(disk, path)? else {
        return Ok(None);
    };
    let index::State::Stands(allocation) = index::judge(disk, path, &content)? else {
        return Ok(None);
    };
    let name = layout::record(&allocation.scope, allocation.address);
    Ok(disk.inode(&name).is_ok_and(|at_name| at_name != content.inode).then_some(name))
}

/// Whether the entry leads to nothing, and nothing stands above it: one freed
/// below a higher one stays until that one goes.
fn is_left_over(disk: &dyn Disk, path: &Path) -> Result<bool, StoreError> {
    let Some((stem, number)) = layout::parse_entry(path) else {
        return Ok(false);
    };
    for entry in index::entries(disk, &stem)?.into_iter().rev() {
        let leads_nowhere = match &entry.state {
            index::State::LeftOver(_) => true,
            // What a later version wrote does not say which name is its.
            index::State::Stands(_) | index::State::Damaged(StoreError::Newer { .. }) => false,
            index::State::Damaged(_) => !has_name(disk, entry.inode)?,
        };
        if !leads_nowhere || entry.number == number {
            return Ok(leads_nowhere);
        }
    }
    // Beyond a gap nobody looks.
    Ok(index::is_beyond_gap(disk, &stem, number) && disk.inode(path).is_ok())
}

/// Whether any record is this file. Looks at all names: for what cannot be read.
fn has_name(disk: &dyn Disk, inode: Inode) -> Result<bool, StoreError> {
    let list = |path: &Path| match disk.names(path) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(failed(disk, "list", path, error))
        }
        names => Ok(names.unwrap_or_default()),
    };
    for scope in list(Path::new(layout::SCOPES))? {
        let scope = Path::new(layout::SCOPES).join(scope);
        for shard in list(&scope)? {
            let shard = scope.join(shard);
            for name in list(&shard)? {
                if disk.inode(&shard.join(name)).is_ok_and(|found| found == inode) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Whether the hint of a scope names an address that has no record.
fn is_wrong_hint(disk: &dyn Disk, path: &Path) -> Result<bool, StoreError> {
    let Some(content) = read(disk, path)? else {
        return Ok(false);
    };
    let Some(hint) = FullShards::decode(&content.bytes) else {
        return Ok(true);
    };
    let scope = path.parent().unwrap_or(Path::new(layout::SCOPES));
    // What cannot be listed is nothing that a hint may name.
    Ok(!hint.is_true_of(|shard| held_in(disk, scope, shard).unwrap_or_default()))
}
