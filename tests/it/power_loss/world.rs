//! A disk together with what callers were told, and what must be true of it after a power loss.

use crate::conformance::{attachment, host};
use crate::support::cached::{CachedDisk, Image, Killed};
use crate::support::calls::{Call, is_alive, run};
use hereabouts::ipam::Allocation;
use hereabouts::retry::Deadline;
use hereabouts::store::disk::Disk;
use hereabouts::store::file::FileStore;
use hereabouts::store::{Filter, Store};
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

/// A disk, and what callers were told.
#[derive(Clone)]
pub(super) struct World {
    pub(super) image: Image,
    /// Results that were printed and not freed since.
    pub(super) printed: BTreeMap<&'static str, Vec<String>>,
    /// Addresses whose DEL has succeeded, and their former holders.
    pub(super) freed: Vec<(String, String)>,
    pub(super) boot: &'static str,
    pub(super) clock: u64,
    /// Whether it is on a filesystem that machines share.
    pub(super) shared: bool,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            image: Image::new(),
            printed: BTreeMap::new(),
            freed: Vec::new(),
            boot: "today",
            clock: 1_000,
            shared: false,
        }
    }

    pub(super) fn disk(&self) -> CachedDisk {
        let mut disk = CachedDisk::new(self.image.clone(), self.clock);
        disk.shared = self.shared;
        disk
    }

    /// Returns the store as it is found later.
    fn later(&self) -> FileStore<CachedDisk> {
        FileStore::on(Self { clock: self.clock + 1000, ..self.clone() }.disk(), host("n1"))
    }

    /// Notes what callers may rely on after a call has begun.
    pub(super) fn begin(&mut self, call: Call) {
        if let Call::Del(container) | Call::Release(container) | Call::ReleaseFirst(container) =
            call
        {
            self.printed.remove(container);
        }
    }

    /// Notes what they may rely on after it has answered.
    pub(super) fn end(&mut self, call: Call, image: Image, printed: &[Allocation]) {
        if let Call::Add(container, _) = call {
            // Freed once, given again.
            self.freed.retain(|(_, freed)| {
                printed.iter().all(|allocation| allocation.address.to_string() != *freed)
            });
            // A re-homed address is no longer the dead one's.
            for addresses in self.printed.values_mut() {
                addresses.retain(|address| {
                    printed.iter().all(|allocation| allocation.address.to_string() != *address)
                });
            }
            self.printed.insert(
                container,
                printed.iter().map(|allocation| allocation.address.to_string()).collect(),
            );
        }
        self.image = image;
        // Longer than "exhausted" is believed.
        self.clock += 100;
    }

    /// Runs a call to its end.
    pub(super) fn then(mut self, call: Call) -> Self {
        self.begin(call);
        let freed = self.about_to_free(call);
        let store = FileStore::on(self.disk(), host("n1"));
        let printed = run(&store, call, self.boot).unwrap();
        self.end(call, store.disk().image(), &printed);
        self.freed.extend(freed);
        self
    }

    /// Returns what a call is about to free.
    pub(super) fn about_to_free(&self, call: Call) -> Vec<(String, String)> {
        let store = FileStore::on(self.disk(), host("n1"));
        let held = store
            .list(&Filter::default())
            .map(|list| list.filter_map(Result::ok).collect::<Vec<_>>())
            .unwrap_or_default();
        let is_meant = |allocation: &&Allocation| match call {
            Call::Add(..) | Call::Tidy => false,
            Call::Del(container) | Call::Release(container) => {
                allocation.record.attachment == attachment("n1", container)
            }
            Call::ReleaseFirst(container) => {
                allocation.record.attachment == attachment("n1", container)
                    && allocation.record.part.index == 0
            }
            Call::Gc => !is_alive(&allocation.record, self.boot),
        };
        let named = |allocation: &Allocation| {
            (
                allocation.record.attachment.container.as_str().to_owned(),
                allocation.address.to_string(),
            )
        };
        held.iter().filter(is_meant).map(named).collect()
    }

    /// Runs a call that is killed before each of its steps in turn.
    pub(super) fn killed(&self, call: Call) -> Vec<Self> {
        let mut worlds = Vec::new();
        for step in 0.. {
            let mut world = self.clone();
            world.begin(call);
            let mut disk = world.disk();
            disk.kill_at = Some(step);
            let store = FileStore::on(disk, host("n1"));
            let ended = catch_unwind(AssertUnwindSafe(|| run(&store, call, world.boot)));
            match ended {
                Err(payload) if payload.is::<Killed>() => {
                    world.image = store.disk().image();
                    world.clock += 100;
                    worlds.push(world);
                }
                Err(payload) => std::panic::resume_unwind(payload),
                Ok(_) => break,
            }
        }
        worlds
    }
}

/// Returns what is wrong after a power loss, or `None`.
pub(super) fn fault(world: &World) -> Option<String> {
    let store = world.later();
    let listing = match store.list(&Filter::default()) {
        Ok(listing) => listing.collect::<Result<Vec<_>, _>>(),
        Err(_) if world.printed.is_empty() => Ok(Vec::new()),
        Err(error) => return Some(format!("the store cannot be read: {error}")),
    };
    let standing = match listing {
        Ok(standing) => standing,
        Err(error) => return Some(format!("a record cannot be read: {error}")),
    };
    let mut seen = HashSet::new();
    if let Some(twice) = standing.iter().find(|allocation| !seen.insert(allocation.address)) {
        return Some(format!("held twice: {}", twice.address));
    }
    let has = |container: &str, address: &str| {
        standing.iter().any(|held| {
            held.address.to_string() == address
                && held.record.attachment == attachment("n1", container)
        })
    };
    for (container, addresses) in &world.printed {
        if let Some(address) = addresses.iter().find(|address| !has(container, address)) {
            return Some(format!("a printed result is missing: {container} {address}"));
        }
    }
    if let Some((container, address)) =
        world.freed.iter().find(|(container, address)| has(container, address))
    {
        return Some(format!("freed and come back: {container} {address}"));
    }
    let session = match store
        .open(hereabouts::store::Access::Release, Deadline::after(Duration::from_secs(20)))
    {
        Ok(session) => session,
        Err(error) => return Some(format!("the store cannot be opened: {error}")),
    };
    for allocation in &standing {
        let found = session
            .holdings(&allocation.record.attachment)
            .map(|holdings| holdings.held.contains(allocation));
        if !matches!(found, Ok(true)) {
            return Some(format!("not found by its holder: {}", allocation.address));
        }
    }
    let machine = store.disk().read(Path::new("nodes/n1/@machine-id"));
    if !world.printed.is_empty()
        && machine.map(|content| content.bytes).ok() != Some(b"machine of n1\n".to_vec())
    {
        return Some("whose node this is was forgotten".to_owned());
    }
    None
}

/// Makes later calls: a new container gets a free address, all others get the same answer again,
/// and when everything is freed, no record is left.
pub(super) fn fault_later(world: &World, calls: &[Call]) -> Option<String> {
    let store = world.later();
    let mut holders: Vec<Call> = world
        .printed
        .iter()
        .map(|(container, held)| Call::Add(container, u8::try_from(held.len()).unwrap()))
        .collect();
    holders.extend(calls.iter().filter(
        |call| matches!(call, Call::Add(container, _) if !world.printed.contains_key(container)),
    ));
    holders.insert(0, Call::Add("new", 1));
    let mut given: BTreeMap<String, &str> = BTreeMap::new();
    let mut asked = HashSet::new();
    for call in &holders {
        let Some(container) = call.container().filter(|container| asked.insert(*container)) else {
            continue;
        };
        let held = match run(&store, *call, world.boot) {
            Ok(held) => {
                held.iter().map(|allocation| allocation.address.to_string()).collect::<Vec<_>>()
            }
            Err(error) => return Some(format!("{call:?} fails afterwards: {error}")),
        };
        if world.printed.get(container).is_some_and(|printed| *printed != held) {
            return Some(format!("{container} gets another answer: {held:?}"));
        }
        for address in held {
            if let Some(other) = given.insert(address.clone(), container) {
                return Some(format!("given to {other} and {container}: {address}"));
            }
        }
    }
    let containers = holders.iter().chain(calls).filter_map(|call| call.container());
    for container in containers.chain(["self", "half", "dead-web"]) {
        if let Err(error) = run(&store, Call::Del(container), world.boot) {
            return Some(format!("DEL of {container} fails afterwards: {error}"));
        }
    }
    let left = store.list(&Filter::default()).map(Iterator::count);
    (!matches!(left, Ok(0))).then(|| format!("{left:?} records are left when all is freed"))
}

/// Returns a store with two bystanders, one of them with two addresses; a dead sandbox of the pod
/// `web`; two that an ADD of today would re-home to themselves, one of them with its first address
/// released by hand; and a freed address.
pub(super) fn prepared() -> World {
    prepared_on(World::new())
}

/// Returns the same on a filesystem that machines share.
pub(super) fn prepared_shared() -> World {
    prepared_on(World { shared: true, ..World::new() })
}

fn prepared_on(empty: World) -> World {
    let mut world = World { boot: "yesterday", ..empty };
    for call in [Call::Add("self", 1), Call::Add("half", 2), Call::ReleaseFirst("half")] {
        world = world.then(call);
    }
    world.boot = "today";
    for call in [
        Call::Add("by", 1),
        Call::Add("two", 2),
        Call::Add("dead-web", 1),
        Call::Add("gone", 1),
        Call::Del("gone"),
    ] {
        world = world.then(call);
    }
    // The dead sandbox's result is no longer promised, and neither are those of the earlier boot.
    for container in ["dead-web", "self", "half"] {
        world.printed.remove(container);
    }
    // Long ago: everything is on the medium.
    world.image = world.image.after_power_loss(1, 0).remove(0);
    world
}
