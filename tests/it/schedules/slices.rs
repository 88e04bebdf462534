//! The interleavings of the store with slices: claims of slices, their use, and their return, beside
//! each other and beside every other call.

use super::calls::{BadRequest, Call, Kind, Setting, What};
use super::promise::{alone, then};
use super::scheduler::To;
use super::world::{Holder, World};
use super::{ADD, DEL, OTHERS, Sum, TRIPLES, beginnings, never, prepared};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The look of the DaemonSet, a quarter of an hour later: it gives back the last empty slice.
const SYNC: Call = Call { later: 900, ..Call::new(What::Sync) };

/// Checks that each address that a caller relies on is in a slice of its node, and of no other one.
///
/// # Errors
/// A text.
pub(super) fn each_is_in_a_slice_of_its_node(
    setting: &Setting,
    world: &World,
    promises: &BTreeMap<Holder, Vec<IpAddr>>,
) -> Result<(), String> {
    if setting.kind != Kind::Sliced || setting.is_restored {
        return Ok(());
    }
    for ((node, container), addresses) in promises {
        for address in addresses {
            let is_in = |block: &str| block.parse::<ipnet::IpNet>().unwrap().contains(address);
            let owner = world.objects.slices().find(|(_, block)| is_in(block));
            if owner.is_none_or(|(owner, _)| owner != *node) {
                return Err(format!(
                    "{address} of {container} on {node} is in a slice of {owner:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Returns a world in which the only slice was given back, and one in which it is empty since long.
fn without_and_with_an_empty_slice(setting: &Setting) -> [World; 2] {
    let mut none = World::default();
    none.objects.put_pool("p", &super::calls::pool());
    let emptied = then(setting, none, &[ADD, DEL, Call::new(What::Sync)]);
    assert_eq!(emptied.objects.slices().count(), 1);
    let given_back = then(setting, emptied.clone(), &[SYNC]);
    assert_eq!(given_back.objects.slices().count(), 0);
    [given_back, emptied]
}

#[test]
fn the_last_empty_slice_goes_back_and_the_next_pod_gets_one() {
    let setting = Setting::new(Kind::Sliced);
    let [given_back, _] = without_and_with_an_empty_slice(&setting);
    let again = then(&setting, given_back, &[ADD]);
    assert_eq!(again.objects.slices().count(), 1);
}

#[test]
fn every_pair_of_claims_uses_and_returns_of_slices() {
    let calls = [ADD, ADD.lost(), OTHERS, OTHERS.on("n2"), DEL, SYNC];
    let mut sum = Sum::new(Kind::Sliced, "claims and returns");
    for world in without_and_with_an_empty_slice(&sum.setting) {
        for (first, second) in
            calls.iter().flat_map(|first| calls.iter().map(move |second| (*first, *second)))
        {
            sum.add(&world, &[first, second], never, &mut |explorer| explorer.explore(0, 2));
        }
    }
    sum.end();
}

#[test]
fn every_pair_of_calls_on_slices() {
    let mut sum = Sum::new(Kind::Sliced, "pairs");
    for world in beginnings(&sum.setting) {
        for (first, second) in super::CALLS
            .iter()
            .flat_map(|first| super::CALLS.iter().map(move |second| (*first, *second)))
        {
            sum.add(&world, &[first, second], never, &mut |explorer| explorer.explore(0, 1));
        }
    }
    sum.end();
}

#[test]
fn drawn_triples_on_slices() {
    let mut sum = Sum::new(Kind::Sliced, "drawn triples");
    let worlds =
        [prepared(&sum.setting)].into_iter().chain(without_and_with_an_empty_slice(&sum.setting));
    let more = [
        [ADD, SYNC, OTHERS],
        [ADD.lost(), SYNC, ADD],
        [OTHERS.on("n2"), SYNC, ADD],
        [SYNC, SYNC, ADD],
    ];
    for world in worlds.collect::<Vec<_>>() {
        for calls in TRIPLES.iter().chain(&more) {
            sum.add(&world, calls, never, &mut |explorer| {
                (1..=40).for_each(|seed| explorer.draw(seed))
            });
        }
    }
    sum.end();
}

/// More requests than the first ADD of a node makes.
const REQUESTS: usize = 8;

/// Calls beside one that claims a slice or gives it back.
const BESIDE: &[Call] = &[OTHERS, OTHERS.on("n2"), SYNC, DEL];

#[test]
fn a_killed_call_on_slices() {
    let mut sum = Sum::new(Kind::Sliced, "killed calls");
    for world in without_and_with_an_empty_slice(&sum.setting) {
        for first in [ADD, SYNC] {
            for second in BESIDE.iter().chain(&[ADD]) {
                sum.add(&world, &[first, *second], never, &mut |explorer| {
                    drop(explorer.end_everywhere(To::Killed));
                });
            }
        }
    }
    sum.end();
}

#[test]
fn an_answer_that_is_lost_on_slices() {
    let mut sum = Sum::new(Kind::Sliced, "lost answers");
    for world in without_and_with_an_empty_slice(&sum.setting) {
        for call in [ADD, ADD.lost(), SYNC] {
            for which in 0..REQUESTS {
                let first = call.bad_request(BadRequest::Answered(which));
                for second in BESIDE {
                    sum.add(&world, &[first, *second], never, &mut |explorer| {
                        explorer.explore(0, 1);
                    });
                }
            }
        }
    }
    sum.end();
}

#[test]
fn a_request_that_comes_late_on_slices() {
    let mut sum = Sum::new(Kind::Sliced, "late requests");
    for world in without_and_with_an_empty_slice(&sum.setting) {
        for call in [ADD, SYNC] {
            for which in 0..REQUESTS {
                let late = call.bad_request(BadRequest::HeldUp(which));
                for second in [OTHERS, OTHERS.on("n2"), SYNC] {
                    let calls = [late, second, Call::new(What::Courier)];
                    sum.add(&world, &calls, never, &mut |explorer| explorer.explore(0, 1));
                }
            }
        }
    }
    sum.end();
}

/// A call is killed, its request arrives after the next boot, and the pods start again.
#[test]
fn a_request_of_a_killed_call_that_comes_after_the_boot_on_slices() {
    let mut sum = Sum::new(Kind::Sliced, "late requests of an earlier boot");
    for world in without_and_with_an_empty_slice(&sum.setting) {
        for which in 0..REQUESTS {
            let late = ADD.before_the_boot().bad_request(BadRequest::HeldUp(which));
            let mut left = Vec::new();
            sum.add(&world, &[late], never, &mut |explorer| {
                left = explorer.end_everywhere(To::Killed);
            });
            for mut world in left {
                world.events.clear();
                let calls = [Call::new(What::Courier), ADD, OTHERS.on("n2")];
                sum.add(&world, &calls, never, &mut |explorer| explorer.explore(0, 1));
            }
        }
    }
    sum.end();
}

/// The look of the DaemonSet, a moment later.
const LOOK: Call = Call::new(What::Sync);

/// Returns a cluster that was restored to a state in which the first node owned the only slice of the
/// pool, which it has given back since. A pod of the second node has an address of it. Returns it
/// also after the first node has seen that.
fn restored(setting: &Setting) -> [World; 2] {
    let mut none = World::default();
    let one_slice =
        json!({"ranges": [{"ipv4": "10.0.0.0/29"}], "slices": {"ipv4": {"perNodeMaskSize": 29}}});
    none.objects.put_pool("p", &one_slice);
    let before = [ADD, DEL, Call::new(What::Sync)].map(Call::before_the_boot);
    let emptied = then(setting, none, &before);
    let claimed = then(setting, emptied.clone(), &[SYNC.before_the_boot(), OTHERS.on("n2")]);
    assert_eq!(claimed.objects.slices().map(|(node, _)| node).collect::<Vec<_>>(), ["n2"]);
    let objects = claimed.objects.restored_to(&emptied.objects);
    let restored = World { objects, ..claimed };
    let (seen, refused) = alone(setting, restored.clone(), ADD);
    assert!(refused.is_err(), "the slice is not the first node's");
    [restored, seen]
}

#[test]
fn after_the_cluster_was_restored_on_slices() {
    let mut sum = Sum::new(Kind::Sliced, "after a restore");
    sum.setting.is_restored = true;
    let worlds = restored(&sum.setting);
    // The second node gets its slice again.
    let [_, seen] = &worlds;
    let regained = then(&sum.setting, seen.clone(), &[LOOK.on("n2"), LOOK.on("n2")]);
    assert_eq!(regained.objects.slices().map(|(node, _)| node).collect::<Vec<_>>(), ["n2"]);
    // No slice is free, or it is lost for now.
    let may_fail = |call: &Call, _: &(u64, String)| matches!(call.what, What::Add(..));
    let calls = [ADD, LOOK, OTHERS.on("n2"), ADD.on("n2"), LOOK.on("n2")];
    let [_, seen] = &worlds;
    // Ten minutes later, the first node removes what the second one takes over.
    for pair in [[SYNC, LOOK.on("n2")], [LOOK.on("n2"), SYNC]] {
        sum.add(seen, &pair, may_fail, &mut |explorer| explorer.explore(0, 2));
    }
    for world in worlds {
        for (first, second) in
            calls.iter().flat_map(|first| calls.iter().map(move |second| (*first, *second)))
        {
            sum.add(&world, &[first, second], may_fail, &mut |explorer| explorer.explore(0, 1));
        }
        for calls in [[ADD, LOOK.on("n2"), LOOK.on("n2")], [ADD, LOOK.on("n2"), ADD.on("n2")]] {
            sum.add(&world, &calls, may_fail, &mut |explorer| {
                (1..=40).for_each(|seed| explorer.draw(seed))
            });
        }
    }
    sum.end();
}

/// What pods held before the boot nobody relies on any more; each ADD comes once more.
#[test]
fn after_a_boot_on_slices() {
    let mut sum = Sum::new(Kind::Sliced, "after a boot");
    let [none, _] = without_and_with_an_empty_slice(&sum.setting);
    let mut world = then(&sum.setting, none, &[ADD.before_the_boot(), OTHERS.on("n2")]);
    world.events.clear();
    let calls = [ADD, ADD.lost(), OTHERS, OTHERS.on("n2"), DEL, SYNC, Call::new(What::Gc)];
    for (first, second) in
        calls.iter().flat_map(|first| calls.iter().map(move |second| (*first, *second)))
    {
        sum.add(&world, &[first, second], never, &mut |explorer| explorer.explore(0, 1));
    }
    sum.end();
}

/// A node seems to be off, and its slice goes to another one. It was only cut off: a quarter of an
/// hour later a pod starts there again.
#[test]
fn a_slice_of_a_node_that_was_cut_off() {
    const LATER: u64 = 900;
    let mut sum = Sum::new(Kind::Sliced, "a node that was cut off");
    let mut world = World::default();
    let pool = serde_json::json!({"ranges": [{"ipv4": "10.0.0.0/29"}], "slices": {"ipv4": {"perNodeMaskSize": 29}}});
    world.objects.put_pool("p", &pool);
    let later = |call: Call| Call { later: LATER, ..call };
    let release = Call::new(What::ReleaseSlices("n1")).on("n2");
    let owned = then(&sum.setting, world, &[ADD, DEL]);
    let released = then(&sum.setting, owned.clone(), &[release]);
    let calls = [
        later(release),
        later(Call::new(What::RemoveSlices("n1")).on("n2")),
        later(ADD),
        later(OTHERS.on("n2")),
        SYNC,
    ];
    // Each slice may be that of the other node.
    let may_fail = |_: &Call, (code, _): &(u64, String)| [11, 100].contains(code);
    // The node has just looked.
    let looked = then(&sum.setting, owned.clone(), &[later(ADD), later(DEL)]);
    sum.add(&looked, &calls[..4], may_fail, &mut |explorer| {
        (1..=200).for_each(|seed| explorer.draw(seed));
    });
    for world in [owned, released] {
        for (first, second) in
            calls.iter().flat_map(|first| calls.iter().map(move |second| (*first, *second)))
        {
            sum.add(&world, &[first, second], may_fail, &mut |explorer| explorer.explore(0, 1));
            let third = calls[1];
            sum.add(&world, &[third, first, second], may_fail, &mut |explorer| {
                (1..=20).for_each(|seed| explorer.draw(seed));
            });
        }
    }
    sum.end();
}
