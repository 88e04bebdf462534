//! `install` and `uninstall`: the plugin on a node. A person runs them once; the
//! DaemonSet of deploy/ runs them with --watch.
//!
//! `options` knows flags, variables and defaults, `files` what is written,
//! `change` whether it may be, `quiet` that it stays so, `place` how: whole or not
//! at all. `watch` stays, `chores` and `settling` are what it runs beside,
//! `set_back` tells when one is urgent, `leaving` is what `uninstall` does instead;
//! `remove` and `check` say it themselves, `store` makes a store of files. None of
//! them talks to the API server:
//! the plugin itself is asked, as it is installed.

mod change;
mod check;
mod chores;
mod files;
mod leaving;
mod options;
mod place;
mod quiet;
mod remove;
mod set_back;
mod settling;
mod store;
mod watch;

pub(super) use options::{InstallArgs, UninstallArgs};

use super::{Lookup, StoreArgs, Usage, output};
use crate::store::retry::Deadline;
use anyhow::Context;
use change::Change;
use chores::Chores;
use files::Files;
use leaving::Leaving;
use options::Plan;
use quiet::Quiet;
use settling::Settling;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

/// The mount namespace in which a runtime's namespaces are seen: that of the
/// machine's first process.
const HOST_MOUNTS: &str = "/proc/1/ns/mnt";

pub(super) fn install(lookup: Lookup<'_>, store: &StoreArgs, args: &InstallArgs, namespace: Option<&Path>) -> anyhow::Result<()> {
    let mut plan = Plan::to_install(lookup, store, args)?;
    let namespace = namespace.unwrap_or(Path::new(HOST_MOUNTS));
    store::name(&mut plan, namespace, args.check)?;
    if args.check {
        return check::installed(&plan, namespace, args.offline);
    }
    require_bin_dir(&plan)?;
    if !args.watch && !args.force {
        check::token(&plan)?;
    }
    let mut files = Files::new(plan)?;
    let mut change = Change::new(lookup, namespace, !args.watch);
    let mut allow = |plan: &Plan| if args.force { Ok(Quiet::default()) } else { change.allow(plan) };
    if !args.watch {
        let changes = files.put(&mut allow)?;
        if changes.is_empty() {
            output::say("all is in place");
        }
        return say_each(&changes);
    }
    // Of the pod itself: a kubeconfig may have been copied with an image.
    let token = files.plan.credentials.as_ref().map(|credentials| credentials.token_file.clone());
    let mut chores = Chores::new(namespace, files.plan.flat_path(), args.sweep_every, token);
    let mut settling = Settling::new(namespace, files.plan.flat_path());
    let mut beside = |ends| {
        chores.turn(ends);
        settling.turn(ends);
    };
    watch::watch(&mut || files.put(&mut allow), &mut beside)
}

pub(super) fn uninstall(lookup: Lookup<'_>, store: &StoreArgs, args: &UninstallArgs, namespace: Option<&Path>) -> anyhow::Result<()> {
    let plan = Plan::to_uninstall(lookup, store, args)?;
    let namespace = namespace.unwrap_or(Path::new(HOST_MOUNTS));
    if args.check {
        return check::removed(&plan);
    }
    if args.watch {
        let mut settling = Settling::new(namespace, plan.flat_path());
        let mut leaving = Leaving::new(Files::new(plan)?, namespace);
        return watch::watch(&mut || leaving.step(), &mut |ends| settling.turn(ends));
    }
    let changes = remove::remove(&plan, namespace, args.force)?;
    if changes.is_empty() {
        output::say("nothing of hereabouts is installed here");
    }
    say_each(&changes)
}

/// A directory that was made for the plugin would be one where nobody looks.
fn require_bin_dir(plan: &Plan) -> anyhow::Result<()> {
    if plan.bin_dir.is_dir() {
        return Ok(());
    }
    Err(Usage(format!("expected the directory of the runtime's plugins, give --bin-dir: {}", plan.bin_dir.display())).into())
}

/// The plugin as a command, run where the node's own files and the runtime's
/// namespaces are seen, with nothing of our environment.
fn on_the_host(namespace: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--mount-namespace").arg(namespace).env_clear();
    command
}

/// How a command that was started has ended; `None` while it runs. It is killed
/// when its time is over or at the `end`, which alone waits: on a filesystem that
/// hangs a process outlasts its kill, and the token is renewed meanwhile.
fn reap(child: &mut Child, limit: &Deadline, end: bool) -> Option<io::Result<ExitStatus>> {
    if end || limit.left().is_zero() {
        let _ = child.kill();
    }
    if end { Some(child.wait()) } else { child.try_wait().transpose() }
}

/// Where the node's own `/` is seen: `namespace` is its mount namespace, below a
/// process of it in /proc.
fn host_root(namespace: &Path) -> PathBuf {
    let process = namespace.parent().and_then(Path::parent).filter(|_| namespace.ends_with("ns/mnt"));
    process.map_or_else(|| PathBuf::from("/"), |process| process.join("root"))
}

fn say_each(changes: &[String]) -> anyhow::Result<()> {
    changes.iter().for_each(|change| output::say(change));
    Ok(())
}

/// Goes to another mount namespace. Paths mean from here on what they mean
/// there.
///
/// # Errors
/// It is not there, or this process may not enter it.
pub(super) fn enter_mount_namespace(path: &Path) -> anyhow::Result<()> {
    use nix::sched::{CloneFlags, setns};
    let named = || format!("cannot enter the mount namespace {}", path.display());
    let target = std::fs::File::open(path).with_context(|| format!("{}, it takes root, and in a pod hostPID and SYS_PTRACE", named()))?;
    let identity = |stat: nix::sys::stat::FileStat| (stat.st_dev, stat.st_ino);
    let own = nix::sys::stat::stat("/proc/self/ns/mnt").context("cannot look at /proc/self/ns/mnt")?;
    if nix::sys::stat::fstat(&target).is_ok_and(|stat| identity(stat) == identity(own)) {
        return Ok(());
    }
    setns(&target, CloneFlags::CLONE_NEWNS)
        .with_context(|| format!("{}, it takes the capabilities SYS_ADMIN, SYS_CHROOT and SYS_PTRACE, and in a pod hostPID", named()))?;
    std::env::set_current_dir("/").context("cannot go to / of the mount namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_files_are_seen_through_the_process_whose_mounts_they_are_in() {
        for (namespace, root) in [("/proc/1/ns/mnt", "/proc/1/root"), ("/run/mounts", "/"), ("mnt", "/")] {
            assert_eq!(host_root(Path::new(namespace)), Path::new(root), "{namespace}");
        }
    }
}
