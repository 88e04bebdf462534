//! Kubernetes objects that contain networks, told apart by `kind` and the group of `apiVersion`.

use super::{Content, Origin, Walk, inner_json, shape, short};
use crate::config::pool_kind;
use crate::json::Json;
use std::rc::Rc;

/// What an operator makes of an object of its own: the configuration of a main plugin.
struct Operator {
    group: &'static str,
    kind: &'static str,
    /// The main plugin.
    plugin: &'static str,
}

const SRIOV: &str = "sriovnetwork.openshift.io";
const MELLANOX: &str = "mellanox.com";

/// The key of `spec` that says where the NetworkAttachmentDefinition goes.
const NAMESPACE: &str = "networkNamespace";

/// The kinds whose `spec.ipam` is JSON in a text.
const OPERATORS: &[Operator] = &[
    Operator { group: SRIOV, kind: "SriovNetwork", plugin: "sriov" },
    Operator { group: SRIOV, kind: "SriovIBNetwork", plugin: "ib-sriov" },
    Operator { group: SRIOV, kind: "OVSNetwork", plugin: "ovs" },
    Operator { group: MELLANOX, kind: "MacvlanNetwork", plugin: "macvlan" },
    Operator { group: MELLANOX, kind: "HostDeviceNetwork", plugin: "host-device" },
    Operator { group: MELLANOX, kind: "IPoIBNetwork", plugin: "ipoib" },
];

/// The largest text after the parameters of a Template are filled in, in bytes.
const LARGEST: usize = 1024 * 1024;

/// What surrounds an object: the list that says its kind, and the parameters of its Template.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    /// The kind and `apiVersion` of objects that do not say their own: the server leaves them out
    /// of the items of a list.
    kind: Option<String>,
    version: Option<String>,
    parameters: Rc<[(String, String)]>,
}

impl Walk<'_> {
    /// Finds the networks in a Kubernetes object.
    pub(super) fn object(&mut self, mut object: Json, place: &str, around: &Around) {
        let kind = short(object.find("kind")).or_else(|| around.kind.clone()).unwrap_or_default();
        let version = short(object.find("apiVersion")).or_else(|| around.version.clone());
        let group =
            version.as_deref().and_then(|version| version.split_once('/')).map(|(group, _)| group);
        // An object without apiVersion is recognized by its kind alone.
        let is = |expected: &str| version.is_none() || group == Some(expected);
        match kind.as_str() {
            "NetworkAttachmentDefinition" if is("k8s.cni.cncf.io") => {
                self.definition(object, place, around);
            }
            pool_kind::KIND if group == Some(pool_kind::GROUP) => self.pool(object, place, around),
            "Network" if is("operator.openshift.io") => self.additional(object, place, around),
            "Template" if is("template.openshift.io") || group.is_none() => {
                let parameters = parameters(&object);
                let around = Around { parameters, ..Around::default() };
                self.items(object, "objects", place, &around);
            }
            kind => {
                if let Some(operator) =
                    OPERATORS.iter().find(|known| known.kind == kind && is(known.group))
                {
                    self.of_operator(&mut object, place, around, operator);
                } else if let Some(inner) = kind.strip_suffix("List") {
                    let kind = Some(inner.to_owned()).filter(|inner| !inner.is_empty());
                    let version = version.filter(|_| kind.is_some());
                    let around = Around { kind, version, ..around.clone() };
                    self.items(object, "items", place, &around);
                }
            }
        }
    }

    /// Finds the networks in a list of objects.
    pub(super) fn items(&mut self, mut list: Json, key: &str, place: &str, around: &Around) {
        match list.take(key) {
            None => {}
            Some(Json::Array(items)) => {
                drop(list);
                for (at, item) in items.into_iter().enumerate() {
                    self.object(item, &format!("{place}{key}[{at}]: "), around);
                }
            }
            Some(_) => {
                let error = shape(&format!("{place}{key}"), "expected a list");
                self.mistake(place, Origin::default(), error);
            }
        }
    }

    fn definition(&mut self, object: Json, place: &str, around: &Around) {
        let origin = around.origin(&object, "NetworkAttachmentDefinition", None);
        let config = object.find("spec").and_then(|spec| spec.find("config"));
        let Some(config) = config.filter(|config| config.as_str() != Some("")) else {
            let nothing = "no spec.config; Multus uses a file of that name on the node";
            return self.found(place, origin, Content::Elsewhere(nothing));
        };
        let path = format!("{place}spec.config");
        match around.parsed(config, &path) {
            Ok(inner) => {
                drop(object);
                self.configuration(inner, &format!("{path}: "), origin);
            }
            Err(error) => self.mistake(&path, origin, error),
        }
    }

    /// Emits a pool. The items of a server's list do not say their kind.
    fn pool(&mut self, mut object: Json, place: &str, around: &Around) {
        let origin = around.origin(&object, pool_kind::KIND, None);
        if let Json::Object(entries) = &mut object {
            for (key, value) in [("kind", &around.kind), ("apiVersion", &around.version)] {
                if let Some(value) = value
                    && entries.iter().all(|(name, _)| name != key)
                {
                    entries.push((key.to_owned(), Json::String(value.clone())));
                }
            }
        }
        self.found(place, origin, Content::Pool(object));
    }

    /// The networks of OpenShift's cluster network operator.
    fn additional(&mut self, mut object: Json, place: &str, around: &Around) {
        const KIND: &str = "Network";
        let networks = match object.find("spec") {
            Some(_) => object.take("spec").and_then(|mut spec| spec.take("additionalNetworks")),
            None => None,
        };
        let Some(networks) = networks else {
            return;
        };
        let list = format!("{place}spec.additionalNetworks");
        let Json::Array(networks) = networks else {
            return self.mistake(&list, Origin::default(), shape(&list, "expected a list"));
        };
        for (at, network) in networks.into_iter().enumerate() {
            let place = format!("{list}[{at}]");
            let origin = Origin {
                kind: Some(KIND),
                name: around.filled(network.find("name")),
                namespace: around.filled(network.find("namespace")),
            };
            let Some(raw) = network.find("rawCNIConfig") else {
                self.found(&place, origin, Content::Elsewhere("no rawCNIConfig"));
                continue;
            };
            let path = format!("{place}.rawCNIConfig");
            match around.parsed(raw, &path) {
                Ok(inner) => self.configuration(inner, &format!("{path}: "), origin),
                Err(error) => self.mistake(&path, origin, error),
            }
        }
    }

    fn of_operator(
        &mut self,
        object: &mut Json,
        place: &str,
        around: &Around,
        operator: &Operator,
    ) {
        let spec = object.find("spec");
        let namespace = spec.and_then(|spec| spec.find(NAMESPACE));
        let origin = around.origin(object, operator.kind, namespace);
        let Some(text) =
            spec.and_then(|spec| spec.find("ipam")).filter(|text| text.as_str() != Some(""))
        else {
            return self.found(place, origin, Content::Elsewhere("no spec.ipam"));
        };
        let path = format!("{place}spec.ipam");
        let ipam = match around.parsed(text, &path) {
            Ok(ipam) => ipam,
            Err(error) => return self.mistake(&path, origin, error),
        };
        let mut configuration = vec![("type".to_owned(), Json::String(operator.plugin.to_owned()))];
        configuration.push(("ipam".to_owned(), ipam));
        if let Some(text) =
            spec.and_then(|spec| spec.find("capabilities")).filter(|text| text.as_str() != Some(""))
        {
            let path = format!("{place}spec.capabilities");
            match around.parsed(text, &path) {
                Ok(capabilities) => configuration.push(("capabilities".to_owned(), capabilities)),
                Err(error) => return self.mistake(&path, origin, error),
            }
        }
        // The operator writes the version itself.
        let version = Json::String("1.0.0".to_owned());
        configuration.push(("cniVersion".to_owned(), version));
        self.configuration(Json::Object(configuration), &format!("{path}: "), origin);
    }
}

impl Around {
    fn origin(&self, object: &Json, kind: &'static str, namespace: Option<&Json>) -> Origin {
        let meta = object.find("metadata");
        let of = |key: &str| self.filled(meta.and_then(|meta| meta.find(key)));
        let namespace = self.filled(namespace).or_else(|| of("namespace"));
        Origin { kind: Some(kind), name: of("name"), namespace }
    }

    fn filled(&self, value: Option<&Json>) -> Option<String> {
        short(value).map(|text| self.fill(&text))
    }

    /// Parses the JSON in a text of the object.
    fn parsed(&self, value: &Json, place: &str) -> Result<Json, super::ConfigError> {
        match value.as_str() {
            Some(text) if self.parameters.is_empty() => inner_json(text, place),
            Some(text) => inner_json(&self.fill(text), place),
            None => Err(shape(
                place,
                &format!("expected a string that holds JSON, found {}", value.kind()),
            )),
        }
    }

    /// Fills in the parameters of the Template.
    fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &*self.parameters {
            for pattern in [format!("${{{{{name}}}}}"), format!("${{{name}}}")] {
                let count = filled.matches(&pattern).count();
                if 0 < count
                    && filled.len().saturating_add(count.saturating_mul(value.len())) <= LARGEST
                {
                    filled = filled.replace(&pattern, value);
                }
            }
        }
        filled
    }
}

/// Returns the parameters of a Template that have a value. The others are known only to the caller
/// of `oc process`.
fn parameters(template: &Json) -> Rc<[(String, String)]> {
    let Some(Json::Array(parameters)) = template.find("parameters") else {
        return Rc::default();
    };
    let of =
        |parameter: &Json| Some((short(parameter.find("name"))?, short(parameter.find("value"))?));
    parameters.iter().take(1000).filter_map(of).collect()
}
