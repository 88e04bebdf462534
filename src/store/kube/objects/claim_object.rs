//! The IPAllocation of an address that is held by a claim. Its creation is the commit, as for an
//! attachment, in the same name space: an address never has holders of both kinds.
//!
//! The manifest in deploy/crd has the keys of both kinds. Its rules let an object have the keys of
//! one kind only.

use super::ip_allocation::{GROUP, IpAllocation, KIND, Metadata, SpecSource, VERSION};
use super::names;
use super::unreadable::Unreadable;
use super::{FORMAT, FORMAT_OF_CLAIMS};
use crate::ipam::{ClaimAllocation, ObjectRef, Scope, Source, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Keys that a newer version wrote and that this version does not know. They are kept.
type Newer = BTreeMap<String, Value>;

/// On the IPAllocation of an IPAMClaim: before the address is freed, the controller looks for users
/// of the claim.
pub const IN_USE: &str = "hereabouts.dev/in-use";

/// On the IPAllocation of a user of an IPAMClaim: the record by which the claim holds the address, so
/// that the user's node can create it again if the cluster has lost it.
const HELD_BY_CLAIM: &str = "hereabouts.dev/held-by-claim";

/// The keys that only the record of an attachment has.
pub(crate) const OF_ATTACHMENTS: &[&str] = &[
    "network",
    "interface",
    "containerID",
    "node",
    "bootID",
    "part",
    "of",
    "machine",
    "nodeUID",
    "netns",
    "view",
    "podRef",
];

/// One address held by a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimObject {
    /// `hereabouts.dev/v1alpha1`.
    #[serde(default)]
    pub api_version: String,
    /// `IPAllocation`.
    #[serde(default)]
    pub kind: String,
    /// Name, labels, version.
    pub metadata: Metadata,
    /// The record.
    pub spec: Spec,
}

/// The claim that holds the address, and what it was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.claim) ? has(self.pool) != (self.claim.apiGroup == 'k8s.cni.cncf.io' && self.claim.kind == 'IPAMClaim') : !has(self.pool) && has(self.network) && has(self.interface) && has(self.containerID) && has(self.node) && has(self.bootID) && has(self.part) && has(self.of)",
        "message": "expected either claim and pool, or network, interface, containerID, node, bootID, part and of; an IPAMClaim has no pool",
    },
    {
        "rule": "!has(self.claim) || !(has(self.network) || has(self.interface) || has(self.containerID) || has(self.node) || has(self.bootID) || has(self.part) || has(self.of) || has(self.machine) || has(self.nodeUID) || has(self.netns) || has(self.view) || has(self.podRef))",
        "message": "an address of a claim is on no node: no network, interface, containerID, node, bootID, part, of, machine, nodeUID, netns, view, podRef",
    },
    {
        "rule": "has(self.claim) ? has(self.format) && self.format >= 2 : !has(self.format) || self.format != 2",
        "message": "format 2 is the format of claims",
    },
    { "rule": "!has(self.claim) || self.source != 'static'", "message": "the source of a claim's address is dynamic or requested" },
    { "rule": "!has(self.claim) || has(self.claim.__namespace__)", "message": "a claim has a namespace" },
    { "rule": "has(self.claim) == has(oldSelf.claim)", "message": "an address never moves between a claim and an attachment" },
]))]
pub struct Spec {
    /// The format of the record: see `ip_allocation`.
    #[schemars(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u64>,
    /// The address that is held.
    #[schemars(skip)]
    pub address: IpAddr,
    /// The prefix length of the subnet.
    #[schemars(skip)]
    pub prefix: u8,
    /// The gateway of the answer.
    #[schemars(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The name space in which the address is unique.
    #[schemars(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// When the address was given (RFC 3339).
    #[schemars(skip)]
    pub since: String,
    /// Why this address was given.
    #[schemars(skip)]
    pub source: SpecSource,
    /// The claim that holds the address, in place of an attachment.
    #[schemars(extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    pub claim: Reference,
    /// The pool that the claim names. Absent for an IPAMClaim.
    #[schemars(extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "never changes" }]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Reference>,
    /// Keys of a newer version: see `Newer`.
    #[serde(flatten)]
    #[schemars(skip)]
    pub newer: Newer,
}

/// An object of the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Its API group, without the version.
    #[schemars(length(min = 1, max = 253))]
    pub api_group: String,
    /// Its kind.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its namespace. Absent for an object of the whole cluster.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?$")
    )]
    pub uid: String,
    /// Keys of a newer version: see `Newer`.
    #[serde(flatten)]
    #[schemars(skip)]
    pub newer: Newer,
}

impl Reference {
    fn of(object: &ObjectRef) -> Self {
        Self {
            api_group: object.api_group.clone(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
            newer: Newer::new(),
        }
    }

    /// Returns the object, or the name of a key that cannot have its value.
    fn understand(&self) -> Result<ObjectRef, &'static str> {
        let empty = [
            ("apiGroup", self.api_group.is_empty()),
            ("kind", self.kind.is_empty()),
            ("namespace", self.namespace.as_deref() == Some("")),
            ("name", self.name.is_empty()),
            ("uid", !names::is_label_value(&self.uid)),
        ];
        if let Some((key, _)) = empty.iter().find(|(_, is_invalid)| *is_invalid) {
            return Err(*key);
        }
        Ok(ObjectRef {
            api_group: self.api_group.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        })
    }
}

impl ClaimObject {
    /// Returns the object for an address that a claim is about to hold.
    #[must_use]
    pub fn new(held: &ClaimAllocation) -> Self {
        Self {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND.to_owned(),
            metadata: Metadata {
                name: names::object(&held.scope, held.address),
                labels: names::labels_of_claim(held),
                finalizers: match held.claim.is_ipam_claim() {
                    true => vec![IN_USE.to_owned()],
                    false => Vec::new(),
                },
                ..Metadata::default()
            },
            spec: Spec {
                format: Some(FORMAT_OF_CLAIMS),
                address: held.address,
                prefix: held.prefix,
                gateway: held.gateway,
                scope: held.scope.name().map(str::to_owned),
                since: humantime::format_rfc3339_micros(held.since).to_string(),
                source: SpecSource::of(held.source),
                claim: Reference::of(&held.claim),
                pool: held.pool.as_ref().map(Reference::of),
                newer: Newer::new(),
            },
        }
    }

    /// Notes on the IPAllocation of a user by which record the claim holds the address.
    pub(crate) fn note_on(held: &ClaimAllocation, user: &mut Metadata) {
        if let Ok(text) = serde_json::to_string(&Self::new(held).spec) {
            user.annotations.insert(HELD_BY_CLAIM.to_owned(), text);
        }
    }

    /// Returns the object of the claim that the IPAllocation of a user names. `None` if it is not that
    /// of a user, or if somebody has changed the note.
    pub(crate) fn noted_on(user: &IpAllocation) -> Option<Self> {
        let scope = Scope::parse(user.spec.scope.as_deref()?).ok()?;
        let spec: Spec =
            serde_json::from_str(user.metadata.annotations.get(HELD_BY_CLAIM)?).ok()?;
        let held_in = Scope::parse(spec.scope.as_deref().unwrap_or_default()).ok()?;
        let name = names::object(&held_in, spec.address);
        let metadata = Metadata { name, ..Metadata::default() };
        let (api_version, kind) = (format!("{GROUP}/{VERSION}"), KIND.to_owned());
        let held = Self { api_version, kind, metadata, spec }.allocation().ok()?;
        let is_of_user = held.claim.is_ipam_claim()
            && scope.used_claim() == Some(held.claim.uid.as_str())
            && held.address == user.spec.address;
        is_of_user.then(|| Self::new(&held))
    }

    /// Returns the version of the object as the server gave it; `None` for an object that is still
    /// being created.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let uid = self.metadata.uid.clone()?;
        let revision = self.metadata.resource_version.clone()?;
        // Nothing ever writes such an object for another holder, so no key has to be removed.
        Some(Version { uid, revision, newer: Vec::new() })
    }

    /// Returns whether the object's name matches its scope and address.
    #[must_use]
    pub fn is_named_right(&self) -> bool {
        names::is_of(&self.metadata.name, self.spec.scope.as_deref(), self.spec.address)
    }

    /// Returns whether the object's labels match the record.
    #[must_use]
    pub fn is_labelled(&self, held: &ClaimAllocation) -> bool {
        let labels = names::labels_of_claim(held);
        names::LABELS.iter().all(|key| self.metadata.labels.get(*key) == labels.get(*key))
    }

    /// Returns the record in the object.
    ///
    /// # Errors
    /// [`Unreadable::Damaged`] with the reason for content that no answer to a claim can have
    /// written; [`Unreadable::Newer`] for the format of a later version.
    pub fn allocation(&self) -> Result<ClaimAllocation, Unreadable> {
        match self.spec.format {
            Some(found) if FORMAT < found => Err(Unreadable::Newer(found)),
            // An older version would take the object for a record that it can read.
            Some(FORMAT_OF_CLAIMS) => self.understand().map_err(Unreadable::Damaged),
            _ => Err(Unreadable::Damaged("invalid spec.format".to_owned())),
        }
    }

    fn understand(&self) -> Result<ClaimAllocation, String> {
        let invalid = |key: &str| format!("invalid spec.{key}");
        let spec = &self.spec;
        let scope =
            Scope::parse(spec.scope.as_deref().unwrap_or_default()).or(Err(invalid("scope")))?;
        if names::object(&scope, spec.address) != self.metadata.name {
            return Err("its name does not match its scope and address".to_owned());
        }
        if let Some(key) = OF_ATTACHMENTS.iter().find(|key| spec.newer.contains_key(**key)) {
            return Err(format!("invalid spec.{key}: a claim holds the address"));
        }
        let reference = |key: &str, object: &Reference| {
            object.understand().map_err(|below| format!("invalid spec.{key}.{below}"))
        };
        let held = ClaimAllocation {
            scope,
            address: spec.address,
            prefix: spec.prefix,
            gateway: spec.gateway,
            since: humantime::parse_rfc3339(&spec.since).or(Err(invalid("since")))?,
            source: Source::from(spec.source),
            claim: reference("claim", &spec.claim)?,
            pool: spec.pool.as_ref().map(|pool| reference("pool", pool)).transpose()?,
            is_ending: self.metadata.deletion_timestamp.is_some(),
            version: self.version(),
        };
        held.impossible().map_or(Ok(()), |key| Err(invalid(key)))?;
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kube::objects::held::HeldObject;
    use serde_json::json;

    fn object() -> Value {
        json!({
            "apiVersion": "hereabouts.dev/v1alpha1",
            "kind": "IPAllocation",
            "metadata": {"name": "192.0.2.7", "uid": "1", "resourceVersion": "2"},
            "spec": {
                "format": 2, "address": "192.0.2.7", "prefix": 24, "since": "2026-01-01T00:00:00.000001Z",
                "source": "dynamic",
                "claim": {"apiGroup": "g", "kind": "IPAddressClaim", "namespace": "default", "name": "c", "uid": "u-1"},
                "pool": {"apiGroup": "g", "kind": "GlobalInClusterIPPool", "name": "p", "uid": "u-2"},
            },
        })
    }

    fn read(object: &Value) -> Result<ClaimAllocation, Unreadable> {
        match HeldObject::decode(object.to_string().as_bytes()) {
            Ok(HeldObject::Claim(object)) => object.allocation(),
            Ok(HeldObject::Attachment(object)) => Err(object.allocation().unwrap_err()),
            Err(error) => panic!("{error}: {object}"),
        }
    }

    #[test]
    fn an_object_and_its_record_say_the_same() {
        let held = read(&object()).unwrap();
        assert_eq!(held.claim.to_string(), "IPAddressClaim default/c");
        assert_eq!(held.pool.as_ref().unwrap().to_string(), "GlobalInClusterIPPool p");
        let again = json!(ClaimObject::new(&held));
        assert_eq!(again["spec"], object()["spec"]);
        assert_eq!(again["metadata"]["labels"]["hereabouts.dev/claim"], "u-1");
        assert_eq!(
            again["metadata"]["labels"]["hereabouts.dev/pool"],
            names::of_pool(held.pool.as_ref().unwrap())
        );
        let mut unlabelled = ClaimObject::new(&held);
        assert!(unlabelled.is_labelled(&held) && unlabelled.is_named_right());
        unlabelled.metadata.labels.insert(names::NODE.to_owned(), "x".to_owned());
        assert!(!unlabelled.is_labelled(&held), "a node does not list an address of a claim");
    }

    #[test]
    fn keys_of_newer_versions_are_kept() {
        let mut newer = object();
        newer["spec"]["later"] = json!({"a": 1});
        newer["spec"]["claim"]["later"] = json!(2);
        let Ok(HeldObject::Claim(object)) = HeldObject::decode(newer.to_string().as_bytes()) else {
            panic!("not read");
        };
        assert!(object.allocation().is_ok());
        assert_eq!(json!(object)["spec"], newer["spec"]);
    }

    #[test]
    fn the_kind_of_holder_and_the_format_belong_together() {
        let damaged = |reason: &str| Err(Unreadable::Damaged(reason.to_owned()));
        let with = |key: &str, value: Value| {
            let mut object = object();
            let (parent, last) = key.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[last] = value;
            object
        };
        for (key, value, expected) in [
            ("/spec/format", json!(3), Err(Unreadable::Newer(3))),
            ("/spec/format", json!(1), damaged("invalid spec.format")),
            ("/spec/format", Value::Null, damaged("invalid spec.format")),
            ("/spec/source", json!("static"), damaged("invalid spec.source")),
            ("/spec/prefix", json!(33), damaged("invalid spec.prefix")),
            ("/spec/gateway", json!("2001:db8::1"), damaged("invalid spec.gateway")),
            ("/spec/since", json!("today"), damaged("invalid spec.since")),
            ("/spec/claim/namespace", Value::Null, damaged("invalid spec.claim")),
            ("/spec/claim/namespace", json!(""), damaged("invalid spec.claim.namespace")),
            ("/spec/claim/uid", json!("a/b"), damaged("invalid spec.claim.uid")),
            ("/spec/pool/name", json!(""), damaged("invalid spec.pool.name")),
            ("/spec/node", json!("n"), damaged("invalid spec.node: a claim holds the address")),
            (
                "/metadata/name",
                json!("192.0.2.8"),
                damaged("its name does not match its scope and address"),
            ),
        ] {
            assert_eq!(read(&with(key, value.clone())), expected, "{key} {value}");
        }
        let mut both = object();
        for (key, value) in [
            ("network", json!("n")),
            ("interface", json!("net1")),
            ("containerID", json!("c")),
            ("node", json!("n")),
            ("bootID", json!("b")),
            ("part", json!(0)),
            ("of", json!(1)),
        ] {
            both["spec"][key] = value;
        }
        assert!(matches!(read(&both), Err(Unreadable::Damaged(_))));
        both["spec"]["format"] = Value::Null;
        assert_eq!(read(&both), damaged("a claim and an attachment both hold it"));
        both["spec"]["claim"] = Value::Null;
        let spec = both["spec"].as_object_mut().unwrap();
        spec.remove("claim");
        spec["format"] = json!(2);
        assert_eq!(
            read(&both),
            damaged("format 2 is the format of claims, and an attachment holds it")
        );
    }
}
