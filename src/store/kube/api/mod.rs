//! Typed calls on IPAllocation objects. Each call is tried again until the deadline if another
//! attempt may help.
//!
//! A call that was sent and not answered may have been carried out, or may be carried out later. So
//! each write carries its condition: a name that must be free, or a uid and a resourceVersion that
//! must be current. Only that same write is sent again, and the state that it then finds is
//! checked.

pub(crate) mod answer;
pub(crate) mod other_kinds;
pub(crate) mod paging;
pub(crate) mod read;
pub(crate) mod retries;

use super::node_state::State;
use super::objects::claim_object::ClaimObject;
use super::objects::held::HeldObject;
use super::objects::ip_allocation::{GROUP, IpAllocation, PLURAL, VERSION};
use crate::api_client::client::Server;
use crate::api_client::http::{Answer, Method, Request};
use crate::ipam::Version;
use crate::retry::Deadline;
use crate::store::StoreError;
use answer::{List, Row, Table, decode_item, is_absent, is_taken, status};
use paging::Place;
use retries::{Call, Failed};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The kind of request that an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// A creation or change that was carried out: its revision is a new one.
    Write,
    /// A list of existing objects.
    List,
}

/// The number of objects in one page of a list.
const PAGE: usize = 500;
/// The annotation that changes when an object gets another version for its own sake.
const TOUCHED: &str = "hereabouts.dev/touched-at-version";
pub(super) const JSON: &str = "application/json";
pub(super) const MERGE: &str = "application/merge-patch+json";
/// The format of a table: the columns of the resource, the name first. With `includeObject=None` it
/// comes without the objects, which would be six sevenths of the bytes and two thirds of the
/// server's time.
pub(super) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The calls to one API server.
pub(super) struct Api {
    pub(super) server: Box<dyn Server>,
    /// The node state in which the cluster's revision is noted: see `revision`.
    pub(super) watched: Option<Rc<State>>,
}

/// How a creation ended.
pub(super) enum Created {
    /// The object exists now.
    Made {
        /// The object as the server answered.
        object: Box<IpAllocation>,
        /// Whether the outcome of an earlier attempt is unknown: it may still be carried out.
        outcome_unknown: bool,
    },
    /// An object of that name existed. After an attempt with an unknown outcome, it may be ours.
    Taken {
        /// Whether that is possible.
        maybe_ours: bool,
    },
}

/// How a conditional removal or change ended.
pub(super) enum Changed<T> {
    /// It was carried out.
    Done(T),
    /// The condition does not hold.
    Conflict,
    /// The object does not exist. After an attempt with an unknown outcome, we may have removed it.
    Absent {
        /// Whether that is possible.
        maybe_ours: bool,
    },
}

/// An object with a revision.
trait Versioned {
    fn revision(&self) -> Option<&str>;
}

impl Versioned for IpAllocation {
    fn revision(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }
}

impl Versioned for HeldObject {
    fn revision(&self) -> Option<&str> {
        self.metadata().resource_version.as_deref()
    }
}

/// A page of a list: the items as received, and the place of the next page.
struct Page<T> {
    items: Vec<T>,
    revision: Option<String>,
    next: Option<String>,
}

impl List {
    fn into_page(self) -> Page<Box<RawValue>> {
        let revision = self.metadata.revision();
        Page { items: self.items, revision, next: self.metadata.next() }
    }
}

impl Api {
    pub(super) fn new(server: Box<dyn Server>) -> Self {
        Self { server, watched: None }
    }

    /// Returns which cluster this is.
    pub(super) fn cluster(&self) -> &str {
        self.server.cluster()
    }

    /// Creates an object; its name must be free. This is the commit of an ADD.
    pub(super) fn create(
        &self,
        object: &IpAllocation,
        deadline: &Deadline,
    ) -> Result<Created, Failed> {
        let noted = self.noted();
        self.post(object, &object.metadata.name, "", deadline, |answer, outcome_unknown| {
            match answer.status {
                200..=202 => {
                    let object = Box::new(self.decode("create", answer)?);
                    self.compare(noted, object.metadata.resource_version.as_deref(), Of::Write);
                    Ok(Some(Created::Made { object, outcome_unknown }))
                }
                409 if is_taken(answer) => Ok(Some(Created::Taken { maybe_ours: outcome_unknown })),
                _ => Ok(None),
            }
        })
    }

    /// Creates the object of a claim; its name must be free. Returns `None` if it is not.
    pub(super) fn create_for_claim(
        &self,
        object: &ClaimObject,
        deadline: &Deadline,
    ) -> Result<Option<HeldObject>, Failed> {
        let noted = self.noted();
        let name = &object.metadata.name;
        self.post(object, name, "", deadline, |answer, _| match answer.status {
            200..=202 => {
                let object = self.decode_held("create", answer)?;
                self.compare(noted, object.revision(), Of::Write);
                Ok(Some(Some(object)))
            }
            409 if is_taken(answer) => Ok(Some(None)),
            _ => Ok(None),
        })
    }

    /// Asks for a creation that is not carried out (a dry run): an admission policy judges it like
    /// any other creation. If the name is taken, that is an answer too.
    pub(super) fn rehearse(
        &self,
        object: &IpAllocation,
        deadline: &Deadline,
    ) -> Result<(), Failed> {
        self.post(object, &object.metadata.name, "?dryRun=All", deadline, |answer, _| match answer
            .status
        {
            200..=202 => Ok(Some(())),
            409 if is_taken(answer) => Ok(Some(())),
            _ => Ok(None),
        })
    }

    /// Asks the server to create an object. `query` is empty, or makes it a dry run.
    fn post<T>(
        &self,
        object: &impl Serialize,
        name: &str,
        query: &str,
        deadline: &Deadline,
        read: impl FnMut(&Answer, bool) -> Result<Option<T>, Failed>,
    ) -> Result<T, Failed> {
        let body = serde_json::to_vec(object)
            .map_err(|error| self.unreadable("create", &error.to_string()))?;
        let path = collection(query);
        let request = Request {
            method: Method::Post,
            path: &path,
            accept: JSON,
            content: Some((JSON, &body)),
        };
        let call = Call { resource: PLURAL, verb: "create", name: Some(name), request };
        self.call(&call, deadline, read)
    }

    /// Reads an object. Returns `None` if no object has that name.
    pub(super) fn get(
        &self,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<HeldObject>, Failed> {
        let path = collection(&format!("/{name}"));
        let request = Request { method: Method::Get, path: &path, accept: JSON, content: None };
        let call = Call { resource: PLURAL, verb: "get", name: Some(name), request };
        self.call(&call, deadline, |answer, _| match answer.status {
            200 => Ok(Some(Some(self.decode_held("get", answer)?))),
            404 if is_absent(answer) => Ok(Some(None)),
            _ => Ok(None),
        })
    }

    /// Reads an object that an attachment holds. Returns `None` if no object has that name, and if
    /// a claim holds it.
    pub(super) fn get_of_attachment(
        &self,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<IpAllocation>, Failed> {
        Ok(self.get(name, deadline)?.and_then(HeldObject::of_attachment))
    }

    /// Removes an object in exactly the state that was read. The uid alone would not show that the
    /// object has another holder in the meantime.
    pub(super) fn delete(
        &self,
        name: &str,
        version: &Version,
        deadline: &Deadline,
    ) -> Result<Changed<()>, Failed> {
        self.delete_object(PLURAL, name, version, deadline)
    }

    /// Returns the error for a call whose attempts all met the same obstacle until the deadline.
    pub(super) fn contended(
        &self,
        verb: &str,
        resource: &str,
        reason: &str,
        deadline: &Deadline,
    ) -> StoreError {
        StoreError::Unreachable {
            server: self.server.url(),
            call: format!("{verb} {resource}"),
            waited: humantime::format_duration(deadline.limit()).to_string(),
            reason: reason.to_owned(),
            is_away: false,
        }
    }

    /// Replaces spec and labels of an object by those of `to`, in exactly the state that was read.
    /// Keys that a newer version wrote are removed, because they describe the previous sandbox.
    pub(super) fn patch(
        &self,
        to: &IpAllocation,
        version: &Version,
        deadline: &Deadline,
    ) -> Result<Changed<IpAllocation>, Failed> {
        let body = json!({
            "metadata": { "uid": version.uid, "resourceVersion": version.revision, "labels": merge(&to.metadata.labels) },
            "spec": merge_spec(to, &version.newer),
        });
        let decode = |answer: &Answer| self.decode("patch", answer);
        self.patch_with(&to.metadata.name, &body, version, deadline, &decode)
    }

    /// Replaces the labels of an object, in exactly the state that was read. Nothing else changes.
    pub(super) fn patch_labels(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        version: &Version,
        deadline: &Deadline,
    ) -> Result<Changed<HeldObject>, Failed> {
        let body = json!({
            "metadata": { "uid": version.uid, "resourceVersion": version.revision, "labels": merge(labels) },
        });
        let decode = |answer: &Answer| self.decode_held("patch", answer);
        self.patch_with(name, &body, version, deadline, &decode)
    }

    /// Gives an object another version, in exactly the state that was read, so that a call that has read it
    /// before must read it again. Nothing else changes.
    pub(super) fn touch(
        &self,
        name: &str,
        version: &Version,
        deadline: &Deadline,
    ) -> Result<Changed<HeldObject>, Failed> {
        let body = json!({
            "metadata": {
                "uid": version.uid, "resourceVersion": version.revision,
                "annotations": { TOUCHED: version.revision },
            },
        });
        let decode = |answer: &Answer| self.decode_held("patch", answer);
        self.patch_with(name, &body, version, deadline, &decode)
    }

    fn patch_with<T: Versioned>(
        &self,
        name: &str,
        body: &serde_json::Value,
        version: &Version,
        deadline: &Deadline,
        decode: &dyn Fn(&Answer) -> Result<T, Failed>,
    ) -> Result<Changed<T>, Failed> {
        let body = body.to_string();
        let path = collection(&format!("/{name}"));
        let request = Request {
            method: Method::Patch,
            path: &path,
            accept: JSON,
            content: Some((MERGE, body.as_bytes())),
        };
        let call = Call { resource: PLURAL, verb: "patch", name: Some(name), request };
        let noted = self.noted();
        self.call(&call, deadline, |answer, outcome_unknown| match answer.status {
            200 => {
                let changed = decode(answer)?;
                // A patch that changes nothing returns the revision of the existing object.
                let revision = changed.revision().filter(|now| *now != version.revision);
                self.compare(noted, revision, Of::Write);
                Ok(Some(Changed::Done(changed)))
            }
            404 if is_absent(answer) => Ok(Some(Changed::Absent { maybe_ours: outcome_unknown })),
            409 => Ok(Some(Changed::Conflict)),
            _ => Ok(None),
        })
    }

    /// Returns one page of the objects that a label selector matches. An item that is not one of
    /// our objects is an error of its own. `place` says where to continue, and is the next place
    /// when this returns.
    pub(super) fn page(
        &self,
        selector: &str,
        place: &mut Place,
        deadline: &Deadline,
    ) -> Result<Vec<Result<HeldObject, StoreError>>, StoreError> {
        let items: Vec<Box<RawValue>> =
            self.list(PLURAL, selector, JSON, place, deadline, |body| {
                Ok(serde_json::from_slice::<List>(body)?.into_page())
            })?;
        Ok(items.iter().map(|item| decode_item(item.get())).collect())
    }

    /// Returns the same page without the objects that claims hold.
    pub(super) fn page_of_attachments(
        &self,
        selector: &str,
        place: &mut Place,
        deadline: &Deadline,
    ) -> Result<Vec<Result<IpAllocation, StoreError>>, StoreError> {
        let items = self.page(selector, place, deadline)?.into_iter();
        Ok(items.filter_map(|item| item.map(HeldObject::of_attachment).transpose()).collect())
    }

    /// Calls `visitor` with the names of the objects of a resource that a label selector matches.
    pub(super) fn names(
        &self,
        resource: &'static str,
        selector: &str,
        deadline: &Deadline,
        visitor: &mut dyn FnMut(&str),
    ) -> Result<(), StoreError> {
        let mut place = Place::default();
        while !place.is_ended() {
            let rows: Vec<Row> =
                self.list(resource, selector, TABLE, &mut place, deadline, |body| {
                    let table: Table = serde_json::from_slice(body)?;
                    Ok(Page {
                        items: table.rows,
                        revision: table.metadata.revision(),
                        next: table.metadata.next(),
                    })
                })?;
            rows.iter().for_each(|row| visitor(&row.cells.0));
        }
        Ok(())
    }

    /// Returns one page and moves `place` to the next. No list names a resourceVersion: together
    /// with `limit` it would mean exactly that revision, however old, and 0 would mean all of a
    /// cache, without pages.
    fn list<T>(
        &self,
        resource: &'static str,
        selector: &str,
        accept: &str,
        place: &mut Place,
        deadline: &Deadline,
        decode: impl Fn(&[u8]) -> Result<Page<T>, serde_json::Error>,
    ) -> Result<Vec<T>, StoreError> {
        if !place.has_time(deadline) {
            let reason = "the list has more pages than could be read";
            return Err(self.contended("list", resource, reason, deadline));
        }
        // In labels and tokens, a query has to escape only "=" and "/".
        let selector = escape(selector);
        let mut path =
            format!("/apis/{GROUP}/{VERSION}/{resource}?limit={PAGE}&labelSelector={selector}");
        if accept == TABLE {
            path.push_str("&includeObject=None");
        }
        if let Some(token) = place.token() {
            path.push_str(&format!("&continue={}", escape(token)));
        }
        let request = Request { method: Method::Get, path: &path, accept, content: None };
        let noted = self.noted();
        let listed = self.call(
            &Call { resource, verb: "list", name: None, request },
            deadline,
            |answer, _| match answer.status {
                200 => decode(&answer.body)
                    .map(Some)
                    .map_err(|error| self.unexpected("list", resource, &error.to_string())),
                // The place has expired: the server names one from which to continue.
                410 => Ok(status(answer).metadata.next().map(|next| Page {
                    items: Vec::new(),
                    revision: None,
                    next: Some(next),
                })),
                _ => Ok(None),
            },
        );
        let page = listed?;
        // The later pages show the same moment.
        if place.token().is_none() {
            self.compare(noted, page.revision.as_deref(), Of::List);
        }
        place.go_on(page.next).map_err(|reason| self.unexpected("list", resource, reason).error)?;
        Ok(page.items)
    }

    /// Checks that the resource exists and may be listed.
    pub(super) fn probe(&self, deadline: &Deadline) -> Result<(), StoreError> {
        let path = collection("?limit=1");
        let request = Request { method: Method::Get, path: &path, accept: TABLE, content: None };
        let call = Call { resource: PLURAL, verb: "list", name: None, request };
        Ok(self.call(&call, deadline, |answer, _| Ok((answer.status == 200).then_some(())))?)
    }

    /// Returns whether this user may use a verb on the resource (SelfSubjectAccessReview).
    pub(super) fn may(&self, verb: &'static str, deadline: &Deadline) -> Result<bool, StoreError> {
        #[derive(Deserialize)]
        struct Review {
            status: Verdict,
        }
        #[derive(Deserialize)]
        struct Verdict {
            #[serde(default)]
            allowed: bool,
        }
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": { "group": GROUP, "resource": PLURAL, "verb": verb } },
        });
        let body = body.to_string();
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request = Request {
            method: Method::Post,
            path,
            accept: JSON,
            content: Some((JSON, body.as_bytes())),
        };
        let call = Call { resource: PLURAL, verb: "review access to", name: None, request };
        let allowed = self.call(&call, deadline, |answer, _| match answer.status {
            200..=202 => serde_json::from_slice::<Review>(&answer.body)
                .map(|review| Some(review.status.allowed))
                .map_err(|error| self.unreadable("review", &error.to_string())),
            _ => Ok(None),
        });
        Ok(allowed?)
    }
}

fn collection(rest: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/{PLURAL}{rest}")
}

/// Percent-encodes all characters except unreserved ones (RFC 3986).
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Returns the labels for a merge patch. A merge patch leaves alone what it does not name, so a
/// label to remove is named with null (RFC 7396).
fn merge(labels: &BTreeMap<String, String>) -> serde_json::Value {
    let mut merged: serde_json::Map<_, _> =
        labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    for key in super::objects::names::LABELS {
        merged.entry(*key).or_insert(serde_json::Value::Null);
    }
    merged.into()
}

fn merge_spec(to: &IpAllocation, newer: &[String]) -> serde_json::Value {
    let mut spec = json!(to.spec);
    if let Some(fields) = spec.as_object_mut() {
        for key in super::objects::ip_allocation::OPTIONAL {
            fields.entry(*key).or_insert(serde_json::Value::Null);
        }
        if let Some(pod) = fields.get_mut("podRef").and_then(|pod| pod.as_object_mut()) {
            for key in ["namespace", "uid"] {
                pod.entry(key).or_insert(serde_json::Value::Null);
            }
        }
        if let Some(view) = fields.get_mut("view").and_then(|view| view.as_object_mut()) {
            for key in super::objects::ip_allocation::OPTIONAL_OF_VIEW {
                view.entry(*key).or_insert(serde_json::Value::Null);
            }
        }
    }
    for path in newer {
        let (above, key) =
            path.split_once('/').map_or((None, path.as_str()), |(above, key)| (Some(above), key));
        // If the whole object above is removed, this key is removed with it.
        let fields = match above {
            Some(above) => spec.get_mut(above),
            None => Some(&mut spec),
        };
        if let Some(fields) = fields.and_then(serde_json::Value::as_object_mut) {
            fields.entry(key).or_insert(serde_json::Value::Null);
        }
    }
    spec
}
