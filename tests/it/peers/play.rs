//! Makes the calls of a configuration, with a real peer or with hereabouts, and reduces each answer
//! to one line. Each configuration has an empty store, and sees an /etc and a /var/lib/cni of its
//! own.

use super::corpus::{Case, Peer, SandboxCall};
use crate::support::sandbox::{Call, Ended, HEREABOUTS, make_store};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Longer than any call takes. Whereabouts waits up to two minutes for its lease.
const SECONDS: &str = "60";

/// Where the cases are played.
pub(super) struct Node {
    root: PathBuf,
    tools: PathBuf,
    kubeconfig: Option<String>,
}

impl Node {
    pub(super) fn new(tools: &Path, kubeconfig: Option<&Path>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hereabouts-test-peers-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        for directory in [&root, Path::new("/var/lib/cni")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let kubeconfig = kubeconfig.map(|path| std::fs::read_to_string(path).unwrap());
        Self { root, tools: tools.to_owned(), kubeconfig }
    }

    /// Returns the answers of the peer and of hereabouts, one of each for each call. `number` is
    /// different for each case.
    pub(super) fn play(&self, number: usize, case: &Case) -> Vec<[Answer; 2]> {
        let root = self.root.join(number.to_string());
        self.write_etc(&root.join("etc"), case, &namespace(number));
        for plugin in [case.peer.name(), "hereabouts"] {
            std::fs::create_dir(root.join(plugin)).unwrap();
        }
        make_store(&root.join("hereabouts/store"));
        let peer = self.tools.join(case.peer.name());
        let play = |call: &SandboxCall| {
            let theirs = started(case, call, &root, case.peer.name()).by(&peer).run();
            let ours = started(case, call, &root, "hereabouts").by(Path::new(HEREABOUTS)).run();
            [Answer::of(&theirs), Answer::of(&ours)]
        };
        case.calls.iter().map(play).collect()
    }

    /// Writes what the plugins find in /etc: the flat file of each, and what belongs to a machine.
    fn write_etc(&self, etc: &Path, case: &Case, namespace: &str) {
        let write = |name: &str, text: &str| {
            let path = etc.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let flat = |keys: &str| match &*case.flat {
            "" => format!("{{{keys}}}"),
            more => format!("{{{keys},{more}}}"),
        };
        write("hosts", "127.0.0.1 localhost\n");
        write("hostname", "n1\n");
        write("machine-id", "0123456789abcdef0123456789abcdef\n");
        write("resolv.conf", "nameserver 10.9.9.9\nsearch example.org\n");
        write(
            "cni/net.d/hereabouts.d/hereabouts.conf",
            &flat(
                r#""datastore":"file","data_dir":"/var/lib/cni/store","node_name":"n1","debts_dir":"/var/lib/cni/debts""#,
            ),
        );
        if let Some(kubeconfig) = &self.kubeconfig {
            // Whereabouts keeps its pools in the namespace of the kubeconfig's context.
            let context = format!("context: {{namespace: {namespace}, ");
            write(
                "cni/net.d/whereabouts.d/whereabouts.kubeconfig",
                &kubeconfig.replace("context: {", &context),
            );
            // With its usual durations (about a second), a call on a busy machine loses its Lease.
            let lease = r#""leader_lease_duration":15000,"leader_renew_deadline":10000"#;
            let store = r#""datastore":"kubernetes","kubernetes":{"kubeconfig":"/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig"}"#;
            write("cni/net.d/whereabouts.d/whereabouts.conf", &flat(&format!("{store},{lease}")));
        }
    }
}

/// Returns a call of a plugin, which sees the case's own /etc and /var/lib/cni.
fn started(case: &Case, call: &SandboxCall, root: &Path, plugin: &str) -> Call {
    let script = r#"mount --bind "$0/etc" /etc && mount --bind "$0/$1" /var/lib/cni && cd /var/lib/cni && shift && exec "$@""#;
    let ipam_type = if plugin == "hereabouts" { &case.ours } else { plugin };
    let pod = &call.pod;
    let mut args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-{pod};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID=uid-{pod}",
        call.container
    );
    if !case.args.is_empty() {
        args = format!("{args};{}", case.args);
    }
    if let Some(all) = &case.all_args {
        args.clone_from(all);
    }
    let mut started = Call::bare();
    started
        .set("CNI_COMMAND", call.verb)
        .set("CNI_CONTAINERID", &*call.container)
        .set("CNI_NETNS", "/var/run/netns/x")
        .set("CNI_IFNAME", &*call.interface)
        .set("CNI_PATH", "/opt/cni/bin")
        .set("CNI_ARGS", args)
        .stdin(case.document.replace("PEER", ipam_type))
        .through(&["timeout", SECONDS, "unshare", "--mount"]);
    if plugin != Peer::Whereabouts.name() {
        // Without the addresses of this machine. Only Whereabouts needs the API server.
        started.through(&["--net"]);
    }
    started.through(&["sh", "-c", script, root.to_str().unwrap(), plugin]);
    started
}

/// Returns the namespace that contains the pools of one case: no case sees those of another one.
pub(super) fn namespace(number: usize) -> String {
    format!("peers-{number}")
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// What is compared and shown.
    pub(super) line: String,
    /// The error's text, which is not compared.
    pub(super) reason: String,
}

impl Answer {
    fn of(ended: &Ended) -> Self {
        let document: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        match ended.status {
            Some(0) if ended.stdout.trim().is_empty() => Self::success("done".to_owned()),
            Some(0) if document.is_object() => Self::success(shown(&document)),
            Some(1) if document["code"].is_number() => Self {
                line: "refused".to_owned(),
                reason: format!("{} {} {}", document["code"], document["msg"], document["details"]),
            },
            _ => Self { line: "no answer".to_owned(), reason: format!("{ended:?}") },
        }
    }

    fn success(line: String) -> Self {
        Self { line, reason: String::new() }
    }
}

/// Returns a result as one line: `10.1.2.2/24 gateway 10.1.2.1, routes [...]`.
fn shown(document: &Value) -> String {
    let mut parts = Vec::new();
    for ip in document["ips"].as_array().into_iter().flatten() {
        let address = ip["address"].as_str().unwrap_or_default();
        let gateway = ip["gateway"].as_str().map(|gateway| format!(" gateway {gateway}"));
        parts.push(format!("{address}{}", gateway.unwrap_or_default()));
    }
    let keys = document.as_object().into_iter().flatten();
    for (key, value) in keys.filter(|(key, _)| *key != "cniVersion" && *key != "ips") {
        let is_empty = value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty);
        if !is_empty {
            parts.push(format!("{key} {value}"));
        }
    }
    if parts.is_empty() { "no address".to_owned() } else { parts.join(", ") }
}

/// Returns the version of a peer that `scripts/tools` builds.
pub(super) fn version(peer: Peer) -> String {
    let (set, module) = match peer {
        Peer::HostLocal => ("base", "github.com/containernetworking/plugins "),
        Peer::Whereabouts => ("whereabouts", "github.com/k8snetworkplumbingwg/whereabouts "),
    };
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/tools.d").join(set).join("go.mod");
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix(module)).unwrap();
    line.split(' ').next().unwrap().to_owned()
}
