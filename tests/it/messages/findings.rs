//! What `verify` reports for each problem of a file store, and for each doubt. Those of the
//! Kubernetes store are in tests/data/outputs.

use super::{assert_all, variants};
use hereabouts::ipam::Doubt;
use hereabouts::store::file::upkeep::finding::Problem;

#[test]
fn every_problem_of_a_file_store_reads_so() {
    let (variants, name_of) = variants!(Problem: Format Damaged Newer TwoRecords Unindexed Split DanglingEntry DanglingPodEntry Temporary WrongHint
        Foreign GivenAway Lost UnusedNote);
    let all = [
        Problem::Format,
        Problem::Damaged,
        Problem::Newer,
        Problem::TwoRecords,
        Problem::Unindexed,
        Problem::Split,
        Problem::DanglingEntry,
        Problem::DanglingPodEntry,
        Problem::Temporary,
        Problem::WrongHint,
        Problem::Foreign,
        Problem::GivenAway,
        Problem::Lost,
        Problem::UnusedNote,
    ];
    let text = |problem: Problem| {
        let repair = if problem.is_repairable() { "repair" } else { "by hand" };
        (name_of(&problem), format!("{} ({repair})\n{}", problem.name(), problem.meaning()))
    };
    assert_all("problem", variants, &all.map(text));
}

#[test]
fn every_doubt_reads_so() {
    let (variants, name_of) =
        variants!(Doubt: Hardware View Clock Seen Unseen NeverSeen Unclear Directory Mounts);
    let all = [
        Doubt::Hardware,
        Doubt::View,
        Doubt::Clock,
        Doubt::Seen,
        Doubt::Unseen,
        Doubt::NeverSeen,
        Doubt::Unclear,
        Doubt::Directory,
        Doubt::Mounts,
    ];
    assert_all("doubt", variants, &all.map(|doubt| (name_of(&doubt), doubt.to_string())));
}
