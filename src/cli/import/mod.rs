//! `import`: records the addresses that another IPAM plugin has given, while its pods run.
//!
//! - `host_local`: the files of host-local on this node
//! - `whereabouts`: the objects of Whereabouts in a cluster
//! - `whereabouts_here`: what Whereabouts has given to the sandboxes of this node
//! - `ended`: frees what pods of this node had that ended under Whereabouts
//! - `cached`: the results that runtimes keep
//! - `new_networks`: the networks as hereabouts will serve them
//! - `sandboxes`: records what this node's sandboxes hold
//! - `hold`: records what one of their interfaces holds
//! - `report`: what is printed

mod cached;
#[cfg(feature = "kube")]
pub mod ended;
pub mod hold;
mod host_local;
mod new_networks;
pub(super) mod report;
mod sandboxes;
#[cfg(feature = "kube")]
pub(super) mod whereabouts;
#[cfg(feature = "kube")]
mod whereabouts_here;

use super::args::import::ImportCommand;
use crate::environment::Environment;

pub(super) fn import(environment: &Environment, command: &ImportCommand) -> anyhow::Result<()> {
    match command {
        ImportCommand::HostLocal(args) => host_local::import(environment, args),
        #[cfg(feature = "kube")]
        ImportCommand::Whereabouts(args) if args.store.kubeconfig.is_none() => {
            whereabouts_here::import(environment, args)
        }
        #[cfg(feature = "kube")]
        ImportCommand::Whereabouts(args) => whereabouts::import(environment, args),
    }
}
