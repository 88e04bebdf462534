//! An API server in memory, behind the API port: each request is a step of the scheduler. It knows
//! our resources, and what the store asks of them. `behaviors` compares it with the real one.

use super::calls::BadRequest;
use super::moves::objects::Theirs;
use super::scheduler::{Scheduler, Touches};
use hereabouts::api_client::client::{CallError, Server};
use hereabouts::api_client::http::{Answer, Method, Request};
use hereabouts::store::kube::objects::ip_allocation::{GROUP, KIND, PLURAL, VERSION};
use hereabouts::store::kube::objects::move_object;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The content of the server.
#[derive(Debug, Clone, Default)]
pub(super) struct Objects {
    /// IPAllocations by name, and the others by resource and name.
    by_name: BTreeMap<String, Value>,
    revision: u64,
    /// What Whereabouts keeps there.
    pub(super) theirs: Theirs,
}

impl Hash for Objects {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.revision.hash(state);
        self.theirs.hash(state);
        for (name, object) in &self.by_name {
            (name, object.to_string()).hash(state);
        }
    }
}

/// The resources that the server knows.
const RESOURCES: &[&str] = &[PLURAL, "ippools", "ipslices", "ipslicegeometries"];

/// Whole documents, one per request.
pub(super) enum Body {
    Object(Value),
    Status { status: u16, reason: &'static str, message: String, name: String },
}

impl Body {
    pub(super) fn refused(status: u16, reason: &'static str, name: &str, message: &str) -> Self {
        Self::Status { status, reason, message: message.to_owned(), name: name.to_owned() }
    }

    pub(super) fn answer(self, made: bool) -> Answer {
        match self {
            Self::Object(value) => Answer {
                status: if made { 201 } else { 200 },
                retry_after: None,
                body: value.to_string().into_bytes(),
            },
            Self::Status { status, reason, message, name } => {
                let kind = if name.is_empty() {
                    json!({})
                } else {
                    json!({ "name": name, "group": GROUP, "kind": PLURAL })
                };
                let body = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": message, "reason": reason, "details": kind, "code": status,
                });
                Answer { status, retry_after: None, body: body.to_string().into_bytes() }
            }
        }
    }
}

impl Objects {
    fn next(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    /// Returns the uid of an object.
    pub(super) fn uid_of(&self, name: &str) -> Option<String> {
        self.by_name.get(name)?["metadata"]["uid"].as_str().map(str::to_owned)
    }

    /// Puts a pool there.
    pub(super) fn put_pool(&mut self, name: &str, spec: &Value) {
        let pool = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "IPPool", "spec": spec,
            "metadata": {"name": name, "uid": "00000000-0000-4000-8000-0000000000aa", "resourceVersion": "1"},
        });
        self.by_name.insert(format!("ippools/{name}"), pool);
    }

    /// Puts a Move there.
    pub(super) fn put_move(&mut self, state: &str, generation: u64) {
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Move",
            "metadata": {"name": "whereabouts", "uid": "00000000-0000-4000-8000-0000000000bb",
                "resourceVersion": "1", "creationTimestamp": "2026-11-30T09:00:00Z"},
            "spec": {"state": state, "generation": generation, "since": "2026-11-30T09:00:00Z"},
        });
        self.by_name.insert("moves/whereabouts".to_owned(), object);
    }

    /// Removes the Move.
    pub(super) fn remove_move(&mut self) {
        self.by_name.remove("moves/whereabouts");
    }

    /// Returns an older state of the server, as after its restore. What is created after that has
    /// other uids than before.
    pub(super) fn restored_to(&self, older: &Self) -> Self {
        let Self { by_name, theirs, .. } = older.clone();
        Self { by_name, revision: self.revision, theirs }
    }

    /// Returns whether a record names a container.
    pub(super) fn holds(&self, container: &str) -> bool {
        self.by_name.values().any(|object| object["spec"]["containerID"] == container)
    }

    /// Returns the Move, or null.
    pub(super) fn moved(&self) -> &Value {
        self.by_name.get("moves/whereabouts").unwrap_or(&Value::Null)
    }

    /// Returns the nodes that own slices, with the IPv4 part of each.
    pub(super) fn slices(&self) -> impl Iterator<Item = (&str, &str)> {
        let slices = self.by_name.iter().filter(|(name, _)| name.starts_with("ipslices/"));
        slices.filter_map(|(_, object)| {
            Some((object["spec"]["node"].as_str()?, object["spec"]["ipv4"].as_str()?))
        })
    }

    /// Serves one request, and notes what it touches.
    pub(super) fn serve(&mut self, request: &Request<'_>, touches: &mut Touches) -> Answer {
        let group = format!("/apis/{GROUP}/{VERSION}/");
        let body: Value = request
            .content
            .and_then(|(_, bytes)| serde_json::from_slice(bytes).ok())
            .unwrap_or_default();
        if request.path.starts_with("/apis/authorization.k8s.io/") {
            return Body::Object(
                json!({ "kind": "SelfSubjectAccessReview", "status": { "allowed": true } }),
            )
            .answer(true);
        }
        if let Some(answer) = self.theirs.serve(request, &body, touches) {
            return answer;
        }
        // No Node object says in which boot a node is, and no Lease when it was seen last.
        if ["/api/v1/nodes/", "/apis/coordination.k8s.io/"]
            .iter()
            .any(|of| request.path.starts_with(of))
        {
            return Self::absent(request.path).answer(false);
        }
        let not_found =
            || Answer { status: 404, retry_after: None, body: b"404 page not found\n".to_vec() };
        let Some(rest) = request.path.strip_prefix(&group) else { return not_found() };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (resource, name) = match path.split_once('/') {
            Some((resource, name)) => (resource, Some(name)),
            None => (path, None),
        };
        let is_known = RESOURCES.contains(&resource)
            || resource == move_object::PLURAL && self.theirs.is_installed;
        if !is_known {
            return not_found();
        }
        // The status has no path of its own here: nothing reads it.
        let (name, is_status) = match name.and_then(|name| name.strip_suffix("/status")) {
            Some(name) => (Some(name), true),
            None => (name, false),
        };
        let body = match is_status {
            true => json!({"metadata": body["metadata"], "status": body["status"]}),
            false => body,
        };
        let prefix = if resource == PLURAL { String::new() } else { format!("{resource}/") };
        let name = name.map(|name| format!("{prefix}{name}"));
        let name = name.as_deref();
        match (request.method, name) {
            (Method::Get, None) => {
                touches.read("objects");
                self.list(&prefix, query, request.accept.contains("as=Table")).answer(false)
            }
            (Method::Post, None) => self.create(&prefix, body, touches).answer(true),
            (Method::Get, Some(name)) => {
                touches.read(("object", name));
                self.get(name).answer(false)
            }
            (Method::Delete, Some(name)) => self.delete(name, &body, touches).answer(false),
            (Method::Patch, Some(name)) => self.patch(name, &body, touches).answer(false),
            _ => Body::refused(
                405,
                "MethodNotAllowed",
                "",
                "the server does not allow this method on the requested resource",
            )
            .answer(false),
        }
    }

    fn changed(touches: &mut Touches, name: &str) {
        touches.write(("object", name));
        touches.write("objects");
    }

    fn absent(name: &str) -> Body {
        Body::refused(404, "NotFound", name, &format!("{PLURAL}.{GROUP} \"{name}\" not found"))
    }

    fn get(&self, name: &str) -> Body {
        self.by_name
            .get(name)
            .map_or_else(|| Self::absent(name), |object| Body::Object(object.clone()))
    }

    fn create(&mut self, prefix: &str, mut object: Value, touches: &mut Touches) -> Body {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let name = format!("{prefix}{name}");
        if prefix.is_empty() && (object["spec"]["address"].as_str().is_none() || name.is_empty()) {
            return Body::refused(422, "Invalid", &name, "the object is invalid");
        }
        if self.by_name.contains_key(&name) {
            touches.read(("object", &name));
            return Body::refused(
                409,
                "AlreadyExists",
                &name,
                &format!("{PLURAL}.{GROUP} \"{name}\" already exists"),
            );
        }
        Self::changed(touches, &name);
        let revision = self.next();
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{revision:012x}"));
        object["metadata"]["generation"] = json!(1);
        if prefix.starts_with(move_object::PLURAL) {
            // A later one is younger.
            let at = format!("2026-11-30T10:{:02}:{:02}Z", revision / 60 % 60, revision % 60);
            object["metadata"]["creationTimestamp"] = json!(at);
        }
        self.by_name.insert(name, object.clone());
        Body::Object(object)
    }

    fn delete(&mut self, name: &str, options: &Value, touches: &mut Touches) -> Body {
        let Some(object) = self.by_name.get(name) else {
            touches.read(("object", name));
            return Self::absent(name);
        };
        let metadata = &object["metadata"];
        for key in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][key];
            if !wanted.is_null() && *wanted != metadata[key] {
                touches.read(("object", name));
                let message = format!(
                    "Operation cannot be fulfilled on {KIND}.{GROUP} \"{name}\": the {key} in the precondition does not match"
                );
                return Body::refused(409, "Conflict", name, &message);
            }
        }
        Self::changed(touches, name);
        let finalized = metadata["finalizers"].as_array().is_none_or(Vec::is_empty);
        if finalized {
            self.by_name.remove(name);
            self.next();
            return Body::Object(
                json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": { "name": name } }),
            );
        }
        let revision = self.next();
        let object = self.by_name.entry(name.to_owned()).or_default();
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            object["metadata"]["resourceVersion"] = json!(revision.to_string());
        }
        Body::Object(object.clone())
    }

    fn patch(&mut self, name: &str, patch: &Value, touches: &mut Touches) -> Body {
        let Some(object) = self.by_name.get(name) else {
            touches.read(("object", name));
            return Self::absent(name);
        };
        touches.read(("object", name));
        let metadata = &patch["metadata"];
        if !metadata["resourceVersion"].is_null()
            && metadata["resourceVersion"] != object["metadata"]["resourceVersion"]
        {
            return Body::refused(
                409,
                "Conflict",
                name,
                "the object has been modified; please apply your changes to the latest version and try again",
            );
        }
        if !metadata["uid"].is_null() && metadata["uid"] != object["metadata"]["uid"] {
            return Body::refused(
                409,
                "Conflict",
                name,
                "Precondition failed: UID in precondition does not match",
            );
        }
        let mut merged = object.clone();
        merge(&mut merged, patch);
        // A slice that its node has marked as returned goes to another node.
        let is_returned = object["spec"]["returned"].is_string();
        let refused = ["address", "network", "interface", "node"]
            .iter()
            .filter(|key| **key != "node" || !is_returned)
            .find(|key| merged["spec"][**key] != object["spec"][**key]);
        if let Some(key) = refused {
            return Body::refused(422, "Invalid", name, &format!("spec.{key}: never changes"));
        }
        if merged["spec"]["containerID"] != object["spec"]["containerID"]
            && (merged["spec"]["podRef"].is_null()
                || merged["spec"]["podRef"] != object["spec"]["podRef"])
        {
            return Body::refused(
                422,
                "Invalid",
                name,
                "an address moves to another sandbox of the same pod only",
            );
        }
        if name.starts_with(move_object::PLURAL)
            && let Some(rule) = super::moves::objects::broken_rule(&object["spec"], &merged["spec"])
        {
            return Body::refused(422, "Invalid", name, rule);
        }
        if merged == *object {
            return Body::Object(merged);
        }
        Self::changed(touches, name);
        merged["metadata"]["resourceVersion"] = json!(self.next().to_string());
        let finalized = merged["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if finalized && !merged["metadata"]["deletionTimestamp"].is_null() {
            self.by_name.remove(name);
        } else {
            self.by_name.insert(name.to_owned(), merged.clone());
        }
        Body::Object(merged)
    }

    /// `continue` is the name of the last object of the previous page.
    fn list(&self, prefix: &str, query: &str, table: bool) -> Body {
        let mut limit = usize::MAX;
        let (mut after, mut selector) = (String::new(), String::new());
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match key {
                "limit" => limit = value.parse().unwrap_or(usize::MAX),
                "continue" => after = unescape(value),
                "labelSelector" => selector = unescape(value),
                _ => {}
            }
        }
        let wanted: Vec<(&str, &str)> =
            selector.split(',').filter_map(|pair| pair.split_once('=')).collect();
        let selected = |object: &Value| {
            wanted.iter().all(|(key, value)| object["metadata"]["labels"][*key] == **value)
        };
        let is_of = |name: &str| match prefix.is_empty() {
            true => !name.contains('/'),
            false => name.starts_with(prefix),
        };
        let mut items = self
            .by_name
            .iter()
            .filter(|(name, object)| **name > after && is_of(name) && selected(object));
        let page: Vec<_> = items.by_ref().take(limit).collect();
        let mut metadata = json!({ "resourceVersion": self.revision.to_string() });
        if items.next().is_some()
            && let Some((last, _)) = page.last()
        {
            metadata["continue"] = json!(last);
        }
        let row = |name: &str| json!({ "cells": [name, "..."] });
        if table {
            let rows: Vec<Value> = page
                .iter()
                .map(|(name, _)| row(name.strip_prefix(prefix).unwrap_or(name)))
                .collect();
            return Body::Object(
                json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "rows": rows }),
            );
        }
        let items: Vec<&Value> = page.iter().map(|(_, object)| *object).collect();
        Body::Object(
            json!({ "kind": format!("{KIND}List"), "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": metadata, "items": items }),
        )
    }
}

/// RFC 7386.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (key, value) in patch {
        if let Value::Object(fields) = target {
            if value.is_null() {
                drop(fields.remove(key))
            } else {
                merge(fields.entry(key.clone()).or_insert(Value::Null), value)
            }
        }
    }
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let digits = others
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// A request that is on its way.
#[derive(Debug, Clone)]
pub(super) struct HeldUp {
    method: Method,
    path: String,
    accept: String,
    content: Option<(String, Vec<u8>)>,
}

impl HeldUp {
    fn new(request: &Request<'_>) -> Self {
        let content = request.content.map(|(kind, bytes)| (kind.to_owned(), bytes.to_vec()));
        Self {
            method: request.method,
            path: request.path.to_owned(),
            accept: request.accept.to_owned(),
            content,
        }
    }
}

/// Delivers what was held up, if there is something.
pub(super) fn deliver(scheduler: &Scheduler, thread: usize) {
    scheduler.step(
        thread,
        || "what was held up arrives".to_owned(),
        |world, touches| {
            touches.write("held up");
            for held in std::mem::take(&mut world.held_up) {
                let content =
                    held.content.as_ref().map(|(kind, bytes)| (kind.as_str(), bytes.as_slice()));
                let request = Request {
                    method: held.method,
                    path: &held.path,
                    accept: &held.accept,
                    content,
                };
                drop(world.objects.serve(&request, touches));
            }
        },
    );
}

/// One call's connection to the server in memory.
pub(super) struct ScheduledServer {
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) thread: usize,
    /// What happens to a request, and the number of requests so far.
    pub(super) bad: Option<(BadRequest, Arc<AtomicUsize>)>,
}

impl Server for ScheduledServer {
    fn cluster(&self) -> &str {
        "cluster"
    }
    fn url(&self) -> String {
        "https://in.memory".to_owned()
    }
    fn call(&self, request: &Request<'_>, _limit: Duration) -> Result<Answer, CallError> {
        // A killed process sends nothing more, such as the end of a turn under the Lease.
        if std::thread::panicking() {
            let reason = "the process was killed".to_owned();
            return Err(CallError::Unknown { reason, may_pass: false });
        }
        let label = || format!("{:?} {}", request.method, request.path);
        let lost =
            || CallError::Unknown { reason: "the connection was reset".to_owned(), may_pass: true };
        let count =
            self.bad.as_ref().map(|(bad, count)| (*bad, count.fetch_add(1, Ordering::Relaxed)));
        if let Some((BadRequest::HeldUp(which), count)) = count
            && which == count
        {
            self.scheduler.step(self.thread, label, |world, touches| {
                touches.write("held up");
                world.held_up.push(HeldUp::new(request));
            });
            return Err(lost());
        }
        let answer = self
            .scheduler
            .step(self.thread, label, |world, touches| world.objects.serve(request, touches));
        match count {
            Some((BadRequest::Answered(which), count)) if which == count => Err(lost()),
            _ => Ok(answer),
        }
    }
}
