//! Writes the records of the sandboxes of all nodes.
//!
//! They say that a sandbox holds an address, and not where its namespace is: the import of the node
//! completes that. Until then, such a record counts as alive in the boot of its node.

use super::super::report::Outcome;
use super::found::{Decision, Found, Task};
use crate::cli::locate::{Located, no_node};
use crate::cli::output;
use crate::environment::Environment;
use crate::ipam::{HeldAddress, Record, Scope, Source, Version};
use crate::plugin::stores;
use crate::retry::{Deadline, Stopwatch};
use crate::store::kube::KubeStore;
use crate::store::kube::imported::Imported;
use crate::store::node_identity::NodeIdentity;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, SystemTime};

/// The time limit of one record.
const PATIENCE: Duration = Duration::from_secs(30);
/// The number of connections. More of them load the API server, and gain little.
const CONNECTIONS: usize = 4;
/// How often the progress is shown.
const EVERY: Duration = Duration::from_millis(200);

/// Records every address that would be recorded. What another holder has got meanwhile is left.
///
/// # Errors
/// The API server cannot be asked, or refuses. What was recorded stays, and a repeat is safe.
pub(super) fn write(
    environment: &Environment,
    located: &Located<'_>,
    kubeconfig: &Path,
    decisions: &mut [Decision],
) -> anyhow::Result<()> {
    let mut wanted: Vec<(&Task, &mut Outcome)> =
        decisions.iter_mut().filter_map(Decision::task_and_outcome).collect();
    let progress = Mutex::new(Progress::of(wanted.len()));
    let (settings, now, proxy) = (located.settings(), located.machine.now, &environment.proxy);
    let failed = AtomicBool::new(false);
    let write_some = |wanted: &mut [(&Task, &mut Outcome)]| {
        let host = NodeIdentity { node: no_node()?, machine_id: None, boot_id: String::new() };
        let store = stores::kubernetes(settings, kubeconfig, host, proxy)?.for_dead_node();
        for (task, outcome) in wanted {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            match task {
                Task::Record(found) => **outcome = record(&store, found, now)?,
                Task::Free(scope, address, version) => {
                    if !free(&store, scope, *address, version)? {
                        **outcome = changed();
                    }
                }
            }
            progress.lock().unwrap_or_else(PoisonError::into_inner).step();
        }
        anyhow::Ok(())
    };
    let share = wanted.len().div_ceil(CONNECTIONS).max(1);
    let written = std::thread::scope(|scope| {
        let threads: Vec<_> = wanted
            .chunks_mut(share)
            .map(|wanted| {
                scope.spawn(|| {
                    write_some(wanted).inspect_err(|_| failed.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        // Every thread ends before the first failure is reported.
        let ended: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
        ended.into_iter().try_for_each(|ended| {
            ended.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the import ended early")))
        })
    });
    progress.into_inner().unwrap_or_else(PoisonError::into_inner).end();
    written
}

fn record(store: &KubeStore, found: &Found, now: SystemTime) -> anyhow::Result<Outcome> {
    let record = Record {
        attachment: found.attachment.clone(),
        pod: Some(found.pod.clone()),
        netns: None,
        view: None,
        boot_id: found.boot_id.clone(),
        since: now,
        source: Source::Dynamic,
        part: found.part,
        prefix: found.prefix,
        gateway: found.gateway,
    };
    if let Some(version) = &found.replaces
        && !free(store, &found.scope, found.address, version)?
    {
        return Ok(changed());
    }
    let deadline = Deadline::after(PATIENCE);
    let imported =
        store.import(&found.scope, found.address, &record, &found.node_uid, &deadline)?;
    Ok(match imported {
        Imported::Created => Outcome::New,
        Imported::Held(held) => match &*held {
            HeldAddress::Attachment(known) if known.record.attachment == found.attachment => {
                Outcome::Known
            }
            other => Outcome::Left {
                reason: format!("meanwhile it was recorded for {}", other.holder()),
                hint: "repeat the import, and compare the pods".to_owned(),
            },
        },
    })
}

/// Removes an imported record. Returns false if it has changed, for instance because its node has
/// completed it.
fn free(
    store: &KubeStore,
    scope: &Scope,
    address: IpAddr,
    version: &Version,
) -> anyhow::Result<bool> {
    Ok(store.discard(scope, address, version, &Deadline::after(PATIENCE))?)
}

fn changed() -> Outcome {
    Outcome::Left {
        reason: "its record has changed meanwhile".to_owned(),
        hint: "repeat the import".to_owned(),
    }
}

/// Shows how far the writing is, on a terminal.
struct Progress {
    all: usize,
    done: usize,
    /// `None` if nothing is shown.
    shown: Option<Stopwatch>,
}

impl Progress {
    fn of(all: usize) -> Self {
        let shown = std::io::stderr().is_terminal().then(Stopwatch::default);
        Self { all, done: 0, shown }
    }

    fn step(&mut self) {
        self.done += 1;
        if let Some(shown) = self.shown.as_mut().filter(|shown| EVERY <= shown.elapsed()) {
            *shown = Stopwatch::default();
            self.print();
        }
    }

    fn print(&self) {
        let width = 40;
        let filled = self.done * width / self.all.max(1);
        let bar = "#".repeat(filled) + &" ".repeat(width - filled);
        output::progress(&format!("[{bar}] {} of {}", self.done, self.all));
    }

    fn end(&self) {
        if self.shown.is_some() {
            output::progress("");
        }
    }
}
