//! Fuzzing on the stable compiler: inputs are changed copies of kept ones (`tests/data/corpus`),
//! and an input whose behavior was not seen before is added to the pool. Each target defines what a
//! behavior is. The fuzzer does not measure coverage.
//!
//! Every kept input runs in every test run. Then each target continues for HEREABOUTS_FUZZ_SECONDS
//! (3 by default; `scripts/fuzz` sets it). A failure prints the seed, which HEREABOUTS_FUZZ_SEED
//! sets again, and writes the input, and a minimal input that still fails, below target/fuzz. In
//! the corpus, that file is a regression test. An input that takes long is a failure, too.

mod calls;
mod config;
mod mutate;
mod records;
mod verbs;
mod words;

use hereabouts::retry::Deadline;
use mutate::Rng;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Inputs in the pool. More behaviors than this are variations of each other.
const MOST_KEPT: usize = 5000;

/// The limit for all calls of one input together. They take milliseconds.
const LONGEST: Duration = Duration::from_secs(20);

/// Runs one input and returns a short text about the outcome. Panics if an invariant does not hold.
type Check<'a> = &'a mut dyn FnMut(&[u8]) -> String;

#[test]
fn config_bytes_are_answered_with_an_error_or_a_sound_result() {
    let place = Place::new("config");
    let mut target = config::Target::new(&place.0);
    fuzz("config", "config", &words::config(), &mut |input| target.check(input));
}

#[test]
fn records_garbled_or_forged_never_make_an_address_have_two_holders() {
    let place = Place::new("records");
    let mut target = records::Target::new(&place.0);
    fuzz("records", "records", words::RECORDS, &mut |input| target.check(input));
}

#[test]
fn calls_of_the_plugin_agree_with_the_rules() {
    if !is_alone("fuzz::calls_of_the_plugin_agree_with_the_rules") {
        return;
    }
    let place = Place::new("calls");
    fuzz("calls", "calls", words::CALLS, &mut |input| calls::check(&place.0, input));
}

#[test]
fn verbs_in_any_order_agree_with_a_plain_map() {
    if !is_alone("fuzz::verbs_in_any_order_agree_with_a_plain_map") {
        return;
    }
    let place = Place::new("verbs");
    fuzz("verbs", "verbs", words::VERBS, &mut |input| verbs::check(&place.0, input));
}

/// The same sequences, with changes to the objects in between.
#[cfg(feature = "kube")]
#[test]
fn verbs_on_the_api_server_agree_with_a_plain_map() {
    let cluster = match crate::support::cluster::Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let place = Place::new("verbs-kube");
    let words = [words::VERBS, words::OBJECTS].concat();
    fuzz("verbs-kube", "verbs", &words, &mut |input| {
        verbs::check_on_the_api_server(cluster, &place.0.join("nodes"), input)
    });
}

/// Runs a test in a process of its own, and returns false. Returns true in that process.
///
/// A test that starts a program has, until the exec, a copy of each lock of this process. A call
/// that only tries a lock, such as GC or a re-homing, then passes over an attachment that no call
/// has locked any more.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "HEREABOUTS_FUZZ_ALONE";
    #[allow(clippy::disallowed_methods, reason = "this process was started by the code below")]
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let done = command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(done.status.success(), "{}\n{}", said[0], said[1]);
    // Not the lines of libtest, which would be counted twice.
    let is_of_libtest =
        |line: &str| ["test ", "running "].iter().any(|word| line.starts_with(word));
    let lines = said[0].lines().filter(|line| !is_of_libtest(line) && !line.is_empty());
    lines.for_each(|line| println!("{line}"));
    false
}

/// A directory in memory, if there is one: the disk is not tested here.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir()
            && nix::unistd::access(memory, nix::unistd::AccessFlags::W_OK).is_ok()
        {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let path = base.join(format!("hereabouts-fuzz-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn number(variable: &str) -> Option<u64> {
    #[allow(clippy::disallowed_methods, reason = "whoever runs the tests sets the budget")]
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: expected a number: {text}")))
}

/// Returns the kept inputs of a target, by name. The examples are configurations, too.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = root.join("tests/data/corpus").join(name);
    let examples =
        (name == "config").then(|| std::fs::read_dir(root.join("conf-examples")).unwrap());
    let mut kept: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .chain(examples.into_iter().flatten())
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect();
    kept.sort();
    assert!(!kept.is_empty(), "{} is empty", directory.display());
    kept
}

fn holds(check: Check<'_>, input: &[u8]) -> Result<String, String> {
    let deadline = Deadline::after(LONGEST);
    let behavior = catch_unwind(AssertUnwindSafe(|| check(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })?;
    if deadline.left().is_zero() {
        Err(format!("it took longer than {LONGEST:?}"))
    } else {
        Ok(behavior)
    }
}

/// Runs a target. `folder` is that of its corpus.
fn fuzz(name: &str, folder: &str, words: &[&str], check: Check<'_>) {
    let seed = number("HEREABOUTS_FUZZ_SEED").unwrap_or_else(|| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(name)
    });
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    std::fs::create_dir_all(&out).unwrap();
    // A failure without a panic, such as a stack overflow, leaves its input here.
    let current = out.join(format!("{name}.current"));
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut pool = Vec::new();
    for (file, input) in corpus(folder) {
        std::fs::write(&current, &input).unwrap();
        match holds(check, &input) {
            Ok(behavior) => *seen.entry(behavior).or_default() += 1,
            Err(reason) => panic!("tests/data/corpus/{folder}/{file}: {reason}"),
        }
        pool.push(input);
    }
    let (kept, at_first) = (pool.len(), seen.len());
    // If all kept inputs end alike, for example at the first check, they test nothing.
    assert!(8 <= at_first, "{name}: the kept inputs show only {seen:?}");
    let deadline =
        Deadline::after(Duration::from_secs(number("HEREABOUTS_FUZZ_SECONDS").unwrap_or(3)));
    let mut count = 0;
    while !deadline.left().is_zero() {
        let input = mutate::mutate(&pool, words, &mut Rng::new(seed, count));
        std::fs::write(&current, &input).unwrap();
        match holds(check, &input) {
            Ok(behavior) => {
                let times = seen.entry(behavior).or_default();
                *times += 1;
                if *times == 1 {
                    keep(&mut pool, kept, input, &mut Rng::new(!seed, count));
                }
            }
            Err(reason) => report(name, seed, count, &input, &reason, check),
        }
        count += 1;
    }
    let _ = std::fs::remove_file(current);
    // libtest has begun a line.
    println!(
        "\n{name}: {kept} kept inputs with {at_first} behaviors, {count} new ones, now {} behaviors, seed {seed}",
        seen.len()
    );
    let mut common: Vec<_> = seen.iter().map(|(behavior, times)| (times, behavior)).collect();
    common.sort_by(|one, other| other.cmp(one));
    for (times, behavior) in common.iter().take(8) {
        println!("  {times:8} {behavior}");
    }
}

/// Adds an input to the pool. If the pool is full, another input is removed, but none that is kept
/// in the repository.
fn keep(pool: &mut Vec<Vec<u8>>, kept: usize, input: Vec<u8>, rng: &mut Rng) {
    if pool.len() < MOST_KEPT {
        return pool.push(input);
    }
    let at = kept + rng.below(pool.len() - kept);
    pool[at] = input;
}

/// Writes the input and a minimal input that still fails, and fails the test.
fn report(name: &str, seed: u64, count: u64, input: &[u8], reason: &str, check: Check<'_>) -> ! {
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    let (whole, least) = (
        out.join(format!("{name}-{seed}-{count}")),
        out.join(format!("{name}-{seed}-{count}.least")),
    );
    std::fs::write(&whole, input).unwrap();
    std::fs::write(&least, shrink(input, check)).unwrap();
    panic!(
        "{reason}\nHEREABOUTS_FUZZ_SEED={seed}, input {count} of {name}: {}\nthe least of it that fails: {}",
        whole.display(),
        least.display()
    );
}

thread_local! {
    /// Whether the panics of this thread are expected.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Removes pieces, long ones first, as long as the rest still fails.
fn shrink(input: &[u8], check: Check<'_>) -> Vec<u8> {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !QUIET.get() {
            usual(panic);
        }
    }));
    QUIET.set(true);
    let deadline = Deadline::after(Duration::from_secs(20));
    let mut least = input.to_vec();
    let mut length = least.len() / 2;
    while 0 < length && !deadline.left().is_zero() {
        let mut at = 0;
        while at < least.len() && !deadline.left().is_zero() {
            let mut shorter = least.clone();
            shorter.drain(at..(at + length).min(least.len()));
            if holds(check, &shorter).is_err() {
                least = shorter;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    QUIET.set(false);
    least
}

/// Splits an input into named sections: a line `--- <name>`, then the content. The part before the
/// first such line is the section "".
fn sections(input: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<Vec<u8>>)> = vec![(String::new(), Vec::new())];
    for line in input.split(|byte| *byte == b'\n') {
        match line.strip_prefix(b"--- ") {
            Some(name) => found.push((String::from_utf8_lossy(name).into_owned(), Vec::new())),
            None => found.last_mut().unwrap().1.push(line.to_vec()),
        }
    }
    found.into_iter().map(|(name, lines)| (name, lines.join(&b'\n'))).collect()
}

/// Returns a sentence without what differs between inputs.
fn outline(code: u64, sentence: &str) -> String {
    let mut plain = String::new();
    let mut quoted = false;
    for c in sentence.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted || c.is_ascii_digit() || !c.is_ascii() => {}
            _ => plain.push(c),
        }
    }
    plain.truncate(60);
    format!("{code} {plain}")
}
