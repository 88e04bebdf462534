//! Addresses that claims hold, as a controller writes them.

use hereabouts::ipam::{ClaimAllocation, ObjectRef, Scope, Source};
use hereabouts::store::kube::objects::claim_object::ClaimObject;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// Returns an address that the claim `default/machine-0` got from the pool `pool-a`.
pub(crate) fn held(scope: &str, address: &str) -> ClaimAllocation {
    let object = |kind: &str, namespace: Option<&str>, name: &str, uid: &str| ObjectRef {
        api_group: "ipam.cluster.x-k8s.io".to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        uid: format!("5b20f6a0-0000-4000-8000-00000000000{uid}"),
    };
    ClaimAllocation {
        scope: Scope::parse(scope).unwrap(),
        address: address.parse().unwrap(),
        prefix: 24,
        gateway: None,
        since: SystemTime::UNIX_EPOCH + Duration::from_micros(1_767_225_600_000_001),
        source: Source::Dynamic,
        claim: object("IPAddressClaim", Some("default"), "machine-0", "1"),
        pool: Some(object("GlobalInClusterIPPool", None, "pool-a", "2")),
        is_ending: false,
        version: None,
    }
}

/// Returns the object of such an address.
pub(crate) fn object(held: &ClaimAllocation) -> Value {
    json!(ClaimObject::new(held))
}
