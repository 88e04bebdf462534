//! Commands on a file store in which killed calls have left something behind.

use super::{RANGE, sandbox};
use crate::conformance::host;
use crate::support::sandbox::{Sandbox, configuration};
use hereabouts::store::file::FileStore;
use hereabouts::store::{Filter, Store};

/// A namespace that exists: this process's own, under two names.
const HERE: &str = "/proc/self/ns/net";

fn three_of_one_node_and_one_of_another() -> Sandbox {
    let sandbox = sandbox();
    let mut living = sandbox.call("ADD");
    living
        .set("CNI_CONTAINERID", "living")
        .set("CNI_NETNS", HERE)
        .set("CNI_NETNS_OVERRIDE", "true")
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    sandbox.write("n2.conf", &sandbox.flat("n2"));
    let mut other = sandbox.call("ADD");
    other
        .set("CNI_CONTAINERID", "other")
        .set("HEREABOUTS_CONFIG", sandbox.path("n2.conf"))
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    sandbox.become_another_machine("n2", "n1");
    assert_eq!(sandbox.held(), ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5"]);
    sandbox
}

#[test]
fn sweep_shows_first_and_frees_what_this_node_holds_for_sandboxes_that_are_gone() {
    let sandbox = three_of_one_node_and_one_of_another();
    std::fs::write(sandbox.store().join("nodes/n1/net1/killed@net1.0"), "{").unwrap();
    std::fs::write(sandbox.store().join("nodes/n1/@tmp/7.7"), "").unwrap();
    std::fs::write(sandbox.store().join("nodes/n2/@tmp/7.7"), "").unwrap();
    let files = sandbox.files();
    let shown = sandbox.command(&["sweep", "--dry-run"]);
    shown.succeeded();
    let lines: Vec<&str> = shown.stdout.lines().map(str::trim).collect();
    assert_eq!(lines.len(), 4, "{shown:?}");
    assert!(
        lines[0].starts_with("10.1.2.2 ") && lines[0].ends_with(": no namespace was recorded"),
        "{shown:?}"
    );
    assert!(
        lines[1].starts_with("10.1.2.3 ") && lines[1].contains("pod default/web-0"),
        "{shown:?}"
    );
    assert_eq!(
        &lines[2..],
        ["nodes/n1/@tmp/7.7: temporary-file", "nodes/n1/net1/killed@net1.0: dangling-entry"]
    );
    let asked = sandbox.command(&["sweep"]);
    assert!(asked.status == Some(2) && asked.stderr.contains("pass --yes to sweep"), "{asked:?}");
    assert_eq!(sandbox.files(), files);
    let elsewhere = sandbox.command(&["sweep", "--network", "net2", "--dry-run"]);
    assert!(!elsewhere.stdout.contains("10.1.2."), "{elsewhere:?}");

    let swept = sandbox.command(&["sweep", "--yes"]);
    assert_eq!(
        (swept.status, swept.stdout.as_str()),
        (Some(0), "released 10.1.2.2\nreleased 10.1.2.3\n"),
        "{swept:?}"
    );
    assert_eq!(sandbox.held(), ["10.1.2.4", "10.1.2.5"]);
    let again = sandbox.command(&["sweep", "--yes"]);
    assert!(again.status == Some(0) && again.stderr.contains("nothing to sweep"), "{again:?}");
    let verified = sandbox.command(&["verify"]);
    assert!(
        verified.stdout.contains("1 x temporary-file")
            && verified.stdout.contains("nodes/n2/@tmp/7.7"),
        "{verified:?}"
    );
}

#[test]
fn release_of_a_dead_node_warns_and_frees_all_it_held_and_left_behind() {
    let sandbox = three_of_one_node_and_one_of_another();
    std::fs::write(sandbox.store().join("nodes/n2/@tmp/7.7"), "").unwrap();
    let asked = sandbox.command(&["release", "--node", "n2"]);
    assert!(
        asked.status == Some(2) && asked.stderr.contains("warning: node n2 must be off"),
        "{asked:?}"
    );
    let released = sandbox.command(&["release", "--node", "n2", "--yes"]);
    assert_eq!(
        (released.status, released.stdout.as_str()),
        (Some(0), "released 10.1.2.5\n"),
        "{released:?}"
    );
    assert_eq!(sandbox.held(), ["10.1.2.2", "10.1.2.3", "10.1.2.4"]);
    assert_eq!(sandbox.command(&["verify"]).status, Some(0));
    let of_another = sandbox.command(&["release", "--node", "n1", "--network", "net9", "--yes"]);
    assert!(
        of_another.succeeded().stderr.contains("node n1 holds no addresses of network net9;"),
        "{of_another:?}"
    );
    let asked = sandbox.command(&["release", "--node", "n2"]);
    assert!(
        asked.status == Some(2) && asked.stderr.contains("node n2 holds no addresses;"),
        "{asked:?}"
    );
    let again = sandbox.command(&["release", "--node", "n2", "--yes"]);
    assert!(
        again.status == Some(0) && again.stderr.contains("node n2 holds no addresses;"),
        "{again:?}"
    );
    let unknown = sandbox.command(&["release", "--node", "n3", "--yes"]);
    assert!(
        unknown.status == Some(1)
            && unknown.stderr.contains("no node of this name has used this store: n3"),
        "{unknown:?}"
    );
    let nothing = sandbox.command(&["release", "--yes"]);
    assert!(
        nothing.status == Some(2)
            && nothing.stderr.contains("expected an address, --pod, --container or --node"),
        "{nothing:?}"
    );
}

#[test]
fn a_store_that_is_not_there_yet_has_nothing_to_repair_or_sweep() {
    let sandbox = Sandbox::new();
    // The flat file names the directory, so an ADD does not create a store there.
    for command in ["repair", "verify", "list"] {
        let ended = sandbox.command(&[command]);
        assert!(
            ended.succeeded().stderr.contains("yet\nhint: \"hereabouts store init"),
            "{ended:?}"
        );
    }
    sandbox.command(&["sweep"]).succeeded();
    let store = FileStore::new(sandbox.store(), host("n1"));
    let Err(absent) = store.list(&Filter::default()) else { panic!("a store is there") };
    assert!(
        absent.hint().unwrap().starts_with("the first ADD or \"hereabouts store init"),
        "{absent}"
    );
}

#[test]
fn an_address_that_nobody_can_tell_the_holder_of_is_held() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    std::fs::write(sandbox.store().join("scopes/@/10.1.2.0_24/10.1.2.2"), "").unwrap();
    let ended = sandbox.command(&["list"]);
    assert!(ended.status == Some(1) && !ended.stderr.contains("no address is held"), "{ended:?}");
    assert!(ended.stderr.ends_with("error: 1 record could not be read\n"), "{ended:?}");
}

/// The address is held in two scopes, so the command must say which one, and the command that its
/// hint names must release it: by network, or by container if the networks are one.
#[test]
fn an_address_in_several_scopes_is_released_by_the_command_of_the_hint() {
    for other in ["net2", "net1"] {
        let sandbox = Sandbox::new();
        sandbox.add("c1", RANGE).succeeded();
        let blue = configuration(&format!(r#"{RANGE},"network_name":"blue""#));
        sandbox
            .call("ADD")
            .set("CNI_CONTAINERID", "c2")
            .stdin(blue.replace("net1", other))
            .run()
            .succeeded();
        let store = sandbox.store().display().to_string();
        let refused = sandbox.command(&["release", "10.1.2.2", "--data-dir", &store, "--yes"]);
        assert!(
            refused.status == Some(2)
                && refused.stderr.contains("in (unnamed) by container c1, ")
                && refused.stderr.contains("in blue by container c2, "),
            "{refused:?}"
        );
        let mut words = refused.stderr.split('"').nth(1).unwrap().split(' ');
        assert_eq!(words.next(), Some("hereabouts"), "{refused:?}");
        let args: Vec<&str> = words.chain(["--yes"]).collect();
        let released = sandbox.command(&args);
        assert_eq!(released.succeeded().stdout, "released 10.1.2.2\n", "{args:?}");
        assert!(args.contains(&"--data-dir"), "{args:?}");
        let kept = sandbox.command(&["show", "10.1.2.2"]);
        assert!(kept.succeeded().stdout.contains("Scope:     blue\n"), "{kept:?}");
    }
}
