//! Long walks over what is held, in slices: between two slices, other tasks get the thread.

use crate::addr::Range;
use crate::controller::pool::PoolId;
use crate::controller::state::{Holding, Slice, State};
use std::cell::RefCell;
use std::net::IpAddr;
use std::ops::Bound;
use std::rc::Rc;

/// How many addresses a slice has. They take about a millisecond.
const SLICE: usize = 2000;
/// How many slices of pools are looked at before other tasks get the thread.
const OF_POOLS: usize = 20;
/// How many pools are looked at before other tasks get the thread.
const POOLS: usize = 500;

/// Calls `visit` for each address that is held in a range, in order. What changes meanwhile may be
/// seen or not.
pub(super) async fn walk(
    state: &RefCell<State>,
    scope: &str,
    range: &Range,
    mut visit: impl FnMut(IpAddr, &Holding),
) {
    let mut from = Bound::Included(range.first_address());
    loop {
        let mut reached = None;
        {
            let state = state.borrow();
            let held = state.held.from(scope, from, range.last_address());
            for (number, (address, holding)) in held.take(SLICE).enumerate() {
                visit(*address, holding);
                reached = (number + 1 == SLICE).then_some(*address);
            }
        }
        tokio::task::yield_now().await;
        match reached {
            Some(address) => from = Bound::Excluded(address),
            None => return,
        }
    }
}

/// Calls `visit` for each pool, in slices.
pub(super) async fn each_pool(state: &RefCell<State>, mut visit: impl FnMut(&State, &Rc<PoolId>)) {
    let ids: Vec<Rc<PoolId>> = state.borrow().pools().map(|(id, _)| Rc::clone(id)).collect();
    for some in ids.chunks(POOLS) {
        {
            let state = state.borrow();
            some.iter().for_each(|id| visit(&state, id));
        }
        tokio::task::yield_now().await;
    }
}

/// Calls `visit` for each slice of a pool that is not free, some at a time.
pub(super) async fn each_slice(state: &RefCell<State>, mut visit: impl FnMut(&Slice)) {
    let names = state.borrow().slice_names();
    for some in names.chunks(OF_POOLS) {
        {
            let state = state.borrow();
            some.iter().filter_map(|name| state.slice(name)).for_each(&mut visit);
        }
        tokio::task::yield_now().await;
    }
}
