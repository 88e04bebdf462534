//! The servers themselves: killed and started again, out of space, restored to an older state, and
//! with the resource's definition deleted.

use super::rig::{assert_says, install, within};
use super::slices_restored::OneSlice;
use crate::support::cluster::{Cluster, Options, Server};
use crate::support::nodes::{DEADLINES, Node, holders, objects, own_name};
use crate::support::proxy::{Act, Proxy, Seen};
use crate::support::sandbox::{Call, Ended};
use hereabouts::api_client::client::Client;
use hereabouts::api_client::http::{Method, Request};
use hereabouts::environment::ProxyVariables;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Longer than a server takes to start.
const PATIENT: &str = r#"{"add":"10m","del":"10m","gc":"10m"}"#;

fn own(options: Options) -> Option<Cluster> {
    match Cluster::own(options) {
        Ok(cluster) => {
            install(&cluster);
            Some(cluster)
        }
        Err(reason) => {
            skipped!("{reason}");
            None
        }
    }
}

fn node(cluster: &Cluster, scope: &str) -> Node {
    let node = Node::new(&own_name("n"), scope, &cluster.kubeconfig());
    node.del("nobody").succeeded();
    node
}

fn only(address: &str, container: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(address.to_owned(), container.to_owned())])
}

/// While a server is away, every verb says so in time. Calls with enough time wait until it is
/// back, and succeed.
fn outage(cluster: &Cluster, server: Server) {
    let node = node(cluster, &format!("{server:?}"));
    let kept = node.add("kept");
    cluster.kill(server);
    assert_eq!(within(5.0, &node.call("ADD", "c")).code(), 11, "{server:?}");
    within(4.0, &node.call("DEL", "kept")).succeeded();
    assert_eq!(within(4.0, &node.gc_call(&["kept"])).code(), 11, "{server:?}");
    if server == Server::ApiServer {
        assert_eq!(within(5.0, &node.check_call("kept", &kept.document())).code(), 11);
        assert_eq!(node.status().code(), 50);
    }
    node.configure(&cluster.kubeconfig(), PATIENT);
    let ended: Vec<Ended> = std::thread::scope(|scope| {
        let waiting = [
            node.call("ADD", "c"),
            node.call("ADD", "d"),
            node.call("DEL", "kept"),
            node.call("ADD", "web_1"),
        ];
        let waiting = waiting.map(|call| scope.spawn(move || call.run()));
        cluster.start(server);
        waiting.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(ended[2].succeeded().stdout, "");
    node.sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    let held = holders(cluster, &node.scope);
    for (container, call) in [("c", 0), ("d", 1), ("web_1", 3)] {
        assert_eq!(held[&ended[call].addresses()[0]], container, "{held:?}");
    }
    assert_eq!(held.len(), 3, "{held:?}");
    for container in ["c", "d", "web_1"] {
        node.del(container).succeeded();
    }
    assert_eq!(holders(cluster, &node.scope), BTreeMap::new());
}

#[test]
fn calls_wait_for_a_server_that_was_killed() {
    let Some(cluster) = own(Options::default()) else { return };
    outage(&cluster, Server::ApiServer);
    outage(&cluster, Server::Etcd);
}

/// Sends one request to etcd's own HTTP gateway.
fn ask_etcd(cluster: &Cluster, path: &str, body: &str) -> Value {
    let settings = std::fs::read_to_string(cluster.directory().join("settings")).unwrap();
    let port = settings.lines().find_map(|line| line.strip_prefix("ETCD_PORT=")).unwrap();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    let [start, end] = [answer.find('{'), answer.rfind('}')].map(Option::unwrap);
    serde_json::from_str(&answer[start..=end]).unwrap()
}

/// Forgets all revisions except the newest.
fn compact(cluster: &Cluster) {
    let list: Value =
        serde_json::from_str(&cluster.text(&["get", "--raw", "/api/v1/configmaps"])).unwrap();
    let revision = &list["metadata"]["resourceVersion"];
    ask_etcd(
        cluster,
        "/v3/kv/compaction",
        &json!({"revision": revision, "physical": true}).to_string(),
    );
}

/// Clears the alarm, as an operator does after making room.
fn disarm(cluster: &Cluster) {
    compact(cluster);
    ask_etcd(cluster, "/v3/maintenance/defragment", "{}");
    let alarms =
        ask_etcd(cluster, "/v3/maintenance/alarm", r#"{"action": "GET"}"#)["alarms"].clone();
    // An alarm of no particular member cannot be cleared.
    let member = &alarms[0]["memberID"];
    ask_etcd(
        cluster,
        "/v3/maintenance/alarm",
        &json!({"action": "DEACTIVATE", "memberID": member, "alarm": "NOSPACE"}).to_string(),
    );
}

#[test]
fn an_etcd_without_space_gives_no_address_and_takes_them_back() {
    let options = Options { etcd_quota_bytes: Some(24 << 20), ..Options::default() };
    let Some(cluster) = own(options) else { return };
    let node = node(&cluster, "space");
    let kept = node.add("kept");
    let value = cluster.directory().join("value");
    std::fs::write(&value, vec![b'x'; 900_000]).unwrap();
    let from = format!("--from-file={}", value.display());
    let full = (0..60).any(|n| {
        !cluster.kubectl(&["create", "configmap", &format!("c{n}"), &from]).status.success()
    });
    assert!(full);
    assert_says(&within(5.0, &node.call("ADD", "c")), 11, "database space exceeded");
    node.check("kept", &kept).succeeded();
    assert_eq!(node.add("kept").addresses(), ["10.9.0.1"]);
    // Requests that need no space succeed.
    node.del("c").succeeded();
    node.del("kept").succeeded();
    assert_eq!(holders(&cluster, "space"), BTreeMap::new());
    cluster.text(&["delete", "configmap", "--all"]);
    disarm(&cluster);
    let added = node.add("c").addresses();
    assert_eq!(holders(&cluster, "space"), only(&added[0], "c"));
}

/// Returns a call for a sandbox that lives as long as a path exists.
fn of_living(node: &Node, verb: &str, container: &str) -> Call {
    let netns = node.sandbox.path(container);
    if !netns.is_symlink() {
        std::os::unix::fs::symlink(format!("/proc/{}/ns/net", std::process::id()), &netns).unwrap();
    }
    node.call(verb, container).set("CNI_NETNS", netns).set("CNI_NETNS_OVERRIDE", "true").clone()
}

/// The backup has the pods of its time: those that have gone since, and not those that have come.
#[test]
fn an_etcd_that_was_set_back_costs_no_other_pod_its_address() {
    let Some(cluster) = own(Options::default()) else { return };
    let (node, other) = (node(&cluster, "back"), node(&cluster, "back"));
    for container in ["kept", "went", "web_1"] {
        node.add(container).succeeded();
    }
    let slice = OneSlice::of_the_first(&cluster);
    cluster.save();
    slice.goes_to_the_second();
    node.del("went").succeeded();
    assert_eq!(node.add("web_2").addresses(), ["10.9.0.3"], "re-homed after the backup");
    let came =
        ["came1", "came2", "came3"].map(|container| of_living(&node, "ADD", container).run());
    assert_eq!(
        [&came[0], &came[1], &came[2]].map(|ended| ended.addresses()[0].clone()),
        ["10.9.0.2", "10.9.0.4", "10.9.0.5"]
    );
    cluster.restore();
    // One of the lost addresses is given to the next pod.
    let taken = other.call_in("ADD", "other", "10.9.0.4-10.9.0.4/24").run();
    assert_eq!(taken.addresses(), ["10.9.0.4"]);
    for (container, ended) in [("came1", &came[0]), ("came2", &came[1]), ("came3", &came[2])] {
        assert_eq!(node.check(container, ended).code(), 102, "what is not recorded is not there");
    }
    // Free addresses get their records again; the others are named with their holders.
    let repaired =
        node.sandbox.command_call(&["repair", "--yes"]).set("CNI_NETNS_OVERRIDE", "true").run();
    let said = &repaired.succeeded().stderr;
    assert!(said.contains("2 x given-away"), "{said}");
    for (lost, holder) in [("came1", "went"), ("came2", "other")] {
        let names = format!("container {lost}, ");
        let line = said.lines().find(|line| line.contains(&names));
        assert!(
            line.is_some_and(|line| line.contains(&format!("now held by pod default/{holder}"))),
            "{lost}: {said}"
        );
    }
    node.check("came3", &came[2]).succeeded();
    // DELs free nothing of the new holders.
    let held = holders(&cluster, "back");
    for container in ["came1", "came2", "web_2"] {
        node.del(container).succeeded();
    }
    assert_eq!(holders(&cluster, "back"), held);
    // GC frees the records that came back for dead sandboxes, and none of a living one.
    node.gc_call(&["kept", "came3"]).run().succeeded();
    let left: Vec<String> = holders(&cluster, "back").into_values().collect();
    assert_eq!(left, ["kept", "other", "came3"]);
    node.del("came3").succeeded();
    assert_eq!(holders(&cluster, "back").len(), 2);
    slice.stays_with_the_second();
}

/// Until somebody repairs what was lost, the pod's own next ADD does it.
#[test]
fn a_definition_that_was_deleted_is_named_and_what_it_took_is_asked_for_again() {
    let Some(cluster) = own(Options::default()) else { return };
    let node = node(&cluster, "definition");
    let kept = node.add("kept");
    node.add("gone").succeeded();
    cluster.text(&["delete", "crd", "ipallocations.hereabouts.dev", "--timeout=60s"]);
    let words = "kubectl apply -k deploy/crd";
    assert_says(&within(5.0, &node.call("ADD", "c")), 105, words);
    assert_says(&within(5.0, &node.check_call("kept", &kept.document())), 105, words);
    assert_says(&within(4.0, &node.call("DEL", "gone")), 105, words);
    assert_says(&within(4.0, &node.gc_call(&["kept"])), 105, words);
    assert_says(&node.status(), 50, words);
    install(&cluster);
    node.status().succeeded();
    assert_eq!(node.check("kept", &kept).code(), 102);
    node.configure(&cluster.kubeconfig(), DEADLINES);
    assert_eq!(node.add("kept").addresses(), ["10.9.0.1"]);
    node.check("kept", &kept).succeeded();
    node.del("gone").succeeded();
    node.del("c").succeeded();
    assert_eq!(holders(&cluster, "definition"), only("10.9.0.1", "kept"));
}

/// Creates more objects like an existing one than a page of a list has.
fn multiply(cluster: &Cluster, like: &Value, count: u32) {
    let client = Client::open(&cluster.kubeconfig(), &ProxyVariables::default()).unwrap();
    for n in 2..=count {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 9, 0, 0).to_bits() + n).to_string();
        let mut object = like.clone();
        let scope = like["spec"]["scope"].as_str().unwrap();
        object["metadata"] =
            json!({"name": format!("{scope}.{address}"), "labels": like["metadata"]["labels"]});
        object["metadata"]["labels"]["hereabouts.dev/address"] = json!(address);
        object["spec"]["address"] = json!(address);
        let body = object.to_string();
        let path = "/apis/hereabouts.dev/v1alpha1/ipallocations";
        let content = Some(("application/json", body.as_bytes()));
        let request = Request { method: Method::Post, path, accept: "application/json", content };
        let answer = client.call(&request, Duration::from_secs(20)).unwrap();
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    }
}

/// The server forgets the revision of which it has shown the first page.
#[test]
fn a_list_goes_on_where_its_place_has_expired() {
    let Some(cluster) = own(Options::default()) else { return };
    let cluster = Arc::new(cluster);
    let proxy = Proxy::new(&cluster);
    let holder = node(&cluster, "pages");
    holder.add("many").succeeded();
    multiply(&cluster, &objects(&cluster)[0], 600);
    let expiring = || {
        let (forgetful, mut times) = (Arc::clone(&cluster), 1);
        proxy.script(move |asked| {
            if asked.path.contains("continue=") && times == 1 {
                times = 0;
                // A newer revision than that of the first page; the server's cache would know the
                // older one for a minute.
                forgetful.text(&["create", "configmap", &own_name("newer")]);
                compact(&forgetful);
                forgetful.kill(Server::ApiServer);
                forgetful.start(Server::ApiServer);
            }
            Act::Pass
        });
    };
    expiring();
    let expired = |seen: &Seen| seen.done == Some(410);
    let late = Node::new(&own_name("n"), "pages", &proxy.kubeconfig(&holder.sandbox.root));
    late.configure(&proxy.kubeconfig(&late.sandbox.root), PATIENT);
    let given = late.call_in("ADD", "late", "10.9.0.0/22").run().addresses();
    assert!(proxy.seen().iter().any(expired), "nothing had expired");
    assert_eq!(holders(&cluster, "pages").get(&given[0]).map(String::as_str), Some("late"));
    assert_eq!(holders(&cluster, "pages").len(), 601);
    // The holder's state is rebuilt from two pages, the second one expired.
    std::fs::remove_dir_all(holder.sandbox.store()).unwrap();
    expiring();
    holder.configure(&proxy.kubeconfig(&holder.sandbox.root), PATIENT);
    holder.del("many").succeeded();
    assert!(proxy.seen().iter().any(expired), "nothing had expired");
    proxy.pass();
    assert_eq!(holders(&cluster, "pages").into_values().collect::<Vec<_>>(), ["late"]);
}
