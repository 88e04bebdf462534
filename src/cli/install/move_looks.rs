//! The node's part in a move from Whereabouts, for `install --watch`: `move answer` notes the state
//! durably and answers, every ten seconds while it says so, else once a minute. It is a process of
//! its own in the host's mount namespace, where the node state is.

use super::atomic_write::is_our_executable;
use super::flat_file;
use crate::cli::moving::answer::SOON;
use crate::cli::output;
use crate::config::StoreKind;
use crate::plugin::machine::{CONFIG_VARIABLE, read_small};
use crate::retry::{Deadline, jittered};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// The time between two looks while Whereabouts must see the node's addresses, or after a new state.
const OFTEN: Duration = Duration::from_secs(10);
/// Otherwise, from half of this to one and a half.
const SELDOM: Duration = Duration::from_secs(60);
/// The limit for one look.
const LIMIT: Duration = Duration::from_secs(60);
/// How much is read of what a look prints.
const MOST: u64 = 4096;

/// See the module.
pub(super) struct MoveLooks<'a> {
    namespace: &'a Path,
    flat: PathBuf,
    executable: Whereabouts,
    due: Deadline,
    running: Option<(Child, Deadline)>,
    /// The error of the last look.
    failure: String,
}

impl<'a> MoveLooks<'a> {
    pub(super) fn new(namespace: &'a Path, flat: PathBuf, bin_dir: &Path) -> Self {
        Self {
            namespace,
            flat,
            executable: Whereabouts { path: bin_dir.join("whereabouts"), seen: None },
            due: Deadline::after(Duration::ZERO),
            running: None,
            failure: String::new(),
        }
    }

    /// Starts what is due and reaps what has ended. `end` kills the running process, which is safe
    /// at any moment.
    pub(super) fn turn(&mut self, end: bool) {
        if let Some((child, limit)) = &mut self.running {
            let Some(ended) = super::reap(child, limit, end) else { return };
            let [said, errors] = [text(child.stdout.take()), text(child.stderr.take())];
            let failed = !ended.is_ok_and(|status| status.success());
            self.running = None;
            if !end {
                self.ended(failed, &said, &errors);
            }
        }
        if end || !self.due.left().is_zero() || !self.has_a_cluster() {
            return;
        }
        self.due = Deadline::after(OFTEN);
        match self.start() {
            Ok(child) => self.running = Some((child, Deadline::after(LIMIT))),
            Err(error) => self.say(format!("cannot start the look at the move: {error}")),
        }
    }

    fn ended(&mut self, failed: bool, said: &str, errors: &str) {
        let is_soon = said.trim() == SOON;
        self.due = Deadline::after(match failed || is_soon {
            true => OFTEN,
            false => SELDOM / 2 + jittered(SELDOM),
        });
        match failed {
            true => self.say(format!("the move: {}", super::error_of(errors))),
            false => self.failure.clear(),
        }
    }

    /// Prints an error, if it is another one than before.
    fn say(&mut self, error: String) {
        if error != self.failure {
            output::say(&format!("error: {error}"));
        }
        self.failure = error;
    }

    /// Returns whether the flat file names an API server.
    fn has_a_cluster(&self) -> bool {
        let read = read_small(&self.flat).ok();
        let flat = read.and_then(|bytes| flat_file::read_flat(&self.flat, &bytes).ok());
        flat.is_some_and(|flat| matches!(flat.store.kind, StoreKind::Kubernetes { .. }))
    }

    fn start(&mut self) -> std::io::Result<Child> {
        super::on_the_host(self.namespace)
            .args(["move", "answer", "--executable", self.executable.whose()])
            .env(CONFIG_VARIABLE, &self.flat)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

/// The executable `whereabouts` of the node.
struct Whereabouts {
    path: PathBuf,
    /// What it was at the last look: it is read again only after a change.
    seen: Option<(Identity, &'static str)>,
}

/// What changes when a file is replaced: device, inode, size and time of the last change.
type Identity = (u64, u64, u64, i64);

impl Whereabouts {
    /// Returns whose it is. One that cannot be read is another program.
    fn whose(&mut self) -> &'static str {
        let Ok(found) = self.path.metadata() else {
            self.seen = None;
            return if self.path.symlink_metadata().is_ok() { "other" } else { "none" };
        };
        let identity = (found.dev(), found.ino(), found.size(), found.ctime());
        if let Some((seen, whose)) = self.seen
            && seen == identity
        {
            return whose;
        }
        let is_ours = is_our_executable(&self.path).unwrap_or(false);
        let whose = if is_ours { "hereabouts" } else { "other" };
        self.seen = Some((identity, whose));
        whose
    }
}

/// Returns what a process has printed.
fn text(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(MOST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
