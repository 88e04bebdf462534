//! strace as an instrument: one run counts the system calls, each later one
//! kills at a single one of them, or gives it an error.
//!
//! A call is named by its name and by how many of that name came before: that
//! is how strace counts, and a run of the same verb on the same store makes the
//! same calls, unless something else in the machine has changed meanwhile: so
//! it is looked at which call the fault met. The kill comes as the call is
//! entered, before it has done anything. Nothing here knows what the calls mean.

use crate::support::sandbox::{Call, Ended, Sandbox};
use std::collections::BTreeMap;
use std::process::Command;

/// One system call of a run.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) name: String,
    /// From 1, among those of the name.
    pub(crate) nth: usize,
    /// As strace shows it, descriptors with their paths.
    pub(crate) line: String,
}

/// Why a test that needs strace cannot run, if so.
pub(crate) fn missing() -> Option<String> {
    match Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output() {
        Err(_) => Some("no strace".to_owned()),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "strace may not trace here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// All calls of a run that nothing disturbs; without the execve that starts it.
pub(crate) fn points(sandbox: &Sandbox, call: &Call) -> Vec<Point> {
    let (ended, trace) = under(sandbox, call, &[]);
    ended.succeeded();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut points = Vec::new();
    for line in trace.lines().skip(1) {
        let Some(name) = name_of(line) else { continue };
        let nth = counts.entry(name.to_owned()).or_default();
        *nth += 1;
        points.push(Point { name: name.to_owned(), nth: *nth, line: line.to_owned() });
    }
    points
}

/// The system call that a line of a trace tells of, if it does.
pub(crate) fn name_of(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

/// Runs the call and kills it as it enters the point; or what the kill came to
/// instead.
pub(crate) fn killed_at(sandbox: &Sandbox, call: &Call, point: &Point) -> Result<Ended, String> {
    let Point { name, nth, .. } = point;
    let (ended, trace) = under(sandbox, call, &killing(name, *nth));
    let until = trace.trim_end().strip_suffix("+++ killed by SIGKILL +++").unwrap_or_default();
    let entered = until.trim_end().lines().next_back().ok_or(&trace)?;
    assert_eq!(ended.status, None, "{ended:?}");
    if is_same_call(entered, &point.line) { Ok(ended) } else { Err(entered.to_owned()) }
}

/// The same, wherever the kill came: `None` when it did not.
#[cfg(feature = "kube")]
pub(crate) fn perhaps_killed_at(sandbox: &Sandbox, call: &Call, point: &Point) -> Option<Ended> {
    let Point { name, nth, .. } = point;
    let (ended, trace) = under(sandbox, call, &killing(name, *nth));
    trace.trim_end().ends_with("+++ killed by SIGKILL +++").then_some(ended)
}

/// Runs the call with an error in the place of the point; or what the error
/// came to instead.
pub(crate) fn refused_at(
    sandbox: &Sandbox,
    call: &Call,
    point: &Point,
    errno: &str,
) -> Result<Ended, String> {
    let Point { name, nth, .. } = point;
    let only = [
        "--seccomp-bpf",
        "-f",
        "-e",
        &format!("trace={name}"),
        "-e",
        &format!("inject={name}:error={errno}:when={nth}"),
    ];
    let (ended, trace) = under(sandbox, call, &only.map(str::to_owned));
    let refused = trace.lines().find(|line| line.ends_with("(INJECTED)")).ok_or(&trace)?;
    // With -f a process id stands in front.
    let refused = refused.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    if is_same_call(refused, &point.line) { Ok(ended) } else { Err(refused.to_owned()) }
}

/// Tries until the fault has met its point. What else goes on in the machine
/// changes how many calls come before: a mount that another process makes is
/// one more line to read of a list of mounts.
pub(crate) fn until_met<T>(point: &Point, attempt: impl Fn() -> Result<T, String>) -> T {
    let mut instead = Vec::new();
    while instead.len() < 20 {
        match attempt() {
            Ok(met) => return met,
            Err(other) => instead.push(other),
        }
    }
    panic!("the fault never met {point:?}, but {instead:#?}");
}

/// Whether a line that was cut off as the call was entered, or ends with an
/// error, tells of the same call as a whole line. What the kernel would have
/// written is not in it; numbers and names that are drawn at random differ.
fn is_same_call(found: &str, meant: &str) -> bool {
    let entered = found
        .rsplit_once('=')
        .map_or(found, |(entered, _)| entered.trim_end().trim_end_matches(')'));
    let end = [" <unfinished", "0x"]
        .iter()
        .filter_map(|mark| entered.find(mark))
        .min()
        .unwrap_or(entered.len());
    without_numbers(meant).starts_with(&without_numbers(&entered[..end]))
}

/// Each run of hexadecimal digits with a decimal one among them becomes `#`,
/// and the directory of the sandbox, which is drawn at random, too.
fn without_numbers(line: &str) -> String {
    let mut words = String::new();
    let mut number = String::new();
    for character in line.chars().chain(['\n']) {
        if character.is_ascii_hexdigit() {
            number.push(character);
            continue;
        }
        words.push_str(if number.bytes().any(|byte| byte.is_ascii_digit()) {
            "#"
        } else {
            &number
        });
        number.clear();
        words.push(character);
    }
    words.pop();
    words
}

/// Without --seccomp-bpf: where that stops a process no signal reaches it.
fn killing(name: &str, nth: usize) -> Vec<String> {
    ["-e", &format!("trace={name}"), "-e", &format!("inject={name}:signal=KILL:when={nth}")]
        .map(str::to_owned)
        .to_vec()
}

fn under(sandbox: &Sandbox, call: &Call, options: &[String]) -> (Ended, String) {
    let trace = sandbox.path("trace");
    let mut wrapper = vec!["strace", "-qq", "-y", "-s", "4096", "-o", trace.to_str().unwrap()];
    wrapper.extend(options.iter().map(String::as_str));
    let ended = call.run_under(&wrapper);
    (ended, std::fs::read_to_string(&trace).unwrap())
}
