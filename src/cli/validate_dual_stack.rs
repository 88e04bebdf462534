//! `validate dual-stack`: checks that the nodes, pods, services and secondary networks of a cluster
//! have addresses of IPv4 and of IPv6. It reads only the API.
//!
//! - `nodes`: blocks for pods, and internal addresses
//! - `pods`: addresses of running pods, and of their interfaces in secondary networks
//! - `networks`: the secondary networks that want both families
//! - `services`: cluster IPs
//! - `row`: what was found, and the verdict
//! - `printer`: prints the rows

mod networks;
mod nodes;
mod pods;
mod printer;
mod row;
mod services;

use super::cluster_lists::Cluster;
use super::{DualStackArgs, output};
use crate::environment::Environment;
use crate::plugin::machine;
use anyhow::bail;
use printer::Printer;

pub(super) fn validate(environment: &Environment, args: &DualStackArgs) -> anyhow::Result<()> {
    let flat = machine::flat_file(&environment.node, None)?;
    let cluster = Cluster::open(&args.kubeconfig, environment)?;
    let mut printer = Printer::new(args.output);
    let networks = networks::read(&cluster, flat.as_ref(), &mut printer)?;
    let nodes = nodes::check(&cluster, &mut printer)?;
    let pods = pods::check(&cluster, &nodes, &networks, &mut printer)?;
    let services = services::check(&cluster, &mut printer)?;
    let summary = format!(
        "checked {}, {} and {}",
        output::count(nodes.len(), "node"),
        output::count(pods, "running pod"),
        output::count(services, "service")
    );
    match printer.end(&summary)? {
        0 => Ok(()),
        gaps => bail!("{} found", output::count(gaps, "gap")),
    }
}
