//! The marks on records whose node is out of service: `status.outOfService`.
//!
//! The API server compares the node of a record with all Nodes when the mark is written, and allows
//! the deletion of a record only with a mark of its generation (deploy/node/policy.yaml). To compare
//! each deletion instead would cost every DEL of a pod the same time.

use super::requests::{Answered, Failure, Requests};
use super::shapes::{AllocationObject, resource};
use super::state::Version;
use crate::store::kube::objects::ip_allocation as allocation;
use crate::store::kube::objects::ip_allocation_status::OutOfService;
use k8s::api::Api;
use serde_json::{Value, json};

/// The resource of the status, for metrics.
const RESOURCE: &str = "ipallocations/status";

/// Returns the API of IPAllocations in the shape that says who holds them.
#[must_use]
pub fn api(requests: &Requests) -> Api<AllocationObject> {
    requests.all(&resource(allocation::GROUP, allocation::VERSION, allocation::KIND))
}

/// Returns the uid of the Node that a record is marked for, if its spec has not changed since.
#[must_use]
pub fn marked_for(object: &AllocationObject) -> Option<&str> {
    object.status.as_ref()?.marked_for(object.metadata.generation)
}

/// Marks a record, if it is still this state of this object. Returns the next state.
///
/// # Errors
/// [`Failure::Changed`] if it is not, [`Failure::Gone`] if it is gone.
pub async fn put(
    requests: &Requests,
    name: &str,
    version: &Version,
    mark: &OutOfService,
) -> Answered<AllocationObject> {
    write(requests, name, version, &json!(mark)).await
}

/// Removes the mark of a record, if it is still this state of this object.
///
/// # Errors
/// [`Failure::Changed`] if it is not, [`Failure::Gone`] if it is gone.
pub async fn remove(requests: &Requests, name: &str, version: &Version) -> Answered<()> {
    write(requests, name, version, &Value::Null).await.map(|_| ())
}

async fn write(
    requests: &Requests,
    name: &str,
    version: &Version,
    mark: &Value,
) -> Answered<AllocationObject> {
    let api = api(requests);
    let known = json!({"uid": *version.uid, "resourceVersion": *version.revision});
    let patch = json!({"metadata": known, "status": {"outOfService": mark}});
    match requests.patch_status(&api, RESOURCE, name, &patch).await {
        // An older resource has no status. The API server says the same of it as of an object that
        // is gone.
        Err(Failure::Gone) if requests.get(&api, name).await?.is_some() => Err(Failure::Unknown {
            action: "mark",
            subject: name.to_owned(),
            reason: "the resource ipallocations has no status; apply deploy/crd again".to_owned(),
        }),
        other => other,
    }
}
