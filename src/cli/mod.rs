//! Runs the operator's commands, one per file. `args` has their options and help, `output` prints,
//! `locate` finds the store. Exit status: 0 done, 1 failed, 2 wrong usage.

#[cfg(feature = "kube")]
mod answered;
mod args;
mod census;
#[cfg(feature = "kube")]
mod cluster_lists;
mod config_check;
mod confirm;
mod debts;
mod explain;
pub mod import;
mod input_files;
#[cfg(feature = "kube")]
mod install;
#[cfg(feature = "kube")]
mod leaks;
mod list;
mod locate;
#[cfg(feature = "kube")]
mod moving;
mod networks;
mod output;
#[cfg(feature = "kube")]
mod pool_adopt;
mod pool_convert;
mod pools;
mod published;
mod records;
pub mod release;
pub mod repair;
mod reserved_for;
mod selectors;
mod set_aside;
mod show;
#[cfg(feature = "kube")]
mod slices;
mod store_init;
mod store_probe;
pub mod sweep;
#[cfg(feature = "kube")]
mod take_over;
mod usage;
#[cfg(feature = "kube")]
mod validate_dual_stack;
mod verify;

use crate::environment::Environment;
#[cfg(feature = "kube")]
use args::ValidateCommand;
#[cfg(feature = "kube")]
pub(crate) use args::pool::AdoptArgs;
pub(crate) use args::{
    CheckArgs, ConvertArgs, ExplainArgs, Format, InitArgs, ListArgs, PlaceArgs, ReleaseArgs,
    RepairArgs, ShowArgs, StoreArgs, SweepArgs, TestArgs, UsageArgs, VerifyArgs, What,
};
use args::{Cli, Command, ConfigCommand, ManifestFormat, PoolCommand, StoreCommand};
#[cfg(feature = "kube")]
pub(crate) use args::{DualStackArgs, LeaksArgs, SlicesCommand, SlicesListArgs, SlicesRemoveArgs};
use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;
#[cfg(feature = "kube")]
use std::path::PathBuf;

/// Returns the command line as clap knows it, for completions and for the test that keeps the help
/// of every command.
#[must_use]
pub fn command() -> clap::Command {
    let command = Cli::command();
    // These commands refuse the option with a longer explanation than clap gives: they must run on
    // the node.
    #[cfg(feature = "kube")]
    let command = ["sweep", "repair"].into_iter().fold(command, |command, name| {
        command
            .mut_subcommand(name, |inner| inner.mut_arg("kubeconfig", |option| option.hide(true)))
    });
    command
}

/// Runs the command line and returns the exit status.
pub fn run(environment: &Environment, args: impl Iterator<Item = OsString>) -> i32 {
    let args: Vec<OsString> = args.collect();
    if args.len() <= 1 {
        output::about(&command().render_help().to_string());
        return 0;
    }
    let parsed =
        command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            output::say(error.render().to_string().trim_end());
            return 2;
        }
        Err(help) => return output::finish(output::print(&help.render().to_string())),
    };
    output::finish(carry_out(environment, &cli))
}

fn carry_out(environment: &Environment, cli: &Cli) -> anyhow::Result<()> {
    #[cfg(feature = "kube")]
    // In the DaemonSet's pod, this is the node's own mount namespace. Its manifest sets the
    // variable.
    let set = environment.node.mount_namespace.as_ref().map(PathBuf::from);
    #[cfg(feature = "kube")]
    match (&cli.command, cli.mount_namespace.as_deref().or(set.as_deref())) {
        // These commands stay in their mount namespace. The processes that they start enter the
        // other one.
        (Command::Install(args), namespace) => {
            return install::install(environment, args, namespace);
        }
        (Command::Uninstall(args), namespace) => {
            return install::uninstall(environment, args, namespace);
        }
        (_, Some(namespace)) => install::enter_mount_namespace(namespace)?,
        (_, None) => {}
    }
    match &cli.command {
        Command::List(args) => list::list(environment, &args.store, args),
        #[cfg(feature = "kube")]
        Command::Leaks(args) => leaks::leaks(environment, args),
        Command::Show(args) => show::show(environment, &args.store, args),
        Command::Explain(args) => explain::explain(environment, args),
        Command::Usage(args) => usage::usage(environment, &args.store, args),
        Command::Release(args) => release::release(environment, &args.store, args),
        Command::Sweep(args) => sweep::sweep(environment, &args.store, args),
        Command::Verify(args) => verify::verify(environment, &args.store, args),
        Command::Repair(args) => repair::repair(environment, &args.store, args),
        #[cfg(feature = "kube")]
        Command::TakeOver => take_over::take_over(environment),
        #[cfg(feature = "kube")]
        Command::Install(_) | Command::Uninstall(_) => Ok(()),
        Command::Store(StoreCommand::Init(args)) => store_init::init(args),
        Command::Store(StoreCommand::Forget(args)) => store_init::forget(args),
        Command::Store(StoreCommand::Test(args)) => store_probe::test(args),
        Command::Config(ConfigCommand::Check(args)) => config_check::check(environment, args),
        #[cfg(feature = "kube")]
        Command::Validate(ValidateCommand::DualStack(args)) => {
            validate_dual_stack::validate(environment, args)
        }
        Command::Import(command) => import::import(environment, command),
        #[cfg(feature = "kube")]
        Command::Move(command) => moving::moving(environment, command),
        #[cfg(feature = "kube")]
        Command::Export(command) => moving::export(environment, command),
        #[cfg(feature = "kube")]
        Command::Slices(command) => slices::slices(environment, command),
        Command::Pool(PoolCommand::Convert(args)) => pool_convert::convert(args),
        #[cfg(feature = "kube")]
        Command::Pool(PoolCommand::Adopt(args)) => pool_adopt::adopt(environment, args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command(), "hereabouts", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Wrong usage of the command line: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct UsageError {
    message: String,
    hint: Option<String>,
}

impl UsageError {
    /// Returns an error without a hint.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Returns an error with a hint.
    pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }

    /// Returns an error with an optional hint.
    #[cfg(feature = "kube")]
    pub(crate) fn with_hint(message: impl Into<String>, hint: Option<String>) -> Self {
        Self { message: message.into(), hint }
    }
}

/// A failure of a command, with a hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct HintedError {
    message: String,
    hint: String,
}

impl HintedError {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}
