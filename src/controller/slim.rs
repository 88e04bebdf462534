//! Objects of which only the needed fields are ever in memory. The list of managed fields of a pod
//! alone is larger than everything that is kept of it.

use super::state::{State, Work};
use crate::ipam::leak::Cluster;
use crate::store::kube::objects::evidence::{NodeObject, PodObject};
use k8s::Resource;
use k8s::api::{ApiResource, GroupVersionKind, ObjectMeta};
use k8s::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Debug;

/// An object of which only the needed fields are read.
#[derive(Debug, Clone)]
pub struct Slim<T> {
    metadata: ObjectMeta,
    /// The fields.
    pub object: T,
}

/// The fields of a kind.
pub trait Fields: Clone + Debug + Send + for<'de> Deserialize<'de> + 'static {
    /// The kind.
    const KIND: &'static str;
    /// The plural name of its resource.
    const PLURAL: &'static str;

    /// Returns the namespace, the name, the uid and the state of the object.
    fn identity(&self) -> [&str; 4];
    /// Notes the object.
    fn put(&self, cluster: &mut Cluster);
    /// Forgets an object.
    fn remove(cluster: &mut Cluster, namespace: &str, name: &str);
    /// Forgets the objects whose namespace and name are not among these.
    fn retain(cluster: &mut Cluster, seen: &HashSet<(String, String)>);

    /// Notes what pools depend on. Returns what to look at.
    fn note(&self, _: &mut State) -> Vec<Work> {
        Vec::new()
    }
    /// Notes that all objects have been read, or cannot be read. Returns what to look at.
    fn are_read(_: &mut State) -> Vec<Work> {
        Vec::new()
    }
    /// Forgets what pools depend on. Returns what to look at.
    fn forget(_: &mut State, _name: &str) -> Vec<Work> {
        Vec::new()
    }
    /// Forgets what pools depend on of all objects that are not among these. Returns what to look
    /// at.
    fn forget_others(_: &mut State, _seen: &HashSet<(String, String)>) -> Vec<Work> {
        Vec::new()
    }
}

impl Fields for PodObject {
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";

    fn identity(&self) -> [&str; 4] {
        let known = &self.metadata;
        [&known.namespace, &known.name, &known.uid, &known.resource_version]
    }
    fn put(&self, cluster: &mut Cluster) {
        cluster.put_pod(&self.metadata.namespace, &self.metadata.name, self.pod());
    }
    fn remove(cluster: &mut Cluster, namespace: &str, name: &str) {
        cluster.remove_pod(namespace, name);
    }
    fn retain(cluster: &mut Cluster, seen: &HashSet<(String, String)>) {
        cluster.retain_pods(&|namespace, name| {
            seen.contains(&(namespace.to_owned(), name.to_owned()))
        });
    }
}

impl Fields for NodeObject {
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";

    fn identity(&self) -> [&str; 4] {
        let known = &self.metadata;
        [&known.namespace, &known.name, &known.uid, &known.resource_version]
    }
    fn put(&self, cluster: &mut Cluster) {
        cluster.put_node(&self.metadata.name, self.node());
    }
    fn remove(cluster: &mut Cluster, _: &str, name: &str) {
        cluster.remove_node(name);
    }
    fn retain(cluster: &mut Cluster, seen: &HashSet<(String, String)>) {
        cluster.retain_nodes(&|name| seen.contains(&(String::new(), name.to_owned())));
    }

    fn note(&self, state: &mut State) -> Vec<Work> {
        state.apply_node(&self.metadata.name, self.pod_cidrs())
    }
    fn are_read(state: &mut State) -> Vec<Work> {
        state.nodes_are_read()
    }
    fn forget(state: &mut State, name: &str) -> Vec<Work> {
        state.remove_node(name)
    }
    fn forget_others(state: &mut State, seen: &HashSet<(String, String)>) -> Vec<Work> {
        state.retain_nodes(&seen.iter().map(|(_, name)| name.as_str()).collect())
    }
}

impl<'de, T: Fields> Deserialize<'de> for Slim<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = T::deserialize(deserializer)?;
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let [namespace, name, uid, resource_version] = object.identity().map(text);
        let metadata =
            ObjectMeta { namespace, name, uid, resource_version, ..ObjectMeta::default() };
        Ok(Self { metadata, object })
    }
}

impl<T: Fields> Resource for Slim<T> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Returns the resource of a kind.
#[must_use]
pub fn resource<T: Fields>() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", T::KIND), T::PLURAL)
}
