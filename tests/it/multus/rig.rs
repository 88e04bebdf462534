//! Nodes as network namespaces on one bridge, with a real API server among them, and the part of a
//! kubelet and its runtime: it creates sandboxes, and calls the real Multus as libcni does. The
//! expectations are in the tests.

use crate::support::cluster::{Cluster, Options};
use crate::support::sandbox::{Ended, HEREABOUTS};
use hereabouts::retry::{Deadline, until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/multus");
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin");
const NETWORKS: &str = include_str!("../../data/kubernetes/network-attachment-definition.yaml");
/// The address of the API server on the bridge.
const ADDRESS: &str = "10.99.0.1";

/// Ends a program with the process that started it: nsenter starts another one in a PID namespace.
const WITH_PARENT: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// A process that lives as long as its standard input is open.
struct Held(Child);

impl Held {
    /// Starts it and waits for the line that says that it is ready.
    fn start(words: &[&str]) -> Result<(Self, String), String> {
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let output = child.wait_with_output().unwrap();
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok((Self(child), line.trim().to_owned()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The network of this process, with the API server in it.
pub(super) struct Rig {
    // In the order in which they must be dropped.
    pub(super) cluster: Cluster,
    /// The plugins, and the nodes' disks. It is removed with the cluster.
    directory: PathBuf,
    /// The words that start a program in this network.
    inside: Vec<String>,
    _control_plane: Held,
    _world: Held,
}

fn enter(process: &str, namespaces: &[&str]) -> Vec<String> {
    let words = ["nsenter", "--target", process]
        .into_iter()
        .chain(namespaces.iter().copied())
        .chain(["--"]);
    words.map(str::to_owned).collect()
}

fn run(before: &[String], words: &[&str]) -> Ended {
    let mut all = before.iter().map(String::as_str).chain(words.iter().copied());
    let mut command = Command::new(all.next().unwrap());
    Ended::from(command.args(all).stdin(Stdio::null()).output().unwrap())
}

impl Rig {
    /// Returns the rig that all tests share, or why this machine has none. Each test uses its own
    /// names and ranges.
    pub(super) fn shared() -> Result<&'static Self, String> {
        static RIG: LazyLock<Result<Rig, String>> = LazyLock::new(Rig::new);
        RIG.as_ref().map_err(Clone::clone)
    }

    /// Returns a rig that no other test shares.
    pub(super) fn new() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("needs root".to_owned());
        }
        let kinds = ["veth peer name probe1", "bridge", "macvlan"]
            .iter()
            .find(|kind| !crate::real_parts::kernel_has(kind));
        if let Some(kind) = kinds {
            return Err(format!("this kernel has no {kind}"));
        }
        let tools = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/tools"))
            .args(["base", "multus"])
            .output()
            .unwrap();
        if !tools.status.success() {
            return Err(String::from_utf8_lossy(&tools.stderr).trim().replace('\n', "; "));
        }

        let world = format!("{HERE}/world.sh");
        let (world, _) = Held::start(&[
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            &world,
        ])?;
        let first =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", world.0.id())).unwrap();
        let inside = enter(first.trim(), &["--net", "--mount", "--pid"]);

        // The API server has a namespace on the bridge, because the nodes do not see the loopback
        // of another namespace. etcd uses the loopback in that namespace.
        let words: Vec<&str> =
            inside.iter().map(String::as_str).chain(["unshare", "--net", "bash", "-c"]).collect();
        let (control_plane, process) =
            Held::start(&[&*words, &["ip link set lo up; echo $$; read -r"]].concat())?;
        let through = [inside.clone(), enter(&process, &["--net"])].concat();
        connect(&inside, &through, "api", &process, &format!("{ADDRESS}/16"));
        let address = Some(ADDRESS.to_owned());
        let cluster = Cluster::own(Options { through, address, ..Options::default() })?;
        cluster.apply(NETWORKS);
        cluster.text(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);

        let directory = cluster.directory().join("rig");
        // Not all tools: the real Whereabouts is among them.
        let bin = directory.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let tools = ["ptp", "host-local", "macvlan"].map(|name| (format!("{TOOLS}/{name}"), name));
        for (file, name) in tools {
            std::os::unix::fs::symlink(file, bin.join(name)).unwrap();
        }
        Ok(Self { cluster, directory, inside, _control_plane: control_plane, _world: world })
    }

    /// Creates a network of Multus on the nodes' eth0: a macvlan plugin with these additional keys.
    pub(super) fn network(&self, name: &str, keys: &str) {
        let config = format!(
            r#"{{"cniVersion": "1.0.0", "type": "macvlan", "master": "eth0", "mode": "bridge", {keys}}}"#
        );
        self.network_of(name, &config);
    }

    /// Creates a network with this whole configuration.
    pub(super) fn network_of(&self, name: &str, config: &str) {
        let nad = json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": "default"}, "spec": {"config": config},
        });
        self.cluster.apply(&nad.to_string());
    }

    /// Installs a plugin that is a shell script.
    pub(super) fn plugin(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.join("bin").join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Creates a Pod with this networks annotation, without starting it.
    pub(super) fn pod(&self, name: &str, networks: &str) -> Pod {
        self.pod_of(name, networks, None)
    }

    /// Does the same on a node.
    pub(super) fn pod_on(&self, node: &Node<'_>, name: &str, networks: &str) -> Pod {
        self.pod_of(name, networks, Some(&node.name))
    }

    fn pod_of(&self, name: &str, networks: &str, node: Option<&str>) -> Pod {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "annotations": {"k8s.v1.cni.cncf.io/networks": networks}},
            "spec": {"containers": [{"name": "main", "image": "none"}], "nodeName": node},
        });
        self.cluster.apply(&pod.to_string());
        let uid = self.cluster.text(&["get", "pod", name, "-o", "jsonpath={.metadata.uid}"]);
        Pod { name: name.to_owned(), uid, container: new_container() }
    }

    /// Returns what is held in a network: address, pod, interface, node.
    pub(super) fn held(&self, network: &str) -> Vec<[String; 4]> {
        let document: Value =
            serde_json::from_str(&self.cluster.text(&["get", "ipa", "-o", "json"])).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let row = |object: &Value| {
            let spec = &object["spec"];
            [
                text(&spec["address"]),
                text(&spec["podRef"]["name"]),
                text(&spec["interface"]),
                text(&spec["node"]),
            ]
        };
        let objects = document["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|object| object["spec"]["network"] == network);
        let mut rows: Vec<_> = objects.map(row).collect();
        rows.sort_by_key(|row| row[0].parse::<std::net::IpAddr>().unwrap());
        rows
    }

    /// Returns a node that has just booted, with a plugin that was just installed.
    pub(super) fn node(&self, name: &str) -> Node<'_> {
        let node = self.bare_node(name);
        node.install();
        node
    }

    /// Returns a node that has just booted, on which nothing was installed.
    pub(super) fn bare_node(&self, name: &str) -> Node<'_> {
        let disk = self.directory.join(name);
        for directory in ["etc-cni/net.d", "var-lib-cni"] {
            std::fs::create_dir_all(disk.join(directory)).unwrap();
        }
        std::fs::write(disk.join("token"), self.cluster.node_token(name)).unwrap();
        Node::boot(self, name, disk)
    }

    /// Makes another directory of plugins, with one plugin under this name.
    pub(super) fn plugins_with(&self, name: &str, plugin: &Path) -> PathBuf {
        let bin = self.directory.join(format!("bin-{name}"));
        std::fs::create_dir_all(&bin).unwrap();
        for own in ["ptp", "host-local", "macvlan"] {
            let _ = std::os::unix::fs::symlink(format!("{TOOLS}/{own}"), bin.join(own));
        }
        let _ = std::os::unix::fs::symlink(plugin, bin.join(name));
        bin
    }
}

/// Gives a namespace an eth0 on the bridge. Returns the name of the bridge's port.
fn connect(world: &[String], node: &[String], name: &str, process: &str, address: &str) -> String {
    let port = format!("to-{name}");
    run(
        world,
        &["ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", process],
    )
    .succeeded();
    run(world, &["ip", "link", "set", &port, "master", "br0", "up"]).succeeded();
    run(node, &["ip", "link", "set", "eth0", "up"]).succeeded();
    run(node, &["ip", "address", "add", address, "dev", "eth0"]).succeeded();
    port
}

fn new_container() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{:064x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a kubelet knows about a Pod: its name, and the sandbox that it has created for it.
#[derive(Clone)]
pub(super) struct Pod {
    pub(super) name: String,
    uid: String,
    container: String,
}

impl Pod {
    /// Returns the same Pod in another sandbox, as after a reboot.
    pub(super) fn again(&self) -> Self {
        Self { container: new_container(), ..self.clone() }
    }

    fn namespace(&self) -> String {
        format!("cni-{}", &self.container[52..])
    }
}

/// A running node.
pub(super) struct Node<'rig> {
    rig: &'rig Rig,
    pub(super) name: String,
    pub(super) disk: PathBuf,
    inside: Vec<String>,
    /// The plugins that Multus starts.
    pub(super) bin: PathBuf,
    /// The end of its cable.
    port: String,
    /// Whether Multus keeps what it knows of a pod when a DEL fails.
    pub(super) multus_keeps: bool,
    /// Whether the pods' first network has a default route.
    pub(super) has_default_route: bool,
    _held: Held,
}

impl<'rig> Node<'rig> {
    fn boot(rig: &'rig Rig, name: &str, disk: PathBuf) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        std::fs::write(disk.join("boot_id"), format!("{number:08x}-0000-4000-8000-000000000000\n"))
            .unwrap();
        let script = format!("{HERE}/node.sh");
        let words: Vec<&str> = rig.inside.iter().map(String::as_str).collect();
        let (held, process) = Held::start(
            &[&*words, &["unshare", "--net", "--mount", &script, disk.to_str().unwrap()]].concat(),
        )
        .unwrap();
        let inside = [rig.inside.clone(), enter(&process, &["--net", "--mount"])].concat();
        let address = format!("10.99.{}.{}/16", 1 + number / 250, 1 + number % 250);
        let port = connect(&rig.inside, &inside, &format!("n{number}"), &process, &address);
        Self {
            rig,
            name: name.to_owned(),
            disk,
            inside,
            bin: rig.directory.join("bin"),
            port,
            multus_keeps: true,
            has_default_route: false,
            _held: held,
        }
    }

    /// Installs the plugin, which Multus starts from then on.
    pub(super) fn install(&self) {
        // One at a time: the nodes share a directory of plugins, because the rig has no room for
        // more copies of an executable with debug information.
        static INSTALLING: Mutex<()> = Mutex::new(());
        let _turn = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        let args = self.install_args();
        self.hereabouts(&args.iter().map(String::as_str).collect::<Vec<_>>()).succeeded();
    }

    /// Lets Multus start the plugins of all nodes.
    pub(super) fn use_common_plugins(&mut self) {
        self.bin = self.rig.directory.join("bin");
    }

    /// Returns how the plugin is installed here.
    fn install_args(&self) -> Vec<String> {
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let (bin, token) = (path(self.rig.directory.join("bin")), path(self.disk.join("token")));
        let authority = path(self.rig.cluster.directory().join("pki/ca.crt"));
        let (name, server) = (self.name.clone(), self.rig.cluster.server());
        let words = [
            "install",
            "--whereabouts",
            "--node-name",
            &name,
            "--bin-dir",
            &bin,
            "--server",
            &server,
        ];
        words
            .into_iter()
            .chain(["--token-file", &token, "--ca-file", &authority])
            .map(str::to_owned)
            .collect()
    }

    /// Starts what the DaemonSet runs, without its hourly sweeps.
    pub(super) fn daemon(&self) -> Daemon {
        self.daemon_that_sweeps("0s")
    }

    /// Starts what the DaemonSet runs.
    pub(super) fn daemon_that_sweeps(&self, every: &str) -> Daemon {
        let args = self.install_args();
        let mut words: Vec<&str> =
            self.inside.iter().map(String::as_str).chain(WITH_PARENT).chain([HEREABOUTS]).collect();
        words.extend(args.iter().map(String::as_str));
        let every = format!("--sweep-every={every}");
        words.extend(["--watch", &every, "--mount-namespace", "/proc/self/ns/mnt"]);
        let log = std::fs::File::create(self.disk.join("daemon.log")).unwrap();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Daemon(command.spawn().unwrap())
    }

    /// Disconnects the node from all others, or connects it again.
    pub(super) fn plugged(&self, state: bool) {
        run(
            &self.rig.inside,
            &["ip", "link", "set", &self.port, if state { "up" } else { "down" }],
        )
        .succeeded();
    }

    /// Simulates a power loss: every process and every namespace is gone, the disk stays.
    pub(super) fn dies(self) -> Off<'rig> {
        Off { rig: self.rig, name: self.name, disk: self.disk }
    }

    pub(super) fn run(&self, words: &[&str]) -> Ended {
        run(&self.inside, words)
    }

    pub(super) fn hereabouts(&self, args: &[&str]) -> Ended {
        self.run(&[&[HEREABOUTS], args].concat())
    }

    /// Returns the configuration of Multus on this node. The pods' first network is ptp with
    /// host-local, because a bridge changes its address with each pod, which CHECK reports.
    fn configuration(&self) -> Value {
        let routes = if self.has_default_route { json!([{"dst": "0.0.0.0/0"}]) } else { json!([]) };
        json!({
            "cniVersion": "1.0.0", "name": "multus-cni-network", "type": "multus",
            "kubeconfig": self.rig.cluster.kubeconfig(), "confDir": "/etc/cni/net.d", "cniDir": "/var/lib/cni/multus",
            "binDir": self.bin, "logToStderr": true, "logLevel": "error", "retryDeleteOnError": self.multus_keeps,
            "delegates": [{
                "cniVersion": "1.0.0", "name": "cluster", "type": "ptp",
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": routes},
            }],
        })
    }

    fn verb(&self, verb: &str, pod: &Pod) -> Ended {
        let arguments = format!(
            "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            pod.name, pod.container, pod.uid
        );
        let mut command = Command::new(&self.inside[0]);
        command.args(&self.inside[1..]).arg(format!("{TOOLS}/multus"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &pod.container)
            .env("CNI_IFNAME", "eth0");
        command
            .env("CNI_NETNS", format!("/run/netns/{}", pod.namespace()))
            .env("CNI_ARGS", arguments);
        command.env("CNI_PATH", &self.bin);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(self.configuration().to_string().as_bytes()).unwrap();
        Ended::from(child.wait_with_output().unwrap())
    }

    /// Creates the sandbox and its interfaces.
    pub(super) fn try_start(&self, pod: &Pod) -> Ended {
        self.run(&["ip", "netns", "add", &pod.namespace()]).succeeded();
        // For one second, an IPv6 address is not used until duplicate address detection has ended.
        // No test waits for that.
        self.within(pod, &["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad"])
            .succeeded();
        // Multus gives the API server less than a second to return the pod, and has called no
        // plugin by then. On a busy machine it is called again.
        let add = || {
            Some(self.verb("ADD", pod))
                .filter(|ended| !ended.stdout.contains("error waiting for pod"))
        };
        let ended =
            until::<_, ()>(&Deadline::after(Duration::from_secs(60)), || Ok(add())).unwrap();
        ended.expect("Multus sees the pod within a minute")
    }

    pub(super) fn start(&self, pod: &Pod) {
        self.try_start(pod).succeeded();
    }

    /// Creates one sandbox after the other for a Pod, as a kubelet does, until one has its
    /// interfaces.
    pub(super) fn start_in_the_end(&self, pod: &Pod) -> Pod {
        let deadline = Deadline::after(Duration::from_secs(60));
        loop {
            let pod = pod.again();
            let ended = self.try_start(&pod);
            if ended.status == Some(0) {
                return pod;
            }
            assert!(!deadline.left().is_zero(), "{ended:?}");
            self.stop(&pod).succeeded();
        }
    }

    /// Removes the interfaces and, if that succeeds, the sandbox too.
    pub(super) fn stop(&self, pod: &Pod) -> Ended {
        let ended = self.verb("DEL", pod);
        if ended.status == Some(0) {
            self.run(&["ip", "netns", "delete", &pod.namespace()]);
        }
        ended
    }

    /// Checks that everything is as it was created.
    pub(super) fn check(&self, pod: &Pod) -> Ended {
        self.verb("CHECK", pod)
    }

    /// Runs a command in a pod of this node.
    pub(super) fn within(&self, pod: &Pod, words: &[&str]) -> Ended {
        self.run(&[&["ip", "netns", "exec", &pod.namespace()], words].concat())
    }

    /// Starts a command in a pod of this node, and does not wait for its end.
    pub(super) fn start_within(&self, pod: &Pod, words: &[&str]) -> Child {
        let namespace = pod.namespace();
        let all = self.inside.iter().map(String::as_str);
        let all: Vec<&str> =
            all.chain(["ip", "netns", "exec", &namespace]).chain(words.iter().copied()).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Returns whether an answer comes within five seconds.
    pub(super) fn pings(&self, pod: &Pod, interface: &str, address: &str) {
        self.within(pod, &["ping", "-n", "-q", "-c", "1", "-w", "5", "-I", interface, address])
            .succeeded();
    }

    /// Returns the addresses that an interface in the pod really has.
    pub(super) fn on_interface(&self, pod: &Pod, interface: &str) -> Vec<String> {
        let ended = self.within(pod, &["ip", "-j", "address", "show", "dev", interface]);
        let document = ended.succeeded().document();
        let addresses = document[0]["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|address| address["scope"] == "global");
        addresses.map(|address| address["local"].as_str().unwrap().to_owned()).collect()
    }
}

/// An install that keeps running. It is killed when it is dropped.
pub(super) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node without power.
pub(super) struct Off<'rig> {
    rig: &'rig Rig,
    pub(super) name: String,
    disk: PathBuf,
}

impl<'rig> Off<'rig> {
    /// Simulates another boot: another boot id, an empty /run, the same disk.
    pub(super) fn boots(self) -> Node<'rig> {
        Node::boot(self.rig, &self.name, self.disk)
    }
}

/// Returns the `network-status` annotation: network, interface and addresses of each, without the
/// cluster's own network.
pub(super) fn status_of(rig: &Rig, pod: &Pod) -> Vec<(String, String, Vec<String>)> {
    let path = r"jsonpath={.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status}";
    let text = rig.cluster.text(&["get", "pod", &pod.name, "-o", path]);
    let document: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |status: &Value| {
        let ips = status["ips"].as_array().cloned().unwrap_or_default();
        (text(&status["name"]), text(&status["interface"]), ips.iter().map(text).collect())
    };
    document.as_array().unwrap().iter().map(row).filter(|(name, ..)| name != "cluster").collect()
}
