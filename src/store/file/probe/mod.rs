//! Proves what the store needs of a filesystem, with the store's own system
//! calls: link(2) gives a name once, the lock keeps others out, a rename leaves
//! no gap, fsync answers. Run on two machines at once with one directory, it
//! proves that across them; alone it says that it could not.
//!
//! Touches nothing but its own directory. Decides nothing for the store, which
//! asks no probe before it works.

mod pair;
mod rounds;

use super::disk::{Disk, Locked, Patience};
use super::failed;
use crate::store::StoreError;
use crate::store::digest::hex;
use crate::store::retry::Deadline;
pub use pair::Guest;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The filesystem or the store's port to it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The partner was met and is silent now.
    #[error("the partner {partner} did not answer within {waited} ({step}), run the test on exactly two machines at once, again")]
    Silent {
        /// Who.
        partner: String,
        /// What was waited for.
        step: String,
        /// How long.
        waited: String,
    },
}

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

/// How long a client of the filesystem keeps an old view, at worst.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Views {
    /// Until a name that the other has made is seen; `None`: not in time.
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
    /// Locks keep nobody out. Addresses stay unique, since link(2) decides;
    /// nodes get in each other's way.
    SafeWithoutLocks,
    /// No partner came, or the two were never at one name at once.
    Unproven,
    /// An address could get two holders.
    Unsafe,
}

/// So many changes of the winner show that both were there at once.
const ENOUGH_CHANGES: usize = 10;

impl Report {
    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let renames = self.renames.unwrap_or_default();
        let locks = self.locks.unwrap_or_default();
        if 0 < self.links.wrong || 0 < renames.free {
            return Verdict::Unsafe;
        }
        if self.partner.is_none() || self.links.changes < ENOUGH_CHANGES {
            return Verdict::Unproven;
        }
        match (locks.met, locks.refused) {
            (0, 0) => Verdict::Unproven,
            (0, _) => Verdict::Safe,
            _ => Verdict::SafeWithoutLocks,
        }
    }
}

/// Waits for the partner, tests with it, and removes the files it has made.
///
/// # Errors
/// A system call failed that the store needs, or the partner fell silent.
pub fn run(disk: &dyn Disk, guest: &Guest, wait: Duration) -> Result<Report, ProbeError> {
    let root = Path::new("");
    let shared = !disk.is_local().map_err(|error| failed(disk, "look at the filesystem of", root, error))?;
    let random = disk.random().map_err(|error| failed(disk, "read random bytes for", root, error))?;
    let id = hex(&random[..8]);
    let syncs = syncs(disk, Path::new(&format!("file.{id}")))?;
    let report = Report { shared, syncs, ..Report::default() };
    match pair::meet(disk, &id, guest, wait)? {
        Some(pair) => {
            let report = Report { same_machine: pair.other.boot_id == guest.boot_id, partner: Some(pair.other.clone()), ..report };
            let report = together(&pair, report);
            pair.part(report.is_ok());
            report
        }
        None => Ok(alone(disk, &id, report)?),
    }
}

fn together(pair: &pair::Pair<'_>, mut report: Report) -> Result<Report, ProbeError> {
    report.links = rounds::race(pair)?;
    // The rest leans on links.
    if 0 < report.links.wrong {
        return Ok(report);
    }
    report.locks = Some(rounds::turns(pair)?);
    report.views = Some(rounds::views(pair)?);
    report.renames = Some(rounds::renames(pair)?);
    Ok(report)
}

/// What one machine can tell alone.
fn alone(disk: &dyn Disk, id: &str, mut report: Report) -> Result<Report, StoreError> {
    let path = |name: &str| Path::new(&format!("{name}.{id}")).to_owned();
    let (ticket, name, lock) = (path("ticket"), path("name"), path("lock"));
    make(disk, &ticket, id.as_bytes())?;
    link(disk, &ticket, &name)?;
    report.links = Links { names: 1, changes: 0, wrong: usize::from(link(disk, &ticket, &name)?) };
    let take = || disk.lock(&lock, Patience::Try).map_err(|error| super::refused_lock(disk, &lock, error));
    let (first, second) = (take()?, take()?);
    let met = matches!((&first, &second), (Locked::Held(_), Locked::Held(_)));
    report.locks = Some(Locks { turns: 1, refused: usize::from(!met), met: usize::from(met) });
    make(disk, &path("seat"), b"another")?;
    disk.rename(&path("seat"), &name).map_err(|error| failed(disk, "rename to", &name, error))?;
    report.renames = Some(Renames { times: 1, free: usize::from(link(disk, &ticket, &name)?) });
    for path in [&ticket, &name, &lock] {
        super::remove(disk, path)?;
    }
    Ok(report)
}

/// Makes a file and syncs it and its directory, timed.
fn syncs(disk: &dyn Disk, path: &Path) -> Result<Syncs, StoreError> {
    let elapsed = |what: &Path| {
        let clock = Deadline::after(Duration::from_secs(600));
        super::sync(disk, what)?;
        Ok::<_, StoreError>(clock.limit() - clock.left())
    };
    disk.create(path, b"a file as large as a record is, or nearly so").map_err(|error| failed(disk, "write", path, error))?;
    let syncs = Syncs { file: elapsed(path)?, directory: elapsed(Path::new(""))? };
    super::remove(disk, path)?;
    Ok(syncs)
}

/// Makes a file, durable.
fn make(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let made = disk.create(path, bytes).and_then(|_| disk.sync(path));
    made.map_err(|error| failed(disk, "write", path, error))
}

/// Whether the link was made: the name was free.
fn link(disk: &dyn Disk, from: &Path, to: &Path) -> Result<bool, StoreError> {
    match disk.link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(disk, "link", to, error)),
    }
}
