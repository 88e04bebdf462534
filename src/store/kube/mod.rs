//! The store in the Kubernetes API: one custom resource is one address held.

pub mod crd;
mod names;
