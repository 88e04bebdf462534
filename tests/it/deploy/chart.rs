//! The Helm chart: it is linted, and rendered with its defaults it equals deploy/node, object by
//! object, so that neither changes without the other.

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

/// Returns a tool, which is built if that was not done yet, or the reason why it cannot be run.
pub(crate) fn tool(set: &str, name: &str) -> Result<Command, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Command::new(root.join("scripts/tools"))
        .arg(set)
        .output()
        .map_err(|error| error.to_string())?;
    let path = root.join("target/tools/bin").join(name);
    if built.status.success() && path.exists() {
        let mut command = Command::new(path);
        command.current_dir(root);
        Ok(command)
    } else {
        Err(String::from_utf8_lossy(&built.stderr).trim().replace('\n', "; "))
    }
}

fn helm(args: &[&str]) -> Result<Output, String> {
    Ok(tool("helm", "helm")?.args(args).output().unwrap())
}

/// Returns the objects of a stream of YAML documents, by kind and name.
fn objects(yaml: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(yaml.to_vec()).unwrap();
    let mut objects: Vec<Value> = serde_saphyr::from_multiple::<Value>(&text).unwrap();
    objects.retain(|object| !object.is_null());
    objects
        .sort_by_key(|object| (object["kind"].to_string(), object["metadata"]["name"].to_string()));
    objects
}

/// Returns what a kustomization of deploy/ builds.
pub(crate) fn kustomized(name: &str) -> Result<Vec<Value>, String> {
    let output = tool("kubernetes", "kubectl")?
        .args(["kustomize", &format!("deploy/{name}")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(objects(&output.stdout))
}

/// Returns what the chart renders with these arguments.
pub(crate) fn rendered(args: &[&str]) -> Result<Vec<Value>, String> {
    let output = helm(
        &[&["template", "any-release", "deploy/chart", "--namespace", "kube-system"], args]
            .concat(),
    )?;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(objects(&output.stdout))
}

fn daemon_set(objects: &[Value]) -> &Value {
    objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap()
}

/// Returns the command line of the container.
fn command(objects: &[Value]) -> Vec<&str> {
    daemon_set(objects)["spec"]["template"]["spec"]["containers"][0]["command"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect()
}

fn compare(kustomization: &str, args: &[&str]) {
    match (kustomized(kustomization), rendered(args)) {
        (Ok(kustomized), Ok(rendered)) => {
            assert!(3 < kustomized.len(), "{kustomized:?}");
            assert_eq!(kustomized, rendered);
        }
        (Err(reason), _) | (_, Err(reason)) => skipped!("{reason}"),
    }
}

#[test]
fn the_chart_renders_what_kustomize_builds() {
    compare("node", &[]);
}

#[test]
fn so_it_does_for_a_move() {
    let both = [kustomized("node"), kustomized("moving")];
    match (both.into_iter().collect::<Result<Vec<_>, _>>(), rendered(&["--set", "moving=true"])) {
        (Ok(kustomized), Ok(rendered)) => {
            let mut kustomized = kustomized.concat();
            kustomized.sort_by_key(|object| {
                (object["kind"].to_string(), object["metadata"]["name"].to_string())
            });
            assert_eq!(kustomized, rendered);
        }
        (Err(reason), _) | (_, Err(reason)) => skipped!("{reason}"),
    }
}

#[test]
fn so_it_does_to_uninstall() {
    compare("uninstall", &["--set", "uninstall=true"]);
}

#[test]
fn the_chart_is_without_reproach() {
    match helm(&["lint", "--strict", "deploy/chart"]) {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout))
        }
        Err(reason) => skipped!("{reason}"),
    }
}

#[test]
fn values_reach_what_they_are_for() {
    let values = [
        "name=ipam",
        "image.repository=registry.example/net/hereabouts",
        "image.tag=v9",
        "paths.bin=/var/lib/rancher/k3s/data/cni",
        "paths.conf=/etc/kubernetes/cni/net.d",
        "whereabouts=true",
        "settings.log_file=/var/log/h.log",
        "settings.allowed_paths[0]=/mnt",
        "server=https://192.0.2.1:6443",
        "sweepEvery=10m",
        "tolerations[0].key=only",
    ];
    let args: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
    let objects = match rendered(&args) {
        Ok(objects) => objects,
        Err(reason) => return skipped!("{reason}"),
    };
    let names = [
        "ipam",
        "ipam-controller",
        "ipam-controller-nodes",
        "ipam-controller-slices",
        "ipam-moves",
    ];
    let names = names.map(|name| json!(name));
    assert!(
        objects.iter().all(|object| names.contains(&object["metadata"]["name"])),
        "{objects:?}"
    );
    let pod = &daemon_set(&objects)["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry.example/net/hereabouts:v9");
    assert_eq!(
        command(&objects),
        [
            "hereabouts",
            "install",
            "--watch",
            "--whereabouts",
            r#"--settings={"allowed_paths":["/mnt"],"log_file":"/var/log/h.log"}"#,
            "--sweep-every=10m",
            "--server=https://192.0.2.1:6443",
        ]
    );
    assert_eq!(pod["tolerations"], json!([{"key": "only"}]));
    for (name, path) in
        [("bin", "/var/lib/rancher/k3s/data/cni"), ("conf", "/etc/kubernetes/cni/net.d")]
    {
        let of = |list: &Value| {
            list.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap().clone()
        };
        assert_eq!(of(&container["volumeMounts"])["mountPath"], path);
        assert_eq!(of(&pod["volumes"])["hostPath"]["path"], path);
    }
    // The command accepts what the chart passes to it.
    let mut words = command(&objects);
    words[2] = "--check";
    words.push("--offline");
    let check = crate::install::node::Node::new().run(&words[1..]);
    assert!(check.status == Some(1) && check.stderr.contains("not installed: "), "{check:?}");
}

#[test]
fn a_mistyped_value_is_refused() {
    for value in
        ["imgae.tag=1", "sweepEvery=often", "paths.bin=opt", "server=http://x", "whereabouts=maybe"]
    {
        match helm(&["template", "x", "deploy/chart", "--set", value]) {
            Ok(output) => {
                assert!(
                    !output.status.success()
                        && String::from_utf8_lossy(&output.stderr).contains("schema"),
                    "{value}: {output:?}"
                )
            }
            Err(reason) => return skipped!("{reason}"),
        }
    }
}

#[test]
fn versions_are_the_packages() {
    let chart = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/chart/Chart.yaml"),
    )
    .unwrap();
    let kustomization = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/node/kustomization.yaml"),
    )
    .unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(chart.contains(&format!("\nversion: {version}\nappVersion: {version}\n")), "{chart}");
    assert!(kustomization.contains(&format!("newTag: {version}\n")), "{kustomization}");
}
