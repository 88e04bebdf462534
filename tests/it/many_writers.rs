//! Many writers on one store, as processes: 256 at once; 32 workers compared with a model of who
//! was told what; ADDs that find nothing while DELs run. No writer gets another's address, none
//! starves, and nothing is left.

use crate::support::sandbox::{Sandbox, configuration};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const WIDE: &str = r#""range":"10.1.0.0/16""#;
const TWO: &str = r#""ipRanges":[{"range":"10.1.0.0/16"},{"range":"10.2.0.0/16"}]"#;
const SMALL: &str = r#""range":"10.3.0.0/26""#;
const ROOM: &str = r#""range":"10.4.0.0/16""#;

/// Somewhat before the deadline of an ADD. The distance between the tail and the median is printed
/// and not asserted, because it depends on the machine and on what else runs there.
const STARVED: Duration = Duration::from_secs(24);

/// Runs one process. Returns its addresses, and how long it took from start to end.
fn timed(sandbox: &Sandbox, verb: &str, container: &str, ipam: &str) -> (Value, Duration) {
    let call = sandbox.call(verb).set("CNI_CONTAINERID", container).clone();
    #[allow(clippy::disallowed_methods, reason = "a test measures time")]
    let start = Instant::now();
    let mut child = call
        .command()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(configuration(ipam).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let document = if output.stdout.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&output.stdout).unwrap()
    };
    (document, start.elapsed())
}

fn addresses(document: &Value) -> Vec<Ipv4Addr> {
    let ips = document["ips"].as_array().unwrap_or_else(|| panic!("no result: {document}"));
    ips.iter()
        .map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap())
        .collect()
}

/// Returns the time that this many of a hundred did not exceed.
fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

/// Checks that only permanent files are in the store, and that `verify` finds no problem.
fn assert_nothing_is_left(sandbox: &Sandbox) {
    let stays = |path: &String| {
        ["format", "lock", "@machine-id", "full", "exhausted", "looking"]
            .iter()
            .any(|name| path.ends_with(name))
    };
    let left: Vec<_> = sandbox.files().into_iter().filter(|path| !stays(path)).collect();
    assert_eq!(left, Vec::<String>::new());
    sandbox.command(&["verify"]).succeeded();
}

#[test]
fn of_256_at_once_each_gets_one_of_the_lowest_and_nobody_starves() {
    let sandbox = Sandbox::new();
    let ended: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..256)
            .map(|n| {
                let sandbox = &sandbox;
                scope.spawn(move || timed(sandbox, "ADD", &format!("c{n}"), WIDE))
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let given: BTreeSet<Ipv4Addr> =
        ended.iter().flat_map(|(document, _)| addresses(document)).collect();
    let lowest: BTreeSet<Ipv4Addr> =
        (1..=256).map(|n| Ipv4Addr::from_bits(0x0a01_0000 + n)).collect();
    assert_eq!(given, lowest);
    let mut times: Vec<_> = ended.iter().map(|(_, took)| *took).collect();
    let (median, slowest) = (percentile(&mut times, 50), percentile(&mut times, 100));
    println!("256 at once: median {median:.1?}, slowest {slowest:.1?}");
    assert!(slowest < STARVED, "nobody starves until the deadline of an ADD");
    sandbox.command(&["verify"]).succeeded();
}

/// What callers were told, and how long they waited.
#[derive(Default)]
struct Model {
    holders: Mutex<BTreeMap<Ipv4Addr, String>>,
    times: Mutex<Vec<Duration>>,
    repeats: AtomicUsize,
}

struct Worker<'m> {
    sandbox: &'m Sandbox,
    model: &'m Model,
    number: u64,
    draw: u64,
    held: Vec<(String, &'static str, Vec<Ipv4Addr>)>,
    times: Vec<Duration>,
}

impl Worker<'_> {
    fn draw(&mut self, below: usize) -> usize {
        self.draw = self
            .draw
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.draw >> 33).unwrap() % below
    }

    fn call(&mut self, verb: &str, container: &str, ipam: &str) -> Value {
        let (document, took) = timed(self.sandbox, verb, container, ipam);
        self.times.push(took);
        document
    }

    /// Makes an ADD. Its result enters the model when it is printed.
    fn add(&mut self, step: usize) {
        let container = format!("w{}-{step}", self.number);
        let ipam = if self.draw(4) == 0 { TWO } else { WIDE };
        let document = self.call("ADD", &container, ipam);
        let given = addresses(&document);
        assert_eq!(given.len(), if ipam == TWO { 2 } else { 1 });
        let mut holders = self.model.holders.lock().unwrap();
        for address in &given {
            let other = holders.insert(*address, container.clone());
            assert_eq!(other, None, "{address} given to {container} too");
        }
        drop(holders);
        self.held.push((container, ipam, given));
    }

    /// Makes a DEL. The result leaves the model before the DEL begins.
    fn del(&mut self) {
        let at = self.draw(self.held.len());
        let (container, ipam, given) = self.held.swap_remove(at);
        for address in &given {
            let holder = self.model.holders.lock().unwrap().remove(address);
            assert_eq!(holder.as_ref(), Some(&container), "{address}");
        }
        assert_eq!(self.call("DEL", &container, ipam), Value::Null);
        if self.draw(8) == 0 {
            // Makes the runtime's repeat, when another container may have the address.
            self.model.repeats.fetch_add(1, Ordering::Relaxed);
            assert_eq!(self.call("DEL", &container, ipam), Value::Null);
        }
    }

    fn repeat(&mut self) {
        let at = self.draw(self.held.len());
        let (container, ipam, given) = self.held[at].clone();
        self.model.repeats.fetch_add(1, Ordering::Relaxed);
        assert_eq!(addresses(&self.call("ADD", &container, ipam)), given, "{container}");
    }

    /// Plays some steps. Each worker holds at most 40 addresses: some 1,300 of all are held, in six
    /// shards.
    fn play(mut self, steps: usize) {
        for step in 0..steps {
            match self.draw(10) {
                0 if !self.held.is_empty() => self.repeat(),
                1..=5 if self.held.len() < 40 => self.add(step),
                _ if !self.held.is_empty() => self.del(),
                _ => self.add(step),
            }
        }
        while !self.held.is_empty() {
            self.del();
        }
        self.model.times.lock().unwrap().extend(&self.times);
    }
}

/// Makes this many calls by 32 workers. Then a single one gets the lowest address, and everything
/// is free.
fn churn(calls: usize) {
    let (sandbox, model) = (Sandbox::new(), Model::default());
    std::thread::scope(|scope| {
        for number in 0..32 {
            let worker = Worker {
                sandbox: &sandbox,
                model: &model,
                number,
                draw: number,
                held: Vec::new(),
                times: Vec::new(),
            };
            scope.spawn(move || worker.play(calls / 32));
        }
    });
    let mut times = model.times.into_inner().unwrap();
    let (median, most, slowest) =
        (percentile(&mut times, 50), percentile(&mut times, 99), percentile(&mut times, 100));
    println!(
        "{} calls by 32 workers ({} of them repeats): median {median:.1?}, p99 {most:.1?}, slowest {slowest:.1?}",
        times.len(),
        model.repeats.into_inner()
    );
    assert!(sandbox.held().is_empty());
    assert_nothing_is_left(&sandbox);
    for n in 1..=3u32 {
        let given = addresses(&timed(&sandbox, "ADD", &format!("alone{n}"), WIDE).0);
        assert_eq!(given, [Ipv4Addr::from_bits(0x0a01_0000 + n)], "the lowest when alone");
    }
    assert!(slowest < STARVED, "nobody starves until the deadline of an ADD");
}

#[test]
fn a_churn_of_32_workers_agrees_with_a_model() {
    churn(6_400);
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_churn_of_100_000_calls_agrees_with_a_model() {
    churn(100_000);
}

/// Makes 500 ADDs by 16 workers while DELs run. Returns the times of the DELs. `room` says whether
/// each ADD should succeed.
fn dels_beside_500_adds(sandbox: &Sandbox, round: usize, room: bool) -> Vec<Duration> {
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    for n in 0..200 {
        addresses(&timed(sandbox, "ADD", &format!("d{round}-{n}"), WIDE).0);
    }
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if 500 <= n {
                        return;
                    }
                    let ipam = if room { ROOM } else { SMALL };
                    let (document, _) = timed(sandbox, "ADD", &format!("a{round}-{n}"), ipam);
                    assert_eq!(document["code"].is_null(), room, "{document}");
                }
            });
        }
        scope.spawn(|| {
            for n in 0..200 {
                let (document, took) = timed(sandbox, "DEL", &format!("d{round}-{n}"), WIDE);
                assert_eq!(document, Value::Null);
                times.lock().unwrap().push(took);
            }
        });
    });
    times.into_inner().unwrap()
}

#[test]
fn adds_that_find_nothing_hold_up_dels_no_more_than_twice_those_that_succeed() {
    let sandbox = Sandbox::new();
    for n in 0..62 {
        addresses(&timed(&sandbox, "ADD", &format!("full{n}"), SMALL).0);
    }
    let (mut beside_full, mut beside_room) = (Vec::new(), Vec::new());
    // In turn, so that other load on the machine affects both.
    for round in 0..3 {
        beside_full.extend(dels_beside_500_adds(&sandbox, 2 * round, false));
        beside_room.extend(dels_beside_500_adds(&sandbox, 2 * round + 1, true));
    }
    let (full, room) = (percentile(&mut beside_full, 99), percentile(&mut beside_room, 99));
    println!(
        "p99 of DEL: {full:.1?} beside ADDs on a full range, {room:.1?} beside ADDs that succeed"
    );
    assert!(full < room * 2);
}
