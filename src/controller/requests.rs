//! The requests to the API server: each has a deadline, and each write is counted.

use super::metrics::Metrics;
use super::pool::PoolKind;
use super::shapes::{
    ADDRESS, AddressObject, CLAIM, ClaimObject, IPAM, IpamClaimObject, OwnPoolObject, PoolObject,
    resource,
};
use crate::ipam::{IPAM_CLAIM, IPAM_CLAIM_GROUP};
use crate::store::kube::objects::claim_object::ClaimObject as HeldByClaim;
use crate::store::kube::objects::{ip_allocation as allocation, ipam_claim};
use k8s::api::{
    Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use k8s::core::Status;
use k8s::{Client, Error};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Debug;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// The longest time of one request. The client repeats a request that a busy server sent away.
const DEADLINE: Duration = Duration::from_secs(15);
/// The name under which the API server notes who wrote a field.
const MANAGER: &str = "hereabouts-controller";

/// How a request ended that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An object of that name is there already.
    #[error("the object exists")]
    Exists,
    /// The object has changed, or is another one.
    #[error("the object has changed in the meantime")]
    Changed,
    /// The object is gone. The API server said so of this object, and not of its whole resource.
    #[error("the object is gone")]
    Gone,
    /// The API server refuses what was asked.
    #[error("the API server refuses to {action} {subject}: {reason}")]
    Refused {
        /// The verb.
        action: &'static str,
        /// The object.
        subject: String,
        /// The server's text.
        reason: String,
    },
    /// It is not known whether the request was served.
    #[error("cannot {action} {subject}: {reason}")]
    Unknown {
        /// The verb.
        action: &'static str,
        /// The object.
        subject: String,
        /// The error.
        reason: String,
    },
}

impl Failure {
    /// Returns the failure as it is counted: one of `metrics::WRITE_OUTCOMES`.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Exists | Self::Changed => "conflict",
            Self::Gone => "gone",
            Self::Refused { .. } => "refused",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// The result of a request.
pub type Answered<T> = Result<T, Failure>;

/// The requests that the controller sends.
pub struct Requests {
    client: Client,
    /// The resource of claims, in the version that the API server has.
    pub claims: ApiResource,
    /// The resource of answers, in the same version.
    pub answers: ApiResource,
    metrics: Rc<Metrics>,
}

impl Requests {
    /// Returns the requests of a client. `version` is the one of claims and answers.
    #[must_use]
    pub fn new(client: Client, version: &str, metrics: Rc<Metrics>) -> Self {
        Self {
            claims: resource(IPAM, version, CLAIM),
            answers: resource(IPAM, version, ADDRESS),
            client,
            metrics,
        }
    }

    /// Returns the API of all claims.
    #[must_use]
    pub fn all_claims(&self) -> Api<ClaimObject> {
        Api::all_with(self.client.clone(), &self.claims)
    }

    /// Returns the API of all answers.
    #[must_use]
    pub fn all_answers(&self) -> Api<AddressObject> {
        Api::all_with(self.client.clone(), &self.answers)
    }

    /// Returns the API of the answers of a namespace.
    #[must_use]
    pub fn answers(&self, namespace: &str) -> Api<AddressObject> {
        Api::namespaced_with(self.client.clone(), namespace, &self.answers)
    }

    /// Returns the API of the claims of a namespace.
    #[must_use]
    pub fn claims(&self, namespace: &str) -> Api<ClaimObject> {
        Api::namespaced_with(self.client.clone(), namespace, &self.claims)
    }

    /// Returns the API of pools of Cluster API.
    #[must_use]
    pub fn pools(&self, kind: PoolKind, namespace: &str) -> Api<PoolObject> {
        let resource = resource(kind.group(), kind.version(), kind.name());
        match namespace.is_empty() {
            true => Api::all_with(self.client.clone(), &resource),
            false => Api::namespaced_with(self.client.clone(), namespace, &resource),
        }
    }

    /// Returns the API of IPPools of hereabouts.
    #[must_use]
    pub fn own_pools(&self) -> Api<OwnPoolObject> {
        let own = PoolKind::Own;
        self.all(&resource(own.group(), own.version(), own.name()))
    }

    /// Returns the API of the events of a namespace.
    #[must_use]
    pub fn events(&self, namespace: &str) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates an event.
    ///
    /// # Errors
    /// Any failure.
    pub async fn send_event(&self, event: &Event) -> Answered<Event> {
        let api = self.events(event.metadata.namespace.as_deref().unwrap_or("default"));
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let created = async { api.create(&post(), event).await };
        self.counted("events", "create", name, created).await
    }

    /// Returns the API of a resource whose objects are read in another shape.
    #[must_use]
    pub fn all<K>(&self, resource: &ApiResource) -> Api<K>
    where
        K: k8s::Resource<DynamicType = ApiResource>,
    {
        Api::all_with(self.client.clone(), resource)
    }

    /// Returns the API of a resource in one namespace, whose objects are read in another shape.
    #[must_use]
    pub fn within<K>(&self, namespace: &str, resource: &ApiResource) -> Api<K>
    where
        K: k8s::Resource<DynamicType = ApiResource, Scope = k8s::core::DynamicResourceScope>,
    {
        Api::namespaced_with(self.client.clone(), namespace, resource)
    }

    /// Reads an object as it is now. `None` if it is gone.
    ///
    /// # Errors
    /// Any failure. A resource that is not served is a failure, too: it says nothing of the object.
    pub async fn get<K>(&self, api: &Api<K>, name: &str) -> Answered<Option<K>>
    where
        K: Clone + Debug + serde::de::DeserializeOwned,
    {
        match bounded("read", name, api.get(name)).await {
            Ok(object) => Ok(Some(object)),
            Err(Failure::Gone) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Reads a page of objects as they are now, from the token of the page before.
    ///
    /// # Errors
    /// Any failure.
    pub async fn page<K>(
        &self,
        api: &Api<K>,
        from: Option<&str>,
    ) -> Answered<k8s::core::ObjectList<K>>
    where
        K: Clone + Debug + serde::de::DeserializeOwned,
    {
        let mut parameters = k8s::api::ListParams::default().limit(500);
        parameters.continue_token = from.map(str::to_owned);
        match bounded("list", "objects", api.list(&parameters)).await {
            // The resource is not served, so there are none.
            Err(Failure::Unknown { reason, .. }) if reason.contains("404") => {
                Ok(k8s::core::ObjectList {
                    types: k8s::api::TypeMeta { api_version: String::new(), kind: String::new() },
                    metadata: Default::default(),
                    items: Vec::new(),
                })
            }
            other => other,
        }
    }

    /// Returns the revision of the API server's state. It rises with every write of anybody.
    ///
    /// # Errors
    /// Any failure.
    pub async fn revision(&self) -> Answered<u64> {
        let parameters = k8s::api::ListParams::default().limit(1);
        let list = bounded("list", "ipallocations", self.allocations().list(&parameters)).await?;
        let text = list.metadata.resource_version.unwrap_or_default();
        text.parse().map_err(|error| unknown("read", "the revision", &error))
    }

    /// Returns the Leases of a name, of all namespaces.
    ///
    /// # Errors
    /// Any failure.
    pub async fn leases(&self, name: &str) -> Answered<Vec<Lease>> {
        let api: Api<Lease> = Api::all(self.client.clone());
        // Few have it. A limit keeps the answer small if somebody makes thousands.
        let parameters =
            k8s::api::ListParams::default().fields(&format!("metadata.name={name}")).limit(100);
        Ok(bounded("list", "leases", api.list(&parameters)).await?.items)
    }

    /// Returns the API of the Leases of a namespace.
    #[must_use]
    pub fn leases_of(&self, namespace: &str) -> Api<Lease> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Writes a Lease as it was read and changed, or creates it if it was not there.
    ///
    /// # Errors
    /// [`Failure::Changed`] or [`Failure::Exists`] if it is no longer as it was read.
    pub async fn write_lease(&self, namespace: &str, lease: &Lease) -> Answered<Lease> {
        let api = self.leases_of(namespace);
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        match lease.metadata.resource_version {
            Some(_) => {
                let replaced = async { api.replace(name, &post(), lease).await };
                self.counted("leases", "update", name, replaced).await
            }
            None => {
                let created = async { api.create(&post(), lease).await };
                self.counted("leases", "create", name, created).await
            }
        }
    }

    /// Returns the time of the API server in seconds since 1970, as it would write it into an object
    /// that is created now. Creates none.
    ///
    /// # Errors
    /// Any failure.
    pub async fn second(&self, namespace: &str) -> Answered<u64> {
        let parameters = PostParams { dry_run: true, ..post() };
        let mut lease = Lease::default();
        lease.metadata.generate_name = Some(format!("{MANAGER}-"));
        let api = self.leases_of(namespace);
        let created = bounded("try to create", "a lease", api.create(&parameters, &lease)).await?;
        let time = created.metadata.creation_timestamp.map(|time| time.0.as_second());
        time.and_then(|second| u64::try_from(second).ok())
            .ok_or_else(|| unknown("read", "the time", &"the object has none"))
    }

    /// Creates the IPAllocation of a claim. This is the moment at which the claim holds the address.
    ///
    /// # Errors
    /// [`Failure::Exists`] if somebody holds the address.
    pub async fn hold(&self, held: &HeldByClaim) -> Answered<super::state::Version> {
        let api = self.allocations();
        let object: DynamicObject = serde_json::from_value(serde_json::json!(held))
            .map_err(|error| unknown("create", &held.metadata.name, &error))?;
        let created = self.counted("ipallocations", "create", &held.metadata.name, async {
            api.create(&post(), &object).await
        });
        Ok(super::state::Version::of(&created.await?.metadata))
    }

    /// Deletes an IPAllocation, if it is still this state of this object.
    ///
    /// # Errors
    /// [`Failure::Changed`] if it is not, [`Failure::Gone`] if it is gone.
    pub async fn free(&self, name: &str, version: &super::state::Version) -> Answered<()> {
        self.end(name, version).await.map(drop)
    }

    /// Deletes an IPAllocation that a finalizer may keep, if it is still this state of this object.
    /// Returns whether it is gone.
    ///
    /// # Errors
    /// [`Failure::Changed`] if it is not, [`Failure::Gone`] if it was gone.
    pub async fn end(&self, name: &str, version: &super::state::Version) -> Answered<bool> {
        let api = self.allocations();
        let parameters = exactly(version);
        let deleted = self.counted("ipallocations", "delete", name, api.delete(name, &parameters));
        Ok(deleted.await?.is_right())
    }

    /// Deletes an object of hereabouts, if it is still this state of this object.
    ///
    /// # Errors
    /// [`Failure::Changed`] if it is not, [`Failure::Gone`] if it is gone.
    pub async fn delete_exactly(
        &self,
        kind: &str,
        plural: &'static str,
        name: &str,
        version: &super::state::Version,
    ) -> Answered<()> {
        let resource = resource(allocation::GROUP, allocation::VERSION, kind);
        let api = self.all::<DynamicObject>(&resource);
        let deleted = async { api.delete(name, &exactly(version)).await.map(drop) };
        self.counted(plural, "delete", name, deleted).await
    }

    /// Reads all objects of a resource as they are now.
    ///
    /// # Errors
    /// Any failure. A resource that is not served is a failure, too: it says nothing of its objects.
    pub async fn list<K>(&self, resource: &ApiResource) -> Answered<Vec<K>>
    where
        K: k8s::Resource<DynamicType = ApiResource> + Clone + Debug + serde::de::DeserializeOwned,
    {
        let api = self.all::<K>(resource);
        let mut parameters = k8s::api::ListParams::default().limit(500);
        let mut all = Vec::new();
        loop {
            let page = bounded("list", &resource.plural, api.list(&parameters)).await?;
            all.extend(page.items);
            parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if parameters.continue_token.is_none() {
                return Ok(all);
            }
        }
    }

    /// Reads an IPAllocation as it is now. `None` if it is gone.
    ///
    /// # Errors
    /// Any failure.
    pub async fn get_allocation(&self, name: &str) -> Answered<Option<DynamicObject>> {
        self.get(&self.allocations(), name).await
    }

    /// Changes an IPAllocation with a merge patch.
    ///
    /// # Errors
    /// Any failure.
    pub async fn patch_allocation(&self, name: &str, patch: &Value) -> Answered<()> {
        self.patch(&self.allocations(), "ipallocations", name, patch).await.map(|_| ())
    }

    /// Returns the API of the IPAMClaims of a namespace.
    #[must_use]
    pub fn ipam_claims(&self, namespace: &str) -> Api<IpamClaimObject> {
        let resource = resource(IPAM_CLAIM_GROUP, ipam_claim::VERSION, IPAM_CLAIM);
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// Returns the API of IPAllocations.
    #[must_use]
    fn allocations(&self) -> Api<DynamicObject> {
        let resource = resource(allocation::GROUP, allocation::VERSION, allocation::KIND);
        Api::all_with(self.client.clone(), &resource)
    }

    /// Creates an answer.
    ///
    /// # Errors
    /// [`Failure::Exists`] if the claim has an answer.
    pub async fn answer(&self, namespace: &str, answer: &AddressObject) -> Answered<AddressObject> {
        let name = answer.metadata.name.as_deref().unwrap_or_default();
        let api = self.answers(namespace);
        let created = async { api.create(&post(), answer).await };
        self.counted("ipaddresses", "create", name, created).await
    }

    /// Deletes an answer of this uid. Returns whether it is gone, and does not wait for somebody's
    /// finalizer.
    ///
    /// # Errors
    /// [`Failure::Changed`] if another answer has the name.
    pub async fn withdraw(&self, namespace: &str, name: &str, uid: &str) -> Answered<bool> {
        let api = self.answers(namespace);
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.counted("ipaddresses", "delete", name, api.delete(name, &parameters)).await {
            Ok(answer) => Ok(answer.right().is_some()),
            Err(Failure::Gone) => Ok(true),
            Err(failure) => Err(failure),
        }
    }

    /// Changes an object with a merge patch. A patch with a resourceVersion changes nothing if the
    /// object has changed.
    ///
    /// # Errors
    /// Any failure.
    pub async fn patch<K>(
        &self,
        api: &Api<K>,
        resource: &'static str,
        name: &str,
        patch: &Value,
    ) -> Answered<K>
    where
        K: Clone + Debug + serde::de::DeserializeOwned,
    {
        let patched = async { api.patch(name, &parameters(), &Patch::Merge(patch)).await };
        self.counted(resource, "patch", name, patched).await
    }

    /// Changes the status of an object with a merge patch.
    ///
    /// # Errors
    /// Any failure.
    pub async fn patch_status<K, P>(
        &self,
        api: &Api<K>,
        resource: &'static str,
        name: &str,
        patch: &P,
    ) -> Answered<K>
    where
        K: Clone + Debug + serde::de::DeserializeOwned,
        P: Serialize + Debug,
    {
        let patched = async { api.patch_status(name, &parameters(), &Patch::Merge(patch)).await };
        self.counted(resource, "patch", name, patched).await
    }

    async fn counted<T>(
        &self,
        resource: &'static str,
        verb: &'static str,
        name: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Answered<T> {
        let begun = tokio::time::Instant::now();
        let answered = bounded(verb, &format!("{resource}/{name}"), request).await;
        let outcome = answered.as_ref().map_or_else(Failure::outcome, |_| "done");
        self.metrics.write(resource, verb, outcome, begun.elapsed());
        answered
    }
}

/// Returns that only this state of an object is to be deleted.
fn exactly(version: &super::state::Version) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(version.uid.to_string()),
            resource_version: Some(version.revision.to_string()),
        }),
        ..DeleteParams::default()
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

async fn bounded<T>(
    action: &'static str,
    subject: &str,
    request: impl Future<Output = Result<T, Error>>,
) -> Answered<T> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Error::Api(status))) => Err(told(action, subject, &status)),
        Ok(Err(error)) => Err(unknown(action, subject, &super::client::explained(&error))),
        Err(_) => {
            Err(unknown(action, subject, &format!("no answer within {} s", DEADLINE.as_secs())))
        }
    }
}

fn unknown(action: &'static str, subject: &str, reason: &dyn std::fmt::Display) -> Failure {
    Failure::Unknown { action, subject: subject.to_owned(), reason: reason.to_string() }
}

/// Returns what the API server has answered.
fn told(action: &'static str, subject: &str, status: &Status) -> Failure {
    let names_the_object = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
    let refused =
        || Failure::Refused { action, subject: subject.to_owned(), reason: status.message.clone() };
    match (status.code, status.reason.as_str()) {
        (409, "AlreadyExists") => Failure::Exists,
        (409, _) => Failure::Changed,
        // While the API server starts, it says 404 of whole resources.
        (404, _) if names_the_object => Failure::Gone,
        (400 | 401 | 403 | 413 | 422, _) => refused(),
        // etcd's limit. The API server gives it as a mistake of its own.
        (500, _) if status.message.ends_with("request is too large") => refused(),
        _ => unknown(action, subject, &status.message),
    }
}
