//! One run of `install`: what it writes, keeps and refuses; and `install --check`.

use super::node::{EXECUTABLE, Node, identity};
use crate::support::transcript::Transcript;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn executable_flat_file_and_kubeconfig_are_written_and_then_kept() {
    let node = Node::new();
    let first = node.run(&["install"]);
    assert_eq!(first.succeeded().stderr.lines().count(), 3, "{first:?}");
    let files = [
        "bin/hereabouts",
        "net.d/hereabouts.d/hereabouts.conf",
        "net.d/hereabouts.d/hereabouts.kubeconfig",
    ];
    assert_eq!(node.files(), files);
    assert_eq!(
        std::fs::read(node.path("bin/hereabouts")).unwrap(),
        std::fs::read(&*EXECUTABLE).unwrap()
    );
    assert_eq!([0o755, 0o644, 0o600], files.map(|file| mode(&node.path(file))));
    let flat: Value = serde_json::from_slice(&std::fs::read(node.flat()).unwrap()).unwrap();
    assert_eq!(
        flat,
        json!({
            "written_by": "hereabouts install",
            "node_name": "n1",
            "datastore": "kubernetes",
            "kubernetes": {"kubeconfig": node.kubeconfig()},
        })
    );

    let before = files.map(|file| identity(&node.path(file)));
    let again = node.run(&["install"]);
    assert_eq!(again.succeeded().stderr.trim(), "hereabouts is already installed");
    assert_eq!(files.map(|file| identity(&node.path(file))), before);

    // One byte more, one permission less: both are corrected.
    std::fs::write(node.path("bin/hereabouts"), "half").unwrap();
    std::fs::set_permissions(node.kubeconfig(), PermissionsExt::from_mode(0o644)).unwrap();
    let mended = node.run(&["install"]);
    assert_eq!(mended.succeeded().stderr.lines().count(), 2, "{mended:?}");
    assert_eq!([0o755, 0o644, 0o600], files.map(|file| mode(&node.path(file))));
}

#[test]
fn the_kubeconfig_names_the_api_server_as_the_host_reaches_it() {
    let node = Node::new();
    let mut call = node.call(&["install"]);
    for (host, port, url) in [
        ("10.96.0.1", "443", "https://10.96.0.1:443"),
        ("fd00::1", "6443", "https://[fd00::1]:6443"),
        ("api.example", "443", "https://api.example:443"),
    ] {
        call.set("KUBERNETES_SERVICE_HOST", host)
            .set("KUBERNETES_SERVICE_PORT", port)
            .run()
            .succeeded();
        let text = std::fs::read_to_string(node.kubeconfig()).unwrap();
        assert!(text.contains(&format!("server: \"{url}\"")), "{text}");
    }
    assert_eq!(node.token(), "first");
    call.args.push("--server=https://192.0.2.1:6443".to_owned());
    call.set("KUBECONFIG_MODE", "640").run().succeeded();
    assert!(
        std::fs::read_to_string(node.kubeconfig())
            .unwrap()
            .contains("server: \"https://192.0.2.1:6443\"")
    );
    assert_eq!(mode(&node.kubeconfig()), 0o640);
}

#[test]
fn the_name_whereabouts_is_taken_only_if_asked() {
    let node = Node::new();
    std::fs::write(node.path("bin/whereabouts"), "another plugin").unwrap();
    node.run(&["install"]).succeeded();
    assert_eq!(std::fs::read(node.path("bin/whereabouts")).unwrap(), b"another plugin");
    node.run(&["install", "--whereabouts"]).succeeded();
    assert_eq!(
        std::fs::read(node.path("bin/whereabouts")).unwrap(),
        std::fs::read(&*EXECUTABLE).unwrap()
    );
}

#[test]
fn a_person_may_install_for_files_or_with_a_kubeconfig_of_ones_own() {
    let node = Node::new();
    let store = node.sandbox.store();
    node.run(&[
        "install",
        "--data-dir",
        store.to_str().unwrap(),
        "--settings",
        r#"{"log_file":"/var/log/h.log"}"#,
    ])
    .succeeded();
    let flat: Value = serde_json::from_slice(&std::fs::read(node.flat()).unwrap()).unwrap();
    assert_eq!(
        (&flat["datastore"], &flat["data_dir"], &flat["log_file"]),
        (&json!("file"), &json!(store), &json!("/var/log/h.log"))
    );
    assert!(!node.kubeconfig().exists());

    let path = node.path("own.kubeconfig");
    let mut call = node.call(&["install", "--kubeconfig", path.to_str().unwrap()]);
    call.args.retain(|arg| !arg.starts_with("--token-file"));
    // Every pod of the node would be affected.
    let before = std::fs::read(node.flat()).unwrap();
    for (content, words) in [(None, "it is missing"), (Some("{}"), "current-context")] {
        content.iter().for_each(|content| std::fs::write(&path, content).unwrap());
        let ended = call.run();
        assert!(ended.status == Some(1) && ended.stderr.contains(words), "{ended:?}");
        assert_eq!(std::fs::read(node.flat()).unwrap(), before);
    }
    let kubeconfig = json!({"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://192.0.2.1", "insecure-skip-tls-verify": true}}],
        "users": [{"name": "u", "user": {"token": "t"}}]});
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    call.run().succeeded();
    let flat: Value = serde_json::from_slice(&std::fs::read(node.flat()).unwrap()).unwrap();
    assert_eq!(flat["kubernetes"]["kubeconfig"], path.to_str().unwrap());
    assert!(!node.kubeconfig().exists());
}

/// Returns a token that is bound to a Node. Only its claims can be read.
fn token_of(name: &str) -> String {
    let claims = json!({"sub": "system:serviceaccount:kube-system:hereabouts", "kubernetes.io": {"node": {"name": name, "uid": "u"}}});
    let claims = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        claims.to_string(),
    );
    format!("e30.{claims}.c2ln")
}

/// The name of the host may differ from that of the Node object. The token must not change records
/// under the host's name.
#[test]
fn without_a_name_it_is_the_node_of_the_token_and_never_the_hosts() {
    let node = Node::new();
    let name_of = || {
        serde_json::from_slice::<Value>(&std::fs::read(node.flat()).unwrap()).unwrap()["node_name"]
            .clone()
    };
    let mut call = node.call(&["install"]);
    call.unset("NODENAME");
    let refused = call.run();
    assert_eq!(refused.status, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("--node-name") && refused.stderr.contains("Node object"),
        "{refused:?}"
    );
    assert_eq!(node.files(), Vec::<String>::new(), "nothing was written");
    let bound = node.sandbox.write("bound", &token_of("worker-1.example"));
    call.args.retain(|arg| !arg.starts_with("--token-file"));
    call.args.push(format!("--token-file={}", bound.display()));
    call.run().succeeded();
    assert_eq!(name_of(), "worker-1.example");
    // The same for a kubeconfig that a person maintains.
    let text = std::fs::read_to_string(node.kubeconfig()).unwrap();
    let text: String = text
        .lines()
        .filter(|line| !line.contains("certificate-authority"))
        .map(|line| format!("{line}\n"))
        .collect();
    let given = node
        .sandbox
        .write("given", &text.replace(&token_of("worker-1.example"), &token_of("worker-2")));
    call.args.retain(|arg| !arg.starts_with("--token-file"));
    call.args.extend([
        "--force".to_owned(),
        "--kubeconfig".to_owned(),
        given.display().to_string(),
    ]);
    call.unset("KUBE_CA_FILE").run().succeeded();
    assert_eq!(name_of(), "worker-2");
    std::fs::write(&given, text.replace(&token_of("worker-1.example"), "none")).unwrap();
    assert_eq!(call.run().status, Some(2));
    call.args.extend(["--node-name", "worker-3"].map(str::to_owned));
    call.run().succeeded();
    assert_eq!(name_of(), "worker-3");
}

/// A file store on one machine takes the host's name, as the plugin does.
#[test]
fn for_a_store_of_files_the_hosts_name_does() {
    let node = Node::new();
    let store = node.sandbox.store();
    let mut call = node.call(&["install", "--data-dir", store.to_str().unwrap()]);
    call.unset("NODENAME").run().succeeded();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&std::fs::read(node.flat()).unwrap()).unwrap()["node_name"],
        *host
    );
}

#[test]
fn a_mistake_is_refused_before_anything_is_written() {
    let node = Node::new();
    let call = node.call(&["install"]);
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);
    let cases: &[Case<'_>] = &[
        (&["--settings", "[]"], &[]),
        (&["--settings", r#"{"log_fil":"/x"}"#], &[]),
        (&["--settings", r#"{"log_level":"loud"}"#], &[]),
        (&["--settings", r#"{"node_name":"n1"}"#], &[]),
        (&["--settings", r#"{"kubernetes":{"kubeconfig":"/x"}}"#], &[]),
        (&["--settings", r#"{"datastore":"etcd"}"#], &[]),
        (&["--server", "http://10.0.0.1"], &[]),
        (&["--node-name", "localhost"], &[]),
        (&["--node-name", "a b"], &[]),
        (&["--config", "/etc/x"], &[]),
        (&["--kubeconfig", "/etc/x"], &[]),
        (&["--bin-dir", "/nonexistent/bin"], &[]),
        (&[], &[("KUBERNETES_SERVICE_HOST", "")]),
        (&[], &[("KUBERNETES_SERVICE_HOST", "a\"b")]),
        (&[], &[("KUBERNETES_SERVICE_PORT", "tcp://10.96.0.1:443")]),
        (&[], &[("SKIP_TLS_VERIFY", "true")]),
        (&[], &[("KUBECONFIG_MODE", "rw")]),
    ];
    let mut seen = Transcript::new(&node.sandbox);
    seen.replace("hereabouts-stripped", "hereabouts");
    for (args, environment) in cases {
        let mut call = call.clone();
        call.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        for (name, value) in *environment {
            call.set(name, *value);
            seen.note(&format!("{name} is {value:?}"));
        }
        let ended = call.run();
        assert_eq!(ended.status, Some(2), "{args:?} {environment:?}: {ended:?}");
        seen.keep(&[&["install"], *args].concat(), &ended);
    }
    let mut missing = call.clone();
    missing.args.push("--ca-file=/nowhere/ca.crt".to_owned());
    let ended = missing.run();
    assert_eq!(ended.status, Some(1), "{ended:?}");
    seen.keep(&["install", "--ca-file=/nowhere/ca.crt"], &ended);
    for (name, content) in [("token", ""), ("token", "two\nlines"), ("ca.crt", "x")] {
        let path = node.path("pod/first").join(name);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        let ended = call.run();
        assert_eq!(ended.status, Some(1), "{name}: {ended:?}");
        seen.note(&format!("{name} has {content:?}"));
        seen.keep(&["install"], &ended);
        std::fs::write(&path, good).unwrap();
    }
    seen.assert("install-mistakes");
    assert!(node.files().is_empty(), "{:?}", node.files());
}

#[test]
fn files_of_somebody_elses_are_not_written_over() {
    let node = Node::new();
    std::fs::create_dir_all(node.flat().parent().unwrap()).unwrap();
    let by_hand = r#"{"datastore":"file","data_dir":"/mnt/shared"}"#;
    for path in [node.flat(), node.kubeconfig()] {
        std::fs::write(&path, by_hand).unwrap();
        let ended = node.run(&["install"]);
        assert!(
            ended.status == Some(1) && ended.stderr.contains("not written by hereabouts install"),
            "{ended:?}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), by_hand);
        assert!(
            !node.path("bin/hereabouts").exists(),
            "pods would meet a plugin that is not settled"
        );
        std::fs::remove_file(path).unwrap();
    }
    node.run(&["install"]).succeeded();
}

#[test]
fn what_a_killed_install_left_beside_is_removed() {
    let node = Node::new();
    node.run(&["install"]).succeeded();
    let left = ["bin/.hereabouts-new-0123", "net.d/hereabouts.d/.hereabouts-new-4567"]
        .map(|left| node.path(left));
    left.iter().for_each(|left| std::fs::write(left, "half").unwrap());
    node.run(&["install"]).succeeded();
    assert!(left.iter().all(|left| !left.exists()));
    assert_eq!(node.files().len(), 3, "{:?}", node.files());
}

#[test]
fn check_looks_at_the_files_and_asks_the_plugin_where_it_will_be_called() {
    let node = Node::new();
    let store = node.sandbox.store();
    let (here, check) = (store.to_str().unwrap(), ["install", "--check", "--data-dir"]);
    let checked = |extra: &[&str]| node.run(&[&check, [here].as_slice(), extra].concat());
    let ended = checked(&["--offline"]);
    assert!(ended.status == Some(1) && ended.stderr.contains("not installed: "), "{ended:?}");
    node.install_for_files();
    assert_eq!(
        checked(&[]).succeeded().stderr.trim(),
        "hereabouts is installed on n1 and reaches its store"
    );

    // The store cannot be created: the files are correct, and the plugin is not ready.
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::write(&store, "no directory").unwrap();
    assert_eq!(checked(&["--offline"]).succeeded().stderr.trim(), "hereabouts is installed on n1");
    let ended = checked(&[]);
    assert!(
        ended.status == Some(1) && ended.stderr.contains("the plugin is not ready, code 50: "),
        "{ended:?}"
    );

    std::fs::write(node.flat(), "{}").unwrap();
    let ended = checked(&["--offline"]);
    assert!(
        ended.status == Some(1) && ended.stderr.contains("differs from what install would write"),
        "{ended:?}"
    );
    std::fs::remove_file(node.flat()).unwrap();
    std::fs::remove_file(&store).unwrap();
    node.install_for_files();
    std::fs::set_permissions(node.path("bin/hereabouts"), PermissionsExt::from_mode(0o644))
        .unwrap();
    let ended = checked(&["--offline"]);
    assert!(ended.status == Some(1) && ended.stderr.contains("not executable"), "{ended:?}");
}

#[test]
fn a_person_who_only_asks_need_not_say_what_was_installed() {
    let node = Node::new();
    let check = |args: &[&str]| {
        let mut call = node.call(args);
        call.args.retain(|arg| !arg.starts_with("--token-file"));
        call.set("KUBERNETES_SERVICE_HOST", "").set("NODENAME", "another").run()
    };
    let ended = check(&["install", "--check"]);
    assert!(ended.status == Some(1) && ended.stderr.contains("not installed: "), "{ended:?}");
    node.install_for_files();
    assert_eq!(
        check(&["install", "--check"]).succeeded().stderr.trim(),
        "hereabouts is installed on n1 and reaches its store"
    );
    let ended = check(&["install", "--check", "--settings", "{}"]);
    assert!(ended.status == Some(2) && ended.stderr.contains("--server"), "{ended:?}");
    std::fs::write(node.flat(), "{").unwrap();
    let ended = check(&["install", "--check", "--offline"]);
    assert!(ended.status == Some(1) && ended.stderr.contains("not JSON: "), "{ended:?}");
}

/// Cause: a caller that ignores SIGCHLD passes this on, and the kernel then does not report how a
/// child ended. Effect: `install --check` could not ask the plugin. Fix: SIGCHLD is reset.
#[test]
fn a_caller_that_ignores_the_end_of_its_children_learns_the_plugins_answer() {
    let node = Node::new();
    let store = node.sandbox.store();
    node.run(&["install", "--data-dir", store.to_str().unwrap()]).succeeded();
    let mut check = node.call(&["install", "--check", "--data-dir", store.to_str().unwrap()]);
    check.through(&["env", "--ignore-signal=CHLD"]).run().succeeded();
}
