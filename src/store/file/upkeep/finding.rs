//! The problems that a store can have, and the second check that distinguishes a problem from a
//! call in progress.

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

/// The kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The file that states the format of the store.
    Format,
    /// A record that cannot be read, or does not belong at its name.
    Damaged,
    /// A record that a later version wrote.
    Newer,
    /// Two records for the same part of one ADD.
    TwoRecords,
    /// A record that its holder does not find.
    Unindexed,
    /// An index entry that is a copy of its record, no longer a link to it.
    Split,
    /// An index entry whose record is missing.
    DanglingEntry,
    /// The same, by pod.
    DanglingPodEntry,
    /// A file of a call that was killed.
    Temporary,
    /// The hint claims that a free address is held.
    WrongHint,
    /// A file that hereabouts does not create.
    Foreign,
    /// An address of a living sandbox that now has another holder.
    GivenAway,
    /// An address of a living sandbox that has no record.
    Lost,
    /// A note about an address whose sandbox is gone and that has no record.
    UnusedNote,
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
        Self::DanglingEntry,
        Self::DanglingPodEntry,
        Self::Temporary,
        Self::WrongHint,
        Self::Foreign,
        Self::GivenAway,
        Self::Lost,
        Self::UnusedNote,
    ];

    /// Returns the problem that [`Self::name`] names.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.name() == name)
    }

    /// Returns the name for programs, which is stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Damaged => "damaged-record",
            Self::Newer => "newer-record",
            Self::TwoRecords => "two-records",
            Self::Unindexed => "not-in-index",
            Self::Split => "split-link",
            Self::DanglingEntry => "dangling-entry",
            Self::DanglingPodEntry => "dangling-pod-entry",
            Self::Temporary => "temporary-file",
            Self::WrongHint => "wrong-hint",
            Self::Foreign => "foreign-file",
            Self::GivenAway => "given-away",
            Self::Lost => "lost-record",
            Self::UnusedNote => "unused-note",
        }
    }

    /// Returns what the problem means and what to do, for people.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Format => {
                "the file format is missing or unreadable; while no pod starts or ends, remove it, then run \"hereabouts store init DIR\""
            }
            Self::Damaged => {
                "an unreadable record keeps its address taken; \"hereabouts release ADDRESS\" releases the address"
            }
            Self::Newer => "written by a newer version; install a newer hereabouts",
            Self::TwoRecords => {
                "two records for the same part of one ADD; DEL releases both, \"hereabouts release ADDRESS\" releases one"
            }
            Self::Unindexed => {
                "a DEL of the holder would miss the record; \"repair\" adds it to the index"
            }
            Self::Split => {
                "an index entry is a copy of its record, not a link to it, as in a copied store; lookups still work, and \"repair\" replaces it with a link"
            }
            Self::DanglingEntry => {
                "an index entry without a record; harmless; the next call of the attachment, \"sweep\" or \"repair\" removes it"
            }
            Self::DanglingPodEntry => {
                "an entry of the index by pod without a record; harmless; \"sweep\" or \"repair\" removes it"
            }
            Self::Temporary => {
                "left behind by a killed call; harmless; \"sweep\" or \"repair\" removes it"
            }
            Self::WrongHint => {
                "a wrong hint makes ADD skip a free address until the range is full; \"repair\" removes the hint"
            }
            Self::Foreign => "not a file of hereabouts; remove it by hand",
            Self::GivenAway => {
                "two pods use one address; delete the pod that is named first, then its replacement gets a new address"
            }
            Self::Lost => {
                "an address is in use without a record, so another pod could get it; \"repair\" recreates the record"
            }
            Self::UnusedNote => {
                "a note about a sandbox that is gone and has no record; harmless; \"sweep\" or \"repair\" removes it"
            }
        }
    }

    /// Returns what a repair has done to the path, for people.
    #[must_use]
    pub const fn done(self) -> &'static str {
        match self {
            Self::Unindexed => "added to the index:",
            Self::Split => "replaced with a link:",
            Self::Lost => "recreated",
            _ => "removed",
        }
    }

    /// Returns whether the problem follows from the node's own notes.
    #[must_use]
    pub const fn is_of_notes(self) -> bool {
        matches!(self, Self::GivenAway | Self::Lost | Self::UnusedNote)
    }

    /// Returns whether [`crate::store::file::FileStore::repair`] repairs the problem.
    #[must_use]
    pub const fn is_repairable(self) -> bool {
        !matches!(
            self,
            Self::Format
                | Self::Damaged
                | Self::Newer
                | Self::TwoRecords
                | Self::Foreign
                | Self::GivenAway
        )
    }
}

/// One problem that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFinding {
    /// The kind of the problem.
    pub problem: Problem,
    /// The path of the file, below the data directory.
    pub path: PathBuf,
    /// The other path. For two records, the other record. For a record that its holder does not
    /// find, the place where the holder looks. For a damaged record, its index entry, which names
    /// the holder.
    pub other: Option<PathBuf>,
    /// The content that was read or the system's error, if it says more.
    pub reason: String,
}

impl FileFinding {
    pub(crate) fn new(problem: Problem, path: PathBuf) -> Self {
        Self { problem, path, other: None, reason: String::new() }
    }

    pub(crate) fn with_reason(self, reason: String) -> Self {
        Self { reason, ..self }
    }

    pub(crate) fn with_other(self, other: PathBuf) -> Self {
        Self { other: Some(other), ..self }
    }

    /// Returns the directory name of the node that the finding belongs to. A hint belongs to no
    /// node.
    #[must_use]
    pub fn node(&self) -> Option<&OsStr> {
        layout::node_of(&self.path).or_else(|| layout::node_of(self.other.as_deref()?))
    }
}

/// Returns whether the problem still exists. The caller makes sure that no other call is in
/// progress, or that it had time to end.
pub(crate) fn is_still_so(disk: &dyn Disk, finding: &FileFinding) -> Result<bool, StoreError> {
    let path = &finding.path;
    match finding.problem {
        Problem::Format => Ok(true),
        Problem::Damaged => Ok(matches!(read_record(disk, path)?, FoundRecord::Damaged)),
        Problem::Newer => Ok(matches!(read_record(disk, path)?, FoundRecord::Newer)),
        Problem::TwoRecords => {
            let other = finding.other.as_deref().unwrap_or(path);
            Ok(match (read_record(disk, path)?, read_record(disk, other)?) {
                (FoundRecord::Whole(one), FoundRecord::Whole(two)) => {
                    one.record.attachment == two.record.attachment
                        && one.record.part.index == two.record.part.index
                }
                _ => false,
            })
        }
        Problem::Unindexed => match read_record(disk, path)? {
            FoundRecord::Whole(allocation) => Ok(!is_indexed(disk, &allocation)?),
            FoundRecord::Gone | FoundRecord::Damaged | FoundRecord::Newer => Ok(false),
        },
        Problem::Split => Ok(split_from(disk, path)?.is_some()),
        Problem::DanglingEntry | Problem::DanglingPodEntry => is_orphan(disk, path),
        Problem::Temporary | Problem::Foreign => match disk.inode(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            _ => Ok(true),
        },
        Problem::WrongHint => is_wrong_hint(disk, path),
        // The notes of the node decide: see `missing_records`.
        Problem::GivenAway | Problem::Lost | Problem::UnusedNote => Ok(true),
    }
}

/// Returns whether a file is the record of the name where it was found. A filesystem that treats
/// `Blue` and `blue` as one name lists it under one of them and finds it under both.
pub(crate) fn belongs_at(disk: &dyn Disk, found: &Allocation, path: &Path, inode: Inode) -> bool {
    let name = layout::record(&found.scope, found.address);
    name == path
        || name.as_os_str().eq_ignore_ascii_case(path)
            && disk.inode(&name).is_ok_and(|at_name| at_name == inode)
}

enum FoundRecord {
    Gone,
    Damaged,
    Newer,
    Whole(Box<Allocation>),
}

/// Reads the record at a name.
fn read_record(disk: &dyn Disk, path: &Path) -> Result<FoundRecord, StoreError> {
    let content = match disk.read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FoundRecord::Gone),
        Err(_) => return Ok(FoundRecord::Damaged),
    };
    Ok(match record::decode(&content.bytes) {
        Ok(allocation) if belongs_at(disk, &allocation, path, content.inode) => {
            FoundRecord::Whole(Box::new(allocation))
        }
        Err(Unreadable::Newer(_)) => FoundRecord::Newer,
        Ok(_) | Err(Unreadable::Damaged(_)) => FoundRecord::Damaged,
    })
}

/// Returns whether a lookup by attachment leads to the record.
fn is_indexed(disk: &dyn Disk, allocation: &Allocation) -> Result<bool, StoreError> {
    let entries = index::entries(disk, &layout::attachment(&allocation.record.attachment))?;
    Ok(entries.iter().any(|entry| match &entry.state {
        index::State::Live(found) => {
            found.scope == allocation.scope && found.address == allocation.address
        }
        index::State::DanglingEntry(_) | index::State::Damaged(_) => false,
    }))
}

/// Returns the record of which an index entry is a copy.
pub(crate) fn split_from(disk: &dyn Disk, path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let Some(content) = read(disk, path)? else {
        return Ok(None);
    };
    let index::State::Live(allocation) = index::classify(disk, path, &content)? else {
        return Ok(None);
    };
    let name = layout::record(&allocation.scope, allocation.address);
    Ok(disk.inode(&name).is_ok_and(|at_name| at_name != content.inode).then_some(name))
}

/// Returns whether the entry leads to no record and has no live entry above it. An entry freed
/// below a higher one stays until the higher one is removed.
fn is_orphan(disk: &dyn Disk, path: &Path) -> Result<bool, StoreError> {
    let Some((stem, number)) = layout::parse_entry(path) else {
        return Ok(false);
    };
    for entry in index::entries(disk, &stem)?.into_iter().rev() {
        let leads_nowhere = match &entry.state {
            index::State::DanglingEntry(_) => true,
            // A record of a later version does not say which name belongs to it.
            index::State::Live(_) | index::State::Damaged(StoreError::Newer { .. }) => false,
            index::State::Damaged(_) => !has_name(disk, entry.inode)?,
        };
        if !leads_nowhere || entry.number == number {
            return Ok(leads_nowhere);
        }
    }
    // Lookups stop at a gap and never reach this entry.
    Ok(index::is_beyond_gap(disk, &stem, number) && disk.inode(path).is_ok())
}

/// Returns whether any record is this file. Compares all names, for a file that cannot be read.
fn has_name(disk: &dyn Disk, inode: Inode) -> Result<bool, StoreError> {
    let list = |path: &Path| match disk.names(path) {
        Err(error)
            if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
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

/// Returns whether the hint of a scope names an address that has no record.
fn is_wrong_hint(disk: &dyn Disk, path: &Path) -> Result<bool, StoreError> {
    let Some(content) = read(disk, path)? else {
        return Ok(false);
    };
    let Some(hint) = FullShards::decode(&content.bytes) else {
        return Ok(true);
    };
    let scope = path.parent().unwrap_or(Path::new(layout::SCOPES));
    // A hint must not name a shard that cannot be listed.
    Ok(!hint.is_true_of(|shard| held_in(disk, scope, shard).unwrap_or_default()))
}
