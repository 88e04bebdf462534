//! There are no circles between files: what two files need of each other belongs in one of them, or
//! in a third. A `mod.rs` and the files below it are one module and may use each other.

use super::{files, root, without_tests};
use std::collections::{BTreeMap, BTreeSet};

/// The names of a module, outermost first; empty for lib.rs.
type Module = Vec<String>;

/// Returns the module of a file below src.
fn module(path: &std::path::Path) -> Module {
    let relative = path.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut names: Module = relative.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if names.last().is_some_and(|last| last == "mod" || last == "lib") {
        names.pop();
    }
    names
}

/// Returns the paths that a tree of `use` names: `a::{b, c::{self, d}}` names three.
fn leaves(tree: &str, found: &mut Vec<String>) {
    let Some((prefix, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap().trim();
        return found.push(path.trim_end_matches("::self").to_owned());
    };
    let (mut depth, mut from) = (0, 0);
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if 0 < depth => depth -= 1,
            ',' | '}' if depth == 0 => {
                let part = rest[from..at].trim();
                if !part.is_empty() {
                    leaves(&format!("{}{part}", prefix.trim_start()), found);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// Returns all paths of a source that may lead to another file.
fn paths(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = Vec::new();
    for statement in code.split(';') {
        let last = statement
            .rsplit("\n")
            .find(|line| line.contains("use "))
            .and_then(|line| line.trim_start().split_once("use "));
        if let Some((visibility, first)) =
            last.filter(|(visibility, _)| visibility.is_empty() || visibility.starts_with("pub"))
        {
            let at = statement.rfind(&format!("{visibility}use {first}")).unwrap()
                + visibility.len()
                + "use ".len();
            leaves(&statement[at..].split_whitespace().collect::<Vec<_>>().join(" "), &mut found);
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                found.push(
                    code[at..]
                        .chars()
                        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
                        .collect(),
                );
            }
        }
    }
    found
}

/// Returns the file that a path of a module leads to.
fn target(from: &Module, path: &str, known: &BTreeSet<Module>) -> Option<Module> {
    let mut names: Vec<&str> = path.split("::").collect();
    let mut whole: Module = match names[0] {
        "crate" => Module::new(),
        "super" | "self" => from.clone(),
        name if known.contains(&[from.clone(), vec![name.to_owned()]].concat()) => from.clone(),
        _ => return None,
    };
    while names.first().is_some_and(|name| ["crate", "self", "super"].contains(name)) {
        if names.remove(0) == "super" {
            whole.pop();
        }
    }
    whole.extend(names.iter().map(|name| (*name).to_owned()));
    while !known.contains(&whole) {
        whole.pop()?;
    }
    Some(whole)
}

/// Returns which file uses which, except for a module and those inside it.
fn arrows() -> BTreeMap<Module, BTreeSet<Module>> {
    let sources: Vec<_> =
        files("src", "rs").into_iter().filter(|path| !path.ends_with("src/main.rs")).collect();
    let known: BTreeSet<Module> = sources.iter().map(|path| module(path)).collect();
    let mut arrows = BTreeMap::new();
    for path in sources {
        let (from, text) = (module(&path), std::fs::read_to_string(&path).unwrap());
        let to = paths(without_tests(&text))
            .iter()
            .filter_map(|path| target(&from, path, &known))
            .filter(|to| !from.starts_with(to) && !to.starts_with(&from))
            .collect();
        arrows.insert(from, to);
    }
    arrows
}

/// Returns what can be reached from a file, by one arrow or more.
fn reached(from: &Module, arrows: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        next.extend(arrows[module].iter().filter(|to| seen.insert((*to).clone())));
    }
    seen
}

#[test]
fn no_two_files_use_each_other() {
    let arrows = arrows();
    assert!(arrows.values().map(BTreeSet::len).sum::<usize>() > 300, "the arrows are not found");
    let circles: Vec<String> = arrows
        .keys()
        .filter(|module| reached(module, &arrows).contains(*module))
        .map(|module| module.join("::"))
        .collect();
    assert!(circles.is_empty(), "in a circle: {circles:?}");
}

#[test]
fn a_tree_of_use_names_each_of_its_leaves() {
    let found =
        paths("use a::{b, c::{self, d as e}};\npub use super::f;\nfn g() { crate::h::i(); }");
    assert_eq!(found, ["a::b", "a::c", "a::c::d", "super::f", "crate::h::i", "super::f"]);
}
