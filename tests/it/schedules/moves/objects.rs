//! What Whereabouts keeps in the API server: its pools, its reservations and its Lease. As in the real
//! server, a JSON patch with a `test` that fails is a 422, and a change of another version is a 409.

use crate::schedules::scheduler::Touches;
use crate::schedules::server::Body;
use hereabouts::api_client::http::{Answer, Method, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// The path of its group.
const GROUP: &str = "/apis/whereabouts.cni.cncf.io/v1alpha1/";
/// The path of its namespace.
pub(in crate::schedules) const HOME: &str =
    "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/kube-system/";
/// The path of the Leases beside its objects.
pub(in crate::schedules) const LEASES: &str =
    "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

/// The only pool of the walks, which a network with this range has in Whereabouts.
pub(in crate::schedules) const POOL: &str = "ippools/10.0.0.0-29";
pub(in crate::schedules) const RANGE: &str = "10.0.0.0/29";

/// See the module. The objects have paths without the namespace: `ippools/NAME`.
#[derive(Clone, Default)]
pub(in crate::schedules) struct Theirs {
    by_path: BTreeMap<String, Value>,
    revision: u64,
    /// Whether the cluster has the resources of a move.
    pub(in crate::schedules) is_installed: bool,
    /// Whether a ClusterRoleBinding gives Whereabouts its rights.
    pub(in crate::schedules) has_rights: bool,
}

impl Theirs {
    /// Returns what calls go by. Versions and IDs are compared only within a call, and of the Lease
    /// only its holder matters.
    fn matters(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.by_path.iter().map(|(path, object)| match path.starts_with("leases") {
            true => (path, &object["spec"]["holderIdentity"]),
            false => (path, &object["spec"]),
        })
    }
}

impl Hash for Theirs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.is_installed, self.has_rights).hash(state);
        self.matters().for_each(|(path, value)| (path, value.to_string()).hash(state));
    }
}

impl std::fmt::Debug for Theirs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.matters()).finish()
    }
}

impl Theirs {
    /// Returns an object, or null.
    pub(in crate::schedules) fn object(&self, path: &str) -> &Value {
        self.by_path.get(path).unwrap_or(&Value::Null)
    }

    /// Puts the pool there, without entries.
    pub(in crate::schedules) fn put_pool(&mut self) {
        let object = json!({
            "metadata": {"name": "10.0.0.0-29", "namespace": "kube-system", "uid": "theirs-0",
                "resourceVersion": "0"},
            "spec": {"range": RANGE, "allocations": {}},
        });
        self.by_path.insert(POOL.to_owned(), object);
    }

    /// Returns the entries of the pool by their keys.
    pub(in crate::schedules) fn entries(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.object(POOL)["spec"]["allocations"].as_object().into_iter().flatten()
    }

    /// Returns the paths of its reservations.
    pub(in crate::schedules) fn reservations(&self) -> impl Iterator<Item = &String> {
        self.by_path.keys().filter(|path| path.starts_with("overlapping"))
    }

    /// Serves a request about its objects.
    pub(in crate::schedules) fn serve(
        &mut self,
        request: &Request<'_>,
        body: &Value,
        touches: &mut Touches,
    ) -> Option<Answer> {
        let (path, query) = request.path.split_once('?').unwrap_or((request.path, ""));
        let path = match path.strip_prefix(LEASES) {
            Some(rest) => format!("leases{rest}"),
            None => path.strip_prefix(HOME).or_else(|| path.strip_prefix(GROUP))?.to_owned(),
        };
        if !self.is_installed {
            return None;
        }
        let is_json_patch = request.content.is_some_and(|(kind, _)| kind.contains("json-patch"));
        Some(match (request.method, path.contains('/')) {
            (Method::Get, false) => self.names(&path, query, touches),
            (Method::Post, false) => self.create(&path, body, touches).answer(true),
            (Method::Get, true) => {
                touches.read(("theirs", &path));
                let found = self.by_path.get(&path).cloned();
                found.map_or_else(|| absent(&path), Body::Object).answer(false)
            }
            (Method::Delete, true) => self.delete(&path, body, touches).answer(false),
            (_, true) if is_json_patch => self.patch(&path, body, touches).answer(false),
            (_, true) => self.merge(&path, body, touches).answer(false),
            _ => Body::refused(405, "MethodNotAllowed", "", "not allowed").answer(false),
        })
    }

    /// Which names there are, as a table. Only they are read.
    fn names(&self, resource: &str, query: &str, touches: &mut Touches) -> Answer {
        assert!(!query.contains("fieldSelector"), "no name is in two namespaces: {query}");
        touches.read(("theirs", resource));
        let prefix = format!("{resource}/");
        let names = self.by_path.keys().filter_map(|path| path.strip_prefix(&prefix));
        let rows: Vec<Value> = names.map(|name| json!({"cells": [name, "..."]})).collect();
        Body::Object(json!({"kind": "Table", "metadata": {}, "rows": rows})).answer(false)
    }

    fn changed(&mut self, path: &str, mut object: Value, touches: &mut Touches) -> Body {
        touches.write(("theirs", path));
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.by_path.insert(path.to_owned(), object.clone());
        Body::Object(object)
    }

    fn create(&mut self, resource: &str, object: &Value, touches: &mut Touches) -> Body {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{resource}/{name}");
        if self.by_path.contains_key(&path) {
            touches.read(("theirs", &path));
            return Body::refused(409, "AlreadyExists", name, "it already exists");
        }
        if resource == "ippools" {
            touches.write(("theirs", resource));
        }
        let mut object = object.clone();
        object["metadata"]["uid"] = json!(format!("theirs-{}", self.revision + 1));
        object["metadata"]["namespace"] = json!("kube-system");
        self.changed(&path, object, touches)
    }

    fn delete(&mut self, path: &str, options: &Value, touches: &mut Touches) -> Body {
        touches.read(("theirs", path));
        let Some(object) = self.by_path.get(path) else { return absent(path) };
        if let Some(key) = differs(&options["preconditions"], &object["metadata"]) {
            return conflict(path, key);
        }
        touches.write(("theirs", path));
        self.by_path.remove(path);
        Body::Object(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }

    fn merge(&mut self, path: &str, patch: &Value, touches: &mut Touches) -> Body {
        touches.read(("theirs", path));
        let Some(object) = self.by_path.get(path) else { return absent(path) };
        if let Some(key) = differs(&patch["metadata"], &object["metadata"]) {
            return conflict(path, key);
        }
        let mut merged = object.clone();
        crate::schedules::server::merge(&mut merged, patch);
        self.changed(path, merged, touches)
    }

    fn patch(&mut self, path: &str, patch: &Value, touches: &mut Touches) -> Body {
        touches.read(("theirs", path));
        let Some(object) = self.by_path.get(path) else { return absent(path) };
        let mut patched = object.clone();
        for step in patch.as_array().into_iter().flatten() {
            if !apply(&mut patched, step) {
                let words = format!("the server cannot apply {step}");
                return Body::refused(422, "Invalid", path, &words);
            }
        }
        self.changed(path, patched, touches)
    }
}

/// Applies one operation of RFC 6902. Returns false if it is not possible. An absent key is a null
/// for a `test`.
fn apply(object: &mut Value, step: &Value) -> bool {
    let path = step["path"].as_str().unwrap_or_default();
    let found = object.pointer(path).cloned();
    let (parent, key) = path.rsplit_once('/').unwrap_or_default();
    let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
    match (step["op"].as_str(), parent) {
        (Some("test"), _) => found.unwrap_or_default() == step["value"],
        (Some("remove"), Some(parent)) => parent.remove(key).is_some(),
        (Some("replace"), Some(_)) if found.is_none() => false,
        (Some("add" | "replace"), Some(parent)) => {
            parent.insert(key.to_owned(), step["value"].clone());
            true
        }
        _ => false,
    }
}

/// Returns the key of the metadata that was asked for and that is another one.
fn differs(wanted: &Value, metadata: &Value) -> Option<&'static str> {
    let is_other = |key: &&str| !wanted[*key].is_null() && wanted[*key] != metadata[*key];
    ["uid", "resourceVersion"].into_iter().find(is_other)
}

fn absent(path: &str) -> Body {
    Body::refused(404, "NotFound", path, "it is not there")
}

fn conflict(path: &str, key: &str) -> Body {
    Body::refused(409, "Conflict", path, &format!("its {key} is another one"))
}

/// The steps of a Move, as its definition allows them.
const STEPS: &[(&str, &str)] = &[
    ("shared", "closing"),
    ("closing", "finished"),
    ("closing", "shared"),
    ("finished", "opening"),
    ("opening", "shared"),
    ("shared", "ended"),
    ("ended", "shared"),
];

/// Returns which rule a change of a Move breaks.
pub(in crate::schedules) fn broken_rule(old: &Value, new: &Value) -> Option<&'static str> {
    let rises = u64::from(old["state"] != new["state"]);
    if old["generation"].as_u64().map(|old| old + rises) != new["generation"].as_u64() {
        return Some("the generation rises by 1 with each new state, and only then");
    }
    let is_step = |(from, to): &(&str, &str)| old["state"] == *from && new["state"] == *to;
    (rises == 1 && !STEPS.iter().any(is_step)).then_some("no such step")
}
