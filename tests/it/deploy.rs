//! deploy/: the manifests against the structs, the chart against the manifests,
//! and both against a real API server.

/// The custom resource's manifest, made from the structs.
mod resource;
