//! Moving in from other IPAM plugins while their pods run.

mod host_local;
mod machine;
