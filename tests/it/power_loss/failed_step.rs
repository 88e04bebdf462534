//! A step fails before the power does: what an undo leaves must be as good as what any other call
//! leaves. A failed flush has flushed nothing.

use super::calls;
use super::world::{World, fault, fault_later, prepared};
use crate::conformance::host;
use crate::support::cached::CachedDisk;
use crate::support::calls::{Call, run};
use crate::support::disk::{Faults, FaultyDisk};
use hereabouts::store::file::FileStore;
use nix::errno::Errno;

/// Runs a call of which one step fails with EIO. Checks everything that a power loss may leave
/// after each step. Returns the number of states, or the first fault; `None` beyond the last step.
fn power_fails_after_step(
    world: &World,
    call: Call,
    step: usize,
    most: usize,
) -> Option<Result<usize, String>> {
    let mut during = world.clone();
    during.begin(call);
    let freed = world.about_to_free(call);
    let faults = Faults { fails_at: Some((step, Errno::EIO as i32)), ..Faults::default() };
    let store = FileStore::on(FaultyDisk::<CachedDisk>::over(during.disk(), faults), host("n1"));
    let ended = run(&store, call, world.boot);
    if store.disk().steps() <= step {
        return None;
    }
    let image = store.disk().inner.image();
    let mut after = during.clone();
    if let Ok(printed) = &ended {
        after.end(call, image.clone(), printed);
        after.freed.extend(freed);
    }
    let mut checked = 0;
    let history = store.disk().inner.history();
    let last = history.len();
    let steps = history
        .into_iter()
        .enumerate()
        .map(|(at, image)| (at, image, &during))
        .chain([(last, image, &after)]);
    for (at, image, told) in steps {
        for found in image.after_power_loss(most, (step * 1000 + at) as u64) {
            checked += 1;
            let left = World { image: found, ..told.clone() };
            let wrong = fault(&left)
                .or_else(|| if checked % 7 == 0 { fault_later(&left, &[call]) } else { None });
            if let Some(wrong) = wrong {
                return Some(Err(format!(
                    "{call:?}, step {step} failed ({ended:?}), power lost after step {at}: {wrong}"
                )));
            }
        }
    }
    Some(Ok(checked))
}

#[test]
fn power_lost_after_any_step_of_a_call_of_which_any_step_failed() {
    let world = prepared();
    let mut checked = 0;
    for call in calls() {
        for step in 0.. {
            let Some(ended) = power_fails_after_step(&world, call, step, 60) else { break };
            checked += ended.unwrap();
        }
    }
    println!("{checked} states");
}
