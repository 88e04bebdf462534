//! The store in the Kubernetes API: one custom resource is one address held.

pub mod client;
mod connection;
pub mod crd;
mod endpoint;
mod http;
mod kubeconfig;
mod names;
mod proxy;
mod resolve;
mod tls;
