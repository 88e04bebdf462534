//! Finds whether a directory is inside a store or node state, or contains one. A store inside the
//! node state of another store would be moved aside or listed as records. The check runs only
//! before a store is created, which is rare.

use super::mounts::resolved;
use std::path::{Path, PathBuf};

/// Directories of a store, which must not contain another store.
const SEARCHED: &[&str] = &["scopes", "nodes", "kubernetes", "stores"];
/// The search goes no deeper and reads no more names than this, so that it is bounded for any
/// content.
const DEEPEST: usize = 3;
const MOST_NAMES: usize = 4096;

/// Returns a description of what a directory is in or contains. `own` are the data directories of
/// this node, whether they exist or not.
pub(crate) fn nested(path: &Path, own: &[PathBuf]) -> Option<String> {
    let real = resolved(path);
    let of_node =
        own.iter().map(|own| (own, resolved(own))).filter(|(_, resolved)| *resolved != real);
    for (own, resolved) in of_node {
        if real.starts_with(&resolved) {
            return Some(format!("it lies in {}, a data directory of this node", own.display()));
        }
        if resolved.starts_with(&real) {
            return Some(format!("{} lies in it, a data directory of this node", own.display()));
        }
    }
    if let Some((above, what)) =
        real.ancestors().skip(1).find_map(|above| Some((above, kind(above)?)))
    {
        return Some(format!("it lies in {}, which is {what}", above.display()));
    }
    if is_node_state(&real) {
        return Some("it is a node state".to_owned());
    }
    let mut names = 0;
    let held = SEARCHED
        .iter()
        .find_map(|name| held(&real.join(name), *name == "kubernetes", 1, &mut names));
    held.map(|(below, what)| format!("it holds {}, which is {what}", below.display()))
}

fn kind(directory: &Path) -> Option<&'static str> {
    if is_store(directory) {
        return Some("a store");
    }
    is_node_state(directory).then_some("a node state")
}

fn is_store(directory: &Path) -> bool {
    directory.join("format").is_file()
        && (directory.join("scopes").is_dir() || directory.join("nodes").is_dir())
}

fn is_node_state(directory: &Path) -> bool {
    directory.join("attachments").is_dir()
        && (directory.join("calls").is_file() || directory.join("complete").is_file())
}

/// Returns the store or node state at a directory or below it. Node state directly in `kubernetes`
/// is in its proper place and does not count.
fn held(
    directory: &Path,
    is_of_states: bool,
    depth: usize,
    names: &mut usize,
) -> Option<(PathBuf, &'static str)> {
    let is_link = directory.symlink_metadata().is_ok_and(|found| found.is_symlink());
    if is_link || !directory.is_dir() {
        return None;
    }
    if let Some(what) = kind(directory) {
        return Some((directory.to_owned(), what));
    }
    if DEEPEST < depth {
        return None;
    }
    for entry in directory.read_dir().into_iter().flatten().flatten() {
        *names += 1;
        if MOST_NAMES < *names {
            return None;
        }
        let path = entry.path();
        let is_in_place = is_of_states && depth == 1 && is_node_state(&path) && !is_store(&path);
        if !is_in_place && let Some(found) = held(&path, false, depth + 1, names) {
            return Some(found);
        }
    }
    None
}
