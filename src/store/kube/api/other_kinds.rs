//! Writes and lists of our other kinds than IPAllocations: the same conditions, and the same
//! attempts.

use super::answer::{List, is_absent, is_removal, is_taken};
use super::paging::Place;
use super::retries::{Call, Failed};
use super::{Api, Changed, JSON, MERGE, Of, escape};
use crate::api_client::http::{Answer, Method, Request};
use crate::ipam::Version;
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::objects::error_text::on_one_line;
use crate::store::kube::objects::ip_allocation::{GROUP, VERSION};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

/// How a creation ended.
pub(crate) enum Created<T> {
    /// The object exists now.
    Made(T),
    /// An object of that name exists. After an attempt with an unknown outcome, it may be ours.
    Taken,
}

impl Api {
    /// Reads an object of one of our kinds. Returns `None` if no object has that name.
    pub(crate) fn get_object<T: DeserializeOwned>(
        &self,
        resource: &'static str,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<T>, StoreError> {
        self.read(resource, name, &path(resource, name), deadline, |body| {
            serde_json::from_slice(body)
        })
    }

    /// Creates an object; its name must be free.
    pub(crate) fn create_object<T: Serialize + DeserializeOwned>(
        &self,
        resource: &'static str,
        name: &str,
        object: &T,
        deadline: &Deadline,
    ) -> Result<Created<T>, Failed> {
        let body = serde_json::to_vec(object)
            .map_err(|error| self.unexpected("create", resource, &error.to_string()))?;
        let path = format!("/apis/{GROUP}/{VERSION}/{resource}");
        let request = Request {
            method: Method::Post,
            path: &path,
            accept: JSON,
            content: Some((JSON, &body)),
        };
        let call = Call { resource, verb: "create", name: Some(name), request };
        let noted = self.noted();
        self.call(&call, deadline, |answer, _| match answer.status {
            200..=202 => {
                let made = self.decode_other("create", resource, answer)?;
                self.compare(noted, revision(answer).as_deref(), Of::Write);
                Ok(Some(Created::Made(made)))
            }
            409 if is_taken(answer) => Ok(Some(Created::Taken)),
            _ => Ok(None),
        })
    }

    /// Changes an object in exactly the state that was read. `change` is a merge patch (RFC 7396)
    /// without uid and resourceVersion.
    pub(crate) fn patch_object<T: DeserializeOwned>(
        &self,
        resource: &'static str,
        name: &str,
        change: serde_json::Value,
        version: &Version,
        deadline: &Deadline,
    ) -> Result<Changed<T>, Failed> {
        self.patch_at(resource, name, &path(resource, name), change, version, deadline)
    }

    /// Changes the status of an object in exactly the state that was read.
    pub(crate) fn patch_status<T: DeserializeOwned>(
        &self,
        resource: &'static str,
        name: &str,
        status: &impl Serialize,
        version: &Version,
        deadline: &Deadline,
    ) -> Result<Changed<T>, Failed> {
        let path = format!("{}/status", path(resource, name));
        self.patch_at(resource, name, &path, json!({"status": status}), version, deadline)
    }

    /// Changes the status of an object, whatever else of it has changed. `status` is a merge patch
    /// (RFC 7396). Returns false if no object has this name and uid any more.
    pub(crate) fn merge_status(
        &self,
        resource: &'static str,
        name: &str,
        uid: &str,
        status: &impl Serialize,
        deadline: &Deadline,
    ) -> Result<bool, StoreError> {
        let body = json!({"metadata": {"uid": uid}, "status": status}).to_string();
        let path = format!("{}/status", path(resource, name));
        let request = Request {
            method: Method::Patch,
            path: &path,
            accept: JSON,
            content: Some((MERGE, body.as_bytes())),
        };
        let call = Call { resource, verb: "patch", name: Some(name), request };
        let noted = self.noted();
        let merged = self.call(&call, deadline, |answer, _| match answer.status {
            200 => {
                self.compare(noted, revision(answer).as_deref(), Of::List);
                Ok(Some(true))
            }
            404 if is_absent(answer) => Ok(Some(false)),
            409 => Ok(Some(false)),
            _ => Ok(None),
        });
        Ok(merged?)
    }

    fn patch_at<T: DeserializeOwned>(
        &self,
        resource: &'static str,
        name: &str,
        path: &str,
        mut change: serde_json::Value,
        version: &Version,
        deadline: &Deadline,
    ) -> Result<Changed<T>, Failed> {
        change["metadata"]["uid"] = json!(version.uid);
        change["metadata"]["resourceVersion"] = json!(version.revision);
        let body = change.to_string();
        let request = Request {
            method: Method::Patch,
            path,
            accept: JSON,
            content: Some((MERGE, body.as_bytes())),
        };
        let call = Call { resource, verb: "patch", name: Some(name), request };
        let noted = self.noted();
        self.call(&call, deadline, |answer, outcome_unknown| match answer.status {
            200 => {
                let changed = self.decode_other("patch", resource, answer)?;
                // A patch that changes nothing returns the revision of the existing object.
                let now = revision(answer).filter(|now| *now != version.revision);
                self.compare(noted, now.as_deref(), Of::Write);
                Ok(Some(Changed::Done(changed)))
            }
            404 if is_absent(answer) => Ok(Some(Changed::Absent { maybe_ours: outcome_unknown })),
            409 => Ok(Some(Changed::Conflict)),
            _ => Ok(None),
        })
    }

    /// Removes an object in exactly the state that was read.
    pub(crate) fn delete_object(
        &self,
        resource: &'static str,
        name: &str,
        version: &Version,
        deadline: &Deadline,
    ) -> Result<Changed<()>, Failed> {
        let body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": { "uid": version.uid, "resourceVersion": version.revision },
        });
        let (body, path) = (body.to_string(), path(resource, name));
        let request = Request {
            method: Method::Delete,
            path: &path,
            accept: JSON,
            content: Some((JSON, body.as_bytes())),
        };
        let call = Call { resource, verb: "delete", name: Some(name), request };
        self.call(&call, deadline, |answer, outcome_unknown| match answer.status {
            200 | 202 if is_removal(answer) => Ok(Some(Changed::Done(()))),
            200 | 202 => Err(self.unexpected(
                "delete",
                resource,
                "expected the object or a success, found neither",
            )),
            404 if is_absent(answer) => Ok(Some(Changed::Absent { maybe_ours: outcome_unknown })),
            409 => Ok(Some(Changed::Conflict)),
            _ => Ok(None),
        })
    }

    /// Returns the objects that a label selector matches.
    pub(crate) fn list_objects<T: DeserializeOwned>(
        &self,
        resource: &'static str,
        selector: &str,
        deadline: &Deadline,
    ) -> Result<Vec<T>, StoreError> {
        let (mut place, mut objects) = (Place::default(), Vec::new());
        while !place.is_ended() {
            objects.extend(self.page_of_objects(resource, selector, &mut place, deadline)?);
        }
        Ok(objects)
    }

    /// Returns one page of them. `place` says where to continue, and is the next place when this
    /// returns.
    pub(crate) fn page_of_objects<T: DeserializeOwned>(
        &self,
        resource: &'static str,
        selector: &str,
        place: &mut Place,
        deadline: &Deadline,
    ) -> Result<Vec<T>, StoreError> {
        let items = self.list(resource, selector, JSON, place, deadline, |body| {
            Ok(serde_json::from_slice::<List>(body)?.into_page())
        })?;
        let read = |item: &RawValue| match serde_json::from_str(item.get()) {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::warn!(resource, %error, "an object that cannot be read is skipped");
                None
            }
        };
        Ok(items.iter().filter_map(|item| read(item)).collect())
    }

    fn decode_other<T: DeserializeOwned>(
        &self,
        verb: &str,
        resource: &str,
        answer: &Answer,
    ) -> Result<T, Failed> {
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.unexpected(verb, resource, &error.to_string()))
    }

    /// Returns the error for an answer of the right status with the wrong content.
    pub(crate) fn unexpected(&self, verb: &str, resource: &str, reason: &str) -> Failed {
        let error = StoreError::Refused {
            server: self.server.url(),
            call: format!("{verb} {}", with_group(resource)),
            status: 200,
            reason: format!("unexpected answer: {}", on_one_line(reason)),
        };
        Failed { error, outcome_unknown: true }
    }
}

/// Returns the resource with its group. Those of other programs are named with theirs.
fn with_group(resource: &str) -> String {
    if resource.contains('.') { resource.to_owned() } else { format!("{resource}.{GROUP}") }
}

fn path(resource: &str, name: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/{resource}/{}", escape(name))
}

/// Returns the revision of the object in an answer.
fn revision(answer: &Answer) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        resource_version: String,
    }
    let head: Head = serde_json::from_slice(&answer.body).ok()?;
    Some(head.metadata.resource_version)
}
