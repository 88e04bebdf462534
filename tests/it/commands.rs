//! The operator's commands, as a user types them. All of this applies to both stores, except for
//! `files`. `HEREABOUTS_TEST_STORE=kubernetes` runs it on the other store.

/// How records in doubt are freed.
mod doubt;
/// What killed calls leave in a directory.
mod files;
/// The store in the Kubernetes API.
#[cfg(feature = "kube")]
mod kube;

use crate::support::sandbox::{Call, Sandbox, configuration};
#[cfg(feature = "kube")]
use crate::support::transcript::Transcript;

const RANGE: &str = r#""range":"10.1.2.0/24","gateway":"10.1.2.1""#;
const POD: &str = "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u1";

fn sandbox() -> Sandbox {
    holding(Sandbox::new())
}

/// `c1` holds 10.1.2.2, and `c2` holds 10.1.2.3 for a pod. Both sandboxes are gone.
pub(crate) fn holding(sandbox: Sandbox) -> Sandbox {
    sandbox.add("c1", RANGE).succeeded();
    sandbox
        .call("ADD")
        .set("CNI_CONTAINERID", "c2")
        .set("CNI_ARGS", POD)
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    sandbox
}

#[test]
fn without_arguments_it_says_what_it_is_and_how_to_use_it() {
    let ended = Call::bare().run();
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), ""));
    assert!(ended.stderr.contains(
        "CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"
    ));
    assert!(ended.stderr.contains("Usage:"));
}

/// Without the feature `kube`, options and hints differ.
#[test]
#[cfg(feature = "kube")]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let sandbox = Sandbox::new();
    let mut seen = Transcript::new(&sandbox);
    for args in [
        &["lst"][..],
        &["list", "--nod", "x"],
        &["show"],
        &["show", "10.0.0"],
        &["show", "10.1.2.2/24"],
        &["release"],
        &["release", "fe80::1%eth0"],
        &["release", "--pod", "a/b/c"],
        &["list", "--node", "a/b"],
        &["list", "--pod", "default/"],
        &["completions", "bash", "--data-dir", "/x"],
        &["config", "check", "/x", "--config", "/x"],
        &["store", "test", "/x", "--data-dir", "/x"],
    ] {
        let ended = seen.run(&sandbox, args);
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(2), ""), "{args:?}");
    }
    seen.assert("wrong-usage");
    let help = sandbox.command(&["--help"]);
    assert_eq!((help.status, help.stderr.as_str()), (Some(0), ""));
    assert!(help.stdout.contains("Examples:"));
}

#[test]
fn list_shows_who_holds_what_and_says_which_store_it_read() {
    let sandbox = sandbox();
    let ended = sandbox.command(&["list"]);
    let lines: Vec<Vec<&str>> =
        ended.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ADDRESS", "NETWORK", "POD", "INTERFACE", "CONTAINER", "NODE", "SINCE"]);
    assert_eq!(lines[1][..6], ["10.1.2.2/24", "net1", "-", "net1", "c1", "n1"]);
    assert_eq!(lines[2][..6], ["10.1.2.3/24", "net1", "default/web-0", "net1", "c2", "n1"]);
    let named = match sandbox.cluster {
        None => format!(
            "store: {} ({}: data_dir)",
            sandbox.store().display(),
            sandbox.path("flat.conf").display()
        ),
        Some(cluster) => {
            format!("store: {} ({})", cluster.server(), cluster.kubeconfig().display())
        }
    };
    assert_eq!(ended.stderr.trim(), named);
}

#[test]
fn list_filters_by_network_node_and_pod() {
    let sandbox = sandbox();
    let count = |args: &[&str]| {
        sandbox.command(&[&["list"][..], args].concat()).stdout.lines().skip(1).count()
    };
    assert_eq!(count(&["--network", "net1"]), 2);
    assert_eq!(count(&["--network", "net2"]), 0);
    assert_eq!(count(&["--node", "n1"]), 2);
    assert_eq!(count(&["--node", "n2"]), 0);
    assert_eq!(count(&["--pod", "default/web-0"]), 1);
    assert_eq!(count(&["--pod", "web-0"]), 1);
    assert_eq!(count(&["--pod", "other/web-0"]), 0);
    // The other addresses are certainly held.
    assert!(sandbox.command(&["list", "--node", "n2"]).stderr.ends_with("no address matches\n"));
}

#[test]
fn json_lists_are_for_programs() {
    let sandbox = sandbox();
    let records = sandbox.list();
    assert_eq!(records.len(), 2);
    assert_eq!(
        records[1]["pod"],
        serde_json::json!({"namespace": "default", "name": "web-0", "uid": "u1"})
    );
    assert_eq!(records[1]["address"], "10.1.2.3");
    assert_eq!(Sandbox::new().command(&["list", "-o", "json"]).stdout, "[]\n");
}

#[test]
fn show_tells_all_of_one_address_and_fails_for_a_free_one() {
    let sandbox = sandbox();
    let ended = sandbox.command(&["show", "10.1.2.3"]);
    assert!(ended.stdout.contains("Pod:       default/web-0\n"), "{}", ended.stdout);
    let ended = sandbox.command(&["show", "10.1.2.9"]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("this address is not held: 10.1.2.9"));
}

#[test]
fn usage_counts_held_free_and_excluded() {
    let sandbox = sandbox();
    let file = sandbox.write(
        "net.json",
        &configuration(r#""range":"10.1.2.0/24","gateway":"10.1.2.1","exclude":["10.1.2.128/25"]"#),
    );
    let ended = sandbox.command(&["usage", file.to_str().unwrap(), "-o", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let row = &rows[0];
    assert_eq!(
        (
            row["held"].as_u64(),
            row["free"].as_u64(),
            row["excluded"].as_u64(),
            row["total"].as_u64()
        ),
        (Some(2), Some(124), Some(128), Some(254))
    );
}

#[test]
fn usage_says_where_there_is_no_range_to_count() {
    let sandbox = sandbox();
    let file =
        sandbox.write("net.json", &configuration(r#""addresses":[{"address":"10.9.9.9/24"}]"#));
    let ended = sandbox.command(&["usage", file.to_str().unwrap()]);
    assert!(
        ended.succeeded().stdout.is_empty() && ended.stderr.contains("net1 has no ranges to count"),
        "{ended:?}"
    );
    let ended = sandbox.command(&["usage", file.to_str().unwrap(), "-o", "json"]);
    assert_eq!(ended.succeeded().stdout, "[]\n");
}

#[test]
fn release_needs_yes_without_a_terminal_and_frees_then() {
    let sandbox = sandbox();
    let ended = sandbox.command(&["release", "10.1.2.2"]);
    assert_eq!(ended.status, Some(2));
    assert!(ended.stderr.contains("--yes"), "{ended:?}");
    assert_eq!(sandbox.held().len(), 2);
    assert_eq!(
        sandbox.command(&["release", "10.1.2.2", "--yes"]).succeeded().stdout,
        "released 10.1.2.2\n"
    );
    sandbox.command(&["release", "--pod", "default/web-0", "--yes"]).succeeded();
    assert!(sandbox.held().is_empty());
    assert_eq!(sandbox.command(&["release", "--container", "c1", "--yes"]).status, Some(1));
}

#[test]
fn release_of_another_nodes_record_needs_its_name() {
    let sandbox = sandbox();
    sandbox.write("flat.conf", &sandbox.flat("n2"));
    let ended = sandbox.command(&["release", "10.1.2.2", "--yes"]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("if that node is off, pass --node n1"), "{ended:?}");
    let ended = sandbox.command(&["release", "10.1.2.2", "--node", "n1", "--yes"]);
    assert!(ended.succeeded().stderr.contains("node n1 must be off"));
    assert_eq!(sandbox.held(), ["10.1.2.3"]);
}

#[test]
#[cfg(feature = "kube")]
fn a_file_that_is_no_configuration_is_named() {
    let sandbox = Sandbox::new();
    let nad =
        r#"{"kind":"NetworkAttachmentDefinition","metadata":{"name":"n"},"spec":{"config":"{"}}"#;
    let mut seen = Transcript::new(&sandbox);
    for content in ["", "{", nad] {
        let file = sandbox.write("net.json", content);
        seen.note(&format!("net.json has {content:?}"));
        let ended = seen.run(&sandbox, &["usage", file.to_str().unwrap()]);
        assert_eq!(ended.status, Some(1), "{ended:?}");
    }
    seen.assert("usage-of-no-configuration");
}

#[test]
fn the_store_comes_from_data_dir_before_config_before_the_flat_file() {
    let sandbox = sandbox();
    let other = sandbox.path("other");
    let ended = sandbox.command(&["list", "--data-dir", other.to_str().unwrap()]);
    assert!(
        ended.stderr.starts_with(&format!("store: {} (--data-dir)", other.display())),
        "{ended:?}"
    );
    let config = sandbox.write("config.conf", &serde_json::json!({"data_dir": other}).to_string());
    let ended = sandbox.command(&["list", "--config", config.to_str().unwrap()]);
    assert!(
        ended.stderr.starts_with(&format!(
            "store: {} ({}: data_dir)",
            other.display(),
            config.display()
        )),
        "{ended:?}"
    );
}

#[test]
fn a_directory_named_for_the_command_must_be_a_store() {
    let sandbox = sandbox();
    let ended = sandbox.command(&["list", "--data-dir", sandbox.path("typo").to_str().unwrap()]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("there is no store at"), "{ended:?}");
}

#[test]
fn where_nothing_names_a_store_it_is_said_how_to() {
    // The default store, which a machine may have.
    let sandbox = Sandbox::new();
    let flat = sandbox.write("flat.conf", "{}");
    let mut call = Call::bare();
    call.set("HEREABOUTS_CONFIG", flat.to_str().unwrap()).args = vec!["list".to_owned()];
    let is_there = std::path::Path::new("/var/lib/cni/hereabouts/format").exists();
    let said = call.run().succeeded().stderr.clone();
    assert_eq!(said.contains("--data-dir DIR for a directory"), !is_there, "{said}");
    assert!(!Sandbox::new().command(&["list"]).stderr.contains("no store is configured"));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            Sandbox::new()
                .command(&["completions", shell])
                .succeeded()
                .stdout
                .contains("hereabouts")
        );
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let sandbox = sandbox();
    let mut call = Call::bare();
    call.set("HEREABOUTS_CONFIG", sandbox.path("flat.conf").to_str().unwrap());
    call.args = vec!["list".to_owned()];
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(
        call.command()
            .stdout(writer)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn an_output_that_takes_nothing_is_a_failure_that_says_so() {
    let sandbox = sandbox();
    for args in [&["list"][..], &["list", "-o", "json"], &["show", "10.1.2.2"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = sandbox.command_call(args).command().stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(
            ended.status.code() == Some(1) && said.contains("error: cannot write to stdout: "),
            "{args:?} {said}"
        );
    }
}
