//! The calls of the plugin as functions on any store: what the verbs do after configuration and
//! environment are read.

use crate::conformance::{attachment, candidates, record};
use hereabouts::ipam::{Allocation, Candidates, Life, NodeName, Part, Record, Scope, Slot, Source};
use hereabouts::plugin::add::allocate;
use hereabouts::plugin::ask::Ask;
use hereabouts::plugin::del::free;
use hereabouts::plugin::sweep::{self, Sweep};
use hereabouts::retry::Deadline;
use hereabouts::store::upkeep::Upkeep;
use hereabouts::store::{Access, Filter, Store, StoreError};
use std::time::Duration;

/// One call of the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// ADD for a container, with this many ranges. Its pod is the container's name up to the first
    /// `-`.
    Add(&'static str, u8),
    /// DEL of everything that a container holds.
    Del(&'static str),
    /// GC with an empty list.
    Gc,
    /// `release` of what a container holds, found by its address.
    Release(&'static str),
    /// The same for only the first of a container's addresses.
    ReleaseFirst(&'static str),
    /// Removes empty directories, as `sweep` does at its end.
    Tidy,
}

/// Calls that each change a prepared store in a different way.
pub(crate) const CALLS: &[Call] = &[
    Call::Add("c1", 1),
    Call::Add("c2", 2),
    Call::Add("new-web", 1),
    Call::Add("self", 1),
    Call::Add("half", 2),
    Call::Add("by", 1),
    Call::Del("by"),
    Call::Del("two"),
    Call::Gc,
    Call::Release("two"),
    Call::Tidy,
];

/// Returns whether a sandbox is alive. Those whose name begins with `dead` are dead.
pub(crate) fn is_alive(held: &Record, boot: &str) -> bool {
    held.boot_id == boot && !held.attachment.container.as_str().starts_with("dead")
}

pub(crate) fn slots(count: u8) -> Vec<Slot> {
    (0..count)
        .map(|n| Slot {
            source: Source::Dynamic,
            part: Part { index: u16::from(n), of: u16::from(count) },
            candidates: vec![Candidates {
                addresses: candidates(&format!("10.0.{n}.0/29")),
                prefix: 29,
                gateway: None,
            }],
            fallback: Default::default(),
        })
        .collect()
}

impl Call {
    /// Returns the container of a call, if it is for one container.
    pub(crate) const fn container(self) -> Option<&'static str> {
        match self {
            Self::Add(container, _)
            | Self::Del(container)
            | Self::Release(container)
            | Self::ReleaseFirst(container) => Some(container),
            Self::Gc | Self::Tidy => None,
        }
    }
}

/// Runs a call as its verb does. An ADD that fails is undone.
pub(crate) fn run(store: &dyn Upkeep, call: Call, boot: &str) -> Result<Vec<Allocation>, String> {
    let deadline = Deadline::after(Duration::from_secs(20));
    let ended = match call {
        Call::Add(container, count) => return add(store, container, count, boot),
        Call::Del(container) => free(store, &attachment("n1", container), deadline),
        Call::Gc => gc(store, boot, deadline),
        Call::Release(container) => release(store, container, &|_| true, deadline),
        Call::ReleaseFirst(container) => {
            release(store, container, &|part| part.index == 0, deadline)
        }
        Call::Tidy => store.tidy(deadline).map(drop),
    };
    ended.map(|()| Vec::new()).map_err(|error| error.to_string())
}

fn add(
    store: &dyn Store,
    container: &str,
    count: u8,
    boot: &str,
) -> Result<Vec<Allocation>, String> {
    let record =
        Record { boot_id: boot.to_owned(), ..record("n1", container, container.split('-').nth(1)) };
    let (slots, scope, deadline) =
        (slots(count), Scope::default(), Deadline::after(Duration::from_secs(20)));
    let ask = Ask {
        scope: &scope,
        slots: &slots,
        record: &record,
        may_allocate: &|| Ok(()),
        is_alive: &|held| is_alive(held, boot),
        caller_gone: &|| false,
        account: None,
        freed: None,
        elsewhere: None,
        confirm: None,
        sticky: false,
    };
    let given = allocate(store, &ask, deadline, Duration::from_secs(20))
        .map_err(|failure| failure.to_string())?;
    Ok(given.held.clone())
}

fn gc(store: &dyn Store, boot: &str, deadline: Deadline) -> Result<(), StoreError> {
    let node = NodeName::parse("n1").unwrap();
    let sweep = Sweep {
        node: &node,
        network: None,
        spared: None,
        dry_run: false,
        is_alive: &|held| if is_alive(held, boot) { Life::Alive } else { Life::Dead },
    };
    let mut first = Ok(());
    for stale in sweep.find(store, deadline)? {
        let freed = sweep::free(store, &stale?, deadline).map(|_| ());
        first = first.and(freed);
    }
    first
}

fn release(
    store: &dyn Store,
    container: &str,
    is_meant: &dyn Fn(Part) -> bool,
    deadline: Deadline,
) -> Result<(), StoreError> {
    let listing = match store.list(&Filter::default()) {
        Err(StoreError::Absent { .. }) => return Ok(()),
        listing => listing?,
    };
    for item in listing {
        let allocation = item?;
        if allocation.record.attachment == attachment("n1", container)
            && is_meant(allocation.record.part)
        {
            store.open(Access::Release, deadline)?.release(&allocation)?;
        }
    }
    Ok(())
}
