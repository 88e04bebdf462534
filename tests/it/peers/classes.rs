//! The classes of differences, and what docs/whereabouts.md and README.md say about them.

use super::corpus::{self, Case, Peer};
use super::play::version;
use std::path::Path;

/// The class of a configuration that both plugins refuse, if only the answers to its DEL differ. No
/// entry names it.
pub(super) const DEL_WITH_MISTAKES: &str = "del-with-mistakes";

/// How many configurations were answered how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) all: usize,
    pub(super) alike: usize,
    /// Those of the class `del-with-mistakes`.
    pub(super) refused: usize,
    pub(super) different: usize,
}

impl Counts {
    /// Returns the first line of a file of differences.
    pub(super) fn line(self) -> String {
        let Self { all, alike, refused, different } = self;
        format!("{all} configurations, {alike} alike, {refused} refused, {different} different")
    }

    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let [all, alike, refused, different] = [0, 2, 4, 6].map(|at| words[at].parse().unwrap());
        Self { all, alike, refused, different }
    }
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Returns the text of the file that contains the differences of a peer.
pub(super) fn differences(peer: Peer) -> String {
    read(&format!("tests/data/peers/{}.differences", peer.name()))
}

/// Returns the classes that docs/whereabouts.md lists for a peer.
pub(super) fn of(peer: Peer) -> Vec<String> {
    let document = read("docs/whereabouts.md");
    let heading = format!("\n## Differences from {}\n", shown(peer));
    let (_, section) = document.split_once(&heading).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let cell = |line: &str| Some(line.strip_prefix("| `")?.split_once("` |")?.0.to_owned());
    section.lines().filter_map(cell).collect()
}

fn shown(peer: Peer) -> &'static str {
    match peer {
        Peer::HostLocal => "host-local",
        Peer::Whereabouts => "Whereabouts",
    }
}

fn counts(peer: Peer) -> Counts {
    Counts::parse(differences(peer).lines().next().unwrap())
}

#[test]
fn every_class_of_the_document_has_a_configuration() {
    for peer in Peer::ALL {
        let differences = differences(peer);
        for class in of(peer) {
            let line = format!("  {class}");
            assert!(differences.lines().any(|found| found == line), "{}: {class}", shown(peer));
        }
    }
}

#[test]
fn the_document_has_the_versions_and_the_numbers() {
    let document = read("docs/whereabouts.md");
    for peer in Peer::ALL {
        let Counts { all, alike, refused, different } = counts(peer);
        let version = version(peer);
        let name = shown(peer);
        let row = format!("| {name} | {version} | {all} | {alike} | {refused} | {different} |");
        assert!(document.contains(&row), "docs/whereabouts.md has no row: {row}");
    }
}

#[test]
fn the_readme_says_how_many_configurations_are_answered_alike() {
    let Counts { all, alike, .. } = counts(Peer::Whereabouts);
    let words = read("README.md").split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        [format!("Of {all} configurations for Whereabouts"), format!("{alike} are answered alike")]
    {
        assert!(words.contains(&part), "README.md does not say: {part}");
    }
}

#[test]
fn there_are_at_least_200_configurations_and_none_stands_twice() {
    let mut all = std::collections::BTreeSet::new();
    let mut twice = Vec::new();
    for peer in Peer::ALL {
        let cases = corpus::cases(peer);
        assert_eq!(cases.len(), counts(peer).all, "{}: run the comparison again", peer.name());
        for Case { name, document, args, all_args, flat, ours, calls, .. } in cases {
            let calls: Vec<String> = calls.into_iter().map(|call| call.text).collect();
            if !all.insert((peer, document, args, all_args, flat, ours, calls)) {
                twice.push(name);
            }
        }
    }
    assert!(twice.is_empty(), "{twice:?}");
    assert!(200 <= all.len(), "{}", all.len());
}
