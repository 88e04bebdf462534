//! Networks with `"sticky": "statefulSet"`: a pod of a StatefulSet gets the address of the previous
//! pod of its name, however long ago, on both stores.

use crate::support::sandbox::{Call, Sandbox, configuration};
use std::path::PathBuf;

/// Returns a call for a sandbox `<pod>/<number>`. Each number is another pod of the name.
fn call(sandbox: &Sandbox, verb: &str, pod: &str, number: u8, ipam: &str) -> Call {
    let mut call = sandbox.call(verb);
    call.set("CNI_CONTAINERID", format!("{pod}.{number}"))
        .set("CNI_NETNS", format!("/var/run/netns/{pod}.{number}"))
        .set("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=db;K8S_POD_NAME={pod};K8S_POD_UID=uid-{pod}-{number}"))
        .stdin(configuration(&format!(r#"{ipam},"sticky":"statefulSet""#)));
    call
}

const RANGE: &str = r#""range":"10.1.2.0/24""#;
const TWO: &str = r#""range":"10.1.2.0/30""#;

fn add(sandbox: &Sandbox, pod: &str, number: u8) -> Vec<String> {
    call(sandbox, "ADD", pod, number, RANGE).run().succeeded().addresses()
}

fn del(sandbox: &Sandbox, pod: &str, number: u8) {
    call(sandbox, "DEL", pod, number, RANGE).run().succeeded();
    // Every ADD knows for some seconds what a pod had.
    let _ = std::fs::remove_dir_all(sandbox.path("freed"));
}

fn scope(sandbox: &Sandbox) -> PathBuf {
    sandbox.store().join("scopes/@")
}

#[test]
fn a_pod_of_a_statefulset_gets_the_address_of_the_pod_before_it() {
    let sandbox = Sandbox::new();
    add(&sandbox, "web-5d4f8-x2k9q", 0);
    let [zero, one] = [add(&sandbox, "db-0", 0), add(&sandbox, "db-1", 0)];
    assert_eq!([&zero[0], &one[0]], ["10.1.2.2", "10.1.2.3"]);
    for pod in ["web-5d4f8-x2k9q", "db-0", "db-1"] {
        del(&sandbox, pod, 0);
    }
    // `sweep` removes the files of an unused scope, and forgets nothing of it.
    sandbox.command(&["sweep", "--yes"]).succeeded();
    // A rolling restart goes downwards, with ADDs of other pods in between.
    assert_eq!(add(&sandbox, "web-6b7c9-aaaaa", 0), ["10.1.2.1"]);
    assert_eq!(add(&sandbox, "web-6b7c9-bbbbb", 0), ["10.1.2.4"]);
    assert_eq!(add(&sandbox, "db-1", 1), one);
    assert_eq!(add(&sandbox, "db-0", 1), zero);
    // Only pods with such a name are remembered.
    del(&sandbox, "web-6b7c9-bbbbb", 0);
    assert_eq!(add(&sandbox, "cache-0", 0), ["10.1.2.4"]);
    sandbox.command(&["verify"]).succeeded();
}

/// The previous pod may still run: it was deleted by force.
#[test]
fn while_the_old_sandbox_holds_the_address_the_new_one_gets_another() {
    let sandbox = Sandbox::new();
    assert_eq!(add(&sandbox, "db-0", 0), ["10.1.2.1"]);
    assert_eq!(add(&sandbox, "db-0", 1), ["10.1.2.2"]);
    del(&sandbox, "db-0", 0);
    del(&sandbox, "db-0", 1);
    // The address that it had last.
    assert_eq!(add(&sandbox, "db-0", 2), ["10.1.2.2"]);
}

#[test]
fn nobody_is_refused_an_address_for_it() {
    let sandbox = Sandbox::new();
    let added = |pod: &str, number: u8| call(&sandbox, "ADD", pod, number, TWO).run();
    let mine = added("db-0", 0).succeeded().addresses();
    added("web-1a", 0).succeeded();
    del(&sandbox, "db-0", 0);
    assert_eq!(added("web-1b", 0).succeeded().addresses(), mine);
    assert_eq!(added("db-0", 1).code(), 100);
    // The pod gets it again when it is free.
    call(&sandbox, "DEL", "web-1a", 0, TWO).run().succeeded();
    del(&sandbox, "web-1b", 0);
    assert_eq!(added("web-1c", 0).succeeded().addresses(), ["10.1.2.2"]);
    assert_eq!(added("db-0", 1).succeeded().addresses(), mine);
}

/// Another StatefulSet of the same name in another namespace, another interface, another network,
/// and a network without the key.
#[test]
fn it_is_of_one_name_in_one_namespace_at_one_interface_of_one_network() {
    let sandbox = Sandbox::new();
    assert_eq!(add(&sandbox, "db-0", 0), ["10.1.2.1"]);
    del(&sandbox, "db-0", 0);
    let mut others: Vec<Call> =
        (0..3).map(|number| call(&sandbox, "ADD", "db-0", 10 + number, RANGE)).collect();
    others[0].set("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=test;K8S_POD_NAME=db-0");
    others[1].set("CNI_IFNAME", "net2");
    let text = String::from_utf8(others[2].stdin.clone()).unwrap();
    others[2].stdin(text.replace(r#""name":"net1""#, r#""name":"net7""#));
    for (number, other) in others.iter().enumerate() {
        assert_eq!(
            other.run().succeeded().addresses(),
            [format!("10.1.2.{}", number + 2)],
            "{number}"
        );
    }
    let mut plain = call(&sandbox, "ADD", "db-0", 20, RANGE);
    plain
        .stdin(configuration(RANGE))
        .set("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=db;K8S_POD_NAME=x");
    assert_eq!(plain.run().succeeded().addresses(), ["10.1.2.1"]);
}

#[test]
fn both_addresses_of_a_dual_stack_pod_come_back() {
    let sandbox = Sandbox::new();
    let both = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"2001:db8::/64"}]"#;
    let run = |verb: &str, pod: &str, number: u8| call(&sandbox, verb, pod, number, both).run();
    run("ADD", "db-0", 0).succeeded();
    let one = run("ADD", "db-1", 0).succeeded().addresses();
    assert_eq!(one, ["10.1.2.2", "2001:db8::2"]);
    for pod in ["db-0", "db-1"] {
        run("DEL", pod, 0).succeeded();
    }
    std::fs::remove_dir_all(sandbox.path("freed")).unwrap();
    assert_eq!(run("ADD", "db-1", 1).succeeded().addresses(), one);
}

/// Only root writes there, or a broken disk.
#[test]
fn what_is_remembered_and_cannot_be_read_is_passed_over() {
    let sandbox = Sandbox::new();
    assert_eq!(add(&sandbox, "db-0", 0), ["10.1.2.1"]);
    del(&sandbox, "db-0", 0);
    let note = scope(&sandbox).join("sticky-10.1.2.1");
    let text = std::fs::read_to_string(&note).unwrap();
    assert!(text.contains(r#""pod":"db-0""#), "{text}");
    std::fs::write(&note, "{").unwrap();
    std::fs::write(scope(&sandbox).join("sticky-10.1.2.3"), text.replace("2", "%")).unwrap();
    std::fs::create_dir(scope(&sandbox).join("sticky-10.1.2.4")).unwrap();
    assert_eq!(add(&sandbox, "cache-0", 0), ["10.1.2.1"]);
    sandbox.command(&["verify"]).succeeded();
}

#[test]
fn another_word_is_a_mistake_of_the_configuration() {
    let sandbox = Sandbox::new();
    let mut add = call(&sandbox, "ADD", "db-0", 0, RANGE);
    let refused = add.stdin(configuration(r#""range":"10.1.2.0/24","sticky":"pod""#)).run();
    assert!(
        refused.code() == 7 && refused.details().contains("ipam.sticky: expected statefulSet"),
        "{refused:?}"
    );
}

#[cfg(feature = "kube")]
mod kube {
    use crate::kube_faults::install;
    use crate::support::cluster::{Cluster, Options};
    use crate::support::nodes::{DEADLINES, Node, own_name, until_remembered};
    use crate::support::proxy::Proxy;
    use crate::support::sandbox::{Call, Ended};

    /// Returns a call for a sandbox of a pod. Sandboxes of one pod name differ in the part after
    /// `_`.
    fn call(node: &Node, verb: &str, container: &str) -> Call {
        let mut call = node.call(verb, container);
        let text = String::from_utf8(call.stdin.clone()).unwrap();
        call.stdin(text.replacen(r#""range":"#, r#""sticky":"statefulSet","range":"#, 1));
        call
    }

    fn add(node: &Node, container: &str) -> Ended {
        call(node, "ADD", container).run()
    }

    fn del(node: &Node, container: &str) {
        call(node, "DEL", container).run().succeeded();
        let _ = std::fs::remove_dir_all(node.sandbox.path("freed"));
    }

    fn shared() -> Option<&'static Cluster> {
        let cluster = Cluster::shared().map_err(|reason| skipped!("{reason}")).ok()?;
        install(cluster);
        Some(cluster)
    }

    #[test]
    fn a_pod_of_a_statefulset_gets_its_address_on_whatever_node() {
        let Some(cluster) = shared() else { return };
        let scope = own_name("sticky");
        let [one, two] = ["one", "two"]
            .map(|name| Node::new(&format!("{scope}-{name}"), &scope, &cluster.kubeconfig()));
        assert_eq!(add(&one, "web-x2k9q_0").addresses(), ["10.9.0.1"]);
        assert_eq!(add(&one, "db-0_0").addresses(), ["10.9.0.2"]);
        assert_eq!(add(&two, "db-1_0").addresses(), ["10.9.0.3"]);
        for (node, container) in [(&one, "web-x2k9q_0"), (&one, "db-0_0"), (&two, "db-1_0")] {
            del(node, container);
        }
        let shown = cluster.text(&["get", "stickyips", &format!("{scope}.10.9.0.3")]);
        let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            row[..6],
            [&format!("{scope}.10.9.0.3"), "10.9.0.3", "default", "db-1", "net1", "net1"],
            "{shown}"
        );
        for address in ["10.9.0.2", "10.9.0.3"] {
            until_remembered(cluster, &format!("{scope}.{address}"));
        }
        // Other pods skip them, on either node, and each pod gets its address again on the other
        // node.
        assert_eq!(add(&two, "web-aaaaa_0").addresses(), ["10.9.0.1"]);
        let other = add(&one, "web-bbbbb_0").addresses().remove(0);
        assert!(!["10.9.0.1", "10.9.0.2", "10.9.0.3"].contains(&other.as_str()), "{other}");
        assert_eq!(add(&one, "db-1_1").addresses(), ["10.9.0.3"]);
        assert_eq!(add(&two, "db-0_1").addresses(), ["10.9.0.2"]);
        // While it is held, by force or not, the next pod gets another address.
        assert_ne!(add(&one, "db-0_2").addresses(), ["10.9.0.2"]);
    }

    /// One request more if the address is as remembered, two if it is not.
    #[test]
    fn what_it_costs_is_one_request_of_an_add() {
        let Some(cluster) = shared() else { return };
        let node = Node::new(&own_name("sticky"), &own_name("sticky"), &cluster.kubeconfig());
        let proxy = Proxy::new(cluster);
        node.configure(&proxy.kubeconfig(&node.sandbox.root), DEADLINES);
        add(&node, "web-x2k9q_0").succeeded();
        let asked = |verb: &str, container: &str| {
            proxy.seen();
            call(&node, verb, container).run().succeeded();
            let seen = proxy.seen();
            let what = |path: &str| if path.contains("/stickyips") { "sticky" } else { "" };
            seen.iter()
                .map(|seen| format!("{}{}", seen.method, what(&seen.path)))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(asked("ADD", "db-0_0"), "GETsticky POST PATCHsticky");
        until_remembered(cluster, &format!("{}.10.9.0.2", node.scope));
        assert_eq!(asked("ADD", "db-0_0"), "GET");
        assert_eq!(asked("DEL", "db-0_0"), "DELETE");
        assert_eq!(asked("ADD", "db-0_1"), "GETsticky POST");
        assert_eq!(asked("DEL", "db-0_1"), "DELETE");
        assert_eq!(asked("ADD", "web-y4r5t_0"), "GETsticky POST");
    }

    /// In a cluster that does not know the resource, the pod's event says so. Otherwise, addresses
    /// would change without notice.
    #[test]
    fn a_cluster_without_the_resource_is_named() {
        let cluster = match Cluster::own(Options::default()) {
            Ok(cluster) => cluster,
            Err(reason) => return skipped!("{reason}"),
        };
        install(&cluster);
        let node = Node::new("n1", "sticky", &cluster.kubeconfig());
        add(&node, "db-0_0").succeeded();
        del(&node, "db-0_0");
        cluster.text(&["delete", "crd", "stickyips.hereabouts.dev"]);
        let refused = add(&node, "db-0_1");
        assert!(
            refused.details().contains("does not know the resource: stickyips.hereabouts.dev"),
            "{refused:?}"
        );
        node.add("db-0_1").succeeded();
    }
}
