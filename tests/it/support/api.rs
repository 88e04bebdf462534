//! Requests of tests to a real API server. kubectl takes a quarter of a second of processor time to
//! apply an object, and there are thousands of them.

use hereabouts::api_client::client::Client;
use hereabouts::api_client::http::{Answer, Method, Request};
use hereabouts::environment::ProxyVariables;
use hereabouts::retry::{Deadline, pause};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// A loaded machine needs seconds until a new resource is served.
const LIMIT: Duration = Duration::from_secs(60);

/// A connection with the rights of a kubeconfig.
pub(crate) struct Api(Client);

impl Api {
    pub(crate) fn open(kubeconfig: &Path) -> Self {
        Self(Client::open(kubeconfig, &ProxyVariables::default()).unwrap())
    }

    fn call(&self, method: Method, path: &str, content: Option<(&str, &[u8])>) -> Answer {
        let request = Request { method, path, accept: "application/json", content };
        self.0.call(&request, LIMIT).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Returns the body of an answer. Fails the test if it is not a success.
    pub(crate) fn get(&self, path: &str) -> String {
        let answer = self.call(Method::Get, path, None);
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 200, "GET {path}: {text}");
        text
    }

    /// Makes objects what a manifest says, or creates them (server-side apply). The manifest has
    /// documents in YAML or JSON, also lists.
    pub(crate) fn apply(&self, manifest: &str) {
        for document in serde_saphyr::from_multiple::<Value>(manifest).unwrap() {
            match document["items"].as_array() {
                Some(items) => items.iter().for_each(|item| self.apply_object(item.clone())),
                None if document.is_null() => {}
                None => self.apply_object(document),
            }
        }
    }

    fn apply_object(&self, mut object: Value) {
        // Who wrote which field is not for a client to say.
        object["metadata"].as_object_mut().unwrap().remove("managedFields");
        let object = &object;
        let deadline = Deadline::after(LIMIT);
        loop {
            let said = match self.path_of(object).and_then(|path| self.patch(&path, object)) {
                Ok(()) => return,
                Err(said) => said,
            };
            // A resource that was defined just now is not served at once.
            let may_pass = said.starts_with("404") || said.starts_with("429");
            assert!(may_pass && !deadline.left().is_zero(), "{object}: {said}");
            pause(&deadline, Duration::from_millis(100));
        }
    }

    /// Returns where an object is, as the API server names its resource.
    fn path_of(&self, object: &Value) -> Result<String, String> {
        let version = object["apiVersion"].as_str().unwrap();
        let root = if version.contains('/') { "apis" } else { "api" };
        let group = format!("/{root}/{version}");
        let answer = self.call(Method::Get, &group, None);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status != 200 {
            return Err(format!("{} {text}", answer.status));
        }
        let known: Value = serde_json::from_str(&text).unwrap();
        let named = |one: &&Value| {
            one["kind"] == object["kind"] && !one["name"].as_str().unwrap().contains('/')
        };
        let Some(resource) = known["resources"].as_array().unwrap().iter().find(named) else {
            return Err(format!("404 no resource of this kind in {text}"));
        };
        let space = match object["metadata"]["namespace"].as_str() {
            _ if resource["namespaced"] == false => String::new(),
            namespace => format!("/namespaces/{}", namespace.unwrap_or("default")),
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        Ok(format!("{group}{space}/{}/{name}", resource["name"].as_str().unwrap()))
    }

    fn patch(&self, path: &str, object: &Value) -> Result<(), String> {
        let path = format!("{path}?fieldManager=tests&force=true&fieldValidation=Strict");
        let body = object.to_string();
        let content = Some(("application/apply-patch+yaml", body.as_bytes()));
        let answer = self.call(Method::Patch, &path, content);
        match answer.status {
            200 | 201 => Ok(()),
            status => Err(format!("{status} {}", String::from_utf8_lossy(&answer.body))),
        }
    }
}
