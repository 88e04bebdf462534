//! `install` and `uninstall`: put the plugin on a node and remove it. An operator runs them once.
//! The DaemonSet of deploy/ runs them with --watch.
//!
//! - `options`: flags, variables and defaults; `plan`: the decisions that follow from them
//! - `flat_file`, `kubeconfig`: the two files that install writes; `files` writes them
//! - `atomic_write`: writes a file completely or not at all
//! - `store_guard`: decides whether another store may replace the current one
//! - `executables_aside`: prevents the start of plugin calls while that is decided
//! - `remove`, `check`: uninstall, and `--check`
//! - `file_store`: creates a file store
//! - `watch`: repeats the steps of `--watch`; `periodic` runs repair and sweep, `slice_looks` says
//!   when slices are looked at, `move_looks` looks at the move from Whereabouts, `debt_settlement` settles debts, `restored_cluster` makes a repair urgent, `probe_status` answers probes,
//!   `drain` is `uninstall --watch`
//!
//! None of them connects to the API server. They run the plugin as a process, which does.

mod atomic_write;
mod check;
mod debt_settlement;
mod drain;
mod executables_aside;
mod file_store;
mod files;
mod flat_file;
mod kubeconfig;
mod move_looks;
mod options;
mod periodic;
mod plan;
mod probe_status;
mod remove;
mod restored_cluster;
mod slice_looks;
mod store_guard;
mod watch;

pub(super) use options::{InstallArgs, UninstallArgs};

use super::{HintedError, UsageError, output};
use crate::environment::Environment;
use crate::retry::{Deadline, until};
use anyhow::Context;
use debt_settlement::DebtSettlement;
use drain::Drain;
use executables_aside::ExecutablesAside;
use files::Files;
use move_looks::MoveLooks;
use periodic::PeriodicTasks;
use plan::Plan;
use probe_status::ProbeStatus;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;
use store_guard::StoreGuard;

/// The mount namespace in which a runtime's namespaces are visible: that of the machine's first
/// process.
const HOST_MOUNTS: &str = "/proc/1/ns/mnt";

pub(super) fn install(
    environment: &Environment,
    args: &InstallArgs,
    namespace: Option<&Path>,
) -> anyhow::Result<()> {
    let mut plan = Plan::to_install(environment, args)?;
    let namespace = namespace.unwrap_or(Path::new(HOST_MOUNTS));
    file_store::name(&mut plan, namespace, args.check)?;
    if args.check {
        return check::installed(&plan, namespace, args.offline);
    }
    require_bin_dir(&plan)?;
    if !args.watch && !args.force {
        check::token(&plan)?;
    }
    let mut files = Files::new(plan)?;
    let mut change = StoreGuard::new(environment, namespace, !args.watch);
    let mut allow =
        |plan: &Plan| if args.force { Ok(ExecutablesAside::default()) } else { change.allow(plan) };
    if !args.watch {
        let changes = files.put(&mut allow)?;
        if changes.is_empty() {
            output::say("hereabouts is already installed");
        }
        return say_each(&changes);
    }
    // Only the token of the pod itself: a kubeconfig may have been copied with an image.
    let token = files.plan.credentials.as_ref().map(|credentials| credentials.token_file.clone());
    let (flat, every) = (files.plan.flat_path(), args.sweep_every);
    let mut tasks = PeriodicTasks::new(namespace, flat, every, token, args.whereabouts);
    let mut settling = DebtSettlement::new(namespace, files.plan.flat_path());
    let mut moves = MoveLooks::new(namespace, files.plan.flat_path(), &files.plan.bin_dir);
    let mut beside = |ends| {
        tasks.turn(ends);
        settling.turn(ends);
        moves.turn(ends);
    };
    let mut running = ProbeStatus::new(files.plan.directory.clone());
    let mut step = || {
        let written = files.put(&mut allow);
        running.publish(&written);
        written
    };
    watch::watch(&mut step, &mut beside)
}

pub(super) fn uninstall(
    environment: &Environment,
    args: &UninstallArgs,
    namespace: Option<&Path>,
) -> anyhow::Result<()> {
    let plan = Plan::to_uninstall(environment, args)?;
    let namespace = namespace.unwrap_or(Path::new(HOST_MOUNTS));
    if args.check {
        return check::removed(&plan);
    }
    if args.watch {
        let mut settling = DebtSettlement::new(namespace, plan.flat_path());
        let mut drain = Drain::new(Files::new(plan)?, namespace, args.idle);
        return watch::watch(&mut || drain.step(), &mut |ends| settling.turn(ends));
    }
    let changes = remove::remove(&plan, namespace, args.force)?;
    if changes.is_empty() {
        output::say("hereabouts is not installed here");
    }
    say_each(&changes)
}

/// Refuses if the directory for the plugin does not exist. No runtime would look in a directory
/// that install creates.
fn require_bin_dir(plan: &Plan) -> anyhow::Result<()> {
    if plan.bin_dir.is_dir() {
        return Ok(());
    }
    let message = format!("the runtime's plugin directory is missing: {}", plan.bin_dir.display());
    Err(UsageError::hinted(message, "pass another one with --bin-dir").into())
}

/// Returns the plugin as a command that runs where the node's own files and the runtime's
/// namespaces are visible. It gets nothing of our environment.
fn on_the_host(namespace: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--mount-namespace").arg(namespace).env_clear();
    command
}

/// The time that the end of this process waits for a command that it has killed.
const LAST: Duration = Duration::from_secs(2);

/// Returns how a command that was started has ended, or `None` while it runs. It is killed when its
/// time is over or at the `end`. On a filesystem that hangs, a process survives its kill. It is not
/// waited for, so that the token is still renewed; only the `end` waits for a moment.
fn reap(child: &mut Child, limit: &Deadline, end: bool) -> Option<io::Result<ExitStatus>> {
    if end || limit.left().is_zero() {
        let _ = child.kill();
    }
    if end {
        until(&Deadline::after(LAST), || child.try_wait()).transpose()
    } else {
        child.try_wait().transpose()
    }
}

/// Returns the path at which the node's own `/` is visible. `namespace` is its mount namespace,
/// below a process of that namespace in /proc.
fn host_root(namespace: &Path) -> PathBuf {
    let process =
        namespace.parent().and_then(Path::parent).filter(|_| namespace.ends_with("ns/mnt"));
    process.map_or_else(|| PathBuf::from("/"), |process| process.join("root"))
}

/// Returns the error that a command of ours has printed, with its hint.
fn error_of(said: &str) -> String {
    let find = |mark: &str| said.lines().rev().find_map(|line| line.strip_prefix(mark));
    match (find("error: "), find("hint: ")) {
        (Some(error), Some(hint)) => format!("{error}; hint: {hint}"),
        (Some(error), None) => error.to_owned(),
        (None, _) => said.lines().last().unwrap_or_default().to_owned(),
    }
}

fn say_each(changes: &[String]) -> anyhow::Result<()> {
    changes.iter().for_each(|change| output::say(change));
    Ok(())
}

/// Enters another mount namespace. From then on, all paths are those of that namespace.
///
/// # Errors
/// The namespace does not exist, or this process may not enter it.
pub(super) fn enter_mount_namespace(path: &Path) -> anyhow::Result<()> {
    use nix::sched::{CloneFlags, setns};
    let named = || format!("cannot enter the mount namespace {}", path.display());
    let target = std::fs::File::open(path).map_err(|error| {
        HintedError::new(
            format!("{}: {error}", named()),
            "run it as root, and in a pod with hostPID and SYS_PTRACE",
        )
    })?;
    let identity = |stat: nix::sys::stat::FileStat| (stat.st_dev, stat.st_ino);
    let own =
        nix::sys::stat::stat("/proc/self/ns/mnt").context("cannot look at /proc/self/ns/mnt")?;
    if nix::sys::stat::fstat(&target).is_ok_and(|stat| identity(stat) == identity(own)) {
        return Ok(());
    }
    setns(&target, CloneFlags::CLONE_NEWNS).map_err(|error| {
        HintedError::new(
            format!("{}: {error}", named()),
            "run it with SYS_ADMIN, SYS_CHROOT and SYS_PTRACE, and in a pod with hostPID",
        )
    })?;
    std::env::set_current_dir("/").context("cannot go to / of the mount namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_files_are_seen_through_the_process_whose_mounts_they_are_in() {
        for (namespace, root) in
            [("/proc/1/ns/mnt", "/proc/1/root"), ("/run/mounts", "/"), ("mnt", "/")]
        {
            assert_eq!(host_root(Path::new(namespace)), Path::new(root), "{namespace}");
        }
    }

    /// Returns a field that the kernel shows for a process.
    fn status_field(process: &str, key: &str) -> Option<String> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        status
            .lines()
            .find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// A process whose tracer is stopped. Until the tracer continues, the end of the process is not
    /// reported, as with a process that waits for a disk that hangs.
    #[test]
    fn a_command_that_outlasts_its_kill_is_not_waited_for() {
        use nix::sys::signal::{Signal, kill};
        // -D: the child is the command, and its tracer is a separate process.
        let words = ["-D", "-qq", "-o", "/dev/null", "-e", "trace=none", "sleep", "1000"];
        let mut child = Command::new("strace")
            .args(words)
            .spawn()
            .expect("strace is there, as for the tests of kills");
        let minute = || Deadline::after(Duration::from_secs(60));
        let process = child.id().to_string();
        let is_traced = || {
            status_field(&process, "Name")
                .filter(|name| name == "sleep")
                .and_then(|_| status_field(&process, "TracerPid"))
        };
        let tracer =
            until(&minute(), || Ok::<_, io::Error>(is_traced().filter(|tracer| tracer != "0")))
                .unwrap()
                .unwrap();
        let id = nix::unistd::Pid::from_raw(tracer.parse().unwrap());
        kill(id, Signal::SIGSTOP).unwrap();
        let stands = || status_field(&tracer, "State").filter(|state| state.starts_with('T'));
        until(&minute(), || Ok::<_, io::Error>(stands())).unwrap().unwrap();

        // A wait for the process would last until the tracer has ended.
        let (said, heard) = std::sync::mpsc::channel::<()>();
        let freed = std::thread::spawn(move || {
            let in_time = heard.recv_timeout(Duration::from_secs(30)).is_ok();
            kill(id, Signal::SIGKILL).unwrap();
            in_time
        });
        let over = Deadline::after(Duration::ZERO);
        let ended = [
            reap(&mut child, &over, false),
            reap(&mut child, &over, false),
            reap(&mut child, &minute(), true),
        ];
        let _ = said.send(());
        assert!(freed.join().unwrap() && ended.iter().all(Option::is_none), "{ended:?}");
        assert!(child.wait().is_ok());
    }
}
