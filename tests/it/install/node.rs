//! A node of its own below a sandbox, and installs on it.

use crate::support::sandbox::{Call, Ended, HEREABOUTS, Sandbox};
use hereabouts::retry::{Deadline, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

/// The executable without its debug information, which is most of its 100 MB: every install copies
/// it.
pub(crate) static EXECUTABLE: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let aside = directory.join(format!("hereabouts-{}", std::process::id()));
    let stripped = Command::new("strip")
        .args(["--strip-debug", "-o"])
        .args([&*aside, Path::new(HEREABOUTS)])
        .status();
    if !stripped.is_ok_and(|status| status.success()) {
        return HEREABOUTS.into();
    }
    // One copy is kept for all test runs.
    let place = directory.join("hereabouts-stripped");
    std::fs::rename(aside, &place).unwrap();
    place
});

/// A node, see the module.
pub(crate) struct Node {
    pub(crate) sandbox: Sandbox,
}

impl Node {
    /// Creates a node with a pod's token and CA as the kubelet mounts them: links into a directory
    /// that is replaced as a whole.
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// Returns the same below another directory.
    pub(crate) fn below(directory: &Path) -> Self {
        let node = Self { sandbox: Sandbox::below(directory) };
        std::fs::create_dir(node.path("bin")).unwrap();
        std::fs::create_dir(node.path("pod")).unwrap();
        node.rotate("first");
        for name in ["token", "ca.crt"] {
            std::os::unix::fs::symlink(format!("..data/{name}"), node.path("pod").join(name))
                .unwrap();
        }
        node
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    /// Gives the pod another token and CA, as the kubelet does.
    pub(crate) fn rotate(&self, token: &str) {
        let pod = self.path("pod");
        std::fs::create_dir(pod.join(token)).unwrap();
        std::fs::write(pod.join(token).join("token"), token).unwrap();
        std::fs::write(
            pod.join(token).join("ca.crt"),
            format!("-----BEGIN CERTIFICATE-----\n{token}\n"),
        )
        .unwrap();
        std::os::unix::fs::symlink(token, pod.join("..new")).unwrap();
        std::fs::rename(pod.join("..new"), pod.join("..data")).unwrap();
    }

    /// Returns a command with the environment that a pod has.
    pub(crate) fn call(&self, args: &[&str]) -> Call {
        let mut call = Call::bare();
        call.by(&EXECUTABLE);
        call.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        call.args.extend(["--mount-namespace", "/proc/self/ns/mnt"].map(str::to_owned));
        call.set("CNI_BIN_DIR", self.path("bin"))
            .set("CNI_CONF_DIR", self.path("net.d"))
            .set("NODENAME", "n1")
            .set("KUBE_CA_FILE", self.path("pod/ca.crt"))
            .set("KUBERNETES_SERVICE_HOST", "10.96.0.1")
            .set("KUBERNETES_SERVICE_PORT", "443");
        if args[0] == "install" || args.contains(&"--watch") {
            call.args.push(format!("--token-file={}", self.path("pod/token").display()));
        }
        call
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.call(args).run()
    }

    /// Installs for a file store in the sandbox.
    pub(crate) fn install_for_files(&self) {
        self.run(&["install", "--data-dir", self.sandbox.store().to_str().unwrap()]).succeeded();
    }

    pub(crate) fn flat(&self) -> PathBuf {
        self.path("net.d/hereabouts.d/hereabouts.conf")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path("net.d/hereabouts.d/hereabouts.kubeconfig")
    }

    /// Returns the token that the plugin would use.
    pub(crate) fn token(&self) -> String {
        let text = std::fs::read_to_string(self.kubeconfig()).unwrap_or_default();
        text.lines()
            .find_map(|line| line.trim().strip_prefix("token: "))
            .unwrap_or_default()
            .trim_matches('"')
            .to_owned()
    }

    /// Returns all files below the node's two directories, without temporary files.
    pub(crate) fn files(&self) -> Vec<String> {
        let below = |name: &str| crate::support::sandbox::files_below(&self.path(name));
        let is_placed = |file: &&String| !file.contains(".hereabouts-new-");
        let named = |name: &str| {
            below(name)
                .iter()
                .filter(is_placed)
                .map(|file| format!("{name}/{file}"))
                .collect::<Vec<_>>()
        };
        [named("bin"), named("net.d")].concat()
    }

    /// Returns what the running install has printed.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.path("said")).unwrap()
    }

    /// Starts an install that keeps running. It does not sweep, unless an option says so, because
    /// this machine may have a store.
    pub(crate) fn watch(&self, args: &[&str]) -> Watching {
        Watching::start(&self.staying(args), &self.path("said"))
    }

    /// Returns the same without starting it.
    pub(crate) fn staying(&self, args: &[&str]) -> Call {
        let mut call = self.call(args);
        if args[0] == "install" && !args.iter().any(|arg| arg.starts_with("--sweep-every")) {
            call.args.push("--sweep-every=0s".to_owned());
        }
        if args[0] == "uninstall" && !args.iter().any(|arg| arg.starts_with("--idle")) {
            call.args.push("--idle=0s".to_owned());
        }
        call
    }
}

/// Returns inode and time of change of a file, which show whether it was written again.
pub(crate) fn identity(path: &Path) -> (u64, i64, i64) {
    let metadata = path.metadata().unwrap();
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

/// An install or uninstall that keeps running. It is killed when it is dropped.
pub(crate) struct Watching {
    child: Child,
    said: PathBuf,
}

impl Watching {
    pub(crate) fn start(call: &Call, said: &Path) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(said).unwrap();
        let mut child = call
            .command()
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"").unwrap();
        Self { child, said: said.to_owned() }
    }

    /// Makes it check at once, repeatedly, until a condition holds.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Deadline::after(Duration::from_secs(60));
        let held = until(&deadline, || {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "{what}: it has ended: {}",
                self.said()
            );
            if holds() {
                return Ok::<_, ()>(Some(()));
            }
            // The end of any child makes it check, and so does SIGCHLD alone.
            self.signal(Signal::SIGCHLD);
            Ok(None)
        });
        assert_eq!(held, Ok(Some(())), "{what}: {}", self.said());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has printed.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// Asks it to end. Returns its exit status, or `None` if a signal killed it.
    pub(crate) fn end(self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.ended()
    }

    /// Returns the same for one that was asked by other means.
    pub(crate) fn ended(mut self) -> Option<i32> {
        let deadline = Deadline::after(Duration::from_secs(60));
        let status = until(&deadline, || self.child.try_wait()).unwrap();
        status.unwrap_or_else(|| panic!("it does not end: {}", self.said())).code()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
