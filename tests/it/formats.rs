//! Stored formats: a store of this version can be opened forever, with its links or copied without
//! them. What is written today is what is kept. A store of a newer version is refused by every verb
//! and command, with the advice what to install.
//!
//! `tests/data/store-format-1` was written by [`write_store`] and is never written again: a change
//! of it is a change of the format.

mod newer;
mod tree;
mod written;

use crate::support::sandbox::{Call, Sandbox, configuration};
use std::path::{Path, PathBuf};
use tree::{As, Tree};

const RANGE: &str = r#""range":"10.1.2.0/24","gateway":"10.1.2.1""#;
const DUAL: &str =
    r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"2001:db8::/64"}],"gateway":"10.1.2.1""#;
const BLUE: &str = r#""range":"10.1.2.0/24","network_name":"blue/green""#;
const STATIC: &str = r#""addresses":[{"address":"172.16.0.9/24","gateway":"172.16.0.1"}]"#;
const EDGE: &str = r#""range":"10.1.8.0/23","range_start":"10.1.8.254","range_end":"10.1.9.1""#;
const TINY: &str = r#""range":"10.1.16.0/30","network_name":"tiny""#;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store-format-1")
}

/// An id that is too long for a file name.
fn long_id() -> String {
    "0123456789abcdef".repeat(12)
}

fn call(sandbox: &Sandbox, verb: &str, container: &str, pod: &str, ipam: &str) -> Call {
    let mut call = sandbox.call(verb);
    call.set("CNI_CONTAINERID", container).set("CNI_ARGS", pod).stdin(configuration(ipam));
    call
}

/// Returns the holders in the store: container, pod, `ipam`, address.
fn holders() -> Vec<(String, &'static str, &'static str, &'static [&'static str])> {
    let web = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=9b1c";
    let asks = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=db-0;IP=10.1.2.77";
    vec![
        ("c1".to_owned(), web, RANGE, &["10.1.2.2"]),
        ("c2".to_owned(), "", DUAL, &["10.1.2.3", "2001:db8::1"]),
        ("c3".to_owned(), asks, RANGE, &["10.1.2.77"]),
        ("c4".to_owned(), "", BLUE, &["10.1.2.1"]),
        ("c5".to_owned(), "", STATIC, &["172.16.0.9"]),
        ("c6".to_owned(), "", EDGE, &["10.1.8.254"]),
        ("c7".to_owned(), "", EDGE, &["10.1.8.255"]),
        ("c8".to_owned(), "", EDGE, &["10.1.9.0"]),
        (long_id(), "", RANGE, &["10.1.2.4"]),
        ("c10".to_owned(), "", TINY, &["10.1.16.1"]),
        ("c11".to_owned(), "", TINY, &["10.1.16.2"]),
    ]
}

/// An address of the other node.
const OF_N2: &str = "10.1.2.5";

/// Writes everything that a store of this format can contain.
fn write_store(sandbox: &Sandbox) {
    for (container, pod, ipam, given) in holders() {
        let mut add = call(sandbox, "ADD", &container, pod, ipam);
        // A namespace that is not the plugin's own.
        if container == "c1" {
            add.set("CNI_NETNS", "/proc/self/ns/uts");
        }
        assert_eq!(add.run().addresses(), given, "{container}");
    }
    assert_eq!(call(sandbox, "ADD", "c12", "", TINY).run().code(), 100);
    let n2 = sandbox.write("n2.conf", &sandbox.flat("n2"));
    assert_eq!(
        call(sandbox, "ADD", "c9", "", RANGE).set("HEREABOUTS_CONFIG", n2).run().addresses(),
        [OF_N2]
    );
    // What killed calls leave: an entry without a name, an entry that is only partly written, a
    // file in @tmp.
    let store = sandbox.store();
    let record = std::fs::read_to_string(store.join("scopes/@/10.1.2.0_24/10.1.2.3")).unwrap();
    let nameless = record.replace("10.1.2.3", "10.1.2.50").replace("\"c2\"", "\"gone\"");
    std::fs::write(store.join("nodes/n1/net1/gone@net1.0"), &nameless).unwrap();
    std::fs::write(store.join("nodes/n1/net1/half@net1.0"), &nameless[..40]).unwrap();
    std::fs::write(store.join("nodes/n1/@tmp/77.1"), "").unwrap();
}

/// Replaces what follows `key` up to `end`.
fn set(text: &str, key: &str, end: char, value: &str) -> String {
    match text.split_once(key) {
        None => text.to_owned(),
        Some((head, tail)) => format!("{head}{key}{value}{}", &tail[tail.find(end).unwrap()..]),
    }
}

/// Removes an optional key, in which each machine writes its own values.
fn without_view(text: &str) -> String {
    match text
        .split_once(r#""view":"#)
        .and_then(|(head, tail)| Some((head, tail.split_once(r#","boot_id""#)?.1)))
    {
        Some((head, tail)) => format!(r#"{head}"boot_id"{tail}"#),
        None => text.to_owned(),
    }
}

/// Replaces what differs between machines and between times.
fn normalize(path: &str, text: &str) -> String {
    match path {
        "format" => set(text, "\"id\":\"", '"', "0123456789abcdef"),
        "nodes/n1/@machine-id" | "nodes/n2/@machine-id" => {
            "00000000000000000000000000000001\n".to_owned()
        }
        _ if path.ends_with("/exhausted") => {
            text.lines().map(|line| set(line, "", ' ', "1795231918") + "\n").collect()
        }
        _ => [
            ("\"boot_id\":\"", '"', "11111111-2222-4333-8444-555555555555"),
            ("\"since\":\"", '"', "2026-11-21T03:31:58.197431Z"),
            ("\"inode\":", ',', "4026532281"),
            ("\"directory_device\":", '}', "25"),
        ]
        .iter()
        .fold(without_view(text), |text, (key, end, value)| set(&text, key, *end, value)),
    }
}

/// Returns the tree in the repository. A machine without an id writes none.
fn kept() -> Tree {
    let mut tree = Tree::kept(&directory());
    tree.files
        .retain(|path, _| !path.ends_with("@machine-id") || Path::new("/etc/machine-id").exists());
    tree
}

/// Creates the kept store on this machine, as if this machine had written it.
fn open_kept(how: As) -> Sandbox {
    let sandbox = Sandbox::new();
    let mut tree = kept();
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    // n2 is another machine: in files, a name with this machine's id belongs to this machine.
    tree.map(
        |path, text| if path == "nodes/n1/@machine-id" { machine.clone() } else { text.to_owned() },
    );
    tree.lay_out(&sandbox.store(), how);
    sandbox
}

/// "address scope pod container node source" of each record, as listed.
fn rows(sandbox: &Sandbox, args: &[&str]) -> Vec<String> {
    let ended = sandbox.command(&[&["list", "-o", "json"], args].concat());
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let mut rows: Vec<String> = ended
        .document()
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            let text = |key: &str| {
                record[key].as_str().map_or_else(|| record[key].to_string(), ToOwned::to_owned)
            };
            let id =
                if text("container").len() < 20 { text("container") } else { "long".to_owned() };
            let pod = record["pod"]["name"].as_str().unwrap_or("-");
            format!(
                "{}/{} {} {pod} {id} {} {}",
                text("address"),
                text("prefix"),
                text("scope"),
                text("node"),
                text("source")
            )
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn what_is_written_today_is_what_is_kept() {
    let sandbox = Sandbox::new();
    write_store(&sandbox);
    let mut written = Tree::read(&sandbox.store());
    written.map(normalize);
    // Hints that stores of this format need not have.
    written.files.retain(|path, _| !path.contains("/gateway-"));
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/store-format-1");
    written.keep(&out);
    assert_eq!(written, kept(), "diff -r {} {}", directory().display(), out.display());
}

/// The content of the kept store.
const LISTED: &[&str] = &[
    "10.1.16.1/30 tiny - c10 n1 dynamic",
    "10.1.16.2/30 tiny - c11 n1 dynamic",
    "10.1.2.1/24 blue/green - c4 n1 dynamic",
    "10.1.2.2/24 null web-0 c1 n1 dynamic",
    "10.1.2.3/24 null - c2 n1 dynamic",
    "10.1.2.4/24 null - long n1 dynamic",
    "10.1.2.5/24 null - c9 n2 dynamic",
    "10.1.2.77/24 null db-0 c3 n1 requested",
    "10.1.8.254/23 null - c6 n1 dynamic",
    "10.1.8.255/23 null - c7 n1 dynamic",
    "10.1.9.0/23 null - c8 n1 dynamic",
    "172.16.0.9/24 null - c5 n1 static",
    "2001:db8::1/64 null - c2 n1 dynamic",
];

/// Runs a check for both forms of a store of this format.
fn each(check: impl Fn(&Sandbox)) {
    for how in [As::Written, As::Copied] {
        println!("{how:?}");
        check(&open_kept(how));
    }
}

#[test]
fn a_kept_store_is_listed_shown_and_counted() {
    each(|sandbox| {
        assert_eq!(rows(sandbox, &[]), LISTED);
        let of_n1: Vec<&str> = LISTED.iter().copied().filter(|row| row.contains(" n1 ")).collect();
        assert_eq!(rows(sandbox, &["--node", "n1"]), of_n1);
        let shown = sandbox.command(&["show", "10.1.2.2", "-o", "json"]);
        let expected = serde_json::json!([{
            "address": "10.1.2.2", "prefix": 24, "gateway": "10.1.2.1", "scope": null, "network": "net1",
            "pod": {"namespace": "default", "name": "web-0", "uid": "9b1c"},
            "interface": "net1", "container": "c1", "node": "n1", "netns": "/proc/self/ns/uts",
            "bootID": "11111111-2222-4333-8444-555555555555", "since": "2026-11-21T03:31:58Z", "source": "dynamic", "pools": [],
        }]);
        assert_eq!(shown.document(), expected);
        let file = sandbox.write("net.conf", &configuration(RANGE));
        let usage = sandbox.command(&[
            "usage",
            file.to_str().unwrap(),
            "--data-dir",
            sandbox.store().to_str().unwrap(),
            "-o",
            "json",
        ]);
        let expected = serde_json::json!([{
            "network": "net1", "pool": null, "range": "10.1.2.1-10.1.2.254 (10.1.2.0/24)", "scope": null,
            "held": 5, "free": 248, "reserved": 0, "setAside": [], "excluded": 1, "total": 254,
        }]);
        assert_eq!(usage.document(), expected, "{usage:?}");
    });
}

#[test]
fn a_kept_store_is_verified_and_repaired() {
    each(|sandbox| {
        let verify = sandbox.command(&["verify", "-o", "json"]);
        assert_eq!(verify.status, Some(1), "{verify:?}");
        for left_behind in ["gone@net1.0", "half@net1.0", "@tmp/77.1"] {
            assert!(verify.stdout.contains(left_behind), "{left_behind}: {verify:?}");
        }
        // A copy has no links: `repair` of each node creates its links again.
        for node in ["n1", "n2"] {
            let note = sandbox.store().join("nodes").join(node).join("@machine-id");
            if note.exists() {
                std::fs::copy("/etc/machine-id", note).unwrap();
            }
            sandbox.write("flat.conf", &sandbox.flat(node));
            sandbox.command(&["repair", "--yes"]);
        }
        let verify = sandbox.command(&["verify"]);
        assert_eq!(verify.status, Some(0), "{verify:?}");
        assert_eq!(rows(sandbox, &[]), LISTED);
        let links = Tree::read(&sandbox.store()).links;
        assert_eq!(links.len(), kept().links.len(), "{links:?}");
    });
}

#[test]
fn in_a_kept_store_a_repeated_add_answers_as_before() {
    each(|sandbox| {
        for (container, pod, ipam, given) in holders() {
            let added = call(sandbox, "ADD", &container, pod, ipam).run();
            assert_eq!(added.addresses(), given, "{container}");
            let previous = configuration(ipam).replacen(
                '{',
                &format!("{{\"prevResult\":{},", added.stdout),
                1,
            );
            sandbox
                .call("CHECK")
                .set("CNI_CONTAINERID", &*container)
                .stdin(previous)
                .run()
                .succeeded();
        }
        assert_eq!(rows(sandbox, &[]), LISTED);
    });
}

#[test]
fn in_a_kept_store_a_new_add_gets_what_is_free() {
    each(|sandbox| {
        assert_eq!(call(sandbox, "ADD", "c20", "", RANGE).run().addresses(), ["10.1.2.6"]);
        assert_eq!(call(sandbox, "ADD", "c21", "", EDGE).run().addresses(), ["10.1.9.1"]);
        // What the node gave before its boot is freed before an ADD reports "full".
        assert_eq!(call(sandbox, "ADD", "c22", "", TINY).run().addresses(), ["10.1.16.1"]);
        assert_eq!(sandbox.held(), ["10.1.2.5", "10.1.2.6", "10.1.9.1", "10.1.16.1"]);
    });
}

#[test]
fn in_a_kept_store_a_dead_pods_address_moves_to_its_new_sandbox() {
    each(|sandbox| {
        let web = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=9b1c";
        assert_eq!(call(sandbox, "ADD", "new", web, RANGE).run().addresses(), ["10.1.2.2"]);
        let other = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=other";
        assert_eq!(call(sandbox, "ADD", "newer", other, RANGE).run().addresses(), ["10.1.2.6"]);
        let db = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=db-0";
        assert_eq!(call(sandbox, "ADD", "newest", db, RANGE).run().addresses(), ["10.1.2.77"]);
        assert_eq!(sandbox.list().len(), LISTED.len() + 1);
    });
}

#[test]
fn in_a_kept_store_gc_frees_what_is_dead_and_not_another_nodes() {
    each(|sandbox| {
        let valid = r#"{"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"net1"},{"containerID":"c4","ifname":"net1"}],"#;
        sandbox.call("GC").stdin(configuration(RANGE).replacen('{', valid, 1)).run().succeeded();
        assert_eq!(sandbox.held(), ["10.1.2.1", "10.1.2.2", "10.1.2.5"]);
    });
}

#[test]
fn in_a_kept_store_del_and_release_leave_nothing() {
    each(|sandbox| {
        for (container, pod, ipam, _) in holders() {
            call(sandbox, "DEL", &container, pod, ipam).run().succeeded();
        }
        for container in ["gone", "half"] {
            call(sandbox, "DEL", container, "", RANGE).run().succeeded();
        }
        assert_eq!(sandbox.held(), [OF_N2]);
        sandbox.command(&["release", "--node", "n2", "--yes"]).succeeded();
        assert_eq!(
            sandbox.files(),
            ["format", "nodes/n1/@machine-id", "nodes/n1/@tmp/77.1", "scopes/@/full"]
        );
        assert_eq!(
            std::fs::read(sandbox.store().join("scopes/@/full")).unwrap(),
            b"",
            "no shard is full"
        );
    });
}
