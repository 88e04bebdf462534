//! `move answer`, for the DaemonSet: notes the state of the move, and answers.

use crate::cli::args::moving::AnswerArgs;
use crate::cli::{StoreArgs, locate, output};
use crate::config::StoreKind;
use crate::environment::Environment;
use crate::plugin::stores;
use crate::retry::Deadline;
use crate::store::node_identity::NodeIdentity;
use std::time::Duration;

/// The time limit of a look.
const LIMIT: Duration = Duration::from_secs(30);

/// What is printed if the next look is to be soon.
pub(in crate::cli) const SOON: &str = "soon";
/// What is printed otherwise.
const LATER: &str = "later";

pub(super) fn answer(environment: &Environment, args: &AnswerArgs) -> anyhow::Result<()> {
    let located = locate::locate(environment, &StoreArgs::default())?;
    let StoreKind::Kubernetes { kubeconfig } = &located.store_settings().kind else {
        return output::print(&format!("{LATER}\n"));
    };
    let host = NodeIdentity {
        node: located.own_node()?,
        machine_id: located.machine.machine_id.clone(),
        boot_id: located.machine.boot_id.clone(),
    };
    let store = stores::kubernetes(located.settings(), kubeconfig, host, &environment.proxy)?;
    let is_urgent = store.answer_move(args.executable.into(), &Deadline::after(LIMIT))?;
    output::print(&format!("{}\n", if is_urgent { SOON } else { LATER }))
}
