//! The page: what it shows of real objects, and what it tells browsers.

use crate::support::cluster::{Cluster, Options};
use crate::support::controller::{Page, Replica};
use crate::support::nodes::own_name;
use crate::support::sandbox::Sandbox;
use serde_json::json;
use std::sync::LazyLock;

/// Returns a cluster for the tests of the page alone: their records have no labels, and other tests
/// verify every record of the shared cluster.
fn cluster() -> Option<&'static Cluster> {
    static OWN: LazyLock<Result<Cluster, String>> =
        LazyLock::new(|| Cluster::own(Options::default()));
    OWN.as_ref().map_err(|reason| skipped!("{reason}")).ok()
}

/// Starts a controller, and returns when it has read everything.
pub(super) fn replica(sandbox: &Sandbox, args: &[&str]) -> Option<Replica> {
    let mut replica = Replica::start(sandbox, &cluster()?.kubeconfig(), args);
    replica.wait(20, "readiness", |replica| (replica.get("/readyz").status == 200).then_some(()));
    Some(replica)
}

pub(super) fn pool(name: &str, spec: &serde_json::Value) {
    let object = json!({
        "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec,
    });
    cluster().unwrap().apply(&object.to_string());
}

/// Asserts that a page is one that a browser shows, with everything that it needs in it.
fn check(page: &Page) {
    let Page { head, body, .. } = page;
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    assert!(!head.contains("set-cookie"), "{head}");
    assert!(body.starts_with("<!DOCTYPE html>") && body.ends_with("</html>\n"), "{body}");
    for forbidden in ["<script", "style=", "://", "href=\"/", "src="] {
        assert!(!body.contains(forbidden), "{forbidden}: {body}");
    }
}

#[test]
fn pools_are_listed_with_links_to_a_page_of_each() {
    let sandbox = Sandbox::new();
    let Some(mut replica) = replica(&sandbox, &[]) else { return };
    let name = own_name("listed");
    pool(
        &name,
        &json!({"subnets": [{
            "subnet": "10.77.0.0/24", "gateway": "10.77.0.1",
            "addresses": ["10.77.0.1-10.77.0.100"], "exclude": [{"addresses": "10.77.0.11-10.77.0.20"}],
        }], "scope": name}),
    );
    let page = replica.wait(20, "the pool", |replica| {
        Some(replica.get("/")).filter(|page| page.body.contains(&name))
    });
    assert_eq!(page.status, 200);
    check(&page);
    assert!(page.body.contains("0 held, 89 free, 11 not given"), "{}", page.body);
    assert!(page.body.contains("This replica writes."), "{}", page.body);
    let link = format!("pool/IPPool/{name}");
    assert!(page.body.contains(&format!("<a href=\"{link}\">")), "{}", page.body);
    let page = replica.get(&format!("/{link}"));
    assert_eq!(page.status, 200, "{page:?}");
    check(&page);
    assert!(
        page.body.contains("<h1><bdi>") && page.body.contains("10.77.0.0-10.77.0.255"),
        "{page:?}"
    );
    assert!(page.body.contains("<a class=\"home\" href=\"../.././\">"), "{page:?}");
    // A head without a body, and its length.
    let head = replica.request("HEAD", "/").unwrap();
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
    assert!(head.head.contains("content-type: text/html"), "{head:?}");
}

#[test]
fn paths_without_a_page_are_answered_in_words() {
    let sandbox = Sandbox::new();
    let Some(replica) = replica(&sandbox, &[]) else { return };
    let page = replica.get("/pool/IPPool/none%3Cb%3E");
    assert_eq!(page.status, 404);
    check(&page);
    assert!(page.body.contains("There is no IPPool of the name <bdi>none&lt;b&gt;</bdi>"));
    for path in ["/pool", "/pool/", "/pool/Secret/x", "/pool/IPPool/a/b", "/index.html", "/%2e/"] {
        let page = replica.get(path);
        assert_eq!(page.status, 404, "{path}");
        assert!(page.body.starts_with("here are /, "), "{path}: {}", page.body);
    }
    let page = replica.request("POST", "/").unwrap();
    assert!(page.status == 405 && page.head.contains("allow: get, head"), "{page:?}");
    // A page far behind the last one.
    let page = replica.get("/?page=18446744073709551615");
    assert_eq!(page.status, 200);
}

#[test]
fn before_everything_is_read_the_page_says_so() {
    let sandbox = Sandbox::new();
    if cluster().is_none() {
        return;
    }
    // Nothing listens there.
    let kubeconfig = sandbox.path("kubeconfig");
    std::fs::write(
        &kubeconfig,
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], \
         clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}], users: [{name: u, user: {}}]}",
    )
    .unwrap();
    let replica = Replica::start(&sandbox, &kubeconfig, &[]);
    for path in ["/", "/pool/IPPool/x"] {
        let page = replica.get(path);
        assert_eq!(page.status, 503, "{path}");
        check(&page);
        assert!(page.body.contains("has not read all objects"), "{page:?}");
    }
}

/// Writes records of pods: address, pod and node.
pub(super) fn held(scope: &str, records: &[(&str, &str, &str)]) {
    let items: Vec<_> = records
        .iter()
        .map(|(address, pod, node)| {
            let (namespace, name) = pod.split_once('/').unwrap();
            json!({
                "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPAllocation",
                "metadata": {"name": format!("{scope}.{address}")},
                "spec": {
                    "address": address, "prefix": 24, "scope": scope, "network": "net1", "interface": "net1",
                    "containerID": "c", "node": node, "bootID": "b", "since": "2026-01-01T00:00:00Z",
                    "source": "dynamic", "part": 0, "of": 1, "podRef": {"namespace": namespace, "name": name},
                },
            })
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    cluster().unwrap().apply(&list.to_string());
}

/// Returns the title of the map's cell of an address or a subnet.
fn cell<'p>(page: &'p Page, what: &str) -> &'p str {
    let start = format!("<g class=\"cell\"><title>{what}: ");
    let (_, rest) = page.body.split_once(&start).unwrap_or_else(|| panic!("{what}: {}", page.body));
    rest.split_once("</title>").unwrap().0
}

#[test]
fn the_map_of_a_pool_says_who_holds_each_address() {
    let sandbox = Sandbox::new();
    let Some(mut replica) = replica(&sandbox, &[]) else { return };
    let name = own_name("map");
    pool(
        &name,
        &json!({
            "scope": name,
            "subnets": [{
                "subnet": "10.78.0.0/24", "gateway": "10.78.0.1",
                "addresses": ["10.78.0.1-10.78.0.100"], "exclude": [{"addresses": "10.78.0.11-10.78.0.20"}],
            }],
            "reservations": [{"pod": "default/db-0", "address": "10.78.0.30"}, {"pod": "default/db-1", "address": "10.78.0.31"}],
        }),
    );
    held(
        &name,
        &[
            ("10.78.0.2", "default/<script>alert(1)</script>", "n1"),
            ("10.78.0.30", "default/db-0", "n2"),
            ("10.78.0.200", "default/old\"' onload='x", "n2"),
        ],
    );
    let path = format!("/pool/IPPool/{name}");
    let page = replica.wait(20, "the holders", |replica| {
        Some(replica.get(&path)).filter(|page| page.body.contains("10.78.0.200: held"))
    });
    check(&page);
    assert_eq!(page.body.matches("<g class=\"cell\">").count(), 256);
    for (address, title) in [
        ("10.78.0.0", "not in this pool"),
        ("10.78.0.1", "gateway"),
        ("10.78.0.2", "held by pod default/&lt;script&gt;alert(1)&lt;/script&gt; on n1"),
        ("10.78.0.3", "free"),
        ("10.78.0.11", "excluded"),
        ("10.78.0.30", "held by pod default/db-0 on n2"),
        ("10.78.0.31", "reserved for certain pods"),
        ("10.78.0.200", "held by pod default/old&quot;&#39; onload=&#39;x on n2, not in this pool"),
    ] {
        assert_eq!(cell(&page, address), title, "{address}");
    }
    // The table has what the pool lists.
    assert!(page.body.contains("<p class=\"quiet\">2 addresses are held.</p>"), "{}", page.body);
    let by_node = replica.get(&format!("{path}?by=node"));
    assert!(by_node.body.contains("<b>1</b> <bdi>n2</bdi>: 2</li>"), "{}", by_node.body);
    let part = replica.get(&format!("{path}?within=10.78.0.0%2F29"));
    assert_eq!(part.body.matches("<g class=\"cell\">").count(), 8);
}

#[test]
fn a_large_pool_is_a_map_of_blocks() {
    let sandbox = Sandbox::new();
    let Some(mut replica) = replica(&sandbox, &[]) else { return };
    let name = own_name("blocks");
    let subnets = json!([{"subnet": "10.79.0.0/16"}, {"subnet": "fd00:79::/64"}]);
    pool(&name, &json!({"scope": name, "subnets": subnets}));
    let addresses: Vec<String> =
        (0..250).map(|number| format!("10.79.{}.{}", 1 + number / 200, 1 + number % 200)).collect();
    let records: Vec<_> =
        addresses.iter().map(|address| (address.as_str(), "default/web-0", "n1")).collect();
    held(&name, &records);
    let path = format!("/pool/IPPool/{name}");
    let page = replica.wait(20, "the holders", |replica| {
        Some(replica.get(&path)).filter(|page| page.body.contains(">250 held, "))
    });
    check(&page);
    assert_eq!(page.body.matches("<g class=\"cell\">").count(), 1024);
    assert_eq!(cell(&page, "10.79.1.0/25"), "127 of 128 addresses held, n1: 127");
    assert_eq!(cell(&page, "10.79.0.0/25"), "0 of 127 addresses held");
    let ends = "0 of 36,028,797,018,963,967 addresses held";
    assert_eq!(cell(&page, "fd00:79::/73"), ends);
    assert!(page.body.contains("<a href=\"?within=10.79.1.0%2F25\">"), "{}", page.body);
    // The table is in order and has three pages.
    let last = replica.get(&format!("{path}?page=3"));
    assert!(last.body.contains("Page 3 of 3"), "{}", last.body);
    assert_eq!(last.body.matches("<td><code>10.79.2.").count(), 50);
    assert!(!last.body.contains("<td><code>10.79.1."), "{}", last.body);
}

#[test]
fn a_search_finds_addresses_subnets_pods_nodes_and_pools() {
    let sandbox = Sandbox::new();
    let Some(mut replica) = replica(&sandbox, &[]) else { return };
    let name = own_name("found");
    pool(&name, &json!({"scope": name, "subnets": [{"subnet": "10.84.0.0/24"}]}));
    let (node, pod) = (format!("node-of-{name}"), format!("default/pod-<b>-of-{name}"));
    let addresses: Vec<String> = (1..=230).map(|low| format!("10.84.0.{low}")).collect();
    let records: Vec<_> = addresses.iter().map(|a| (a.as_str(), &*pod, &*node)).collect();
    held(&name, &records);
    let encoded = pod.replace('<', "%3C").replace('>', "%3E").replace('/', "%2F");
    let page = replica.wait(20, "the holders", |replica| {
        let page = replica.get(&format!("/search?q={encoded}"));
        Some(page).filter(|page| page.body.contains("230 found"))
    });
    check(&page);
    assert_eq!(page.body.matches("<tr><td><code>10.84.0.").count(), 200);
    assert!(page.body.contains("30 more results not shown."), "{}", page.body);
    assert!(page.body.contains(&format!("value=\"default/pod-&lt;b&gt;-of-{name}\"")));
    let link = format!("<a href=\"pool/IPPool/{name}?within=10.84.0.0%2F24\">");
    assert!(page.body.contains(&link), "{}", page.body);
    let found = |text: &str| {
        let page = replica.get(&format!("/search?q={text}"));
        check(&page);
        page.body.matches("<tr><td><code>10.84.0.").count()
    };
    assert_eq!(found("10.84.0.7"), 1);
    assert_eq!(found("10.84.0.240"), 0);
    assert_eq!(found("10.84.0.0/28"), 15);
    assert_eq!(found("10.84.0.0%2F28"), 15);
    assert_eq!(found(&node.to_uppercase()), 200);
    assert_eq!(found(&format!("+-of-{name}+")), 200);
    assert_eq!(found(&format!("other/pod-%3Cb%3E-of-{name}")), 0);
    assert_eq!(found(""), 0);
    assert_eq!(found(&"x".repeat(5000)), 0);
    let page = replica.get(&format!("/search?q={name}"));
    assert!(page.body.contains(&format!("<a href=\"pool/IPPool/{name}\">")), "{}", page.body);
    let page = replica.get("/search?q=%3Ci%3Enothing");
    assert!(page.body.contains("<b><bdi>&lt;i&gt;nothing</bdi></b>"), "{}", page.body);
    assert!(page.body.contains("Nothing was found."), "{}", page.body);
}

#[test]
fn pools_that_share_addresses_are_named_together() {
    let sandbox = Sandbox::new();
    let Some(mut replica) = replica(&sandbox, &[]) else { return };
    let [first, second, third] = ["shared", "shared", "shared"].map(own_name);
    for (name, scope, addresses) in [
        (&first, &first, "10.85.0.1-10.85.0.100"),
        (&second, &first, "10.85.0.51-10.85.0.150"),
        (&third, &third, "10.85.0.141-10.85.0.160"),
    ] {
        let subnets = json!([{"subnet": "10.85.0.0/24", "addresses": [addresses]}]);
        pool(name, &json!({"scope": scope, "subnets": subnets}));
    }
    let page = replica.wait(20, "the overlaps", |replica| {
        Some(replica.get("/overlaps")).filter(|page| page.body.contains(&third))
    });
    check(&page);
    let row = |range: &str| {
        let rest = page.body.split_once(&format!("<code>{range}</code>")).unwrap().1;
        rest.split_once("</tr>").unwrap().0.to_owned()
    };
    let one = row("10.85.0.51-10.85.0.100");
    assert!(one.contains(">50</td>") && one.contains(">one scope<"), "{one}");
    assert!(one.contains(&first) && one.contains(&second) && !one.contains(&third), "{one}");
    let other = row("10.85.0.141-10.85.0.150");
    assert!(other.contains(">10</td>") && other.contains(">different scopes<"), "{other}");
    assert!(!other.contains(&first) && other.contains(&third), "{other}");
}

#[test]
fn pools_that_share_addresses_with_others_are_named_with_them() {
    let sandbox = Sandbox::new();
    let Some(mut replica) = replica(&sandbox, &[]) else { return };
    let cluster = cluster().unwrap();
    let [name, node] = ["shared", "node"].map(own_name);
    cluster.apply(include_str!("../../data/kubernetes/network-attachment-definition.yaml"));
    let crd = "crd/network-attachment-definitions.k8s.cni.cncf.io";
    cluster.text(&["wait", "--for=condition=established", crd]);
    let network = |name: &str, scope: &str, range: &str| {
        let ipam = json!({"type": "hereabouts", "range": range, "network_name": scope});
        let config = json!({"cniVersion": "1.0.0", "type": "macvlan", "ipam": ipam}).to_string();
        let object = json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"config": config},
        });
        cluster.apply(&object.to_string());
    };
    pool(&name, &json!({"scope": name, "subnets": [{"subnet": "10.86.0.0/24"}]}));
    network("same-scope", &name, "10.86.0.16/28");
    network("other-scope", "", "10.86.0.32/28");
    // No pool has these.
    network("other-wire", "", "10.87.0.0/24");
    network("other-wire-too", "red", "10.87.0.0/24");
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
        "spec": {"podCIDR": "10.86.0.64/28", "podCIDRs": ["10.86.0.64/28"]}});
    cluster.apply(&object.to_string());
    let page = replica.wait(60, "all overlaps", |replica| {
        let page = replica.get("/overlaps");
        let has = |text: &&str| page.body.contains(*text);
        let all = ["default/same-scope", "default/other-scope", "podCIDRs of nodes"];
        all.iter().all(has).then_some(page)
    });
    check(&page);
    assert!(!page.body.contains("other-wire"), "{}", page.body);
    for (range, scopes, who) in [
        ("10.86.0.17-10.86.0.30", ">one scope<", "<bdi>default/same-scope</bdi>"),
        ("10.86.0.33-10.86.0.46", ">different scopes<", "<bdi>default/other-scope</bdi>"),
        ("10.86.0.64-10.86.0.79", ">one scope, and the network of the cluster<", "podCIDRs of"),
    ] {
        let rest = page.body.split_once(&format!("<code>{range}</code>")).unwrap().1;
        let row = rest.split_once("</tr>").unwrap().0;
        assert!(row.contains(scopes) && row.contains(who) && row.contains(&name), "{row}");
    }
    cluster.text(&["delete", "node", &node]);
}
