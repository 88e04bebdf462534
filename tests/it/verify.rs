//! `verify` names what is wrong and changes nothing. `repair` repairs it and frees no address. Each
//! way in which a store can be damaged, on a real one.

/// A million records.
mod many;

use crate::conformance::{claim, host, record};
use crate::support::disk::{Faults, FaultyDisk};
use crate::support::sandbox::{Call, Sandbox, configuration};
use crate::support::stopped::{Moment, Stopped, Waiting, has_strace};
use hereabouts::ipam::Record;
use hereabouts::retry::Deadline;
use hereabouts::store::file::FileStore;
use hereabouts::store::file::upkeep::finding::{FileFinding, Problem};
use hereabouts::store::file::upkeep::repair::Repaired;
use hereabouts::store::node_identity::NodeIdentity;
use hereabouts::store::{Access, Rehome, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const RANGE: &str = r#""range":"10.1.2.0/24""#;
const TWO: &str = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"10.1.3.0/24"}]"#;
const POD: &str = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u1";

/// `c1` holds 10.1.2.1 for a pod, `c2` holds 10.1.2.2 and 10.1.3.1.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox
        .call("ADD")
        .set("CNI_CONTAINERID", "c1")
        .set("CNI_ARGS", POD)
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    sandbox.add("c2", TWO).succeeded();
    sandbox
}

/// Returns problem and path of all findings.
fn findings(sandbox: &Sandbox) -> Vec<(String, String)> {
    let ended = sandbox.command(&["verify", "-o", "json"]);
    let found = ended.document()["findings"].as_array().unwrap().clone();
    assert_eq!(ended.status, Some(i32::from(!found.is_empty())), "{ended:?}");
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    found.iter().map(|finding| (text(finding, "problem"), text(finding, "path"))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(problem, path)| ((*problem).to_owned(), (*path).to_owned())).collect()
}

/// Returns inode, links, size and times of everything below a directory.
fn state(directory: &Path) -> BTreeMap<PathBuf, (u64, u64, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::symlink_metadata(&path).unwrap();
        found.insert(
            path.clone(),
            (data.ino(), data.nlink(), data.size(), data.mtime(), data.ctime()),
        );
        if data.is_dir() {
            found.extend(state(&path));
        }
    }
    found
}

/// A damage to a store, and what is found then.
struct Damage {
    done: fn(&Path),
    found: &'static [(&'static str, &'static str)],
    /// Whether `repair` repairs it.
    repaired: bool,
}

const C1: &str = "nodes/n1/net1/c1@net1.0";
const NAME: &str = "scopes/@/10.1.2.0_24/10.1.2.1";
const POD_ENTRY: &str = "nodes/n1/@pods/net1/default%2Fweb-0@net1.0";

fn copy_in_place(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Makes two tests of each damage: `verify` names it, `repair` repairs what it can.
macro_rules! damages {
    ($($(#[$doc:meta])* $name:ident: $damage:expr,)*) => {
        $($(#[$doc])* fn $name() -> Damage { $damage })*

        mod is_named_and_nothing_is_changed_by_looking {
            $(#[test] fn $name() { super::check_named(&super::$name()) })*
        }
        mod is_repaired_where_it_can_be_and_nothing_is_freed {
            $(#[test] fn $name() { super::check_repaired(&super::$name()) })*
        }
    };
}

damages! {
    nothing_is_damaged: Damage { done: |_| {}, found: &[], repaired: true },
    an_empty_record: Damage { done: |store| fs::write(store.join(NAME), "").unwrap(), found: &[("damaged-record", NAME)], repaired: false },
    a_record_under_the_name_of_another_address: Damage {
        done: |store| {
            fs::rename(store.join(NAME), store.join("scopes/@/10.1.2.0_24/10.1.2.9")).unwrap();
        },
        found: &[("damaged-record", "scopes/@/10.1.2.0_24/10.1.2.9")],
        repaired: false,
    },
    a_record_of_a_newer_format: Damage {
        done: |store| {
            let text = fs::read_to_string(store.join(NAME)).unwrap();
            fs::write(store.join(NAME), text.replacen('{', r#"{"format":2,"#, 1)).unwrap();
        },
        found: &[("newer-record", NAME)],
        repaired: false,
    },
    a_record_without_its_index_entry: Damage { done: |store| fs::remove_file(store.join(C1)).unwrap(), found: &[("not-in-index", NAME)], repaired: true },
    /// An entry that no lookup reaches, because it stops at the gap.
    an_index_entry_beyond_a_gap: Damage {
        done: |store| fs::rename(store.join("nodes/n1/net1/c2@net1.1"), store.join("nodes/n1/net1/c2@net1.2")).unwrap(),
        found: &[("not-in-index", "scopes/@/10.1.3.0_24/10.1.3.1")],
        repaired: true,
    },
    an_index_entry_that_is_a_copy: Damage { done: |store| copy_in_place(&store.join(C1)), found: &[("split-link", C1)], repaired: true },
    a_record_that_is_a_copy: Damage { done: |store| copy_in_place(&store.join(NAME)), found: &[("split-link", POD_ENTRY), ("split-link", C1)], repaired: true },
    a_record_that_is_removed: Damage {
        done: |store| fs::remove_file(store.join(NAME)).unwrap(),
        found: &[("dangling-entry", C1), ("dangling-pod-entry", POD_ENTRY)],
        repaired: true,
    },
    an_index_entry_that_is_garbage: Damage {
        done: |store| fs::write(store.join("nodes/n1/net1/c9@net1.0"), "{").unwrap(),
        found: &[("dangling-entry", "nodes/n1/net1/c9@net1.0")],
        repaired: true,
    },
    /// Removed by hand, as the message for a damaged record once advised.
    a_damaged_record_that_is_removed: Damage {
        done: |store| {
            fs::write(store.join(NAME), "garbage").unwrap();
            fs::remove_file(store.join(NAME)).unwrap();
        },
        found: &[("dangling-entry", C1), ("dangling-pod-entry", POD_ENTRY)],
        repaired: true,
    },
    a_file_of_a_killed_call: Damage {
        done: |store| fs::write(store.join("nodes/n1/@tmp/1.2"), "").unwrap(),
        found: &[("temporary-file", "nodes/n1/@tmp/1.2")],
        repaired: true,
    },
    a_hint_that_a_free_address_is_held: Damage {
        done: |store| fs::write(store.join("scopes/@/full"), "4 a0102 a0102 3 0 0 0\n4 a0103 a0103 2 0 0 0\n").unwrap(),
        found: &[("wrong-hint", "scopes/@/full")],
        repaired: true,
    },
    a_hint_that_is_true: Damage { done: |store| fs::write(store.join("scopes/@/full"), "4 a0102 a0102 6 0 0 0\n").unwrap(), found: &[], repaired: true },
    files_of_somebody_else: Damage {
        done: |store| {
            fs::write(store.join("notes.txt"), "").unwrap();
            fs::write(store.join("scopes/@/10.1.2.0_24/10.1.2.9.swp"), "").unwrap();
            fs::write(store.join("nodes/n1/net1/readme"), "").unwrap();
            std::os::unix::fs::symlink("/", store.join("scopes/@/10.1.4.0_24")).unwrap();
        },
        found: &[
            ("foreign-file", "nodes/n1/net1/readme"),
            ("foreign-file", "notes.txt"),
            ("foreign-file", "scopes/@/10.1.2.0_24/10.1.2.9.swp"),
            ("foreign-file", "scopes/@/10.1.4.0_24"),
        ],
        repaired: false,
    },
    two_records_of_one_part: Damage {
        done: |store| {
            let text = fs::read_to_string(store.join(NAME)).unwrap().replace("10.1.2.1\"", "10.1.2.7\"");
            fs::write(store.join("scopes/@/10.1.2.0_24/10.1.2.7"), text).unwrap();
            fs::hard_link(store.join("scopes/@/10.1.2.0_24/10.1.2.7"), store.join("nodes/n1/net1/c1@net1.1")).unwrap();
        },
        found: &[("two-records", "scopes/@/10.1.2.0_24/10.1.2.7")],
        repaired: false,
    },
    no_format: Damage { done: |store| fs::remove_file(store.join("format")).unwrap(), found: &[("format", "format")], repaired: false },
    a_format_that_is_garbage: Damage { done: |store| fs::write(store.join("format"), "{}").unwrap(), found: &[("format", "format")], repaired: false },
}

fn check_named(damage: &Damage) {
    let sandbox = sandbox();
    (damage.done)(&sandbox.store());
    let before = state(&sandbox.store());
    assert_eq!(findings(&sandbox), pairs(damage.found));
    let ended = sandbox.command(&["verify"]);
    for (problem, path) in damage.found {
        assert!(
            ended.stdout.contains(&format!(" x {problem}: "))
                && ended.stdout.contains(&format!("\n  {path}")),
            "{ended:?}"
        );
    }
    assert_eq!(state(&sandbox.store()), before);
}

fn check_repaired(damage: &Damage) {
    let sandbox = sandbox();
    (damage.done)(&sandbox.store());
    let records = |sandbox: &Sandbox| sandbox.command(&["list", "-o", "json"]).stdout;
    let (before, names) = (records(&sandbox), state(&sandbox.store().join("scopes")));
    let ended = sandbox.command(&["repair", "--yes"]);
    let left = if damage.repaired { Vec::new() } else { pairs(damage.found) };
    assert_eq!(findings(&sandbox), left, "{ended:?}");
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(records(&sandbox), before);
    if damage.repaired {
        assert!(state(&sandbox.store().join("scopes")).keys().all(|path| names.contains_key(path)));
        // Each holder finds what it holds.
        sandbox.del("c1", RANGE).succeeded();
        sandbox.del("c2", TWO).succeeded();
        assert_eq!((sandbox.held(), findings(&sandbox)), (Vec::new(), Vec::new()));
    }
}

#[test]
fn repair_asks_first_and_leaves_what_is_another_nodes() {
    let sandbox = sandbox();
    fs::remove_file(sandbox.store().join(C1)).unwrap();
    let ended = sandbox.command(&["repair"]);
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("will repair:") && ended.stderr.contains("pass --yes"),
        "{ended:?}"
    );
    sandbox.become_another_machine("n1", "n2");
    let ended = sandbox.command(&["repair", "--yes"]);
    assert!(
        ended.stderr.contains("cannot be repaired here:")
            && ended.stderr.contains("nothing to repair"),
        "{ended:?}"
    );
    assert_eq!(findings(&sandbox), pairs(&[("not-in-index", NAME)]));
}

#[test]
fn an_unreadable_format_stops_the_verbs_and_says_what_to_do() {
    let sandbox = sandbox();
    fs::write(sandbox.store().join("format"), "{}").unwrap();
    let ended = sandbox.add("c3", RANGE);
    assert_eq!(ended.code(), 104);
    assert!(ended.details().contains("while no pod starts or ends, remove the file"), "{ended:?}");
    fs::remove_file(sandbox.store().join("format")).unwrap();
    assert_eq!(sandbox.add("c3", RANGE).addresses(), ["10.1.2.3"]);
    assert_eq!(findings(&sandbox), []);
}

/// A running pod may hold it.
#[test]
fn a_record_of_a_later_version_is_not_released_as_a_damaged_one() {
    let sandbox = sandbox();
    let text = fs::read_to_string(sandbox.store().join(NAME)).unwrap();
    fs::write(sandbox.store().join(NAME), text.replacen('{', r#"{"format":2,"#, 1)).unwrap();
    let ended = sandbox.command(&["release", "10.1.2.1", "--yes"]);
    assert!(
        ended.status == Some(1) && ended.stderr.contains("install a newer hereabouts"),
        "{ended:?}"
    );
    assert_eq!(findings(&sandbox), pairs(&[("newer-record", NAME)]));
}

/// Between the check and the locks, everything may have changed.
#[test]
fn what_is_no_longer_so_is_neither_repaired_nor_released() {
    let sandbox = sandbox();
    let store = FileStore::new(sandbox.store(), NodeIdentity { machine_id: None, ..host("n1") });
    let deadline = Deadline::after(Duration::from_secs(20));
    let before = state(&sandbox.store());
    let finding = |problem, path: &str| FileFinding {
        problem,
        path: path.into(),
        other: None,
        reason: String::new(),
    };
    for (problem, path) in [
        (Problem::Unindexed, NAME),
        (Problem::Split, C1),
        (Problem::DanglingEntry, C1),
        (Problem::DanglingPodEntry, POD_ENTRY),
        (Problem::Temporary, "nodes/n1/@tmp/1.2"),
        (Problem::WrongHint, "scopes/@/full"),
    ] {
        assert_eq!(
            store.repair(&finding(problem, path), deadline).unwrap(),
            Repaired::Gone,
            "{path}"
        );
    }
    assert!(!store.release_damaged(Path::new(NAME), deadline).unwrap());
    assert_eq!(state(&sandbox.store()), before);
}

#[test]
fn a_damaged_record_names_its_holder_and_is_released_by_hand() {
    let sandbox = sandbox();
    fs::write(sandbox.store().join(NAME), "garbage").unwrap();
    let found = sandbox.command(&["verify", "-o", "json"]).document()["findings"][0].clone();
    assert_eq!((&found["other"], &found["node"]), (&json!(C1), &json!("n1")));
    assert!(
        sandbox
            .command(&["verify"])
            .stdout
            .ends_with("read 2 records and 4 index entries, format 1\n")
    );
    let ended = sandbox.command(&["show", "10.1.2.1"]);
    assert!(
        ended.status == Some(1)
            && ended.stderr.contains("this address is taken, but its record is unreadable"),
        "{ended:?}"
    );
    // It belongs to another node: only with --node.
    sandbox.become_another_machine("n1", "n2");
    let ended = sandbox.command(&["release", "10.1.2.1", "--yes"]);
    assert!(
        ended.status == Some(1) && ended.stderr.contains("is held by another node: n1"),
        "{ended:?}"
    );
    sandbox.command(&["release", "10.1.2.1", "--node", "n1", "--yes"]).succeeded();
    assert_eq!(findings(&sandbox), []);
    assert_eq!(sandbox.held(), ["10.1.2.2", "10.1.3.1"]);
    assert_eq!(sandbox.add("c3", RANGE).addresses(), ["10.1.2.1"]);
}

/// Cause: its index entry was removed below that of the other address. Effect: the lookup stopped
/// at the gap, and no DEL found the other address any more. Fix: the highest entry moves to the
/// place of the one that is removed.
#[test]
fn the_other_address_of_a_damaged_record_that_was_released_is_found() {
    let sandbox = sandbox();
    fs::write(sandbox.store().join("scopes/@/10.1.2.0_24/10.1.2.2"), "garbage").unwrap();
    sandbox.command(&["release", "10.1.2.2", "--yes"]).succeeded();
    assert_eq!(findings(&sandbox), []);
    assert_eq!(sandbox.held(), ["10.1.2.1", "10.1.3.1"]);
    sandbox.call("DEL").set("CNI_CONTAINERID", "c2").stdin(configuration(RANGE)).run().succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
}

/// It is checked again under the lock: every ADD begins with an index entry without a name.
#[test]
fn an_add_in_progress_is_no_dangling_entry() {
    if !has_strace() {
        skipped!("no strace");
        return;
    }
    for (command, ends) in [
        (&["verify"][..], ""),
        (&["repair", "--yes"], "nothing to repair"),
        (&["sweep", "--yes"], "nothing to sweep"),
    ] {
        let sandbox = Sandbox::new();
        let living = sandbox
            .call("ADD")
            .set("CNI_NETNS", "/proc/self/ns/net")
            .set("CNI_NETNS_OVERRIDE", "true")
            .stdin(configuration(RANGE))
            .clone();
        living.clone().set("CNI_CONTAINERID", "c1").run().succeeded();
        let entry =
            Moment::new("fsync", sandbox.store().join("nodes/n1/net1").display().to_string());
        let add = Stopped::after(living.clone().set("CNI_CONTAINERID", "c2"), &entry);
        assert!(sandbox.files().contains(&"nodes/n1/net1/c2@net1.0".to_owned()));
        let mut looker = Call::bare();
        looker.set("HEREABOUTS_CONFIG", sandbox.path("flat.conf"));
        looker.args = command.iter().map(|word| (*word).to_owned()).collect();
        let looker = Waiting::start(&looker);
        assert_eq!(add.go_on().addresses(), ["10.1.2.2"]);
        let ended = looker.end();
        assert!(ended.status == Some(0) && ended.stderr.contains(ends), "{command:?} {ended:?}");
        assert_eq!(sandbox.held(), ["10.1.2.1", "10.1.2.2"]);
    }
}

/// An address that is re-homed, to the sandbox itself after a boot or to another sandbox of its
/// pod, leaves no entry of the old record in either index.
#[test]
fn a_move_leaves_nothing_to_find() {
    let sandbox = Sandbox::new();
    for to in ["c1", "c2"] {
        let store = FileStore::on(FaultyDisk::new(sandbox.path(to), Faults::default()), host("n1"));
        let deadline = || Deadline::after(Duration::from_secs(20));
        let mut session = store.open(Access::Allocate, deadline()).unwrap();
        let old = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", Some("web"))).unwrap();
        let moved = Record { boot_id: "tomorrow".to_owned(), ..record("n1", to, Some("web")) };
        assert!(matches!(session.rehome(&old, &moved).unwrap(), Rehome::Done(_)));
        drop(session);
        let found = store.verify(deadline()).unwrap().findings;
        assert!(
            found.is_empty(),
            "{to}: {:?}",
            found.iter().map(|finding| &finding.path).collect::<Vec<_>>()
        );
    }
}

/// If no lock excludes the other nodes, a finding has existed for as long as a call may take.
#[test]
fn on_a_shared_filesystem_a_dangling_entry_is_one_that_stays() {
    let sandbox = sandbox();
    fs::write(sandbox.store().join("nodes/n1/net1/c9@net1.0"), "{").unwrap();
    let faults = Faults { shared: true, ..Faults::default() };
    let store = FileStore::on(FaultyDisk::new(sandbox.store(), faults), host("n2"));
    let start = Deadline::after(Duration::from_secs(2));
    let found = store.verify(Deadline::after(Duration::from_secs(20))).unwrap().findings;
    assert_eq!(
        found.iter().map(|finding| finding.problem.name()).collect::<Vec<_>>(),
        ["dangling-entry"]
    );
    assert!(start.left().is_zero(), "it was found before a call of another node could have ended");
}

#[test]
fn a_store_that_is_not_there_or_not_ours_is_told_apart() {
    let sandbox = Sandbox::new();
    let ended = sandbox.command(&["verify"]);
    assert!(ended.status == Some(0) && ended.stderr.contains("there is no store"), "{ended:?}");
    fs::create_dir_all(sandbox.store()).unwrap();
    fs::write(sandbox.store().join("format"), r#"{"format":9,"id":"x"}"#).unwrap();
    for command in [&["verify"][..], &["repair", "--yes"], &["sweep", "--yes"]] {
        let ended = sandbox.command(command);
        assert!(
            ended.status == Some(1) && ended.stderr.contains("install a newer hereabouts"),
            "{command:?} {ended:?}"
        );
    }
}
