//! Power loss, on a disk in memory with a cache: after every step of a call,
//! also of one that follows a call killed at any of its steps, all that a legal
//! filesystem could leave (where that is much, a seeded sample) is opened again
//! and checked: no address twice, no printed result missing, every record found
//! by its holder, nothing freed come back; and life goes on from there.
//!
//! The model finds the bug when any one kind of sync is taken out.

use crate::conformance::{attachment, host};
use crate::support::cached::{CachedDisk, Draw, Image, Killed, Skip};
use crate::support::calls::{Call, is_alive, run};
use hereabouts::ipam::Allocation;
use hereabouts::store::file::FileStore;
use hereabouts::store::file::disk::Disk;
use hereabouts::store::retry::Deadline;
use hereabouts::store::{Filter, Store};
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

/// A disk, and what callers were told.
#[derive(Clone)]
struct World {
    image: Image,
    /// Results that were printed and not given back.
    printed: BTreeMap<&'static str, Vec<String>>,
    /// Addresses whose DEL has succeeded, and who had them.
    freed: Vec<(String, String)>,
    boot: &'static str,
    clock: u64,
}

impl World {
    fn new() -> Self {
        Self { image: Image::new(), printed: BTreeMap::new(), freed: Vec::new(), boot: "today", clock: 1_000 }
    }

    fn disk(&self) -> CachedDisk {
        CachedDisk::new(self.image.clone(), self.clock)
    }

    /// What callers may rely on once a call has begun.
    fn begin(&mut self, call: Call) {
        if let Call::Del(container) | Call::Release(container) = call {
            self.printed.remove(container);
        }
    }

    /// What they may rely on when it has answered.
    fn end(&mut self, call: Call, image: Image, printed: &[Allocation]) {
        if let Call::Add(container, _) = call {
            // Freed once, given again.
            self.freed.retain(|(_, freed)| printed.iter().all(|allocation| allocation.address.to_string() != *freed));
            // A re-homed address is no longer the dead one's.
            for addresses in self.printed.values_mut() {
                addresses.retain(|address| printed.iter().all(|allocation| allocation.address.to_string() != *address));
            }
            self.printed.insert(container, printed.iter().map(|allocation| allocation.address.to_string()).collect());
        }
        self.image = image;
        // Beyond what "exhausted" is believed.
        self.clock += 100;
    }

    /// Runs a call to its end.
    fn then(mut self, call: Call) -> Self {
        self.begin(call);
        let freed = self.about_to_free(call);
        let store = FileStore::on(self.disk(), host("n1"));
        let printed = run(&store, call, self.boot).unwrap();
        self.end(call, store.disk().image(), &printed);
        self.freed.extend(freed);
        self
    }

    /// What a call is about to free.
    fn about_to_free(&self, call: Call) -> Vec<(String, String)> {
        let store = FileStore::on(self.disk(), host("n1"));
        let held = store.list(&Filter::default()).map(|list| list.filter_map(Result::ok).collect::<Vec<_>>()).unwrap_or_default();
        let is_meant = |allocation: &&Allocation| match call {
            Call::Add(..) => false,
            Call::Del(container) | Call::Release(container) => allocation.held.attachment == attachment("n1", container),
            Call::Gc => !is_alive(&allocation.held, self.boot),
        };
        let named = |allocation: &Allocation| (allocation.held.attachment.container.as_str().to_owned(), allocation.address.to_string());
        held.iter().filter(is_meant).map(named).collect()
    }

    /// Runs a call that is killed before each of its steps in turn.
    fn killed(&self, call: Call) -> Vec<Self> {
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

/// What is wrong with a world after a power loss; `None` when all is well.
fn fault(world: &World) -> Option<String> {
    let store = FileStore::on(CachedDisk::new(world.image.clone(), world.clock + 1000), host("n1"));
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
        standing.iter().any(|held| held.address.to_string() == address && held.held.attachment == attachment("n1", container))
    };
    for (container, addresses) in &world.printed {
        if let Some(address) = addresses.iter().find(|address| !has(container, address)) {
            return Some(format!("a printed result is missing: {container} {address}"));
        }
    }
    if let Some((container, address)) = world.freed.iter().find(|(container, address)| has(container, address)) {
        return Some(format!("freed and come back: {container} {address}"));
    }
    let session = match store.open(hereabouts::store::Access::Release, Deadline::after(Duration::from_secs(20))) {
        Ok(session) => session,
        Err(error) => return Some(format!("the store cannot be opened: {error}")),
    };
    for allocation in &standing {
        let found = session.holdings(&allocation.held.attachment).map(|holdings| holdings.held.contains(allocation));
        if !matches!(found, Ok(true)) {
            return Some(format!("not found by its holder: {}", allocation.address));
        }
    }
    let machine = store.disk().read(Path::new("nodes/n1/@machine-id"));
    if !world.printed.is_empty() && machine.map(|content| content.bytes).ok() != Some(b"machine\n".to_vec()) {
        return Some("whose node this is was forgotten".to_owned());
    }
    None
}

/// Life after it: a new container gets what nobody holds, everybody else the
/// same answer again, and when all is freed nothing stands.
fn fault_later(world: &World, calls: &[Call]) -> Option<String> {
    let store = FileStore::on(CachedDisk::new(world.image.clone(), world.clock + 1000), host("n1"));
    let mut holders: Vec<Call> =
        world.printed.iter().map(|(container, held)| Call::Add(container, u8::try_from(held.len()).unwrap())).collect();
    holders.extend(calls.iter().filter(|call| matches!(call, Call::Add(container, _) if !world.printed.contains_key(container))));
    holders.insert(0, Call::Add("new", 1));
    let mut given: BTreeMap<String, &str> = BTreeMap::new();
    let mut asked = HashSet::new();
    for call in &holders {
        let Some(container) = call.container().filter(|container| asked.insert(*container)) else { continue };
        let held = match run(&store, *call, world.boot) {
            Ok(held) => held.iter().map(|allocation| allocation.address.to_string()).collect::<Vec<_>>(),
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
    for container in containers.chain(["self", "dead-web"]) {
        if let Err(error) = run(&store, Call::Del(container), world.boot) {
            return Some(format!("DEL of {container} fails afterwards: {error}"));
        }
    }
    let left = store.list(&Filter::default()).map(Iterator::count);
    (!matches!(left, Ok(0))).then(|| format!("{left:?} records are left when all is freed"))
}

/// How much is looked at.
struct Effort {
    most: usize,
    later_every: usize,
}

/// Runs a call with the power failing after each of its steps; returns how
/// many states were checked, or the first fault.
fn power_fails_during(world: &World, call: Call, so_far: &[Call], skip: Option<Skip>, effort: &Effort) -> Result<usize, String> {
    let mut during = world.clone();
    during.begin(call);
    let freed = world.about_to_free(call);
    let mut disk = during.disk();
    disk.skip = skip;
    let store = FileStore::on(disk, host("n1"));
    let printed = run(&store, call, world.boot)?;
    let history = store.disk().history();
    let mut after = during.clone();
    after.end(call, store.disk().image(), &printed);
    after.freed.extend(freed);
    let calls: Vec<Call> = so_far.iter().copied().chain([call]).collect();
    let mut checked = 0;
    let last = history.len();
    let ended = std::iter::once(&after).map(|world| (last, world.image.clone(), world));
    for (step, image, told) in history.into_iter().enumerate().map(|(step, image)| (step, image, &during)).chain(ended) {
        for found in image.after_power_loss(effort.most, step as u64) {
            checked += 1;
            let world = World { image: found, ..told.clone() };
            let wrong = fault(&world).or_else(|| if checked % effort.later_every == 0 { fault_later(&world, &calls) } else { None });
            if let Some(wrong) = wrong {
                return Err(format!("{calls:?}, power lost after step {step}: {wrong}"));
            }
        }
    }
    Ok(checked)
}

/// Two bystanders, one of them with two addresses, a dead sandbox of pod `web`,
/// one that an ADD of today would re-home to itself, and an address freed.
fn prepared() -> World {
    let mut world = World { boot: "yesterday", ..World::new() };
    world = world.then(Call::Add("self", 1));
    world.boot = "today";
    for call in [Call::Add("by", 1), Call::Add("two", 2), Call::Add("dead-web", 1), Call::Add("gone", 1), Call::Del("gone")] {
        world = world.then(call);
    }
    // The dead one's result is nobody's any more, nor is yesterday's.
    world.printed.remove("dead-web");
    world.printed.remove("self");
    // Long ago: all of it is on the medium.
    world.image = world.image.after_power_loss(1, 0).remove(0);
    world
}

const CALLS: &[Call] = &[
    Call::Add("c1", 1),
    Call::Add("c2", 2),
    Call::Add("new-web", 1),
    Call::Add("self", 1),
    Call::Add("by", 1),
    Call::Del("by"),
    Call::Del("two"),
    Call::Del("c1"),
    Call::Del("new-web"),
    Call::Gc,
    Call::Release("two"),
];

#[test]
fn power_lost_after_any_step_of_the_first_call_of_a_store() {
    let effort = Effort { most: 400, later_every: 1 };
    for call in [Call::Add("c1", 1), Call::Add("c2", 2)] {
        let checked = power_fails_during(&World::new(), call, &[], None, &effort).unwrap();
        println!("{call:?}: {checked} states");
    }
}

#[test]
fn power_lost_after_any_step_of_any_call() {
    let effort = Effort { most: 2000, later_every: 1 };
    for call in CALLS {
        let checked = power_fails_during(&prepared(), *call, &[], None, &effort).unwrap();
        println!("{call:?}: {checked} states");
    }
}

/// Runs every pair of calls, the first killed at each of its steps.
fn pairs(worlds: &[World], effort: &Effort) -> Result<usize, String> {
    let mut checked = 0;
    for world in worlds {
        for first in CALLS {
            for killed in world.killed(*first) {
                for second in CALLS {
                    checked += power_fails_during(&killed, *second, &[*first], None, effort)?;
                }
            }
        }
    }
    Ok(checked)
}

#[test]
fn power_lost_after_any_step_of_a_call_that_follows_one_killed_at_any_step() {
    let checked = pairs(&[World::new(), prepared()], &Effort { most: 12, later_every: 6 }).unwrap();
    println!("{checked} states");
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_power_lost_after_any_step_of_a_call_that_follows_one_killed_at_any_step() {
    let checked = pairs(&[World::new(), prepared()], &Effort { most: 300, later_every: 5 }).unwrap();
    println!("{checked} states");
}

fn is_shard(path: &Path) -> bool {
    path.starts_with("scopes") && path.components().count() == 3
}
fn is_entry(path: &Path) -> bool {
    path.starts_with("nodes/n1/net1") && path.components().count() == 4
}

/// Each kind of sync, and the calls of which one is unsafe without it.
const SYNCS: &[(&str, Skip, &[Call])] = &[
    ("the record's bytes", is_entry, &[Call::Add("c1", 1), Call::Add("new-web", 1)]),
    ("the directory of the index entry", |path| path == Path::new("nodes/n1/net1"), &[Call::Add("c1", 1), Call::Add("new-web", 1)]),
    ("the directory of the name", is_shard, &[Call::Add("c1", 1), Call::Add("new-web", 1), Call::Del("by"), Call::Del("two")]),
    ("bytes of a small file", |path| path.starts_with("nodes/n1/@tmp") && path.components().count() == 4, &[]),
    ("the data directory", |path| path == Path::new(""), &[]),
    ("the directory of scopes", |path| path == Path::new("scopes"), &[]),
    ("the directory of shards", |path| path == Path::new("scopes/@"), &[]),
    ("the directory of nodes", |path| path == Path::new("nodes"), &[]),
    ("the directory of one node", |path| path == Path::new("nodes/n1"), &[]),
];

#[test]
fn the_model_finds_the_bug_when_any_one_sync_is_taken_out() {
    let effort = Effort { most: 2000, later_every: 1 };
    for (what, skip, calls) in SYNCS {
        if calls.is_empty() {
            let found = power_fails_during(&World::new(), Call::Add("c1", 1), &[], Some(*skip), &effort);
            println!("without {what}: {found:?}");
            assert!(found.is_err(), "{what}");
        }
        for call in *calls {
            let found = power_fails_during(&prepared(), *call, &[], Some(*skip), &effort);
            println!("without {what}: {found:?}");
            assert!(found.is_err(), "{what} {call:?}");
        }
    }
}

/// A repeated ADD syncs what a killed one may have left visible and not durable.
#[test]
fn the_model_finds_the_bug_when_a_repeated_add_does_not_sync() {
    let effort = Effort { most: 2000, later_every: 1 };
    let call = Call::Add("c1", 1);
    let found = prepared().killed(call).iter().find_map(|killed| power_fails_during(killed, call, &[call], Some(is_shard), &effort).err());
    println!("{found:?}");
    assert!(found.is_some());
}

fn mend(store: &FileStore<CachedDisk>) {
    let deadline = Deadline::after(Duration::from_secs(20));
    for finding in store.verify(deadline).unwrap().findings {
        store.repair(&finding, deadline).unwrap();
    }
}

type Damage = fn(&CachedDisk);

/// What `repair` is for, done to a disk.
const DAMAGES: &[(&str, Damage)] = &[
    ("a lost entry", |disk| disk.unlink(Path::new("nodes/n1/net1/two@eth0.0")).unwrap()),
    ("a lost name", |disk| disk.unlink(Path::new("scopes/@/10.0.0.0_24/10.0.0.4")).unwrap()),
    ("two copies", |disk| {
        for name in ["by@eth0.0", "two@eth0.1"] {
            let path = Path::new("nodes/n1/net1").join(name);
            let bytes = disk.read(&path).unwrap().bytes;
            disk.unlink(&path).unwrap();
            disk.create(&path, &bytes).unwrap();
        }
    }),
    ("a half-written entry", |disk| {
        disk.create(Path::new("nodes/n1/net1/c9@eth0.0"), b"{").unwrap();
    }),
    ("a lying hint", |disk| {
        disk.create(Path::new("scopes/@/full"), b"4 a0000 a0000 ff 0 0 0\n").unwrap();
    }),
];

#[test]
fn repair_may_lose_power_or_be_killed_at_any_step() {
    let mut checked = 0;
    for (what, damage) in DAMAGES {
        let mut world = prepared();
        let disk = world.disk();
        damage(&disk);
        world.image = disk.image().after_power_loss(1, 0).remove(0);
        let store = FileStore::on(world.disk(), host("n1"));
        mend(&store);
        let history = store.disk().history();
        assert!(!history.is_empty(), "{what} was not repaired");
        // A kill leaves what the disk shows, a power loss what it may show.
        let states = history
            .iter()
            .enumerate()
            .flat_map(|(step, image)| image.after_power_loss(400, step as u64).into_iter().chain([image.clone()]));
        for image in states {
            checked += 1;
            let store = FileStore::on(CachedDisk::new(image, world.clock + 1000), host("n1"));
            mend(&store);
            let mended = World { image: store.disk().image(), ..world.clone() };
            assert_eq!(fault(&mended), None, "{what}");
            assert_eq!(store.verify(Deadline::after(Duration::from_secs(20))).unwrap().findings, [], "{what}");
        }
    }
    println!("{checked} states");
}

/// A small deterministic check of the disk itself.
#[test]
fn the_cached_disk_forgets_and_keeps_what_it_may() {
    let disk = CachedDisk::new(Image::new(), 0);
    disk.create(Path::new("a"), b"four").unwrap();
    // The name or not; of the bytes all, none, half, zeros.
    assert_eq!(disk.image().after_power_loss(100, 0).len(), 8);
    disk.sync(Path::new("a")).unwrap();
    disk.sync(Path::new("")).unwrap();
    disk.link(Path::new("a"), Path::new("b")).unwrap();
    disk.unlink(Path::new("a")).unwrap();
    let states = disk.image().after_power_loss(100, 0);
    let names = |image: &Image| CachedDisk::new(image.clone(), 0).names(Path::new("")).unwrap().len();
    let mut counts: Vec<_> = states.iter().map(names).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 1, 1, 2]);
    assert!(Draw(1).below(3) < 3);
}
