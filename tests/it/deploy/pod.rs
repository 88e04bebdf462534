//! The pod of the DaemonSet, run from its manifest on a node that consists of namespaces, with a
//! real API server. It has the command, the environment, the volumes, the capabilities and the
//! token of the manifest. It installs a plugin that works, keeps it working, sweeps, and removes
//! it.

use super::chart::{kustomized, rendered};
use crate::support::cluster::Cluster;
use crate::support::sandbox::{Ended, HEREABOUTS, Sandbox, configuration};
use hereabouts::retry::{Deadline, until};
use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/deploy/pod.sh");

/// A node without kubelet. When it is dropped, everything that runs on it ends.
struct Node {
    sandbox: Sandbox,
    /// Unique in the cluster, which the tests of one process share.
    name: String,
    cluster: &'static Cluster,
    holder: Child,
    process: u32,
}

impl Node {
    fn new(name: &str) -> Result<Self, String> {
        let cluster = Cluster::shared()?;
        let sandbox = Sandbox::new();
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", SCRIPT, "node"])
            .arg(sandbox.path("disk"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|error| error.to_string())?;
        if holder.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).is_err() {
            let mut said = String::new();
            holder.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            let _ = holder.wait();
            return Err(format!("no namespaces here: {}", said.trim()));
        }
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id())).unwrap();
        let process = children.trim().parse().unwrap();
        for directory in ["token", "root"] {
            std::fs::create_dir(sandbox.path(directory)).unwrap();
        }
        let node = Self { sandbox, name: name.to_owned(), cluster, holder, process };
        node.give_token();
        Ok(node)
    }

    /// Writes the token and the CA of the ServiceAccount that the DaemonSet names.
    fn give_token(&self) -> String {
        let token = self.cluster.pod_token(&self.name);
        let place = self.sandbox.path("token");
        std::fs::copy(self.cluster.directory().join("pki/ca.crt"), place.join("ca.crt")).unwrap();
        std::fs::write(place.join("token.new"), &token).unwrap();
        std::fs::rename(place.join("token.new"), place.join("token")).unwrap();
        token
    }

    /// Returns a command on the node itself, as its runtime would start it.
    fn on_host(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.process.to_string(), "--mount", "--pid"])
            .args(words)
            .stdin(Stdio::null());
        command
    }

    fn shell(&self, script: &str) -> String {
        let output = self.on_host(&["sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes a call of the plugin as it is installed on the node.
    fn verb(&self, verb: &str, container: &str) -> Ended {
        let scope = format!(r#""network_name":"{}","range":"203.0.113.0/28""#, self.name);
        self.sandbox.write("configuration.json", &configuration(&scope));
        let variables = format!(
            "CNI_COMMAND={verb} CNI_CONTAINERID={container} CNI_NETNS=/run/netns/{container} CNI_IFNAME=net1 CNI_PATH=/opt/cni/bin"
        );
        let script = format!(
            "{variables} /opt/cni/bin/hereabouts < {}",
            self.sandbox.path("configuration.json").display()
        );
        Ended::from(self.on_host(&["sh", "-c", &script]).output().unwrap())
    }

    fn make_netns(&self, name: &str) {
        self.shell(&format!("touch /run/netns/{name} && unshare --net mount --bind /proc/self/ns/net /run/netns/{name}"));
    }

    fn lose_netns(&self, name: &str) {
        self.shell(&format!("umount /run/netns/{name} && rm /run/netns/{name}"));
    }

    /// Holds two addresses. The second one belongs to a sandbox that is gone without a DEL.
    fn hold_for_one_living_and_one_dead(&self) {
        for container in ["living", "dead"] {
            self.make_netns(container);
            self.verb("ADD", container).succeeded();
        }
        assert_eq!(self.held().len(), 2);
        self.lose_netns("dead");
    }

    /// Returns the objects of this node in the cluster.
    fn held(&self) -> Vec<String> {
        let names = self.cluster.text(&["get", "ipallocations", "-o", "name"]);
        names
            .lines()
            .filter(|name| name.contains(&format!("/{}.", self.name)))
            .map(str::to_owned)
            .collect()
    }

    /// Starts the pod of a kustomization's DaemonSet.
    fn pod(&self, kustomization: &str) -> Result<Pod<'_>, String> {
        self.pod_that_sweeps(kustomization, "2s")
    }

    fn pod_that_sweeps(&self, kustomization: &str, every: &str) -> Result<Pod<'_>, String> {
        self.pod_of(&kustomized(kustomization)?, kustomization, every)
    }

    /// The same for any objects. `what` distinguishes it from others on the node.
    fn pod_of(&self, objects: &[Value], what: &str, every: &str) -> Result<Pod<'_>, String> {
        let spec = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap()["spec"]["template"]["spec"].clone();
        let said = self.sandbox.path(&format!("{what}-said"));
        let mut pod =
            Pod { node: self, container: spec["containers"][0].clone(), spec, said, child: None };
        let mut words: Vec<String> = words(&pod.container["command"]);
        words.push(if words[1] == "install" {
            format!("--sweep-every={every}")
        } else {
            "--idle=2s".to_owned()
        });
        let file = std::fs::File::create(&pod.said).unwrap();
        let capabilities = pod.capabilities();
        let start =
            [SCRIPT, "pod", self.sandbox.path("root").to_str().unwrap(), HEREABOUTS, &capabilities]
                .map(str::to_owned);
        let mut command = self.on_host(&["unshare", "--mount"]);
        command
            .args(start)
            .args(&words)
            .envs(pod.surroundings())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        pod.child = Some(command.spawn().unwrap());
        Ok(pod)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// A container of the pod, as its runtime would create it.
struct Pod<'n> {
    node: &'n Node,
    spec: Value,
    container: Value,
    said: PathBuf,
    child: Option<Child>,
}

impl Pod<'_> {
    fn capabilities(&self) -> String {
        let capabilities = &self.container["securityContext"]["capabilities"];
        assert_eq!(words(&capabilities["drop"]), ["ALL"]);
        words(&capabilities["add"])
            .iter()
            .map(|name| format!(",+{}", name.to_lowercase()))
            .collect()
    }

    /// Returns the variables of pod.sh: volumes, token, and the container's environment.
    fn surroundings(&self) -> [(&'static str, String); 3] {
        // Everything that the emulation depends on is in the manifest.
        assert_eq!(
            (&self.spec["hostPID"], &self.spec["hostNetwork"]),
            (&Value::Bool(true), &Value::Bool(true))
        );
        assert_eq!(self.spec["serviceAccountName"], "hereabouts");
        let volume = |mount: &Value| {
            let volumes = self.spec["volumes"].as_array().unwrap();
            let host_path =
                &volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap()["hostPath"];
            [&host_path["path"], &mount["mountPath"], &host_path["type"]]
                .map(|word| word.as_str().unwrap().to_owned())
                .join(":")
        };
        let volumes: Vec<String> =
            self.container["volumeMounts"].as_array().unwrap().iter().map(volume).collect();
        let value = |variable: &Value| match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str()
        {
            Some("spec.nodeName") => self.node.name.clone(),
            Some(other) => panic!("{other}"),
            None => variable["value"].as_str().unwrap().to_owned(),
        };
        let variables = self.container["env"].as_array().unwrap();
        let mut variables: Vec<String> = variables
            .iter()
            .map(|variable| format!("{}={}", variable["name"].as_str().unwrap(), value(variable)))
            .collect();
        let kubeconfig = std::fs::read_to_string(self.node.cluster.kubeconfig()).unwrap();
        let (host, port) = kubeconfig
            .split_once("server: https://")
            .unwrap()
            .1
            .lines()
            .next()
            .unwrap()
            .rsplit_once(':')
            .unwrap();
        variables.push(format!("KUBERNETES_SERVICE_HOST={host}"));
        variables.push(format!("KUBERNETES_SERVICE_PORT={port}"));
        [
            ("VOLUMES", volumes.join(" ")),
            ("TOKEN", self.node.sandbox.path("token").display().to_string()),
            ("VARIABLES", variables.join(" ")),
        ]
    }

    /// Runs a probe once, in the container.
    fn probe(&self, name: &str) -> Ended {
        self.exec(&words(&self.container[name]["exec"]["command"]))
    }

    /// Runs a command as kubectl exec does.
    fn exec(&self, words: &[impl AsRef<std::ffi::OsStr>]) -> Ended {
        let process = self.container_process();
        let target = ["nsenter", "--target", &process, "--mount", "--pid", "--root", "--wd"]
            .map(str::to_owned);
        let mut command = Command::new(SCRIPT);
        command.args(["enter", &self.capabilities()]).args(target).args(words);
        Ended::from(command.envs(self.surroundings()).stdin(Stdio::null()).output().unwrap())
    }

    /// Returns the container's process: nsenter has forked into the node's processes.
    fn container_process(&self) -> String {
        let id = self.child.as_ref().unwrap().id();
        std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap().trim().to_owned()
    }

    fn has_ended(&self) -> bool {
        let id = self.child.as_ref().unwrap().id();
        std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap().contains(") Z ")
    }

    fn is_ready(&self, probe: &str) -> bool {
        self.probe(probe).status == Some(0)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Deadline::after(Duration::from_secs(60));
        let held = until(&deadline, || {
            assert!(!self.has_ended(), "{what}: it has ended: {}", self.said());
            Ok::<_, ()>(holds().then_some(()))
        });
        assert_eq!(held, Ok(Some(())), "{what}: {}", self.said());
    }

    /// Ends the pod as the kubelet does.
    fn end(mut self) {
        let id = self.container_process();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut child = self.child.take().unwrap();
        let deadline = Deadline::after(Duration::from_secs(60));
        let ended = until(&deadline, || child.try_wait()).unwrap();
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", self.said());
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn node(name: &str) -> Option<Node> {
    kustomized("node").and_then(|_| Node::new(name)).map_err(|reason| skipped!("{reason}")).ok()
}

#[test]
fn it_installs_a_plugin_that_works_with_the_rights_it_ships_with() {
    let Some(node) = node("pod-installs") else { return };
    let pod = node.pod("node").unwrap();
    pod.wait("the first start", || pod.is_ready("startupProbe"));
    pod.probe("readinessProbe").succeeded();
    assert_eq!(
        node.shell("cat /etc/cni/net.d/hereabouts.d/hereabouts.conf")
            .matches("pod-installs")
            .count(),
        1
    );

    node.make_netns("c1");
    let added = node.verb("ADD", "c1");
    assert_eq!(added.succeeded().document()["ips"][0]["address"], "203.0.113.1/28");
    assert_eq!(node.held(), ["ipallocation.hereabouts.dev/pod-installs.203.0.113.1"]);
    assert_eq!(node.verb("ADD", "c1").succeeded().stdout, added.stdout, "a repeat");
    node.verb("STATUS", "c1").succeeded();
    node.verb("DEL", "c1").succeeded();
    assert!(node.held().is_empty());

    let token = node.give_token();
    let kubeconfig = || node.shell("cat /etc/cni/net.d/hereabouts.d/hereabouts.kubeconfig");
    pod.wait("the new token", || kubeconfig().contains(&token));
    node.verb("ADD", "c1").succeeded();

    // The installed plugin works without the pod.
    pod.end();
    node.verb("DEL", "c1").succeeded();
    assert!(node.held().is_empty());
}

/// Runs what a chart renders, with its probes.
///
/// Cause: the probes compared the flat file with what an install without options would write, so
/// with `settings` no pod became ready.
#[test]
fn with_settings_it_becomes_ready_and_an_older_one_stays_so() {
    let Some(node) = node("pod-settings") else { return };
    let with = |setting: &str| rendered(&["--set", "whereabouts=true", "--set", setting]);
    let (old, new) = match (with("settings.log_level=error"), with("settings.log_level=debug")) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(reason), _) | (_, Err(reason)) => return skipped!("{reason}"),
    };
    let says = |level: &str| {
        node.shell("cat /etc/cni/net.d/hereabouts.d/hereabouts.conf")
            .contains(&format!(r#""log_level": "{level}""#))
    };
    let old = node.pod_of(&old, "old", "1d").unwrap();
    old.wait("the first start", || old.is_ready("startupProbe"));
    old.probe("readinessProbe").succeeded();
    assert!(says("error"));

    let new = node.pod_of(&new, "new", "1d").unwrap();
    new.wait("its start", || new.is_ready("startupProbe"));
    assert!(says("debug"));
    old.probe("readinessProbe").succeeded();
    // A new pod that cannot start changes nothing for the old one.
    std::fs::write(node.sandbox.path("token/token"), "no token\n").unwrap();
    new.wait("its complaint", || !new.is_ready("readinessProbe"));
    node.give_token();
    new.end();
    old.wait("its own files", || says("error"));
    old.probe("readinessProbe").succeeded();
}

/// Cause: commands in the pod used the pod's files: `sweep` had no place for its state, `verify`
/// found no notes, and `show` doubted a living sandbox.
#[test]
fn what_is_typed_in_it_looks_from_the_node() {
    let Some(node) = node("pod-exec") else { return };
    let pod = node.pod_that_sweeps("node", "1d").unwrap();
    pod.wait("the first start", || pod.is_ready("startupProbe"));
    node.hold_for_one_living_and_one_dead();
    let shown = pod.exec(&["hereabouts", "show", "203.0.113.1"]);
    assert!(shown.succeeded().stdout.contains("Alive:     yes"), "{shown:?}");
    let verified = pod.exec(&["hereabouts", "verify"]);
    let said = &verified.succeeded().stdout;
    // Records of the whole cluster, and what this node remembers of its own.
    assert!(
        said.contains("no problems: ") && said.contains(" and 2 index entries"),
        "{verified:?}"
    );
    let swept = pod.exec(&["hereabouts", "sweep", "--yes"]);
    assert!(swept.succeeded().stdout.contains("released 203.0.113.2"), "{swept:?}");
    assert_eq!(node.held().len(), 1);
    node.verb("DEL", "living").succeeded();
}

#[test]
fn it_says_why_it_is_not_ready() {
    let Some(node) = node("pod-not-ready") else { return };
    std::fs::write(node.sandbox.path("token/token"), "nobodys").unwrap();
    let pod = node.pod("node").unwrap();
    pod.wait("the files", || pod.is_ready("readinessProbe"));
    let probed = pod.probe("startupProbe");
    assert!(
        probed.status == Some(1) && probed.stderr.contains("the plugin is not ready, code 50: "),
        "{probed:?}"
    );
    node.give_token();
    pod.wait("the token", || pod.is_ready("startupProbe"));
}

#[test]
fn it_frees_what_a_pod_held_that_is_gone_without_a_del() {
    let Some(node) = node("pod-sweeps") else { return };
    let pod = node.pod("node").unwrap();
    pod.wait("the first start", || pod.is_ready("startupProbe"));
    node.hold_for_one_living_and_one_dead();
    pod.wait("the sweep", || node.held().len() == 1);
    assert!(pod.said().contains("released 203.0.113.2"), "{}", pod.said());
    node.verb("DEL", "living").succeeded();
}

/// Cause: addresses that an etcd had lost, because it was restored, were free for other pods until
/// the hourly `repair`. Fix: an answer below the noted revision leaves a mark, and the pod checks
/// for the mark every few seconds.
#[test]
fn it_repairs_at_once_what_a_cluster_that_was_set_back_has_lost() {
    let Some(node) = node("pod-set-back") else { return };
    let pod = node.pod_that_sweeps("node", "1d").unwrap();
    pod.wait("the first start", || pod.is_ready("startupProbe"));
    for container in ["lost", "kept"] {
        node.make_netns(container);
        node.verb("ADD", container).succeeded();
    }
    let state = "/var/lib/cni/hereabouts/kubernetes/pod-set-back";
    assert_eq!(node.shell(&format!("ls {state}")).matches("set-back").count(), 0);
    node.cluster.text(&["delete", "ipallocation", "pod-set-back.203.0.113.1"]);
    // As if the cluster had been far ahead of its current state.
    node.shell(&format!("echo 1000000000000 > {state}/revision"));
    node.make_netns("next");
    node.verb("ADD", "next").succeeded();
    let back = "ipallocation.hereabouts.dev/pod-set-back.203.0.113.1".to_owned();
    pod.wait("the repair", || {
        node.held().contains(&back) && pod.said().contains("was restored to an older state")
    });
    pod.wait("the mark to go", || !node.shell(&format!("ls {state}")).contains("set-back"));
    for container in ["lost", "kept", "next"] {
        node.verb("DEL", container).succeeded();
    }
    assert!(node.held().is_empty());
}

#[test]
fn it_takes_the_plugin_off_when_nothing_is_held_any_more() {
    let Some(node) = node("pod-uninstalls") else { return };
    let pod = node.pod("node").unwrap();
    pod.wait("the first start", || pod.is_ready("startupProbe"));
    node.make_netns("c1");
    node.verb("ADD", "c1").succeeded();
    pod.end();

    let pod = node.pod("uninstall").unwrap();
    pod.wait("its refusal", || pod.said().contains("pods on this node hold 1 address"));
    assert!(!pod.is_ready("readinessProbe"));
    // The plugin serves the pods to the end, with its own token.
    let token = node.give_token();
    pod.wait("the new token", || {
        node.shell("cat /etc/cni/net.d/hereabouts.d/hereabouts.kubeconfig").contains(&token)
    });
    node.verb("DEL", "c1").succeeded();
    pod.wait("the removal", || pod.is_ready("readinessProbe"));
    assert_eq!(
        node.shell("ls /opt/cni/bin /etc/cni/net.d | grep -c hereabouts || true").trim(),
        "0"
    );
    pod.end();
}
