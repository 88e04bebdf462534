//! When an ADD checks whether it may allocate: after its attachment is locked.

use crate::conformance::{attachment, host, record};
use crate::support::calls::slots;
use crate::support::sandbox::Sandbox;
use hereabouts::ipam::{Record, Scope};
use hereabouts::plugin::add::{Given, allocate};
use hereabouts::plugin::ask::Ask;
use hereabouts::plugin::failure::Failure;
use hereabouts::retry::Deadline;
use hereabouts::store::file::FileStore;
use hereabouts::store::{Access, Filter, Store};
use std::cell::Cell;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(1_000_000);

fn add(
    store: &dyn Store,
    record: &Record,
    count: u8,
    limits: [Duration; 2],
    may_allocate: &dyn Fn() -> Result<(), Failure>,
) -> Result<Given, Failure> {
    let (slots, scope, [limit, reserve]) = (slots(count), Scope::default(), limits);
    let is_alive = |_: &Record| true;
    let ask = Ask {
        scope: &scope,
        slots: &slots,
        record,
        may_allocate,
        is_alive: &is_alive,
        caller_gone: &|| false,
        account: None,
        freed: None,
        elsewhere: None,
        confirm: None,
        sticky: false,
    };
    allocate(store, &ask, Deadline::after(limit), reserve)
}

fn held(store: &dyn Store) -> usize {
    store.list(&Filter::default()).map_or(0, |listing| listing.map(Result::unwrap).count())
}

/// Cause: an ADD checked the limits before its attachment was locked. Effect: an ADD was refused
/// while another ADD of its attachment was about to answer.
#[test]
fn whether_anything_may_be_allocated_is_asked_under_the_attachments_lock_and_of_no_repeat() {
    let sandbox = Sandbox::new();
    let store = FileStore::new(sandbox.path("own"), host("n1"));
    let (ours, asked) = (record("n1", "c1", None), Cell::new(0));
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
    // One of the two is lost: the missing one is a new allocation.
    let session = store.open(Access::Release, Deadline::after(LONG)).unwrap();
    let lost = session.holdings(&ours.attachment).unwrap().held.pop().unwrap();
    drop(session);
    store.open(Access::Release, Deadline::after(LONG)).unwrap().release(&lost).unwrap();
    assert!(add(&store, &ours, 2, [LONG, LONG], &may(false)).is_err());
    assert_eq!((held(&store), asked.get()), (1, 3));
}
