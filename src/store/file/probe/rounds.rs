//! The rounds of a filesystem test, in which the two sides compete. Each round gives both sides the
//! same figures: each sends the other what it saw.

use super::super::{refused_lock, remove};
use super::pair::Pair;
use super::{LONGEST_VIEW, Links, Locks, PLACE, ProbeError, Renames, Views, link, make};
use crate::retry::{self, Deadline, Stopwatch};
use crate::store::StoreError;
use crate::store::disk::error::failed;
use crate::store::disk::{Disk, Locked, Patience};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A round normally ends long before this. The limit ends a round in which the two sides never meet
/// or which is slow, because the verdict is due within half a minute.
const LONGEST: Duration = Duration::from_secs(5);
/// After this many changes of the winner, both sides were active. Counted in each of two places.
const CHANGES: usize = 60;
/// The maximum number of names.
const NAMES: usize = 5000;
/// The maximum number of names of one file. It is lower in the tested directory itself, where each
/// file may be on another branch of a union: GlusterFS notes each name in an attribute of the file,
/// and ext4 has room for about 40.
const LINKS: usize = 16;
/// How many names are read again after all have been made.
const READ_AGAIN: usize = 500;
/// Turns of each side under the lock, and how often the lock must be refused.
const TURNS: usize = 100;
const REFUSALS: usize = 10;
/// After both sides were inside this often, the round has nothing more to learn.
const MEETINGS: usize = 10;
/// The number of names that are created and removed for the other side to see.
const VIEWS: usize = 3;
/// The number of files that replace another.
const RENAMES: usize = 100;

/// Pauses for long enough to let the other side in.
fn rest() {
    let _: Result<Option<()>, ()> =
        retry::until(&Deadline::after(Duration::from_millis(1)), || Ok(None));
}

/// Creates a file to make names of. One file is not enough for all names, since links are limited.
fn ticket(pair: &Pair<'_>, number: usize) -> Result<PathBuf, StoreError> {
    let path = pair.path_of(&pair.me, &format!("ticket{number}"));
    make(pair.disk, &path, pair.me.as_bytes())?;
    Ok(path)
}

/// The directory in which the sides race for names.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// The tested directory.
    Itself,
    /// The test's own directory.
    Own,
}

/// Lets both sides make the same names in the same order. The side that is behind finds them taken,
/// which is quicker than making them, and so catches up.
pub(super) fn race(pair: &Pair<'_>, place: Place) -> Result<Links, ProbeError> {
    let (word, links) = match place {
        Place::Itself => ("itself", LINKS / 4),
        Place::Own => ("own", LINKS),
    };
    let at = |name: &str| match place {
        Place::Itself => pair.path_beside(name),
        Place::Own => pair.path(name),
    };
    let step = |name: &str| format!("{name}-{word}");
    let name = |number: usize| at(&format!("name{number}"));
    let ticket = |number: usize| {
        let path = at(&format!("ticket{number}.{}", pair.me));
        make(pair.disk, &path, pair.me.as_bytes()).map(|()| path)
    };
    pair.barrier(&step("race"))?;
    let deadline = Deadline::after(LONGEST);
    let (mut won, mut changes, mut in_a_row): (Vec<bool>, usize, usize) = (Vec::new(), 0, 0);
    let mut mine = ticket(0)?;
    while changes < CHANGES && won.len() < NAMES && !deadline.left().is_zero() {
        let is_mine = link(pair.disk, &mine, &name(won.len()))?;
        changes += usize::from(won.last().is_some_and(|before| *before != is_mine));
        won.push(is_mine);
        in_a_row = if is_mine { in_a_row + 1 } else { 0 };
        if in_a_row % 8 == 7 {
            // The other side is not active: it has not begun, or has ended.
            if pair.try_receive::<Vec<bool>>(&step("raced"))?.is_some() {
                break;
            }
            // Pause longer and longer: on CephFS, a client that has the directory keeps it for as
            // long as it is busy there.
            (0..in_a_row.min(64)).for_each(|_| rest());
        }
        if won.len().is_multiple_of(links) {
            mine = ticket(won.len())?;
        }
    }
    pair.send(&step("raced"), &won)?;
    let theirs: Vec<bool> = pair.receive(&step("raced"))?;
    let both: Vec<(bool, bool)> = won.into_iter().zip(theirs).collect();
    let mut wrong = both.iter().filter(|(mine, theirs)| mine == theirs).count();
    // Read the names for which both sides agree on the winner.
    for (number, (mine, _)) in
        both.iter().enumerate().step_by(both.len().div_ceil(READ_AGAIN).max(1))
    {
        let winner = if *mine { &pair.me } else { &pair.you };
        wrong += usize::from(wrong == 0 && content(pair.disk, &name(number))? != winner.as_bytes());
    }
    let changes = both.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    // Both sides report the same number, whichever of them saw the problem.
    pair.send(&step("wrong"), &wrong)?;
    let wrong = wrong.max(pair.receive(&step("wrong"))?);
    Ok(Links { names: both.len(), changes, wrong })
}

fn content(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, StoreError> {
    Ok(disk.read(path).map_err(|error| failed(disk, "read", path, error))?.bytes)
}

/// Lets each side take the lock and, inside, make a name that the other side makes too. If the name
/// already exists, both sides are inside.
pub(super) fn turns(pair: &Pair<'_>) -> Result<Locks, ProbeError> {
    let (disk, inside, lock) = (pair.disk, pair.path("inside"), pair.path("lock"));
    let mine = ticket(pair, NAMES + 1)?;
    pair.barrier("lock")?;
    let deadline = Deadline::after(LONGEST);
    let mut seen = Locks::default();
    while (seen.turns < TURNS || seen.refused < REFUSALS)
        && seen.met < MEETINGS
        && !deadline.left().is_zero()
    {
        match disk.lock(&lock, Patience::Try).map_err(|error| refused_lock(disk, &lock, error))? {
            Locked::Busy => seen.refused += 1,
            Locked::Held(held) => {
                if link(disk, &mine, &inside)? {
                    rest();
                    remove(disk, &inside)?;
                } else {
                    seen.met += 1;
                }
                drop(held);
                seen.turns += 1;
            }
        }
        rest();
        if seen.turns % 20 == 19 && pair.try_receive::<(usize, usize, usize)>("turns")?.is_some() {
            break;
        }
    }
    pair.send("turns", &(seen.turns, seen.refused, seen.met))?;
    let (turns, refused, met): (usize, usize, usize) = pair.receive("turns")?;
    Ok(Locks { turns: seen.turns + turns, refused: seen.refused + refused, met: seen.met + met })
}

/// Measures how long it takes until the other side sees a name that was made or removed, in both
/// directions.
pub(super) fn views(pair: &Pair<'_>) -> Result<Views, ProbeError> {
    let mine = ticket(pair, NAMES + 2)?;
    let mut worst = Views { made: Some(Duration::ZERO), removed: Some(Duration::ZERO) };
    for number in 0..2 * VIEWS {
        let name = pair.path(&format!("view{number}"));
        let (made, seen, removed, free) = (
            format!("made{number}"),
            format!("seen{number}"),
            format!("removed{number}"),
            format!("free{number}"),
        );
        let (made_after, removed_after): (Option<u64>, Option<u64>) =
            if pair.is_first() == (number % 2 == 0) {
                link(pair.disk, &mine, &name)?;
                pair.send(&made, &())?;
                pair.receive::<()>(&seen)?;
                remove(pair.disk, &name)?;
                pair.send(&removed, &())?;
                pair.receive(&free)?
            } else {
                pair.receive::<()>(&made)?;
                let made_after = until(|| Ok(pair.disk.inode(&name).is_ok()))?;
                pair.send(&seen, &())?;
                pair.receive::<()>(&removed)?;
                // Make a link, as an ADD would; an old view refuses it.
                let removed_after = until(|| link(pair.disk, &mine, &name))?;
                remove(pair.disk, &name)?;
                pair.send(&free, &(made_after, removed_after))?;
                (made_after, removed_after)
            };
        let later = |worst: Option<Duration>, micros: Option<u64>| {
            Some(worst?.max(Duration::from_micros(micros?)))
        };
        worst = Views {
            made: later(worst.made, made_after),
            removed: later(worst.removed, removed_after),
        };
        // It takes just as long each time.
        if worst.made.is_none() || worst.removed.is_none() {
            break;
        }
    }
    Ok(worst)
}

/// Returns the microseconds until the condition holds; `None` if it never held.
fn until(mut is_so: impl FnMut() -> Result<bool, StoreError>) -> Result<Option<u64>, StoreError> {
    let clock = Stopwatch::default();
    let came = retry::until(&Deadline::after(LONGEST_VIEW), || {
        Ok::<_, StoreError>(is_so()?.then_some(()))
    })?;
    Ok(came.and_then(|()| u64::try_from(clock.elapsed().as_micros()).ok()))
}

/// Returns whether this mount moves open files.
pub(super) fn moves_open_files(disk: &dyn Disk) -> Result<bool, StoreError> {
    let place = Path::new(PLACE);
    disk.moves_open_files(place).map_err(|error| failed(disk, "replace a file in", place, error))
}

/// Lets one side replace the file at a name repeatedly while the other tries to take the name,
/// which must never be free. Then the sides swap roles.
pub(super) fn renames(pair: &Pair<'_>) -> Result<Renames, ProbeError> {
    let disk = pair.disk;
    let moved = moves_open_files(disk)?;
    pair.send("moved", &moved)?;
    let mut seen =
        Renames { moves_open_files: pair.receive::<bool>("moved")? || moved, ..Renames::default() };
    if seen.moves_open_files {
        return Ok(seen);
    }
    let mine = ticket(pair, NAMES + 3)?;
    for number in 0..2 {
        let name = pair.path(&format!("seat{number}"));
        let step = |word: &str| format!("{word}{number}");
        if pair.is_first() == (number == 0) {
            make(disk, &name, b"0")?;
            pair.send(&step("seated"), &())?;
            pair.receive::<()>(&step("trying"))?;
            let deadline = Deadline::after(LONGEST / 2);
            let mut times = 0;
            while times < RENAMES && !deadline.left().is_zero() {
                times += 1;
                let next = pair.path(&format!("next{number}"));
                make(disk, &next, b"1")?;
                disk.rename(&next, &name)
                    .map_err(|error| failed(disk, "rename to", &name, error))?;
            }
            pair.send(&step("renamed"), &times)?;
            seen.times += times;
            seen.free += pair.receive::<usize>(&step("tried"))?;
        } else {
            pair.receive::<()>(&step("seated"))?;
            pair.send(&step("trying"), &())?;
            let mut free = 0;
            let times = loop {
                match pair.try_receive::<usize>(&step("renamed"))? {
                    Some(times) => break times,
                    None => free += usize::from(link(disk, &mine, &name)?),
                }
                rest();
            };
            pair.send(&step("tried"), &free)?;
            seen.times += times;
            seen.free += free;
        }
    }
    Ok(seen)
}
