//! The client of the Kubernetes API against a TLS server of the tests, which
//! says and does what no API server should; and against a real one.

/// Authorities and certificates, good and bad.
mod certificates;
/// The executable against servers that never come to an end.
mod endless;
/// What the server answers, and when it does not.
mod http;
/// kubeconfigs that cannot be used.
mod kubeconfig;
/// Host names, without the C library and what it would load.
mod names;
/// Ways through a proxy.
mod proxy;
/// The real API server.
mod real;
/// The TLS server.
mod server;
/// Whom the client trusts, and who it is.
mod tls;
