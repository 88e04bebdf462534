//! The move from Whereabouts, on a real API server: its state, the answers of nodes, and the commands
//! that an operator runs.

use crate::support::cluster::{Cluster, Options};
use serde_json::{Value, json};

/// What nodes answer, and what their tokens may write.
mod answers;
/// The way back.
mod back;
/// What removes addresses for Whereabouts.
mod cleaners;
/// From the first command to the last.
mod commands;
/// What Whereabouts sees after an export.
mod export;
/// What hereabouts holds when a move starts.
mod given_before;
/// What a move refuses.
mod refused;
/// What the token of a node needs.
mod rights;
/// Networks whose nodes own slices.
mod sliced;
/// The words of each command.
mod words;
/// A cluster of Whereabouts.
mod world;

/// Returns a cluster without other tests: there is one Move in a cluster.
fn cluster() -> Option<Cluster> {
    Cluster::own(Options::default()).map_err(|reason| skipped!("{reason}")).ok()
}

/// Creates the Move, or changes its state. The generation rises with each new state.
fn set(cluster: &Cluster, generation: u64, state: &str) {
    let object = json!({
        "apiVersion": "hereabouts.dev/v1alpha1", "kind": "Move", "metadata": {"name": "whereabouts"},
        "spec": {"state": state, "generation": generation, "since": "2026-11-30T10:00:00Z"},
    });
    cluster.apply(&object.to_string());
}

fn the_move(cluster: &Cluster) -> Value {
    let text = cluster.text(&["get", "move", "whereabouts", "-o", "json"]);
    serde_json::from_str(&text).unwrap()
}
