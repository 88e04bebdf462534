//! Rules for the sources and documents: who may use whom, sizes, ASCII, and that documents and code
//! agree.

mod circles;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Who may use whom. Everything that is not listed is forbidden. The same table is in
/// ARCHITECTURE.md.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &["plugin", "cli", "cni", "config", "environment"]),
    (
        "plugin",
        &[
            "cni",
            "config",
            "store",
            "api_client",
            "ipam",
            "addr",
            "json",
            "retry",
            "small_file",
            "digest",
            "environment",
            "wire",
        ],
    ),
    (
        "cli",
        &[
            "plugin",
            "cni",
            "config",
            "store",
            "api_client",
            "ipam",
            "addr",
            "json",
            "retry",
            "small_file",
            "digest",
            "environment",
            "whereabouts",
        ],
    ),
    ("config", &["ipam", "addr", "json", "yaml"]),
    ("cni", &["ipam", "addr", "json", "environment"]),
    (
        "store",
        &["api_client", "ipam", "addr", "json", "retry", "small_file", "digest", "whereabouts"],
    ),
    ("api_client", &["addr", "json", "yaml", "retry", "small_file", "digest", "environment"]),
    ("ipam", &["addr"]),
    ("addr", &[]),
    ("json", &[]),
    ("yaml", &["json"]),
    ("environment", &[]),
    ("retry", &[]),
    ("small_file", &[]),
    ("digest", &[]),
    ("wire", &["retry"]),
    ("whereabouts", &["addr"]),
    ("controller", &["config", "store", "ipam", "addr", "json", "digest"]),
    (
        "lib",
        &[
            "addr",
            "api_client",
            "cli",
            "cni",
            "config",
            "controller",
            "digest",
            "environment",
            "ipam",
            "json",
            "plugin",
            "retry",
            "small_file",
            "store",
            "whereabouts",
            "wire",
            "yaml",
        ],
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(directory), extension, &mut found);
    found.sort();
    found
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Returns the source without its tests, which may use anything.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[test]
fn modules_use_only_what_the_table_allows() {
    for path in files("src", "rs") {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let module = relative
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        let allowed = MAY_USE
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{module} is not in the table"))
            .1;
        let text = std::fs::read_to_string(&path).unwrap();
        for marker in ["crate::", "hereabouts::"] {
            for (at, _) in without_tests(&text).match_indices(marker) {
                let used: String = text[at + marker.len()..]
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                let known = MAY_USE.iter().any(|(name, _)| *name == used);
                assert!(
                    !known || used == module || allowed.contains(&&*used),
                    "{} uses {used}",
                    relative.display()
                );
            }
        }
    }
}

#[test]
fn files_and_lines_keep_their_sizes() {
    for path in
        files("src", "rs").into_iter().chain(files("tests", "rs")).chain(files("benches", "rs"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        let limit = if shown.starts_with("tests") { 30_000 } else { 22_000 };
        assert!(text.len() <= limit, "{shown} has {} bytes", text.len());
        assert!(text.is_ascii(), "{shown} is not ASCII");
        assert!(text.starts_with("//!"), "{shown} does not say what it is for");
    }
}

#[test]
fn nothing_is_called_by_an_empty_name() {
    for path in files("src", "rs") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(
            !["util", "utils", "common", "helpers", "helper", "types", "manager", "misc"]
                .contains(&&*name),
            "{}",
            path.display()
        );
    }
}

#[test]
fn addr_and_ipam_do_no_input_or_output() {
    for path in files("src/addr", "rs").into_iter().chain(files("src/ipam", "rs")) {
        let text = std::fs::read_to_string(&path).unwrap();
        for word in [
            "std::fs",
            "std::io",
            "std::env",
            "std::process",
            "SystemTime::now",
            "Instant",
            "nix::",
            "serde",
        ] {
            assert!(!without_tests(&text).contains(word), "{} has {word}", path.display());
        }
    }
}

#[test]
fn only_dispatch_output_and_list_know_stdout() {
    let allowed = ["main.rs", "cli/output.rs", "cli/list.rs"];
    for path in files("src", "rs") {
        let relative = path.strip_prefix(root().join("src")).unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            !without_tests(&text).contains("stdout()") || allowed.contains(&&*relative),
            "{relative}"
        );
    }
}

#[test]
fn system_calls_of_the_store_go_through_the_port() {
    for path in files("src/store", "rs") {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let parts = [
            "real.rs",
            "kinds.rs",
            "mounts.rs",
            "nested.rs",
            "open_files.rs",
            "lock.rs",
            "lock_file.rs",
        ];
        if parts.contains(&&*name) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for word in ["std::fs", "nix::fcntl", "nix::unistd", "File::open", "nix::sys"] {
            assert!(!without_tests(&text).contains(word), "{} has {word}", path.display());
        }
    }
}

/// Returns the keys in the first column of the tables of a document.
fn first_column(text: &str) -> BTreeSet<String> {
    let cell =
        |line: &str| line.strip_prefix("| `")?.split_once("` |").map(|(key, _)| key.to_owned());
    text.lines().filter_map(cell).collect()
}

#[test]
fn the_configuration_document_has_a_row_for_every_key() {
    let rows = first_column(&read("docs/config.md"));
    for key in hereabouts::config::KEYS {
        assert!(rows.contains(key.name), "docs/config.md has no row for {}", key.name);
    }
}

#[test]
fn the_error_document_has_a_row_for_every_code() {
    let text = read("docs/errors.md");
    for code in hereabouts::cni::Code::ALL {
        assert!(
            text.contains(&format!("| {} |", code.number())),
            "docs/errors.md has no row for {}",
            code.number()
        );
    }
}

#[test]
fn the_architecture_document_has_the_table_of_who_may_use_whom() {
    let text = read("ARCHITECTURE.md");
    for (module, used) in MAY_USE.iter().filter(|(module, _)| *module != "lib") {
        let row = if used.is_empty() {
            format!("{module} -> nothing")
        } else {
            format!("{module} -> {}", used.join(", "))
        };
        assert!(text.contains(&row), "ARCHITECTURE.md has no line: {row}");
    }
}

#[test]
fn what_the_documents_link_to_is_there() {
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
        .map(|name| root().join(name));
    for document in files("docs", "md")
        .into_iter()
        .chain(files("deploy", "md"))
        .chain(files("conf-examples", "md"))
        .chain(top)
    {
        let text = read(&document);
        let folder = document.parent().unwrap().to_owned();
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(folder.join(target).exists(), "{} links to {target}", document.display());
            }
        }
    }
}

/// The last column of each table names tests: a function, a module or a script.
#[test]
fn every_test_that_the_reliability_document_names_is_there() {
    let document = read("docs/reliability.md");
    let sources = files("tests/it", "rs").into_iter().chain(files("src", "rs"));
    let tests: String = sources.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let mut named = 0;
    for row in document.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |")) {
        let column = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for name in column.split('`').skip(1).step_by(2) {
            let last = name.rsplit("::").next().unwrap();
            let module = format!("tests/it/{}", name.replace("::", "/"));
            let is_there = root().join(name).exists()
                || root().join(format!("{module}.rs")).exists()
                || tests.contains(&format!("fn {last}()"))
                || tests.contains(&format!("mod {last};"));
            assert!(is_there, "{name}");
            named += 1;
        }
    }
    assert!(20 < named, "{named}");
}

/// If the code has changed, `scripts/mutate` has nothing to try.
#[test]
fn every_mutant_still_applies() {
    for patch in files("tests/mutants", "patch") {
        let checked = std::process::Command::new("git")
            .current_dir(root())
            .arg("apply")
            .arg("--check")
            .arg(&patch)
            .output()
            .unwrap();
        assert!(
            checked.status.success(),
            "{}: {}",
            patch.display(),
            String::from_utf8_lossy(&checked.stderr)
        );
    }
}

/// Returns whether a text has a whole word, also at the start of a sentence.
fn has_word(text: &str, word: &str) -> bool {
    let first = word[..1].to_uppercase() + &word[1..];
    has_exactly(text, word) || has_exactly(text, &first)
}

fn has_exactly(text: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
    text.match_indices(word).any(|(at, _)| {
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next())
    })
}

/// The last column of the glossary: one word has one meaning.
#[test]
fn the_words_that_the_glossary_retires_are_gone() {
    let glossary = read("docs/glossary.md");
    let rows =
        glossary.lines().filter(|line| line.starts_with("| ") && line.matches('|').count() == 4);
    let retired: BTreeSet<&str> =
        rows.flat_map(|row| row.split('|').nth(3).unwrap().split('`').skip(1).step_by(2)).collect();
    assert!(15 <= retired.len(), "{retired:?}");
    let terms = glossary.lines().filter(|line| line.starts_with("| ")).count() - 2;
    assert!(terms <= 30, "the glossary has {terms} terms");
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
        .map(|name| root().join(name));
    let documents =
        files("docs", "md").into_iter().filter(|path| !path.ends_with("glossary.md")).chain(top);
    for path in
        files("src", "rs").into_iter().chain(files("tests/data/help", "txt")).chain(documents)
    {
        let text = std::fs::read_to_string(&path).unwrap();
        for word in &retired {
            assert!(!has_word(&text, word), "{}: {word}", path.display());
        }
    }
}
