//! What a call may cost: how often it syncs, counted by strace in the real executable, and which
//! calls leave every file and directory of the store unchanged. `scripts/bench` measures times.

use crate::conformance;
use crate::support::overlay::Overlay;
use crate::support::sandbox::{Call, Sandbox, configuration};
use hereabouts::store::file::FileStore;
use hereabouts::store::node_identity::NodeIdentity;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the keys of an `ipam` with this number of ranges. An ADD gets one address from each.
fn ranges(count: usize) -> String {
    let ranges: Vec<String> =
        (0..count).map(|number| format!(r#"{{"range":"10.{number}.0.0/24"}}"#)).collect();
    format!(r#""ipRanges":[{}]"#, ranges.join(","))
}

/// Returns inode, mode, size and times of everything in the store. Every write changes one of them,
/// because the kernel itself sets the change time.
fn state(sandbox: &Sandbox) -> BTreeMap<PathBuf, [i128; 6]> {
    fn walk(path: &Path, found: &mut BTreeMap<PathBuf, [i128; 6]>) {
        let Ok(seen) = path.symlink_metadata() else { return };
        let time = |seconds: i64, nanoseconds: i64| {
            i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
        };
        let (written, changed) =
            (time(seen.mtime(), seen.mtime_nsec()), time(seen.ctime(), seen.ctime_nsec()));
        let kind = [
            i128::from(seen.ino()),
            i128::from(seen.mode()),
            i128::from(seen.nlink()),
            i128::from(seen.size()),
        ];
        found.insert(path.to_owned(), [kind[0], kind[1], kind[2], kind[3], written, changed]);
        for entry in std::fs::read_dir(path).into_iter().flatten() {
            walk(&entry.unwrap().path(), found);
        }
    }
    let mut found = BTreeMap::new();
    walk(&sandbox.store(), &mut found);
    found
}

/// Returns a call of one container in this process's own network namespace: a living sandbox.
fn call(sandbox: &Sandbox, verb: &str, container: &str, ipam: &str) -> Call {
    let mut call = sandbox.call(verb);
    call.set("CNI_CONTAINERID", container)
        .set("CNI_NETNS", format!("/proc/{}/ns/net", std::process::id()))
        .set("CNI_NETNS_OVERRIDE", "1")
        .set(
            "CNI_ARGS",
            format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};K8S_POD_UID=u"),
        )
        .stdin(configuration(ipam));
    call
}

/// Returns the strace command that writes the syncing calls to a file. sync_file_range flushes
/// nothing: it starts to write, for a later flush.
fn strace(trace: &Path) -> Vec<&str> {
    let calls = "trace=fsync,fdatasync,syncfs,sync";
    vec!["strace", "-f", "-qq", "-e", calls, "-o", trace.to_str().unwrap()]
}

/// Returns how often a call syncs.
fn syncs(sandbox: &Sandbox, verb: &str, container: &str, ipam: &str) -> usize {
    let trace = sandbox.path("trace");
    call(sandbox, verb, container, ipam).run_under(&strace(&trace)).succeeded();
    std::fs::read_to_string(&trace).unwrap().lines().filter(|line| line.contains("sync")).count()
}

/// Two addresses at once: their entries, the directory of the entries, the directories of the
/// names. A third address is claimed alone.
#[test]
fn what_makes_an_add_durable_is_shared_by_two_addresses() {
    if !Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|ended| ended.status.success())
    {
        skipped!("strace is missing or may not trace");
        return;
    }
    for (count, add) in [(1, 3), (2, 5), (3, 8), (4, 10)] {
        let (sandbox, ipam) = (Sandbox::new(), ranges(count));
        // Creates the directories.
        call(&sandbox, "ADD", "first", &ipam).run().succeeded();
        let syncs = ["ADD", "ADD", "DEL", "DEL"].map(|verb| {
            let syncs = syncs(&sandbox, verb, "second", &ipam);
            assert_eq!(sandbox.held().len(), if verb == "ADD" { 2 * count } else { count });
            syncs
        });
        assert_eq!(syncs, [add, count, count, 0], "{count} addresses");
    }
    // One directory of names is flushed once.
    let (sandbox, ipam) =
        (Sandbox::new(), r#""ipRanges":[{"range":"10.0.0.0/28"},{"range":"10.0.0.16/28"}]"#);
    call(&sandbox, "ADD", "first", ipam).run().succeeded();
    assert_eq!(["ADD", "DEL"].map(|verb| syncs(&sandbox, verb, "second", ipam)), [4, 1]);
}

/// Returns the system calls of a call in order: those of these kinds, or all.
fn traced(sandbox: &Sandbox, verb: &str, container: &str, ipam: &str, kinds: &str) -> Vec<String> {
    let trace = sandbox.path("trace");
    let words = ["strace", "-f", "-qq", "-e", kinds, "-o", trace.to_str().unwrap()];
    call(sandbox, verb, container, ipam).run_under(&words).succeeded();
    std::fs::read_to_string(&trace).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// Returns the number of flushes for each time that the store's lock was held: from flock(2) to the
/// close of its descriptor, which has a high number.
fn flushes_under_lock(calls: &[String]) -> Vec<usize> {
    let descriptor = |line: &str, call: &str| {
        line.split_once(call)?.1.split([',', ')']).next()?.parse::<u32>().ok()
    };
    let (mut held, mut counts) = (None, Vec::new());
    for line in calls {
        if let Some(lock) = descriptor(line, "flock(") {
            held = Some(lock);
            counts.push(0);
        } else if held.is_some() && descriptor(line, "close(") == held {
            held = None;
        } else if line.contains("fsync(") && held.is_some() {
            *counts.last_mut().unwrap() += 1;
        }
    }
    counts
}

/// The ADD of another network waits for the flush of two entries and their directory, however many
/// addresses an ADD takes. Each address costs no more than a single one.
#[test]
fn an_add_of_sixteen_lets_others_in_after_two_and_costs_no_more_than_sixteen() {
    if !Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|ended| ended.status.success())
    {
        skipped!("strace is missing or may not trace");
        return;
    }
    let (sandbox, one, sixteen) = (Sandbox::new(), ranges(1), ranges(16));
    call(&sandbox, "ADD", "first", &sixteen).run().succeeded();
    let locks = |verb: &str| {
        flushes_under_lock(&traced(&sandbox, verb, "c16", &sixteen, "trace=flock,fsync,close"))
    };
    assert_eq!(locks("ADD"), [3; 8]);
    assert_eq!(locks("DEL"), [2; 8]);
    for verb in ["ADD", "DEL"] {
        let alone = traced(&sandbox, verb, "c1", &one, "trace=all").len();
        let all = traced(&sandbox, verb, "c16", &sixteen, "trace=all").len();
        println!("{verb}: {alone} system calls for one address, {all} for sixteen");
        assert!(all <= 16 * alone, "{verb}: {alone} {all}");
    }
    let flushes = |verb: &str| traced(&sandbox, verb, "c16", &sixteen, "trace=fsync").len();
    assert_eq!([flushes("ADD"), flushes("DEL")], [40, 16]);
}

/// Returns how often a call syncs on an overlay.
fn syncs_of_shared(overlay: &Overlay, verb: &str, container: &str) -> usize {
    let trace = overlay.sandbox.path("trace");
    let inside = overlay.inside();
    let words: Vec<&str> =
        strace(&trace).into_iter().chain(inside.iter().map(String::as_str)).collect();
    overlay.verb(verb, container, &ranges(1)).run_under(&words).succeeded();
    std::fs::read_to_string(&trace).unwrap().lines().filter(|line| line.contains("sync(")).count()
}

/// One more flush after the name was created, at a repeat, and after the name was removed: see
/// `docs/store.md`, "What is assumed of the filesystem".
#[test]
fn a_filesystem_that_machines_share_costs_one_flush_more() {
    let can_trace = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|ended| ended.status.success());
    let Some(shared) = Overlay::new().filter(|_| can_trace) else {
        skipped!("no strace, or no overlay can be mounted");
        return;
    };
    shared.init();
    syncs_of_shared(&shared, "ADD", "first");
    let counts = ["ADD", "ADD", "DEL", "DEL"].map(|verb| syncs_of_shared(&shared, verb, "second"));
    assert_eq!(counts, [4, 2, 2, 0]);
}

#[test]
fn a_repeated_add_writes_nothing() {
    for count in 1..=2 {
        let (sandbox, ipam) = (Sandbox::new(), ranges(count));
        let first = call(&sandbox, "ADD", "c1", &ipam).run();
        let before = state(&sandbox);
        assert_eq!(call(&sandbox, "ADD", "c1", &ipam).run().addresses(), first.addresses());
        assert_eq!(state(&sandbox), before);
    }
}

#[test]
fn a_del_of_nothing_writes_nothing() {
    let (sandbox, ipam) = (Sandbox::new(), ranges(1));
    call(&sandbox, "DEL", "c1", &ipam).run().succeeded();
    assert_eq!(state(&sandbox), BTreeMap::new(), "a store was made");

    for container in ["c1", "c2"] {
        call(&sandbox, "ADD", container, &ipam).run().succeeded();
    }
    call(&sandbox, "DEL", "c1", &ipam).run().succeeded();
    let before = state(&sandbox);
    for container in ["c1", "never-added"] {
        call(&sandbox, "DEL", container, &ipam).run().succeeded();
        assert_eq!(state(&sandbox), before, "{container}");
    }
}

/// No ADD checks for `@tmp`, which hardly any ADD needs: a call that writes a hint creates it. On a
/// node with a machine id it exists since the first ADD; on a node without one it does not.
#[test]
fn a_hint_is_written_by_a_node_that_has_no_directory_for_it() {
    let sandbox = Sandbox::new();
    let full = FileStore::new(sandbox.store(), conformance::host("n1"));
    for number in 0..6 {
        let record = conformance::record("n1", &format!("c{number}"), None);
        assert!(
            conformance::claim(conformance::open(&full).as_mut(), "10.0.0.0/29", &record).is_some()
        );
    }
    let store = FileStore::new(
        sandbox.store(),
        NodeIdentity { machine_id: None, ..conformance::host("n2") },
    );
    let record = conformance::record("n2", "late", None);
    assert!(
        conformance::claim(conformance::open(&store).as_mut(), "10.0.0.0/29", &record).is_none()
    );
    assert!(sandbox.files().contains(&"scopes/@/exhausted".to_owned()), "{:?}", sandbox.files());
}
