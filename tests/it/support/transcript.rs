//! The full output of commands, compared with a file below tests/data, which `UPDATE_EXPECT=1`
//! renews. What differs between two runs (paths, times, ids, processes) is replaced by fixed words.

use super::sandbox::{Ended, Sandbox};
use expect_test::expect_file;
use std::path::{Path, PathBuf};

/// Compares a text with a file below tests/data.
pub(crate) fn assert_file(place: &str, text: &str) {
    let shown: String = text
        .chars()
        .map(|c| if c.is_ascii() { c.to_string() } else { c.escape_default().to_string() })
        .collect();
    expect_file![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(place)]
        .assert_eq(&shown);
}

/// Returns the names of the files in a directory below tests/data, without extension.
pub(crate) fn files_in(place: &str) -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(place);
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| stem(entry.unwrap().path())).collect();
    names.sort();
    names
}

/// Replaces a sandbox's directory. It has the same length, so that tables do not change.
const ROOT: &str = "/tmp/hereabouts-of-this-test-0";

/// Returns a sandbox on a file store whose path has the same length in every run.
pub(crate) fn sandbox() -> Sandbox {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let root = format!(
        "/tmp/hereabouts-{:010}-{:03}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    assert_eq!(root.len(), ROOT.len());
    std::fs::create_dir(&root).unwrap();
    let sandbox = Sandbox { root: root.into(), cluster: None };
    sandbox.write("flat.conf", &sandbox.flat("n1"));
    sandbox
}

/// Commands and their output, one after the other.
pub(crate) struct Transcript {
    text: String,
    /// What is replaced, and by what.
    words: Vec<(String, String)>,
}

impl Transcript {
    /// Returns an empty transcript of commands on this sandbox.
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let mut words = vec![(sandbox.root.display().to_string(), ROOT.to_owned())];
        if let Some(cluster) = sandbox.cluster {
            words.push((cluster.server(), "https://192.0.2.1:6443".to_owned()));
            words.push((cluster.directory().display().to_string(), "/cluster".to_owned()));
        }
        let host = nix::unistd::gethostname().unwrap().to_string_lossy().into_owned();
        words.push((format!("{host} (process "), "HOST (process ".to_owned()));
        Self { text: String::new(), words }
    }

    /// Replaces something else that differs between two runs.
    pub(crate) fn replace(&mut self, from: impl Into<String>, to: &str) {
        self.words.push((from.into(), to.to_owned()));
    }

    /// Adds a note on what was done before the next command.
    pub(crate) fn note(&mut self, text: &str) {
        self.text.push_str(&format!("# {text}\n"));
    }

    /// Runs a command of a sandbox and adds its output.
    pub(crate) fn run(&mut self, sandbox: &Sandbox, args: &[&str]) -> Ended {
        let ended = sandbox.command(args);
        self.keep(args, &ended);
        ended
    }

    /// Adds the output of a command: stdout, then stderr after `2| `, then the exit status.
    pub(crate) fn keep(&mut self, args: &[&str], ended: &Ended) {
        let mut text = format!("$ hereabouts {}\n{}", args.join(" "), ended.stdout);
        if !ended.stdout.is_empty() && !ended.stdout.ends_with('\n') {
            text.push_str("(no newline)\n");
        }
        ended.stderr.lines().for_each(|line| text.push_str(&format!("2| {line}\n")));
        let status =
            ended.status.map_or_else(|| "by a signal".to_owned(), |status| status.to_string());
        text.push_str(&format!("exit {status}\n\n"));
        for (from, to) in &self.words {
            text = text.replace(from, to);
        }
        self.text.push_str(&settled(&text));
    }

    /// Compares it with `tests/data/outputs/<name>.txt`.
    pub(crate) fn assert(self, name: &str) {
        assert_file(&format!("outputs/{name}.txt"), &format!("{}\n", self.text.trim_end()));
    }
}

/// `d` is a digit, `h` a lower-case hexadecimal digit, everything else itself.
const SHAPES: &[(&str, &str)] = &[
    ("dddd-dd-ddTdd:dd:ddZ", "2026-01-01T00:00:00Z"),
    ("hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh", "01234567-89ab-cdef-0123-456789abcdef"),
    ("hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh", "0123456789abcdef0123456789abcdef"),
    ("hhhhhhhhhhhhhhhh", "0123456789abcdef"),
];

/// Numbers that differ come after these words.
const BEFORE_NUMBERS: &[&str] =
    &["/proc/", "inode ", "(process ", "process ", "AgeSeconds\": ", "ageSeconds\": "];

/// Returns a text without times, ages, ids and processes.
fn settled(text: &str) -> String {
    let mut found = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let is_begin = !found.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.');
        if let Some((shape, word)) =
            SHAPES.iter().find(|(shape, _)| is_begin && has_shape(rest, shape))
        {
            found.push_str(word);
            rest = &rest[shape.len()..];
            continue;
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if 0 < digits && is_begin {
            let (number, after) = rest.split_at(digits);
            let fraction = after
                .strip_prefix('.')
                .map_or("", |fraction| fraction.split(' ').next().unwrap_or_default());
            let tail = fraction.len() + usize::from(!fraction.is_empty());
            if BEFORE_NUMBERS.iter().any(|before| found.ends_with(before)) {
                found.push('1');
                rest = after;
            } else if after[tail..].starts_with(" ms") {
                found.push_str("0.1");
                rest = &after[tail..];
            } else if after.starts_with("s\n") || after.starts_with("s:") {
                found.push('0');
                rest = after;
            } else {
                found.push_str(number);
                rest = after;
            }
            continue;
        }
        let c = rest.chars().next().unwrap();
        found.push(c);
        rest = &rest[c.len_utf8()..];
    }
    found
}

/// A number is not an id, however long it is.
fn has_shape(text: &str, shape: &str) -> bool {
    text.get(..shape.len()).is_some_and(|start| start.contains(|c: char| c.is_ascii_alphabetic()))
        && !text[shape.len()..].starts_with(|c: char| c.is_ascii_alphanumeric())
        && shape.bytes().zip(text.bytes()).all(|(shape, byte)| match shape {
            b'd' => byte.is_ascii_digit(),
            b'h' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            other => other == byte,
        })
}
