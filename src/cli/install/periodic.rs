//! Runs the periodic tasks of `install --watch`: `slices sync` on a node that has slices, when
//! `slice_looks` says so; `import whereabouts`, where hereabouts is installed under that name; `repair`, for records of this node that the cluster may have lost, and
//! `sweep` right after it. `repair` also runs at once if a call has seen
//! that the cluster was restored to an older state. Each task is a process of its own in the host's
//! mount namespace, because only there do the paths of the runtime's namespaces lead to them. Seen
//! from elsewhere, nothing counts as dead.

use super::restored_cluster::SetBack;
use super::slice_looks::SliceLooks;
use super::watch::Pause;
use crate::cli::output;
use crate::retry::{Deadline, jittered};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// The time to the first run: soon after the start, but not on all nodes at once.
const SOON: Duration = Duration::from_secs(60);
/// The limit for one run, which no run needs.
const LIMIT: Duration = Duration::from_secs(600);

/// The state of the periodic tasks. See the module.
pub(super) struct PeriodicTasks<'a> {
    namespace: &'a Path,
    flat: PathBuf,
    every: Duration,
    due: Deadline,
    repaired: bool,
    running: Option<ProbeStatus>,
    set_back: SetBack,
    /// The token of the pod, if there is one. `take-over` needs it as evidence.
    token: Option<PathBuf>,
    taken_over: bool,
    /// Whether the pods of Whereabouts are to be imported, and whether this is done until the next
    /// sweep.
    imports: bool,
    imported: bool,
    /// When an import that has failed is repeated: long before the next sweep.
    import_again: Pause,
    slices: SliceLooks,
}

/// Returns the time from one sweep to the next. It differs between nodes, and is `every` on
/// average.
fn next(every: Duration) -> Duration {
    (every / 2).saturating_add(jittered(every))
}

struct ProbeStatus {
    child: Child,
    limit: Deadline,
    command: &'static str,
    is_urgent: bool,
}

impl<'a> PeriodicTasks<'a> {
    /// Creates the state. No task runs if `every` is zero.
    pub(super) fn new(
        namespace: &'a Path,
        flat: PathBuf,
        every: Duration,
        token: Option<PathBuf>,
        imports: bool,
    ) -> Self {
        let soon = SOON.min(every);
        let due = Deadline::after(jittered(soon).saturating_sub(soon / 2));
        let set_back = SetBack::new(namespace, flat.clone());
        let slices = SliceLooks::new(super::host_root(namespace), &flat);
        Self {
            namespace,
            flat,
            every,
            due,
            repaired: false,
            running: None,
            set_back,
            token,
            taken_over: false,
            imports,
            imported: false,
            import_again: Pause::default(),
            slices,
        }
    }

    /// Starts what is due and reaps what has ended. `end` kills the running process, which is safe
    /// at any moment.
    pub(super) fn turn(&mut self, end: bool) {
        if let Some(ProbeStatus { child, limit, command, is_urgent }) = &mut self.running {
            let Some(ended) = super::reap(child, limit, end) else {
                return;
            };
            let is_done = ended.is_ok_and(|status| status.success());
            if *is_urgent {
                self.set_back.ended(is_done);
            }
            match *command {
                "slices" => self.slices.ended(),
                "import" => self.imported = is_done,
                _ => {}
            }
            self.running = None;
        }
        if end || self.every.is_zero() {
            return;
        }
        // At once: a diskless node gets its addresses back before its pods need them.
        if !self.taken_over && self.token.is_some() {
            self.taken_over = true;
            self.start("take-over", false);
            return;
        }
        // At once: until then, a DEL that is lost would keep its address until the next boot.
        // An API server that has just started may refuse what it allows a moment later. What fails
        // for minutes waits for the next sweep: it may fail for good.
        if self.imports
            && !self.imported
            && !self.import_again.is_longest()
            && self.import_again.is_over()
        {
            self.start("import", false);
            return;
        }
        if self.set_back.is_due() {
            output::say("the cluster was restored to an older state; repairing now");
            self.start("repair", true);
            return;
        }
        if self.slices.is_due(&self.flat) {
            self.start("slices", false);
            return;
        }
        if !self.due.left().is_zero() {
            return;
        }
        self.start(if self.repaired { "sweep" } else { "repair" }, false);
        if self.repaired {
            (self.taken_over, self.imported) = (false, false);
            self.import_again = Pause::default();
            self.due = Deadline::after(next(self.every));
        }
        self.repaired = !self.repaired;
    }

    fn start(&mut self, command: &'static str, is_urgent: bool) {
        match self.spawn(command) {
            Ok(child) => {
                let limit = Deadline::after(LIMIT);
                self.running = Some(ProbeStatus { child, limit, command, is_urgent });
            }
            Err(error) => output::say(&format!("error: cannot start {command}: {error}")),
        }
    }

    fn spawn(&self, command: &str) -> std::io::Result<Child> {
        let token = self
            .token
            .as_ref()
            .filter(|_| command == "take-over")
            .map(std::fs::File::open)
            .transpose()?;
        let args: &[&str] = match command {
            "slices" => &["slices", "sync"],
            "import" => &["import", "whereabouts"],
            _ if token.is_some() => &[command],
            _ => &[command, "--yes"],
        };
        super::on_the_host(self.namespace)
            .args(args)
            .env(crate::plugin::machine::CONFIG_VARIABLE, &self.flat)
            .stdin(token.map_or_else(Stdio::null, Stdio::from))
            .spawn()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_between_two_sweeps_is_too_long() {
        let hour = Duration::from_secs(3600);
        for _ in 0..100 {
            assert!(hour <= next(hour) && next(hour) <= hour + hour / 2);
        }
        assert!(Duration::MAX / 2 <= next(Duration::MAX));
    }
}
