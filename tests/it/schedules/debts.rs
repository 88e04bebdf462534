//! DELs that leave a debt, and who settles it, together with the other calls of the attachment:
//! every caller that was told an address keeps it, and in the end nothing is owed.

use super::calls::{Around, Call, Kind, Setting, What};
use super::explore::{Count, Explorer};
use super::prepared;
use super::promise::{Known, alone, then};
use super::world::{Event, Holder, World};
use hereabouts::addr::AddrSet;
use hereabouts::config::Settings;
use hereabouts::ipam::{Allocation, Attachment, Record, Scope};
use hereabouts::plugin::debts::Settler;
use hereabouts::retry::Deadline;
use hereabouts::store::disk::Held;
use hereabouts::store::{Access, Filter, Listing, Session, Store, StoreError};

/// A store of which only the lock of an attachment works; and whether the store may come back by
/// itself.
struct Away(Box<dyn Store>, bool);

pub(super) fn away(store: Box<dyn Store>, for_a_while: bool) -> Box<dyn Store> {
    Box::new(Away(store, for_a_while))
}

impl Store for Away {
    fn lock_attachment(
        &self,
        attachment: &Attachment,
        access: Access,
        deadline: Deadline,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        self.0.lock_attachment(attachment, access, deadline)
    }
    fn try_lock_attachment(
        &self,
        attachment: &Attachment,
    ) -> Result<Option<Box<dyn Held>>, StoreError> {
        self.0.try_lock_attachment(attachment)
    }
    fn noted(&self, attachment: &Attachment) -> Option<Vec<Allocation>> {
        self.0.noted(attachment)
    }
    fn open(&self, _: Access, _: Deadline) -> Result<Box<dyn Session + '_>, StoreError> {
        let nobody = || String::from("none");
        Err(match self.1 {
            true => StoreError::Unreachable {
                server: nobody(),
                call: nobody(),
                waited: nobody(),
                reason: nobody(),
                is_away: true,
            },
            false => StoreError::Changed,
        })
    }
    fn list(&self, filter: &Filter) -> Result<Listing<'_>, StoreError> {
        self.0.list(filter)
    }
    fn ready(&self) -> Result<(), StoreError> {
        self.0.ready()
    }
    fn has_room(&self, scope: &Scope, candidates: &AddrSet) -> Result<bool, StoreError> {
        self.0.has_room(scope, candidates)
    }
}

/// Does the work of `hereabouts sweep --debts`.
pub(super) fn settle(around: &Around) -> anyhow::Result<()> {
    let host = around.host(around.call.node);
    let open = |_: &Settings| Ok(around.store(host.clone()));
    let is_dead = |held: &Record| !around.is_there(held);
    let settler =
        Settler { node: &host.node, only: None, open: &open, is_dead: &is_dead, freed: None };
    Ok(around.ledger().settle_all(&settler, &mut |_, _| {})?)
}

/// Returns whether a path is that of a debt.
pub(super) fn is_debt(path: &str) -> bool {
    path.len() == 33
        && path.as_bytes()[16] == b'-'
        && path.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Checks that nothing is owed after an ADD of c1 has answered, if no DEL at the same time can
/// leave a debt: what the ADD answered with must not be freed for an earlier DEL.
pub(super) fn nothing_is_owed_with_an_answer(world: &World, calls: &[Call]) -> Result<(), String> {
    let is_c1 = |holder: &Holder| holder.1 == "c1";
    let last = world.events.iter().rev().find(|event| match event {
        Event::Told(told) => told.iter().any(|told| is_c1(&told.holder)),
        Event::Ending(_, holder) | Event::Ended(_, holder) => is_c1(holder),
        _ => false,
    });
    let may_owe = calls
        .iter()
        .any(|call| matches!(call.what, What::Del(_) | What::Owe(_) | What::Promise(_)));
    let owed = world.disks.get("debts of n1").map(super::disk::Tree::files).unwrap_or_default();
    match owed.iter().any(|path| is_debt(&path.to_string_lossy())) {
        true if matches!(last, Some(Event::Told(_))) && !may_owe => {
            Err("an ADD has answered with what is still owed".to_owned())
        }
        _ => Ok(()),
    }
}

/// What is owed at the start.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Owed {
    Nothing,
    /// The runtime was told that the DEL failed.
    Error,
    /// It was told that the attachment has ended.
    Success,
}

/// Returns a world in which a container holds an address, and a DEL of it may be owed.
fn world(setting: &Setting, container: &'static str, owed: Owed) -> World {
    let held = then(setting, prepared(setting), &[Call::new(What::Add(container, 1))]);
    let (what, fails) = match owed {
        Owed::Nothing => return held,
        Owed::Error => (What::Owe(container), true),
        Owed::Success => (What::Promise(container), false),
    };
    let (world, answered) = alone(setting, held, Call::new(what));
    assert_eq!(answered.is_err(), fails, "{answered:?}");
    world
}

/// Allows only a DEL that is meant to fail to fail.
fn owing(call: &Call, _: &(u64, String)) -> bool {
    matches!(call.what, What::Owe(_))
}

const CALLS: &[Call] = &[
    Call::new(What::Add("c1", 1)),
    Call::new(What::Add("c1", 1)).lost(),
    Call::new(What::Add("c2", 1)),
    Call::new(What::Del("c1")),
    Call::new(What::Owe("c1")),
    Call::new(What::Promise("c1")),
    Call::new(What::Settle),
    Call::new(What::Sweep),
];

/// The calls of a pod whose sandbox is created again.
const OF_ONE_POD: &[Call] = &[
    Call::new(What::Add("one-db", 1)),
    Call::new(What::Add("two-db", 1)),
    Call::new(What::Add("two-db", 1)).lost(),
    Call::new(What::Add("six-db", 1)),
    Call::new(What::Del("one-db")),
    Call::new(What::Promise("one-db")),
    Call::new(What::Settle),
    Call::new(What::Sweep),
];

fn explore(
    setting: &Setting,
    known: &mut Known,
    world: &World,
    calls: &[Call],
    most: usize,
    all: &mut Count,
    faults: &mut Vec<String>,
) {
    let mut explorer = Explorer::new(setting, known, world, calls, owing);
    explorer.explore(0, most);
    all.schedules += explorer.count.schedules;
    all.same += explorer.count.same;
    faults.extend(explorer.faults);
}

fn scene(kind: Kind) {
    let setting = Setting::new(kind);
    let (mut all, mut faults, mut known) = (Count::default(), Vec::new(), Known::default());
    for owed in [Owed::Nothing, Owed::Error, Owed::Success] {
        let world = world(&setting, "c1", owed);
        for first in CALLS {
            for second in CALLS {
                let settles = |call: &Call| {
                    matches!(call.what, What::Owe(_) | What::Promise(_) | What::Settle)
                };
                if owed != Owed::Nothing || settles(first) || settles(second) {
                    explore(
                        &setting,
                        &mut known,
                        &world,
                        &[*first, *second],
                        2,
                        &mut all,
                        &mut faults,
                    );
                }
            }
        }
        // A DEL that leaves a debt, an ADD, and the settling of the debt: in each order.
        for owe in [What::Owe("c1"), What::Promise("c1")] {
            let three = [owe, What::Add("c1", 1), What::Settle].map(Call::new);
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                explore(
                    &setting,
                    &mut known,
                    &world,
                    &order.map(|at| three[at]),
                    1,
                    &mut all,
                    &mut faults,
                );
            }
        }
    }
    // A new sandbox takes over what the old one owes.
    let world = world(&setting, "one-db", Owed::Success);
    for first in OF_ONE_POD {
        for second in OF_ONE_POD {
            explore(&setting, &mut known, &world, &[*first, *second], 2, &mut all, &mut faults);
        }
    }
    println!("{kind:?}: {all:?}, {} faults", faults.len());
    for fault in faults.iter().take(10) {
        println!("{fault}\n");
    }
    assert!(faults.is_empty());
}

#[test]
fn what_a_del_left_is_settled_beside_any_call_on_local_files() {
    scene(Kind::Local);
}

#[test]
fn what_a_del_left_is_settled_beside_any_call_on_shared_files() {
    scene(Kind::Shared);
}

#[test]
fn what_a_del_left_is_settled_beside_any_call_on_kubernetes() {
    scene(Kind::Kubernetes);
}
