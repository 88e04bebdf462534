//! Every file of conf-examples: it is checked, and works as Multus passes it on, alone and in a
//! list of plugins.

use crate::support::sandbox::{Call, Ended, Sandbox};
use hereabouts::config::plugin_configurations;
use hereabouts::json::Json;
use std::path::{Path, PathBuf};

const POD: &str = "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=;K8S_POD_UID=u1";

/// The addresses of the first pod for each example.
const FIRST: &[(&str, &[&str])] = &[
    ("macvlan-conf.yaml", &["192.168.20.10"]),
    ("ipvlan-conf.yaml", &["192.168.21.2"]),
    ("dual-stack.yaml", &["192.168.22.2", "fd00:22::10"]),
    ("ip-families.yaml", &["fd00:29::10", "192.168.29.2"]),
    ("several-ranges.yaml", &["192.168.23.10", "10.23.1.0"]),
    ("static-address.yaml", &["192.168.24.5"]),
    ("requested-address.yaml", &["192.168.25.2"]),
    ("reservations.yaml", &["192.168.26.20"]),
    ("shared-data-dir.yaml", &["192.168.26.2"]),
    ("probe.yaml", &["192.168.28.2"]),
    ("pool-network.yaml", &["192.168.29.10"]),
    ("cnitool.conflist", &["192.168.27.2"]),
];

/// The examples that need the Kubernetes store. `ipam_claims::asking` and `slices::example` have the
/// tests.
const KUBERNETES: &[&str] = &["persistent-addresses.yaml", "sliced-network.yaml"];

/// The pool that `pool-network.yaml` names.
const POOL: &str = "example-pool.yaml";
/// The pools that `sliced-network.yaml` names.
const SLICED_POOL: &str = "sliced-pool.yaml";

fn names() -> impl Iterator<Item = &'static str> {
    FIRST.iter().map(|(name, _)| *name).chain(KUBERNETES.iter().copied())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf-examples")
}

fn text(json: &Json) -> String {
    match json {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(value) => value.to_string(),
        Json::String(value) => serde_json::to_string(value).unwrap(),
        Json::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(",")),
        Json::Object(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| {
                    format!("{}:{}", serde_json::to_string(key).unwrap(), text(value))
                })
                .collect();
            format!("{{{}}}", entries.join(","))
        }
    }
}

/// Returns the plugin configuration of an example.
pub(crate) fn configuration(name: &str) -> String {
    let bytes = std::fs::read(folder().join(name)).unwrap();
    let found = plugin_configurations(&bytes).unwrap();
    assert_eq!(found.len(), 1, "{name}");
    text(&found[0])
}

/// Returns the plugin configuration of an example, with a store that a test may use.
fn example(name: &str, sandbox: &Sandbox) -> String {
    configuration(name).replace("/mnt/shared/hereabouts", sandbox.store().to_str().unwrap())
}

fn add(sandbox: &Sandbox, configuration: &str) -> Ended {
    let flat = serde_json::json!({"datastore": "file", "data_dir": sandbox.store(), "node_name": "n1", "allowed_paths": [sandbox.root]});
    sandbox.write("flat.conf", &flat.to_string());
    std::fs::create_dir_all(sandbox.path("pools")).unwrap();
    std::fs::copy(folder().join(POOL), sandbox.path("pools").join(POOL)).unwrap();
    let mut call = sandbox.call("ADD");
    call.set("CNI_ARGS", POD).stdin(configuration);
    if configuration.contains("\"probe\"") {
        // A node of its own, with the interface to probe from.
        let script =
            r#"ip link add eth1 type veth peer name x && ip link set eth1 up && exec "$@""#;
        call.through(&["unshare", "--net", "sh", "-c", script, "sh"]);
    }
    call.run()
}

fn given(ended: &Ended) -> Vec<String> {
    let document = ended.succeeded().document();
    document["ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_example_is_in_the_list() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.retain(|name| !["hereabouts.conf", POOL, SLICED_POOL].contains(&name.as_str()));
    files.sort();
    let mut listed: Vec<String> = names().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(files, listed);
}

#[test]
fn every_example_is_free_of_mistakes() {
    for name in names() {
        let files = [&[name][..], if name == "sliced-network.yaml" { &[SLICED_POOL] } else { &[] }];
        let ended = check(&files.concat());
        assert_eq!(ended.status, Some(0), "{name}: {ended:?}");
    }
}

fn check(names: &[&str]) -> Ended {
    let mut call = Call::bare();
    call.set("HEREABOUTS_CONFIG", folder().join("hereabouts.conf"));
    let files = names.iter().map(|name| folder().join(name).to_str().unwrap().to_owned());
    call.args = ["config", "check"].map(str::to_owned).into_iter().chain(files).collect();
    call.run()
}

#[test]
fn the_example_of_a_pool_serves_its_network() {
    for files in [["pool-network.yaml", POOL], [POOL, "pool-network.yaml"]] {
        let text = check(&files).succeeded().stdout.clone();
        let pool = text.lines().find(|line| line.starts_with("pool example-pool (")).unwrap();
        assert!(pool.ends_with("/example-pool.yaml)"), "{pool}");
        assert!(text.contains("  pool: example-pool ("), "{text}");
        assert!(!text.contains("was not checked"), "{text}");
    }
}

#[test]
fn every_example_gives_the_addresses_it_promises() {
    for (name, addresses) in FIRST {
        if *name == "probe.yaml" && !nix::unistd::geteuid().is_root() {
            skipped!("probe.yaml needs root, for a network namespace");
            continue;
        }
        let sandbox = Sandbox::new();
        assert_eq!(given(&add(&sandbox, &example(name, &sandbox))), *addresses, "{name}");
    }
}

#[test]
fn a_requested_address_comes_by_runtime_config() {
    let sandbox = Sandbox::new();
    let configuration = example("requested-address.yaml", &sandbox);
    let wanted = "192.168.25.77";
    let configuration =
        configuration.replacen('{', &format!(r#"{{"runtimeConfig":{{"ips":["{wanted}"]}},"#), 1);
    assert_eq!(given(&add(&sandbox, &configuration)), [wanted]);
}

#[test]
fn a_list_of_plugins_works_as_the_single_plugin_does() {
    let nad = std::fs::read_to_string(folder().join("macvlan-conf.yaml")).unwrap();
    let single = plugin_configurations(nad.as_bytes()).unwrap().remove(0);
    let list = format!(
        r#"{{"cniVersion":"1.0.0","name":"macvlan-conf","plugins":[{},{{"type":"tuning"}}]}}"#,
        text(&single)
    );
    let found = plugin_configurations(list.as_bytes()).unwrap();
    let sandbox = Sandbox::new();
    assert_eq!(given(&add(&sandbox, &text(&found[0]))), ["192.168.20.10"]);
}

#[test]
fn the_flat_file_example_is_one() {
    let sandbox = Sandbox::new();
    let flat = std::fs::read_to_string(folder().join("hereabouts.conf")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&flat).unwrap();
    assert!(json["data_dir"].is_string() && json["node_name"].is_string());
    let mut call = Call::bare();
    call.set("HEREABOUTS_CONFIG", sandbox.write("example.conf", &flat));
    call.args = vec!["list".to_owned()];
    // It is read, and its store is not on this machine.
    let ended = call.run();
    let expected = format!(
        "wrong store at /mnt/shared/hereabouts: expected {}",
        json["store_id"].as_str().unwrap()
    );
    assert!(ended.status == Some(1) && ended.stderr.contains(&expected), "{ended:?}");
}
