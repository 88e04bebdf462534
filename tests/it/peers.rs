//! The configurations of `tests/data/peers`, each with the real plugin for which it is written and
//! with hereabouts. Each difference belongs to a class in docs/whereabouts.md, which gives its
//! reason. A new release of a plugin that answers otherwise is noticed here.

mod classes;
mod corpus;
mod play;

use crate::support::cluster::Cluster;
use classes::{Counts, DEL_WITH_MISTAKES};
use corpus::{Case, Peer};
use play::{Answer, Node};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn host_local() {
    match crate::real_parts::tools() {
        Ok(tools) => compare(Peer::HostLocal, &Node::new(&tools, None), 2),
        Err(reason) => skipped!("{reason}"),
    }
}

/// Each configuration has a namespace of its own for its pools and its Lease, so that many can be
/// played at the same time: a call of Whereabouts mostly waits.
#[test]
fn whereabouts() {
    let (tools, cluster) = match (whereabouts_built(), Cluster::shared()) {
        (Ok(tools), Ok(cluster)) => (tools, cluster),
        (Err(reason), _) | (_, Err(reason)) => return skipped!("{reason}"),
    };
    cluster.apply(include_str!("../../benches/cluster/whereabouts.yaml"));
    cluster.apply(include_str!("../data/peers/node-slices.yaml"));
    let cases = corpus::cases(Peer::Whereabouts);
    let objects = cases.iter().enumerate().flat_map(|(number, case)| objects(number, case));
    cluster.apply(&objects.collect::<Vec<String>>().join("\n---\n"));
    compare(Peer::Whereabouts, &Node::new(&tools, Some(&cluster.kubeconfig())), 8);
}

/// Returns what a case needs in the cluster. The real controller of node slices would write such a
/// pool.
fn objects(number: usize, case: &Case) -> Vec<String> {
    let namespace = play::namespace(number);
    let mut objects =
        vec![format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}")];
    if case.document.contains("node_slice_size") {
        objects.push(format!(
            "apiVersion: whereabouts.cni.cncf.io/v1alpha1\nkind: NodeSlicePool\n\
             metadata: {{name: net1, namespace: {namespace}}}\n\
             spec: {{range: 10.1.0.0/24, sliceSize: /26}}\n\
             status: {{allocations: [{{nodeName: n1, sliceRange: 10.1.0.64/26}}]}}"
        ));
    }
    objects
}

/// Returns the directory of the real Whereabouts, or why there is none here.
pub(crate) fn whereabouts_built() -> Result<PathBuf, String> {
    let tools = crate::real_parts::tools()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/tools");
    let output = Command::new(script).arg("whereabouts").output();
    let output = output.map_err(|error| error.to_string())?;
    let reason = || String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(tools).ok_or_else(reason)
}

/// Plays all configurations for a peer, some at the same time.
fn compare(peer: Peer, node: &Node, at_once: usize) {
    let cases = corpus::cases(peer);
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(vec![Vec::new(); cases.len()]);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed))
                    && let Some(case) = cases.get(number)
                {
                    let played = node.play(number, case);
                    answers.lock().unwrap()[number] = played;
                }
            });
        }
    });
    check_differences(peer, &cases, &answers.into_inner().unwrap());
}

/// Requires that the differences are those that the entries and the document name.
fn check_differences(peer: Peer, cases: &[Case], answers: &[Vec<[Answer; 2]>]) {
    let classes = classes::of(peer);
    let mut counts = Counts { all: cases.len(), ..Counts::default() };
    let (mut problems, mut differences) = (String::new(), String::new());
    for (case, answers) in cases.iter().zip(answers) {
        let report = difference(case, answers);
        let found = class(case, answers);
        if answers.iter().flatten().any(|answer| answer.line == "no answer") {
            let _ = writeln!(problems, "no answer: {}\n{}", case.name, told(case, answers));
        }
        match (&found, report.is_empty()) {
            (None, true) => counts.alike += 1,
            (None, false) => {
                let _ = writeln!(problems, "no class: {}\n{}", case.name, told(case, answers));
            }
            (Some(class), true) => {
                let _ = writeln!(problems, "answered alike, not {class}: {}", case.name);
            }
            (Some(class), false) if !classes.contains(class) => {
                let _ = writeln!(problems, "not in docs/whereabouts.md: {class}: {}", case.name);
            }
            (Some(class), false) if class == DEL_WITH_MISTAKES => {
                counts.refused += 1;
                let _ = writeln!(differences, "{}\n  {class}", case.name);
            }
            (Some(class), false) => {
                counts.different += 1;
                let _ = writeln!(differences, "{}\n  {class}\n{report}", case.name);
            }
        }
    }
    assert!(problems.is_empty(), "{problems}");
    let place =
        format!("{}/tests/data/peers/{}.differences", env!("CARGO_MANIFEST_DIR"), peer.name());
    expect_test::expect_file![place].assert_eq(&format!("{}\n\n{differences}", counts.line()));
}

/// Returns the class that an entry names, or that of a configuration that both refuse.
fn class(case: &Case, answers: &[[Answer; 2]]) -> Option<String> {
    let mut differing = case
        .calls
        .iter()
        .zip(answers)
        .filter(|(_, [one, other])| one.line != other.line)
        .peekable();
    let is_del_with_mistakes = differing.peek().is_some()
        && differing.all(|(call, [theirs, ours])| {
            call.verb == "DEL" && theirs.line == "refused" && ours.line == "done"
        });
    if is_del_with_mistakes { Some(DEL_WITH_MISTAKES.to_owned()) } else { case.differs.clone() }
}

/// Returns the calls that are answered differently, with both answers.
fn difference(case: &Case, answers: &[[Answer; 2]]) -> String {
    let mut report = String::new();
    for (call, [theirs, ours]) in case.calls.iter().zip(answers) {
        if theirs.line != ours.line {
            let _ = writeln!(report, "  {}", call.text);
            for (plugin, answer) in [(case.peer.name(), theirs), ("hereabouts", ours)] {
                let _ = writeln!(report, "    {plugin}: {}", answer.line);
            }
        }
    }
    report
}

/// Returns everything about a case, for the author of an entry.
fn told(case: &Case, answers: &[[Answer; 2]]) -> String {
    let mut text = format!("  {}\n", case.document);
    for (call, [theirs, ours]) in case.calls.iter().zip(answers) {
        let _ = writeln!(text, "  {}", call.text);
        for Answer { line, reason } in [theirs, ours] {
            let _ = writeln!(text, "    {line} | {reason}");
        }
    }
    text
}
