//! The shapes of Whereabouts' objects. Unknown fields are passed over: the fork telekom/whereabouts
//! adds a status, and fields of its own.
//!
//! Each field may be absent, because an object that lacks one must not stop the reading of all
//! others. An entry with another shape is shown as one that cannot be read.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

/// Which object it is, and which version of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectName {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

/// An IPPool: what Whereabouts has given of a range.
#[derive(Deserialize)]
pub(crate) struct PoolObject<'o> {
    pub(crate) metadata: ObjectName,
    #[serde(borrow, default)]
    pub(crate) spec: PoolSpec<'o>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct PoolSpec<'o> {
    pub(crate) range: Option<String>,
    /// By the offset of the address in the range, as decimal text.
    #[serde(borrow)]
    pub(crate) allocations: Option<HashMap<Cow<'o, str>, &'o RawValue>>,
}

/// The holder of an address.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct AllocationObject<'o> {
    /// The container ID of the sandbox.
    #[serde(borrow)]
    pub(crate) id: Option<Cow<'o, str>>,
    /// `namespace/name`.
    #[serde(borrow)]
    pub(crate) podref: Option<Cow<'o, str>>,
    /// Versions before v0.8 do not write it.
    #[serde(borrow)]
    pub(crate) ifname: Option<Cow<'o, str>>,
}

/// An OverlappingRangeIPReservation. Its name is the address.
#[derive(Deserialize)]
pub(crate) struct ReservationObject {
    pub(crate) metadata: ObjectName,
    #[serde(default)]
    pub(crate) spec: ReservationSpec,
}

/// The holder of a reserved address.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ReservationSpec {
    pub(crate) podref: Option<String>,
    /// Whereabouts does not write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) containerid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ifname: Option<String>,
}

/// An entry as it is written: the holder of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The container ID of the sandbox, or whatever the writer knows it by.
    #[serde(default)]
    pub(crate) id: String,
    /// `namespace/name` of the pod.
    #[serde(default)]
    pub(crate) podref: String,
    /// Empty in what versions before v0.8 wrote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) ifname: String,
}
