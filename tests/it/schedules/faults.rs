//! Two calls, one of which meets a fault: its caller exits at any check, a flush fails, the API
//! server's answer is lost or a request comes late, it is killed, or it is stopped. Also pairs with
//! two addresses each, and on two nodes.

use super::calls::{BadRequest, Call, Kind, What};
use super::explore::Allowed;
use super::promise::then;
use super::scheduler::To;
use super::world::World;
use super::{CALLS, Sum, beginnings, never};

const fn add(container: &'static str) -> Call {
    Call::new(What::Add(container, 1))
}

/// The calls that run together with a call that meets a fault.
const OTHERS: &[Call] = &[
    add("c1"),
    add("c2"),
    add("new-web"),
    Call::new(What::Del("c1")),
    Call::new(What::Gc),
    Call::new(What::Sweep),
    Call::new(What::Release("c1")),
    Call::new(What::Repair),
];

/// Runs every schedule with one switch of these calls and those, whichever begins.
fn beside(kind: Kind, name: &'static str, firsts: &[Call], seconds: &[Call]) {
    let mut sum = Sum::new(kind, name);
    for world in beginnings(&sum.setting) {
        for (first, second) in
            firsts.iter().flat_map(|first| seconds.iter().map(move |second| (*first, *second)))
        {
            for calls in [[first, second], [second, first]] {
                sum.add(&world, &calls, never, &mut |explorer| explorer.explore(0, 1));
            }
        }
    }
    sum.end();
}

/// The caller exits before the n-th check of the call.
fn orphans(kind: Kind) {
    let firsts: Vec<Call> = ["c1", "new-web"]
        .iter()
        .flat_map(|container| (0..4).map(|look| add(container).orphan(look)))
        .collect();
    beside(kind, "orphans", &firsts, OTHERS);
}

/// More flushes than any call makes.
const FLUSHES: usize = 8;

fn failing_flushes(kind: Kind) {
    let calls = [add("c1"), add("new-web"), Call::new(What::Del("c1")), Call::new(What::Gc)];
    let firsts: Vec<Call> =
        calls.iter().flat_map(|call| (0..FLUSHES).map(|after| call.bad_flush(after))).collect();
    beside(kind, "failing flushes", &firsts, OTHERS);
}

fn lost_answers(kind: Kind) {
    let calls = [add("c1"), add("new-web"), Call::new(What::Del("c1")), Call::new(What::Gc)];
    let bad = |call: Call| (0..2).map(move |which| call.bad_request(BadRequest::Answered(which)));
    let firsts: Vec<Call> = calls.iter().flat_map(|call| bad(*call)).collect();
    beside(kind, "lost answers", &firsts, OTHERS);
}

/// A request is thought lost, and arrives at any later step, or not at all.
fn late_requests(kind: Kind) {
    let calls = [
        add("c1"),
        add("c1").lost(),
        add("new-web"),
        Call::new(What::Del("c1")),
        Call::new(What::Gc),
    ];
    let mut sum = Sum::new(kind, "late requests");
    for world in beginnings(&sum.setting) {
        for call in calls {
            for which in 0..2 {
                let late = call.bad_request(BadRequest::HeldUp(which));
                for other in OTHERS {
                    for calls in [
                        [late, *other, Call::new(What::Courier)],
                        [*other, late, Call::new(What::Courier)],
                    ] {
                        sum.add(&world, &calls, never, &mut |explorer| explorer.explore(0, 1));
                    }
                }
            }
        }
    }
    sum.end();
}

/// The same with a call that is killed, so that it cannot ask whether the request was carried out.
/// Its attachment has ended when the request arrives.
fn killed_with_a_request_on_its_way(kind: Kind) {
    let mut sum = Sum::new(kind, "late requests of killed calls");
    for world in beginnings(&sum.setting) {
        for (container, which) in
            ["c1", "new-web"].into_iter().flat_map(|container| [(container, 0), (container, 1)])
        {
            let mut left = Vec::new();
            let late = add(container).bad_request(BadRequest::HeldUp(which));
            sum.add(&world, &[late], never, &mut |explorer| {
                left = explorer.end_everywhere(To::Killed)
            });
            let del = Call::new(What::Del(container));
            for world in left {
                let world = then(&sum.setting, world, &[del, Call::new(What::Courier)]);
                sum.add(&world, &[del], never, &mut |explorer| explorer.explore(0, 0));
            }
        }
    }
    sum.end();
}

fn two_addresses(kind: Kind) {
    let two = |container| Call::new(What::Add(container, 2));
    let firsts = [two("c1"), two("c1").lost(), two("new-web"), two("c1").orphan(1)];
    let seconds = [
        two("c1"),
        two("c2"),
        Call::new(What::Del("c1")),
        Call::new(What::Gc),
        Call::new(What::Release("c1")),
    ];
    beside(kind, "two addresses", &firsts, &seconds);
}

fn two_nodes(kind: Kind) {
    let elsewhere = [
        add("c2"),
        add("far"),
        Call::new(What::Del("far")),
        Call::new(What::Gc),
        Call::new(What::Sweep),
        Call::new(What::Repair),
    ];
    let elsewhere = elsewhere.map(|call| call.on("n2"));
    let here = [
        add("c1"),
        add("c1").lost(),
        add("new-web"),
        Call::new(What::Del("c1")),
        Call::new(What::Gc),
        Call::new(What::Repair),
    ];
    beside(kind, "two nodes", &here, &elsewhere);
}

/// c1 and the pod's sandbox hold what they got before the boot, which no caller relies on any more:
/// the runtime makes each ADD once more, or one for another sandbox.
fn after_a_boot(kind: Kind) {
    let mut sum = Sum::new(kind, "after a boot");
    let earlier = ["c1", "old-web"].map(|container| add(container).before_the_boot());
    let mut world = then(&sum.setting, World::default(), &earlier);
    world.events.clear();
    let firsts = [add("c1"), add("c1").lost(), add("old-web"), add("new-web")];
    let rest = [add("c2"), Call::new(What::Del("c1")), Call::new(What::Del("old-web"))];
    let rest: Vec<Call> = rest
        .into_iter()
        .chain(
            [What::Gc, What::Sweep, What::Release("c1"), What::Release("old-web"), What::Repair]
                .map(Call::new),
        )
        .collect();
    for first in firsts {
        for second in firsts.iter().chain(&rest) {
            for calls in [[first, *second], [*second, first]] {
                sum.add(&world, &calls, never, &mut |explorer| explorer.explore(0, 1));
            }
        }
    }
    sum.end();
}

/// While a call is stopped with its locks, others may end at their deadlines, and so may that call.
fn busy(call: &Call, (code, words): &(u64, String)) -> bool {
    let in_time =
        ["was not free within", "did not end within", " passed after ", "could not be swept"];
    let is_command = !matches!(call.what, What::Add(..) | What::Del(_) | What::Gc);
    *code == 11 || is_command && in_time.iter().any(|part| words.contains(part))
}

/// The first of each ordered pair is killed, or stopped permanently, or stopped until the other has
/// ended, before each of its steps.
fn stops(kind: Kind, to: To) {
    let mut sum = Sum::new(kind, "stops");
    let allowed: Allowed = if to == To::Killed { never } else { busy };
    for world in beginnings(&sum.setting) {
        for (first, second) in
            CALLS.iter().flat_map(|first| CALLS.iter().map(move |second| (*first, *second)))
        {
            sum.add(&world, &[first, second], allowed, &mut |explorer| match to {
                To::Stopped => explorer.stop_everywhere(),
                to => drop(explorer.end_everywhere(to)),
            });
        }
    }
    sum.end();
}

on_each_store! {
    a_caller_that_goes_on_local_files, a_caller_that_goes_on_shared_files, a_caller_that_goes_on_kubernetes: orphans;
    two_addresses_on_local_files, two_addresses_on_shared_files, two_addresses_on_kubernetes: two_addresses;
    after_a_boot_on_local_files, after_a_boot_on_shared_files, after_a_boot_on_kubernetes: after_a_boot;
    a_killed_call_on_local_files, a_killed_call_on_shared_files, a_killed_call_on_kubernetes: |kind| stops(kind, To::Killed);
    a_frozen_call_on_local_files, a_frozen_call_on_shared_files, a_frozen_call_on_kubernetes: |kind| stops(kind, To::Frozen);
    a_stopped_call_on_local_files, a_stopped_call_on_shared_files, a_stopped_call_on_kubernetes: |kind| stops(kind, To::Stopped);
}

#[test]
fn a_flush_that_fails_on_local_files() {
    failing_flushes(Kind::Local);
}

#[test]
fn a_flush_that_fails_on_shared_files() {
    failing_flushes(Kind::Shared);
}

#[test]
fn an_answer_that_is_lost_on_kubernetes() {
    lost_answers(Kind::Kubernetes);
}

#[test]
fn a_request_that_comes_late_on_kubernetes() {
    late_requests(Kind::Kubernetes);
}

#[test]
fn a_request_of_a_killed_call_that_comes_late_on_kubernetes() {
    killed_with_a_request_on_its_way(Kind::Kubernetes);
}

#[test]
fn two_nodes_on_shared_files() {
    two_nodes(Kind::Shared);
}

#[test]
fn two_nodes_on_kubernetes() {
    two_nodes(Kind::Kubernetes);
}
