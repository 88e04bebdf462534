//! Deletes the IPSliceGeometry of a pool that is gone, when nobody can need it any more.
//!
//! Nodes cut a pool by its IPSliceGeometry. A pool that is created again in another way is refused
//! while it is there, so it must stay as long as a node owns a slice, or may be about to claim one: a
//! node uses its copy of a pool for a minute, and an ADD takes some time after that.

use super::pool::{PoolId, PoolKind};
use super::requests::{Answered, Failure};
use super::shapes::{GeometryObject, SliceObject, resource};
use super::state::{State, Version};
use super::work::Controller;
use crate::ipam::names_network;
use crate::store::kube::objects::{ip_allocation as allocation, ip_slice, slice_geometry};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(60);
/// The time between the first look that finds no pool and no slice, and the deletion: longer than a
/// node uses its copy of a pool, and an ADD takes after that.
const QUIET: Duration = Duration::from_secs(120);

/// What this process knows of geometries that nobody seems to need.
#[derive(Debug, Default)]
pub struct Geometries {
    /// By the name of the object: which state of it, and since when nobody seems to need it.
    unused: RefCell<BTreeMap<String, (Version, Instant)>>,
    /// The last failure that was said.
    said: RefCell<String>,
}

/// A geometry, and the pool that it is of.
struct Geometry {
    name: String,
    version: Version,
    pool: String,
}

/// Looks for geometries of pools that are gone, without end, while this replica leads.
pub async fn run(controller: Rc<Controller>) {
    let geometries = Geometries::default();
    loop {
        sleep(LOOK).await;
        let is_read = {
            let state = controller.state.borrow();
            state.is_synced() && state.has_read_slices()
        };
        if controller.leads() && is_read {
            geometries.look(&controller, Instant::now()).await;
        } else {
            // Another replica leads. What was seen does not count any more.
            geometries.unused.borrow_mut().clear();
        }
    }
}

impl Geometries {
    /// Looks once at all geometries, and deletes those that nobody can need any more.
    pub async fn look(&self, controller: &Controller, now: Instant) {
        let text = match self.try_to_look(controller, now).await {
            Ok(()) => String::new(),
            Err(failure) => format!("cannot look for geometries of pools that are gone: {failure}"),
        };
        // Once, and not at each look.
        if !text.is_empty() && *self.said.borrow() != text {
            tracing::warn!("{text}");
        }
        self.said.replace(text);
    }

    async fn try_to_look(&self, controller: &Controller, now: Instant) -> Answered<()> {
        let begun = Instant::now();
        let mut found = read(controller).await?;
        found.retain(|geometry| !is_used(&controller.state.borrow(), &geometry.pool));
        let first = now + begun.elapsed();
        let before = self.unused.take();
        let since = |geometry: &Geometry| {
            let known = before.get(&geometry.name);
            known.filter(|(version, _)| *version == geometry.version).map_or(first, |known| known.1)
        };
        let unused = found
            .iter()
            .map(|geometry| (geometry.name.clone(), (geometry.version.clone(), since(geometry))));
        self.unused.replace(unused.collect());
        found.retain(|geometry| QUIET <= now.saturating_duration_since(since(geometry)));
        let mut gone = Vec::new();
        for geometry in found {
            // The watch may be behind.
            let pool = controller.requests.own_pools();
            if names_network(&geometry.pool)
                || controller.requests.get(&pool, &geometry.pool).await?.is_none()
            {
                gone.push(geometry);
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let slices = resource(allocation::GROUP, allocation::VERSION, ip_slice::KIND);
        let slices = controller.requests.list::<SliceObject>(&slices).await?;
        let used: HashSet<&str> = slices.iter().map(|slice| &*slice.spec.pool).collect();
        for geometry in gone.iter().filter(|geometry| !used.contains(&*geometry.pool)) {
            let Geometry { name, version, pool } = geometry;
            let deleted = controller.requests.delete_exactly(
                slice_geometry::KIND,
                slice_geometry::PLURAL,
                name,
                version,
            );
            match deleted.await {
                Ok(()) => {
                    tracing::info!("deleted IPSliceGeometry {name}: nobody uses {pool} any more")
                }
                // The next look sees what it is now.
                Err(Failure::Gone | Failure::Changed) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

/// Returns whether a pool or a slice of it is known.
fn is_used(state: &State, pool: &str) -> bool {
    let id = PoolId { kind: PoolKind::Own, namespace: String::new(), name: pool.to_owned() };
    state.pool(&id).is_some() || state.slices_of(pool).next().is_some()
}

/// Reads all geometries. A cluster whose API server does not know the kind has none.
async fn read(controller: &Controller) -> Answered<Vec<Geometry>> {
    let kind = resource(allocation::GROUP, allocation::VERSION, slice_geometry::KIND);
    let api = controller.requests.all::<GeometryObject>(&kind);
    let (mut all, mut from) = (Vec::new(), None::<String>);
    loop {
        let page = controller.requests.page(&api, from.as_deref()).await?;
        all.extend(page.items.into_iter().map(|object| Geometry {
            version: Version::of(&object.metadata),
            name: object.metadata.name.unwrap_or_default(),
            pool: object.spec.pool,
        }));
        from = page.metadata.continue_.filter(|token| !token.is_empty());
        if from.is_none() {
            return Ok(all);
        }
    }
}
