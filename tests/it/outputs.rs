//! The full output of every command in its usual cases on a file store: tests/data/outputs has a
//! file for each command, which `UPDATE_EXPECT=1` renews. The outputs for the Kubernetes store are
//! in `commands::kube::outputs`.

/// Commands that change a store.
mod changing;
/// Commands for a node or a file: `install`, `config check`.
mod nodes;
/// Commands that read.
mod reading;
/// Commands for the directory of a store.
mod stores;

use crate::support::sandbox::Sandbox;

const RANGE: &str = r#""range":"10.1.2.0/24","gateway":"10.1.2.1""#;
const POD: &str = "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u1";
/// The record of `c1`, below the data directory.
const C1: &str = "scopes/@/10.1.2.0_24/10.1.2.2";

/// `c1` holds 10.1.2.2, and `c2` for a pod 10.1.2.3. Both sandboxes are gone.
fn held() -> Sandbox {
    crate::commands::holding(crate::support::transcript::sandbox())
}

/// Makes one record unreadable.
fn damage(sandbox: &Sandbox, record: &str) {
    std::fs::write(sandbox.store().join(record), "garbage").unwrap();
}
