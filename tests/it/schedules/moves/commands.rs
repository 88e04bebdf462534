//! The walks through the commands that change the state of a move, beside the calls of both, killed at
//! each step, and repeated. After the command, a pod starts on each node.

use super::operator::Step;
use super::{EXPORT, OURS, SWEEP, THEIR_ADD, THEIR_DEL, THEIRS, beginnings, moved};
use crate::schedules::calls::{Call, Kind, What};
use crate::schedules::promise::then;
use crate::schedules::scheduler::{Plan, To};
use crate::schedules::world::World;
use crate::schedules::{ADD, DEL, OTHERS, Sum, never};

const START: Call = Call::new(What::Operate(Step::Start));
const FINISH: Call = Call::new(What::Operate(Step::Finish));
const OPEN: Call = Call::new(What::Operate(Step::Open));
const SHARE_AGAIN: Call = Call::new(What::Operate(Step::ShareAgain));
const GIVE_NODE: Call = Call::new(What::Operate(Step::GiveNode));
/// The answers to the states `closing` and `opening`.
const TO_CLOSING: Call = Call::new(What::Answer(2));
const TO_OPENING: Call = Call::new(What::Answer(4));

/// When the operator is done, a pod starts on each node.
const AFTERWARDS: Call = Call::new(What::Serial(&[
    Call::new(What::Await),
    Call::new(What::TheirAdd("w3")).on("n2"),
    OTHERS,
]));

/// The age of a note that is asked for again, in seconds.
const OLD: u64 = 100;
/// The same for a node whose note of the state was old at the begin.
const OLD_AFTERWARDS: Call = Call::new(What::Serial(&[
    Call::new(What::Await),
    Call::new(What::TheirAdd("w3")).on("n2"),
    Call { later: OLD, ..OTHERS },
]));

/// Whereabouts has no rights for a while, and an operator may have to repeat a command.
fn may_fail(call: &Call, _: &(u64, String)) -> bool {
    !matches!(call.what, What::Add(..) | What::Del(_) | What::Sweep)
}

/// How many schedules of a command are run: the most switches, and the number of seeds.
#[derive(Clone, Copy)]
struct Effort(usize, u64);

/// What each run of the suite does.
const SHORT: Effort = Effort(1, 4);
const LONG: Effort = Effort(2, 300);

/// Explores a command, beginning with it and with the last call but one; as seeds draw it; and killed
/// at each step, and then repeated. The command is the first call.
fn command(sum: &mut Sum, world: &World, calls: &[Call], effort: Effort) {
    let Effort(most, seeds) = effort;
    let mut left = Vec::new();
    sum.add(world, calls, may_fail, &mut |explorer| {
        explorer.explore(0, most);
        explorer.explore(calls.len() - 2, most);
        (1..=seeds).for_each(|seed| explorer.draw(seed));
        left = explorer.end_everywhere(To::Killed);
    });
    let is_repeated = |call: &&Call| matches!(call.what, What::Operate(_) | What::Answer(_));
    let again: Vec<Call> = calls.iter().filter(is_repeated).copied().collect();
    for mut world in left {
        world.is_operated = false;
        sum.add(&world, &again, never, &mut |explorer| {
            explorer.try_plan(&Plan::default());
        });
    }
}

fn start(effort: Effort) {
    let mut sum = Sum::new(Kind::Kubernetes, "start");
    sum.setting.is_moving = true;
    let mut none = moved("shared", 1);
    none.objects.remove_move();
    let first = Call::new(What::TheirAdd("w1")).on("n2");
    let world = then(&sum.setting, none.clone(), &[first]);
    // A node that has noted that nothing is moved, more than a minute ago.
    let noted = then(&sum.setting, none, &[ADD, DEL, first]);
    for theirs in THEIRS {
        command(&mut sum, &world, &[START, *theirs, AFTERWARDS], effort);
        command(&mut sum, &noted, &[START, *theirs, OLD_AFTERWARDS], effort);
    }
    sum.end();
}

/// Returns a cluster whose move is finished, with a pod of each.
fn finished(sum: &mut Sum) -> World {
    let [_, shared] = beginnings(sum, "shared");
    let mut left = None;
    sum.add(&shared, &[FINISH, TO_CLOSING], never, &mut |explorer| {
        left = Some(explorer.try_plan(&Plan::default()).world);
    });
    let world = World { is_operated: false, ..left.unwrap() };
    assert_eq!(world.objects.moved()["spec"]["state"], "finished");
    world
}

fn finish(effort: Effort) {
    let mut sum = Sum::new(Kind::Kubernetes, "finish");
    let [_, world] = beginnings(&mut sum, "shared");
    for ours in OURS {
        command(&mut sum, &world, &[FINISH, TO_CLOSING, *ours, THEIR_ADD], effort);
    }
    sum.end();
}

fn share_again(effort: Effort) {
    let mut sum = Sum::new(Kind::Kubernetes, "shared again");
    let [_, mut world] = beginnings(&mut sum, "closing");
    world.objects.theirs.has_rights = false;
    for ours in OURS {
        command(&mut sum, &world, &[SHARE_AGAIN, *ours, AFTERWARDS], effort);
    }
    sum.end();
}

fn open(effort: Effort) {
    let mut sum = Sum::new(Kind::Kubernetes, "back");
    let world = finished(&mut sum);
    for ours in [OTHERS, ADD, DEL, SWEEP] {
        command(&mut sum, &world, &[OPEN, TO_OPENING, ours, AFTERWARDS], effort);
    }
    // The node asks for the state, and the answer is old when it is noted.
    for ours in [OTHERS, ADD] {
        let calls = [OPEN, TO_OPENING, ours].map(|call| Call { later: OLD, ..call });
        let calls = [&calls[..], &[OLD_AFTERWARDS]].concat();
        command(&mut sum, &world, &calls, effort);
    }
    sum.end();
}

/// What Whereabouts does on a node that it serves again.
const ON_THE_NODE: Call =
    Call::new(What::Serial(&[Call::new(What::TheirDel("c1")), Call::new(What::TheirAdd("w2"))]));

/// Whereabouts serves the node again, and its addresses are given to it.
fn give_node(effort: Effort) {
    let mut sum = Sum::new(Kind::Kubernetes, "a node back");
    let [_, world] = beginnings(&mut sum, "shared");
    let another = Call::new(What::TheirAdd("w3")).on("n2");
    for theirs in [THEIR_ADD, THEIR_DEL, ON_THE_NODE] {
        command(&mut sum, &world, &[GIVE_NODE, theirs, another], effort);
    }
    sum.end();
}

#[test]
fn the_start_of_a_move() {
    start(SHORT);
}

#[test]
fn the_end_of_a_move() {
    finish(SHORT);
}

#[test]
fn the_way_back_before_the_end() {
    share_again(SHORT);
}

#[test]
fn the_way_back() {
    open(SHORT);
}

#[test]
fn a_node_that_goes_back() {
    give_node(SHORT);
}

/// An export shows what has a record, and the record may end before, meanwhile and after. One that ends
/// well leaves nothing for the next one to remove.
#[test]
fn an_export_beside_the_calls_of_a_node() {
    let mut sum = Sum::new(Kind::Kubernetes, "export");
    sum.setting.is_moving = true;
    let world = then(&sum.setting, moved("shared", 1), &[ADD]);
    for ours in [ADD, OTHERS, DEL, SWEEP] {
        for pair in [[EXPORT, ours], [ours, EXPORT]] {
            sum.add(&world, &pair, never, &mut |explorer| {
                explorer.explore(0, 3);
                drop(explorer.end_everywhere(To::Killed));
            });
        }
    }
    sum.end();
}

#[test]
#[ignore = "minutes"]
fn long_walks_through_a_move() {
    [start, finish, share_again, open, give_node].iter().for_each(|walk| walk(LONG));
}
