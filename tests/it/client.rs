//! The client of the Kubernetes API, against a TLS server of the tests that behaves as no API
//! server should, and against a real API server.

/// Authorities and certificates, good and bad.
mod certificates;
/// The executable against servers whose answers never end.
mod endless;
/// Answers of the server, and missing answers.
mod http;
/// kubeconfigs that cannot be used.
mod kubeconfig;
/// Host names, resolved without the C library.
mod names;
/// Connections through a proxy.
mod proxy;
/// The real API server.
mod real;
/// The TLS server.
mod server;
/// Authorities that the client trusts, and client certificates.
mod tls;
