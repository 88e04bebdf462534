//! What a call may cost: how often it syncs, counted by strace in the real
//! executable, and which calls leave every file and directory of the store as
//! it was. How long that takes is measured by `scripts/bench`.

use crate::conformance;
use crate::support::overlay::Overlay;
use crate::support::sandbox::{Call, Sandbox, configuration};
use hereabouts::store::file::{FileStore, Host};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The keys of an `ipam` with so many ranges, of which an ADD gets one address
/// each.
fn ranges(count: usize) -> String {
    let ranges: Vec<String> = (0..count).map(|number| format!(r#"{{"range":"10.{number}.0.0/24"}}"#)).collect();
    format!(r#""ipRanges":[{}]"#, ranges.join(","))
}

/// Inode, mode, size and times of everything in the store. Whatever is written
/// changes one of them: the kernel keeps the last one itself.
fn state(sandbox: &Sandbox) -> BTreeMap<PathBuf, [i128; 6]> {
    fn walk(path: &Path, found: &mut BTreeMap<PathBuf, [i128; 6]>) {
        let Ok(seen) = path.symlink_metadata() else { return };
        let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let (written, changed) = (time(seen.mtime(), seen.mtime_nsec()), time(seen.ctime(), seen.ctime_nsec()));
        let kind = [i128::from(seen.ino()), i128::from(seen.mode()), i128::from(seen.nlink()), i128::from(seen.size())];
        found.insert(path.to_owned(), [kind[0], kind[1], kind[2], kind[3], written, changed]);
        for entry in std::fs::read_dir(path).into_iter().flatten() {
            walk(&entry.unwrap().path(), found);
        }
    }
    let mut found = BTreeMap::new();
    walk(&sandbox.store(), &mut found);
    found
}

/// A call of one container, in this process's own network namespace: a sandbox
/// that is alive.
fn call(sandbox: &Sandbox, verb: &str, container: &str, ipam: &str) -> Call {
    let mut call = sandbox.call(verb);
    call.set("CNI_CONTAINERID", container)
        .set("CNI_NETNS", format!("/proc/{}/ns/net", std::process::id()))
        .set("CNI_NETNS_OVERRIDE", "1")
        .set("CNI_ARGS", format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};K8S_POD_UID=u"))
        .stdin(configuration(ipam));
    call
}

/// strace, writing the calls that sync to a file.
fn strace(trace: &Path) -> Vec<&str> {
    let calls = "trace=fsync,fdatasync,sync_file_range,syncfs,sync";
    vec!["strace", "-f", "-qq", "-e", calls, "-o", trace.to_str().unwrap()]
}

/// How often a call syncs.
fn syncs(sandbox: &Sandbox, verb: &str, container: &str, ipam: &str) -> usize {
    let trace = sandbox.path("trace");
    call(sandbox, verb, container, ipam).run_under(&strace(&trace)).succeeded();
    std::fs::read_to_string(&trace).unwrap().lines().filter(|line| line.contains("sync")).count()
}

#[test]
fn an_add_syncs_three_times_an_address_and_a_del_once_an_address() {
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|ended| ended.status.success()) {
        println!("SKIPPED an_add_syncs_three_times_an_address_and_a_del_once_an_address: strace is missing or may not trace");
        return;
    }
    for count in 1..=3 {
        let (sandbox, ipam) = (Sandbox::new(), ranges(count));
        // Makes the directories.
        call(&sandbox, "ADD", "first", &ipam).run().succeeded();
        let add = syncs(&sandbox, "ADD", "second", &ipam);
        assert_eq!(sandbox.held().len(), 2 * count);
        let again = syncs(&sandbox, "ADD", "second", &ipam);
        let del = syncs(&sandbox, "DEL", "second", &ipam);
        assert_eq!(sandbox.held().len(), count);
        let nothing = syncs(&sandbox, "DEL", "second", &ipam);
        println!("{count} addresses: ADD {add} syncs, the same again {again}, DEL {del}, the same again {nothing}");
        assert_eq!((add, again, del, nothing), (3 * count, count, count, 0));
    }
}

/// How often a call syncs on an overlay.
fn syncs_of_shared(overlay: &Overlay, verb: &str, container: &str) -> usize {
    let trace = overlay.sandbox.path("trace");
    let inside = overlay.inside();
    let words: Vec<&str> = strace(&trace).into_iter().chain(inside.iter().map(String::as_str)).collect();
    overlay.verb(verb, container, &ranges(1)).run_under(&words).succeeded();
    std::fs::read_to_string(&trace).unwrap().lines().filter(|line| line.contains("sync(")).count()
}

/// One more after the name was made, at a repeat, and after it was removed: see
/// `docs/store.md`, "What is assumed of the filesystem".
#[test]
fn a_filesystem_that_machines_share_costs_one_flush_more() {
    let can_trace = Command::new("strace").args(["-o", "/dev/null", "true"]).output().is_ok_and(|ended| ended.status.success());
    let Some(shared) = Overlay::new().filter(|_| can_trace) else {
        println!("SKIPPED a_filesystem_that_machines_share_costs_one_flush_more: no strace, or no overlay can be mounted");
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

/// No ADD looks for `@tmp`, which hardly any needs: whoever writes a hint there
/// makes it. A node with a machine id has it from its first ADD; one without
/// does not.
#[test]
fn a_hint_is_written_by_a_node_that_has_no_directory_for_it() {
    let sandbox = Sandbox::new();
    let full = FileStore::new(sandbox.store(), conformance::host("n1"));
    for number in 0..6 {
        let draft = conformance::draft("n1", &format!("c{number}"), None);
        assert!(conformance::claim(conformance::open(&full).as_mut(), "10.0.0.0/29", &draft).is_some());
    }
    let store = FileStore::new(sandbox.store(), Host { machine_id: None, ..conformance::host("n2") });
    let draft = conformance::draft("n2", "late", None);
    assert!(conformance::claim(conformance::open(&store).as_mut(), "10.0.0.0/29", &draft).is_none());
    assert!(sandbox.files().contains(&"scopes/@/exhausted".to_owned()), "{:?}", sandbox.files());
}
