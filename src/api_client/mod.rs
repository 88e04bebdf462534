//! The client of the Kubernetes API server: a kubeconfig in, one HTTP request
//! and its answer out, within a time limit.
//!
//! Knows nothing of objects, allocations or stores, and never repeats a request.
//!
//! ```text
//! kubeconfig   which server, whom to trust, who we are
//! url          the parts of a URL, for servers and proxies
//! proxy        whether the request goes through a proxy
//! resolver     host name to addresses: /etc/hosts, then dns_query
//! connection   TCP, a proxy's tunnel, and tls
//! http         HTTP/1.1: one request written, one answer read
//! client       all of them, for one call
//! token, way   what tells two clusters apart
//! ```

pub mod client;
mod connection;
mod dns_query;
pub mod http;
mod kubeconfig;
mod proxy;
mod resolver;
mod tls;
pub(crate) mod token;
mod trouble;
mod url;
pub mod way;
