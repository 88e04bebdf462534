//! The files that `config check` and `pool convert` read: files, standard input, and the files of
//! directories.

use super::locate;
use crate::small_file::{error_text, read_within};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The largest file, in bytes. The networks of a large cluster in one file have some megabytes.
const LARGEST: u64 = 16 * 1024 * 1024;

/// The ends of the names of the files that are read in a directory.
const ENDS: &[&str] = &["yaml", "yml", "json", "conf", "conflist"];

/// The maximum number of files and directories below one directory.
const MOST: usize = 100_000;

/// The maximum number of directories inside one another.
const DEEPEST: usize = 32;

/// Something to read.
pub(super) enum Input {
    /// The content of a file.
    File {
        /// The name of the file for messages.
        name: String,
        /// The last part of the name.
        last_name: String,
        /// The content.
        bytes: Rc<Vec<u8>>,
        /// Whether the operator named the file itself, and not its directory.
        is_named: bool,
    },
    /// The reason why a file cannot be read, with its name.
    Unreadable(String),
}

/// Standard input. It is read once, and may be asked for several times.
#[derive(Default)]
pub(super) struct Stdin(OnceCell<Result<Rc<Vec<u8>>, String>>);

impl Stdin {
    fn input(&self) -> Input {
        let read =
            || locate::read_stdin(LARGEST).map(Rc::new).map_err(|error| format!("{error:#}"));
        match self.0.get_or_init(read).clone() {
            Ok(bytes) => Input::File {
                name: "stdin".to_owned(),
                last_name: String::new(),
                bytes,
                is_named: true,
            },
            Err(reason) => Input::Unreadable(reason),
        }
    }
}

/// Calls `read` for a file, or for each file in a directory, in the order of their names.
pub(super) fn each(path: &Path, stdin: &Stdin, read: &mut dyn FnMut(Input)) {
    if path == Path::new("-") {
        return read(stdin.input());
    }
    if !path.is_dir() {
        return file(path, true, read);
    }
    let mut left = MOST;
    directory(path, DEEPEST, &mut left, read);
}

fn file(path: &Path, is_named: bool, read: &mut dyn FnMut(Input)) {
    let name = path.display().to_string();
    let last_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    read(match read_within(path, LARGEST) {
        Ok(bytes) => Input::File { name, last_name, bytes: Rc::new(bytes), is_named },
        Err(error) => Input::Unreadable(format!("cannot read {name}: {}", error_text(&error))),
    });
}

/// Reads the files of a directory and of the directories in it. Skips hidden ones, and does not
/// follow links to directories: they may lead in a circle.
fn directory(path: &Path, deeper: usize, left: &mut usize, read: &mut dyn FnMut(Input)) {
    let cannot =
        |reason: &str| Input::Unreadable(format!("cannot read {}: {reason}", path.display()));
    if deeper == 0 {
        return read(cannot(&format!("it is more than {DEEPEST} directories deep")));
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return read(cannot(&error_text(&error))),
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in entries {
        match (entry, left.checked_sub(1)) {
            (Ok(entry), Some(fewer)) => {
                *left = fewer;
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    found.push(entry.path());
                }
            }
            (Err(error), _) => return read(cannot(&error_text(&error))),
            (Ok(_), None) => return read(cannot(&format!("it has more than {MOST} entries"))),
        }
    }
    found.sort();
    for path in found {
        let is_link = path.is_symlink();
        if path.is_dir() {
            if !is_link {
                directory(&path, deeper - 1, left, read);
            }
        } else if path.extension().is_some_and(|end| ENDS.iter().any(|known| end == *known)) {
            file(&path, false, read);
        }
    }
}
