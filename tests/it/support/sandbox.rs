//! The environment of one test: a new directory, a flat file in it, and the real executable with a
//! cleared environment.

use super::cluster::Cluster;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The executable under test.
pub(crate) const HEREABOUTS: &str = env!("CARGO_BIN_EXE_hereabouts");

/// A test's directory. It is removed when the test ends.
pub(crate) struct Sandbox {
    pub(crate) root: PathBuf,
    /// The API server that is the store, if the store is not a file store.
    pub(crate) cluster: Option<&'static Cluster>,
}

/// The end of a call.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    /// Returns a sandbox with a store in `root/store`, on node `n1`, named by the flat file
    /// `root/flat.conf`.
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// Returns the same in another directory.
    pub(crate) fn below(directory: &Path) -> Self {
        Self::made(directory, other_store())
    }

    /// Returns the same with the store in a cluster, in which no address is held from then on.
    #[cfg_attr(not(feature = "kube"), allow(dead_code, reason = "nobody starts a cluster then"))]
    pub(crate) fn on(cluster: &'static Cluster) -> Self {
        Self::made(&std::env::temp_dir(), Some(cluster))
    }

    fn made(directory: &Path, cluster: Option<&'static Cluster>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = directory.join(format!("hereabouts-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let sandbox = Self { root, cluster };
        if let Some(cluster) = cluster {
            cluster.text(&["delete", "--raw", "/apis/hereabouts.dev/v1alpha1/ipallocations"]);
        }
        sandbox.write("flat.conf", &sandbox.flat("n1"));
        sandbox
    }

    /// Returns the text of a flat file for another node on the same store.
    pub(crate) fn flat(&self, node: &str) -> String {
        let debts = self.path("debts");
        let mut flat = serde_json::json!({"datastore": "file", "data_dir": self.store(), "node_name": node, "debts_dir": debts});
        if let Some(cluster) = self.cluster {
            flat["datastore"] = "kubernetes".into();
            // Two nodes are one machine here, one after the other.
            flat["allocation_order"] = "lowest".into();
            flat["kubernetes"] = serde_json::json!({"kubeconfig": cluster.kubeconfig()});
        }
        flat.to_string()
    }

    /// Writes the flat file of node `n1` with these further settings.
    pub(crate) fn set_in_flat(&self, settings: &[(&str, Value)]) {
        let mut flat: Value = serde_json::from_str(&self.flat("n1")).unwrap();
        for (key, value) in settings {
            flat[*key] = value.clone();
        }
        self.write("flat.conf", &flat.to_string());
    }

    /// Forgets what pods had, as happens after ten seconds: then any pod may get the lowest free
    /// address.
    pub(crate) fn forget_freed(&self) {
        let _ = std::fs::remove_dir_all(self.path("freed"));
    }

    /// From now on, this machine is the node `now`, and `before` is another machine: in files, a
    /// name with this machine's id belongs to this machine.
    pub(crate) fn become_another_machine(&self, before: &str, now: &str) {
        let note = self.store().join("nodes").join(before).join("@machine-id");
        if note.exists() {
            std::fs::write(note, "another machine\n").unwrap();
        }
        self.write("flat.conf", &self.flat(now));
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Returns a call with the base environment of the test vectors.
    pub(crate) fn call(&self, verb: &str) -> Call {
        if self.cluster.is_none() && verb == "ADD" {
            make_store(&self.store());
        }
        let mut call = Call::bare();
        call.set("CNI_COMMAND", verb)
            .set("CNI_CONTAINERID", "abc123")
            .set("CNI_NETNS", "/var/run/netns/x")
            .set("CNI_IFNAME", "net1")
            .set("CNI_PATH", "/opt/cni/bin")
            .set("HEREABOUTS_CONFIG", self.path("flat.conf").to_str().unwrap());
        call
    }

    /// Makes an ADD of one container with these `ipam` keys.
    pub(crate) fn add(&self, container: &str, ipam: &str) -> Ended {
        self.call("ADD").set("CNI_CONTAINERID", container).stdin(configuration(ipam)).run()
    }

    pub(crate) fn del(&self, container: &str, ipam: &str) -> Ended {
        self.call("DEL").set("CNI_CONTAINERID", container).stdin(configuration(ipam)).run()
    }

    /// Runs an operator's command on this store.
    pub(crate) fn command(&self, args: &[&str]) -> Ended {
        self.command_call(args).run()
    }

    /// Returns such a command without running it.
    pub(crate) fn command_call(&self, args: &[&str]) -> Call {
        let mut call = Call::bare();
        call.set("HEREABOUTS_CONFIG", self.path("flat.conf").to_str().unwrap());
        call.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        call
    }

    /// Returns all records, as `list -o json` prints them.
    pub(crate) fn list(&self) -> Vec<Value> {
        let ended = self.command(&["list", "-o", "json"]);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// Returns the held addresses in order.
    pub(crate) fn held(&self) -> Vec<String> {
        let mut held: Vec<std::net::IpAddr> = self
            .list()
            .iter()
            .map(|record| record["address"].as_str().unwrap().parse().unwrap())
            .collect();
        held.sort();
        held.iter().map(ToString::to_string).collect()
    }

    /// Returns whether no call has written anything into the store.
    pub(crate) fn is_untouched(&self) -> bool {
        self.files().iter().all(|file| file == "format")
    }

    /// Returns every file below the store, relative, in order.
    pub(crate) fn files(&self) -> Vec<String> {
        files_below(&self.store())
    }
}

/// Creates a store in a directory that is missing or empty, as an ADD does if no flat file names
/// it: its node keeps no note about it.
pub(crate) fn make_store(directory: &Path) {
    let nothing = || directory.read_dir().is_ok_and(|mut names| names.next().is_none());
    if std::fs::create_dir(directory).is_ok() || nothing() {
        let _ = std::fs::write(
            directory.join("format"),
            "{\"format\":1,\"id\":\"0123456789abcdef0123456789abcdef\"}\n",
        );
    }
}

/// Returns the cluster whose API server is the store, if the tests were started for that store (one
/// at a time, because every sandbox begins with an empty store).
pub(crate) fn other_store() -> Option<&'static Cluster> {
    #[allow(clippy::disallowed_methods, reason = "whoever starts the tests chooses")]
    let asked =
        std::env::var_os("HEREABOUTS_TEST_STORE").is_some_and(|store| store == "kubernetes");
    asked.then(|| Cluster::shared().unwrap())
}

/// Returns every file below a directory, relative to it, in order.
pub(crate) fn files_below(root: &Path) -> Vec<String> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// Removes this machine's notes about stores below a directory, because the next test there may
/// have another store.
pub(crate) fn forget_stores_below(root: &Path) {
    const NOTES: &str = "/var/lib/cni/hereabouts/stores";
    for entry in std::fs::read_dir(NOTES).into_iter().flatten().flatten() {
        let note: Value = std::fs::read(entry.path())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        if note["data_dir"].as_str().is_some_and(|noted| Path::new(noted).starts_with(root)) {
            let _ = std::fs::remove_file(entry.path());
            let _ =
                std::fs::remove_dir_all(Path::new(NOTES).join(note["id"].as_str().unwrap_or("@")));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        forget_stores_below(&self.root);
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Returns a 1.1.0 plugin configuration named `net1` with these `ipam` keys in addition to the
/// type.
pub(crate) fn configuration(ipam: &str) -> String {
    versioned("1.1.0", ipam)
}

pub(crate) fn versioned(version: &str, ipam: &str) -> String {
    let separator = if ipam.trim().is_empty() { "" } else { "," };
    format!(
        r#"{{"cniVersion":"{version}","name":"net1","type":"macvlan","ipam":{{"type":"hereabouts"{separator}{ipam}}}}}"#
    )
}

/// One start of the executable.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) environment: Vec<(String, std::ffi::OsString)>,
    pub(crate) args: Vec<String>,
    pub(crate) stdin: Vec<u8>,
    /// The words before the executable, the outermost first.
    wrapper: Vec<String>,
    program: String,
}

impl Call {
    /// Returns a call without any variables.
    pub(crate) fn bare() -> Self {
        Self {
            environment: Vec::new(),
            args: Vec::new(),
            stdin: Vec::new(),
            wrapper: Vec::new(),
            program: HEREABOUTS.to_owned(),
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<std::ffi::OsString>) -> &mut Self {
        self.unset(name);
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn unset(&mut self, name: &str) -> &mut Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn stdin(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stdin = bytes.as_ref().to_vec();
        self
    }

    /// Starts a copy of the executable instead.
    #[cfg(feature = "kube")]
    pub(crate) fn by(&mut self, copy: &Path) -> &mut Self {
        copy.to_str().unwrap().clone_into(&mut self.program);
        self
    }

    /// Starts the executable through another program, inside of those that were added before.
    pub(crate) fn through(&mut self, words: &[impl AsRef<str>]) -> &mut Self {
        self.wrapper.extend(words.iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Shows this call, and no other, its own file at a path. Needs root.
    pub(crate) fn seeing(&mut self, path: &str, content: &Path) -> &mut Self {
        let script = r#"mount --bind "$0" "$1" && shift && exec "$@""#;
        self.through(&["unshare", "--mount", "sh", "-c", script, content.to_str().unwrap(), path])
    }

    /// Returns the command, for tests that set stdin and stdout themselves.
    pub(crate) fn command(&self) -> Command {
        self.command_under(&[])
    }

    /// Returns the same through one more program, outside of all the others.
    pub(crate) fn command_under(&self, outer: &[&str]) -> Command {
        let inner = self
            .wrapper
            .iter()
            .cloned()
            .chain([self.program.clone()])
            .chain(self.args.iter().cloned());
        let mut words = outer.iter().map(|word| (*word).to_owned()).chain(inner);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).env_clear().envs(self.environment.iter().cloned());
        if !(self.wrapper.is_empty() && outer.is_empty()) {
            // strace searches for the program that it starts.
            command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        }
        command
    }

    /// Starts it and writes its stdin, which must fit into a pipe.
    pub(crate) fn start_under(&self, wrapper: &[&str]) -> Child {
        let mut command = self.command_under(wrapper);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&self.stdin).unwrap();
        child
    }

    pub(crate) fn run(&self) -> Ended {
        self.run_under(&[])
    }

    pub(crate) fn run_under(&self, wrapper: &[&str]) -> Ended {
        let mut command = self.command_under(wrapper);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bytes = self.stdin.clone();
        // The child may end without reading everything.
        let writer = std::thread::spawn(move || stdin.write_all(&bytes));
        let output = child.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        Ended::from(output)
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// Returns the one document on stdout.
    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the error code. Fails the test if there is none.
    pub(crate) fn code(&self) -> u64 {
        assert_eq!(self.status, Some(1), "{self:?}");
        self.document()["code"].as_u64().unwrap_or_else(|| panic!("no code: {self:?}"))
    }

    pub(crate) fn details(&self) -> String {
        self.document()["details"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the addresses of a result in the newest shape, without prefix.
    pub(crate) fn addresses(&self) -> Vec<String> {
        assert_eq!(self.status, Some(0), "{self:?}");
        let ips = self.document()["ips"].as_array().cloned().unwrap_or_default();
        ips.iter()
            .map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn succeeded(&self) -> &Self {
        assert_eq!(self.status, Some(0), "{self:?}");
        self
    }
}
