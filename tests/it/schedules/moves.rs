//! The interleavings of a move from Whereabouts: its ADDs and DELs on one node, ours on another one,
//! and the steps of the operator, beside each other.
//!
//! - `objects`: what Whereabouts keeps in the API server
//! - `theirs`: a model of Whereabouts
//! - `operator`: a model of the operator's commands, and the DaemonSet's looks at the Move
//! - `records`: what the commands do with records and entries
//! - `stands`: what must be true after each schedule
//! - `commands`: the walks through the commands

mod commands;
pub(super) mod objects;
pub(super) mod operator;
mod records;
pub(super) mod stands;
mod theirs;

use super::calls::{Answered, Around, Call, Kind, What};
use super::explore::Explorer;
use super::promise::then;
use super::scheduler::To;
use super::world::World;
use super::{ADD, DEL, OTHERS, Sum, never};
use operator::Step;
use std::rc::Rc;

/// Returns whether a container is one of Whereabouts.
pub(super) fn is_theirs(container: &str) -> bool {
    container.starts_with('w')
}

/// A call that has begun, for the commands that wait for such calls.
pub(super) struct Running(Rc<Around>);

impl Running {
    /// Notes that a call has begun. A step of the operator is none.
    pub(super) fn new(around: &Rc<Around>) -> Option<Self> {
        let is_theirs = match around.call.what {
            What::TheirAdd(_) | What::TheirDel(_) => true,
            What::Add(..) | What::Del(_) | What::Gc | What::Sweep => false,
            _ => return None,
        };
        let running = Self(Rc::clone(around));
        running.note(Some(is_theirs));
        Some(running)
    }

    pub(super) fn end(self) {
        self.note(None);
    }

    fn note(&self, is_theirs: Option<bool>) {
        let (scheduler, thread) = (&self.0.scheduler, self.0.thread);
        scheduler.step(
            thread,
            || format!("runs: {}", is_theirs.is_some()),
            |world, touches| {
                touches.write(("running", thread));
                match is_theirs {
                    Some(is_theirs) => world.running.insert(thread, is_theirs),
                    None => world.running.remove(&thread),
                };
            },
        );
    }
}

/// Notes what has happened, as a step of its own.
fn happens(
    around: &Around,
    what: &'static str,
    touched: &'static str,
    note: impl FnOnce(&mut World),
) {
    around.scheduler.step(
        around.thread,
        || what.to_owned(),
        |world, touches| {
            touches.write(touched);
            note(world);
        },
    );
}

/// Runs a call that is not one of hereabouts.
pub(super) fn perform(around: &Around) -> Answered {
    match around.call.what {
        What::TheirAdd(container) => theirs::add(around, container),
        What::TheirDel(container) => theirs::del(around, container),
        What::Operate(step) => {
            let done = operator::operate(around, step);
            operator::done(around);
            done
        }
        What::Answer(generation) => operator::answer(around, generation),
        _ => operator::wait(around),
    }
}

const THEIR_ADD: Call = Call::new(What::TheirAdd("w2")).on("n2");
const THEIR_DEL: Call = Call::new(What::TheirDel("w1")).on("n2");
const SWEEP: Call = Call::new(What::Sweep);

/// Returns a cluster whose move is in a state. Whereabouts has its rights: while the move is closing,
/// its calls are those that began before.
fn moved(state: &str, generation: u64) -> World {
    let mut world = World::default();
    world.objects.theirs.is_installed = true;
    world.objects.theirs.has_rights = true;
    world.objects.theirs.put_pool();
    world.objects.put_move(state, generation);
    world
}

/// Returns where the calls begin: with a dead sandbox of ours alone, and with a pod of each.
fn beginnings(sum: &mut Sum, state: &str) -> [World; 2] {
    sum.setting.is_moving = true;
    let dead = Call::new(What::Add("dead-web", 1));
    let empty = then(&sum.setting, moved(state, 1), &[dead]);
    let held = [ADD, Call::new(What::TheirAdd("w1")).on("n2")];
    let held = then(&sum.setting, empty.clone(), &held);
    [empty, held]
}

/// Our calls beside those of Whereabouts.
const OURS: &[Call] = &[ADD, ADD.lost(), OTHERS, DEL, SWEEP];
/// An ADD that takes over what the dead sandbox has.
const RE_HOMED: Call = Call::new(What::Add("new-web", 1));
const THEIRS: &[Call] = &[THEIR_ADD, THEIR_DEL];

/// Explores each of our calls beside each of Whereabouts, in both orders.
fn both(state: &str, name: &'static str, explore: &mut dyn FnMut(&mut Explorer<'_>)) {
    let mut sum = Sum::new(Kind::Kubernetes, name);
    for world in beginnings(&mut sum, state) {
        let ours = OURS.iter().chain([&RE_HOMED]);
        for (ours, theirs) in
            ours.flat_map(|ours| THEIRS.iter().map(move |theirs| (*ours, *theirs)))
        {
            for pair in [[ours, theirs], [theirs, ours]] {
                sum.add(&world, &pair, never, explore);
            }
        }
    }
    sum.end();
}

#[test]
fn every_pair_of_calls_of_both_while_shared() {
    both("shared", "pairs while shared", &mut |explorer| explorer.explore(0, 2));
}

#[test]
fn every_pair_of_calls_of_both_while_closing() {
    both("closing", "pairs while closing", &mut |explorer| explorer.explore(0, 2));
}

#[test]
fn a_call_of_either_that_is_killed() {
    both("shared", "killed calls", &mut |explorer| drop(explorer.end_everywhere(To::Killed)));
}

#[test]
fn a_call_of_either_that_stands_still() {
    both("shared", "stopped calls", &mut |explorer| explorer.stop_everywhere());
}

/// A pod of Whereabouts ends, and another one gets its address: of the same name, or of another one.
const REPLACED: &[(&str, &[Call])] = &[
    ("w1", &[THEIR_DEL, THEIR_ADD]),
    (
        "w-web",
        &[
            Call::new(What::TheirDel("w-web")).on("n2"),
            Call::new(What::TheirAdd("w2-web")).on("n2"),
        ],
    ),
];

/// A record was imported and not completed. Its pod ends under Whereabouts, and another pod gets the
/// address. At the same time, a pod of ours starts, the import is repeated, or the node frees what has
/// ended.
#[test]
fn an_imported_pod_that_ends_while_another_gets_its_address() {
    let mut sum = Sum::new(Kind::Kubernetes, "imported pods");
    sum.setting.is_moving = true;
    let begin = [
        Call::new(What::TheirAdd("w1")).on("n2"),
        Call::new(What::TheirAdd("w-web")).on("n2"),
        IMPORT,
    ];
    let world = then(&sum.setting, moved("shared", 1), &begin);
    for (ended, replaced) in REPLACED {
        let replaced = Call::new(What::Serial(replaced)).on("n2");
        // The node is one of hereabouts by now, and a call of Whereabouts has not ended.
        let del = Call::new(What::Del(ended)).on("n2");
        for other in [ADD, IMPORT, FREE_ENDED, del] {
            for pair in [[other, replaced], [replaced, other]] {
                sum.add(&world, &pair, never, &mut |explorer| explorer.explore(0, 2));
            }
        }
        for import in [IMPORT, FREE_ENDED] {
            sum.add(&world, &[ADD, replaced, import], never, &mut |explorer| {
                (1..=40).for_each(|seed| explorer.draw(seed));
            });
        }
    }
    sum.end();
}

const IMPORT: Call = Call::new(What::Operate(Step::Import));
const FREE_ENDED: Call = Call::new(What::Operate(Step::FreeEnded)).on("n2");
pub(super) const EXPORT: Call = Call::new(What::Operate(Step::Export));

#[test]
#[ignore = "minutes"]
fn long_pairs_of_calls_of_both() {
    both("shared", "pairs while shared", &mut |explorer| {
        explorer.explore(0, 3);
        drop(explorer.end_everywhere(To::Frozen));
    });
}

/// Checks that a schedule that is left out ends like one that is run.
#[test]
#[ignore = "minutes"]
fn long_what_is_left_out_ends_alike_while_shared() {
    let mut sum = Sum::new(Kind::Kubernetes, "left out");
    let [empty, held] = beginnings(&mut sum, "shared");
    let one = OURS.iter().map(|ours| (&held, [*ours, THEIR_DEL], 1));
    let other = OURS.iter().map(|ours| (&held, [THEIR_ADD, *ours], 1));
    let two = [(&empty, [ADD, THEIR_ADD], 2), (&held, [DEL, THEIR_DEL], 2)];
    for (world, calls, most) in one.chain(other).chain(two) {
        let outcomes = [false, true].map(|whole| {
            let (setting, known) = (&sum.setting, &mut sum.known);
            let mut explorer = Explorer::new(setting, known, world, &calls, never).compared(whole);
            explorer.explore(0, most);
            assert!(explorer.faults.is_empty(), "{:?}", explorer.faults);
            explorer.outcomes.unwrap_or_default()
        });
        assert_eq!(outcomes[0], outcomes[1], "{calls:?}");
    }
}
