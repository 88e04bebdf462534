//! Reads one object of another kind than IPAllocations.

use super::answer::is_absent;
use super::retries::{Call, Failed};
use super::{Api, JSON};
use crate::api_client::http::{Method, Request};
use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::objects::error_text::on_one_line;

impl Api {
    /// Reads an object. Returns `None` if no object has that name.
    pub(crate) fn read<T>(
        &self,
        resource: &'static str,
        name: &str,
        path: &str,
        deadline: &Deadline,
        decode: impl Fn(&[u8]) -> Result<T, serde_json::Error>,
    ) -> Result<Option<T>, StoreError> {
        let request = Request { method: Method::Get, path, accept: JSON, content: None };
        let call = Call { resource, verb: "get", name: Some(name), request };
        let unreadable = |error: serde_json::Error| Failed {
            error: unreadable(&self.server.url(), resource, &error),
            outcome_unknown: true,
        };
        Ok(self.call(&call, deadline, |answer, _| match answer.status {
            200 => decode(&answer.body).map(|object| Some(Some(object))).map_err(unreadable),
            404 if is_absent(answer) => Ok(Some(None)),
            _ => Ok(None),
        })?)
    }
}

pub(crate) fn unreadable(server: &str, resource: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Refused {
        server: server.to_owned(),
        call: format!("get {resource}"),
        status: 200,
        reason: format!("unexpected answer: {}", on_one_line(&error.to_string())),
    }
}
