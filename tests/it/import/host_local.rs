//! From host-local on one machine.

use super::machine::Machine;
use crate::support::sandbox::Ended;
use serde_json::{Value, json};

/// Two families.
fn ipam() -> Value {
    json!({"ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]]})
}

fn states<const N: usize>(rows: [(&str, &str); N]) -> Vec<(String, String)> {
    rows.map(|(address, state)| (address.to_owned(), state.to_owned())).into()
}

fn reasons(ended: &Ended) -> Vec<String> {
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let rows = document["addresses"].as_array().unwrap();
    rows.iter().filter_map(|row| row["reason"].as_str().map(str::to_owned)).collect()
}

/// The whole way: every verb does for an imported pod what it does for our own.
#[test]
fn pods_of_host_local_go_on_under_hereabouts() {
    let Some(machine) = Machine::new(&ipam()) else { return };
    for (pod, number) in [("a", 2), ("b", 3), ("c", 4), ("d", 5)] {
        let expected = [format!("10.77.0.{number}"), format!("fd77::{number}")];
        assert_eq!(machine.start(pod), expected);
    }
    machine.run("ip netns del d");
    let all = |state| {
        states([
            ("10.77.0.2", state),
            ("10.77.0.3", state),
            ("10.77.0.4", state),
            ("10.77.0.5", "gone"),
            ("fd77::2", state),
            ("fd77::3", state),
            ("fd77::4", state),
            ("fd77::5", "gone"),
        ])
    };
    let before = machine.sandbox.files();
    let (rows, ended) = machine.import(&["--dry-run"]);
    assert_eq!((rows, ended.status), (all("new"), Some(0)), "{}", ended.stderr);
    assert_eq!(machine.sandbox.files(), before, "a dry run changes nothing");
    for state in ["new", "recorded"] {
        let (rows, ended) = machine.import(&[]);
        assert_eq!((rows, ended.status), (all(state), Some(0)), "{}", ended.stderr);
    }
    assert_eq!(reasons(&machine.import(&["--dry-run"]).1), ["its sandbox is gone"; 2]);

    let list = machine.sandbox.list();
    let pods: Vec<&str> = list.iter().map(|row| row["pod"]["uid"].as_str().unwrap()).collect();
    assert_eq!(pods, ["u-a", "u-b", "u-c", "u-a", "u-b", "u-c"]);

    machine.serve("hereabouts", &ipam());
    machine.cni("check", "a").succeeded();
    // A repeated ADD: libcni has no other way than a DEL of the interface before.
    machine.run("ip -n b link del eth0");
    assert_eq!(machine.cni("add", "b").succeeded().addresses(), ["10.77.0.3", "fd77::3"]);
    assert_eq!(machine.start("e"), ["10.77.0.5", "fd77::5"], "of the pod that is gone");
    machine.cni("del", "a").succeeded();
    machine.run("ip netns del c");
    machine.command(&["sweep", "--yes"]).succeeded();
    assert_eq!(machine.sandbox.held(), ["10.77.0.3", "10.77.0.5", "fd77::3", "fd77::5"]);
    machine.command(&["verify"]).succeeded();
}

/// An ADD between the switch and the import does not give what host-local has given, and a DEL in
/// between removes its file.
#[test]
fn until_the_import_the_files_of_host_local_keep_their_addresses() {
    let Some(machine) = Machine::new(&ipam()) else { return };
    let directory = "/var/lib/cni/networks";
    machine.sandbox.set_in_flat(&[("host_local_dir", json!(directory))]);
    machine.start("a");
    machine.start("b");
    machine.serve("hereabouts", &ipam());
    assert_eq!(machine.start("c"), ["10.77.0.4", "fd77::4"]);
    machine.cni("del", "a").succeeded();
    let files = machine.run(&format!("ls {directory}/net")).stdout;
    let files: Vec<&str> = files.lines().filter(|name| !name.contains('_')).collect();
    assert_eq!(files, ["10.77.0.3", "fd77::3", "lock"]);
    assert_eq!(machine.start("d"), ["10.77.0.2", "fd77::2"]);

    let requested = json!({"type": "hereabouts", "subnet": "10.77.0.0/24"});
    machine.serve("hereabouts", &requested);
    machine.run("ip netns add e");
    let mut list: Value = serde_json::from_str(
        &std::fs::read_to_string(machine.sandbox.path("net.d/net.conflist")).unwrap(),
    )
    .unwrap();
    list["plugins"][0]["args"] = json!({"cni": {"ips": ["10.77.0.3/24"]}});
    machine.sandbox.write("net.d/net.conflist", &list.to_string());
    let refused = machine.cni("add", "e");
    assert_eq!(refused.status, Some(1));
    assert!(
        refused.stderr.contains("10.77.0.3") && refused.stderr.contains("host-local"),
        "{refused:?}"
    );

    let (rows, ended) = machine.import(&[]);
    assert_eq!(rows, states([("10.77.0.3", "new"), ("fd77::3", "new")]), "{}", ended.stderr);
}

/// Each network of host-local has its addresses for itself, hereabouts only those with a
/// `network_name`.
#[test]
fn networks_with_the_same_addresses_need_their_names() {
    let same = json!({"ranges": [[{"subnet": "10.77.0.0/24"}]]});
    let Some(machine) = Machine::new(&same) else { return };
    machine.write_network("other", "host-local", &same);
    machine.start("a");
    machine.run("ip netns add b");
    machine.cni_of("other", "add", "b").succeeded();
    for (more, states) in [(&["--dry-run"][..], ["left", "new"]), (&[], ["left", "new"])] {
        let (rows, ended) = machine.import(more);
        let mut found: Vec<&str> = rows.iter().map(|(_, state)| state.as_str()).collect();
        found.sort_unstable();
        assert_eq!((found, ended.status), (states.to_vec(), Some(1)), "{}", ended.stderr);
    }
    let mut named = same.clone();
    named["network_name"] = json!("blue");
    let network = machine.write_network("other", "hereabouts", &named);
    let network = network.to_str().unwrap();
    // The one that was imported first may be either.
    if machine.sandbox.list()[0]["network"] == "other" {
        let (rows, ended) = machine.import(&["--network", network]);
        assert_eq!(rows, states([("10.77.0.2", "left"), ("10.77.0.2", "left")]));
        let told = reasons(&ended).join("; ");
        assert!(told.contains("10.77.0.2 as held by this sandbox"), "{told}");
        machine
            .command(&["release", "10.77.0.2", "--network", "other", "--force", "--yes"])
            .succeeded();
    }
    let (_, ended) = machine.import(&["--network", network]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let mut scopes: Vec<String> = machine
        .sandbox
        .list()
        .iter()
        .map(|row| format!("{} {} {}", row["scope"], row["network"], row["address"]))
        .collect();
    scopes.sort();
    assert_eq!(scopes, [r#""blue" "other" "10.77.0.2""#, r#"null "net" "10.77.0.2""#]);
}

/// What does not fit is listed, with its reason, and the command says that it is not done.
#[test]
fn what_no_runtime_knows_is_left_and_named() {
    let Some(machine) = Machine::new(&ipam()) else { return };
    machine.start("a");
    let directory = "/var/lib/cni/networks/net";
    machine.run(&format!(
        "printf 'lost\\r\\neth0' > {directory}/10.77.0.9
         printf 'old\\r\\neth0' > {directory}/10.77.0.10 && touch -d '2001-01-01' {directory}/10.77.0.10
         : > {directory}/10.77.0.11
         echo x > {directory}/note
         echo '{{' > /var/lib/cni/results/damaged-x-eth0"
    ));
    let (rows, ended) = machine.import(&[]);
    let expected = states([
        ("note", "left"),
        ("10.77.0.2", "new"),
        ("10.77.0.9", "left"),
        ("10.77.0.10", "gone"),
        ("10.77.0.11", "left"),
        ("fd77::2", "new"),
    ]);
    assert_eq!((rows, ended.status), (expected, Some(1)));
    assert!(
        ended.stderr.contains("damaged-x-eth0: this is not a cached result"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("3 addresses are left"), "{}", ended.stderr);
    assert_eq!(
        reasons(&ended),
        [
            "this is not a file of host-local: its name is not an address",
            "no result below /var/lib/cni and /var/lib/cni/multus has it for container lost",
            "it is from before the last boot",
            "this is not a file of host-local: it names no container",
        ]
    );
    let missing = machine.command(&["import", "host-local", "/nowhere"]);
    assert!(missing.stderr.contains("there is no directory /nowhere"), "{missing:?}");
}

/// A pod that hereabouts has served since has its own record, and the file of host-local is another
/// pod's.
#[test]
fn an_address_that_hereabouts_has_given_to_another_pod_is_left() {
    let Some(machine) = Machine::new(&ipam()) else { return };
    machine.start("a");
    machine.serve("hereabouts", &json!({"ranges": [[{"subnet": "10.77.0.0/24"}]]}));
    assert_eq!(machine.start("b"), ["10.77.0.2"], "nothing was imported before the switch");
    let (rows, ended) = machine.import(&[]);
    assert_eq!(rows, states([("10.77.0.2", "left"), ("fd77::2", "new")]));
    assert!(reasons(&ended)[0].contains("as held by pod default/b"), "{ended:?}");
}
