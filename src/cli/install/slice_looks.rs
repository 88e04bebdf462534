//! When `install --watch` looks at the node's slices: each minute, and soon after a pod got or gave
//! back an address there, if that is the first change after a quiet minute. The look itself is
//! `slices sync`, a process of its own, which also publishes what is held.
//!
//! A change is seen at the directories with the records: each claim and each release changes the
//! time of one of them. That costs a few stat(2) and no request.

use super::flat_file;
use crate::config::StoreKind;
use crate::plugin::machine::read_small;
use crate::retry::{Deadline, jittered};
use crate::store::sliced::DIRECTORY as SLICES;
use std::fs::{DirEntry, read_dir};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time from one look to the next, if nothing changes.
const EVERY: Duration = Duration::from_secs(60);
/// The shortest time from a look at a change to the next one: a little more than the minute between
/// two writes of a status.
const QUIET: Duration = Duration::from_secs(62);
/// By how much that time differs between nodes.
const SPREAD: Duration = Duration::from_secs(4);
/// The most directories that are looked at. One has the addresses of a /24 or a /120.
const MOST: usize = 4096;

/// See the module.
pub(super) struct SliceLooks {
    /// Where the node's own `/` is visible.
    root: PathBuf,
    /// When to look if nothing changes.
    next: Deadline,
    /// Until when a change has to wait.
    quiet: Deadline,
    /// The directories at the last look, or at the start.
    seen: u64,
    /// Whether the look that is going on was for a change.
    is_for_change: bool,
}

impl SliceLooks {
    /// The first look is soon, but not on all nodes at once. Without a flat file there is nothing
    /// yet: install is about to write one.
    pub(super) fn new(root: PathBuf, flat: &Path) -> Self {
        Self {
            seen: directory(&root, flat).map_or_else(nothing, |directory| fingerprint(&directory)),
            root,
            next: Deadline::after(jittered(EVERY)),
            quiet: Deadline::after(Duration::ZERO),
            is_for_change: false,
        }
    }

    /// Returns whether it is time for a look. A node that never had a slice is left alone.
    pub(super) fn is_due(&mut self, flat: &Path) -> bool {
        let Some(directory) = directory(&self.root, flat) else { return false };
        let now = fingerprint(&directory);
        self.is_for_change = now != self.seen;
        let due = if self.is_for_change { &self.quiet } else { &self.next };
        if !directory.exists() || !due.left().is_zero() {
            return false;
        }
        self.seen = now;
        self.next = Deadline::after(EVERY);
        true
    }

    /// Notes that a look has ended.
    pub(super) fn ended(&mut self) {
        if self.is_for_change {
            self.quiet = Deadline::after(QUIET + jittered(SPREAD));
        }
    }
}

/// Returns the directory of the addresses in slices, as seen from here.
fn directory(root: &Path, flat: &Path) -> Option<PathBuf> {
    let settings = flat_file::read_flat(flat, &read_small(flat).ok()?).ok()?;
    let data_dir = &settings.store.data_dir;
    let seen = root.join(data_dir.strip_prefix("/").unwrap_or(data_dir));
    matches!(settings.store.kind, StoreKind::Kubernetes { .. }).then(|| seen.join(SLICES))
}

/// Returns the fingerprint of a directory without anything.
fn nothing() -> u64 {
    DefaultHasher::new().finish()
}

/// Returns a number that differs if an address was claimed or released in the meantime. A change
/// that it misses is seen a minute later.
fn fingerprint(directory: &Path) -> u64 {
    let mut shards: Vec<DirEntry> = below(&directory.join("scopes"))
        .flat_map(|scope| below(&scope.path()))
        .take(MOST)
        .collect();
    shards.sort_by_key(DirEntry::path);
    let mut hasher = DefaultHasher::new();
    for shard in shards {
        let changed = shard.metadata().and_then(|metadata| metadata.modified()).ok();
        (shard.path(), changed).hash(&mut hasher);
    }
    hasher.finish()
}

/// Returns the directories in a directory.
fn below(directory: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    let is_directory = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    read_dir(directory).into_iter().flatten().take(MOST).filter_map(Result::ok).filter(is_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory, which is removed in the end.
    struct Root(PathBuf);

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Returns a node with a directory of one shard.
    fn node(test: &str) -> (Root, PathBuf, PathBuf) {
        let name = format!("hereabouts-{test}-{}", std::process::id());
        let root = Root(std::env::temp_dir().join(name));
        let shard = root.0.join("d/slices/scopes/pool%3Ab/10.0.0.0_24");
        std::fs::create_dir_all(&shard).unwrap();
        let flat = root.0.join("hereabouts.conf");
        let text = r#"{"kubernetes":{"kubeconfig":"/k"},"datastore":"kubernetes","data_dir":"/d"}"#;
        std::fs::write(&flat, text).unwrap();
        (root, flat, shard)
    }

    /// The kernel notes times in steps of some milliseconds.
    fn wait_for_another_time(shard: &Path) {
        let time = || shard.metadata().unwrap().modified().unwrap();
        let before = time();
        while time() == before {
            std::fs::write(shard.join("x"), "").unwrap();
            std::fs::remove_file(shard.join("x")).unwrap();
        }
    }

    #[test]
    fn the_first_change_is_looked_at_soon_and_the_second_after_a_minute() {
        let (root, flat, shard) = node("look");
        let mut looks = SliceLooks::new(root.0.clone(), &flat);
        looks.next = Deadline::after(EVERY);
        assert!(!looks.is_due(&flat), "nothing has changed since the start");
        std::fs::write(shard.join("10.0.0.1"), "").unwrap();
        wait_for_another_time(&shard);
        assert!(looks.is_due(&flat));
        looks.ended();
        assert!(!looks.is_due(&flat));
        wait_for_another_time(&shard);
        assert!(!looks.is_due(&flat), "the minute is not quiet");
        assert!(Duration::from_secs(60) < looks.quiet.left());
        looks.quiet = Deadline::after(Duration::ZERO);
        assert!(looks.is_due(&flat));
        assert!(!looks.is_due(&flat));
        looks.next = Deadline::after(Duration::ZERO);
        assert!(looks.is_due(&flat), "each minute");
        looks.ended();
        wait_for_another_time(&shard);
        assert!(looks.is_due(&flat), "a look without a change begins no minute");
    }

    #[test]
    fn a_node_without_slices_is_left_alone_until_it_has_one() {
        let (root, flat, _) = node("no-look");
        let data = root.0.join("d");
        let without_flat = root.0.join("none");
        std::fs::rename(data.join("slices"), data.join("elsewhere")).unwrap();
        let mut looks = SliceLooks::new(root.0.clone(), &flat);
        looks.next = Deadline::after(Duration::ZERO);
        assert!(!looks.is_due(&flat));
        std::fs::rename(data.join("elsewhere"), data.join("slices")).unwrap();
        assert!(looks.is_due(&flat));
        // The first pod of a node that install is about to set up.
        let mut looks = SliceLooks::new(root.0.clone(), &without_flat);
        looks.next = Deadline::after(EVERY);
        assert!(!looks.is_due(&without_flat) && looks.is_due(&flat));
    }
}
