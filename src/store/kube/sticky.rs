//! Sticky addresses in the Kubernetes store: one StickyIP object per address, which names the
//! StatefulSet pod that was given the address last. It is a separate resource and decides nothing:
//! the IPAllocation tells who holds an address.
//!
//! An ADD on a network with `sticky` lists the StickyIP objects of its scope, as a table without
//! the objects. It writes one if it has given another address than before. The list comes from the
//! API server's cache, which may be some moments old: a list that has to be current waits until
//! etcd has confirmed to the server that nothing is newer, which usually takes 60 ms.

use super::KubeStore;
use super::api::retries::Call;
use super::api::{Api, JSON, TABLE, escape};
use super::objects::ip_allocation::{GROUP, Metadata, VERSION};
use super::objects::names;
use crate::api_client::http::{Method, Request};
use crate::ipam::{IfName, NetworkName, Scope, Sticky, StickyOwner};
use crate::retry::Deadline;
use crate::store::StoreError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The plural name of the resource.
pub const PLURAL: &str = "stickyips";
/// The kind of the resource.
pub const KIND: &str = "StickyIP";
/// The columns that its table shows in addition to the name: the title of each, and its path in the
/// object.
pub const COLUMNS: [(&str, &str); 6] = [
    ("Address", ".spec.address"),
    ("Namespace", ".spec.podRef.namespace"),
    ("Pod", ".spec.podRef.name"),
    ("Network", ".spec.network"),
    ("Interface", ".spec.interface"),
    ("Since", ".spec.since"),
];

/// The content type of server-side apply: one request creates the object or overwrites what exists.
const APPLY: &str = "application/apply-patch+yaml";

/// An address and the pod that gets it again.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StickyIp {
    api_version: String,
    kind: &'static str,
    metadata: Metadata,
    spec: Spec,
}

/// Which pod was given the address last.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(description = "Which pod of a StatefulSet was given the address last.")]
pub struct Spec {
    /// The address. IPv6 in its short form (RFC 5952).
    #[schemars(length(max = 45), extend("x-kubernetes-validations" = [
        { "rule": "isIP(self) && ip.isCanonical(self)", "message": "expected an IPv4 address, or an IPv6 address in its short form" },
        { "rule": "self == oldSelf", "message": "never changes" },
    ]))]
    pub address: IpAddr,
    /// The name space in which the address is unique (`network_name`). Absent if not configured.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The name of the CNI network configuration.
    #[schemars(length(max = 4096), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    pub network: String,
    /// The interface in the pod.
    #[schemars(length(max = 15), regex(pattern = r"^[^/:\s]+$"))]
    pub interface: String,
    /// The name of the pod. A later pod of this name gets the address again.
    pub pod_ref: Pod,
    /// When the address was given (RFC 3339).
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
}

/// A pod by name.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Pod {
    /// Its namespace.
    #[schemars(length(min = 1, max = 253))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl KubeStore {
    pub(super) fn list_sticky(
        &self,
        scope: &Scope,
        deadline: &Deadline,
    ) -> Result<Vec<Sticky>, StoreError> {
        let selector = format!("{}={}", names::SCOPE, names::of_scope(scope));
        let table = self.api.sticky_table(&selector, deadline)?;
        let at = COLUMNS.map(|(name, _)| {
            table.column_definitions.iter().position(|column| column.name == name)
        });
        Ok(table.rows.iter().filter_map(|row| row.sticky(at)).collect())
    }

    pub(super) fn apply_sticky(
        &self,
        scope: &Scope,
        sticky: &Sticky,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let Sticky { address, owner, since } = sticky;
        let labels = BTreeMap::from([
            (names::SCOPE.to_owned(), names::of_scope(scope)),
            (names::POD.to_owned(), names::of_pod(&owner.namespace, &owner.pod)),
        ]);
        self.api.apply_sticky(
            &StickyIp {
                api_version: format!("{GROUP}/{VERSION}"),
                kind: KIND,
                metadata: Metadata {
                    name: names::object(scope, *address),
                    labels,
                    ..Metadata::default()
                },
                spec: Spec {
                    address: *address,
                    scope: scope.name().map(str::to_owned),
                    network: owner.network.to_string(),
                    interface: owner.ifname.to_string(),
                    pod_ref: Pod { namespace: owner.namespace.clone(), name: owner.pod.clone() },
                    since: humantime::format_rfc3339_micros(*since).to_string(),
                },
            },
            deadline,
        )
    }
}

impl Api {
    fn sticky_table(&self, selector: &str, deadline: &Deadline) -> Result<Table, StoreError> {
        let query =
            format!("resourceVersion=0&includeObject=None&labelSelector={}", escape(selector));
        let path = format!("/apis/{GROUP}/{VERSION}/{PLURAL}?{query}");
        let request = Request { method: Method::Get, path: &path, accept: TABLE, content: None };
        let call = Call { resource: PLURAL, verb: "list", name: None, request };
        Ok(self.call(&call, deadline, |answer, _| match answer.status {
            200 => serde_json::from_slice(&answer.body)
                .map(Some)
                .map_err(|error| self.unreadable("list", &error.to_string())),
            _ => Ok(None),
        })?)
    }

    fn apply_sticky(&self, object: &StickyIp, deadline: &Deadline) -> Result<(), StoreError> {
        let body = serde_json::to_vec(object)
            .map_err(|error| self.unreadable("apply", &error.to_string()).error)?;
        let name = &object.metadata.name;
        let path = format!(
            "/apis/{GROUP}/{VERSION}/{PLURAL}/{}?fieldManager=hereabouts&force=true",
            escape(name)
        );
        let request = Request {
            method: Method::Patch,
            path: &path,
            accept: JSON,
            content: Some((APPLY, &body)),
        };
        let call = Call { resource: PLURAL, verb: "patch", name: Some(name), request };
        Ok(self.call(&call, deadline, |answer, _| {
            Ok(matches!(answer.status, 200 | 201).then_some(()))
        })?)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    #[serde(default)]
    column_definitions: Vec<Column>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
}

#[derive(Deserialize)]
struct Row {
    cells: Vec<Value>,
}

impl Row {
    /// Returns the sticky address of a row. `at` gives the positions of the columns, because a
    /// later version may have more columns. Returns `None` for a row that no version of hereabouts
    /// wrote.
    fn sticky(&self, at: [Option<usize>; 6]) -> Option<Sticky> {
        let [address, namespace, pod, network, interface, since] =
            at.map(|at| self.cells.get(at?)?.as_str());
        let owner = StickyOwner {
            network: NetworkName::parse(network?).ok()?,
            ifname: IfName::parse(interface?).ok()?,
            namespace: namespace?.to_owned(),
            pod: pod?.to_owned(),
        };
        Some(Sticky {
            address: address?.parse().ok()?,
            owner,
            since: humantime::parse_rfc3339(since?).ok()?,
        })
    }
}
