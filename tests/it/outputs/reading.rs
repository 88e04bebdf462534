//! `list`, `show`, `usage` and `verify`.

use super::{C1, POD, RANGE, damage, held};
use crate::support::sandbox::{Sandbox, configuration, make_store};
use crate::support::transcript::{Transcript, sandbox};
use std::fs;

#[test]
fn list_prints_this() {
    let nothing = sandbox();
    let mut seen = Transcript::new(&nothing);
    seen.note("no store");
    seen.run(&nothing, &["list"]);
    make_store(&nothing.store());
    seen.note("an empty store");
    seen.run(&nothing, &["list"]);
    seen.run(&nothing, &["list", "-o", "json"]);
    seen.run(&nothing, &["list", "--debts"]);
    seen.assert("list-empty");

    let sandbox = held();
    let mut seen = Transcript::new(&sandbox);
    for args in [
        &["list"][..],
        &["list", "-o", "json"],
        &["list", "--network", "net1"],
        &["list", "--network", "net2"],
        &["list", "--node", "n1"],
        &["list", "--node", "n2"],
        &["list", "--pod", "default/web-0"],
        &["list", "--pod", "web-0"],
        &["list", "--pod", "default/"],
        &["list", "--node", "a/b"],
        &["list", "--network", "a b"],
    ] {
        seen.run(&sandbox, args);
    }
    sandbox.add("c3", &format!(r#"{RANGE},"network_name":"blue""#)).succeeded();
    seen.note("an address in a scope");
    seen.run(&sandbox, &["list"]);
    damage(&sandbox, C1);
    seen.note("a damaged record");
    seen.run(&sandbox, &["list"]);
    seen.assert("list");
}

/// Makes a DEL that meets a held lock, and so leaves a debt.
fn owe(sandbox: &Sandbox) {
    let lock = fs::File::open(sandbox.store()).unwrap();
    lock.lock().unwrap();
    let ipam = format!(r#"{RANGE},"deadlines":{{"del":"50ms"}}"#);
    assert_eq!(sandbox.del("c1", &ipam).code(), 11);
}

#[test]
fn debts_are_printed_so() {
    let sandbox = held();
    owe(&sandbox);
    let mut seen = Transcript::new(&sandbox);
    // The process of the test, which has the lock.
    let process = std::process::id();
    seen.replace(
        format!("process {process} ({})", fs::read_to_string("/proc/self/comm").unwrap().trim()),
        "process 1 (test)",
    );
    for args in [
        &["list"][..],
        &["list", "--debts"],
        &["list", "--debts", "-o", "json"],
        &["verify"],
        &["sweep", "--debts", "--dry-run"],
        &["sweep", "--debts", "--yes"],
        &["list", "--debts"],
    ] {
        seen.run(&sandbox, args);
    }
    fs::create_dir_all(sandbox.path("debts")).unwrap();
    sandbox.write("debts/notes.txt", "");
    seen.note("a file that is not a debt");
    seen.run(&sandbox, &["verify"]);
    seen.assert("debts");
}

#[test]
fn show_prints_this() {
    let sandbox = held();
    let mut seen = Transcript::new(&sandbox);
    for args in [
        &["show", "10.1.2.3"][..],
        &["show", "10.1.2.3", "-o", "json"],
        &["show", "10.1.2.9"],
        &["show", "10.1.2.3/24"],
        &["show", "fe80::1%eth0"],
        &["show", "10.1.2"],
        &["show"],
    ] {
        seen.run(&sandbox, args);
    }
    sandbox.write("flat.conf", &sandbox.flat("n2"));
    seen.note("on node n2");
    seen.run(&sandbox, &["show", "10.1.2.2"]);
    damage(&sandbox, C1);
    seen.note("a damaged record");
    seen.run(&sandbox, &["show", "10.1.2.2"]);
    seen.assert("show");
}

#[test]
fn usage_prints_this() {
    let sandbox = held();
    let mut seen = Transcript::new(&sandbox);
    let file =
        |ipam: &str| sandbox.write("net.json", &configuration(ipam)).to_str().unwrap().to_owned();
    let path = file(r#""range":"10.1.2.0/24","gateway":"10.1.2.1","exclude":["10.1.2.128/25"]"#);
    seen.run(&sandbox, &["usage", &path]);
    seen.run(&sandbox, &["usage", &path, "-o", "json"]);
    seen.note("an IPv6 range in a scope");
    file(r#""range":"::/0","network_name":"blue""#);
    seen.run(&sandbox, &["usage", &path]);
    seen.note("static addresses alone");
    file(r#""addresses":[{"address":"10.9.9.9/24"}]"#);
    seen.run(&sandbox, &["usage", &path]);
    seen.note("a mistake");
    file(r#""range":"10.1.2.0/33""#);
    seen.run(&sandbox, &["usage", &path]);
    seen.run(&sandbox, &["usage", "/nowhere/net.json"]);
    seen.assert("usage");
}

/// Makes damages of many kinds.
pub(super) fn damage_all(sandbox: &Sandbox) {
    let at = |path: &str| sandbox.store().join(path);
    sandbox
        .call("ADD")
        .set("CNI_CONTAINERID", "c3")
        .set("CNI_ARGS", POD)
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    for container in ["c4", "c5", "c6"] {
        sandbox.add(container, RANGE).succeeded();
    }
    damage(sandbox, C1);
    // 10.1.2.4 was held by c3, and so on.
    fs::remove_file(at("scopes/@/10.1.2.0_24/10.1.2.5")).unwrap();
    let newer = fs::read_to_string(at("scopes/@/10.1.2.0_24/10.1.2.6")).unwrap().replacen(
        '{',
        r#"{"format":2,"#,
        1,
    );
    fs::write(at("scopes/@/10.1.2.0_24/10.1.2.6"), newer).unwrap();
    fs::remove_file(at("nodes/n1/net1/c6@net1.0")).unwrap();
    fs::write(at("nodes/n1/@tmp/1.2"), "").unwrap();
    fs::write(at("scopes/@/full"), "4 a0102 a0102 3 0 0 0\n4 a0109 a0109 2 0 0 0\n").unwrap();
    fs::write(at("notes.txt"), "").unwrap();
}

#[test]
fn verify_prints_this() {
    let nothing = sandbox();
    let mut seen = Transcript::new(&nothing);
    seen.note("no store");
    seen.run(&nothing, &["verify"]);
    seen.run(&nothing, &["verify", "-o", "json"]);
    let sandbox = held();
    seen.replace(sandbox.root.display().to_string(), &nothing.root.display().to_string());
    seen.replace(nothing.root.display().to_string(), "/tmp/hereabouts-of-this-test-0");
    seen.note("a sound store");
    seen.run(&sandbox, &["verify"]);
    seen.run(&sandbox, &["verify", "-o", "json"]);
    damage_all(&sandbox);
    seen.note("a damaged store");
    seen.run(&sandbox, &["verify"]);
    seen.run(&sandbox, &["verify", "-o", "json"]);
    seen.assert("verify");
}

#[test]
fn a_store_is_named_so() {
    let sandbox = held();
    let mut seen = Transcript::new(&sandbox);
    let typo = sandbox.path("typo").display().to_string();
    let flat = sandbox.path("flat.conf").display().to_string();
    for args in [
        &["list", "--data-dir", &sandbox.store().display().to_string()][..],
        &["list", "--data-dir", &typo],
        &["list", "--config", &flat],
        &["list", "--config", &typo],
        &["list", "--data-dir", &typo, "--kubeconfig", &flat],
        &["list", "--kubeconfig", &flat],
        &["list", "--mount-namespace", "/nowhere"],
        &["lst"],
    ] {
        seen.run(&sandbox, args);
    }
    seen.note("a flat file with a mistake");
    sandbox.write("flat.conf", r#"{"nodename":"n1","datastore":"file"}"#);
    seen.run(&sandbox, &["list"]);
    seen.assert("which-store");
}
