//! The admission policies of deploy/ and the objects of claims, on a real API server: a token of the
//! plugin changes none of them. A token of hereabouts-controller changes nothing else, and frees
//! besides them only addresses of nodes that are off, after it has marked them.

use super::chart::kustomized;
use super::policy::{Bearer, DENIED, cluster, denied, node, object, record, tokens};
use crate::leaks::make_node;
use crate::support::claims::{self, held};
use crate::support::cluster::Cluster;
use crate::support::living::Living;
use crate::support::nodes::{holders, own_name};
use hereabouts::retry::{Deadline, until};
use serde_json::{Value, json};
use std::time::Duration;

/// The message of the controller's policy.
const NOT_OF_A_CLAIM: &str = "the controller changes only records of claims";

/// The message of the same policy about the removal of a record without a mark.
const NOT_MARKED: &str = "and frees only those marked as out of service";

/// The message of the policy about a mark that cannot be right.
const NOT_OF_A_NODE: &str = "the controller marks only records of nodes, with their generation";

/// The message of the plugin's policy about marks.
const NO_STATUS: &str = "a token of a node writes no status of a record";

/// The message of the policy about marks.
const NODE_IS_ON: &str = "the controller frees addresses of nodes that are out of service";

/// Changes that the schema allows.
fn changes() -> [Value; 4] {
    [
        json!({"spec": {"gateway": "10.9.0.9"}}),
        json!({"metadata": {"labels": {"hereabouts.dev/claim": "x"}}}),
        json!({"metadata": {"finalizers": ["a.example/b"]}}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]}}),
    ]
}

#[test]
fn a_token_of_a_node_changes_no_record_of_a_claim() {
    let Some(cluster) = cluster() else { return };
    let (own, scope) = (own_name("policy-claim"), own_name("policy-claims"));
    cluster.apply(&claims::object(&held(&scope, "10.9.0.1")).to_string());
    let name = format!("{scope}.10.9.0.1");
    let before = object(cluster, &name);
    let [by_node, by_pod] = tokens(cluster, &own);
    for token in [by_node, by_pod, cluster.plugin_token(&[])] {
        let thief = Bearer::new(cluster, &token);
        let of_claim = |said: &Result<String, String>| {
            denied(said)
                && said.as_ref().is_err_and(|said| said.contains("the record is of a claim"))
        };
        for patch in changes() {
            let said = thief.patch(&name, &patch);
            assert!(of_claim(&said), "{patch}: {said:?}");
        }
        for said in [thief.delete(&name), thief.create(&claims::object(&held(&scope, "10.9.0.2")))]
        {
            assert!(of_claim(&said), "{said:?}");
        }
    }
    assert_eq!(object(cluster, &name), before);
    // A command says so, and what to do.
    let bearer = Bearer::new(cluster, &cluster.node_token(&own));
    let labels = json!({"metadata": {"labels": {"hereabouts.dev/claim": "x"}}});
    cluster.text(&["patch", "ipa", &name, "--type=merge", "-p", &labels.to_string()]);
    let here = node(&bearer, &own, &scope);
    here.status().succeeded();
    here.add("web").succeeded();
    here.sandbox.command(&["repair", "--yes"]).succeeded();
    let all = here.sandbox.command(&["repair", "--all", "--yes"]);
    assert!(
        all.status == Some(1)
            && all.stderr.contains(DENIED)
            && all.stderr.contains("the record is of a claim")
            && all.stderr.contains("with an administrator's kubeconfig"),
        "{all:?}"
    );
    here.del("web").succeeded();
    cluster.text(&["delete", "ipa", &name]);
}

#[test]
fn the_controller_changes_only_records_of_claims() {
    let Some(cluster) = cluster() else { return };
    let scope = own_name("policy-controller");
    let token = controller_token(cluster, &scope, "hereabouts-controller");
    let controller = Bearer::new(cluster, &token);
    changes_only_claims(cluster, &controller, &scope);
}

fn changes_only_claims(cluster: &Cluster, controller: &Bearer<'_>, scope: &str) {
    let (claim, pod) = (format!("{scope}.10.9.0.21"), format!("{scope}.10.9.0.22"));
    cluster.apply("{apiVersion: v1, kind: Node, metadata: {name: n1}}");
    cluster.apply(&record(scope, "10.9.0.22", "n1").to_string());
    let before = object(cluster, &pod);
    let made = claims::object(&held(scope, "10.9.0.21"));
    // A role and a policy take effect some moments after they were created.
    let planted = record(scope, "10.9.0.23", "n1");
    let dry =
        || controller.kubectl(&["create", "--dry-run=server", "-f", "-"], &planted.to_string());
    let in_force = until(&Deadline::after(Duration::from_secs(60)), || {
        Ok::<_, ()>(dry().is_err_and(|said| is_denial(&said)).then_some(()))
    });
    assert_eq!(in_force, Ok(Some(())), "{:?}", dry());
    controller.create(&made).unwrap();
    for patch in changes() {
        let said = controller.patch(&pod, &patch);
        assert!(said.as_ref().is_err_and(is_denial), "{patch}: {said:?}");
    }
    for said in [controller.delete(&pod), controller.create(&planted)] {
        assert!(said.as_ref().is_err_and(is_denial), "{said:?}");
    }
    let marked = mark("n1", 1);
    marks(controller, &pod, &marked, Err(NODE_IS_ON));
    let said = controller.patch(&pod, &marked);
    assert!(said.as_ref().is_err_and(is_denial), "{said:?}");
    assert_eq!(object(cluster, &pod), before);
    controller.patch(&claim, &changes()[1]).unwrap();
    marks(controller, &claim, &marked, Err(NOT_OF_A_NODE));
    controller.delete(&claim).unwrap();
    cluster.text(&["delete", "ipa", &pod]);
}

/// Returns the change that marks a generation of a record.
fn mark(node: &str, generation: i64) -> Value {
    let since = "2026-01-01T00:00:00Z";
    json!({"status": {"outOfService": {"node": node, "nodeUID": "u", "generation": generation, "since": since}}})
}

/// Changes the status of an object.
fn patch_status(
    bearer: &Bearer<'_>,
    name: &str,
    patch: &Value,
    more: &[&str],
) -> Result<String, String> {
    let patch = patch.to_string();
    let words = ["patch", "ipa", name, "--subresource=status", "--type=merge", "-p", &patch];
    bearer.kubectl(&[&words, more].concat(), "")
}

/// Checks whether a token may write a mark, which is only tried. The API server knows a change of a
/// Node, and a policy, some moments later.
fn marks(bearer: &Bearer<'_>, name: &str, mark: &Value, expected: Result<(), &str>) {
    let dry = || patch_status(bearer, name, mark, &["--dry-run=server"]);
    let said = until(&Deadline::after(Duration::from_secs(60)), || {
        let is_expected = match (dry(), expected) {
            (Ok(_), Ok(())) => true,
            (Err(said), Err(text)) => said.contains(text),
            _ => false,
        };
        Ok::<_, ()>(is_expected.then_some(()))
    });
    assert_eq!(said, Ok(Some(())), "{name}: {:?}", dry());
}

/// The rows about a token of the controller.
#[test]
fn the_controller_marks_only_records_of_nodes_that_are_off() {
    let Some(cluster) = cluster() else { return };
    let scope = own_name("policy-off");
    let token = controller_token(cluster, &scope, "hereabouts-controller");
    let controller = Bearer::new(cluster, &token);
    let names = ["on", "off"].map(|word| format!("{scope}-{word}"));
    let [on, off] = &names;
    let uids = names.each_ref().map(|name| make_node(cluster, name, &format!("boot-of-{name}")));
    let [on_uid, off_uid] = uids.each_ref().map(|uid| Some(uid.as_str()));
    let (gone, boot_of_on) = (Some("uid-of-gone"), format!("boot-of-{on}"));
    // Of a Node that was made again, the boot shows that it is the same machine.
    let rows = [
        ("10.9.0.31", on, on_uid, "b", [false, false]),
        ("10.9.0.32", off, off_uid, "b", [false, true]),
        ("10.9.0.33", on, None, "b", [false, false]),
        ("10.9.0.34", off, None, "b", [false, true]),
        ("10.9.0.35", on, gone, "b", [true, true]),
        ("10.9.0.36", on, gone, &boot_of_on, [false, false]),
        ("10.9.0.37", on, off_uid, "b", [false, true]),
        ("10.9.0.38", off, on_uid, "b", [false, false]),
        // Machines that are containers have the boot ID of their host.
        ("10.9.0.40", off, off_uid, &boot_of_on, [false, true]),
        ("10.9.0.39", &scope, None, "b", [true, true]),
    ];
    for (address, node, uid, boot, _) in &rows {
        let mut object = record(&scope, address, node);
        object["spec"]["bootID"] = json!(boot);
        if let Some(uid) = uid {
            object["spec"]["nodeUID"] = json!(uid);
        }
        cluster.apply(&object.to_string());
    }
    let taint = "node.kubernetes.io/out-of-service";
    for (stage, words) in [
        (0, &["taint", "node", off, "a.example/other=x:NoSchedule"][..]),
        (1, &["taint", "node", off, &format!("{taint}=x:NoSchedule")]),
        (0, &["taint", "node", off, &format!("{taint}-")]),
    ] {
        cluster.text(words);
        for (address, .., expected) in &rows {
            let expected = expected[stage].then_some(()).ok_or(NODE_IS_ON);
            marks(&controller, &format!("{scope}.{address}"), &mark(off, 1), expected);
        }
    }
    for (address, ..) in rows {
        cluster.text(&["delete", "ipa", &format!("{scope}.{address}")]);
    }
    cluster.text(&["delete", "node", on, off]);
}

/// The rows about what a mark allows.
#[test]
fn the_controller_frees_only_what_bears_a_mark_of_its_generation() {
    let Some(cluster) = cluster() else { return };
    let scope = own_name("policy-mark");
    let token = controller_token(cluster, &scope, "hereabouts-controller");
    let controller = Bearer::new(cluster, &token);
    make_node(cluster, &scope, "boot");
    cluster.text(&["taint", "node", &scope, "node.kubernetes.io/out-of-service=x:NoExecute"]);
    let name = format!("{scope}.10.9.0.1");
    // A mark that its creator brings does not count.
    let mut object = record(&scope, "10.9.0.1", &scope);
    object["status"] = mark(&scope, 1)["status"].clone();
    cluster.apply(&object.to_string());
    let refused = |text: &str| {
        let said = controller.delete(&name);
        assert!(said.as_ref().is_err_and(|said| said.contains(text)), "{said:?}");
    };
    refused(NOT_MARKED);
    marks(&controller, &name, &mark(&scope, 1), Ok(()));
    marks(&controller, &name, &mark(&scope, 2), Err(NOT_OF_A_NODE));
    patch_status(&controller, &name, &mark(&scope, 1), &[]).unwrap();
    let dry = ["delete", "ipa", &name, "--wait=false", "--dry-run=server"];
    controller.kubectl(&dry, "").unwrap();
    // The record moves to the next sandbox of its pod.
    let moved = json!({"spec": {"netns": {"path": "/n", "inode": 1, "directoryDevice": 1}}});
    cluster.text(&["patch", "ipa", &name, "--type=merge", "-p", &moved.to_string()]);
    refused(NOT_MARKED);
    patch_status(&controller, &name, &mark(&scope, 2), &[]).unwrap();
    // The taint is away. The mark that is there counts until it is removed, which is always allowed.
    cluster.text(&["taint", "node", &scope, "node.kubernetes.io/out-of-service-"]);
    marks(&controller, &name, &mark(&scope, 2), Err(NODE_IS_ON));
    controller.kubectl(&dry, "").unwrap();
    let away = json!({"status": {"outOfService": null}});
    patch_status(&controller, &name, &away, &[]).unwrap();
    refused(NOT_MARKED);
    cluster.text(&["delete", "ipa", &name]);
    cluster.text(&["delete", "node", &scope]);
}

/// The API server looks at each Node for every request that the rules of a policy with parameters
/// match, from every client. A DEL would take several times as long.
#[test]
fn only_writes_of_the_status_are_compared_with_the_nodes() {
    let objects = match kustomized("node") {
        Ok(objects) => objects,
        Err(reason) => return skipped!("{reason}"),
    };
    let compared = objects.iter().filter(|object| object["spec"]["paramKind"].is_object());
    let rules = compared.map(|object| &object["spec"]["matchConstraints"]["resourceRules"]);
    let rules: Vec<&Value> = rules.collect();
    let expected = json!([{
        "apiGroups": ["hereabouts.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
        "resources": ["ipallocations/status"],
    }]);
    assert_eq!(rules, [&expected]);
}

/// The plugin neither reads nor writes the status: it moves and frees a marked record as any other.
#[test]
fn a_mark_ends_when_the_plugin_moves_the_record() {
    let Some(cluster) = cluster() else { return };
    let (Some(first), Some(second)) = (Living::new(), Living::new()) else {
        return skipped!("not root");
    };
    let own = own_name("policy-moved");
    let bearer = Bearer::new(cluster, &cluster.node_token(&own));
    let token = controller_token(cluster, &own, "hereabouts-controller");
    let controller = Bearer::new(cluster, &token);
    let here = node(&bearer, &own, &own);
    let add = |container: &str, living: &Living| {
        let mut call = here.call("ADD", container);
        let pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u";
        call.set("CNI_ARGS", pod).set("CNI_NETNS", living.path());
        call.run().addresses()
    };
    assert_eq!(add("web_1", &first), ["10.9.0.1"]);
    let name = format!("{own}.10.9.0.1");
    cluster.text(&["taint", "node", &own, "node.kubernetes.io/out-of-service=x:NoExecute"]);
    marks(&controller, &name, &mark(&own, 1), Ok(()));
    patch_status(&controller, &name, &mark(&own, 1), &[]).unwrap();
    drop(first);
    assert_eq!(add("web_2", &second), ["10.9.0.1"], "it moves");
    let moved = object(cluster, &name);
    assert_eq!(moved["status"], mark(&own, 1)["status"]);
    assert_eq!(moved["metadata"]["generation"], 2);
    let said = controller.delete(&name);
    assert!(said.as_ref().is_err_and(|said| said.contains(NOT_MARKED)), "{said:?}");
    patch_status(&controller, &name, &mark(&own, 2), &[]).unwrap();
    here.del("web_2").succeeded();
    assert!(holders(cluster, &own).is_empty());
}

/// The row about marks of the plugin: it has no right to the status, and the policy refuses it, too.
#[test]
fn a_token_of_a_node_writes_no_mark() {
    let Some(cluster) = cluster() else { return };
    let own = own_name("policy-own-mark");
    let name = format!("{own}.10.9.0.1");
    let plugin = Bearer::new(cluster, &cluster.node_token(&own));
    let mut made = record(&own, "10.9.0.1", &own);
    made["status"] = mark(&own, 1)["status"].clone();
    plugin.create(&made).unwrap();
    // What it writes beside the spec is dropped.
    plugin.patch(&name, &mark(&own, 1)).unwrap();
    let written = || object(cluster, &name)["status"].clone();
    assert_eq!(written(), Value::Null);
    for verb in ["get", "patch", "update"] {
        let resource = ["auth", "can-i", verb, "ipallocations.hereabouts.dev"];
        let may = |more: &[&str]| plugin.kubectl(&[&resource[..], more].concat(), "");
        assert!(may(&["--subresource=status"]).is_err(), "{verb}");
        assert_eq!(may(&[]).is_ok(), verb != "update", "{verb}");
    }
    let role = ["--verb=get,patch", "--resource=ipallocations.hereabouts.dev/status"];
    cluster.text(&[&["create", "clusterrole", &own][..], &role].concat());
    let subject = ["--clusterrole", &own, "--serviceaccount=kube-system:hereabouts"];
    cluster.text(&[&["create", "clusterrolebinding", &own][..], &subject].concat());
    for change in [mark(&own, 1), json!({"status": {"outOfService": null}})] {
        marks(&plugin, &name, &change, Err(NO_STATUS));
    }
    assert_eq!(written(), Value::Null);
    cluster.text(&["delete", "clusterrolebinding", &own]);
    cluster.text(&["delete", "clusterrole", &own]);
    plugin.delete(&name).unwrap();
}

#[allow(clippy::ptr_arg, reason = "the error of a Result<String, String>")]
fn is_denial(said: &String) -> bool {
    said.contains(NOT_OF_A_CLAIM) && said.contains("the record is of node n1")
}

/// Returns a token of a controller's account that may do everything with the records.
fn controller_token(cluster: &Cluster, namespace: &str, account: &str) -> String {
    let role = format!("{namespace}-claims");
    let _ = cluster.kubectl(&["create", "namespace", namespace]);
    cluster.text(&["create", "serviceaccount", account, "--namespace", namespace]);
    cluster.text(&[
        "create",
        "clusterrole",
        &role,
        "--verb=create,delete,get,list,patch",
        "--resource=ipallocations.hereabouts.dev,ipallocations.hereabouts.dev/status",
    ]);
    let binding = ["create", "clusterrolebinding", &role, "--clusterrole", &role];
    let subject = format!("--serviceaccount={namespace}:{account}");
    cluster.text(&[&binding[..], &[&subject]].concat());
    cluster.text(&["create", "token", account, "--namespace", namespace]).trim().to_owned()
}

/// Checks both policies where they are installed under a name.
pub(super) fn bites(cluster: &Cluster, namespace: &str, account: &str, node: &Bearer<'_>) {
    assert!(denied(&node.create(&claims::object(&held(namespace, "10.9.0.2")))));
    let token = controller_token(cluster, namespace, &format!("{account}-controller"));
    let controller = Bearer::new(cluster, &token);
    changes_only_claims(cluster, &controller, namespace);
}
