//! `scripts/demo` runs to its end and leaves nothing behind, even if it is interrupted.

use super::tools;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn start(args: &[&str], stdout: Stdio) -> Child {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo");
    // A shell that runs tests in the background makes them ignore SIGINT, and a shell cannot trap a
    // signal that was ignored at its start.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT,TERM,HUP".as_ref(), demo.as_os_str()])
        .args(["--bin", crate::support::sandbox::HEREABOUTS])
        .args(args);
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
}

/// Returns a pipe that holds one write: the next write waits until the first one was read, so that
/// the demo is never further than one write ahead of the test.
fn one_write_at_a_time() -> (File, OwnedFd) {
    let (reader, writer) = pipe2(OFlag::O_DIRECT | OFlag::O_CLOEXEC).unwrap();
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(1)).unwrap();
    (File::from(reader), writer)
}

/// Returns processes, mounts and files whose command line, source or name contains the demo with
/// this process id.
fn left_of(pid: u32) -> Vec<String> {
    let mut left = Vec::new();
    let word = format!("hab-{pid}");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|b| *b == 0).any(|part| part == word.as_bytes()) {
            left.push(format!("process {}", entry.path().display()));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    left.extend(mounts.lines().filter(|line| line.starts_with("hab ")).map(str::to_owned));
    let directories = [std::env::temp_dir(), "/run".into(), "/run/netns".into()];
    for entry in directories
        .iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == format!("hab-demo.{pid}") || name.starts_with("hab-node") {
            left.push(entry.path().display().to_string());
        }
    }
    left
}

/// The kernel takes some time to remove a process namespace.
fn assert_nothing_left(pid: u32) {
    let deadline = hereabouts::retry::Deadline::after(Duration::from_secs(60));
    while !left_of(pid).is_empty() {
        assert!(!deadline.left().is_zero(), "left behind: {:?}", left_of(pid));
        std::thread::yield_now();
    }
}

#[test]
fn the_demo_does_the_main_job_and_leaves_nothing() {
    if let Err(reason) = tools() {
        return skipped!("{reason}");
    }
    runs_to_its_end(
        &[],
        &["192.168.20.10/24", "192.168.20.11/24", "192.168.20.12/24", "What to try next"],
    );
}

/// Runs the demo, and requires these lines in its output.
pub(crate) fn runs_to_its_end(args: &[&str], lines: &[&str]) {
    let child = start(args, Stdio::piped());
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    for line in lines {
        assert!(text.contains(line), "no {line} in: {text}");
    }
    assert!(!text.contains("left out"), "the whole demo has to run here: {text}");
    assert_nothing_left(pid);
}

#[cfg(feature = "kube")]
#[test]
fn the_demo_on_kubernetes_does_the_same_and_leaves_nothing() {
    if let Err(reason) = tools() {
        return skipped!("{reason}");
    }
    runs_to_its_end(
        &["--kubernetes"],
        &["ADD   pod2 on node2: 192.168.20.12", "No address is held any more.", "What to try next"],
    );
}

#[cfg(feature = "kube")]
#[test]
fn the_demo_of_slices_goes_on_without_the_api_server() {
    if let Err(reason) = tools() {
        return skipped!("{reason}");
    }
    runs_to_its_end(
        &["--slices"],
        &["The API server stops", "ADD   pod4 on node2: 192.168.", "No address is held any more."],
    );
}

#[cfg(feature = "kube")]
#[test]
#[ignore = "scripts/test --long"]
fn long_the_demo_of_a_move_loses_no_ping_and_leaves_nothing() {
    if let Err(reason) = crate::peers::whereabouts_built() {
        return skipped!("{reason}");
    }
    runs_to_its_end(
        &["--moving"],
        &[
            "the move is finished",
            "ADD   pod3 on node2: 192.168.20.13",
            "the move has ended",
            "All pings were answered",
            "What to try next",
        ],
    );
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    if let Err(reason) = tools() {
        return skipped!("{reason}");
    }
    // A word of its output marks each moment, so no clock is needed.
    let mut moments = vec![
        ("==", Signal::SIGINT),
        ("pod1", Signal::SIGINT),
        ("ping", Signal::SIGTERM),
        ("CHECK", Signal::SIGINT),
        ("DEL", Signal::SIGHUP),
    ];
    if cfg!(feature = "kube") {
        // With running servers: they end with the rest.
        moments.push(("--kubernetes", Signal::SIGINT));
    }
    for (moment, signal) in moments {
        let (args, moment): (&[&str], &str) =
            if moment == "--kubernetes" { (&["--kubernetes"], "pod1") } else { (&[], moment) };
        let (reader, writer) = one_write_at_a_time();
        let mut child = start(args, Stdio::from(writer));
        let pid = child.id();
        let mut output = std::io::BufReader::new(reader);
        let mut line = String::new();
        while !line.contains(moment) {
            line.clear();
            assert!(
                0 < std::io::BufRead::read_line(&mut output, &mut line).unwrap(),
                "the demo never said {moment}"
            );
        }
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
        // A process that waits to write continues, and then gets the signal.
        std::io::copy(&mut output, &mut std::io::sink()).unwrap();
        let status = child.wait().unwrap();
        assert!(status.signal().is_some() || !status.success(), "{moment}: {status}");
        assert_nothing_left(pid);
    }
}

#[test]
fn without_a_network_the_demo_shows_the_protocol_on_the_store_alone() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo");
    let output = Command::new(demo)
        .args(["--store-only", "--bin", crate::support::sandbox::HEREABOUTS])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("left out"), "{text}");
}
