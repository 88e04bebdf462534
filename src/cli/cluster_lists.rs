//! Lists of the objects of a cluster, page by page, for commands that read with `--kubeconfig`.

use super::HintedError;
use super::answered::answered;
use crate::api_client::client::Client;
use crate::api_client::http::{Answer, Method, Request};
use crate::environment::Environment;
use crate::retry::Deadline;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::path::Path;
use std::time::Duration;

/// The time limit of all requests.
const LIMIT: Duration = Duration::from_secs(120);

/// The maximum number of pages of a list.
const MOST_PAGES: usize = 20_000;

/// All NetworkAttachmentDefinitions.
pub(super) const DEFINITIONS: List = List {
    what: "network-attachment-definitions.k8s.cni.cncf.io",
    right: "network-attachment-definitions.k8s.cni.cncf.io in all namespaces",
    absent: "install Multus: the cluster does not have this resource",
    path: "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions",
    // With 200 KB per object, which is rare, a page still fits into an answer.
    query: "?limit=50",
    accept: "application/json",
};

/// All IPAllocations.
pub(super) const ALLOCATIONS: List = List {
    what: "ipallocations.hereabouts.dev",
    right: "ipallocations.hereabouts.dev",
    absent: "apply deploy/crd: the cluster does not have this resource",
    path: "/apis/hereabouts.dev/v1alpha1/ipallocations",
    query: "?limit=500",
    accept: "application/json",
};

/// All IPPools.
pub(super) const POOLS: List = List {
    what: "ippools.hereabouts.dev",
    right: "ippools.hereabouts.dev",
    absent: "apply deploy/crd: the cluster does not have this resource",
    path: "/apis/hereabouts.dev/v1alpha1/ippools",
    query: "?limit=50",
    accept: "application/json",
};

/// All nodes.
pub(super) const NODES: List = List {
    what: "nodes",
    right: "nodes",
    absent: "check that the kubeconfig names a Kubernetes API server",
    path: "/api/v1/nodes",
    // With 100 KB per object, which is much, a page still fits into an answer.
    query: "?limit=100",
    accept: "application/json",
};

/// All pods.
pub(super) const PODS: List = List {
    what: "pods",
    right: "pods in all namespaces; a node's own kubeconfig does not have it",
    absent: "check that the kubeconfig names a Kubernetes API server",
    path: "/api/v1/pods",
    // With 100 KB per object, which is much, a page still fits into an answer.
    query: "?limit=100",
    accept: "application/json",
};

/// A list of objects of one kind.
pub(super) struct List {
    /// The resource, with its group.
    pub(super) what: &'static str,
    /// What the user needs the right to list.
    pub(super) right: &'static str,
    /// What to do if the cluster does not have the resource.
    pub(super) absent: &'static str,
    pub(super) path: &'static str,
    /// The query, which limits the objects of a page.
    pub(super) query: &'static str,
    pub(super) accept: &'static str,
}

impl List {
    /// Parses an object of the list.
    pub(super) fn parse<'t, T: Deserialize<'t>>(&self, item: &'t str) -> anyhow::Result<T> {
        let what = self.what;
        serde_json::from_str(item)
            .map_err(|error| anyhow::anyhow!("unexpected object in the list of {what}: {error}"))
    }
}

/// Whether the cluster has the objects of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    /// It has the resource, with any number of objects.
    Known,
    /// It does not have the resource.
    Unknown,
}

/// A connection to the cluster.
pub(super) struct Cluster {
    client: Client,
    /// The server's URL.
    pub(super) server: String,
    deadline: Deadline,
}

#[derive(Deserialize)]
struct Page<'b> {
    #[serde(default)]
    metadata: ListMetadata,
    /// The server writes null for an empty list.
    #[serde(borrow)]
    items: Option<Vec<&'b RawValue>>,
}

#[derive(Deserialize, Default)]
struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

impl Cluster {
    /// Reads the kubeconfig. Does not connect.
    pub(super) fn open(kubeconfig: &Path, environment: &Environment) -> anyhow::Result<Self> {
        let client = Client::open(kubeconfig, &environment.proxy)?;
        let server = client.server();
        Ok(Self { client, server, deadline: Deadline::after(LIMIT) })
    }

    /// Calls `each` with every object of a list. Holds one page at a time.
    ///
    /// # Errors
    /// The server does not answer, or refuses the list, or `each` fails.
    pub(super) fn list(
        &self,
        list: &List,
        each: &mut dyn FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self.list_if_known(list, each)? {
            Resource::Known => Ok(()),
            Resource::Unknown => Err(self.refused(list, 404, list.absent.to_owned())),
        }
    }

    /// Does the same, and returns whether the cluster has the resource.
    ///
    /// # Errors
    /// Those of [`Self::list`], without that of a missing resource.
    pub(super) fn list_if_known(
        &self,
        list: &List,
        each: &mut dyn FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Resource> {
        let mut next = String::new();
        for _ in 0..MOST_PAGES {
            let mut path = format!("{}{}", list.path, list.query);
            if !next.is_empty() {
                path.push_str(&format!("&continue={}", escape(&next)));
            }
            let Some(answer) = self.get(list, &path)? else {
                return Ok(Resource::Unknown);
            };
            let page: Page<'_> = serde_json::from_slice(&answer.body)
                .map_err(|error| self.failed(list, &format!("unexpected answer: {error}")))?;
            page.items.unwrap_or_default().into_iter().try_for_each(|item| each(item.get()))?;
            if page.metadata.next.is_empty() {
                return Ok(Resource::Known);
            }
            next = page.metadata.next;
        }
        Err(self.failed(list, "the list has no end"))
    }

    /// Sends one request until the server answers it. Returns `None` if the cluster does not have
    /// the resource.
    fn get(&self, list: &List, path: &str) -> anyhow::Result<Option<Answer>> {
        let request = Request { method: Method::Get, path, accept: list.accept, content: None };
        let answer = answered(&self.client, &request, &self.deadline)
            .map_err(|reason| self.failed(list, &reason))?;
        let hint = match answer.status {
            200 => return Ok(Some(answer)),
            404 => return Ok(None),
            401 => "the token or certificate of the kubeconfig is no longer valid".to_owned(),
            403 => format!("give the kubeconfig's user the right to list {}", list.right),
            _ => "check that the kubeconfig names a Kubernetes API server".to_owned(),
        };
        Err(self.refused(list, answer.status, hint))
    }

    fn refused(&self, list: &List, status: u16, hint: String) -> anyhow::Error {
        let message = format!("{}", self.failed(list, &format!("HTTP status {status}")));
        HintedError::new(message, hint).into()
    }

    fn failed(&self, list: &List, reason: &str) -> anyhow::Error {
        anyhow::anyhow!("cannot list {} of {}: {reason}", list.what, self.server)
    }
}

/// Escapes a token for a query.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn tokens_are_escaped_for_a_query() {
        assert_eq!(escape("a/b=~"), "a%2Fb%3D~");
    }
}
