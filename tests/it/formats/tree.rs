//! A data directory as text: its files, and which names belong to one file. The repository keeps a
//! store in this form, because it cannot have hard links: the records below `store`, and a line
//! `<index entry> = <record>` for each link in the file `links`.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Files by their path below the data directory, and links to them.
#[derive(Debug, PartialEq)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<String, String>,
    pub(super) links: BTreeMap<String, String>,
}

/// How a kept tree is written to a disk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum As {
    /// As it was written: links, modes and marks.
    Written,
    /// As `cp -r` leaves it: each name is a separate file, without marks.
    Copied,
}

/// Returns all files below a directory, as (relative path, inode).
fn walk(root: &Path) -> Vec<(String, u64)> {
    fn into(directory: &Path, root: &Path, found: &mut Vec<(String, u64)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                into(&path, root, found);
            } else {
                found.push((
                    path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
                    path.metadata().unwrap().ino(),
                ));
            }
        }
    }
    let mut found = Vec::new();
    into(root, root, &mut found);
    // "scopes" before "nodes": the record is the file, an entry a link to it.
    found.sort_by(|(one, _), (other, _)| {
        other.starts_with("scopes").cmp(&one.starts_with("scopes")).then(one.cmp(other))
    });
    found
}

impl Tree {
    /// Reads the tree of a data directory.
    pub(super) fn read(root: &Path) -> Self {
        let mut tree = Self { files: BTreeMap::new(), links: BTreeMap::new() };
        let mut first: BTreeMap<u64, String> = BTreeMap::new();
        for (path, inode) in walk(root) {
            if let Some(known) = first.get(&inode) {
                tree.links.insert(path, known.clone());
                continue;
            }
            tree.files.insert(path.clone(), std::fs::read_to_string(root.join(&path)).unwrap());
            first.insert(inode, path);
        }
        tree
    }

    /// Reads the tree that is kept in a directory.
    pub(super) fn kept(directory: &Path) -> Self {
        let mut tree = Self::read(&directory.join("store"));
        let links = std::fs::read_to_string(directory.join("links")).unwrap();
        tree.links = links
            .lines()
            .map(|line| {
                line.split_once(" = ")
                    .unwrap_or_else(|| panic!("expected \"entry = record\": {line}"))
            })
            .map(|(entry, record)| (entry.to_owned(), record.to_owned()))
            .collect();
        tree
    }

    /// Writes it in the form in which a tree is kept.
    pub(super) fn keep(&self, directory: &Path) {
        let _ = std::fs::remove_dir_all(directory);
        for (path, text) in &self.files {
            write(&directory.join("store").join(path), text);
        }
        let lines: Vec<String> =
            self.links.iter().map(|(entry, record)| format!("{entry} = {record}\n")).collect();
        write(&directory.join("links"), &lines.concat());
    }

    /// Writes it as a data directory.
    pub(super) fn lay_out(&self, root: &Path, how: As) {
        for (path, text) in &self.files {
            write(&root.join(path), text);
        }
        for (entry, record) in &self.links {
            let (entry, record) = (root.join(entry), root.join(record));
            std::fs::create_dir_all(entry.parent().unwrap()).unwrap();
            match how {
                As::Written => std::fs::hard_link(record, entry).unwrap(),
                As::Copied => drop(std::fs::copy(record, entry).unwrap()),
            }
        }
        if how == As::Written {
            for (path, _) in walk(root) {
                set_mode(&root.join(&path), 0o600);
                for above in Path::new(&path).ancestors().skip(1) {
                    set_mode(&root.join(above), 0o1700);
                }
            }
        }
    }

    /// Changes every text.
    pub(super) fn map(&mut self, change: impl Fn(&str, &str) -> String) {
        for (path, text) in &mut self.files {
            *text = change(path, text);
        }
    }
}

fn write(path: &PathBuf, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
