//! What the API server itself enforces of a pool, for every client.

use crate::support::cluster::Cluster;
use crate::support::nodes::own_name;
use serde_json::{Value, json};

/// Applies a pool, and returns what the API server says.
fn apply(cluster: &Cluster, name: &str, spec: &Value) -> Result<(), String> {
    let pool = json!({"apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec});
    let file = cluster.directory().join(format!("{name}.json"));
    std::fs::write(&file, pool.to_string()).unwrap();
    // Not plain `apply`: it keeps the whole object in an annotation, which has a limit.
    let output = cluster.kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn the_api_server_refuses_what_no_pool_can_mean() {
    let cluster = match Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let right = json!({
        "subnets": [
            {"subnet": "10.10.10.0/24", "gateway": "10.10.10.1", "addresses": ["10.10.10.2-10.10.10.100", "10.10.10.102", "10.10.10.128/26"],
             "exclude": [{"addresses": "10.10.10.7", "reason": "answers ARP"}]},
            {"subnet": "fd00:10::/64", "addresses": ["fd00:10::1-fd00:10::ffff"]},
        ],
        "scope": "blue", "namespaces": ["default"], "nodeSelector": {"matchLabels": {"zone": "a"}},
        "reservations": [
            {"pod": "default/db-0", "address": "10.10.10.40"},
            {"statefulSet": "default/web", "addresses": "10.10.10.50-10.10.10.52"},
        ],
        "avoidBuggyAddresses": true, "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"], "routes": [{"dst": "0.0.0.0/0", "gw": "10.10.10.1", "mtu": 1400}],
    });
    let name = own_name("rules");
    apply(cluster, &name, &right).unwrap();
    let changed = |path: &str, value: Value| {
        let mut spec = right.clone();
        *spec.pointer_mut(path).unwrap() = value;
        spec
    };
    let subnet = |subnet: Value| changed("/subnets/0", subnet);
    let reservation = |reservation: Value| changed("/reservations/0", reservation);
    for (spec, words) in [
        (changed("/scope", json!("red")), "scope never changes"),
        (changed("/scope", json!("capi:x")), "are kept for pools of Cluster API"),
        (changed("/ipFamilies", json!(["IPv4"])), "RequireDualStack needs both families"),
        (changed("/ipFamilies", json!(["IPv4", "IPv4"])), "has a family twice"),
        (changed("/ipFamilies", json!(["IPv5"])), "Unsupported value"),
        (changed("/subnets", json!([])), "should have at least 1 items"),
        (subnet(json!({"subnet": "10.10.10.0"})), "expected a subnet in CIDR notation"),
        (subnet(json!({"subnet": "10.10.10.0/24", "gateway": "fd00::1"})), "of two families"),
        (subnet(json!({"subnet": "10.10.10.0/24", "gateway": "x"})), "expected an address"),
        (
            subnet(json!({"subnet": "10.10.10.0/24", "addresses": ["10.10.11.1"]})),
            "addresses must be inside the subnet",
        ),
        (
            subnet(json!({"subnet": "10.10.10.0/24", "addresses": ["10.10.10.9-10.10.11.1"]})),
            "addresses must be inside the subnet",
        ),
        (
            subnet(json!({"subnet": "10.10.10.0/24", "addresses": ["fd00::1-fd00::2"]})),
            "addresses must be inside the subnet",
        ),
        (
            subnet(json!({"subnet": "10.10.10.0/24", "addresses": ["10.10.0.0/16"]})),
            "addresses must be inside the subnet",
        ),
        (
            subnet(json!({"subnet": "10.10.10.0/24", "addresses": ["10.10.10.9-"]})),
            "expected an address, a CIDR or first-last",
        ),
        (
            subnet(json!({"subnet": "10.10.10.0/24", "exclude": [{"addresses": "printer"}]})),
            "expected an address, a CIDR or first-last",
        ),
        (
            subnet(json!({"subnet": "10.10.10.0/24", "gatway": "10.10.10.1"})),
            ".gatway: field not declared",
        ),
        (reservation(json!({"address": "10.10.10.40"})), "expected either pod or statefulSet"),
        (
            reservation(
                json!({"pod": "default/db-0", "statefulSet": "default/web", "address": "10.10.10.40"}),
            ),
            "expected either pod or statefulSet",
        ),
        (
            reservation(json!({"pod": "a/b", "interface": "net 1", "address": "10.10.10.40"})),
            "should match",
        ),
        (reservation(json!({"pod": "default/db-0"})), "expected either address or addresses"),
        (
            reservation(json!({"statefulSet": "default/web", "address": "10.10.10.40"})),
            "a statefulSet has addresses",
        ),
        (reservation(json!({"pod": "db-0", "address": "10.10.10.40"})), "should match"),
        (changed("/namespaces", json!(["Default"])), "should match"),
        (changed("/routes", json!([{"dst": "default"}])), "expected a destination"),
    ] {
        let refused = apply(cluster, &name, &spec).expect_err(words);
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let mut without = right.clone();
    without.as_object_mut().unwrap().remove("scope");
    let refused = apply(cluster, &name, &without).expect_err("a scope that goes");
    assert!(refused.contains("scope never changes"), "{refused}");
    // Without a controller, the columns of the status are empty.
    let shown = cluster.text(&["get", "hpool", &name, "--output=wide"]);
    let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], [name.as_str(), "10.10.10.0/24", "blue"], "{shown}");
    assert_eq!(row[4..], ["fd00:10::/64", r#"{"zone":"a"}"#], "{shown}");
    cluster.text(&["delete", "hpool", &name]);
}

/// What is accepted is also what the plugin understands.
#[test]
fn the_largest_pool_is_accepted() {
    let cluster = match Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let addresses: Vec<String> =
        (0..256).map(|n| format!("fd00:1:2:3::{n:x}00-fd00:1:2:3::{n:x}80")).collect();
    let subnet = |n: usize| json!({"subnet": format!("fd00:{n:x}:2:3::/64"), "addresses": addresses.iter().map(|a| a.replace("fd00:1:", &format!("fd00:{n:x}:"))).collect::<Vec<_>>()});
    let subnets: Vec<Value> = (1..=64).map(subnet).collect();
    let name = own_name("rules");
    apply(cluster, &name, &json!({"subnets": subnets}))
        .unwrap_or_else(|error| panic!("{}", &error[..error.len().min(2000)]));
    cluster.text(&["delete", "hpool", &name]);
}
