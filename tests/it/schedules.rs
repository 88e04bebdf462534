//! Every interleaving of two calls: a scheduler runs them through the ports to the disk and the API
//! server, stops them at every step, and runs all schedules with few switches. After each schedule,
//! every caller that was told an address still has it.

/// Makes a test for each store, so that the stores run at the same time.
macro_rules! on_each_store {
    ($($(#[$attribute:meta])* $local:ident, $shared:ident, $kubernetes:ident: $call:expr;)+) => {$(
        $(#[$attribute])*
        #[test]
        fn $local() {
            $call(Kind::Local);
        }
        $(#[$attribute])*
        #[test]
        fn $shared() {
            $call(Kind::Shared);
        }
        $(#[$attribute])*
        #[test]
        fn $kubernetes() {
            $call(Kind::Kubernetes);
        }
    )+};
}

mod behaviors;
mod calls;
mod debts;
mod disk;
mod explore;
mod faults;
mod imports;
mod moves;
mod promise;
mod scheduler;
mod server;
mod slices;
mod world;

use calls::{Call, Kind, Setting, What};
use explore::{Allowed, Count, Explorer};
use promise::{Known, then};
use world::World;

/// The containers. Calls contain their names as constants.
const CONTAINERS: &[&str] = &[
    "by", "c1", "c2", "far", "dead-web", "new-web", "old-web", "one-db", "six-db", "two-db", "w1",
    "w2", "w3", "w-web", "w2-web",
];

fn known(container: &str) -> &'static str {
    CONTAINERS.iter().find(|known| **known == container).unwrap()
}

/// Returns a world with a bystander and a dead sandbox of the pod `web`.
fn prepared(setting: &Setting) -> World {
    let add = |container| Call::new(What::Add(container, 1));
    let mut world = World::default();
    if setting.kind == Kind::Sliced {
        world.objects.put_pool("p", &calls::pool());
    }
    then(setting, world, &[add("by"), add("dead-web"), add("far").on("n2")])
}

/// The calls of which every pair is interleaved.
const CALLS: &[Call] = &[
    Call::new(What::Add("c1", 1)),
    Call::new(What::Add("c1", 1)).lost(),
    Call::new(What::Add("c2", 1)),
    Call::new(What::Add("c2", 1)).lost(),
    Call::new(What::Add("new-web", 1)),
    Call::new(What::Add("new-web", 1)).lost(),
    Call::new(What::Del("c1")),
    Call::new(What::Del("dead-web")),
    Call::new(What::Gc),
    Call::new(What::Sweep),
    Call::new(What::Release("c1")),
    Call::new(What::ReleaseNode("n1")).on("n2"),
    Call::new(What::Repair),
];

/// Returns where the calls begin: with only the bystander and the dead sandbox, and with c1 as
/// well.
fn beginnings(setting: &Setting) -> [World; 2] {
    let empty = prepared(setting);
    let held = then(setting, empty.clone(), &[Call::new(What::Add("c1", 1))]);
    [empty, held]
}

/// Allows no call to fail.
fn never(_: &Call, _: &(u64, String)) -> bool {
    false
}

/// Explores calls from each beginning, and adds up the results.
struct Sum {
    setting: Setting,
    known: Known,
    name: &'static str,
    all: Count,
    faults: Vec<String>,
}

impl Sum {
    fn new(kind: Kind, name: &'static str) -> Self {
        Self {
            setting: Setting::new(kind),
            known: Known::default(),
            name,
            all: Count::default(),
            faults: Vec::new(),
        }
    }

    fn add(
        &mut self,
        world: &World,
        calls: &[Call],
        allowed: Allowed,
        explore: &mut dyn FnMut(&mut Explorer<'_>),
    ) {
        let mut explorer = Explorer::new(&self.setting, &mut self.known, world, calls, allowed);
        explore(&mut explorer);
        self.all.schedules += explorer.count.schedules;
        self.all.same += explorer.count.same;
        self.all.worlds += explorer.count.worlds;
        self.faults.extend(explorer.faults);
    }

    fn end(self) {
        println!(
            "{:?}, {}: {:?}, {} faults",
            self.setting.kind,
            self.name,
            self.all,
            self.faults.len()
        );
        for fault in self.faults.iter().take(20) {
            println!("{fault}\n");
        }
        assert!(self.faults.is_empty());
    }
}

/// Runs every schedule of each ordered pair of calls with this many switches.
fn pairs(kind: Kind, most: usize) {
    let mut sum = Sum::new(kind, "pairs");
    for world in beginnings(&sum.setting) {
        for (first, second) in
            CALLS.iter().flat_map(|first| CALLS.iter().map(move |second| (*first, *second)))
        {
            sum.add(&world, &[first, second], never, &mut |explorer| explorer.explore(0, most));
        }
    }
    sum.end();
}

/// Checks that a schedule that is left out ends like one that is run.
fn compare(kind: Kind) {
    let setting = Setting::new(kind);
    let mut known = Known::default();
    let [empty, held] = beginnings(&setting);
    let one = CALLS.iter().map(|other| (&empty, [ADD.lost(), *other], 1));
    let other = CALLS.iter().map(|other| (&held, [*other, DEL], 1));
    let two = [(&empty, [ADD, OTHERS], 2), (&held, [ADD.lost(), DEL], 2)];
    let mut counts = [0; 2];
    for (world, calls, most) in one.chain(other).chain(two) {
        let outcomes = [false, true].map(|whole| {
            let mut explorer =
                Explorer::new(&setting, &mut known, world, &calls, never).compared(whole);
            explorer.explore(0, most);
            assert!(explorer.faults.is_empty(), "{:?}", explorer.faults);
            counts[usize::from(whole)] += explorer.count.schedules;
            explorer.outcomes.unwrap_or_default()
        });
        let apart = outcomes[0].symmetric_difference(&outcomes[1]).next();
        let counts = outcomes.iter().map(std::collections::BTreeSet::len).collect::<Vec<_>>();
        assert!(
            apart.is_none(),
            "{calls:?}: {counts:?}: {}\nand\n{}",
            apart.unwrap(),
            outcomes[0].first().unwrap()
        );
    }
    println!("{kind:?}: of {} schedules {} are run", counts[1], counts[0]);
}

const ADD: Call = Call::new(What::Add("c1", 1));
const DEL: Call = Call::new(What::Del("c1"));
const OTHERS: Call = Call::new(What::Add("c2", 1));

/// Three calls at once.
const TRIPLES: &[[Call; 3]] = &[
    [ADD, DEL, ADD],
    [ADD.lost(), DEL, ADD],
    [ADD.lost(), ADD, OTHERS],
    [ADD.lost(), ADD.lost(), OTHERS],
    [ADD.orphan(0), ADD, OTHERS],
    [ADD.orphan(1), DEL, ADD],
    [ADD, DEL, OTHERS],
    [ADD.lost(), DEL, OTHERS],
    [ADD.lost(), ADD, Call::new(What::Sweep)],
    [ADD.lost(), ADD, Call::new(What::Release("c1"))],
    [Call::new(What::Add("new-web", 1)).lost(), Call::new(What::Del("dead-web")), OTHERS],
    [
        Call::new(What::Add("new-web", 1)).lost(),
        Call::new(What::Add("new-web", 1)),
        Call::new(What::Gc),
    ],
    [
        Call::new(What::Add("c1", 2)).lost(),
        Call::new(What::Add("c1", 2)),
        Call::new(What::Add("c2", 2)),
    ],
    [ADD.lost(), OTHERS.on("n2"), Call::new(What::ReleaseNode("n1")).on("n2")],
];

/// Runs every schedule of three calls with this many switches, whichever call continues when
/// another ends or waits.
fn triples(kind: Kind, most: usize) {
    let mut sum = Sum::new(kind, "triples");
    for world in beginnings(&sum.setting) {
        for [a, b, c] in TRIPLES.iter().copied() {
            for order in [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
                sum.add(&world, &order, never, &mut |explorer| explorer.explore(0, most));
            }
        }
    }
    sum.end();
}

/// Runs schedules that seeds draw, starting from `HEREABOUTS_TEST_SEED` if it is set.
fn drawn(kind: Kind, each: u64) {
    #[allow(clippy::disallowed_methods, reason = "the seed of a failure is given again")]
    let seed = std::env::var("HEREABOUTS_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_u64);
    println!("seeds {seed} to {}", seed + each - 1);
    let mut sum = Sum::new(kind, "drawn triples");
    for world in beginnings(&sum.setting) {
        for calls in TRIPLES {
            sum.add(&world, calls, never, &mut |explorer| {
                (seed..seed + each).for_each(|seed| explorer.draw(seed))
            });
        }
    }
    sum.end();
}

on_each_store! {
    every_pair_of_calls_on_local_files, every_pair_of_calls_on_shared_files, every_pair_of_calls_on_kubernetes:
        |kind| pairs(kind, if kind == Kind::Kubernetes { 2 } else { 3 });
    what_is_left_out_ends_alike_on_local_files, what_is_left_out_ends_alike_on_shared_files,
        what_is_left_out_ends_alike_on_kubernetes: compare;
    drawn_triples_on_local_files, drawn_triples_on_shared_files, drawn_triples_on_kubernetes:
        |kind| drawn(kind, 100);
    #[ignore = "minutes"]
    long_triples_on_local_files, long_triples_on_shared_files, long_triples_on_kubernetes:
        |kind| triples(kind, 2);
    #[ignore = "minutes"]
    long_drawn_triples_on_local_files, long_drawn_triples_on_shared_files, long_drawn_triples_on_kubernetes:
        |kind| drawn(kind, 5_000);
}

/// Three switches take three times as long here as on files.
#[test]
#[ignore = "minutes"]
fn long_pairs_on_kubernetes() {
    pairs(Kind::Kubernetes, 3);
}
