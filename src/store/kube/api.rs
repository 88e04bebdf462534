//! Typed calls on IPAllocation objects, each tried again until the deadline
//! where trying again may help.
//!
//! A call that was sent and not answered may have been done, or may be done
//! later. So each write carries its condition (a name that must be free, a uid
//! and a resourceVersion that must stand), only that same write is sent again,
//! and what it then meets is looked at.

use super::client::{Answer, CallError, Client, Method, Request};
use super::crd::{GROUP, IpAllocation, PLURAL, VERSION};
use crate::ipam::Version;
use crate::store::StoreError;
use crate::store::retry::{self, Attempt, Deadline, Pace};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::cell::Cell;
use std::time::Duration;

/// One attempt takes no longer: a server that fell silent may be replaced by
/// one that answers.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Objects in one page of a list.
const PAGE: usize = 500;
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
/// Names without objects: a tenth of the bytes.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Calls to one API server.
pub(super) struct Api {
    client: Client,
}

/// How a creation ended.
pub(super) enum Created {
    /// The object is there now.
    Made(Box<IpAllocation>),
    /// One of that name was there. After an attempt whose outcome is not known
    /// it may be ours.
    Taken {
        /// Whether that is so.
        perhaps_ours: bool,
    },
}

/// How a conditional removal or change ended.
pub(super) enum Changed<T> {
    /// As asked.
    Done(T),
    /// The condition does not hold.
    Conflict,
    /// There is no such object. After an attempt whose outcome is not known
    /// this may be our doing.
    Absent {
        /// Whether that is so.
        perhaps_ours: bool,
    },
}

/// A call that failed, and whether it may have been done, or may be yet.
pub(super) struct Failed {
    pub(super) error: StoreError,
    pub(super) unsure: bool,
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

/// What a call is, for messages and for how its answer is read.
struct Call<'a> {
    verb: &'static str,
    name: Option<&'a str>,
    request: Request<'a>,
}

/// A page of a list: the items as they came, and where the next begins.
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Which cluster this is.
    pub(super) fn cluster(&self) -> &str {
        self.client.cluster()
    }

    /// Makes an object; its name must be free. The commit of an ADD.
    pub(super) fn create(&self, object: &IpAllocation, deadline: &Deadline) -> Result<Created, Failed> {
        let body = serde_json::to_vec(object).map_err(|error| self.unreadable("create", &error.to_string()))?;
        let path = collection("");
        let request = Request { method: Method::Post, path: &path, accept: JSON, content: Some((JSON, &body)) };
        let call = Call { verb: "create", name: Some(&object.metadata.name), request };
        self.call(&call, deadline, |answer, unsure| match answer.status {
            200..=202 => Ok(Some(Created::Made(Box::new(self.decode("create", answer)?)))),
            409 => Ok(Some(Created::Taken { perhaps_ours: unsure })),
            _ => Ok(None),
        })
    }

    /// Reads an object; `None` when there is none of that name.
    pub(super) fn get(&self, name: &str, deadline: &Deadline) -> Result<Option<IpAllocation>, Failed> {
        let path = collection(&format!("/{name}"));
        let request = Request { method: Method::Get, path: &path, accept: JSON, content: None };
        let call = Call { verb: "get", name: Some(name), request };
        self.call(&call, deadline, |answer, _| match answer.status {
            200 => Ok(Some(Some(self.decode("get", answer)?))),
            404 if is_absent(answer) => Ok(Some(None)),
            _ => Ok(None),
        })
    }

    /// Removes an object in the very state that was read. The uid alone would
    /// not see that it has another holder by now.
    pub(super) fn delete(&self, name: &str, version: &Version, deadline: &Deadline) -> Result<Changed<()>, Failed> {
        let body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": { "uid": version.uid, "resourceVersion": version.revision },
        });
        let body = body.to_string();
        let path = collection(&format!("/{name}"));
        let request = Request { method: Method::Delete, path: &path, accept: JSON, content: Some((JSON, body.as_bytes())) };
        let call = Call { verb: "delete", name: Some(name), request };
        self.call(&call, deadline, |answer, unsure| match answer.status {
            200 | 202 => Ok(Some(Changed::Done(()))),
            404 if is_absent(answer) => Ok(Some(Changed::Absent { perhaps_ours: unsure })),
            409 => Ok(Some(Changed::Conflict)),
            _ => Ok(None),
        })
    }

    /// Puts spec and labels of `to` in the place of those that stand, in the
    /// very state that was read. Fields that this version does not know stay.
    pub(super) fn patch(&self, to: &IpAllocation, version: &Version, deadline: &Deadline) -> Result<Changed<IpAllocation>, Failed> {
        let body = json!({
            "metadata": { "uid": version.uid, "resourceVersion": version.revision, "labels": merge(&to.metadata.labels) },
            "spec": merge_spec(to),
        });
        let body = body.to_string();
        let path = collection(&format!("/{}", to.metadata.name));
        let request = Request { method: Method::Patch, path: &path, accept: JSON, content: Some((MERGE, body.as_bytes())) };
        let call = Call { verb: "patch", name: Some(&to.metadata.name), request };
        self.call(&call, deadline, |answer, unsure| match answer.status {
            200 => Ok(Some(Changed::Done(self.decode("patch", answer)?))),
            404 if is_absent(answer) => Ok(Some(Changed::Absent { perhaps_ours: unsure })),
            409 => Ok(Some(Changed::Conflict)),
            _ => Ok(None),
        })
    }

    /// Shows the objects that a label selector means, page by page; an item
    /// that is none of ours is an error of its own. `continued` is where to go
    /// on, and holds the next place when this returns.
    pub(super) fn page(
        &self,
        selector: &str,
        continued: &mut Option<String>,
        deadline: &Deadline,
    ) -> Result<Vec<Result<IpAllocation, StoreError>>, StoreError> {
        let page: Page<Box<RawValue>> = self.list(selector, JSON, continued.as_deref(), deadline, |body| {
            let list: List = serde_json::from_slice(body)?;
            Ok(Page { items: list.items, next: list.metadata.next() })
        })?;
        *continued = page.next;
        Ok(page.items.iter().map(|item| decode_item(item.get())).collect())
    }

    /// Shows the names of the objects that a label selector means.
    pub(super) fn names(&self, selector: &str, deadline: &Deadline, visitor: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        let mut continued: Option<String> = None;
        loop {
            let page: Page<Row> = self.list(selector, TABLE, continued.as_deref(), deadline, |body| {
                let table: Table = serde_json::from_slice(body)?;
                Ok(Page { items: table.rows, next: table.metadata.next() })
            })?;
            page.items.iter().for_each(|row| visitor(&row.cells.0));
            continued = page.next;
            if continued.is_none() {
                return Ok(());
            }
        }
    }

    fn list<T>(
        &self,
        selector: &str,
        accept: &str,
        continued: Option<&str>,
        deadline: &Deadline,
        decode: impl Fn(&[u8]) -> Result<Page<T>, serde_json::Error>,
    ) -> Result<Page<T>, StoreError> {
        // Labels and tokens hold nothing that a query has to escape but "=" and "/".
        let mut path = collection(&format!("?limit={PAGE}&labelSelector={}", escape(selector)));
        if let Some(token) = continued {
            path.push_str(&format!("&continue={}", escape(token)));
        }
        let request = Request { method: Method::Get, path: &path, accept, content: None };
        let listed = self.call(&Call { verb: "list", name: None, request }, deadline, |answer, _| match answer.status {
            200 => decode(&answer.body).map(Some).map_err(|error| self.unreadable("list", &error.to_string())),
            // The place has expired: the server names one to go on from.
            410 => Ok(status(answer).metadata.next().map(|next| Page { items: Vec::new(), next: Some(next) })),
            _ => Ok(None),
        });
        Ok(listed?)
    }

    /// Whether the resource is there and may be listed.
    pub(super) fn probe(&self, deadline: &Deadline) -> Result<(), StoreError> {
        let path = collection("?limit=1");
        let request = Request { method: Method::Get, path: &path, accept: TABLE, content: None };
        let call = Call { verb: "list", name: None, request };
        Ok(self.call(&call, deadline, |answer, _| Ok((answer.status == 200).then_some(())))?)
    }

    /// Whether this user may use a verb on the resource (SelfSubjectAccessReview).
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
        let request = Request { method: Method::Post, path, accept: JSON, content: Some((JSON, body.as_bytes())) };
        let call = Call { verb: "review access to", name: None, request };
        let allowed = self.call(&call, deadline, |answer, _| match answer.status {
            200..=202 => serde_json::from_slice::<Review>(&answer.body)
                .map(|review| Some(review.status.allowed))
                .map_err(|error| self.unreadable("review", &error.to_string())),
            _ => Ok(None),
        });
        Ok(allowed?)
    }

    /// What is said of a right that is missing.
    pub(super) fn lacks(&self, verb: &str) -> StoreError {
        StoreError::Refused {
            server: self.client.server(),
            call: format!("{verb} {PLURAL}"),
            status: 403,
            reason: format!("the kubeconfig's user lacks the right to {verb} {PLURAL}.{GROUP}, deploy/rbac.yaml grants it"),
        }
    }

    /// Sends a call until an answer is one. `read` gives the value of the
    /// answers that it knows; what it passes over is judged here.
    fn call<T>(
        &self,
        call: &Call<'_>,
        deadline: &Deadline,
        mut read: impl FnMut(&Answer, bool) -> Result<Option<T>, Failed>,
    ) -> Result<T, Failed> {
        let unsure = Cell::new(false);
        let mut last = String::new();
        let outcome = retry::until_paced(deadline, Pace::SERVER, || {
            // At the very end one short attempt is made all the same.
            let limit = deadline.left().clamp(Duration::from_millis(100), ATTEMPT);
            match self.client.call(&call.request, limit) {
                Ok(answer) => {
                    if let Some(value) = read(&answer, unsure.get())? {
                        return Ok(Attempt::Done(value));
                    }
                    let pause = self.judge(call, &answer, &mut last).map_err(|error| Failed { error, unsure: unsure.get() })?;
                    // 429 is said before anything is done; after the others nobody knows.
                    unsure.set(unsure.get() || answer.status != 429);
                    Ok(Attempt::Again(pause))
                }
                Err(error) => {
                    unsure.set(unsure.get() || matches!(error, CallError::Unknown { .. }));
                    last = error.to_string();
                    if error.may_pass() {
                        return Ok(Attempt::Again(Duration::ZERO));
                    }
                    Err(Failed { error: self.unreachable(call, "one attempt", &last), unsure: unsure.get() })
                }
            }
        })?;
        outcome.ok_or_else(|| {
            let waited = humantime::format_duration(deadline.limit()).to_string();
            Failed { error: self.unreachable(call, &waited, &last), unsure: unsure.get() }
        })
    }

    /// An answer that is none: a pause before the next attempt, or the error
    /// that no attempt will mend.
    fn judge(&self, call: &Call<'_>, answer: &Answer, last: &mut String) -> Result<Duration, StoreError> {
        let message = status(answer).message;
        let server = self.client.server();
        match answer.status {
            408 | 425 | 429 | 500..=599 => {
                *last = format!("HTTP status {}: {}", answer.status, plain(&message));
                Ok(answer.retry_after.unwrap_or(Duration::ZERO))
            }
            // 405: the definition is being deleted.
            404 | 405 => Err(StoreError::NoResource { server, resource: format!("{PLURAL}.{GROUP}") }),
            code => {
                let advice = match code {
                    401 => "the token or certificate of the kubeconfig is not valid any more: ".to_owned(),
                    403 => format!("the kubeconfig's user lacks the right to {} {PLURAL}.{GROUP}: ", call.verb),
                    _ => String::new(),
                };
                let reason = format!("{advice}{}", plain(&message));
                Err(StoreError::Refused { server, call: describe(call), status: code, reason })
            }
        }
    }

    fn decode(&self, verb: &str, answer: &Answer) -> Result<IpAllocation, Failed> {
        serde_json::from_slice(&answer.body).map_err(|error| self.unreadable(verb, &error.to_string()))
    }

    /// An answer of the right status with the wrong content: another version of
    /// the resource, or a proxy that speaks for itself.
    fn unreadable(&self, verb: &str, reason: &str) -> Failed {
        let server = self.client.server();
        let reason = format!("its answer is not what was asked for: {}", plain(reason));
        Failed { error: StoreError::Refused { server, call: format!("{verb} {PLURAL}.{GROUP}"), status: 200, reason }, unsure: true }
    }

    fn unreachable(&self, call: &Call<'_>, waited: &str, reason: &str) -> StoreError {
        StoreError::Unreachable { server: self.client.server(), call: describe(call), waited: waited.to_owned(), reason: plain(reason) }
    }
}

fn describe(call: &Call<'_>) -> String {
    call.name.map_or_else(|| format!("{} {PLURAL}", call.verb), |name| format!("{} {PLURAL}/{name}", call.verb))
}

fn collection(rest: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/{PLURAL}{rest}")
}

/// Percent-encoding of all but unreserved characters (RFC 3986).
fn escape(text: &str) -> String {
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

/// The server's words on one line, without those that runtimes take for the
/// success of a DEL.
fn plain(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    line.replace("not found", "missing").replace("no such file or directory", "missing").trim().to_owned()
}

/// A merge patch leaves alone what it does not name: what is gone is named.
fn merge(labels: &std::collections::BTreeMap<String, String>) -> serde_json::Value {
    let mut merged: serde_json::Map<_, _> = labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    for key in super::names::LABELS {
        merged.entry(*key).or_insert(serde_json::Value::Null);
    }
    merged.into()
}

fn merge_spec(to: &IpAllocation) -> serde_json::Value {
    let mut spec = json!(to.spec);
    if let Some(fields) = spec.as_object_mut() {
        for key in super::crd::OPTIONAL {
            fields.entry(*key).or_insert(serde_json::Value::Null);
        }
        if let Some(pod) = fields.get_mut("podRef").and_then(|pod| pod.as_object_mut()) {
            for key in ["namespace", "uid"] {
                pod.entry(key).or_insert(serde_json::Value::Null);
            }
        }
    }
    spec
}

#[derive(Deserialize, Default)]
struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

impl ListMetadata {
    fn next(self) -> Option<String> {
        Some(self.next).filter(|next| !next.is_empty())
    }
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMetadata,
    items: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Table {
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    cells: Cells,
}

/// The first cell is the name; the others are for people.
struct Cells(String);

impl<'de> Deserialize<'de> for Cells {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;
        impl<'de> serde::de::Visitor<'de> for First {
            type Value = Cells;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("cells that begin with a name")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut cells: A) -> Result<Cells, A::Error> {
                let name = cells.next_element()?.ok_or_else(|| serde::de::Error::invalid_length(0, &self))?;
                while cells.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Cells(name))
            }
        }
        deserializer.deserialize_seq(First)
    }
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Details,
}

#[derive(Deserialize, Default)]
struct Details {
    #[serde(default)]
    name: String,
}

/// The API's own words on a failure; of a proxy's page, its first line.
fn status(answer: &Answer) -> Status {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&answer.body);
        Status { message: text.lines().next().unwrap_or_default().to_owned(), ..Status::default() }
    })
}

/// Whether a 404 is about the object; without its name it is about the
/// resource.
fn is_absent(answer: &Answer) -> bool {
    !status(answer).details.name.is_empty()
}

fn decode_item(item: &str) -> Result<IpAllocation, StoreError> {
    #[derive(Deserialize)]
    struct Head {
        metadata: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str(item).map_err(|error| {
        let name = serde_json::from_str::<Head>(item).map_or_else(|_| "?".to_owned(), |head| head.metadata.name);
        damaged(&name, &error.to_string())
    })
}

/// An object that no version of ours wrote.
pub(super) fn damaged(name: &str, reason: &str) -> StoreError {
    StoreError::Damaged { path: format!("{PLURAL}/{name}").into(), reason: plain(reason) }
}
