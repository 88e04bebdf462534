//! Records in doubt: `verify` names each one with its age, `release` frees it from any machine, and
//! a sandbox that is seen alive keeps its address unless --force is given.

use crate::support::living::Living;
use crate::support::sandbox::{Ended, Sandbox, configuration};
use serde_json::Value;

const RANGE: &str = r#""range":"10.1.2.0/24""#;

/// Holds 10.1.2.1 for a sandbox that ADD saw from its own mount namespace. From here, a plain file
/// is at its path.
pub(super) fn add_in_doubt(sandbox: &Sandbox, living: &Living, container: &str) {
    let file = sandbox.write(&format!("netns-{container}"), "");
    let script = r#"mount --bind "$0" "$1" && shift && exec "$@""#;
    let mut call = sandbox.call("ADD");
    call.set("CNI_CONTAINERID", container)
        .set("CNI_NETNS", file.to_str().unwrap())
        .stdin(configuration(RANGE));
    call.through(&[
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        &living.path(),
        file.to_str().unwrap(),
    ])
    .run()
    .succeeded();
}

/// Returns the command that a document of `verify` names, as words.
pub(super) fn words(finding: &Value) -> Vec<String> {
    let command = finding["release"].as_str().unwrap().strip_prefix("hereabouts ").unwrap();
    command.split(' ').chain(["--yes"]).map(str::to_owned).collect()
}

fn run(sandbox: &Sandbox, words: &[String]) -> Ended {
    sandbox.command(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn scene() -> Option<(Sandbox, Living)> {
    let living = Living::new();
    if living.is_none() {
        skipped!("no root");
    }
    Some((Sandbox::new(), living?))
}

#[test]
fn verify_names_what_is_in_doubt_with_its_age_and_the_command_that_frees_it() {
    let Some((sandbox, living)) = scene() else { return };
    add_in_doubt(&sandbox, &living, "c1");
    sandbox
        .call("ADD")
        .set("CNI_CONTAINERID", "c2")
        .set("CNI_NETNS", living.path())
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    let text = sandbox.command(&["verify"]);
    let command = "hereabouts release 10.1.2.1 --network net1 --node n1\n";
    assert!(
        text.succeeded().stdout.contains("1 x in doubt") && text.stdout.contains(command),
        "{text:?}"
    );
    assert!(
        text.stdout.contains("ADD saw it in another mount namespace")
            && !text.stdout.contains("10.1.2.2"),
        "{text:?}"
    );
    let document = sandbox.command(&["verify", "-o", "json"]).succeeded().document();
    let doubted = document["doubted"].as_array().unwrap();
    assert_eq!(
        (doubted.len(), &doubted[0]["address"]),
        (1, &Value::from("10.1.2.1")),
        "{document}"
    );
    assert!(
        doubted[0]["ageSeconds"].is_u64()
            && doubted[0]["since"].is_string()
            && doubted[0]["container"] == "c1",
        "{document}"
    );
    // GC, sweep and repair do not free it. The command does.
    for command in [&["sweep", "--yes"][..], &["repair", "--yes"]] {
        sandbox.command(command).succeeded();
    }
    assert_eq!(sandbox.held(), ["10.1.2.1", "10.1.2.2"]);
    run(&sandbox, &words(&doubted[0])).succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.2"]);
    let document = sandbox.command(&["verify", "-o", "json"]).succeeded().document();
    assert_eq!(document["doubted"], serde_json::json!([]));
}

/// This shows the nodes that an autoscaler has removed.
#[test]
fn verify_names_each_node_with_the_age_of_its_youngest_record() {
    let sandbox = Sandbox::new();
    for (node, container) in [("n1", "c1"), ("gone", "c2"), ("gone", "c3")] {
        sandbox.write("flat.conf", &sandbox.flat(node));
        sandbox.add(container, RANGE).succeeded();
    }
    sandbox.write("flat.conf", &sandbox.flat("n1"));
    let document = sandbox.command(&["verify", "-o", "json"]).succeeded().document();
    let nodes = document["nodes"].as_array().unwrap();
    let told: Vec<_> = nodes
        .iter()
        .map(|node| (node["node"].as_str().unwrap(), node["records"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("n1", 1), ("gone", 2)], "the longest without a new one first");
    assert!(
        nodes
            .iter()
            .all(|node| node["youngestAgeSeconds"].is_u64() && node["youngest"].is_string()),
        "{document}"
    );
    let text = sandbox.command(&["verify"]);
    assert!(text.stdout.contains("NODE  ADDRESSES  AGE OF NEWEST\n"), "{text:?}");
    run(&sandbox, &words(&nodes[1])).succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
}

#[test]
fn what_a_sandbox_has_that_is_seen_alive_is_released_by_force_alone() {
    let Some((sandbox, living)) = scene() else { return };
    sandbox
        .call("ADD")
        .set("CNI_NETNS", living.path())
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    // Whatever node name is given, even the name of another node that this machine had.
    sandbox.write("n2.conf", &sandbox.flat("n2"));
    let renamed = sandbox.path("n2.conf");
    for words in [
        &["release", "10.1.2.1", "--yes"][..],
        &["release", "--node", "n1", "--yes"],
        &["release", "--container", "abc123", "--yes"],
    ] {
        let mut call = sandbox.command_call(words);
        if words[1] == "--node" {
            call.set("HEREABOUTS_CONFIG", &renamed);
        }
        let refused = call.run();
        assert_eq!((refused.status, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
        assert!(
            refused.stderr.contains("pass --force") && refused.stderr.contains(&living.path()),
            "names what it saw: {refused:?}"
        );
        assert_eq!(sandbox.held(), ["10.1.2.1"]);
    }
    let forced = sandbox.command(&["release", "10.1.2.1", "--yes", "--force"]);
    assert_eq!(forced.succeeded().stdout, "released 10.1.2.1\n");
    // Nothing asks about the sandbox of a node that is gone.
    sandbox
        .call("ADD")
        .set("CNI_NETNS", living.path())
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    drop(living);
    sandbox.command(&["release", "10.1.2.1", "--yes"]).succeeded();
    assert!(sandbox.held().is_empty());
}

/// Releases one address of a living node. The name of that node still belongs to its machine.
#[test]
fn releasing_one_address_of_another_node_does_not_forget_whose_name_it_is() {
    let sandbox = Sandbox::new();
    if sandbox.cluster.is_some() {
        return;
    }
    sandbox.add("c1", RANGE).succeeded();
    let note = sandbox.store().join("nodes/n1/@machine-id");
    if !note.exists() {
        return skipped!("this machine has no machine id");
    }
    sandbox.write("flat.conf", &sandbox.flat("n2"));
    sandbox.command(&["release", "10.1.2.1", "--node", "n1", "--yes"]).succeeded();
    assert!(sandbox.held().is_empty() && note.exists());
    sandbox.command(&["release", "--node", "n1", "--yes"]).succeeded();
    assert!(!note.exists(), "a node that is off for good is forgotten");
}
