//! A node whose name changes while its pods live: the host gets another name by DHCP or cloud-init,
//! or an operator edits the flat file. On a store of one machine, the calls also search under the
//! earlier names. In the API, where a clone has the same machine id, a DEL is refused and its error
//! contains both names.

#[cfg(feature = "kube")]
mod kube;
/// On a filesystem that machines share.
mod shared;

use crate::support::living::Living;
use crate::support::sandbox::{Call, Ended, Sandbox, configuration};

const RANGE: &str = r#""range":"10.1.2.0/24""#;

/// A local store whose flat file names no node, and two host names.
struct Scene {
    sandbox: Sandbox,
    living: Living,
}

impl Scene {
    fn new() -> Option<Self> {
        let sandbox = Sandbox::new();
        let has_id =
            std::fs::read_to_string("/etc/machine-id").is_ok_and(|id| !id.trim().is_empty());
        let Some(living) = Living::new().filter(|_| has_id && sandbox.cluster.is_none()) else {
            skipped!("it takes root, a machine id and the file store");
            return None;
        };
        sandbox.write(
            "flat.conf",
            &serde_json::json!({"datastore": "file", "data_dir": sandbox.store()}).to_string(),
        );
        Some(Self { sandbox, living })
    }

    /// Makes a call or command on a host with this name.
    fn named(&self, host: &str, mut call: Call) -> Ended {
        call.through(&["unshare", "--uts", "sh", "-c", r#"hostname "$0" && exec "$@""#, host]).run()
    }

    fn call(&self, host: &str, verb: &str, container: &str, alive: bool) -> Ended {
        self.named(host, self.prepared(verb, container, alive))
    }

    fn prepared(&self, verb: &str, container: &str, alive: bool) -> Call {
        let mut call = self.sandbox.call(verb);
        if alive {
            call.set("CNI_NETNS", self.living.path());
        }
        call.set("CNI_CONTAINERID", container).stdin(configuration(RANGE)).clone()
    }

    fn command(&self, host: &str, args: &[&str]) -> Ended {
        self.named(host, self.sandbox.command_call(args))
    }
}

const BEFORE: &str = "worker1";
const NOW: &str = "worker1.example.com";

#[test]
fn del_repeat_and_check_find_what_a_host_holds_under_its_earlier_name() {
    let Some(scene) = Scene::new() else { return };
    let added = scene.call(BEFORE, "ADD", "c1", true);
    assert_eq!(added.addresses(), ["10.1.2.1"]);
    assert_eq!(scene.call(NOW, "ADD", "c2", true).addresses(), ["10.1.2.2"]);
    assert_eq!(scene.call(NOW, "ADD", "c1", true).addresses(), ["10.1.2.1"], "a repeat");
    let mut check = scene.prepared("CHECK", "c1", true);
    check.stdin(configuration(RANGE).replacen(
        '{',
        &format!(r#"{{"prevResult":{},"#, added.stdout.trim()),
        1,
    ));
    scene.named(NOW, check).succeeded();
    scene.call(NOW, "DEL", "c1", false).succeeded();
    assert_eq!(scene.sandbox.held(), ["10.1.2.2"]);
    // With the first name again, the second one is the earlier name.
    scene.call(BEFORE, "DEL", "c2", false).succeeded();
    assert!(scene.sandbox.held().is_empty());
    let verified = scene.command(NOW, &["verify"]);
    assert!(
        verified.succeeded().stdout.contains("0 records and 0 index entries"),
        "nothing is left: {verified:?}"
    );
}

#[test]
fn gc_and_sweep_free_the_dead_of_an_earlier_name_and_verify_names_it() {
    let Some(scene) = Scene::new() else { return };
    for (container, alive) in [("living", true), ("dead1", false)] {
        scene.call(BEFORE, "ADD", container, alive).succeeded();
    }
    let verified = scene.command(NOW, &["verify"]);
    assert!(
        verified.succeeded().stdout.contains("this machine was named worker1 before"),
        "{verified:?}"
    );
    let document = scene.command(NOW, &["verify", "-o", "json"]).document();
    assert_eq!(
        (&document["nodes"][0]["node"], &document["nodes"][0]["thisMachineBefore"]),
        (&"worker1".into(), &true.into())
    );
    let mut gc = scene.prepared("GC", "", false);
    gc.stdin(configuration(RANGE).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1));
    scene.named(NOW, gc).succeeded();
    assert_eq!(scene.sandbox.held(), ["10.1.2.1"]);
    scene.call(BEFORE, "ADD", "dead2", false).succeeded();
    assert_eq!(scene.command(NOW, &["sweep", "--yes"]).succeeded().stdout, "released 10.1.2.2\n");
    assert_eq!(scene.sandbox.held(), ["10.1.2.1"]);
    let repaired = scene.command(NOW, &["repair", "--yes"]);
    assert!(repaired.succeeded().stderr.contains("nothing to repair"), "{repaired:?}");
}

/// A range that is full of records from before a reboot that changed the name.
#[test]
fn a_full_range_is_swept_of_what_an_earlier_name_held_before_the_boot() {
    let Some(scene) = Scene::new() else { return };
    let boot = |id: &str, mut call: Call| -> Call {
        let file = scene.sandbox.write(id, &format!("{id}\n"));
        call.seeing("/proc/sys/kernel/random/boot_id", &file)
            .stdin(configuration(r#""range":"10.1.2.0/31""#))
            .clone()
    };
    for container in ["a", "b"] {
        scene.named(BEFORE, boot("yesterday", scene.prepared("ADD", container, false))).succeeded();
    }
    assert_eq!(
        scene.named(NOW, boot("today", scene.prepared("ADD", "c", true))).addresses(),
        ["10.1.2.0"]
    );
}

/// A name whose note has another machine's id belongs to another machine.
#[test]
fn another_machines_records_are_not_an_earlier_names() {
    let Some(scene) = Scene::new() else { return };
    scene.call(BEFORE, "ADD", "c1", false).succeeded();
    std::fs::write(
        scene.sandbox.store().join("nodes").join(BEFORE).join("@machine-id"),
        "another\n",
    )
    .unwrap();
    scene.call(NOW, "DEL", "c1", false).succeeded();
    scene.command(NOW, &["sweep", "--yes"]).succeeded();
    let refused = scene.command(NOW, &["release", "10.1.2.1", "--yes"]);
    assert!(
        refused.status == Some(1) && refused.stderr.contains("pass --node worker1"),
        "{refused:?}"
    );
    assert_eq!(scene.sandbox.held(), ["10.1.2.1"]);
    assert!(!scene.command(NOW, &["verify"]).stdout.contains("was named"));
}
