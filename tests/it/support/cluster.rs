//! A real API server with its etcd, started by `scripts/cluster`: one that all tests of this
//! process share, or one of a test's own that it may break. The tests define the objects in it.
//!
//! A cluster ends with the process that started it, however that process ends: a keeper waits on a
//! pipe from here and stops the cluster when the pipe closes. If the keeper was killed as well, the
//! next process finds the directory, whose name contains the id of its process, and stops the
//! cluster.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Once};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A running cluster, see the module.
pub(crate) struct Cluster {
    directory: PathBuf,
    through: Vec<String>,
    keeper: Child,
}

/// The differences between a test's own cluster and the shared one.
pub(crate) struct Options {
    /// Words before every command, for example to enter a namespace.
    pub(crate) through: Vec<String>,
    /// The address at which the API server listens.
    pub(crate) address: Option<String>,
    /// Whether it has the objects of `deploy/`.
    pub(crate) deploy: bool,
    /// The size at which etcd accepts no more writes.
    pub(crate) etcd_quota_bytes: Option<u64>,
    /// The ranges of the addresses of services: one of each family for a dual-stack cluster.
    pub(crate) service_cidrs: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            through: Vec::new(),
            address: None,
            deploy: true,
            etcd_quota_bytes: None,
            service_cidrs: None,
        }
    }
}

/// A server that can be stopped alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Etcd,
    ApiServer,
}

impl Server {
    fn word(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "apiserver",
        }
    }
}

/// Returns the directory of all clusters: `<process id>-<number>` each.
fn directories() -> PathBuf {
    Path::new(ROOT).join("target/test-clusters")
}

fn script(through: &[String], args: &[&str]) -> Command {
    let script = format!("{ROOT}/scripts/cluster");
    let mut words =
        through.iter().map(String::as_str).chain([&*script]).chain(args.iter().copied());
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdin(Stdio::null());
    command
}

fn succeeded(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Stops the clusters of processes that no longer exist.
pub(crate) fn end_orphans() {
    let Ok(entries) = std::fs::read_dir(directories()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            let path = entry.path();
            let _ = script(&[], &["down", "--directory", path.to_str().unwrap()]).output();
            // A directory that is incomplete is not a cluster for the script.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

impl Cluster {
    /// Returns the cluster of this process. A test uses its own names in it and breaks nothing.
    /// `Err` contains the reason why this machine has none.
    pub(crate) fn shared() -> Result<&'static Self, String> {
        static SHARED: LazyLock<Result<Cluster, String>> =
            LazyLock::new(|| Cluster::own(Options::default()));
        SHARED.as_ref().map_err(Clone::clone)
    }

    /// Returns another one, which ends when it is dropped.
    pub(crate) fn own(options: Options) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static LEFT_OVERS: Once = Once::new();
        static TOOLS: LazyLock<Result<(), String>> =
            LazyLock::new(|| {
                let output = Command::new(format!("{ROOT}/scripts/tools"))
                    .args(["etcd", "kubernetes"])
                    .output()
                    .map_err(|error| error.to_string())?;
                output.status.success().then_some(()).ok_or_else(|| {
                    String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")
                })
            });
        TOOLS.clone()?;
        LEFT_OVERS.call_once(end_orphans);

        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = directories().join(format!("{}-{number}", std::process::id()));
        // Before anything must be kept: the keeper exists at every moment.
        let keeper = keeper(&options.through, &directory);
        let quota = options.etcd_quota_bytes.map(|bytes| bytes.to_string());
        let mut args = vec!["up", "--directory", directory.to_str().unwrap()];
        args.extend(options.address.iter().flat_map(|address| ["--address", address]));
        args.extend(quota.iter().flat_map(|quota| ["--etcd-quota-bytes", quota]));
        args.extend(options.service_cidrs.iter().flat_map(|cidrs| ["--service-cidrs", cidrs]));
        args.extend((!options.deploy).then_some("--no-deploy"));
        succeeded(&mut script(&options.through, &args));
        Ok(Self { directory, through: options.through, keeper })
    }

    /// Returns the directory of all its files; `scripts/cluster` describes them.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns a kubeconfig with all rights.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of("admin")
    }

    /// Returns the kubeconfig of `admin`, `admin-certificate` or `nobody`.
    pub(crate) fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.directory.join(format!("{user}.kubeconfig"))
    }

    /// Returns a token with the rights that the plugin ships with: one of the ServiceAccount of
    /// `deploy/node`, bound to a Node, which is created.
    pub(crate) fn node_token(&self, node: &str) -> String {
        self.apply(&format!("{{apiVersion: v1, kind: Node, metadata: {{name: {node}}}}}"));
        self.plugin_token(&["--bound-object-kind", "Node", "--bound-object-name", node])
    }

    /// Returns the token that the kubelet of a node gives to the DaemonSet's pod there: bound to
    /// that Pod, which is created.
    pub(crate) fn pod_token(&self, node: &str) -> String {
        self.apply(&format!("{{apiVersion: v1, kind: Node, metadata: {{name: {node}}}}}"));
        let name = self.make_plugin_pod(node, Some(node));
        self.plugin_token(&["--bound-object-kind", "Pod", "--bound-object-name", &name])
    }

    /// Creates a Pod of the plugin's ServiceAccount, on a node or on none yet. Returns its name.
    pub(crate) fn make_plugin_pod(&self, name: &str, node: Option<&str>) -> String {
        let name = format!("hereabouts-{name}");
        let mut pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "kube-system"},
            "spec": {"serviceAccountName": "hereabouts", "containers": [{"name": "main", "image": "none"}]},
        });
        if let Some(node) = node {
            pod["spec"]["nodeName"] = node.into();
        }
        self.apply(&pod.to_string());
        name
    }

    /// Returns a token of the plugin's ServiceAccount, with additional words for `kubectl create
    /// token`.
    pub(crate) fn plugin_token(&self, words: &[&str]) -> String {
        let args = [
            &["create", "token", "hereabouts", "--namespace", "kube-system", "--duration", "10h"],
            words,
        ]
        .concat();
        self.text(&args).trim().to_owned()
    }

    /// Returns the text of a kubeconfig with a token.
    pub(crate) fn kubeconfig_with(&self, token: &str) -> String {
        let admin = std::fs::read_to_string(self.kubeconfig()).unwrap();
        let lines = admin.lines().map(|line| match line.split_once("token: ") {
            Some((indent, _)) => format!("{indent}token: {token}\n"),
            None => format!("{line}\n"),
        });
        lines.collect()
    }

    /// Returns the URL of the API server.
    pub(crate) fn server(&self) -> String {
        let admin = std::fs::read_to_string(self.kubeconfig()).unwrap();
        admin.lines().find_map(|line| line.trim().strip_prefix("server: ")).unwrap().to_owned()
    }

    /// Returns a command of the real kubectl with all rights.
    pub(crate) fn kubectl_command(&self, args: &[&str]) -> Command {
        let kubectl = format!("{ROOT}/target/tools/bin/kubectl");
        let mut words = self.through.iter().map(String::as_str).chain([&*kubectl]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(args).env("KUBECONFIG", self.kubeconfig());
        // It ends before it would have to free memory.
        command.env("GOGC", "off");
        // Its caches belong to the cluster, not to the home directory.
        command.env("KUBECACHEDIR", self.directory.join("kubectl-cache"));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_command(args).output().unwrap()
    }

    /// Returns what kubectl prints. Fails the test if kubectl fails.
    pub(crate) fn text(&self, args: &[&str]) -> String {
        #[cfg(feature = "kube")]
        if let (["get", "--raw", path], Some(api)) = (args, self.api()) {
            return api.get(path);
        }
        String::from_utf8(succeeded(&mut self.kubectl_command(args)).stdout).unwrap()
    }

    /// Returns a connection of this process, if the cluster is in its network.
    #[cfg(feature = "kube")]
    fn api(&self) -> Option<super::api::Api> {
        self.through.is_empty().then(|| super::api::Api::open(&self.kubeconfig()))
    }

    /// Applies a manifest.
    pub(crate) fn apply(&self, manifest: &str) {
        #[cfg(feature = "kube")]
        if let Some(api) = self.api() {
            return api.apply(manifest);
        }
        let file = self.directory.join(format!("apply-{:?}.yaml", std::thread::current().id()));
        std::fs::write(&file, manifest).unwrap();
        self.text(&["apply", "-f", file.to_str().unwrap()]);
    }

    /// Starts a server again, with its port and its data. Returns when it answers.
    pub(crate) fn start(&self, server: Server) {
        self.script(&["start", server.word()]);
    }

    /// Ends a server with SIGTERM.
    pub(crate) fn stop(&self, server: Server) {
        self.script(&["stop", server.word()]);
    }

    /// Kills a server with SIGKILL.
    pub(crate) fn kill(&self, server: Server) {
        self.script(&["stop", "--kill", server.word()]);
    }

    /// Copies etcd's data. Both servers restart for this.
    pub(crate) fn save(&self) {
        self.between_stops(|| {
            succeeded(
                Command::new("cp")
                    .arg("-a")
                    .arg(self.directory.join("etcd"))
                    .arg(self.directory.join("saved")),
            )
        });
    }

    /// Restores the copy.
    pub(crate) fn restore(&self) {
        self.between_stops(|| {
            std::fs::remove_dir_all(self.directory.join("etcd")).unwrap();
            std::fs::rename(self.directory.join("saved"), self.directory.join("etcd")).unwrap();
        });
    }

    /// Lets etcd forget every revision but the current one. The API server must not run: until it
    /// starts again, its own cache would serve the earlier ones.
    #[cfg_attr(not(feature = "controller"), allow(dead_code, reason = "no watch is tested then"))]
    pub(crate) fn compact(&self) {
        let range = self.ask_etcd(
            "/v3/kv/range",
            r#"{"key": "AA==", "range_end": "AA==", "count_only": true}"#,
        );
        let revision = range["header"]["revision"].as_str().unwrap().to_owned();
        let request = format!(r#"{{"revision": "{revision}", "physical": true}}"#);
        let done = self.ask_etcd("/v3/kv/compaction", &request);
        assert!(done["header"]["revision"].is_string(), "{done}");
    }

    /// Returns how many bytes the key and the value of one of our objects have in etcd.
    #[cfg(feature = "kube")]
    pub(crate) fn bytes_in_etcd(&self, resource: &str, name: &str) -> usize {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let text = |bytes: &[u8]| STANDARD.encode(bytes);
        let key = format!("/registry/hereabouts.dev/{resource}/{name}");
        let request = format!(r#"{{"key": "{}"}}"#, text(key.as_bytes()));
        let found = self.ask_etcd("/v3/kv/range", &request);
        let value = found["kvs"][0]["value"].as_str().unwrap();
        key.len() + STANDARD.decode(value).unwrap().len()
    }

    fn ask_etcd(&self, path: &str, body: &str) -> serde_json::Value {
        let settings = std::fs::read_to_string(self.directory.join("settings")).unwrap();
        let port = settings.lines().find_map(|line| line.strip_prefix("ETCD_PORT=")).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
        let length = body.len();
        let head = format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn between_stops<T>(&self, act: impl FnOnce() -> T) {
        // It would wait for the watches of clients.
        self.kill(Server::ApiServer);
        self.stop(Server::Etcd);
        act();
        for server in [Server::Etcd, Server::ApiServer] {
            self.start(server);
        }
    }

    fn script(&self, args: &[&str]) {
        succeeded(script(&self.through, args).arg("--directory").arg(&self.directory));
    }
}

/// Starts a process that waits until this process ends, or closes its pipe, and then stops the
/// cluster, even if the cluster's namespace has ended before. It has its own session, because an
/// interrupt is not for it.
fn keeper(through: &[String], directory: &Path) -> Child {
    let down = script(through, &["down", "--directory", directory.to_str().unwrap()]);
    let rest = r#"cat >/dev/null; "$@"; exec "$0" down --directory "$DIRECTORY""#;
    let mut command = Command::new("setsid");
    command
        .args(["sh", "-c", rest])
        .arg(format!("{ROOT}/scripts/cluster"))
        .arg(down.get_program())
        .args(down.get_args());
    command.env("DIRECTORY", directory);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
