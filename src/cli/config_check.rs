//! `config check`: prints what networks would allocate from, every mistake with its JSON path, and
//! what is valid but suspicious.
//!
//! - `cluster`: the pods of a cluster that use each network, and the podCIDRs of its nodes
//! - `network`: checks one network
//! - `pool`: checks one pool
//! - `known_pools`: finds the pools that networks name
//! - `case`: a valid network, for the notes
//! - `flat_file`: checks a flat file
//! - `notes`: what is valid but suspicious in a network alone
//! - `main_plugins`: what the main plugin will do with the answer
//! - `together`: what concerns several networks and pools
//! - `party`: the networks and pools that a note is about
//! - `reserved`: reservations that another network or pool does not know
//! - `overlaps`: addresses that a pool has, and another pool, a network or nodes, too
//! - `outline`: what a network allocates from, as text and as JSON
//! - `report`: what was found about one network or pool, as text and as JSON

mod case;
#[cfg(feature = "kube")]
mod cluster;
mod flat_file;
mod known_pools;
mod main_plugins;
mod network;
mod notes;
mod outline;
mod overlaps;
mod party;
mod pool;
mod report;
mod reserved;
mod together;

#[cfg(feature = "kube")]
use super::cluster_lists::{Cluster, DEFINITIONS, POOLS};
use super::input_files::{self, Input, Stdin};
use super::{CheckArgs, Format, UsageError, output};
#[cfg(feature = "kube")]
use crate::config::Pool;
use crate::config::{ConfigError, Content, FlatFile, networks, no_network};
use crate::environment::Environment;
use crate::plugin::machine;
use anyhow::bail;
#[cfg(feature = "kube")]
use known_pools::KnownPool;
use known_pools::KnownPools;
use report::Report;
use serde_json::Value;
use together::Together;

/// Checks everything that the arguments name.
pub(super) fn check(environment: &Environment, args: &CheckArgs) -> anyhow::Result<()> {
    let flat = machine::flat_file(&environment.node, None)?;
    let mut checker = Checker {
        environment,
        flat: flat.as_ref(),
        printer: Printer { format: args.output, values: Vec::new(), failed: None },
        known: KnownPools::default(),
        mistakes: 0,
        together: Together::default(),
    };
    let stdin = Stdin::default();
    // A network may come before the pool that it names.
    for path in &args.files {
        input_files::each(path, &stdin, &mut |input| {
            if let Input::File { name, bytes, .. } = input {
                checker.known.add(&name, &bytes);
            }
        });
    }
    #[cfg(feature = "kube")]
    let cluster = match &args.kubeconfig {
        Some(kubeconfig) => {
            let cluster = Cluster::open(kubeconfig, environment)?;
            let pools = checker.pools_of(&cluster)?;
            Some((cluster, pools))
        }
        None => None,
    };
    let mut unreadable = Vec::new();
    let mut without_network = 0_usize;
    for path in &args.files {
        input_files::each(path, &stdin, &mut |input| match input {
            Input::File { name, last_name, bytes, is_named } => {
                match checker.file(&name, &last_name, &bytes) {
                    Err(error) => checker.mistake(&name, error),
                    Ok(0) if is_named => checker.mistake(&name, no_network()),
                    // A directory also has other files.
                    Ok(0) => without_network += 1,
                    Ok(_) => {}
                }
            }
            Input::Unreadable(reason) => unreadable.push(reason),
        });
    }
    #[cfg(feature = "kube")]
    if let Some((cluster, pools)) = &cluster {
        checker.cluster(cluster, pools)?;
    }
    let mistakes = checker.end()?;
    if 0 < without_network {
        output::say(&format!("{} without a network", output::count(without_network, "file")));
    }
    match unreadable.as_slice() {
        [] => {}
        [reason] => return Err(UsageError::new(reason.clone()).into()),
        reasons => return Err(UsageError::new(reasons.join("; ")).into()),
    }
    if 0 < mistakes {
        bail!("{} found", output::count(mistakes, "mistake"));
    }
    Ok(())
}

/// The check of one file after the other.
struct Checker<'c> {
    environment: &'c Environment,
    /// The flat file of this machine.
    flat: Option<&'c FlatFile>,
    printer: Printer,
    /// The pools in the files of the check, and in the cluster.
    known: KnownPools,
    mistakes: usize,
    together: Together,
}

impl Checker<'_> {
    /// Prints what concerns several networks.
    fn end(self) -> anyhow::Result<usize> {
        self.printer.end(&self.together)?;
        Ok(self.mistakes)
    }

    /// Checks everything in a file.
    fn file(&mut self, name: &str, last_name: &str, bytes: &[u8]) -> Result<usize, ConfigError> {
        networks(bytes, last_name, &mut |found| {
            let report = Report::new(name, found.place, found.origin);
            self.found(report, bytes, found.content);
        })
    }

    /// Checks all pools of a cluster, and keeps them for the networks that name them. Returns the
    /// reports. The files of the check come first, and their networks, too, may name these pools.
    #[cfg(feature = "kube")]
    fn pools_of(&mut self, cluster: &Cluster) -> anyhow::Result<Vec<Report>> {
        let (mut pools, mut reports) = (Vec::new(), Vec::new());
        cluster.list_if_known(&POOLS, &mut |item| {
            let found = networks(item.as_bytes(), "", &mut |found| {
                if let Content::Pool(document) = &found.content
                    && let Ok(pool) = Pool::parse(document, "")
                {
                    pools.push(KnownPool { file: cluster.server.clone(), pool });
                }
                let mut report = Report::new(&cluster.server, found.place, found.origin);
                self.examine(&mut report, item.as_bytes(), found.content);
                reports.push(report);
            });
            reports.extend(found.err().map(|error| Report::of_mistake(&cluster.server, error)));
            Ok(())
        })?;
        self.known.add_cluster(pools);
        Ok(reports)
    }

    /// Checks all networks of a cluster, after its pools, of which these are the reports.
    #[cfg(feature = "kube")]
    fn cluster(&mut self, cluster: &Cluster, pools: &[Report]) -> anyhow::Result<()> {
        let users = cluster::Users::count(cluster)?;
        let of_network = |report: &mut Report| {
            report.used_by = report.object().map(|object| users.of(&object));
        };
        pools.iter().for_each(|report| self.add(report));
        cluster.list(&DEFINITIONS, &mut |item| {
            self.object(&cluster.server, item, &of_network);
            Ok(())
        })?;
        if self.together.has_pools() {
            match cluster::pod_ranges(cluster) {
                Ok(nodes) => self.together.add_nodes(nodes),
                // Everything else is checked without the right to list nodes.
                Err(error) => output::say(&format!("podCIDRs were not compared: {error}")),
            }
        }
        Ok(())
    }

    /// Checks an object of a cluster.
    #[cfg(feature = "kube")]
    fn object(&mut self, server: &str, item: &str, complete: &dyn Fn(&mut Report)) {
        let found = networks(item.as_bytes(), "", &mut |found| {
            let mut report = Report::new(server, found.place, found.origin);
            complete(&mut report);
            self.found(report, item.as_bytes(), found.content);
        });
        if let Err(error) = found {
            self.mistake(server, error);
        }
    }

    fn found(&mut self, mut report: Report, bytes: &[u8], content: Content) {
        self.examine(&mut report, bytes, content);
        self.add(&report);
    }

    fn examine(&self, report: &mut Report, bytes: &[u8], content: Content) {
        match content {
            Content::Plugin { configuration, chain } => {
                let (flat, known) = (self.flat, &self.known);
                let environment = self.environment;
                network::examine(report, &configuration, &chain, flat, known, environment);
            }
            Content::Pool(document) => pool::examine(report, &document, &self.known),
            Content::FlatFile(content) => {
                flat_file::examine(report, bytes, &content, self.environment);
            }
            Content::Elsewhere(why) => report.not_ours = Some(why.to_owned()),
            Content::Mistake(error) => report.mistakes.add(error),
        }
    }

    /// Counts a report and prints it.
    fn add(&mut self, report: &Report) {
        self.mistakes += report.count();
        self.together.add(report);
        self.printer.print(report);
    }

    /// Reports a mistake that is not inside a network.
    fn mistake(&mut self, file: &str, error: ConfigError) {
        self.add(&Report::of_mistake(file, error));
    }
}

/// Prints reports: for people one by one, for programs as one document.
struct Printer {
    format: Format,
    /// The reports for programs.
    values: Vec<Value>,
    /// The first failure to print. Nothing is printed after it.
    failed: Option<anyhow::Error>,
}

impl Printer {
    fn print(&mut self, report: &Report) {
        match self.format {
            Format::Json => self.values.push(report.json()),
            Format::Table if self.failed.is_none() => {
                self.failed = output::print(&report.text()).err();
            }
            Format::Table => {}
        }
    }

    fn end(mut self, together: &Together) -> anyhow::Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.format == Format::Table {
            return output::print(&together.text());
        }
        together.complete(&mut self.values);
        output::print_json(&Value::Array(self.values))
    }
}
