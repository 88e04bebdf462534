//! The operator's commands; one a file. `output` is the only printer, `locate`
//! finds the store. Exit status: 0 done, 1 failed, 2 usage.

mod census;
mod config_check;
mod confirm;
mod debts;
#[cfg(feature = "kube")]
mod install;
mod list;
mod locate;
mod output;
pub mod release;
pub mod repair;
mod show;
mod store_init;
mod store_probe;
pub mod sweep;
#[cfg(feature = "kube")]
mod take_over;
mod usage;
mod verify;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// How the environment is looked up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

const ABOUT: &str = "Give every pod an address that nobody else in the cluster holds";

const LONG_ABOUT: &str = "\
Give every pod an address that nobody else in the cluster holds

hereabouts is a CNI IPAM plugin. A container runtime starts it with CNI_COMMAND
set; started without, it is the operator's command line: it shows who holds
which address, gives addresses back that nobody needs, and checks configurations
before a pod meets them.";

const EXAMPLES: &str = "\
Examples:
  hereabouts list                          who holds what
  hereabouts list --pod default/web-0      what one pod holds
  hereabouts show 192.168.20.10            all that is recorded of an address
  hereabouts usage net-attach-def.yaml     how full its ranges are
  hereabouts config check nad.yaml         what it would allocate from, and every mistake
  hereabouts release 192.168.20.10         give an address back by hand
  hereabouts release --node worker-7       give back all that a dead node held
  hereabouts sweep --dry-run               what this node holds for sandboxes that are gone
  hereabouts verify                        what is wrong with the store
  hereabouts repair                        mend what is this node's
  hereabouts store test /mnt/nfs           whether machines can share a store there
  hereabouts store init /mnt/nfs/ipam      make one that they share

The store is the one that --data-dir, --kubeconfig, --config or the node's flat
file names, else /var/lib/cni/hereabouts; which one was used is said on stderr.
On a workstation give --kubeconfig: list, show, usage, verify and release --node
need no node; sweep and repair are for the node itself.

Exit status: 0 done, 1 failed, 2 wrong usage.";

/// Where help shows what stands with every command.
const GLOBAL: &str = "Global options";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "hereabouts", version, about = ABOUT, long_about = LONG_ABOUT, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    store: StoreArgs,
    /// Look at files as this mount namespace does; from a pod, /proc/1/ns/mnt is the node's
    /// [default: HEREABOUTS_MOUNT_NAMESPACE]
    #[cfg(feature = "kube")]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    mount_namespace: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// Which store.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// Use the file store in this directory
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Take the store from this flat file or network configuration
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub(crate) config: Option<PathBuf>,
    /// Use the Kubernetes store behind this kubeconfig, from anywhere and for no
    /// node
    #[cfg(feature = "kube")]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL, conflicts_with_all = ["data_dir", "config"])]
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl StoreArgs {
    /// Whether the command itself says which.
    fn is_given(&self) -> bool {
        #[cfg(feature = "kube")]
        if self.kubeconfig.is_some() {
            return true;
        }
        self.data_dir.is_some() || self.config.is_some()
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show who holds which address
    ///
    /// One line for each held address, in order of scope and address; more than
    /// 10000 come as the store names them. Reads without a lock, so it never
    /// delays a pod. -o json is one list, written as it is read.
    List(ListArgs),
    /// Show all that is recorded of an address
    Show(ShowArgs),
    /// Show how full the ranges of a configuration are
    ///
    /// For each range: how many addresses are held, free, and excluded (the
    /// exclude list and gateways).
    Usage(UsageArgs),
    /// Give addresses back by hand
    ///
    /// For addresses whose holder is gone and whose DEL never came. Asks before
    /// it frees; without a terminal it needs --yes. A sandbox that is seen alive
    /// here keeps its address without --force. On a node, a record of another one
    /// is freed only with --node, and only when that node is off or the pod is
    /// gone: a pod that still runs there keeps using the address, and the next
    /// pod gets it too. With --kubeconfig no node is meant, and an address needs
    /// no --node. --node alone frees all that the node holds.
    Release(ReleaseArgs),
    /// Free what this node holds for sandboxes that are gone
    ///
    /// For a timer, where the runtime makes no GC. Frees records whose network
    /// namespace is gone or was made before the last boot, and removes what
    /// calls that were killed or given up left behind. To be run where the
    /// runtime's namespaces are seen: on the node itself, not in a container; what
    /// cannot be seen is kept. Also settles what DELs that failed on this node have
    /// left (see list --debts), in whatever store.
    Sweep(SweepArgs),
    /// Read the whole store and say what is wrong with it
    ///
    /// Changes nothing, and may run beside everything else. Of the Kubernetes
    /// store it compares the objects with what this node remembers of its own;
    /// what other nodes remember only they can tell. Exit status 0 when nothing
    /// is wrong, 1 when something is.
    Verify(VerifyArgs),
    /// Mend what verify finds, as far as it is this node's
    ///
    /// Says what it will do and asks; without a terminal it needs --yes. May run
    /// beside everything else and may be stopped at any time. Frees no address
    /// that a sandbox has. Where the cluster has lost its objects (the resource
    /// was deleted, etcd restored from an older state), it makes those of this
    /// node's living sandboxes again, and names those whose address was given to
    /// another meanwhile.
    Repair(RepairArgs),
    /// Put the plugin on this node
    ///
    /// Copies this executable to the runtime's plugins, and writes the node's
    /// flat file and a kubeconfig for the plugin, each of them whole or not at
    /// all; what is there already stays. In a pod of a ServiceAccount no option
    /// is needed; --data-dir installs for a file store. Over an install for another
    /// store it refuses while pods of this node hold addresses there. The DaemonSet
    /// of deploy/ runs it with --watch.
    #[cfg(feature = "kube")]
    Install(Box<install::InstallArgs>),
    /// Take the plugin off this node
    ///
    /// Removes what install wrote, and only that. Refuses while pods of this
    /// node hold addresses, which nobody could give back, and where nothing names
    /// the store that could tell. The custom resource
    /// and the store stay.
    #[cfg(feature = "kube")]
    Uninstall(Box<install::UninstallArgs>),
    /// Free what a machine that is gone has left under this node's name
    ///
    /// For the DaemonSet: stdin is the token of its own pod.
    #[cfg(feature = "kube")]
    #[command(hide = true)]
    TakeOver,
    /// Work with configurations
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Work with the place of a store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print a completion script for a shell
    ///
    /// For bash: hereabouts completions bash > /etc/bash_completion.d/hereabouts
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show what a configuration would allocate from, and every mistake in it
    ///
    /// FILE is a NetworkAttachmentDefinition (YAML or JSON), a plugin list
    /// (conflist) or a plugin configuration. Mistakes come with their JSON path;
    /// exit status 1 when there is one. What is allowed and hardly meant is a note:
    /// a range of which nothing is left, an exclude outside every range.
    Check {
        /// The configuration; - reads stdin
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Make a store that machines share, and print its id
    ///
    /// Once, on one machine, with the filesystem mounted. The id is random and is
    /// kept in the store; name it as store_id in each node's flat file. A node
    /// that does not see this very store at its data_dir refuses every call: an
    /// empty directory is a filesystem that is not mounted. No ADD makes a store
    /// where a flat file names one or on a filesystem that machines share. Where a
    /// store stands already its id is printed.
    Init(InitArgs),
    /// Forget which store this node has used at a directory
    ///
    /// A node notes the store that it uses, and refuses another one in its place.
    /// Forget it when the node is to use another one there, and no pod of it holds
    /// an address of the old one.
    Forget(PlaceArgs),
    /// Test whether a filesystem is safe for a store
    ///
    /// Run it on two machines at once, with the same directory of a filesystem
    /// that they share (NFS, say). The two find each other in it and test, with
    /// the store's own system calls, that a link gives a name to one of them
    /// only, that the lock keeps the other out, that a rename leaves no gap, and
    /// how long each keeps an old view of what the other has changed. Takes up
    /// to a minute, works in .hereabouts-store-test below the directory, and
    /// removes that again unless it is interrupted; a store in the directory is not
    /// touched.
    ///
    /// Exit status: 0 safe (also where locks keep nobody out: link decides), 1
    /// unsafe, or unproven because no partner came; 2 wrong usage.
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Make a store that was lost again under its id, so that "repair" on each node
    /// brings back what its pods hold
    #[arg(long, value_name = "ID", value_parser = crate::config::parse_store_id)]
    pub(crate) id: Option<String>,
    /// Refuse where this node has used another store: for `install`
    #[arg(long, hide = true)]
    pub(crate) first: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// A directory on the filesystem to test
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// How long to wait for the other machine
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = crate::config::parse_duration)]
    pub(crate) wait: std::time::Duration,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs; stable
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only addresses of this network (the name of its configuration)
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// Only addresses of this node
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Only addresses of this pod
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) pod: Option<String>,
    /// Only what DELs that failed on this node have left; asks no store
    #[arg(long)]
    pub(crate) debts: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The address
    #[arg(value_parser = list::parse_address)]
    pub(crate) address: std::net::IpAddr,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// A NetworkAttachmentDefinition, conflist or plugin configuration; - reads stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// What to release: exactly one of these, or all of --node.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct What {
    /// Free this address
    #[arg(value_parser = list::parse_address)]
    pub(crate) address: Option<std::net::IpAddr>,
    /// Free all addresses of this pod
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) pod: Option<String>,
    /// Free all addresses of this container id
    #[arg(long, value_name = "ID")]
    pub(crate) container: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    pub(crate) what: What,
    /// Only records of this network
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// Act for this node, which must be off
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Free also what a sandbox has that is seen here, alive
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// Only records of this network
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// Only what DELs have left that could not be done, in whatever store
    #[arg(long, conflicts_with = "network")]
    pub(crate) debts: bool,
    /// Show what would be freed, free nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Look at what is of other nodes too, for what any node may mend
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Returns the command line as clap knows it, for completions and for the test that
/// keeps the help of every command.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line.
pub fn run(lookup: Lookup<'_>, args: impl Iterator<Item = OsString>) -> i32 {
    let args: Vec<OsString> = args.collect();
    if args.len() <= 1 {
        output::about(&command().render_help().to_string());
        return 0;
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            output::say(error.render().to_string().trim_end());
            return 2;
        }
        Err(help) => return output::finish(output::print(&help.render().to_string())),
    };
    output::finish(carry_out(lookup, &cli))
}

/// Where commands look at files, unless they are told: in the DaemonSet's pod, whose
/// manifest sets it, the node's own mount namespace.
#[cfg(feature = "kube")]
const MOUNT_NAMESPACE: &str = "HEREABOUTS_MOUNT_NAMESPACE";

fn carry_out(lookup: Lookup<'_>, cli: &Cli) -> anyhow::Result<()> {
    #[cfg(feature = "kube")]
    let set = lookup(MOUNT_NAMESPACE).filter(|path| !path.is_empty()).map(PathBuf::from);
    #[cfg(feature = "kube")]
    match (&cli.command, cli.mount_namespace.as_deref().or(set.as_deref())) {
        // These stay where they are; what they start goes there.
        (Command::Install(args), namespace) => return install::install(lookup, &cli.store, args, namespace),
        (Command::Uninstall(args), namespace) => return install::uninstall(lookup, &cli.store, args, namespace),
        (_, Some(namespace)) => install::enter_mount_namespace(namespace)?,
        (_, None) => {}
    }
    let asks_no_store = matches!(cli.command, Command::Store(_) | Command::Config(_) | Command::Completions { .. });
    if asks_no_store && cli.store.is_given() {
        return Err(Usage("this command asks no store: it takes no --data-dir, --config or --kubeconfig".to_owned()).into());
    }
    match &cli.command {
        Command::List(args) => list::list(lookup, &cli.store, args),
        Command::Show(args) => show::show(lookup, &cli.store, args),
        Command::Usage(args) => usage::usage(lookup, &cli.store, args),
        Command::Release(args) => release::release(lookup, &cli.store, args),
        Command::Sweep(args) => sweep::sweep(lookup, &cli.store, args),
        Command::Verify(args) => verify::verify(lookup, &cli.store, args),
        Command::Repair(args) => repair::repair(lookup, &cli.store, args),
        #[cfg(feature = "kube")]
        Command::TakeOver => take_over::take_over(lookup, &cli.store),
        #[cfg(feature = "kube")]
        Command::Install(_) | Command::Uninstall(_) => Ok(()),
        Command::Store(StoreCommand::Init(args)) => store_init::init(args),
        Command::Store(StoreCommand::Forget(args)) => store_init::forget(args),
        Command::Store(StoreCommand::Test(args)) => store_probe::test(args),
        Command::Config(ConfigCommand::Check { file }) => config_check::check(lookup, file),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command(), "hereabouts", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
    }
}

/// A mistake of whoever typed the command: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);
