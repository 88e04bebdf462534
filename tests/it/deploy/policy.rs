//! The admission policy of deploy/, on a real API server and with real tokens of the plugin's
//! ServiceAccount: one test for each row of the table in docs/kubernetes.md, "What a stolen token
//! can do".

use super::chart::{kustomized, tool};
use super::policy_of_claims;
use crate::support::claims::{self, held};
use crate::support::cluster::{Cluster, Options};
use crate::support::living::Living;
use crate::support::nodes::{Node, holders, objects, own_name};
use crate::support::sandbox::{Call, Ended, Sandbox};
use hereabouts::retry::{Deadline, until};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// The message of the policy.
pub(super) const DENIED: &str = "a token changes only records of its own node";

pub(super) fn cluster() -> Option<&'static Cluster> {
    Cluster::shared().map_err(|reason| skipped!("{reason}")).ok()
}

/// A client with a token, on any machine.
pub(super) struct Bearer<'c> {
    cluster: &'c Cluster,
    sandbox: Sandbox,
}

impl<'c> Bearer<'c> {
    pub(super) fn new(cluster: &'c Cluster, token: &str) -> Self {
        let bearer = Self { cluster, sandbox: Sandbox::new() };
        bearer.sandbox.write("kubeconfig", &cluster.kubeconfig_with(token));
        bearer
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.sandbox.path("kubeconfig")
    }

    /// Returns what kubectl prints, or why it fails.
    pub(super) fn kubectl(&self, args: &[&str], stdin: &str) -> Result<String, String> {
        let mut command = self.cluster.kubectl_command(args);
        command
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    pub(super) fn patch(&self, name: &str, patch: &Value) -> Result<String, String> {
        self.kubectl(&["patch", "ipa", name, "--type=merge", "-p", &patch.to_string()], "")
    }

    pub(super) fn create(&self, object: &Value) -> Result<String, String> {
        self.kubectl(&["create", "-f", "-"], &object.to_string())
    }

    pub(super) fn delete(&self, name: &str) -> Result<String, String> {
        self.kubectl(&["delete", "ipa", name, "--wait=false"], "")
    }
}

/// Returns a node in its own scope or another one, whose plugin has this token.
pub(super) fn node(bearer: &Bearer<'_>, name: &str, scope: &str) -> Node {
    Node::new(name, scope, &bearer.kubeconfig())
}

pub(super) fn object(cluster: &Cluster, name: &str) -> Value {
    let found = objects(cluster).into_iter().find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no object: {name}"))
}

/// Returns a record as a plugin writes it.
pub(super) fn record(scope: &str, address: &str, node: &str) -> Value {
    json!({
        "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPAllocation", "metadata": {"name": format!("{scope}.{address}")},
        "spec": {
            "address": address, "prefix": 24, "scope": scope, "network": "net1", "interface": "net1", "containerID": "planted",
            "node": node, "machine": "0000", "bootID": "b", "since": "2026-01-01T00:00:00Z", "source": "dynamic", "part": 0, "of": 1,
        },
    })
}

pub(super) fn denied(said: &Result<String, String>) -> bool {
    said.as_ref().is_err_and(|said| said.contains(DENIED))
}

/// Returns tokens of every kind that the plugin of a node may have.
pub(super) fn tokens(cluster: &Cluster, node: &str) -> [String; 2] {
    [cluster.node_token(node), cluster.pod_token(node)]
}

#[test]
fn the_plugin_works_with_a_token_of_its_node() {
    let Some(cluster) = cluster() else { return };
    let name = own_name("policy");
    for token in tokens(cluster, &name) {
        let (Some(first), Some(second)) = (Living::new(), Living::new()) else {
            return skipped!("not root");
        };
        let bearer = Bearer::new(cluster, &token);
        let node = node(&bearer, &name, &name);
        node.status().succeeded();
        let add = |container: &str, living: &Living| {
            let mut call = node.call("ADD", container);
            call.set(
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u",
            )
            .set("CNI_NETNS", living.path());
            call.run()
        };
        let added = add("web_1", &first);
        assert_eq!(added.addresses(), ["10.9.0.1"]);
        assert_eq!(add("web_1", &first).addresses(), ["10.9.0.1"]);
        node.check("web_1", &added).succeeded();
        drop(first);
        assert_eq!(add("web_2", &second).addresses(), ["10.9.0.1"], "re-homed, by a patch");
        // What the next test on this server leaves does not belong to this one.
        cluster.text(&["delete", "ipa", &format!("{name}.10.9.0.1")]);
        let repaired = node.sandbox.command(&["repair", "--yes"]);
        assert!(repaired.succeeded().stdout.contains("10.9.0.1"), "{repaired:?}");
        drop(second);
        node.gc_call(&[]).run().succeeded();
        assert!(holders(cluster, &name).is_empty(), "GC");
        node.add("gone").succeeded();
        node.sandbox.command(&["sweep", "--yes"]).succeeded();
        assert!(holders(cluster, &name).is_empty(), "sweep");
        node.add("last").succeeded();
        node.del("last").succeeded();
        assert!(holders(cluster, &name).is_empty(), "DEL");
    }
}

/// The row "change, free or take over a record of another node".
#[test]
fn a_token_changes_no_record_of_another_node() {
    let Some(cluster) = cluster() else { return };
    let Some(living) = Living::new() else { return skipped!("not root") };
    let (own, other) = (own_name("victim"), own_name("thief"));
    let bearer = Bearer::new(cluster, &cluster.node_token(&own));
    let victim = node(&bearer, &own, &own);
    victim.call("ADD", "web").set("CNI_NETNS", living.path()).run().succeeded();
    let name = format!("{own}.10.9.0.1");
    let before = object(cluster, &name);
    let [by_node, by_pod] = tokens(cluster, &other);
    for token in [by_node, by_pod, cluster.plugin_token(&[])] {
        let thief = Bearer::new(cluster, &token);
        for patch in [
            json!({"spec": {"bootID": "x"}}),
            json!({"spec": {"netns": null}}),
            json!({"spec": {"machine": "0000"}}),
            json!({"spec": {"podRef": {"uid": "x"}}}),
            json!({"spec": {"gateway": "10.9.0.9"}}),
            json!({"metadata": {"labels": {"hereabouts.dev/node": "x"}}}),
            json!({"metadata": {"finalizers": ["a.example/b"]}}),
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]}}),
        ] {
            let said = thief.patch(&name, &patch);
            assert!(denied(&said), "{patch}: {said:?}");
        }
        // Not even if the change of the node is combined with another one.
        let moved = thief.patch(&name, &json!({"spec": {"node": other, "bootID": "x"}}));
        assert!(moved.is_err(), "{moved:?}");
        for (what, said) in [
            ("delete", thief.delete(&name)),
            ("create", thief.create(&record(&own, "10.9.0.7", &own))),
        ] {
            assert!(denied(&said), "{what}: {said:?}");
        }
        let raw = format!(
            "/apis/hereabouts.dev/v1alpha1/ipallocations?fieldSelector=metadata.name%3D{name}"
        );
        let collection = thief.kubectl(&["delete", "--raw", &raw], "");
        assert!(
            collection.as_ref().is_err_and(|said| said.contains("cannot deletecollection")),
            "{collection:?}"
        );
    }
    assert_eq!(object(cluster, &name), before);
    let swept = victim.sandbox.command(&["sweep", "--yes"]);
    assert!(swept.succeeded().stderr.contains("nothing to sweep"), "{swept:?}");
    assert_eq!(object(cluster, &name), before);
    victim.del("web").succeeded();
}

/// The rows about the token's own node: its records, and any number of addresses.
#[test]
fn a_token_frees_and_makes_records_of_its_own_node() {
    let Some(cluster) = cluster() else { return };
    let Some(living) = Living::new() else { return skipped!("not root") };
    let own = own_name("stolen");
    let thief = Bearer::new(cluster, &cluster.node_token(&own));
    let node = node(&thief, &own, &own);
    node.call("ADD", "web").set("CNI_NETNS", living.path()).run().succeeded();
    thief.delete(&format!("{own}.10.9.0.1")).unwrap();
    // In any scope, and any address.
    thief.create(&record(&own, "10.9.0.7", &own)).unwrap();
    let elsewhere = own_name("shared");
    thief.create(&record(&elsewhere, "10.9.0.1", &own)).unwrap();

    let verified = node.sandbox.command(&["verify"]);
    for words in [format!("ipallocations/{own}.10.9.0.1"), format!("ipallocations/{own}.10.9.0.7")]
    {
        assert!(verified.stdout.contains(&words), "{verified:?}");
    }
    assert!(
        verified.stdout.contains("lost-record") && verified.stdout.contains("second-machine"),
        "{verified:?}"
    );
    node.sandbox.command(&["repair", "--yes"]).succeeded();
    assert_eq!(holders(cluster, &own).get("10.9.0.1").map(String::as_str), Some("web"));
    node.del("web").succeeded();
    // An administrator must remove it; a list by node misses objects without labels.
    let planted = [format!("{own}.10.9.0.7"), format!("{elsewhere}.10.9.0.1")];
    planted.iter().for_each(|name| assert!(verified.stdout.contains(name), "{verified:?}"));
    cluster.text(&["delete", "ipa", &planted[0], &planted[1]]);
}

/// Runs `release --node` on a workstation, with all rights.
fn release_node(cluster: &Cluster, node: &str) -> Ended {
    let mut call = Call::bare();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    call.args = ["release", "--node", node, "--yes", "--kubeconfig", &kubeconfig]
        .map(str::to_owned)
        .to_vec();
    call.run()
}

/// The row "read every record", and the rows of what no token may do.
#[test]
fn a_token_reads_every_record_and_nothing_else() {
    let Some(cluster) = cluster() else { return };
    let own = own_name("reader");
    for token in [cluster.node_token(&own), cluster.plugin_token(&[])] {
        let thief = Bearer::new(cluster, &token);
        thief.kubectl(&["get", "ipa"], "").unwrap();
        for args in [
            &["get", "secrets", "--namespace", "kube-system"][..],
            &["get", "nodes"],
            &["get", "pods", "--all-namespaces"],
            &["create", "token", "hereabouts", "--namespace", "kube-system"],
            &[
                "create",
                "token",
                "hereabouts",
                "--namespace",
                "kube-system",
                "--bound-object-kind",
                "Node",
                "--bound-object-name",
                &own,
            ],
            &["get", "ipa", "--as", "admin"],
            &["delete", "validatingadmissionpolicybindings", "hereabouts"],
            &["delete", "crd", "ipallocations.hereabouts.dev"],
        ] {
            let said = thief.kubectl(args, "");
            assert!(
                said.as_ref().is_err_and(|said| said.contains("cannot ")),
                "{args:?}: {said:?}"
            );
        }
    }
}

/// The row of tokens that name no node, including those of a pod that has no node yet.
#[test]
fn a_token_that_names_no_node_changes_nothing() {
    let Some(cluster) = cluster() else { return };
    let own = own_name("unplaced");
    let pod = cluster.make_plugin_pod(&own, None);
    let unplaced =
        cluster.plugin_token(&["--bound-object-kind", "Pod", "--bound-object-name", &pod]);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": "kube-system"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": own},
    });
    for token in [cluster.plugin_token(&[]), unplaced] {
        let thief = Bearer::new(cluster, &token);
        let said = thief.create(&record(&own, "10.9.0.7", &own));
        assert!(denied(&said) && said.unwrap_err().contains("of no node"));
        let sandbox = Sandbox::new();
        let binding = sandbox.write("binding.json", &binding.to_string());
        // This stays so when the pod gets its node.
        let _ = cluster.kubectl(&[
            "create",
            "--raw",
            &format!("/api/v1/namespaces/kube-system/pods/{pod}/binding"),
            "-f",
            binding.to_str().unwrap(),
        ]);
        assert!(denied(&thief.create(&record(&own, "10.9.0.7", &own))));
    }
    cluster.apply(&format!("{{apiVersion: v1, kind: Node, metadata: {{name: {own}}}}}"));
    let placed = Bearer::new(
        cluster,
        &cluster.plugin_token(&["--bound-object-kind", "Pod", "--bound-object-name", &pod]),
    );
    placed.create(&record(&own, "10.9.0.7", &own)).unwrap();
    placed.delete(&format!("{own}.10.9.0.7")).unwrap();
}

/// The row of how long a token is valid.
#[test]
fn a_token_ends_with_its_pod_and_with_its_node() {
    let Some(cluster) = cluster() else { return };
    let own = own_name("ending");
    let [by_node, by_pod] = tokens(cluster, &own);
    let pod = ["delete", "pod", "--namespace", "kube-system", "--grace-period=0", "--force"];
    let node = ["delete", "node"];
    for (token, object, name) in
        [(by_pod, &pod[..], format!("hereabouts-{own}")), (by_node, &node[..], own)]
    {
        let thief = Bearer::new(cluster, &token);
        thief.kubectl(&["get", "ipa"], "").unwrap();
        cluster.text(&[object, &[&name]].concat());
        // The server caches the result of its check for some seconds.
        let deadline = Deadline::after(Duration::from_secs(120));
        let ended = until(&deadline, || {
            Ok::<_, ()>(
                thief
                    .kubectl(&["get", "ipa"], "")
                    .is_err_and(|said| said.contains("logged in"))
                    .then_some(()),
            )
        });
        assert_eq!(ended, Ok(Some(())), "{name}");
    }
}

/// The row of credentials of other accounts: their roles decide.
#[test]
fn other_credentials_are_not_restricted() {
    let Some(cluster) = cluster() else { return };
    let own = own_name("unrestricted");
    let mut role = kustomized("node")
        .unwrap()
        .into_iter()
        .find(|object| object["kind"] == "ClusterRole")
        .unwrap();
    role["metadata"]["name"] = json!(own);
    cluster.apply(&role.to_string());
    cluster.text(&["create", "namespace", &own]);
    cluster.text(&["create", "serviceaccount", "hereabouts", "--namespace", &own]);
    cluster.text(&["create", "serviceaccount", &own, "--namespace", &own]);
    cluster.text(&[
        "create",
        "clusterrolebinding",
        &own,
        "--clusterrole",
        &own,
        &format!("--serviceaccount={own}:{own}"),
    ]);
    let token = |name: &str| cluster.text(&["create", "token", name, "--namespace", &own]);
    let other = Bearer::new(cluster, token(&own).trim());
    other.create(&record(&own, "10.9.0.7", "any-node")).unwrap();
    other.patch(&format!("{own}.10.9.0.7"), &json!({"spec": {"bootID": "x"}})).unwrap();
    // An account of the same name in another namespace has no rights.
    let same_name = Bearer::new(cluster, token("hereabouts").trim());
    let said = same_name.delete(&format!("{own}.10.9.0.7"));
    assert!(said.as_ref().is_err_and(|said| said.contains("cannot delete")), "{said:?}");
    other.delete(&format!("{own}.10.9.0.7")).unwrap();
}

#[test]
fn with_a_token_of_another_node_or_of_none_the_plugin_says_what_to_do() {
    let Some(cluster) = cluster() else { return };
    let (own, other) = (own_name("wrong-token"), own_name("right-token"));
    let right = Bearer::new(cluster, &cluster.node_token(&own));
    let node = node(&right, &own, &own);
    node.add("kept").succeeded();
    for (token, words) in [
        (cluster.node_token(&other), format!("of node {other}")),
        (cluster.plugin_token(&[]), "of no node".to_owned()),
    ] {
        let wrong = Bearer::new(cluster, &token);
        node.configure(&wrong.kubeconfig(), crate::support::nodes::DEADLINES);
        for ended in [node.add("refused"), node.del("kept")] {
            assert_eq!(ended.code(), 105, "{ended:?}");
            let details = ended.details();
            for expected in
                [DENIED, &words, &format!("the record is of node {own}"), "bound to its Node"]
            {
                assert!(details.contains(expected), "{expected}: {details}");
            }
        }
        node.del("refused").succeeded();
    }
    assert_eq!(
        holders(cluster, &own).into_iter().collect::<Vec<_>>(),
        [("10.9.0.1".to_owned(), "kept".to_owned())]
    );
    node.configure(&right.kubeconfig(), crate::support::nodes::DEADLINES);
    node.del("kept").succeeded();
    assert!(holders(cluster, &own).is_empty());
}

/// Commands for another node need an administrator's kubeconfig, and the error says so.
#[test]
fn records_of_another_node_take_an_administrator() {
    let Some(cluster) = cluster() else { return };
    let (own, off) = (own_name("here"), own_name("off"));
    let here = Bearer::new(cluster, &cluster.node_token(&own));
    let there = Bearer::new(cluster, &cluster.node_token(&off));
    let (node, scope) = (node(&here, &own, &own), &own);
    for container in ["one", "two"] {
        self::node(&there, &off, scope).add(container).succeeded();
    }
    let first = holders(cluster, scope).into_keys().next().unwrap();
    let label = json!({"metadata": {"labels": {"hereabouts.dev/pod": "x"}}});
    cluster.text(&[
        "patch",
        "ipa",
        &format!("{scope}.{first}"),
        "--type=merge",
        "-p",
        &label.to_string(),
    ]);
    let before = holders(cluster, scope);
    for command in [
        &["release", "--node", &off, "--yes"][..],
        &["release", &first, "--node", &off, "--network", "net1", "--yes"],
        &["repair", "--all", "--yes"],
    ] {
        let ended = node.sandbox.command(command);
        assert_eq!(ended.status, Some(1), "{ended:?}");
        for words in [DENIED, "with an administrator's kubeconfig"] {
            assert!(ended.stderr.contains(words), "{words}: {ended:?}");
        }
        assert_eq!(holders(cluster, scope), before, "{command:?}");
    }
    release_node(cluster, &off).succeeded();
    assert!(holders(cluster, scope).is_empty());
}

/// With what kustomize builds from deploy/node with `namespace`, and with what the chart renders
/// for a namespace and a name.
#[test]
fn it_bites_wherever_it_is_installed() {
    let cluster = match Cluster::own(Options { deploy: false, ..Options::default() }) {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let root = env!("CARGO_MANIFEST_DIR");
    cluster.text(&["apply", "-k", &format!("{root}/deploy/crd")]);
    cluster.text(&[
        "wait",
        "--for=condition=Established",
        "crd/ipallocations.hereabouts.dev",
        "--timeout=60s",
    ]);
    cluster.apply("{apiVersion: v1, kind: Node, metadata: {name: n1}}");

    let overlay = cluster.directory().join("overlay");
    std::fs::create_dir(&overlay).unwrap();
    // kustomize accepts no absolute path.
    let up = "../".repeat(overlay.components().count() - 1);
    std::fs::write(
        overlay.join("kustomization.yaml"),
        format!(
            "namespace: elsewhere\nresources: [\"{up}{}\"]\n",
            &format!("{root}/deploy/node")[1..]
        ),
    )
    .unwrap();
    cluster.text(&["create", "namespace", "elsewhere"]);
    cluster.text(&["apply", "-k", overlay.to_str().unwrap()]);
    bites(&cluster, "elsewhere", "hereabouts");
    cluster.text(&["delete", "-k", overlay.to_str().unwrap(), "--wait=false"]);

    let chart = |namespace: &str, values: &[&str]| {
        let mut helm = tool("helm", "helm")?;
        helm.args(["template", "any", "deploy/chart", "--namespace", namespace]);
        let rendered =
            helm.args(values.iter().flat_map(|value| ["--set", value])).output().unwrap();
        cluster.text(&["create", "namespace", namespace]);
        cluster.apply(&String::from_utf8(rendered.stdout).unwrap());
        Ok::<_, String>(())
    };
    if let Err(reason) = chart("by-chart", &["name=ipam"]) {
        return skipped!("{reason}");
    }
    bites(&cluster, "by-chart", "ipam");
    // The column "without it".
    chart("open", &["name=open", "admissionPolicy=false"]).unwrap();
    is_open(&cluster, "open", "open");
}

/// Checks that without the policy, a token of any node, and one that names none, can do anything
/// with the records of another node.
fn is_open(cluster: &Cluster, namespace: &str, account: &str) {
    let token = ["create", "token", account, "--namespace", namespace];
    let bound = cluster.text(
        &[&token[..], &["--bound-object-kind", "Node", "--bound-object-name", "n1"]].concat(),
    );
    for token in [bound.trim(), cluster.text(&token).trim()] {
        let thief = Bearer::new(cluster, token);
        let planted = record(namespace, "10.9.0.1", "n2");
        let created = until(&Deadline::after(Duration::from_secs(60)), || {
            Ok::<_, ()>(thief.create(&planted).ok())
        });
        assert!(created.unwrap().is_some(), "{:?}", thief.create(&planted));
        let name = format!("{namespace}.10.9.0.1");
        thief.patch(&name, &json!({"spec": {"bootID": "x"}})).unwrap();
        thief.delete(&name).unwrap();
        thief.create(&claims::object(&held(namespace, "10.9.0.1"))).unwrap();
        thief.delete(&name).unwrap();
        let raw = format!(
            "/apis/hereabouts.dev/v1alpha1/ipallocations?fieldSelector=metadata.name%3D{name}"
        );
        let collection = thief.kubectl(&["delete", "--raw", &raw], "");
        assert!(
            collection.as_ref().is_err_and(|said| said.contains("cannot deletecollection")),
            "{collection:?}"
        );
    }
}

/// Checks that a token of the node creates a record of that node, that a token without a node does
/// not, and that a token of the node creates none of another node.
fn bites(cluster: &Cluster, namespace: &str, account: &str) {
    let token = ["create", "token", account, "--namespace", namespace];
    let bound = cluster.text(
        &[&token[..], &["--bound-object-kind", "Node", "--bound-object-name", "n1"]].concat(),
    );
    let (bound, unbound) =
        (Bearer::new(cluster, bound.trim()), Bearer::new(cluster, cluster.text(&token).trim()));
    let deadline = Deadline::after(Duration::from_secs(60));
    // A role and a policy take effect some moments after they were created.
    let dry = |bearer: &Bearer<'_>, node: &str| {
        bearer.kubectl(
            &["create", "--dry-run=server", "-f", "-"],
            &record(namespace, "10.9.0.1", node).to_string(),
        )
    };
    let in_force = until(&deadline, || {
        Ok::<_, ()>((denied(&dry(&unbound, "n1")) && dry(&bound, "n1").is_ok()).then_some(()))
    });
    assert_eq!(in_force, Ok(Some(())), "{:?} {:?}", dry(&unbound, "n1"), dry(&bound, "n1"));
    bound.create(&record(namespace, "10.9.0.1", "n1")).unwrap();
    assert!(denied(&bound.create(&record(namespace, "10.9.0.2", "n2"))));
    policy_of_claims::bites(cluster, namespace, account, &bound);
    assert!(denied(&unbound.delete(&format!("{namespace}.10.9.0.1"))));
    bound.delete(&format!("{namespace}.10.9.0.1")).unwrap();
}

/// STATUS sends a creation as a dry run, so that a token of no node or of another node is found
/// before a pod needs it. `install` by hand refuses such a token.
#[test]
fn a_token_that_names_no_node_or_another_is_refused_by_status_and_install() {
    let Some(cluster) = cluster() else { return };
    let name = own_name("policy-token");
    for (token, fits) in [
        (cluster.node_token(&name), true),
        (cluster.node_token("another"), false),
        (
            cluster
                .text(&["--namespace", "kube-system", "create", "token", "hereabouts"])
                .trim()
                .to_owned(),
            false,
        ),
    ] {
        let bearer = Bearer::new(cluster, &token);
        let status = node(&bearer, &name, &name).status();
        assert!(
            if fits { status.status == Some(0) } else { status.details().contains(DENIED) },
            "{status:?}"
        );
        let text = std::fs::read_to_string(bearer.kubeconfig()).unwrap();
        let line = |key: &str| {
            text.lines()
                .find_map(|line| line.trim().strip_prefix(key))
                .unwrap()
                .trim()
                .trim_matches('"')
                .to_owned()
        };
        let (server, ca) = (line("server:"), line("certificate-authority-data:"));
        let ca = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, ca).unwrap();
        std::fs::write(bearer.sandbox.path("ca"), ca).unwrap();
        std::fs::create_dir(bearer.sandbox.path("bin")).unwrap();
        let mut call = Call::bare();
        let path = |name: &str| bearer.sandbox.path(name).display().to_string();
        bearer.sandbox.write("token", &token);
        call.args = [
            "install",
            "--server",
            &server,
            "--node-name",
            &name,
            "--token-file",
            &path("token"),
            "--ca-file",
            &path("ca"),
        ]
        .into_iter()
        .chain([
            "--bin-dir",
            &path("bin"),
            "--conf-dir",
            &path("net.d"),
            "--mount-namespace",
            "/proc/self/ns/mnt",
        ])
        .map(str::to_owned)
        .collect();
        let installed = call.run();
        assert_eq!(installed.status, Some(i32::from(!fits)), "{installed:?}");
        assert_eq!(bearer.sandbox.path("bin/hereabouts").exists(), fits);
        assert!(fits || installed.stderr.contains("does not belong to node"), "{installed:?}");
    }
    assert!(
        objects(cluster).iter().all(|object| object["spec"]["scope"] != "hereabouts-status"),
        "a trial makes nothing"
    );
}
