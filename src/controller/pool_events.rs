//! Tells by events what IPPools of hereabouts tell by conditions: the status of a pool of Cluster
//! API has none.

use super::census::{Census, FamilyCensus};
use super::conditions::Told;
use super::events::Regarding;
use super::extent::Totals;
use super::overlaps;
use super::own_status;
use super::pool::PoolId;
use super::state::{PoolState, Said, State};
use super::work::Controller;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a pool is looked at.
const PAUSE: Duration = Duration::from_secs(30);

impl Controller {
    /// Sends an event if a pool of Cluster API has become full or overlaps with another one, and if
    /// that is over.
    pub(super) async fn tell_of_pool(self: &Rc<Self>, id: &Rc<PoolId>) {
        let known = self.state.borrow().pool(id).map(|pool| {
            (pool.said, Rc::clone(&pool.version.uid), pool.is_paused || pool.is_ending)
        });
        let Some((said, uid, false)) = known else { return };
        let left = said.at.and_then(|at| PAUSE.checked_sub(at.elapsed()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            self.plan(id, left);
            return;
        }
        let told =
            self.state.borrow().pool(id).and_then(|pool| told(&self.state.borrow(), id, pool));
        let Some((full, overlapping)) = told else { return };
        if let Some(pool) = self.state.borrow_mut().pool_mut(id) {
            let at = Some(Instant::now());
            let overlapping = overlapping.as_ref().map(|told| told.reason).or(said.overlapping);
            pool.said = Said { full: Some(full.reason), overlapping, at };
        }
        let regarding = Regarding::pool(id, &uid);
        let overlapping = overlapping.iter().map(|told| (told, said.overlapping));
        for (told, before) in std::iter::once((&full, said.full)).chain(overlapping) {
            // What is usual is nothing new when it is first seen.
            if before.map_or(!told.is_usual(), |before| before != told.reason) {
                self.tell(&regarding, told).await;
            }
        }
    }
}

/// Returns what is true of a pool: how full it is, and whether it overlaps, if that is known. `None`
/// if it has a mistake.
fn told(state: &State, id: &Rc<PoolId>, pool: &PoolState) -> Option<(Told, Option<Told>)> {
    let family = pool.given().next().map(|range| range.family());
    let numbers = state.numbers(id, pool);
    let totals = Totals { total: numbers.total, dynamic: numbers.total, reserved: 0 };
    let count = |family| FamilyCensus { family, totals, dynamic: numbers.held, reserved: 0 };
    let census = Census { families: vec![count(family?)], ..Census::default() };
    Some((own_status::full(&census), overlaps::told(state, id, pool)))
}
