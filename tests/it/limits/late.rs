//! An ADD of several addresses that takes too long, or whose caller has exited: it ends between two
//! addresses, and keeps none.

use crate::conformance::{candidates, record};
use hereabouts::ipam::{Candidates, NodeName, Part, Scope, Slot, Source};
use hereabouts::plugin::add::{Given, allocate};
use hereabouts::plugin::ask::Ask;
use hereabouts::plugin::failure::Failure;
use hereabouts::retry::{Clock, Deadline, with_clock};
use hereabouts::store::memory::MemoryStore;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(24);
const RESERVE: Duration = Duration::from_secs(6);

/// A clock that changes only when it is set.
struct Still {
    begun: Instant,
    passed: Cell<Duration>,
}

impl Clock for Still {
    fn now(&self) -> Instant {
        self.begun + self.passed.get()
    }

    fn sleep(&self, pause: Duration) {
        self.passed.set(self.passed.get() + pause);
    }

    fn draw(&self) -> u64 {
        0
    }
}

fn clock() -> Rc<Still> {
    #[allow(clippy::disallowed_methods, reason = "some moment to begin at")]
    let begun = Instant::now();
    Rc::new(Still { begun, passed: Cell::new(Duration::ZERO) })
}

/// Allocates four addresses; `before` is called before each.
fn allocate_four(store: &MemoryStore, before: &dyn Fn() -> bool) -> Result<Given, Failure> {
    let slot = |index: u16| Slot {
        part: Part { index, of: 4 },
        source: Source::Dynamic,
        candidates: vec![Candidates {
            addresses: candidates(&format!("10.0.{index}.0/29")),
            prefix: 29,
            gateway: None,
        }],
        fallback: Default::default(),
    };
    let slots: Vec<Slot> = (0..4).map(slot).collect();
    let (scope, record) = (Scope::default(), record("n1", "c1", None));
    let ask = Ask {
        scope: &scope,
        slots: &slots,
        record: &record,
        may_allocate: &|| Ok(()),
        is_alive: &|_| true,
        caller_gone: before,
        account: None,
        freed: None,
        elsewhere: None,
        confirm: None,
        sticky: false,
    };
    allocate(store, &ask, Deadline::after(LIMIT), RESERVE)
}

fn store() -> MemoryStore {
    MemoryStore::new(NodeName::parse("n1").unwrap())
}

/// Cause: an ADD checked neither the deadline nor the caller between two addresses. Effect: one ADD
/// made all others of the node wait for minutes. Fix: it checks both before each address.
#[test]
fn an_add_that_is_late_or_that_nobody_waits_for_ends_before_its_next_address() {
    let (store, clock, asked) = (store(), clock(), Cell::new(0));
    let late = || {
        asked.set(asked.get() + 1);
        if asked.get() == 3 {
            clock.sleep(LIMIT);
        }
        false
    };
    let failed =
        with_clock(Rc::<Still>::clone(&clock), || allocate_four(&store, &late).err().unwrap());
    assert!(failed.to_string().contains("2 of 4"), "{failed}");
    assert_eq!((asked.get(), store.records().len()), (3, 0));

    asked.set(0);
    let gone = || {
        asked.set(asked.get() + 1);
        asked.get() == 4
    };
    let failed = allocate_four(&store, &gone).err().unwrap();
    assert!(matches!(failed, Failure::CallerGone), "{failed}");
    assert_eq!((asked.get(), store.records().len()), (4, 0));
}

/// An undo ends at its deadline, too: the rest is owed.
#[test]
fn an_undo_ends_at_its_deadline() {
    let store = store();
    let given = allocate_four(&store, &|| false).unwrap();
    let failed = given.undo(&store, Deadline::after(Duration::ZERO)).unwrap_err();
    assert!(failed.to_string().contains("1 of 4"), "{failed}");
    assert_eq!(store.records().len(), 3, "one attempt is made");
    given.undo(&store, Deadline::after(LIMIT)).unwrap();
    assert!(store.records().is_empty());
}
