//! deploy/controller and deploy/monitoring: compared with the chart, applied to a real API server,
//! and held against the real promtool.

use super::chart::{kustomized, rendered, tool};
use crate::support::cluster::Cluster;
use crate::support::sandbox::{Ended, Sandbox};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

const ACCOUNT: &str = "system:serviceaccount:kube-system:hereabouts-controller";
const ENABLED: [&str; 2] = ["--set", "controller.enabled=true"];
const SWITCH: &str = "controller.releaseDeletedNodes=true";

/// Returns what a test needs of the machine, or says that the test is skipped.
fn have<T>(result: Result<T, String>) -> Option<T> {
    result.map_err(|reason| skipped!("{reason}")).ok()
}

fn find<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// Returns the shared cluster with the controller's objects.
fn cluster() -> Option<&'static Cluster> {
    let cluster = have(Cluster::shared())?;
    for object in have(kustomized("controller"))? {
        cluster.apply(&object.to_string());
    }
    Some(cluster)
}

#[test]
fn the_chart_renders_node_and_controller_as_kustomize_does() {
    let Some(node) = have(kustomized("node")) else { return };
    let Some(controller) = have(kustomized("controller")) else { return };
    let Some(rendered) = have(rendered(&ENABLED)) else { return };
    assert_eq!(sorted([node, controller].concat()), rendered);
}

fn sorted(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|o| (o["kind"].to_string(), o["metadata"]["name"].to_string()));
    objects
}

/// The switch is one word of the command. It gives the ServiceAccount no right, and the policies allow
/// it nothing more, so that a stolen token can do the same with and without it.
#[test]
fn to_release_deleted_nodes_needs_no_further_right() {
    let without = ["node", "controller"].map(kustomized);
    let with = ["node", "release-deleted-nodes"].map(kustomized);
    let [Some(without), Some(with)] = [without, with].map(|both| {
        let both: Result<Vec<_>, _> = both.into_iter().collect();
        have(both).map(|both| sorted(both.concat()))
    }) else {
        return;
    };
    let Some(chart) = have(rendered(&[&ENABLED[..], &["--set", SWITCH]].concat())) else { return };
    assert_eq!(chart, with);
    let changed = without.iter().zip(&with).filter(|(without, with)| without != with);
    let changed: Vec<_> = changed.collect();
    assert_eq!((changed.len(), without.len()), (1, with.len()));
    let command = |object: &Value| {
        object["spec"]["template"]["spec"]["containers"][0]["command"].as_array().unwrap().clone()
    };
    let (mut without, with) = (changed[0].0.clone(), changed[0].1);
    let words = [command(&without), vec![json!("--release-deleted-nodes")]].concat();
    without["spec"]["template"]["spec"]["containers"][0]["command"] = json!(words);
    assert_eq!(without, *with);
}

#[test]
fn values_reach_the_controller() {
    let values = [
        "controller.enabled=true",
        "name=ipam",
        "image.repository=registry.example/net/hereabouts",
        "image.tag=v9",
        "image.pullPolicy=Always",
        "imagePullSecrets[0].name=login",
        "admissionPolicy=false",
        "controller.replicas=3",
        "controller.tolerations[0].key=only",
        "controller.nodeSelector.zone=a",
        "controller.priorityClassName=high",
        "controller.resources.limits.memory=1Gi",
    ];
    let args: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
    let Some(objects) = have(rendered(&args)) else { return };
    assert!(!objects.iter().any(|object| object["kind"] == "ValidatingAdmissionPolicy"));
    let deployment = find(&objects, "Deployment");
    assert_eq!(deployment["metadata"]["name"], "ipam-controller");
    assert_eq!(deployment["spec"]["replicas"], 3);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "ipam-controller");
    assert_eq!(pod["tolerations"], json!([{"key": "only"}]));
    assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/os": "linux", "zone": "a"}));
    assert_eq!(pod["priorityClassName"], "high");
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "login"}]));
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry.example/net/hereabouts:v9");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
    // The name of the Lease is in the executable.
    let role = find(&objects, "Role");
    assert_eq!(role["rules"][1]["resourceNames"], json!(["hereabouts-controller"]));
}

/// The DaemonSet's selector must not find the controller's pods.
#[test]
fn the_pod_is_restricted_and_nobody_elses() {
    let Some(objects) = have(kustomized("controller")) else { return };
    let deployment = find(&objects, "Deployment");
    let template = &deployment["spec"]["template"];
    let labels = json!({"app.kubernetes.io/name": "hereabouts-controller"});
    assert_eq!(template["metadata"]["labels"], labels);
    for owner in [deployment, find(&objects, "PodDisruptionBudget")] {
        assert_eq!(owner["spec"]["selector"]["matchLabels"], labels);
    }
    let Some(cluster) = cluster() else { return };
    // The API server's own check of the profile "restricted".
    let name = "controller-restricted";
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hereabouts-controller", "namespace": name}});
    let mut spec = template["spec"].clone();
    // A class that the controllers of a complete cluster create.
    spec.as_object_mut().unwrap().remove("priorityClassName");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "controller", "namespace": name}, "spec": spec});
    for object in [namespace, account, pod] {
        cluster.apply(&object.to_string());
    }
}

/// Returns whether the API server would let the controller do this. `resource` is
/// `group/resource[/subresource]`, `name` and `namespace` may be empty.
fn may(cluster: &Cluster, verb: &str, resource: &str, name: &str, namespace: &str) -> bool {
    let mut parts = resource.split('/');
    let mut part = || parts.next().unwrap_or_default();
    let attributes = json!({"verb": verb, "group": part(), "resource": part(), "subresource": part(), "name": name, "namespace": namespace});
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": ACCOUNT, "resourceAttributes": attributes},
    });
    let sandbox = Sandbox::new();
    let file = sandbox.write("review.json", &review.to_string());
    let args = ["create", "-o", "jsonpath={.status.allowed}", "-f", file.to_str().unwrap()];
    cluster.text(&args) == "true"
}

#[test]
fn its_rights_are_these_and_no_others() {
    let Some(cluster) = cluster() else { return };
    let (claims, leases) = ("ipam.cluster.x-k8s.io", "coordination.k8s.io/leases");
    for (verbs, resource) in [
        (
            &["create", "delete", "get", "list", "patch", "watch"][..],
            "hereabouts.dev/ipallocations",
        ),
        (&["get", "list", "watch"], "k8s.cni.cncf.io/ipamclaims"),
        (&["patch"], "k8s.cni.cncf.io/ipamclaims/status"),
        (&["get", "list", "patch", "watch"], "hereabouts.dev/ippools"),
        (&["patch"], "hereabouts.dev/ippools/status"),
        (&["delete", "get", "list", "watch"], "hereabouts.dev/ipslices"),
        (&["delete", "list"], "hereabouts.dev/ipslicegeometries"),
        (&["patch"], "hereabouts.dev/ipallocations/status"),
        (&["get", "list", "watch"], "networking.k8s.io/servicecidrs"),
        (&["get", "list", "watch"], "k8s.cni.cncf.io/network-attachment-definitions"),
        (&["create", "patch"], "events.k8s.io/events"),
        (&["update"], "hereabouts.dev/ippools/finalizers"),
        (&["get", "list", "watch"], "cluster.x-k8s.io/clusters"),
        (&["get", "list", "watch"], "/nodes"),
        (&["get", "list", "watch"], "/pods"),
        (&["get"], "coordination.k8s.io/leases"),
    ] {
        for verb in verbs {
            assert!(may(cluster, verb, resource, "", ""), "{verb} {resource}");
        }
    }
    for verb in ["create", "delete", "get", "list", "patch", "watch"] {
        assert!(may(cluster, verb, &format!("{claims}/ipaddresses"), "", ""), "{verb}");
    }
    for resource in ["ipaddressclaims", "inclusterippools", "globalinclusterippools"] {
        let resource = format!("{claims}/{resource}");
        for (verb, part) in
            [("watch", ""), ("patch", ""), ("patch", "/status"), ("update", "/finalizers")]
        {
            assert!(
                may(cluster, verb, &format!("{resource}{part}"), "", ""),
                "{verb} {resource}{part}"
            );
        }
        for verb in ["create", "delete", "update"] {
            assert!(!may(cluster, verb, &resource, "", ""), "{verb} {resource}");
        }
    }
    let (own, name) = ("kube-system", "hereabouts-controller");
    assert!(may(cluster, "create", leases, "", own) && may(cluster, "get", leases, name, own));
    assert!(may(cluster, "update", leases, name, own));
    for (verb, resource, name, namespace) in [
        ("update", leases, "another", own),
        ("update", leases, name, "default"),
        ("update", leases, "n1", "kube-node-lease"),
        ("list", leases, "", "kube-node-lease"),
        ("create", leases, "", "default"),
        ("delete", leases, name, own),
        ("get", "/secrets", "", own),
        ("patch", "/pods", "", ""),
        ("delete", "/pods", "", ""),
        ("create", "/pods/eviction", "", ""),
        ("patch", "/nodes", "", ""),
        ("create", "/serviceaccounts/token", "", own),
        ("update", "hereabouts.dev/ipallocations", "", ""),
        ("patch", "k8s.cni.cncf.io/ipamclaims", "", ""),
        ("delete", "k8s.cni.cncf.io/ipamclaims", "", ""),
        ("create", "hereabouts.dev/ippools", "", ""),
        ("delete", "hereabouts.dev/ippools", "", ""),
        ("update", "hereabouts.dev/ippools/status", "", ""),
        ("create", "hereabouts.dev/ipslices", "", ""),
        ("patch", "hereabouts.dev/ipslicegeometries", "", ""),
        ("patch", "hereabouts.dev/ipslices", "", ""),
        ("list", "events.k8s.io/events", "", ""),
        ("list", "hereabouts.dev/stickyips", "", ""),
        ("*", "*/*", "", ""),
    ] {
        assert!(!may(cluster, verb, resource, name, namespace), "{verb} {resource} {name}");
    }
}

/// The role lets it delete any IPAllocation; the policy does not.
#[test]
fn a_token_of_it_frees_no_address_of_a_pod() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new();
    let name = "controller-token.192.0.2.7";
    let object = json!({
        "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPAllocation", "metadata": {"name": name},
        "spec": {"address": "192.0.2.7", "scope": "controller-token", "prefix": 24, "network": "n", "interface": "net1", "containerID": "c",
            "node": "n", "bootID": "b", "since": "2026-01-01T00:00:00Z", "source": "dynamic", "part": 0, "of": 1},
    });
    let file = sandbox.write("object.json", &object.to_string());
    let file = file.to_str().unwrap();
    let denied = |words: &[&str]| {
        // The API server enforces a new policy after some moments.
        let deadline = hereabouts::retry::Deadline::after(std::time::Duration::from_secs(30));
        let said = hereabouts::retry::until(&deadline, || {
            let ended = Ended::from(cluster.kubectl(&[words, &["--as", ACCOUNT]].concat()));
            let is_denied = ended.stderr.contains("the controller changes only records of claims");
            Ok::<_, ()>((ended.status == Some(1) && is_denied).then_some(()))
        });
        assert_eq!(said, Ok(Some(())), "{words:?}");
    };
    denied(&["create", "--dry-run=server", "-f", file]);
    cluster.text(&["create", "-f", file]);
    denied(&["delete", "--dry-run=server", "ipallocation", name]);
    cluster.text(&["delete", "ipallocation", name]);
}

/// Returns the names of metrics in a text, without the suffixes of a histogram.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let word = |at: usize| text[at..].split(|c| !is_part(c)).next().unwrap();
    text.match_indices("hereabouts_")
        .map(|(at, _)| word(at).trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn rules_and_dashboard_use_metrics_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let known = metrics(&read("docs/metrics.md"));
    assert!(10 < known.len(), "{known:?}");
    let dashboard = read("deploy/monitoring/dashboard.json");
    for (used, file) in [
        (metrics(&read("deploy/monitoring/rules.yaml")), "rules"),
        (metrics(&dashboard), "dashboard"),
    ] {
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(4 < used.len() && unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    assert!(
        dashboard["panels"].as_array().unwrap().iter().all(|panel| {
            panel["targets"].as_array().is_some_and(|targets| !targets.is_empty())
        })
    );
    let Some(objects) = have(kustomized("monitoring")) else { return };
    let Some(controller) = have(kustomized("controller")) else { return };
    let service = find(&objects, "Service");
    let monitor = find(&objects, "ServiceMonitor");
    let deployment = find(&controller, "Deployment");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&service["spec"]["selector"], labels);
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]);
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    let ports = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(ports[0]["name"], service["spec"]["ports"][0]["targetPort"]);
    // The document describes each alert.
    let document = read("docs/metrics.md");
    for rule in find(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"].as_array().unwrap() {
        let alert = rule["alert"].as_str().unwrap();
        assert!(document.contains(&format!("| `{alert}` |")), "{alert}");
    }
}

#[test]
fn the_alerts_fire_when_they_should() {
    let Some(objects) = have(kustomized("monitoring")) else { return };
    let sandbox = Sandbox::new();
    let rules = &find(&objects, "PrometheusRule")["spec"];
    sandbox.write("rules.yaml", &rules.to_string());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = std::fs::read_to_string(root.join("tests/data/alerts.yaml")).unwrap();
    let cases = sandbox.write("cases.yaml", &cases);
    let rules = sandbox.path("rules.yaml");
    for (words, file) in
        [(&["check", "rules", "--lint-fatal"][..], &rules), (&["test", "rules"], &cases)]
    {
        let Some(mut promtool) = have(tool("prometheus", "promtool")) else { return };
        let ended = Ended::from(promtool.args(words).arg(file).output().unwrap());
        assert_eq!(ended.status, Some(0), "{ended:?}");
    }
}
