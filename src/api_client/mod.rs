//! The client of the Kubernetes API server: reads a kubeconfig, sends one HTTP request and reads
//! its answer, within a time limit.
//!
//! It knows nothing of objects, allocations or stores, and never repeats a request.
//!
//! ```text
//! kubeconfig   which server to use, whom to trust, the client's credentials
//! url          the parts of a URL, for servers and proxies
//! proxy        whether the request goes through a proxy
//! resolver     host name to addresses: /etc/hosts, then dns_query
//! dns_query    asks DNS servers for the addresses of a name
//! connection   TCP, the tunnel through a proxy, and tls
//! http         HTTP/1.1: writes one request, reads one answer
//! client       all of them, for one call
//! trouble      why a server was not reached, and whether a retry may help
//! token, way   tell two clusters apart
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
