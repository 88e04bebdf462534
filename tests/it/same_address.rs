//! A pod keeps its address when its sandbox is created again: the runtime makes the DEL of the old
//! sandbox a moment before the ADD of the new one, with ADDs of other pods in between.

use crate::support::sandbox::{Call, Sandbox, configuration};

const RANGE: &str = r#""range":"10.1.2.0/24""#;

/// Returns a call for a sandbox of a pod, whose uid is its name.
fn call(sandbox: &Sandbox, verb: &str, pod: &str, container: &str, ipam: &str) -> Call {
    let mut call = sandbox.call(verb);
    call.set("CNI_CONTAINERID", container)
        .set("CNI_NETNS", format!("/var/run/netns/{container}"))
        .set(
            "CNI_ARGS",
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_UID=uid-{pod}"
            ),
        )
        .stdin(configuration(ipam));
    call
}

fn add(sandbox: &Sandbox, pod: &str, container: &str) -> Vec<String> {
    call(sandbox, "ADD", pod, container, RANGE).run().succeeded().addresses()
}

fn del(sandbox: &Sandbox, pod: &str, container: &str) {
    call(sandbox, "DEL", pod, container, RANGE).run().succeeded();
}

/// Cause: re-homing moves what a dead sandbox holds, and every runtime frees that by a DEL before
/// the ADD of the new sandbox. 12 of 14 pods had another address after a reboot. Fix: a freed
/// address is noted with the pod's uid and tried first.
#[test]
fn after_a_reboot_each_pod_has_the_address_that_it_had() {
    let sandbox = Sandbox::new();
    let pods: Vec<String> = (0..14).map(|number| format!("p{number}")).collect();
    let before: Vec<_> = pods.iter().map(|pod| add(&sandbox, pod, &format!("{pod}-old"))).collect();
    pods.iter().for_each(|pod| del(&sandbox, pod, &format!("{pod}-old")));
    let mut after: Vec<_> =
        pods.iter().rev().map(|pod| add(&sandbox, pod, &format!("{pod}-new"))).collect();
    after.reverse();
    assert_eq!(after, before);
}

#[test]
fn others_pass_over_what_was_freed_a_moment_ago_while_something_else_is_free() {
    let sandbox = Sandbox::new();
    let freed = add(&sandbox, "mine", "old");
    let other = add(&sandbox, "other", "c1");
    del(&sandbox, "mine", "old");
    let next = add(&sandbox, "next", "c2");
    assert!(freed != next && other != next, "{next:?}");
    assert_eq!(add(&sandbox, "mine", "new"), freed);

    // The same pod with two networks, or with two interfaces.
    del(&sandbox, "mine", "new");
    let mut elsewhere = call(&sandbox, "ADD", "mine", "newer", RANGE);
    assert_ne!(elsewhere.set("CNI_IFNAME", "net2").run().succeeded().addresses(), freed);
    assert_eq!(add(&sandbox, "mine", "newer"), freed);
}

#[test]
fn nobody_is_refused_an_address_for_it() {
    let sandbox = Sandbox::new();
    let two = r#""range":"10.1.2.0/30""#;
    let added = |pod: &str, container: &str| call(&sandbox, "ADD", pod, container, two).run();
    let mine = added("mine", "old").succeeded().addresses();
    added("other", "c1").succeeded();
    call(&sandbox, "DEL", "mine", "old", two).run().succeeded();
    assert_eq!(added("next", "c2").succeeded().addresses(), mine);
    assert_eq!(added("mine", "new").code(), 100);
}

#[test]
fn a_moment_later_the_lowest_is_the_lowest_again_and_the_pod_has_no_claim() {
    let sandbox = Sandbox::new();
    let mine = add(&sandbox, "mine", "old");
    add(&sandbox, "other", "c1");
    del(&sandbox, "mine", "old");
    let noted = sandbox.path("freed/n1");
    let text = std::fs::read_to_string(&noted).unwrap();
    let (at, rest) = text.split_once(' ').unwrap();
    std::fs::write(&noted, format!("{} {rest}", at.parse::<u64>().unwrap() - 11_000)).unwrap();
    assert_eq!(add(&sandbox, "next", "c2"), mine);
    assert_ne!(add(&sandbox, "mine", "new"), mine);
}

#[test]
fn without_a_uid_the_lowest_free_address_comes_first() {
    let sandbox = Sandbox::new();
    let first = add(&sandbox, "mine", "old");
    del(&sandbox, "mine", "old");
    let mut nameless = call(&sandbox, "ADD", "next", "c1", RANGE);
    assert_eq!(
        nameless
            .set("CNI_ARGS", "K8S_POD_NAMESPACE=default;K8S_POD_NAME=next")
            .run()
            .succeeded()
            .addresses(),
        first
    );
}

#[test]
fn every_address_of_a_dual_stack_pod_is_kept_and_what_no_longer_fits_is_not() {
    let sandbox = Sandbox::new();
    let two = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"fd00::/64"}]"#;
    let added = |pod: &str, container: &str, ipam: &str| {
        call(&sandbox, "ADD", pod, container, ipam).run().succeeded().addresses()
    };
    added("other", "c1", two);
    let mine = added("mine", "old", two);
    call(&sandbox, "DEL", "other", "c1", two).run().succeeded();
    call(&sandbox, "DEL", "mine", "old", two).run().succeeded();
    assert_eq!(added("mine", "new", two), mine);
    call(&sandbox, "DEL", "mine", "new", two).run().succeeded();
    // The network has changed in the meantime.
    assert_eq!(added("mine", "newer", r#""range":"10.1.9.0/24""#), ["10.1.9.1"]);
}

/// What GC and `sweep` free for a pod is noted as well.
#[test]
fn a_pod_whose_del_never_came_keeps_its_address() {
    let sandbox = Sandbox::new();
    let mine = add(&sandbox, "mine", "old");
    let mut gc = call(&sandbox, "GC", "", "", RANGE);
    let listed = configuration(RANGE)
        .replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1)
        .replace("1.0.0", "1.1.0");
    gc.unset("CNI_CONTAINERID").stdin(listed).run().succeeded();
    assert!(sandbox.held().is_empty());
    assert_ne!(add(&sandbox, "next", "c1"), mine);
    assert_eq!(add(&sandbox, "mine", "new"), mine);
    sandbox.command(&["sweep", "--yes"]).succeeded();
    assert!(sandbox.held().is_empty());
    assert_eq!(add(&sandbox, "mine", "newer"), mine);
}

/// It is a hint: no call fails because of it, whatever is in its place.
#[test]
fn what_cannot_be_noted_or_read_costs_nothing_but_the_hint() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("freed"), "no directory").unwrap();
    let mine = add(&sandbox, "mine", "old");
    del(&sandbox, "mine", "old");
    assert_eq!(add(&sandbox, "next", "c1"), mine);
    std::fs::remove_file(sandbox.path("freed")).unwrap();
    del(&sandbox, "next", "c1");
    std::fs::write(
        sandbox.path("freed/n1"),
        b"12 half\n\xff\xfe\n\n99999999999999999999999 a b c d",
    )
    .unwrap();
    assert_eq!(add(&sandbox, "next", "c2"), mine);
}
