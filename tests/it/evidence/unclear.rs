//! A namespace that cannot be examined is in doubt, at ADD and later.

use super::{add, sweep};
use crate::support::sandbox::Sandbox;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Cause: an ADD that could not examine the namespace recorded none, which counts as dead. Effect:
/// the next `sweep` freed the address of a living pod. Fix: the path is recorded, and the record
/// stays in doubt until nothing is at the path.
#[test]
fn what_an_add_could_not_look_at_is_kept_until_it_is_gone() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("netns");
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let path = path.to_str().unwrap();
    add(&sandbox, path).run().succeeded();
    sweep(&sandbox).run().succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    let verified = sandbox.command(&["verify"]);
    assert!(verified.succeeded().stdout.contains("1 x in doubt"), "{verified:?}");
    // A file that is not a namespace shows no more than that.
    std::fs::remove_file(path).unwrap();
    std::fs::create_dir(path).unwrap();
    sweep(&sandbox).run().succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    std::fs::remove_dir(path).unwrap();
    sweep(&sandbox).run().succeeded();
    assert!(sandbox.held().is_empty());
}

/// Ends only its first thread, when it is told to.
const LEADER_ENDS: &str = "
import ctypes, sys, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
print('ready', flush=True)
sys.stdin.readline()
ctypes.CDLL(None).syscall(60, 0)";

/// Cause: the link to the namespace of a process whose first thread has ended leads nowhere.
/// Effect: it counted as gone, and the address of a living pod was freed. Fix: a link that exists
/// and cannot be followed is doubt.
#[test]
fn a_process_whose_first_thread_has_ended_is_not_gone() {
    if !nix::unistd::geteuid().is_root() || !cfg!(target_arch = "x86_64") {
        return skipped!("no root, or another number of exit(2)");
    }
    let sandbox = Sandbox::new();
    let mut command = Command::new("unshare");
    command
        .args(["--net", "python3", "-c", LEADER_ENDS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let path = format!("/proc/{}/ns/net", process.id());
    add(&sandbox, &path).run().succeeded();
    process.stdin.take().unwrap().write_all(b"\n").unwrap();
    while std::fs::metadata(&path).is_ok() {
        std::thread::yield_now();
    }
    let is_there = std::fs::symlink_metadata(&path).is_ok();
    sweep(&sandbox).run().succeeded();
    let kept = sandbox.held();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(is_there, "it has ended as a whole");
    assert_eq!(kept, ["10.1.2.1"]);
    sweep(&sandbox).run().succeeded();
    assert!(sandbox.held().is_empty());
}
