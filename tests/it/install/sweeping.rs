//! The processes that `install --watch` starts, in the mount namespace that it is told: a dead
//! sandbox's address is freed from where the sandbox was seen to be gone, and from nowhere else.

use super::node::{Node, Watching};
use crate::support::living::Living;
use crate::support::sandbox::configuration;
use crate::support::stopped::has_strace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Read;
use std::process::{Child, Command, Stdio};

/// The host of a pod: a mount namespace with a filesystem for the runtime's namespaces that no
/// other namespace sees.
struct Host(Child);

impl Host {
    fn new(node: &Node) -> Option<Self> {
        std::fs::create_dir(node.path("netns")).unwrap();
        let script = r#"mount -t tmpfs none "$0" && echo held && read x"#;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .arg(node.path("netns"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().ok()?;
        child.stdout.as_mut()?.read_exact(&mut [0; 4]).ok()?;
        Some(Self(child))
    }

    fn mounts(&self) -> String {
        format!("/proc/{}/ns/mnt", self.0.id())
    }

    fn entering(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--mount={}", self.mounts())]
    }

    fn run(&self, script: &str, args: &[&str]) {
        let [program, mount] = self.entering();
        assert!(
            Command::new(program)
                .args([&mount, "sh", "-c", script])
                .args(args)
                .status()
                .unwrap()
                .success(),
            "{script}"
        );
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A process that outlasts its kill, like a process that waits for a disk that hangs: its tracer is
/// stopped, and until it continues, the end of the process is not reported.
struct HeldUp {
    process: String,
    tracer: Child,
}

impl HeldUp {
    /// Returns `None` if it has ended in the meantime.
    fn new(process: &str) -> Option<Self> {
        let mut command = Command::new("strace");
        let tracer = command
            .args(["-qq", "-o", "/dev/null", "-e", "trace=none", "-p", process])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let held_up = Self { process: process.to_owned(), tracer };
        let id = held_up.tracer.id().to_string();
        loop {
            match status_field(process, "TracerPid") {
                Some(tracer) if tracer == id => break,
                Some(_)
                    if status_field(&id, "State").is_some_and(|state| !state.starts_with('Z')) =>
                {
                    std::thread::yield_now()
                }
                _ => return None,
            }
        }
        kill(Pid::from_raw(id.parse().unwrap()), Signal::SIGSTOP).unwrap();
        while !status_field(&id, "State")?.starts_with('T') {
            std::thread::yield_now();
        }
        Some(held_up).filter(Self::is_there)
    }

    fn is_there(&self) -> bool {
        status_field(&self.process, "TracerPid")
            .is_some_and(|tracer| tracer == self.tracer.id().to_string())
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        let _ = self.tracer.kill();
        let _ = self.tracer.wait();
    }
}

/// Returns a field that the kernel shows for a process.
fn status_field(process: &str, key: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status
        .lines()
        .find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
}

/// Returns a node whose watch starts a sweep that waits for the store's lock, which is held.
fn sweeping_in_vain() -> (Node, Watching, std::fs::File) {
    let node = Node::new();
    node.install_for_files();
    node.sandbox.call("ADD").stdin(configuration(r#""range":"10.1.2.0/24""#)).run().succeeded();
    // A FIFO in place of the flat file would be refused, so the sweep waits for the store's lock.
    let lock = std::fs::File::open(node.sandbox.store()).unwrap();
    lock.lock().unwrap();
    let watching = node.watch(&[
        "install",
        "--watch",
        "--sweep-every=1s",
        "--data-dir",
        node.sandbox.store().to_str().unwrap(),
    ]);
    (node, watching, lock)
}

fn held(node: &Node) -> usize {
    node.sandbox.held().len()
}

#[test]
fn sweep_frees_from_the_hosts_mounts_and_nothing_from_a_pods() {
    let node = Node::new();
    let (Some(living), Some(host)) = (Living::new(), Host::new(&node)) else {
        return skipped!("no root, no namespaces");
    };
    let netns = node.path("netns/pod");
    let netns = netns.to_str().unwrap();
    host.run(r#"touch "$1" && mount --bind "$0" "$1""#, &[&living.path(), netns]);
    let mut add = node.sandbox.call("ADD");
    add.through(&host.entering())
        .set("CNI_NETNS", netns)
        .stdin(configuration(r#""range":"10.1.2.0/24""#))
        .run()
        .succeeded();

    let every = "--sweep-every=1s";
    let install = |mounts: &str, said: &str| {
        let mut call = node.call(&[
            "install",
            "--watch",
            every,
            "--data-dir",
            node.sandbox.store().to_str().unwrap(),
        ]);
        let at = call.args.iter().position(|arg| arg == "--mount-namespace").unwrap();
        call.args[at + 1] = mounts.to_owned();
        Watching::start(&call, &node.path(said))
    };
    // How often it has checked: each repair and sweep reports what there was to do.
    let looks = |said: &str| {
        std::fs::read_to_string(node.path(said)).unwrap().matches("nothing to ").count()
    };

    let mut at_home = install(&host.mounts(), "living");
    at_home.until("a sweep while the sandbox lives", || looks("living") >= 2);
    assert_eq!(held(&node), 1);
    assert_eq!(at_home.end(Signal::SIGTERM), Some(0));

    host.run(r#"umount "$0" && rm "$0""#, &[netns]);
    let mut foreign = install("/proc/self/ns/mnt", "foreign");
    foreign.until("a sweep in a foreign namespace", || looks("foreign") >= 2);
    assert_eq!(held(&node), 1, "{}", foreign.said());
    assert_eq!(foreign.end(Signal::SIGTERM), Some(0));

    let mut at_home = install(&host.mounts(), "dead");
    at_home.until("a sweep of the dead", || held(&node) == 0);
    at_home.until("its word", || {
        std::fs::read_to_string(node.path("dead")).unwrap().contains("released 10.1.2.1")
    });
}

#[test]
fn a_namespace_that_cannot_be_entered_is_said_and_frees_nothing() {
    let node = Node::new();
    node.install_for_files();
    let mut add = node.sandbox.call("ADD");
    add.stdin(configuration(r#""range":"10.1.2.0/24""#)).run().succeeded();
    assert_eq!(held(&node), 1);
    let ended = node.sandbox.command(&["--mount-namespace", "/proc/self/ns/net", "sweep", "--yes"]);
    assert!(
        ended.status == Some(1) && ended.stderr.contains("cannot enter the mount namespace"),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("SYS_ADMIN"), "{ended:?}");
    let ended = node.sandbox.command(&["--mount-namespace", "/nonexistent", "sweep", "--yes"]);
    assert!(
        ended.status == Some(1) && ended.stderr.contains("cannot enter the mount namespace"),
        "{ended:?}"
    );
    assert_eq!(held(&node), 1);
}

#[test]
fn a_sweep_that_stands_still_does_not_keep_it_from_ending() {
    let (node, mut watching, _lock) = sweeping_in_vain();
    let children = format!("/proc/{0}/task/{0}/children", watching.id());
    watching.until("a child", || !std::fs::read_to_string(&children).unwrap().is_empty());
    assert_eq!(watching.end(Signal::SIGTERM), Some(0));
    assert_eq!(held(&node), 1);
}

/// Cause: at its end it waited for the sweep that it had killed, and a process that waits for a
/// disk or a server outlasts its kill. Effect: the pod was ended by force, after its whole grace
/// period. Fix: the wait has a limit.
#[test]
fn a_sweep_that_outlasts_its_kill_does_not_keep_it_from_ending() {
    if !has_strace() {
        return skipped!("no strace");
    }
    let (_node, mut watching, _lock) = sweeping_in_vain();
    let children = format!("/proc/{0}/task/{0}/children", watching.id());
    let mut held_up = None;
    watching.until("a sweep that outlasts its kill", || {
        let children = std::fs::read_to_string(&children).unwrap();
        let is_sweep = |child: &&str| {
            std::fs::read(format!("/proc/{child}/cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"sweep"))
        };
        held_up = children.split_whitespace().find(is_sweep).and_then(HeldUp::new);
        held_up.is_some()
    });
    assert_eq!(watching.end(Signal::SIGTERM), Some(0));
    assert!(held_up.unwrap().is_there(), "the sweep did not outlast its kill");
}

#[test]
fn an_import_that_fails_is_repeated_long_before_the_next_sweep() {
    let node = Node::new();
    // The CA of this pod is none, so no request is made.
    let mut watching = node.watch(&["install", "--watch", "--whereabouts", "--sweep-every=1000h"]);
    // The first repair and the first sweep fail, too, and one import follows that sweep.
    let failed = || node.said().matches("\nerror: kubernetes.kubeconfig: ").count();
    watching.until("more imports", || 5 <= failed());
    assert_eq!(watching.end(Signal::SIGTERM), Some(0));
}
