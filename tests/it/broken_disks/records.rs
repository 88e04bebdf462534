//! Damaged records: each costs one address and not the whole range, and every error names the
//! record and what to do.

use super::check_says;
use crate::support::sandbox::{Sandbox, configuration};
use std::path::Path;

/// Six addresses.
const SMALL: &str = r#""range":"10.1.2.0/29""#;
const RECORD: &str = "scopes/@/10.1.2.0_24/10.1.2.2";

type Damage = (&'static str, fn(&Path));

/// In place: the name and the index entry are one file.
const DAMAGES: &[Damage] = &[
    ("truncated", |path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("emptied", |path| std::fs::write(path, "").unwrap()),
    ("zeros", |path| std::fs::write(path, [0; 222]).unwrap()),
    ("garbage", |path| std::fs::write(path, [0xff, 0xfe, b'{', 0, b'"']).unwrap()),
    ("other JSON", |path| std::fs::write(path, r#"{"address":"10.1.2.2"}"#).unwrap()),
    ("a value of a later version", |path| {
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, text.replace("\"dynamic\"", "\"delegated\"")).unwrap();
    }),
    ("too large", |path| std::fs::write(path, vec![b' '; 2 << 20]).unwrap()),
];

/// Three attachments hold addresses, and the record of the second one is damaged. All other calls
/// continue, with five of six addresses.
fn check_costs_one_address(name: &str, damage: fn(&Path), words: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    for n in 1..4 {
        sandbox.add(&format!("c{n}"), SMALL).succeeded();
    }
    let record = sandbox.store().join(RECORD);
    damage(&record);
    // The error of the holder's ADD names the record. Its DEL succeeds, and the address stays
    // taken.
    let repeated = sandbox.add("c2", SMALL);
    assert_eq!(repeated.code(), 104, "{name}");
    check_says(&repeated, words);
    sandbox.del("c2", SMALL).succeeded();
    assert_eq!(sandbox.add("c1", SMALL).addresses(), ["10.1.2.1"], "{name}");
    let given: Vec<String> =
        (4..7).flat_map(|n| sandbox.add(&format!("c{n}"), SMALL).addresses()).collect();
    assert_eq!(given, ["10.1.2.4", "10.1.2.5", "10.1.2.6"], "{name}");
    assert_eq!(sandbox.add("c7", SMALL).code(), 100, "{name}: one address of six is lost");
    sandbox.del("c3", SMALL).succeeded();
    assert_eq!(sandbox.add("c7", SMALL).addresses(), ["10.1.2.3"], "{name}");
    let listed = sandbox.command(&["list"]);
    assert_eq!(
        (listed.status, listed.stdout.matches("10.1.2.").count()),
        (Some(1), 5),
        "{name}: {listed:?}"
    );
    assert!(listed.stderr.contains(RECORD), "{name}: {listed:?}");
    let gc = configuration(SMALL).replacen(
        '{',
        r#"{"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"net1"}],"#,
        1,
    );
    sandbox.call("GC").stdin(gc).run().succeeded();
    assert!(record.exists(), "{name}: GC frees what it can read");
    let verified = sandbox.command(&["verify"]);
    assert!(verified.status == Some(1) && verified.stdout.contains(RECORD), "{name}: {verified:?}");
    sandbox
}

/// Follows the advice in the error: after that, the address can be given again.
fn check_release(name: &str, sandbox: &Sandbox) {
    sandbox.command(&["release", "10.1.2.2", "--yes"]).succeeded();
    let again: Vec<String> =
        (2..7).flat_map(|n| sandbox.add(&format!("d{n}"), SMALL).addresses()).collect();
    assert_eq!(again, ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"], "{name}");
    sandbox.del("c2", SMALL).succeeded();
    assert_eq!(sandbox.held().len(), 6, "{name}: the late DEL of the old holder frees nothing");
    assert_eq!(sandbox.command(&["verify"]).status, Some(0), "{name}");
}

#[test]
fn a_damaged_record_costs_one_address_and_its_error_says_what_to_do() {
    for (name, damage) in DAMAGES {
        let words = ["/store/", "is damaged", "\"hereabouts verify\"", "\"hereabouts release\""];
        check_release(name, &check_costs_one_address(name, *damage, &words));
    }
    println!("{} damages", DAMAGES.len());
}

/// It is not damaged, but of another version, and this version does not change it.
#[test]
fn a_record_of_a_newer_format_costs_one_address_and_its_error_says_what_to_install() {
    let newer: fn(&Path) = |path| {
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::write(
            path,
            text.replacen("\"format\":1,", "", 1).replacen('{', r#"{"format":2,"#, 1),
        )
        .unwrap();
    };
    let sandbox = check_costs_one_address(
        "newer",
        newer,
        &["/store/", "format 2", "install a newer hereabouts"],
    );
    assert!(
        std::fs::read_to_string(sandbox.store().join(RECORD)).unwrap().contains("\"format\":2")
    );
}

/// Files that are not ours, next to records and next to entries.
#[test]
fn a_foreign_file_beside_the_records_costs_at_most_its_own_name() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", SMALL).succeeded();
    let (shard, index) =
        (sandbox.store().join("scopes/@/10.1.2.0_24"), sandbox.store().join("nodes/n1/net1"));
    for name in
        ["README", ".10.1.2.1.swp", "10.1.2.1~", ".nfs0000000000000001", "10.1.2.300", "lost+found"]
    {
        std::fs::write(shard.join(name), "not a record").unwrap();
        std::fs::write(index.join(name), "not an entry").unwrap();
    }
    // One has the name of an address, one the name of a shard.
    std::fs::write(shard.join("10.1.2.3"), "not a record").unwrap();
    std::fs::create_dir(shard.join("10.1.2.4")).unwrap();
    std::fs::write(sandbox.store().join("scopes/@/10.9.9.0_24"), "not a shard").unwrap();
    let given: Vec<String> =
        (2..5).flat_map(|n| sandbox.add(&format!("c{n}"), SMALL).addresses()).collect();
    assert_eq!(given, ["10.1.2.2", "10.1.2.5", "10.1.2.6"]);
    assert_eq!(sandbox.add("c9", SMALL).code(), 100);
    for n in 1..5 {
        sandbox.del(&format!("c{n}"), SMALL).succeeded();
    }
    assert_eq!(sandbox.add("c9", SMALL).addresses(), ["10.1.2.1"]);
    let gc = configuration(SMALL).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1);
    sandbox.call("GC").stdin(gc).run().succeeded();
    assert!(!shard.join("10.1.2.1").exists(), "GC goes on past what is not ours");
    assert_eq!(
        std::fs::read_to_string(shard.join("10.1.2.3")).unwrap(),
        "not a record",
        "and leaves it alone"
    );
}

/// Cause: a hint with an empty mask is true of all shards that it names, and IPv6 has 2^120 of
/// them. Effect: `verify` and `repair` never ended. Fix: such a hint counts as damaged.
#[test]
fn a_hint_that_says_nothing_of_all_addresses_ends_verify_and_is_removed() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", super::RANGE).succeeded();
    let hint = sandbox.store().join("scopes/@/full");
    for text in [
        "6 0 ffffffffffffffffffffffffffffff 0 0 0 0\n",
        "4 0 ffffff 0 0 0 0\n",
        "6 0 ffffffffffffffffffffffffffffff 1 0 0 0\n",
    ] {
        std::fs::write(&hint, text).unwrap();
        let run = |args: &[&str]| {
            sandbox.command_call(args).through(&["timeout", "--signal=KILL", "60"]).run()
        };
        let verified = run(&["verify"]);
        assert!(
            verified.stdout.contains("wrong-hint") || verified.stderr.contains("wrong-hint"),
            "{verified:?}"
        );
        run(&["repair", "--yes"]).succeeded();
        assert!(!hint.exists(), "{text}");
    }
    assert_eq!(sandbox.add("c2", super::RANGE).addresses(), ["10.1.2.2"]);
}

/// Cause: where a range seemed full, an ADD corrected the hint and read it again, and a hint that
/// cannot be replaced said the same each time. Effect: an ADD that never ended and kept the lock.
/// Fix: a hint that was wrong is not read again.
#[test]
fn a_hint_that_cannot_be_replaced_keeps_no_add() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", super::RANGE).succeeded();
    // Every link and rename to the hint's name fails, because it is a mount point.
    let hint = sandbox.store().join("scopes/@/full");
    let lie = sandbox.write(
        "lie",
        "4 a0102 a0102 ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff\n",
    );
    std::fs::write(&hint, "").unwrap();
    let mut call = sandbox.call("ADD");
    call.set("CNI_CONTAINERID", "c2").stdin(configuration(super::RANGE));
    if !nix::unistd::geteuid().is_root() {
        skipped!("needs root for a mount");
        return;
    }
    let added = call
        .through(&["timeout", "--signal=KILL", "60"])
        .seeing(hint.to_str().unwrap(), &lie)
        .run();
    assert_eq!(added.addresses(), ["10.1.2.2"]);
}
