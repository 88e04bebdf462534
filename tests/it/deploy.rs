//! deploy/: the manifests compared with the structs, the chart compared with the manifests, and
//! both applied to a real API server.

/// The Helm chart: linted and rendered.
pub(crate) mod chart;
/// What the API server accepts and refuses of the objects of claims.
mod claims;
/// The controller's manifests, its rights, and what watches it.
mod controller;
/// The image that the DaemonSet runs.
mod image;
/// What the API server accepts and refuses.
mod objects;
/// The pod of the DaemonSet, run from its manifest.
mod pod;
/// What the admission policy lets a token do, with the whole table.
mod policy;
/// The same for the objects of claims.
mod policy_of_claims;
/// The custom resources' manifests, generated from the structs.
mod resource;
/// The role without each of its rights.
mod rights;
