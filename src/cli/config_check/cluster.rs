//! The networks of a cluster: all NetworkAttachmentDefinitions, and the number of pods that use
//! each one. Needs the right to list network-attachment-definitions and pods.

use crate::api_client::client::Client;
use crate::api_client::http::{Answer, Method, Request};
use crate::cli::HintedError;
use crate::environment::Environment;
use crate::json::Json;
use crate::retry::{self, Attempt, Deadline, Pace};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// The time limit of all requests.
const LIMIT: Duration = Duration::from_secs(120);

/// The time limit of one request.
const ATTEMPT: Duration = Duration::from_secs(20);

/// The maximum number of pages of a list.
const MOST_PAGES: usize = 20_000;

/// The annotation of a pod that names the networks that Multus attaches.
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// The annotation that names the pod's default network.
const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

const DEFINITIONS: List = List {
    what: "network-attachment-definitions.k8s.cni.cncf.io",
    path: "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions",
    // With 200 KB per object, which is rare, a page still fits into an answer.
    query: "?limit=50",
    accept: "application/json",
};

/// Of pods, only the metadata is asked for. Pods that have ended use no network.
const PODS: List = List {
    what: "pods",
    path: "/api/v1/pods",
    query: "?limit=500&fieldSelector=status.phase!%3DSucceeded,status.phase!%3DFailed",
    accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
};

/// A list of objects of one kind.
struct List {
    what: &'static str,
    path: &'static str,
    query: &'static str,
    accept: &'static str,
}

/// A connection to the cluster.
pub(super) struct Cluster {
    client: Client,
    /// The server's URL.
    pub(super) server: String,
    deadline: Deadline,
}

/// The number of pods that use each network, by `namespace/name`.
#[derive(Default)]
pub(super) struct Users(HashMap<String, usize>);

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

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: PodMetadata,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodMetadata {
    namespace: String,
    annotations: Option<HashMap<String, String>>,
}

impl Cluster {
    /// Reads the kubeconfig. Does not connect.
    pub(super) fn open(kubeconfig: &Path, environment: &Environment) -> anyhow::Result<Self> {
        let client = Client::open(kubeconfig, &environment.proxy)?;
        let server = client.server();
        Ok(Self { client, server, deadline: Deadline::after(LIMIT) })
    }

    /// Counts the pods that use each network.
    pub(super) fn users(&self) -> anyhow::Result<Users> {
        let mut users = Users::default();
        self.list(&PODS, &mut |item| {
            if let Ok(pod) = serde_json::from_str::<Pod>(item) {
                users.add(&pod.metadata);
            }
        })?;
        Ok(users)
    }

    /// Calls `each` with every NetworkAttachmentDefinition.
    pub(super) fn definitions(&self, each: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        self.list(&DEFINITIONS, each)
    }

    fn list(&self, list: &List, each: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        let mut next = String::new();
        for _ in 0..MOST_PAGES {
            let mut path = format!("{}{}", list.path, list.query);
            if !next.is_empty() {
                path.push_str(&format!("&continue={}", escape(&next)));
            }
            let answer = self.get(list, &path)?;
            let page: Page<'_> = serde_json::from_slice(&answer.body)
                .map_err(|error| self.failed(list, &format!("unexpected answer: {error}")))?;
            page.items.unwrap_or_default().into_iter().for_each(|item| each(item.get()));
            if page.metadata.next.is_empty() {
                return Ok(());
            }
            next = page.metadata.next;
        }
        Err(self.failed(list, "the list has no end"))
    }

    /// Sends one request until the server answers it.
    fn get(&self, list: &List, path: &str) -> anyhow::Result<Answer> {
        let request = Request { method: Method::Get, path, accept: list.accept, content: None };
        let mut last = String::new();
        let answer = retry::until_paced(&self.deadline, Pace::SERVER, || {
            let limit = self.deadline.left().clamp(Duration::from_millis(100), ATTEMPT);
            match self.client.call(&request, limit) {
                Ok(answer) if matches!(answer.status, 408 | 425 | 429 | 500..=599) => {
                    last = format!("HTTP status {}", answer.status);
                    Ok(Attempt::Again(answer.retry_after.unwrap_or(Duration::ZERO)))
                }
                Ok(answer) => Ok(Attempt::Done(answer)),
                Err(error) if error.may_pass() => {
                    last = error.to_string();
                    Ok(Attempt::Again(Duration::ZERO))
                }
                Err(error) => Err(self.failed(list, &error.to_string())),
            }
        })?;
        let Some(answer) = answer else {
            return Err(self.failed(list, &last));
        };
        let hint = match answer.status {
            200 => return Ok(answer),
            401 => "the token or certificate of the kubeconfig is no longer valid".to_owned(),
            403 => format!(
                "give the kubeconfig's user the right to list {} in all namespaces",
                list.what
            ),
            404 => "install Multus: the cluster does not have this resource".to_owned(),
            _ => "check that the kubeconfig names a Kubernetes API server".to_owned(),
        };
        let message = format!("{}", self.failed(list, &format!("HTTP status {}", answer.status)));
        Err(HintedError::new(message, hint).into())
    }

    fn failed(&self, list: &List, reason: &str) -> anyhow::Error {
        anyhow::anyhow!("cannot list {} of {}: {reason}", list.what, self.server)
    }
}

impl Users {
    /// Returns the number of pods that use a network.
    pub(super) fn of(&self, object: &str) -> usize {
        self.0.get(object).copied().unwrap_or(0)
    }

    fn add(&mut self, pod: &PodMetadata) {
        let annotations = pod.annotations.as_ref();
        let of = |key: &str| annotations.and_then(|annotations| annotations.get(key));
        let mut names: Vec<String> = [of(NETWORKS), of(DEFAULT_NETWORK)]
            .into_iter()
            .flatten()
            .flat_map(|text| selected(text, &pod.namespace))
            .collect();
        // A pod with two interfaces in a network is one pod.
        names.sort();
        names.dedup();
        for name in names {
            *self.0.entry(name).or_default() += 1;
        }
    }
}

/// Returns the networks in an annotation, as `namespace/name`: `[namespace/]name[@interface]`
/// separated by commas, or a JSON list of objects.
fn selected(text: &str, namespace: &str) -> Vec<String> {
    if !text.trim_start().starts_with('[') {
        return text
            .split(',')
            .map(|name| name.trim().split('@').next().unwrap_or_default())
            .filter(|name| !name.is_empty())
            .map(
                |name| {
                    if name.contains('/') { name.to_owned() } else { format!("{namespace}/{name}") }
                },
            )
            .collect();
    }
    let Ok(Json::Array(items)) = Json::parse(text.as_bytes()) else {
        return Vec::new();
    };
    let of = |item: &Json| {
        let name = item.find("name")?.as_str()?;
        let namespace = item.find("namespace").and_then(Json::as_str).unwrap_or(namespace);
        Some(format!("{namespace}/{name}"))
    };
    items.iter().filter_map(of).collect()
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
    use super::{escape, selected};

    #[test]
    fn the_annotation_names_networks_in_two_forms() {
        for (text, expected) in [
            ("a", &["d/a"][..]),
            ("a, n/b@net1 ,c@x,", &["d/a", "n/b", "d/c"]),
            (
                r#"[{"name":"a"},{"name":"b","namespace":"n","ips":["10.0.0.1"]},{}]"#,
                &["d/a", "n/b"],
            ),
            ("[", &[]),
            ("", &[]),
        ] {
            assert_eq!(selected(text, "d"), expected, "{text}");
        }
        assert_eq!(escape("a/b=~"), "a%2Fb%3D~");
    }
}
