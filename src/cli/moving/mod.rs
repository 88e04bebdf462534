//! `move`: moves a cluster from Whereabouts to hereabouts and back, node by node, while both give
//! addresses.
//!
//! - `answer`: what the DaemonSet of each node does
//! - `status`, `start`, `finish`, `back`: the operator's commands
//! - `export`: makes the pools of Whereabouts equal to what is held
//! - `answers`: waits for the nodes; `pools`: the pools that Whereabouts has not created yet
//! - `slices`: what Whereabouts cannot be shown
//! - `view`: what the cluster says about the move; `missing`: what the next step lacks
//! - `state`: changes of the Move; `bindings`: the rights of Whereabouts; `api`: single requests

pub(super) mod answer;
mod answers;
mod api;
mod back;
mod bindings;
mod export;
mod finish;
mod missing;
mod pools;
mod slices;
mod start;
mod state;
mod status;
mod view;

use super::args::moving::{ExportCommand, MoveCommand};
use super::cluster_lists::Cluster;
use super::locate::{self, Located};
use super::{StoreArgs, output};
use crate::environment::Environment;
use crate::plugin::machine::Machine;
use crate::plugin::stores;
use crate::retry::{Deadline, pause};
use crate::store::kube::KubeStore;
use crate::store::kube::objects::move_object::MoveObject;
use crate::store::node_identity::NodeIdentity;
use api::Api;
use std::path::Path;
use std::time::{Duration, SystemTime};

pub(super) fn moving(environment: &Environment, command: &MoveCommand) -> anyhow::Result<()> {
    match command {
        MoveCommand::Answer(args) => answer::answer(environment, args),
        MoveCommand::Status(args) => {
            status::status(&Operator::new(environment, &args.kubeconfig)?, args.output)
        }
        MoveCommand::Start(args) => {
            let operator = Operator::new(environment, &args.step.kubeconfig)?;
            start::start(&operator, args.wait.wait, args.step.dry_run)
        }
        MoveCommand::Finish(args) => {
            let operator = Operator::new(environment, &args.step.kubeconfig)?;
            finish::finish(&operator, args.wait.wait, args.step.dry_run)
        }
        MoveCommand::Back(args) => {
            let operator = Operator::new(environment, &args.step.kubeconfig)?;
            back::back(&operator, args.node.as_deref(), args.wait.wait, args.step.dry_run)
        }
    }
}

/// Carries out `export whereabouts`.
pub(super) fn export(environment: &Environment, command: &ExportCommand) -> anyhow::Result<()> {
    let ExportCommand::Whereabouts(args) = command;
    let operator = Operator::new(environment, &args.kubeconfig)?;
    export::command(&operator, args.dry_run)
}

/// An operator with a kubeconfig.
struct Operator<'o> {
    environment: &'o Environment,
    kubeconfig: &'o Path,
    located: Located<'o>,
    api: Api,
}

impl<'o> Operator<'o> {
    fn new(environment: &'o Environment, kubeconfig: &'o Path) -> anyhow::Result<Self> {
        let store = StoreArgs { kubeconfig: Some(kubeconfig.to_owned()), ..StoreArgs::default() };
        let located = locate::locate(environment, &store)?;
        let api = Api::open(kubeconfig, environment)?;
        Ok(Self { environment, kubeconfig, located, api })
    }

    /// Returns the store, which acts for no node.
    fn store(&self) -> anyhow::Result<KubeStore> {
        let host =
            NodeIdentity { node: locate::no_node()?, machine_id: None, boot_id: String::new() };
        let settings = self.located.settings();
        let store = stores::kubernetes(settings, self.kubeconfig, host, &self.environment.proxy)?;
        Ok(store.for_dead_node())
    }

    /// Returns a connection for lists, whose time begins now.
    fn lists(&self) -> anyhow::Result<Cluster> {
        Cluster::open(self.kubeconfig, self.environment)
    }
}

/// Returns the time now: a command waits for minutes.
fn now() -> anyhow::Result<SystemTime> {
    Ok(Machine::read()?.now)
}

/// A wait that is counted from the begin of a state, so that a command that was killed goes on with
/// it.
struct Wait {
    what: &'static str,
    time: Duration,
}

/// How often the rest of a wait is said.
const SAID: Duration = Duration::from_secs(20);

impl Wait {
    fn since(&self, object: &MoveObject) -> anyhow::Result<()> {
        loop {
            // A time in the future is that of another clock: all of it is waited for.
            let passed = state::age(object, now()?).unwrap_or_default();
            let left = self.time.saturating_sub(passed);
            if left.is_zero() {
                return Ok(());
            }
            let left = Duration::from_secs(left.as_secs().saturating_add(1));
            output::say(&format!("waiting {} for {}", output::duration(left), self.what));
            let turn = left.min(SAID);
            pause(&Deadline::after(turn), turn);
        }
    }
}
