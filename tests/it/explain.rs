//! `explain`: what an ADD would answer, and why. It agrees with the ADD that follows, and changes
//! nothing.

use crate::support::sandbox::{Ended, Sandbox, configuration};
#[cfg(feature = "kube")]
use crate::support::transcript::{Transcript, sandbox as transcript_sandbox};
use serde_json::Value;

/// Writes a pool beside the flat file.
fn pool(sandbox: &Sandbox, name: &str, spec: &str) {
    std::fs::create_dir_all(sandbox.path("pools")).unwrap();
    let text = format!(
        "apiVersion: hereabouts.dev/v1alpha1\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    );
    sandbox.write(&format!("pools/{name}.yaml"), &text);
}

/// An ADD of a pod (`namespace/name`), and the same ADD explained before it.
fn add(sandbox: &Sandbox, container: &str, pod: &str, ipam: &str) -> (Ended, Ended) {
    let file = sandbox.write("net.json", &configuration(ipam));
    let before = files(sandbox);
    let explained = sandbox.command(&[
        "explain",
        "--network",
        file.to_str().unwrap(),
        "--pod",
        pod,
        "-o",
        "json",
    ]);
    assert_eq!(files(sandbox), before, "it changes nothing");
    let (namespace, name) = pod.split_once('/').unwrap();
    let mut call = sandbox.call("ADD");
    call.set("CNI_CONTAINERID", container);
    call.set(
        "CNI_ARGS",
        format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"),
    );
    (explained, call.stdin(configuration(ipam)).run())
}

/// Returns the names and contents of all files below a sandbox.
fn files(sandbox: &Sandbox) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    fn walk(directory: &std::path::Path, found: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => {
                    found.push((path.clone(), Vec::new()));
                    walk(&path, found);
                }
                false => found.push((path.clone(), std::fs::read(&path).unwrap())),
            }
        }
    }
    let mut found = Vec::new();
    walk(&sandbox.root, &mut found);
    found.sort();
    found
}

/// Compares the explanation with the answer of the ADD.
fn agree(sandbox: &Sandbox, container: &str, pod: &str, ipam: &str) {
    let (explained, added) = add(sandbox, container, pod, ipam);
    let all: Value = serde_json::from_str(&explained.stdout).unwrap();
    if added.status == Some(0) {
        assert_eq!(explained.status, Some(0), "{explained:?}");
        let addresses: Vec<&str> = all[0]["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| address["address"].as_str().unwrap())
            .collect();
        assert_eq!(addresses, added.addresses(), "{pod} {ipam}");
    } else {
        assert_eq!(explained.status, Some(1), "{explained:?}");
        let message = all[0]["error"]["message"].as_str().unwrap();
        assert!(added.details().contains(message), "{message}: {}", added.details());
        assert!(explained.stderr.contains(&format!("error: {message}")), "{explained:?}");
    }
}

#[test]
fn it_agrees_with_the_add_that_follows() {
    let sandbox = Sandbox::new();
    crate::support::sandbox::make_store(&sandbox.store());
    let v4 = r#""range":"10.1.2.0/29","gateway":"10.1.2.1","exclude":["10.1.2.3/32"],"reservations":{"default/db-0":"10.1.2.6"}"#;
    for (container, pod) in
        [("c1", "default/a"), ("c2", "default/db-0"), ("c3", "default/b"), ("c4", "default/c")]
    {
        agree(&sandbox, container, pod, v4);
    }
    // The address of the sandbox that has ended is freed for the next pod.
    let two = r#""ipRanges":[{"range":"10.2.0.0/30"},{"range":"fd00::/120"}],"addresses":[{"address":"10.9.9.9/24"}]"#;
    for (container, pod) in [("d1", "default/x"), ("d2", "default/y"), ("d3", "default/z")] {
        agree(&sandbox, container, pod, two);
    }
    let sticky = r#""range":"10.3.0.0/29","sticky":"statefulSet""#;
    agree(&sandbox, "e1", "default/other", sticky);
    agree(&sandbox, "e2", "default/web-0", sticky);
    sandbox.del("e1", sticky).succeeded();
    sandbox.del("e2", sticky).succeeded();
    sandbox.forget_freed();
    agree(&sandbox, "e3", "default/web-0", sticky);
    agree(&sandbox, "f1", "default/x", r#""range":"10.0.0.0/33""#);
    agree(&sandbox, "f2", "default/x", r#""pool":"none""#);
    pool(&sandbox, "a", "{namespaces: [db], subnets: [{subnet: 10.4.0.0/24}]}");
    pool(&sandbox, "b", "{subnets: [{subnet: 10.5.0.0/31, addresses: [10.5.0.1]}]}");
    pool(&sandbox, "c", "{subnets: [{subnet: 10.6.0.0/24}]}");
    let pools = r#""pools":["a","b","c"]"#;
    for (container, pod) in [("g1", "web/x"), ("g2", "web/y"), ("g3", "db/z"), ("g4", "web/z")] {
        agree(&sandbox, container, pod, pools);
    }
    agree(&sandbox, "g5", "web/x", r#""pool":"a""#);
}

#[cfg(feature = "kube")]
#[test]
fn explain_prints_this() {
    let sandbox = transcript_sandbox();
    crate::support::sandbox::make_store(&sandbox.store());
    let mut seen = Transcript::new(&sandbox);
    let ipam = r#""range":"10.1.2.0/29","gateway":"10.1.2.1","exclude":["10.1.2.3/32"],"reservations":{"default/db-0":"10.1.2.6"},"routes":[{"dst":"0.0.0.0/0"}]"#;
    let file = sandbox.write("net.json", &configuration(ipam)).to_str().unwrap().to_owned();
    let explain = |seen: &mut Transcript, more: &[&str]| {
        seen.run(&sandbox, &[&["explain", "--network", &file], more].concat());
    };
    explain(&mut seen, &[]);
    explain(&mut seen, &["--pod", "default/db-0"]);
    explain(&mut seen, &["--ip", "10.1.2.5"]);
    explain(&mut seen, &["--ip", "10.1.2.6", "--pod", "default/x"]);
    explain(&mut seen, &["--pod", "default/x", "-o", "json"]);
    explain(&mut seen, &["--pod", "x"]);
    pool(&sandbox, "a", "{namespaces: [db], subnets: [{subnet: 10.4.0.0/24}]}");
    pool(
        &sandbox,
        "b",
        "{nodeSelector: {matchLabels: {zone: b}}, subnets: [{subnet: 10.5.0.0/24}]}",
    );
    pool(
        &sandbox,
        "c",
        "{subnets: [{subnet: 10.6.0.0/24, gateway: 10.6.0.1, addresses: [10.6.0.9-10.6.0.20], exclude: [10.6.0.9]}]}",
    );
    seen.note("pools");
    sandbox.write("net.json", &configuration(r#""pools":["a","b","c"]"#));
    explain(&mut seen, &["--pod", "web/x"]);
    explain(&mut seen, &["--pod", "web/x", "--node", "n2", "--node-labels", "zone=b,rack=7"]);
    sandbox.write("net.json", &configuration(r#""pools":["a","b"]"#));
    explain(&mut seen, &["--pod", "web/x"]);
    seen.assert("explain");
}

/// On the Kubernetes store, the ADD finds the same address if its node takes the lowest one.
#[cfg(feature = "kube")]
#[test]
fn it_agrees_with_the_add_on_the_api_server() {
    let cluster = match crate::support::cluster::Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let sandbox = Sandbox::on(cluster);
    let ipam = r#""range":"10.1.2.0/29","gateway":"10.1.2.1""#;
    for (container, address) in [("c1", "10.1.2.2"), ("c2", "10.1.2.3")] {
        let file = sandbox.write("net.json", &configuration(ipam));
        let explained =
            sandbox.command(&["explain", "--network", file.to_str().unwrap(), "-o", "json"]);
        let all: Value = serde_json::from_str(&explained.succeeded().stdout).unwrap();
        assert_eq!(all[0]["addresses"][0]["address"], address, "{explained:?}");
        assert_eq!(sandbox.add(container, ipam).addresses(), [address]);
    }
}
