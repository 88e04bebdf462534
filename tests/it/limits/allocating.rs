//! What an ADD looks at on its way: whether it may allocate, when its attachment
//! is locked; how much time is left, between its addresses and while it undoes.

use crate::conformance::{attachment, draft, host};
use crate::support::calls::slots;
use crate::support::sandbox::Sandbox;
use hereabouts::ipam::{Draft, Scope};
use hereabouts::plugin::add::{Ask, Given, allocate};
use hereabouts::plugin::del::free;
use hereabouts::plugin::failure::Failure;
use hereabouts::store::file::FileStore;
use hereabouts::store::file::disk::RealDisk;
use hereabouts::store::retry::{Clock, Deadline, with_clock};
use hereabouts::store::{Access, Filter, Store, StoreError};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(1_000_000);

fn add(
    store: &dyn Store,
    draft: &Draft,
    count: u8,
    limits: [Duration; 2],
    may_allocate: &dyn Fn() -> Result<(), Failure>,
) -> Result<Given, Failure> {
    let (slots, scope, [limit, reserve]) = (slots(count), Scope::default(), limits);
    let is_alive = |_: &Draft| true;
    let ask = Ask { scope: &scope, slots: &slots, draft, may_allocate, is_alive: &is_alive, caller_gone: &|| false, account: None };
    allocate(store, &ask, Deadline::after(limit), reserve)
}

fn held(store: &dyn Store) -> usize {
    store.list(&Filter::default()).map_or(0, |listing| listing.map(Result::unwrap).count())
}

/// Cause: whether a limit binds was asked before the attachment was locked. Effect:
/// an ADD beside one of its own attachment that was about to answer was refused.
#[test]
fn whether_anything_may_be_allocated_is_asked_under_the_attachments_lock_and_of_no_repeat() {
    let sandbox = Sandbox::new();
    let store = FileStore::new(sandbox.path("own"), host("n1"));
    let (ours, asked) = (draft("n1", "c1", None), Cell::new(0));
    let other = FileStore::new(sandbox.path("own"), host("n1"));
    let may = |answer: bool| {
        let (other, asked) = (&other, &asked);
        move || {
            asked.set(asked.get() + 1);
            let lock = other.try_lock_attachment(&attachment("n1", "c1")).unwrap();
            assert!(lock.is_none(), "another call of the attachment may be under way");
            if answer { Ok(()) } else { Err(Failure::CallerGone) }
        }
    };
    assert!(add(&store, &ours, 2, [LONG, LONG], &may(false)).is_err());
    assert_eq!((held(&store), asked.get()), (0, 1));
    drop(add(&store, &ours, 2, [LONG, LONG], &may(true)).unwrap());
    assert_eq!((held(&store), asked.get()), (2, 2));
    drop(add(&store, &ours, 2, [LONG, LONG], &may(false)).unwrap());
    assert_eq!((held(&store), asked.get()), (2, 2), "a repeat");
    // One of the two is lost: what is lacking is new.
    let session = store.open(Access::Release, Deadline::after(LONG)).unwrap();
    let lost = session.holdings(&ours.attachment).unwrap().held.pop().unwrap();
    drop(session);
    store.open(Access::Release, Deadline::after(LONG)).unwrap().release(&lost).unwrap();
    assert!(add(&store, &ours, 2, [LONG, LONG], &may(false)).is_err());
    assert_eq!((held(&store), asked.get()), (1, 3));
}

/// Each look at this clock is a second.
struct Ticking {
    began: Instant,
    looks: Cell<u64>,
}

impl Clock for Ticking {
    fn now(&self) -> Instant {
        self.looks.set(self.looks.get() + 1);
        self.began + Duration::from_secs(self.looks.get())
    }
    fn sleep(&self, pause: Duration) {
        self.looks.set(self.looks.get() + pause.as_secs());
    }
    fn draw(&self) -> u64 {
        0
    }
}

/// How an ADD of sixteen addresses ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    InTime,
    /// After so many addresses, all of them taken back.
    Undone(usize),
    /// After so many, of which so many were taken back in time.
    Left(usize, usize),
}

#[allow(clippy::disallowed_methods, reason = "a clock of its own begins somewhere")]
fn end(store: &FileStore<RealDisk>, limits: [u64; 2]) -> End {
    let clock = Rc::new(Ticking { began: Instant::now(), looks: Cell::new(0) });
    let limits = limits.map(Duration::from_secs);
    let ended = with_clock(clock, || add(store, &draft("n1", "late", None), 16, limits, &|| Ok(())).map(drop));
    // Another error: not even the first lock was had in time.
    let done = |failure: &Failure| match failure {
        Failure::Store(StoreError::OutOfTime { done, all: _, limit: _ }) => *done,
        _ => 0,
    };
    match ended {
        Ok(()) => End::InTime,
        Err(Failure::NotUndone { failure, undo }) => End::Left(done(&failure), done(&undo)),
        Err(failure) => End::Undone(done(&failure)),
    }
}

#[test]
fn a_deadline_ends_an_add_between_two_addresses_and_its_undo_too() {
    let sandbox = Sandbox::new();
    let store = FileStore::new(sandbox.path("own"), host("n1"));
    let clear = || free(&store, &attachment("n1", "late"), Deadline::after(LONG)).unwrap();
    let (mut done, mut longest) = (BTreeSet::new(), 0);
    for limit in 1.. {
        match end(&store, [limit, LONG.as_secs()]) {
            End::InTime => break,
            End::Undone(count) => {
                assert_eq!(held(&store), 0);
                longest = if done.insert(count) { limit } else { longest };
            }
            left @ End::Left(..) => panic!("{left:?}"),
        }
        assert!(limit < 1000, "no look at the clock");
    }
    clear();
    // Two at a time.
    assert_eq!(done, (1..8).map(|group| 2 * group).collect());
    let mut undone = BTreeSet::new();
    for reserve in 1.. {
        match end(&store, [longest, reserve]) {
            End::Undone(14) => break,
            End::Left(14, back) => {
                assert_eq!(held(&store), 14 - back);
                undone.insert(back);
            }
            other => panic!("{other:?}"),
        }
        // A DEL, or the next ADD, goes on from there.
        clear();
        assert_eq!(held(&store), 0);
    }
    assert_eq!(undone, (1..14).collect());
}
