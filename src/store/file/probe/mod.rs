//! Proves what the store needs of a filesystem, with the store's own system
//! calls: link(2) gives a name once, two names of one file show one file, the lock
//! keeps others out, a rename leaves no gap, fsync answers. Run on two machines at
//! once with one directory, it proves that across them; alone it says that it could
//! not.
//!
//! Tests the directory itself and one of its own in it: a union of filesystems may
//! have the one on several of them and the other on one. All its names begin with
//! `.hereabouts-`, which a store passes over. Decides nothing for the store, which
//! asks no probe before it works.

mod pair;
mod report;
mod rounds;

use super::layout;
use super::links::failed_link;
use crate::digest::hex;
use crate::retry::Stopwatch;
use crate::store::StoreError;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Locked, Patience};
pub use pair::Guest;
pub use report::{LONGEST_VIEW, Links, Locks, Names, Renames, Report, Syncs, Verdict, Views};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The test's own directory, in the one that is tested.
pub const PLACE: &str = ".hereabouts-store-test";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The filesystem or the store's port to it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The partner was met and is silent now.
    #[error("the partner {partner} did not answer within {waited} ({step})")]
    Silent {
        /// Who.
        partner: String,
        /// What was waited for.
        step: String,
        /// How long.
        waited: String,
    },
    /// The partner has left a word that it failed.
    #[error("the test of the partner {partner} failed: {reason}")]
    PartnerFailed {
        /// Who.
        partner: String,
        /// What it said.
        reason: String,
    },
}

/// Waits for the partner, tests with it, and removes the files it has made.
///
/// # Errors
/// A system call failed that the store needs, or the partner failed or fell silent.
pub fn run(disk: &dyn Disk, guest: &Guest, wait: Duration) -> Result<Report, ProbeError> {
    let root = Path::new("");
    let of_root = |action: &'static str| move |error: io::Error| failed(disk, action, root, error);
    let shared = !disk.is_local().map_err(of_root("look at the filesystem of"))?;
    let kind = disk.kind().map_err(of_root("look at the filesystem of"))?;
    let random = disk.random().map_err(of_root("read random bytes for"))?;
    let id = hex(&random[..8]);
    let mut report = Report { shared, kind, ..Report::default() };
    second_name(disk, &id, &mut report)?;
    if report.is_unfit() {
        return Ok(report);
    }
    match disk.make_directory(Path::new(PLACE)) {
        Err(error) if disk.inode(Path::new(PLACE)).is_err() => return Err(failed(disk, "make directory", Path::new(PLACE), error).into()),
        _ => {}
    }
    let tested = test(disk, &id, guest, wait, report);
    // Succeeds for the last of the two, who finds it empty.
    let _ = disk.remove_directory(Path::new(PLACE));
    tested
}

fn test(disk: &dyn Disk, id: &str, guest: &Guest, wait: Duration, mut report: Report) -> Result<Report, ProbeError> {
    report.syncs = syncs(disk, &own(&format!("file.{id}")))?;
    let Some(pair) = pair::meet(disk, id, guest, wait)? else {
        return Ok(alone(disk, id, report)?);
    };
    report.same_machine = pair.other.boot_id == guest.boot_id;
    report.partner = Some(pair.other.clone());
    let report = together(&pair, report);
    match &report {
        Ok(_) => pair.part(),
        Err(error) => pair.leave(error),
    }
    report
}

fn together(pair: &pair::Pair<'_>, mut report: Report) -> Result<Report, ProbeError> {
    for place in [rounds::Place::Itself, rounds::Place::Own] {
        report.links = report.links.and(rounds::race(pair, place)?);
        // The rest leans on links.
        if 0 < report.links.wrong {
            return Ok(report);
        }
    }
    report.locks = Some(rounds::turns(pair)?);
    report.renames = Some(rounds::renames(pair)?);
    report.views = Some(rounds::views(pair)?);
    Ok(report)
}

/// A name in the test's own directory.
fn own(name: &str) -> PathBuf {
    Path::new(PLACE).join(name)
}

/// A name in the directory itself.
fn beside(name: &str) -> PathBuf {
    PathBuf::from(format!("{}{name}", layout::ASIDE))
}

/// Gives a file a second name, in the directory itself, and looks what both show. The
/// first thing that is done: without it there is no store.
fn second_name(disk: &dyn Disk, id: &str, report: &mut Report) -> Result<(), StoreError> {
    let (one, two) = (beside(&format!("{id}.one")), beside(&format!("{id}.two")));
    make(disk, &one, id.as_bytes())?;
    let seen = match disk.link(&one, &two) {
        Ok(()) => look_at_both(disk, &one, &two).map(|names| report.names = names),
        Err(error) => match failed_link(disk, "link", &two, error) {
            StoreError::NoHardLinks { reason, .. } => {
                report.no_links = Some(reason);
                Ok(())
            }
            other => Err(other),
        },
    };
    for path in [&two, &one] {
        let _ = disk.unlink(path);
    }
    seen
}

/// `None` where the second name is not there: the race will show that.
fn look_at_both(disk: &dyn Disk, one: &Path, two: &Path) -> Result<Option<Names>, StoreError> {
    let Some(second) = super::read(disk, two)? else {
        return Ok(None);
    };
    let first = disk.inode(one).map_err(|error| failed(disk, "look at", one, error))?;
    Ok(Some(Names { same_inode: first == second.inode, links: second.links }))
}

/// What one machine can tell alone.
fn alone(disk: &dyn Disk, id: &str, mut report: Report) -> Result<Report, StoreError> {
    let path = |name: &str| own(&format!("{name}.{id}"));
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
        let clock = Stopwatch::default();
        super::sync(disk, what)?;
        Ok::<_, StoreError>(clock.elapsed())
    };
    disk.create(path, b"a file as large as a record is, or nearly so").map_err(|error| failed(disk, "write", path, error))?;
    let syncs = Syncs { file: elapsed(path)?, directory: elapsed(Path::new(PLACE))? };
    super::remove(disk, path)?;
    Ok(syncs)
}

/// Makes a file, durable.
fn make(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let made = disk.create(path, bytes).and_then(|_| disk.sync(path));
    made.map_err(|error| failed(disk, "write", path, error))
}

/// Whether the link was made. It was not where the name is taken, whatever error the
/// client has for that.
fn link(disk: &dyn Disk, from: &Path, to: &Path) -> Result<bool, StoreError> {
    match disk.link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists || disk.inode(to).is_ok() => Ok(false),
        Err(error) => Err(failed_link(disk, "link", to, error)),
    }
}
