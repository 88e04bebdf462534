//! strace as a tool: one run lists the system calls, and each later run kills at one of them, or
//! returns an error from it.
//!
//! A system call is identified by its name and by how many of that name came before, as strace
//! counts. A run of the same verb on the same store makes the same calls, unless something else on
//! the machine has changed. So the test checks which call the fault met. The kill comes when the
//! call is entered, before it has done anything. This file does not know what the calls mean.

use crate::support::sandbox::{Call, Ended, Sandbox};
use std::collections::BTreeMap;
use std::process::Command;

/// One system call of a run.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) name: String,
    /// From 1, among the calls of this name.
    pub(crate) nth: usize,
    /// As strace shows it, with the paths of descriptors.
    pub(crate) line: String,
}

/// Returns why a test that needs strace cannot run, or `None`.
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

/// Returns all system calls of a run without faults, except the execve that starts it.
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

/// Returns the system call in a line of a trace, if there is one.
pub(crate) fn name_of(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

/// Runs the call and kills it when it enters the point. Returns what came instead, if the kill met
/// another call.
pub(crate) fn killed_at(sandbox: &Sandbox, call: &Call, point: &Point) -> Result<Ended, String> {
    let Point { name, nth, .. } = point;
    let (ended, trace) = under(sandbox, call, &killing(name, *nth));
    let until = trace.trim_end().strip_suffix("+++ killed by SIGKILL +++").unwrap_or_default();
    let entered = until.trim_end().lines().next_back().ok_or(&trace)?;
    assert_eq!(ended.status, None, "{ended:?}");
    if is_same_call(entered, &point.line) { Ok(ended) } else { Err(entered.to_owned()) }
}

/// The same, wherever the kill came. Returns `None` if it did not come.
#[cfg(feature = "kube")]
pub(crate) fn perhaps_killed_at(sandbox: &Sandbox, call: &Call, point: &Point) -> Option<Ended> {
    let Point { name, nth, .. } = point;
    let (ended, trace) = under(sandbox, call, &killing(name, *nth));
    trace.trim_end().ends_with("+++ killed by SIGKILL +++").then_some(ended)
}

/// Runs the call with an error in place of the point. Returns what came instead, if the error met
/// another call.
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
    // With -f, the line begins with a process id.
    let refused = refused.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    if is_same_call(refused, &point.line) { Ok(ended) } else { Err(refused.to_owned()) }
}

/// Tries until the fault has met its point. Other processes on the machine can change the number of
/// earlier calls: a new mount adds one line to the table of mounts.
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

/// Returns whether a line that was cut off when the call was entered, or that ends with an error,
/// is about the same call as a complete line. It lacks what the kernel would have written, and
/// random numbers and names differ.
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

/// Replaces each run of hexadecimal digits that contains a decimal digit by `#`, and the random
/// directory of the sandbox, too.
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

/// Without --seccomp-bpf, because a process that is stopped by it receives no signal.
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
