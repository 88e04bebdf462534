//! A client of a shared filesystem that caches names refuses a link to a name that another node has
//! removed, as long as the cache is valid. Seen on GlusterFS with default mount options: an ADD
//! right after the DEL of another node tried the same name some 500 times, for a second, while it
//! held the lock. With a longer entry timeout it would never have ended. Such a name is skipped.

use crate::conformance::{candidates, claim, host, open, record};
use crate::support::disk::{Faults, FaultyDisk};
use crate::support::sandbox::{Sandbox, configuration};
use hereabouts::ipam::{Record, Scope};
use hereabouts::retry::Deadline;
use hereabouts::store::file::FileStore;
use hereabouts::store::{Access, Claim, Rehome, Store, StoreError};
use std::time::Duration;

fn store(sandbox: &Sandbox, refuses: (&'static str, usize)) -> FileStore<FaultyDisk> {
    let faults = Faults { refuses: Some(refuses), shared: true, ..Faults::default() };
    FileStore::on(FaultyDisk::new(sandbox.store(), faults), host("n1"))
}

#[test]
fn a_name_that_is_refused_though_listed_as_free_is_tried_once_and_the_next_taken() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox, ("10.0.0.1", 1000));
    let held = claim(open(&store).as_mut(), "10.0.0.0/29", &record("n1", "c1", None)).unwrap();
    assert_eq!(held.address.to_string(), "10.0.0.2");
    assert_eq!(store.disk().refused(), 1);
    assert_eq!(sandbox.files().iter().filter(|path| path.contains("c1@")).count(), 1);
}

#[test]
fn a_range_is_not_full_while_its_last_name_is_refused_and_listed_as_free() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox, ("10.0.0.6", 3));
    let mut session = open(&store);
    for n in 1..=6 {
        let held =
            claim(session.as_mut(), "10.0.0.0/29", &record("n1", &format!("c{n}"), None)).unwrap();
        assert_eq!(held.address.to_string(), format!("10.0.0.{n}"));
    }
    assert_eq!(store.disk().refused(), 3);
    assert!(claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c7", None)).is_none());
}

#[test]
fn a_name_that_stays_refused_ends_at_the_deadline() {
    let sandbox = Sandbox::new();
    let store = store(&sandbox, ("10.0.0.6", usize::MAX));
    let mut session =
        store.open(Access::Allocate, Deadline::after(Duration::from_millis(300))).unwrap();
    let one = candidates("10.0.0.6/32");
    match session.claim(&Scope::default(), &one, &record("n1", "c1", None)) {
        Err(StoreError::OldView { path, .. }) => assert!(path.ends_with("scopes/@")),
        Err(other) => panic!("{other}"),
        Ok(Claim::Claimed(allocation)) => panic!("{allocation:?}"),
        Ok(Claim::Full) => panic!("it is not full"),
    }
}

/// What a client of a shared filesystem opens from its cache may be gone when it reads. Seen on
/// GlusterFS: a GC during the DEL of another call failed with "stale file handle" and did not
/// complete the rest of its work.
#[test]
fn a_record_that_goes_between_its_opening_and_its_reading_is_passed_over() {
    if let Some(reason) = no_strace() {
        skipped!("{reason}");
        return;
    }
    let sandbox = Sandbox::new();
    let range = r#""range":"10.0.0.0/29""#;
    sandbox.add("c1", range).succeeded();
    sandbox.add("c2", range).succeeded();
    let entry = sandbox.store().join("nodes/n1/net1/c1@net1.0");
    let mut gc = sandbox.call("GC");
    gc.unset("CNI_CONTAINERID").unset("CNI_NETNS").unset("CNI_IFNAME");
    gc.stdin(configuration(range).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1));
    gc.clone().through(&stale(&entry)).run().succeeded();
    assert_eq!(
        sandbox.held(),
        ["10.0.0.1"],
        "the one that could not be read stays, the other is freed"
    );
    gc.run().succeeded();
    assert!(sandbox.held().is_empty());
}

/// The same for a name that another holder has now. Seen as an ADD that failed because another
/// holder's address was being freed.
#[test]
fn an_entry_whose_name_another_holds_and_frees_is_a_dangling_one() {
    if let Some(reason) = no_strace() {
        skipped!("{reason}");
        return;
    }
    let sandbox = Sandbox::new();
    let range = r#""range":"10.0.0.0/29""#;
    sandbox.add("c1", range).succeeded();
    let name = sandbox.store().join("scopes/@/10.0.0.0_24/10.0.0.1");
    std::fs::remove_file(&name).unwrap();
    sandbox.add("c2", range).succeeded();
    let mut add = sandbox.call("ADD");
    add.set("CNI_CONTAINERID", "c1").stdin(configuration(range)).through(&stale(&name));
    assert_eq!(add.run().addresses(), ["10.0.0.2"]);
}

/// A client of CephFS (16, ceph-fuse) that replaces a hard link by a file reports the other links
/// of the old file as gone, for minutes. Cause: the re-homing of an attachment to itself left its
/// old entry, number 0, below the new one. A lookup upwards ended at 0, DEL found nothing, and the
/// address leaked. Fix: the new entry takes the old one's place.
#[test]
fn an_attachment_that_was_re_homed_to_itself_has_one_entry_the_lowest() {
    let sandbox = Sandbox::new();
    let store = FileStore::new(sandbox.store(), host("n1"));
    let mut session = open(&store);
    let old = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", None)).unwrap();
    let to = Record { boot_id: "tomorrow".to_owned(), ..old.record.clone() };
    assert!(matches!(session.rehome(&old, &to).unwrap(), Rehome::Done(_)));
    let files = sandbox.files();
    let entries: Vec<&String> = files.iter().filter(|path| path.contains("c1@")).collect();
    assert_eq!(entries, ["nodes/n1/net1/c1@eth0.0"]);
}

/// Makes every read of a file fail, as if the server no longer had it.
fn stale(path: &std::path::Path) -> Vec<String> {
    let words = "strace -f -qq -o /dev/null -e trace=read -e inject=read:error=ESTALE -P";
    words.split(' ').map(str::to_owned).chain([path.display().to_string()]).collect()
}

fn no_strace() -> Option<&'static str> {
    std::process::Command::new("strace")
        .arg("--version")
        .output()
        .is_err()
        .then_some("there is no strace")
}
