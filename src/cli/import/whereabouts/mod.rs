//! `import whereabouts` for a whole cluster, from anywhere: decides for each address that Whereabouts
//! has given, and records those of living pods.
//!
//! - `objects`: the lists, and the shapes that only an import needs
//! - `networks`: the networks, and which addresses they can give
//! - `facts`: what was read
//! - `cluster`: reads the lists
//! - `reading`: takes their objects apart
//! - `index`: who has each address
//! - `decide`: what happens with each address
//! - `found`: what a record needs
//! - `survey`: all of this, for `import` and `move`
//! - `write`: writes the records

mod cluster;
mod decide;
mod facts;
mod found;
mod index;
mod networks;
mod objects;
mod reading;
mod survey;
mod write;

use super::report::Row;
use crate::cli::args::import::ImportArgs;
use crate::cli::cluster_lists::Cluster;
use crate::cli::{HintedError, locate, output};
use crate::config::StoreKind;
use crate::environment::Environment;
pub(in crate::cli) use survey::{Survey, SurveyedEntry, SurveyedNetwork};

pub(super) fn import(environment: &Environment, args: &ImportArgs) -> anyhow::Result<()> {
    let located = locate::locate(environment, &args.store)?;
    let StoreKind::Kubernetes { kubeconfig } = &located.store_settings().kind else {
        return Err(HintedError::new(
            format!(
                "Whereabouts keeps its addresses in the Kubernetes API, and not in {}",
                located.name
            ),
            "pass --kubeconfig FILE",
        )
        .into());
    };
    let mut survey = Survey::read(&Cluster::open(kubeconfig, environment)?)?;
    output::say(&survey.in_words());
    if !args.dry_run {
        survey.write(environment, &located, kubeconfig)?;
    }
    let rows: Vec<Row> = survey.into_rows();
    super::report::print(&rows, args.output, args.dry_run)
}
