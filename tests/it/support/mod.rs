//! What the tests share.

#[cfg(feature = "kube")]
pub(crate) mod api;
pub(crate) mod cached;
pub(crate) mod calls;
pub(crate) mod checker;
#[cfg(feature = "kube")]
pub(crate) mod claims;
#[cfg_attr(not(feature = "kube"), allow(dead_code, reason = "nobody starts one then"))]
pub(crate) mod cluster;
#[cfg(feature = "controller")]
pub(crate) mod controller;
pub(crate) mod disk;
pub(crate) mod fuse;
#[cfg(feature = "kube")]
pub(crate) mod history;
pub(crate) mod in_process;
pub(crate) mod living;
pub(crate) mod lockless;
pub(crate) mod mounted;
#[cfg(feature = "kube")]
pub(crate) mod nodes;
pub(crate) mod overlay;
#[cfg(feature = "kube")]
pub(crate) mod proxy;
pub(crate) mod sandbox;
pub(crate) mod stopped;
#[cfg(feature = "kube")]
pub(crate) mod transcript;
