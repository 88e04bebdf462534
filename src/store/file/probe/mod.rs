//! Tests whether a filesystem has what the store needs (`hereabouts store test`), with the store's
//! own system calls: link(2) gives a name once, two names of one file show one file, the lock
//! excludes other processes, a rename leaves no gap, fsync succeeds. If it runs on two machines at
//! the same time with one directory, it proves this across the machines. If it runs alone, it
//! reports that it could not prove this.
//!
//! It tests the directory itself and a directory of its own in it, because a union of filesystems
//! may keep the one on several filesystems and the other on a single one. All its names begin with
//! `.hereabouts-`, which a store ignores. A store does not use the result: it runs no probe before
//! it works.

mod pair;
mod report;
mod rounds;

use super::layout;
use super::links::failed_link;
use crate::digest::hex;
use crate::retry::{self, Deadline, Stopwatch};
use crate::store::StoreError;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Locked, Patience};
pub use pair::Participant;
pub use report::{LONGEST_VIEW, Links, Locks, Names, Renames, Report, Syncs, Verdict, Views};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The test's own directory, inside the tested directory.
pub const PLACE: &str = ".hereabouts-store-test";
/// For how long the removal of this directory is tried.
const LEAVING: Duration = Duration::from_secs(1);

/// The reason why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The filesystem failed, or the store's access to it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The partner was met and no longer answers.
    #[error("the partner {partner} did not answer within {waited}, at the step \"{step}\"")]
    Silent {
        /// The partner.
        partner: String,
        /// The step that it should have answered.
        step: String,
        /// The time that the test waited.
        waited: String,
    },
    /// The partner left a message that it failed.
    #[error("the test of the partner {partner} failed: {reason}")]
    PartnerFailed {
        /// The partner.
        partner: String,
        /// The reason that it gave.
        reason: String,
    },
}

/// Waits for the partner, tests with it, and removes the files that it has created.
///
/// # Errors
/// A system call that the store needs failed, or the partner failed or stopped answering.
pub fn run(disk: &dyn Disk, guest: &Participant, wait: Duration) -> Result<Report, ProbeError> {
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
        Err(error) if disk.inode(Path::new(PLACE)).is_err() => {
            return Err(failed(disk, "make directory", Path::new(PLACE), error).into());
        }
        _ => {}
    }
    let tested = test(disk, &id, guest, wait, report);
    // Succeeds for the one that leaves last and finds the directory empty. A mount may see the files of
    // the other, or its own open ones, for some moments more.
    let _: Result<Option<()>, ()> = retry::until(&Deadline::after(LEAVING), || {
        let is_gone = disk.remove_directory(Path::new(PLACE)).is_ok()
            || disk.inode(Path::new(PLACE)).is_err();
        Ok(is_gone.then_some(()))
    });
    tested
}

fn test(
    disk: &dyn Disk,
    id: &str,
    guest: &Participant,
    wait: Duration,
    mut report: Report,
) -> Result<Report, ProbeError> {
    report.syncs = syncs(disk, &own(&format!("file.{id}")))?;
    let Some(pair) = pair::meet(disk, id, guest, wait)? else {
        return Ok(alone(disk, id, report)?);
    };
    report.same_machine = pair.other.boot_id == guest.boot_id;
    report.partner = Some(pair.other.clone());
    let report = together(&pair, report);
    match &report {
        Ok(_) => pair.end(),
        Err(error) => pair.abort(error),
    }
    report
}

fn together(pair: &pair::Pair<'_>, mut report: Report) -> Result<Report, ProbeError> {
    for place in [rounds::Place::Itself, rounds::Place::Own] {
        report.links = report.links.and(rounds::race(pair, place)?);
        // The other rounds depend on links.
        if 0 < report.links.wrong {
            return Ok(report);
        }
    }
    report.locks = Some(rounds::turns(pair)?);
    report.renames = Some(rounds::renames(pair)?);
    report.views = Some(rounds::views(pair)?);
    Ok(report)
}

/// Returns a path in the test's own directory.
fn own(name: &str) -> PathBuf {
    Path::new(PLACE).join(name)
}

/// Returns a path in the tested directory itself.
fn beside(name: &str) -> PathBuf {
    PathBuf::from(format!("{}{name}", layout::ASIDE))
}

/// Gives a file a second name, in the tested directory itself, and reads what both names show. This
/// comes first: without second names a store is impossible.
fn second_name(disk: &dyn Disk, id: &str, report: &mut Report) -> Result<(), StoreError> {
    let (one, two) = (beside(&format!("{id}.one")), beside(&format!("{id}.two")));
    make(disk, &one, id.as_bytes())?;
    let seen = match disk.link(&one, &two) {
        Ok(()) => read_both(disk, &one, &two).map(|names| report.names = names),
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

/// Reads both names. Returns `None` if the second name does not exist, which the race will show.
fn read_both(disk: &dyn Disk, one: &Path, two: &Path) -> Result<Option<Names>, StoreError> {
    let Some(second) = super::read(disk, two)? else {
        return Ok(None);
    };
    let first = disk.inode(one).map_err(|error| failed(disk, "look at", one, error))?;
    Ok(Some(Names { same_inode: first == second.inode, links: second.links }))
}

/// Tests what one machine can test alone.
fn alone(disk: &dyn Disk, id: &str, mut report: Report) -> Result<Report, StoreError> {
    let path = |name: &str| own(&format!("{name}.{id}"));
    let (ticket, name, lock) = (path("ticket"), path("name"), path("lock"));
    make(disk, &ticket, id.as_bytes())?;
    link(disk, &ticket, &name)?;
    report.links = Links { names: 1, changes: 0, wrong: usize::from(link(disk, &ticket, &name)?) };
    let take =
        || disk.lock(&lock, Patience::Try).map_err(|error| super::refused_lock(disk, &lock, error));
    let (first, second) = (take()?, take()?);
    let met = matches!((&first, &second), (Locked::Held(_), Locked::Held(_)));
    report.locks = Some(Locks { turns: 1, refused: usize::from(!met), met: usize::from(met) });
    make(disk, &path("seat"), b"another")?;
    disk.rename(&path("seat"), &name).map_err(|error| failed(disk, "rename to", &name, error))?;
    let free = usize::from(link(disk, &ticket, &name)?);
    let moves_open_files = rounds::moves_open_files(disk)?;
    report.renames = Some(Renames { times: 1, free, moves_open_files });
    for path in [&ticket, &name, &lock] {
        super::remove(disk, path)?;
    }
    Ok(report)
}

/// Creates a file, syncs it and its directory, and measures the time of each sync.
fn syncs(disk: &dyn Disk, path: &Path) -> Result<Syncs, StoreError> {
    let elapsed = |what: &Path| {
        let clock = Stopwatch::default();
        super::sync(disk, what)?;
        Ok::<_, StoreError>(clock.elapsed())
    };
    disk.create(path, b"a file as large as a record is, or nearly so")
        .map_err(|error| failed(disk, "write", path, error))?;
    let syncs = Syncs { file: elapsed(path)?, directory: elapsed(Path::new(PLACE))? };
    super::remove(disk, path)?;
    Ok(syncs)
}

/// Creates a file durably.
fn make(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let made = disk.create(path, bytes).and_then(|_| disk.sync(path));
    made.map_err(|error| failed(disk, "write", path, error))
}

/// Returns whether the link was made. It was not if the name is taken, whatever error the client
/// reports for that.
fn link(disk: &dyn Disk, from: &Path, to: &Path) -> Result<bool, StoreError> {
    match disk.link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists || disk.inode(to).is_ok() => {
            Ok(false)
        }
        Err(error) => Err(failed_link(disk, "link", to, error)),
    }
}
