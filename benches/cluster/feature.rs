//! Measures the cost of the Kubernetes store in the executable for the file store: the same pairs
//! of ADD and DEL with it and without it, in turn.

use crate::plugin::file_store;
use crate::process::{Verb, run};
use crate::times::Times;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The results of both executables, pair by pair.
pub(crate) struct Feature {
    pub(crate) with: [Times; 2],
    pub(crate) without: [Times; 2],
    /// The medians of the differences of the ADDs and of the DELs, in milliseconds.
    pub(crate) slower: [f64; 2],
}

/// Measures `pairs` pairs with each of the two executables.
///
/// # Errors
/// Fails if a call fails.
pub(crate) fn feature(
    with: &Path,
    without: &Path,
    directory: &Path,
    pairs: usize,
) -> Result<Feature> {
    let stores = [(with, "with"), (without, "without")]
        .map(|(program, name)| prepared(program, &directory.join(name)));
    let [with, without] = stores;
    let (with, without) = (with?, without?);
    let mut seen =
        Feature { with: Default::default(), without: Default::default(), slower: [0.0; 2] };
    let mut differences = [Vec::new(), Vec::new()];
    for index in 0..pairs + 32 {
        let container = crate::plugin::container(index % 32);
        // The executables alternate in going first, because the second one finds the shared files
        // in the cache.
        let order = if index % 2 == 0 { [&with, &without] } else { [&without, &with] };
        let mut took = Vec::new();
        for store in order {
            for verb in [Verb::Add, Verb::Del] {
                took.push(run(&mut command(store, verb, &container), INPUT.as_bytes())?.took);
            }
        }
        // The first pair of each container creates directories, and does not count.
        let [first_add, first_del, second_add, second_del] = took.as_slice() else { continue };
        if index < 32 {
            continue;
        }
        let both = [(first_add, second_add), (first_del, second_del)];
        for (verb, (first, second)) in both.into_iter().enumerate() {
            let (with, without) = if index % 2 == 0 { (first, second) } else { (second, first) };
            if let (Some(ours), Some(others), Some(differences)) =
                (seen.with.get_mut(verb), seen.without.get_mut(verb), differences.get_mut(verb))
            {
                ours.push(*with);
                others.push(*without);
                differences.push((with.as_secs_f64() - without.as_secs_f64()) * 1e3);
            }
        }
    }
    seen.slower = differences.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    });
    Ok(seen)
}

const INPUT: &str = r#"{"cniVersion":"1.0.0","name":"files","type":"macvlan","ipam":{"type":"hereabouts","range":"10.0.0.0/8"}}"#;

/// An executable, and the flat file that names its store.
type Prepared = (PathBuf, PathBuf);

fn prepared(program: &Path, store: &Path) -> Result<Prepared> {
    Ok((program.to_owned(), file_store(store)?))
}

fn command((program, flat): &Prepared, verb: Verb, container: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HEREABOUTS_CONFIG", flat)
        .env("CNI_COMMAND", verb.name())
        .env("CNI_CONTAINERID", container);
    command
        .env("CNI_NETNS", "/var/run/netns/none")
        .env("CNI_IFNAME", "net1")
        .env("CNI_PATH", "/opt/cni/bin");
    command
}
