//! The requests about Whereabouts' objects, and about its Lease.

use crate::api_client::http::{Method, Request};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::api::answer::{Table, is_absent, is_taken};
use crate::store::kube::api::paging::Place as PageOfList;
use crate::store::kube::api::retries::{Call, Failed, LEASES};
use crate::store::kube::api::{Api, JSON, MERGE, TABLE, escape};
use crate::whereabouts::objects::{ObjectName, ReservationSpec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The pools of Whereabouts.
pub(super) const POOLS: &str = "ippools.whereabouts.cni.cncf.io";
/// Its reservations.
pub(super) const RESERVATIONS: &str = "overlappingrangeipreservations.whereabouts.cni.cncf.io";
const ALL: &str = "/apis/whereabouts.cni.cncf.io/v1alpha1";
const JSON_PATCH: &str = "application/json-patch+json";
/// Which object it is, without its content.
const NAME_ALONE: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const NAMES_ALONE: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
/// The most names in one page of a list.
const PAGE: usize = 500;

/// Where a pool is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How old a list may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// What the API server has in its cache, for a call that looks again later. For a list of now, the
    /// server waits until its cache is told that it is complete, up to a tenth of a second.
    Cached,
    /// Everything that was written before.
    Now,
}

/// How a change ended that has conditions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// It was carried out.
    Done,
    /// A condition does not hold, or another writer came in between.
    Not,
    /// The object does not exist.
    Absent,
}

/// A reservation.
#[derive(Debug, Deserialize)]
pub(super) struct Reservation {
    pub(super) metadata: ObjectName,
    #[serde(default)]
    pub(super) spec: ReservationSpec,
}

/// A Lease.
#[derive(Debug, Deserialize)]
pub(super) struct Lease {
    pub(super) metadata: ObjectName,
    #[serde(default)]
    pub(super) spec: LeaseSpec,
}

/// Who holds a Lease.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeaseSpec {
    pub(super) holder_identity: Option<String>,
    pub(super) lease_duration_seconds: Option<u64>,
    pub(super) renew_time: Option<String>,
    pub(super) lease_transitions: Option<u64>,
}

#[derive(Deserialize)]
struct Named {
    metadata: ObjectName,
}

#[derive(Deserialize)]
struct NamedList {
    items: Vec<Named>,
}

fn pool_path(place: &Place) -> String {
    let Place { namespace, name } = place;
    format!("{ALL}/namespaces/{}/ippools/{}", escape(namespace), escape(name))
}

fn reservations(namespace: &str) -> String {
    format!("{ALL}/namespaces/{}/overlappingrangeipreservations", escape(namespace))
}

fn leases(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{}/{LEASES}", escape(namespace))
}

impl Api {
    /// Returns the names of all pools of all namespaces. A name can be there twice.
    pub(super) fn names_of_pools(
        &self,
        age: Age,
        deadline: &Deadline,
    ) -> Result<Vec<String>, StoreError> {
        let (mut place, mut names) = (PageOfList::default(), Vec::new());
        while !place.is_ended() {
            if !place.has_time(deadline) {
                let reason = "the list has more pages than could be read";
                return Err(self.contended("list", POOLS, reason, deadline));
            }
            let which = match age {
                Age::Cached => "resourceVersion=0".to_owned(),
                Age::Now => format!("limit={PAGE}"),
            };
            let mut path = format!("{ALL}/ippools?{which}&includeObject=None");
            if let Some(token) = place.token() {
                path.push_str(&format!("&continue={}", escape(token)));
            }
            let request =
                Request { method: Method::Get, path: &path, accept: TABLE, content: None };
            let call = Call { resource: POOLS, verb: "list", name: None, request };
            let table: Option<Table> =
                self.call(&call, deadline, |answer, _| match answer.status {
                    200 => serde_json::from_slice(&answer.body)
                        .map(|table| Some(Some(table)))
                        .map_err(|error| self.unexpected("list", POOLS, &error.to_string())),
                    // The place has expired.
                    410 => Ok(Some(None)),
                    _ => Ok(None),
                })?;
            let Some(table) = table else {
                (place, names) = (PageOfList::default(), Vec::new());
                continue;
            };
            names.extend(table.rows.into_iter().map(|row| row.cells.0));
            let next = place.go_on(table.metadata.next());
            next.map_err(|reason| self.unexpected("list", POOLS, reason).error)?;
        }
        Ok(names)
    }

    /// Returns whether there is a pool of this name in this namespace.
    pub(super) fn has_pool(&self, place: &Place, deadline: &Deadline) -> Result<bool, StoreError> {
        let path = pool_path(place);
        let request =
            Request { method: Method::Get, path: &path, accept: NAME_ALONE, content: None };
        let call = Call { resource: POOLS, verb: "get", name: Some(&place.name), request };
        Ok(self.call(&call, deadline, |answer, _| match answer.status {
            200 => Ok(Some(true)),
            404 if is_absent(answer) => Ok(Some(false)),
            _ => Ok(None),
        })?)
    }

    /// Returns the namespaces that have a pool of this name.
    pub(super) fn namespaces_of_pool(
        &self,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Vec<String>, StoreError> {
        let path = format!("{ALL}/ippools?fieldSelector=metadata.name%3D{}", escape(name));
        let request =
            Request { method: Method::Get, path: &path, accept: NAMES_ALONE, content: None };
        let call = Call { resource: POOLS, verb: "list", name: Some(name), request };
        let list: NamedList = self.call(&call, deadline, |answer, _| match answer.status {
            200 => serde_json::from_slice(&answer.body)
                .map(Some)
                .map_err(|error| self.unexpected("list", POOLS, &error.to_string())),
            _ => Ok(None),
        })?;
        let mut namespaces: Vec<String> =
            list.items.into_iter().map(|item| item.metadata.namespace).collect();
        namespaces.sort_unstable();
        Ok(namespaces)
    }

    /// Returns a pool as text.
    pub(super) fn pool_text(
        &self,
        place: &Place,
        deadline: &Deadline,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(POOLS, &place.name, &pool_path(place), deadline, |body| Ok(body.to_vec()))
    }

    /// Creates a pool without entries. Returns false if there is one of this name.
    pub(super) fn make_pool(
        &self,
        place: &Place,
        range: &str,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let Place { namespace, name } = place;
        let body = json!({
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"range": range, "allocations": {}},
        });
        let path = format!("{ALL}/namespaces/{}/ippools", escape(namespace));
        let made: Option<Named> = self.make(POOLS, name, &path, &body, deadline)?;
        Ok(made.is_some())
    }

    /// Changes a pool by a JSON patch (RFC 6902) that has its own conditions.
    pub(super) fn patch_pool(
        &self,
        place: &Place,
        patch: &Value,
        deadline: &Deadline,
    ) -> Result<Changed, StoreError> {
        let (path, body) = (pool_path(place), patch.to_string());
        let request = Request {
            method: Method::Patch,
            path: &path,
            accept: NAME_ALONE,
            content: Some((JSON_PATCH, body.as_bytes())),
        };
        let call = Call { resource: POOLS, verb: "patch", name: Some(&place.name), request };
        Ok(self.call(&call, deadline, |answer, _| match answer.status {
            200 => Ok(Some(Changed::Done)),
            // A `test` that fails is a 422, and so is a value that the schema refuses.
            409 | 422 => Ok(Some(Changed::Not)),
            404 if is_absent(answer) => Ok(Some(Changed::Absent)),
            _ => Ok(None),
        })?)
    }

    /// Returns a reservation. There is none where the resource does not exist: old versions of
    /// Whereabouts do without.
    pub(super) fn reservation(
        &self,
        namespace: &str,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<Reservation>, StoreError> {
        let path = format!("{}/{}", reservations(namespace), escape(name));
        self.read(RESERVATIONS, name, &path, deadline, |body| serde_json::from_slice(body))
            .or_else(without_resource)
    }

    /// Creates a reservation. Returns false if there is one.
    pub(super) fn reserve(
        &self,
        namespace: &str,
        name: &str,
        spec: &ReservationSpec,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let body = json!({
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": "OverlappingRangeIPReservation",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        });
        let made: Option<Named> =
            self.make(RESERVATIONS, name, &reservations(namespace), &body, deadline)?;
        Ok(made.is_some())
    }

    /// Removes exactly this reservation. It counts as removed if another one has its name.
    pub(super) fn remove_reservation(
        &self,
        reservation: &Reservation,
        deadline: &Deadline,
    ) -> Result<(), StoreError> {
        let ObjectName { namespace, name, uid, resource_version } = &reservation.metadata;
        let body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
        });
        let (body, path) =
            (body.to_string(), format!("{}/{}", reservations(namespace), escape(name)));
        let request = Request {
            method: Method::Delete,
            path: &path,
            accept: JSON,
            content: Some((JSON, body.as_bytes())),
        };
        let call = Call { resource: RESERVATIONS, verb: "delete", name: Some(name), request };
        Ok(self.call(&call, deadline, |answer, _| match answer.status {
            200 | 202 | 409 => Ok(Some(())),
            404 if is_absent(answer) => Ok(Some(())),
            _ => Ok(None),
        })?)
    }

    /// Returns the Lease of Whereabouts.
    pub(super) fn lease(
        &self,
        namespace: &str,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<Lease>, StoreError> {
        let path = format!("{}/{name}", leases(namespace));
        self.read(LEASES, name, &path, deadline, |body| serde_json::from_slice(body))
    }

    /// Creates the Lease. Returns `None` if there is one.
    pub(super) fn make_lease(
        &self,
        namespace: &str,
        name: &str,
        spec: &Value,
        deadline: &Deadline,
    ) -> Result<Option<Lease>, StoreError> {
        let body = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        self.make(LEASES, name, &leases(namespace), &body, deadline)
    }

    /// Changes the Lease in exactly the state that was read. Returns `None` if it has changed.
    pub(super) fn change_lease(
        &self,
        namespace: &str,
        known: &ObjectName,
        spec: &Value,
        deadline: &Deadline,
    ) -> Result<Option<Lease>, StoreError> {
        let body = json!({
            "metadata": {"uid": known.uid, "resourceVersion": known.resource_version},
            "spec": spec,
        });
        let (body, path) = (body.to_string(), format!("{}/{}", leases(namespace), known.name));
        let request = Request {
            method: Method::Patch,
            path: &path,
            accept: JSON,
            content: Some((MERGE, body.as_bytes())),
        };
        let call = Call { resource: LEASES, verb: "patch", name: Some(&known.name), request };
        Ok(self.call(&call, deadline, |answer, _| match answer.status {
            200 => self.decode_from("patch", LEASES, &answer.body).map(|lease| Some(Some(lease))),
            409 => Ok(Some(None)),
            404 if is_absent(answer) => Ok(Some(None)),
            _ => Ok(None),
        })?)
    }

    /// Creates an object. Returns `None` if there is one of that name.
    fn make<T: DeserializeOwned>(
        &self,
        resource: &'static str,
        name: &str,
        path: &str,
        body: &Value,
        deadline: &Deadline,
    ) -> Result<Option<T>, StoreError> {
        let body = body.to_string();
        let request = Request {
            method: Method::Post,
            path,
            accept: JSON,
            content: Some((JSON, body.as_bytes())),
        };
        let call = Call { resource, verb: "create", name: Some(name), request };
        Ok(self.call(&call, deadline, |answer, _| match answer.status {
            200..=202 => {
                self.decode_from("create", resource, &answer.body).map(|made| Some(Some(made)))
            }
            409 if is_taken(answer) => Ok(Some(None)),
            _ => Ok(None),
        })?)
    }

    fn decode_from<T: DeserializeOwned>(
        &self,
        verb: &str,
        resource: &str,
        body: &[u8],
    ) -> Result<T, Failed> {
        serde_json::from_slice(body)
            .map_err(|error| self.unexpected(verb, resource, &error.to_string()))
    }
}

/// Takes a missing resource for a missing object.
fn without_resource<T>(error: StoreError) -> Result<Option<T>, StoreError> {
    match error {
        StoreError::NoResource { .. } => Ok(None),
        error => Err(error),
    }
}
