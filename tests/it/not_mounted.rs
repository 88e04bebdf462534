//! A shared filesystem that is not mounted: an empty directory on the local disk.

use crate::support::overlay::Overlay;
use crate::support::sandbox::{Ended, Sandbox, configuration};

const RANGE: &str = r#""range":"10.9.0.0/24""#;

/// Returns a sandbox with a store that `store init` created, and its id.
fn initialized() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let made = sandbox.command(&["store", "init", sandbox.store().to_str().unwrap()]);
    let id = made.succeeded().stdout.trim().to_owned();
    (sandbox, id)
}

fn refused(ended: &Ended) {
    assert_eq!(ended.code(), 5, "{ended:?}");
    assert!(ended.details().contains("wrong store at"), "{ended:?}");
}

/// Makes an ADD without the store that `Sandbox::call` would create.
fn add(sandbox: &Sandbox, container: &str) -> Ended {
    let mut call = sandbox.call("DEL");
    call.set("CNI_COMMAND", "ADD")
        .set("CNI_CONTAINERID", container)
        .stdin(configuration(RANGE))
        .run()
}

fn verbs_are_refused(sandbox: &Sandbox) {
    refused(&add(sandbox, "c2"));
    refused(&sandbox.del("c1", RANGE));
    let gc = r#"{"cniVersion":"1.1.0","name":"net1","type":"macvlan","ipam":{"type":"hereabouts"},"cni.dev/valid-attachments":[]}"#;
    refused(&sandbox.call("GC").stdin(gc).run());
    let status = sandbox.call("STATUS").stdin(configuration(RANGE)).run();
    assert!(status.code() == 50 && status.details().contains("wrong store at"), "{status:?}");
    let check = configuration(RANGE).replacen(
        '{',
        r#"{"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.9.0.1/24"}]},"#,
        1,
    );
    refused(&sandbox.call("CHECK").stdin(check).run());
    for command in [&["list"][..], &["verify"], &["sweep", "--yes"], &["repair", "--yes"]] {
        let ended = sandbox.command(command);
        assert!(
            ended.status == Some(1) && ended.stderr.contains("wrong store at"),
            "{command:?} {ended:?}"
        );
    }
}

#[test]
fn no_add_makes_a_store_where_a_flat_file_names_one() {
    let sandbox = Sandbox::new();
    refused(&add(&sandbox, "c1"));
    assert!(!sandbox.store().exists());
    sandbox.del("c1", RANGE).succeeded();
    sandbox.command(&["store", "init", sandbox.store().to_str().unwrap()]).succeeded();
    add(&sandbox, "c1").succeeded();
}

#[test]
fn a_store_that_was_used_and_is_gone_or_another_is_refused_by_every_verb() {
    if !nix::unistd::geteuid().is_root() {
        skipped!("needs root");
        return;
    }
    let (sandbox, _) = initialized();
    add(&sandbox, "c1").succeeded();
    let aside = sandbox.path("aside");
    std::fs::rename(sandbox.store(), &aside).unwrap();
    verbs_are_refused(&sandbox);
    std::fs::create_dir(sandbox.store()).unwrap();
    verbs_are_refused(&sandbox);
    std::fs::write(
        sandbox.store().join("format"),
        r#"{"format":1,"id":"00000000000000000000000000000000"}"#,
    )
    .unwrap();
    verbs_are_refused(&sandbox);
    std::fs::remove_dir_all(sandbox.store()).unwrap();
    std::os::unix::fs::symlink(sandbox.path("nowhere"), sandbox.store()).unwrap();
    verbs_are_refused(&sandbox);
    std::fs::remove_file(sandbox.store()).unwrap();
    std::fs::rename(&aside, sandbox.store()).unwrap();
    sandbox.del("c1", RANGE).succeeded();
    assert_eq!(sandbox.held(), Vec::<String>::new());
    let forgotten = sandbox.command(&["store", "forget", sandbox.store().to_str().unwrap()]);
    assert!(forgotten.succeeded().stderr.contains("has forgotten"), "{forgotten:?}");
    std::fs::remove_dir_all(sandbox.store()).unwrap();
    sandbox.del("c1", RANGE).succeeded();
}

#[test]
fn the_flat_file_names_the_store_by_its_id() {
    let (sandbox, id) = initialized();
    sandbox.set_in_flat(&[("store_id", "00000000000000000000000000000000".into())]);
    verbs_are_refused(&sandbox);
    sandbox.set_in_flat(&[("store_id", id.into())]);
    add(&sandbox, "c1").succeeded();
    sandbox.del("c1", RANGE).succeeded();
}

/// Names that NetApp, NFS clients, ext4 and a killed `store test` create.
#[test]
fn what_filesystems_make_by_themselves_stops_no_pod() {
    let sandbox = Sandbox::new();
    for name in [".snapshot", "lost+found", ".hereabouts-store-test"] {
        std::fs::create_dir_all(sandbox.store().join(name)).unwrap();
    }
    std::fs::write(sandbox.store().join(".nfs0001"), "").unwrap();
    sandbox.del("c1", RANGE).succeeded();
    sandbox.command(&["store", "init", sandbox.store().to_str().unwrap()]).succeeded();
    add(&sandbox, "c1").succeeded();
    sandbox.command(&["verify"]).succeeded();
    sandbox.del("c1", RANGE).succeeded();
}

#[test]
fn a_mount_point_that_fstab_lists_and_that_is_not_mounted_gets_no_store() {
    if !nix::unistd::geteuid().is_root() {
        skipped!("needs root");
        return;
    }
    let sandbox = Sandbox::new();
    let fstab =
        sandbox.write("fstab", &format!("server:/x {} nfs defaults 0 0\n", sandbox.root.display()));
    let flat = serde_json::json!({"node_name": "n1", "allowed_paths": [sandbox.root]});
    sandbox.write("flat.conf", &flat.to_string());
    let ipam =
        format!(r#"{RANGE},"datastore":"file","data_dir":"{}""#, sandbox.path("network").display());
    let mut call = sandbox.call("DEL");
    call.set("CNI_COMMAND", "ADD").stdin(configuration(&ipam));
    let ended = call.clone().seeing("/etc/fstab", &fstab).run();
    refused(&ended);
    assert!(ended.details().contains("/etc/fstab"), "{ended:?}");
    call.run().succeeded();
}

/// conf-examples/shared-data-dir.yaml on a node with and without its filesystem and its flat file.
#[test]
fn the_example_of_a_shared_directory_gives_addresses_only_where_it_is_mounted_and_named() {
    let Some(overlay) = Overlay::new() else {
        return skipped!("no overlay");
    };
    let sandbox = &overlay.sandbox;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf-examples");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let here =
        |text: &str| text.replace("/mnt/shared/hereabouts", sandbox.store().to_str().unwrap());
    let example = here(&read("shared-data-dir.yaml"));
    let network = example.split_once("config: |").unwrap().1.replacen(
        '{',
        r#"{"name":"shared-data-dir","#,
        1,
    );
    let mut add = overlay.verb("ADD", "c1", "");
    add.stdin(network);

    sandbox.write("flat.conf", r#"{"node_name":"node1"}"#);
    assert_eq!(
        (add.run().code(), overlay.run(&add).code()),
        (7, 7),
        "no flat file names the directory"
    );
    let mut flat: serde_json::Value =
        serde_json::from_str(&here(&read("hereabouts.conf"))).unwrap();
    // This machine's own places are not for tests.
    flat["debts_dir"] = sandbox.path("debts").to_str().into();
    sandbox.write("flat.conf", &flat.to_string());
    refused(&add.run());
    refused(&overlay.run(&add));
    let id = overlay.init();
    refused(&overlay.run(&add));
    assert!(flat["store_id"].is_string());
    flat["store_id"] = id.into();
    sandbox.write("flat.conf", &flat.to_string());
    refused(&add.run());
    assert_eq!(overlay.run(&add).addresses(), ["192.168.26.2"]);
    refused(&add.set("CNI_COMMAND", "DEL").run());
}

/// A network configuration is the same on all nodes: it cannot say which store a node must see.
#[test]
fn a_shared_filesystem_that_only_a_network_names_is_refused() {
    let Some(overlay) = Overlay::new() else {
        return skipped!("no overlay");
    };
    let sandbox = &overlay.sandbox;
    sandbox.write(
        "flat.conf",
        &serde_json::json!({"node_name": "n1", "allowed_paths": [sandbox.root]}).to_string(),
    );
    let ipam = format!(r#"{RANGE},"datastore":"file","data_dir":"{}""#, sandbox.store().display());
    let add = overlay.verb("ADD", "c1", &ipam);
    refused(&overlay.run(&add));
    overlay.init();
    let ended = overlay.run(&add);
    assert!(
        ended.code() == 7
            && ended.details().contains("set data_dir and store_id in each node's flat file"),
        "{ended:?}"
    );
    overlay.run(&overlay.verb("DEL", "c1", &ipam)).succeeded();
}
