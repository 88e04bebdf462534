//! Reads and changes single objects of the cluster, with the kubeconfig of an operator.

use crate::api_client::client::Client;
use crate::api_client::http::{Answer, Method, Request};
use crate::cli::HintedError;
use crate::cli::answered::answered;
use crate::environment::Environment;
use crate::retry::Deadline;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The time limit of a call with its repetitions.
const LIMIT: Duration = Duration::from_secs(60);
const JSON: &str = "application/json";

/// A connection to the cluster.
pub(super) struct Api {
    client: Client,
}

/// How a change ended.
#[derive(Debug)]
pub(super) enum Written {
    /// It was carried out. The object as it is now.
    Done(Value),
    /// Its condition does not hold: the name is taken, or the object is another one by now.
    Conflict,
    /// The object is not there.
    Absent,
}

impl Api {
    pub(super) fn open(kubeconfig: &Path, environment: &Environment) -> anyhow::Result<Self> {
        Ok(Self { client: Client::open(kubeconfig, &environment.proxy)? })
    }

    /// Reads an object. `None` if it, or its resource, is not there.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let answer = self.send(Method::Get, path, None)?;
        match answer.status {
            200 => Ok(Some(serde_json::from_slice(&answer.body)?)),
            404 => Ok(None),
            _ => Err(refused("read", path, &answer)),
        }
    }

    /// Creates an object. Its name must be free.
    pub(super) fn create(&self, path: &str, object: &Value) -> anyhow::Result<Written> {
        let body = object.to_string();
        let answer = self.send(Method::Post, path, Some((JSON, body.as_bytes())))?;
        written("create in", path, &answer)
    }

    /// Changes an object by a merge patch (RFC 7396). `version` names the state that was read.
    pub(super) fn merge(
        &self,
        path: &str,
        version: &Value,
        mut change: Value,
    ) -> anyhow::Result<Written> {
        change["metadata"]["resourceVersion"] = version.clone();
        let body = change.to_string();
        let content = ("application/merge-patch+json", body.as_bytes());
        written("change", path, &self.send(Method::Patch, path, Some(content))?)
    }

    /// Changes an object by a JSON patch (RFC 6902), which has its own conditions.
    pub(super) fn patch(&self, path: &str, change: &Value) -> anyhow::Result<Written> {
        let body = change.to_string();
        let content = ("application/json-patch+json", body.as_bytes());
        let answer = self.send(Method::Patch, path, Some(content))?;
        match answer.status {
            // A condition of the patch does not hold.
            422 => Ok(Written::Conflict),
            _ => written("change", path, &answer),
        }
    }

    /// Removes an object in exactly the state that was read.
    pub(super) fn delete(&self, path: &str, metadata: &Value) -> anyhow::Result<Written> {
        let body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        });
        let body = body.to_string();
        written("remove", path, &self.send(Method::Delete, path, Some((JSON, body.as_bytes())))?)
    }

    /// Sends a request until the server answers it.
    fn send(
        &self,
        method: Method,
        path: &str,
        content: Option<(&str, &[u8])>,
    ) -> anyhow::Result<Answer> {
        let request = Request { method, path, accept: JSON, content };
        answered(&self.client, &request, &Deadline::after(LIMIT)).map_err(|why| {
            anyhow::anyhow!("the API server {} does not serve {path}: {why}", self.client.server())
        })
    }
}

fn written(what: &str, path: &str, answer: &Answer) -> anyhow::Result<Written> {
    match answer.status {
        200..=202 => Ok(Written::Done(serde_json::from_slice(&answer.body)?)),
        404 => Ok(Written::Absent),
        409 => Ok(Written::Conflict),
        _ => Err(refused(what, path, answer)),
    }
}

fn refused(what: &str, path: &str, answer: &Answer) -> anyhow::Error {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = document["message"].as_str().unwrap_or_default();
    let text = format!("cannot {what} {path}: HTTP status {}: {message}", answer.status);
    let hint = match answer.status {
        401 => "the token or certificate of the kubeconfig is no longer valid",
        403 => "use the kubeconfig of an administrator",
        _ => return anyhow::anyhow!(text),
    };
    HintedError::new(text, hint).into()
}
