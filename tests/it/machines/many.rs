//! Thousands of claims at once, and thousands of pools: time, memory, and the number of requests.

use super::{Machines, own, wait};
use crate::support::cluster::Cluster;
use crate::support::controller::Replica;
use crate::support::sandbox::Sandbox;
use hereabouts::api_client::client::Client;
use hereabouts::api_client::http::{Method, Request};
use hereabouts::environment::ProxyVariables;
use hereabouts::retry::Deadline;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Longer than any test here.
const LIMIT: Duration = Duration::from_secs(3600);
/// How many clients write at the same time.
const WRITERS: usize = 6;
/// The most memory of a controller, in MiB: the limit of the Deployment.
const MEMORY: u64 = 128;

/// Sends requests to the API server. kubectl would limit itself to 50 each second.
struct Api(Client);

impl Api {
    fn of(cluster: &Cluster) -> Self {
        Self(Client::open(&cluster.kubeconfig(), &ProxyVariables::default()).unwrap())
    }

    fn send(&self, method: Method, path: &str, content: Option<&[u8]>) -> Value {
        let content = content.map(|bytes| ("application/json", bytes));
        let request = Request { method, path, accept: "application/json", content };
        let answer = self.0.call(&request, Duration::from_secs(60)).unwrap();
        let text = String::from_utf8_lossy(&answer.body);
        assert!((200..300).contains(&answer.status), "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Returns the number of objects of a resource, in one small answer.
    fn count(&self, path: &str) -> usize {
        let list = self.send(Method::Get, &format!("{path}?limit=1"), None);
        let more = list["metadata"]["remainingItemCount"].as_u64().unwrap_or_default();
        list["items"].as_array().unwrap().len() + usize::try_from(more).unwrap()
    }
}

/// Creates all objects.
fn create(cluster: &Cluster, path: &str, objects: &[Value]) {
    std::thread::scope(|scope| {
        for part in objects.chunks(objects.len().div_ceil(WRITERS)) {
            scope.spawn(move || {
                let api = Api::of(cluster);
                for object in part {
                    api.send(Method::Post, path, Some(object.to_string().as_bytes()));
                }
            });
        }
    });
}

/// Calls `look` twice a second until it is true: a look may be work for the controller. Fails the
/// test after these seconds.
fn wait_for(seconds: u64, what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(seconds));
    while !look() {
        assert!(!deadline.left().is_zero(), "no {what} in {seconds} s");
        wait(Duration::from_millis(500));
    }
}

/// All claims come at once, and the controller is killed a few times meanwhile.
fn claims_at_once(count: usize, spec: &Value, seconds: u64) {
    const KILLS: usize = 3;
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    let sandbox = Sandbox::new();
    machines.pool(spec);
    let names: Vec<String> = (0..count).map(|number| format!("m-{number:05}")).collect();
    let claims: Vec<Value> =
        names.iter().map(|name| machines.claim_object("InClusterIPPool", "pool", name)).collect();
    let path = |resource: &str| {
        format!("/apis/ipam.cluster.x-k8s.io/v1beta2/namespaces/{}/{resource}", machines.namespace)
    };
    let start = || Replica::start(&sandbox, &cluster.kubeconfig(), &[]);
    let api = Api::of(&cluster);
    let watch = Deadline::after(LIMIT);
    let mut controller = start();
    let mut memory = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| create(&cluster, &path("ipaddressclaims"), &claims));
        for kill in 1..=KILLS {
            wait_for(seconds, "part of the answers", || {
                count * kill / (KILLS + 1) <= api.count(&path("ipaddresses"))
            });
            memory = memory.max(controller.peak_memory());
            // With SIGKILL.
            drop(std::mem::replace(&mut controller, start()));
        }
    });
    let waiting = format!(
        r#"hereabouts_claims_waiting{{kind="InClusterIPPool",pool_namespace="{}",pool="pool"}}"#,
        machines.namespace
    );
    wait_for(seconds, "last answer", || {
        api.count(&path("ipaddresses")) == count && controller.metric(&waiting) == Some(0.0)
    });
    let took = LIMIT - watch.left();
    memory = memory.max(controller.peak_memory());
    println!("{count} claims: {:.1} s, {memory} MiB", took.as_secs_f64());

    let answered: BTreeSet<String> = machines
        .list("ipaddressclaims")
        .iter()
        .filter_map(|claim| Some(claim["status"]["addressRef"]["name"].as_str()?.to_owned()))
        .collect();
    assert_eq!(answered, names.into_iter().collect());
    let answers = machines.answers();
    let addresses: BTreeSet<&String> = answers.iter().map(|(_, address)| address).collect();
    assert_eq!((answers.len(), addresses.len()), (count, count));
    machines.until(&answers, Machines::held);
    assert!(controller.runs(), "{}", controller.log());
    assert!(memory < MEMORY, "{memory} MiB");
    assert!(took < Duration::from_secs(seconds), "{took:?}");
}

#[test]
fn a_thousand_claims_at_once_are_answered_by_controllers_that_are_killed() {
    claims_at_once(1_000, &json!({"prefix": 64, "addresses": ["fd00:0:0:1::/64"]}), 120);
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_ten_thousand_claims_at_once_are_answered_by_controllers_that_are_killed() {
    claims_at_once(10_000, &json!({"prefix": 16, "addresses": ["10.64.0.0/16"]}), 900);
}

/// The claims of one pool come while the controller reads all the others for the first time.
fn many_pools(count: usize, seconds: u64) {
    const POOLS: &str = "/apis/hereabouts.dev/v1alpha1/ippools";
    let Some(cluster) = own() else { return };
    let machines = Machines::of(&cluster);
    let sandbox = Sandbox::new();
    let pool = |number: usize| {
        let subnet =
            format!("10.{}.{}.{}/28", number >> 12, (number >> 4) & 255, (number & 15) << 4);
        let name = format!("pool-{number:05}");
        json!({
            "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": name},
            "spec": {"subnets": [{"subnet": subnet}]},
        })
    };
    create(&cluster, POOLS, &(0..count).map(pool).collect::<Vec<_>>());
    let last = format!("pool-{:05}", count - 1);
    machines.claim_of("IPPool", &last, &["a", "b", "c"]);
    let answers = format!(
        "/apis/ipam.cluster.x-k8s.io/v1beta2/namespaces/{}/ipaddresses",
        machines.namespace
    );
    let api = Api::of(&cluster);
    let watch = Deadline::after(LIMIT);
    let mut controller = Replica::start(&sandbox, &cluster.kubeconfig(), &[]);
    wait_for(seconds, "answers to the first claims", || api.count(&answers) == 3);
    let answered = LIMIT - watch.left();
    let metric = |controller: &Replica, name: &str, labels: &str| {
        let found = controller.metric(&format!("hereabouts_controller_{name}{{{labels}}}"));
        format!("{:.0}", found.unwrap_or_default()).parse::<usize>().unwrap()
    };
    let writes = |controller: &Replica, resource: &str| {
        let labels = format!(r#"resource="{resource}",verb="patch",outcome="done""#);
        metric(controller, "writes_total", &labels)
    };
    let looks = |controller: &Replica| {
        metric(controller, "reconciles_total", r#"kind="pool",outcome="done""#)
    };
    wait_for(seconds, "status of all pools", || count <= writes(&controller, "ippools/status"));
    let told = LIMIT - watch.left();
    // The numbers of a pool are looked at once more, 30 s after they were written.
    wait(Duration::from_secs(40));
    let quiet = [writes(&controller, "ippools"), writes(&controller, "ippools/status")];
    let before = looks(&controller);
    println!(
        "{count} pools: claims answered after {:.1} s, the status of all pools written after {:.1} s, \
         {quiet:?} writes, {before} looks",
        answered.as_secs_f64(),
        told.as_secs_f64()
    );
    let written = |object: &Value| object["status"]["total"].is_string();
    let listed: Value =
        serde_json::from_str(&cluster.text(&["get", "ippools.hereabouts.dev", "-o", "json"]))
            .unwrap();
    assert_eq!(
        listed["items"].as_array().unwrap().iter().filter(|pool| written(pool)).count(),
        count
    );

    // A pool that comes is a reason to look at few others, and claims do not wait for that.
    create(&cluster, POOLS, &[pool(count)]);
    let late = Deadline::after(LIMIT);
    machines.claim_of("IPPool", &format!("pool-{count:05}"), &["late"]);
    wait_for(seconds, "answer to a late claim", || api.count(&answers) == 4);
    let late = LIMIT - late.left();
    wait_for(seconds, "status of the new pool", || {
        quiet[1] < writes(&controller, "ippools/status")
    });
    wait(Duration::from_secs(1));
    let looked = looks(&controller) - before;
    let memory = controller.peak_memory();
    println!(
        "one more: {looked} looks, a claim of it answered after {:.1} s; {memory} MiB",
        late.as_secs_f64()
    );

    assert!(controller.runs(), "{}", controller.log());
    // The finalizer once; the status at once, and once more for the pool that the claims changed.
    assert_eq!(quiet[0], count);
    assert!(quiet[1] <= count + 2, "{quiet:?}");
    assert!(before < count * 5, "{before} looks");
    assert!(looked < 20, "{looked} looks");
    assert!(memory < MEMORY, "{memory} MiB");
    assert!(answered < Duration::from_secs(30), "{answered:?}");
    assert!(late < Duration::from_secs(5), "{late:?}");
}

#[test]
fn claims_are_answered_beside_a_thousand_pools() {
    many_pools(1_000, 120);
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_claims_are_answered_beside_ten_thousand_pools() {
    many_pools(10_000, 900);
}
