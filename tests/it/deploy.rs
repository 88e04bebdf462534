//! deploy/: the manifests against the structs, the chart against the manifests,
//! and both against a real API server.

/// The Helm chart: linted, and what it renders.
mod chart;
/// The image that the DaemonSet runs, built.
mod image;
/// What the API server takes and refuses.
mod objects;
/// The pod of the DaemonSet, played from its manifest.
mod pod;
/// What the admission policy lets a token do, and the whole table of it.
mod policy;
/// The custom resource's manifest, made from the structs.
mod resource;
/// Each right of the role taken away.
mod rights;
