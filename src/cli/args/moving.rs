//! `hereabouts move` as clap reads it.

use super::Format;
use crate::cli::selectors;
use crate::store::kube::objects::move_object::Executable;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum MoveCommand {
    /// Show how far a move is, and what the next step lacks
    ///
    /// It changes nothing. WHEREABOUTS IS says whose the executable of that name is on a
    /// node, ANSWERED which generation of the state the node goes by. NOT COMPLETED are
    /// imported records of which the node has not found the sandbox yet.
    ///
    /// Exit status: 0 done, 1 failure, 2 wrong usage.
    Status(StatusArgs),
    /// Let nodes of Whereabouts and of hereabouts give addresses out of one range
    ///
    /// Creates the IPPools that Whereabouts has not created yet, records what Whereabouts
    /// has given, and creates the Move. From then on, each node of hereabouts writes what
    /// Whereabouts must see. It waits until the nodes have seen the Move that hereabouts
    /// serves already. It refuses while something of Whereabouts runs that would remove
    /// what they write, and for networks that cannot be moved in this way.
    ///
    /// Exit status: 0 done, 1 something is missing, or failure, 2 wrong usage.
    Start(StartArgs),
    /// End a move when every node is one of hereabouts
    ///
    /// Takes the rights of Whereabouts away and keeps them in the Move, waits two minutes
    /// for calls that have begun, records what is not recorded yet, and then lets the
    /// nodes write nothing for Whereabouts any more. It may be killed and repeated.
    ///
    /// Exit status: 0 done, 1 something is missing, or failure, 2 wrong usage.
    Finish(FinishArgs),
    /// Give nodes, and in the end the cluster, to Whereabouts again
    ///
    /// After "move finish", it lets all nodes write for Whereabouts again, waits until they
    /// do, makes Whereabouts' pools equal to what is held, and gives Whereabouts its rights
    /// again. Then, with --node, it gives the addresses of a node to Whereabouts, when
    /// hereabouts does not serve it any more. When no node is left, it ends the move. It
    /// may be killed and repeated.
    ///
    /// Exit status: 0 done, 1 something is missing, or failure, 2 wrong usage.
    Back(BackArgs),
    /// Note the state of the move on this node, and answer
    ///
    /// For the DaemonSet, which runs it every ten seconds during a move. Prints whether to
    /// run it again soon.
    #[command(hide = true)]
    Answer(AnswerArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Use the cluster that this kubeconfig points to
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: PathBuf,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct StepArgs {
    /// Show what would be done and what is missing, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Use the cluster that this kubeconfig points to
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    #[command(flatten)]
    pub(crate) step: StepArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FinishArgs {
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    #[command(flatten)]
    pub(crate) step: StepArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Count a call of a plugin as ended after this time
    ///
    /// Two minutes are the limit of Whereabouts for an ADD. Set less only if you know that no
    /// call takes as long.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = selectors::parse_duration)]
    pub(crate) wait: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct BackArgs {
    /// Give the addresses of this node to Whereabouts
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    #[command(flatten)]
    pub(crate) step: StepArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExportCommand {
    /// Make the pools and reservations of Whereabouts equal to what is held
    ///
    /// Adds an entry for each held address that a pool of Whereabouts has, gives the entries
    /// of imported pods their present form, and removes entries of hereabouts without a
    /// record. It lists all others, and does not touch them. During a move it writes what
    /// nodes of hereabouts write; otherwise what Whereabouts itself would have written.
    ///
    /// Exit status: 0 done, 1 something is left, or failure, 2 wrong usage.
    Whereabouts(StepArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    /// Whose the executable whereabouts of this node is
    #[arg(long, value_name = "WHOSE")]
    pub(crate) executable: Whose,
}

/// Whose an executable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Whose {
    /// There is none
    None,
    /// It is hereabouts
    Hereabouts,
    /// It is another program
    Other,
}

impl From<Whose> for Executable {
    fn from(whose: Whose) -> Self {
        match whose {
            Whose::None => Self::None,
            Whose::Hereabouts => Self::Hereabouts,
            Whose::Other => Self::Other,
        }
    }
}
