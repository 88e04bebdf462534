//! strace as an instrument: one run counts the system calls, each later one
//! kills at a single one of them, or gives it an error.
//!
//! A call is named by its name and by how many of that name came before: that
//! is how strace counts, and a run of the same verb on the same store makes the
//! same calls. The kill comes as the call is entered, before it has done
//! anything. Nothing here knows what the calls mean.

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
        Ok(output) => Some(format!("strace may not trace here: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// All calls of a run that nothing disturbs; without the execve that starts it.
pub(crate) fn points(sandbox: &Sandbox, call: &Call) -> Vec<Point> {
    let (ended, trace) = under(sandbox, call, &["-y", "-s", "4096"]);
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

/// Runs the call and kills it as it enters the point.
pub(crate) fn killed_at(sandbox: &Sandbox, call: &Call, point: &Point) -> Ended {
    let Point { name, nth, line } = point;
    let (ended, trace) = under(sandbox, call, &["-e", &format!("trace={name}"), "-e", &format!("inject={name}:signal=KILL:when={nth}")]);
    assert!(trace.trim_end().ends_with("+++ killed by SIGKILL +++"), "it was not killed at {line}: {trace}");
    assert_eq!(ended.status, None, "{ended:?}");
    ended
}

/// The same where the call may have made another number of system calls this
/// time: `None` when the point did not come.
#[cfg(feature = "kube")]
pub(crate) fn perhaps_killed_at(sandbox: &Sandbox, call: &Call, point: &Point) -> Option<Ended> {
    let Point { name, nth, .. } = point;
    let (ended, trace) = under(sandbox, call, &["-e", &format!("trace={name}"), "-e", &format!("inject={name}:signal=KILL:when={nth}")]);
    trace.trim_end().ends_with("+++ killed by SIGKILL +++").then_some(ended)
}

/// Runs the call with an error in the place of the point.
pub(crate) fn refused_at(sandbox: &Sandbox, call: &Call, point: &Point, errno: &str) -> Ended {
    let Point { name, nth, line } = point;
    let only = ["--seccomp-bpf", "-f", "-e", &format!("trace={name}"), "-e", &format!("inject={name}:error={errno}:when={nth}")];
    let (ended, trace) = under(sandbox, call, &only);
    assert!(trace.contains("(INJECTED)"), "{errno} did not come to {line}: {trace}");
    ended
}

fn under(sandbox: &Sandbox, call: &Call, options: &[&str]) -> (Ended, String) {
    let trace = sandbox.path("trace");
    let mut wrapper = vec!["strace", "-qq", "-o", trace.to_str().unwrap()];
    wrapper.extend(options);
    let ended = call.run_under(&wrapper);
    (ended, std::fs::read_to_string(&trace).unwrap())
}
