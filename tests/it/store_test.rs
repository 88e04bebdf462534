//! `store test`: two processes with one directory find each other and agree on a verdict. Faults
//! turn a good filesystem into an unsafe one. `shared_fs` runs it on two mounts of a real shared
//! filesystem.

use crate::support::disk::{Faults, FaultyDisk};
use crate::support::sandbox::{Call, Ended, Sandbox};
use hereabouts::store::file::probe::{self, Participant, Verdict};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// A system call that returns success without being made.
const NO_FLOCK: &str = "flock";
const NO_LINK: &str = "linkat";

fn call(directory: &Path, args: &[&str], useless: Option<&str>) -> Call {
    let mut call = Call::bare();
    call.args = ["store", "test", directory.to_str().unwrap()]
        .iter()
        .chain(args)
        .map(|arg| (*arg).to_owned())
        .collect();
    if let Some(name) = useless {
        let words = format!(
            "strace -f --seccomp-bpf -qq -o /dev/null -e trace={name} -e inject={name}:retval=0"
        );
        call.through(&words.split(' ').collect::<Vec<_>>());
    }
    call
}

/// Runs the command in two places at once. Returns what both printed, for programs.
pub(crate) fn pair(directories: [&Path; 2], useless: [Option<&str>; 2]) -> [(Ended, Value); 2] {
    let calls = [0, 1].map(|n| call(directories[n], &["-o", "json"], useless[n]));
    let threads = calls.map(|call| std::thread::spawn(move || call.run()));
    threads.map(|thread| {
        let ended = thread.join().unwrap();
        let report = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        (ended, report)
    })
}

/// Checks that both sides show the same figures, and that nothing is left.
fn check(directory: &Path, useless: [Option<&str>; 2], verdict: &str, status: i32) -> Value {
    let [(one, report), (other, theirs)] = pair([directory, directory], useless);
    println!("{report}");
    assert_eq!(
        (report["verdict"].as_str(), one.status),
        (Some(verdict), Some(status)),
        "{report} {one:?}"
    );
    assert_eq!(
        (theirs["verdict"].as_str(), other.status),
        (Some(verdict), Some(status)),
        "{theirs} {other:?}"
    );
    for key in ["links", "locks", "renames", "views", "directory", "shared"] {
        assert_eq!(report[key], theirs[key], "{key}");
    }
    assert!(!directory.join(".hereabouts-store-test").exists(), "its files are left");
    report
}

fn has_strace() -> bool {
    let found = std::process::Command::new("strace").arg("--version").output().is_ok();
    if !found {
        skipped!("there is no strace");
    }
    found
}

#[test]
fn a_good_filesystem_is_safe_and_a_store_on_it_is_not_touched() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", r#""range":"10.0.0.0/29""#).succeeded();
    let before = sandbox.files();
    let report = check(&sandbox.store(), [None; 2], "safe", 0);
    assert!(100 <= report["links"]["changes"].as_u64().unwrap(), "{report}");
    assert!(200 <= report["renames"]["times"].as_u64().unwrap(), "{report}");
    assert!(0 < report["locks"]["refused"].as_u64().unwrap(), "{report}");
    assert_eq!(report["partner"]["sameMachine"], true);
    assert_eq!(sandbox.files(), before);
}

#[test]
fn useless_locks_are_seen_and_leave_it_safe_whoever_has_them() {
    if !has_strace() {
        return;
    }
    for useless in [[Some(NO_FLOCK); 2], [Some(NO_FLOCK), None]] {
        let report = check(&Sandbox::new().root, useless, "safe_without_locks", 0);
        assert!(0 < report["locks"]["met"].as_u64().unwrap(), "{report}");
    }
}

#[test]
fn a_link_that_succeeds_twice_is_unsafe_though_only_one_of_them_sees_it() {
    if !has_strace() {
        return;
    }
    let report = check(&Sandbox::new().root, [Some(NO_LINK), None], "unsafe", 1);
    assert!(0 < report["links"]["wrong"].as_u64().unwrap(), "{report}");
    assert_eq!(report["locks"], Value::Null, "the rest leans on links");
}

#[test]
fn a_rename_that_leaves_a_gap_is_unsafe() {
    let sandbox = Sandbox::new();
    let reports = [true, false].map(|rename_leaves_gap| {
        let root = sandbox.root.clone();
        std::thread::spawn(move || {
            let disk = FaultyDisk::new(root, Faults { rename_leaves_gap, ..Faults::default() });
            let guest = Participant {
                host: "h".to_owned(),
                process: 1,
                boot_id: format!("{rename_leaves_gap}"),
            };
            probe::run(&disk, &guest, Duration::from_secs(60)).unwrap()
        })
    });
    for report in reports.map(|thread| thread.join().unwrap()) {
        assert_eq!(report.verdict(), Verdict::Unsafe, "{report:?}");
        assert!(0 < report.renames.unwrap().free && report.links.wrong == 0, "{report:?}");
        assert!(!report.same_machine);
    }
}

/// Returns the verdict of two disks with these faults, or the immediate verdict of the first alone.
fn probe_pair(
    sandbox: &Sandbox,
    faults: [Faults; 2],
) -> [Result<probe::Report, probe::ProbeError>; 2] {
    let threads = [0, 1].map(|n| {
        let (root, faults) = (sandbox.root.clone(), faults[n]);
        std::thread::spawn(move || {
            let guest = Participant { host: format!("h{n}"), process: 1, boot_id: n.to_string() };
            probe::run(&FaultyDisk::new(root, faults), &guest, Duration::from_secs(60))
        })
    });
    threads.map(|thread| thread.join().unwrap())
}

/// Cause: a union of filesystems puts the test's own directory on one of them. Effect: the verdict
/// SAFE, while `link` in the directory itself gave 36 of 400 names twice. Fix: such a filesystem
/// shows two inodes of one file, and the directory itself is tested as well.
#[test]
fn what_one_machine_can_see_is_said_before_it_waits_for_another() {
    let sandbox = Sandbox::new();
    let guest = Participant { host: "h".to_owned(), process: 1, boot_id: "b".to_owned() };
    let alone = |faults| {
        probe::run(&FaultyDisk::new(sandbox.root.clone(), faults), &guest, Duration::from_secs(600))
            .unwrap()
    };
    let union = alone(Faults { inode_by_name: true, ..Faults::default() });
    assert!(
        union.names.unwrap().are_of_a_union() && union.verdict() == Verdict::Unsafe,
        "{union:?}"
    );
    let none = alone(Faults { no_links: Some(nix::libc::EIO), ..Faults::default() });
    assert!(none.no_links.is_some() && none.verdict() == Verdict::Unsafe, "{none:?}");
    assert!(
        sandbox.root.read_dir().unwrap().all(|entry| entry.unwrap().file_name() == "flat.conf")
    );
}

/// Cause: SFTP returns EPERM for a name that is taken. Effect: no verdict, and two misleading
/// errors.
#[test]
fn a_name_that_is_taken_is_taken_whatever_the_error_says() {
    let sandbox = Sandbox::new();
    let faults = Faults {
        inode_by_name: true,
        one_link: true,
        taken_errno: Some(nix::libc::EPERM),
        ..Faults::default()
    };
    for report in probe_pair(&sandbox, [faults; 2]) {
        let report = report.unwrap();
        assert_eq!(
            (report.verdict(), report.links.wrong),
            (Verdict::SafeWithoutLocks, 0),
            "{report:?}"
        );
    }
    assert!(
        sandbox.root.read_dir().unwrap().all(|entry| entry.unwrap().file_name() == "flat.conf")
    );
}

/// Cause: the side that failed removed the files that the other side used. Effect: an error of the
/// other side that names a missing file. Fix: it leaves a message instead.
#[test]
fn who_fails_leaves_a_word_for_its_partner() {
    // An unreadable message counts as one that has not come: this step fails nothing.
    for step in 400..440 {
        let sandbox = Sandbox::new();
        let failing = Faults { fails_at: Some((step, nix::libc::ENOSPC)), ..Faults::default() };
        let [Err(failed), told] = probe_pair(&sandbox, [failing, Faults::default()]) else {
            continue;
        };
        let (failed, partner) = (failed.to_string(), told.unwrap_err().to_string());
        assert!(failed.contains("is full"), "{failed}");
        assert!(partner.contains("the partner h0") && partner.contains("is full"), "{partner}");
        assert!(
            sandbox.root.read_dir().unwrap().all(|entry| entry.unwrap().file_name() == "flat.conf")
        );
        return;
    }
    panic!("no step failed");
}

#[test]
fn without_a_partner_it_says_that_only_one_machine_was_tested() {
    let sandbox = Sandbox::new();
    let ended = call(&sandbox.root, &["--wait", "200ms"], None).run();
    assert_eq!(ended.status, Some(1));
    assert!(
        ended.stdout.contains("ONLY ONE MACHINE WAS TESTED") && ended.stdout.contains("UNPROVEN"),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("not proven for two machines"), "{ended:?}");
    assert!(!sandbox.path(".hereabouts-store-test").exists());
}

#[test]
fn what_is_no_directory_and_what_is_no_time_is_refused() {
    let sandbox = Sandbox::new();
    for path in [sandbox.path("flat.conf"), sandbox.path("none")] {
        let ended = call(&path, &[], None).run();
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""));
        assert!(ended.stderr.contains("not a directory"), "{ended:?}");
    }
    for args in [
        &["store"][..],
        &["store", "test"],
        &["store", "test", "/tmp", "--wait", "soon"],
        &["store", "tset", "/tmp"],
    ] {
        assert_eq!(sandbox.command(args).status, Some(2), "{args:?}");
    }
}

/// Cause: the wait was added to the clock without a check for overflow. Effect: an abort. Fix: no
/// deadline is more than ten years ahead.
#[test]
fn no_wait_for_a_partner_is_too_long() {
    let sandbox = Sandbox::new();
    let run = |through: &[&str], wait: &str| {
        let mut call = sandbox.command_call(&[
            "store",
            "test",
            "--wait",
            wait,
            sandbox.root.to_str().unwrap(),
        ]);
        call.through(through).run()
    };
    // It waits as long as it may.
    let ended = run(&["timeout", "2"], "18446744073709551615s");
    assert_eq!(ended.status, Some(124), "{ended:?}");
    let ended = run(&[], "18446744073709551615s 1000ms");
    assert_eq!(ended.status, Some(2), "{ended:?}");
}
