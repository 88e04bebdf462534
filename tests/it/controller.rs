//! The controller as a process, with a real API server. The stage `controller` of `scripts/test`
//! runs these tests.

use crate::support::cluster::Cluster;

/// The page in a real browser.
mod browser;
/// Addresses of nodes whose Node object is gone.
mod deleted_nodes;
/// How pools that are gone were cut.
mod geometries;
/// What it serves over HTTP, and its limits.
mod http;
/// Leak candidates.
mod leaks;
/// Nodes that are off, and a replica that looks at them.
mod node_scene;
/// Addresses of nodes that are off.
mod off_nodes;
/// The page for people.
mod page;
/// Slices of nodes that are off.
mod released_slices;
/// Several replicas and their lease.
mod replicas;
/// The rights of deploy/controller.
mod rights;
/// Pools with slices.
mod slices;
/// How it starts, and how it refuses to.
mod start;

fn cluster() -> Option<&'static Cluster> {
    Cluster::shared().map_err(|reason| skipped!("{reason}")).ok()
}

/// Creates a namespace, in which a test has a lease of its own.
fn namespace(cluster: &Cluster, name: &str) {
    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"));
}
