//! `release`, `sweep` and `repair`.

use super::reading::damage_all;
use super::{C1, damage, held};
use crate::support::living::Living;
use crate::support::sandbox::configuration;
use crate::support::transcript::{Transcript, sandbox};

#[test]
fn release_prints_this() {
    let sandbox = held();
    let mut seen = Transcript::new(&sandbox);
    for args in [
        &["release"][..],
        &["release", "10.1.2.9", "--yes"],
        &["release", "10.1.2.2"],
        &["release", "10.1.2.2", "--yes"],
        &["release", "--pod", "default/web-0", "--yes"],
        &["release", "--container", "c2", "--yes"],
        &["release", "10.1.2.2", "--pod", "a"],
    ] {
        seen.run(&sandbox, args);
    }
    let again = held();
    seen.replace(again.root.display().to_string(), "/tmp/hereabouts-of-this-test-0");
    again.write("flat.conf", &again.flat("n2"));
    seen.note("on node n2");
    for args in [
        &["release", "10.1.2.2", "--yes"][..],
        &["release", "10.1.2.2", "--node", "n1", "--yes"],
        &["release", "--node", "n1"],
        &["release", "--node", "n1", "--yes"],
        &["release", "--node", "n1", "--yes"],
        &["release", "--node", "n9", "--yes"],
    ] {
        seen.run(&again, args);
    }
    let damaged = held();
    seen.replace(damaged.root.display().to_string(), "/tmp/hereabouts-of-this-test-0");
    damage(&damaged, C1);
    seen.note("a damaged record");
    seen.run(&damaged, &["release", "10.1.2.2"]);
    seen.run(&damaged, &["release", "10.1.2.2", "--yes"]);
    seen.assert("release");
}

#[test]
fn release_of_what_lives_prints_this() {
    let Some(living) = Living::new() else {
        return skipped!("no root, no namespaces");
    };
    let sandbox = sandbox();
    let add = |container: &str, ipam: &str| {
        let mut call = sandbox.call("ADD");
        call.set("CNI_CONTAINERID", container)
            .set("CNI_NETNS", living.path())
            .stdin(configuration(ipam))
            .run()
            .succeeded();
    };
    add("c1", r#""range":"10.1.2.0/24""#);
    add("c2", r#""range":"10.1.2.0/24","network_name":"blue""#);
    let mut seen = Transcript::new(&sandbox);
    for args in [
        &["show", "10.1.2.1"][..],
        &["verify"],
        &["release", "10.1.2.1", "--yes"],
        &["release", "--container", "c1", "--yes"],
        &["release", "--container", "c1", "--yes", "--force"],
    ] {
        seen.run(&sandbox, args);
    }
    seen.assert("release-alive");
}

#[test]
fn sweep_prints_this() {
    let nothing = sandbox();
    let mut seen = Transcript::new(&nothing);
    seen.note("no store");
    seen.run(&nothing, &["sweep", "--yes"]);
    let sandbox = held();
    seen.replace(sandbox.root.display().to_string(), "/tmp/hereabouts-of-this-test-0");
    std::fs::write(sandbox.store().join("nodes/n1/@tmp/1.2"), "").unwrap();
    seen.note("two sandboxes are gone, and a call was killed");
    for args in [
        &["sweep", "--dry-run"][..],
        &["sweep"],
        &["sweep", "--network", "net2", "--yes"],
        &["sweep", "--yes"],
        &["sweep", "--yes"],
        &["sweep", "--debts", "--network", "net1"],
        &["sweep", "--dry-run", "--yes"],
        &["sweep", "--debts", "--dry-run"],
    ] {
        seen.run(&sandbox, args);
    }
    seen.assert("sweep");
}

#[test]
fn repair_prints_this() {
    let nothing = sandbox();
    let mut seen = Transcript::new(&nothing);
    seen.note("no store");
    seen.run(&nothing, &["repair", "--yes"]);
    let sandbox = held();
    seen.replace(sandbox.root.display().to_string(), "/tmp/hereabouts-of-this-test-0");
    seen.note("a sound store");
    seen.run(&sandbox, &["repair"]);
    damage_all(&sandbox);
    seen.note("a damaged store");
    for args in [&["repair"][..], &["repair", "--yes"], &["repair", "--yes"]] {
        seen.run(&sandbox, args);
    }
    seen.assert("repair");
}
