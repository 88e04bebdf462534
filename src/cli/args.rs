//! The command line as clap reads it: commands, options and the text of their help. tests/data/help
//! has all of it.
//!
//! - `import`: the commands `hereabouts import`
//! - `leaks`, `list`: the options of `hereabouts leaks` and `hereabouts list`
//! - `pool`: the commands `hereabouts pool`
//! - `store`: the commands `hereabouts store`

pub(super) mod import;
#[cfg(feature = "kube")]
mod leaks;
mod list;
#[cfg(feature = "kube")]
pub(super) mod moving;
pub(super) mod pool;
#[cfg(feature = "kube")]
mod slices;
mod store;
mod usage;

#[cfg(feature = "kube")]
use super::install;
use super::selectors;
use clap::{Args, Parser, Subcommand, ValueEnum};
use import::ImportCommand;
#[cfg(feature = "kube")]
pub(crate) use leaks::LeaksArgs;
pub(crate) use list::ListArgs;
#[cfg(feature = "kube")]
use moving::{ExportCommand, MoveCommand};
pub(super) use pool::PoolCommand;
pub(crate) use pool::{ConvertArgs, ManifestFormat};
#[cfg(feature = "kube")]
pub(crate) use slices::{SlicesCommand, SlicesListArgs, SlicesRemoveArgs};
use std::path::PathBuf;
pub(super) use store::StoreCommand;
pub(crate) use store::{InitArgs, PlaceArgs, TestArgs};
pub(crate) use usage::UsageArgs;

const ABOUT: &str = "Give each pod an IP address that no other pod in the cluster has";

const LONG_ABOUT: &str = "\
Give each pod an IP address that no other pod in the cluster has

hereabouts is a CNI IPAM plugin. A container runtime starts it with CNI_COMMAND
set. Without CNI_COMMAND it is the operator's command line: it shows who holds
which address, releases addresses that nothing uses any more, and checks
configurations before a pod uses them.";

const EXAMPLES: &str = "\
Examples:
  hereabouts list                          list the held addresses
  hereabouts list --pod default/web-0      list the addresses of one pod
  hereabouts show 192.168.20.10            show the record of an address
  hereabouts usage net-attach-def.yaml     show how full its ranges are
  hereabouts explain --network nad.yaml    show what a pod would get, and why
  hereabouts config check nad.yaml         check networks for mistakes
  hereabouts validate dual-stack --kubeconfig admin.conf
                                           check a cluster for IPv4 and IPv6
  hereabouts pool convert pools.yaml       print the pools of other programs as ours
  hereabouts release 192.168.20.10         release one address
  hereabouts release --node worker-7       release all addresses of a dead node
  hereabouts sweep --dry-run               show what sweep would release on this node
  hereabouts leaks --kubeconfig admin.conf
                                           show addresses whose holders are probably gone
  hereabouts verify                        check the store for problems
  hereabouts repair                        repair the problems of this node
  hereabouts store test /mnt/nfs           test whether machines can share a store there
  hereabouts store init /mnt/nfs/ipam      create a store that machines share

The store is the one that --data-dir, --kubeconfig, --config or the node's flat
file names, otherwise /var/lib/cni/hereabouts. Each command prints to stderr
which store it uses. On a workstation, pass --kubeconfig to list, show, usage,
leaks, verify and release. Run sweep and repair on the node itself.

Exit status: 0 success, 1 failure, 2 wrong usage.";

/// The help heading of the options that select the store.
const STORE: &str = "Store options";

/// The help heading of the options that every command accepts.
#[cfg(feature = "kube")]
const GLOBAL: &str = "Global options";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "hereabouts", version, about = ABOUT, long_about = LONG_ABOUT, after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct Cli {
    /// Access files in this mount namespace; in a pod, that of the node is /proc/1/ns/mnt
    /// [env: HEREABOUTS_MOUNT_NAMESPACE]
    #[cfg(feature = "kube")]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub(super) mount_namespace: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The options that select the store.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StoreArgs {
    /// Use the file store in this directory
    #[arg(long, value_name = "DIR", help_heading = STORE)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Use the store that this flat file or network configuration names
    #[arg(long, value_name = "FILE", help_heading = STORE)]
    pub(crate) config: Option<PathBuf>,
    /// Use the Kubernetes store that this kubeconfig points to, without acting as a node
    #[cfg(feature = "kube")]
    #[arg(long, value_name = "FILE", help_heading = STORE, conflicts_with_all = ["data_dir", "config"])]
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl StoreArgs {
    /// Returns whether the command itself names the store.
    pub(super) fn is_given(&self) -> bool {
        #[cfg(feature = "kube")]
        if self.kubeconfig.is_some() {
            return true;
        }
        self.data_dir.is_some() || self.config.is_some()
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List who holds which address
    ///
    /// Prints one line per held address, sorted by scope and address. More than
    /// 10000 addresses are printed unsorted. Reads without a lock, so it never
    /// delays a pod. -o json prints one list, written while the store is read.
    /// Addresses in slices of other nodes are shown as these have published them:
    /// AS OF says how long ago.
    List(ListArgs),
    /// Show the record of an address
    ///
    /// Also shows which pools of a file store contain the address. With --network or
    /// --pool it also shows for whom the address is reserved, and whether it is
    /// draining: its holder keeps it, and nobody gets it afterwards.
    Show(ShowArgs),
    /// Show how full the ranges of a configuration or of pools are
    ///
    /// Counts the held, free and excluded addresses of each range. Gateways count
    /// as excluded.
    Usage(UsageArgs),
    /// Show addresses whose holders are probably gone
    ///
    /// Compares the addresses of the Kubernetes store with the pods and nodes of the
    /// cluster, and changes nothing. It shows an address if its pod or node is gone,
    /// has been replaced or has ended, if the node has booted since, or if the pod runs
    /// with other addresses.
    ///
    /// This is evidence and not proof: a pod that was deleted by force runs on if its
    /// node is cut off. sweep, on the node itself, checks the sandboxes and releases
    /// what is really free.
    ///
    /// The kubeconfig's user needs the right to list pods and nodes. A node's own
    /// kubeconfig does not have it.
    ///
    /// Exit status: 0 no candidates, 1 candidates or failure, 2 wrong usage.
    #[cfg(feature = "kube")]
    Leaks(LeaksArgs),
    /// Explain which address a pod would get now, and why
    ///
    /// Carries out an ADD that changes nothing, on this node and its store: the flat
    /// file, the pools that are passed over, reservations, requests, what is excluded,
    /// and the result. Other hosts are not asked whether they use an address (probe).
    ///
    /// Exit status: 0 an ADD would succeed, 1 it would fail, with the error that it
    /// would answer, 2 wrong usage.
    Explain(ExplainArgs),
    /// Release addresses by hand
    ///
    /// Use it if the holder of an address is gone and no DEL has released the address.
    /// It asks before it releases anything. Without a terminal, pass --yes. Without
    /// --force, it keeps the address of a sandbox that is running here.
    ///
    /// To release an address that another node holds, also pass --node. Do this only
    /// if that node is off or the pod is gone. A pod that still runs there keeps using
    /// the address, and the next pod gets the same address. With --kubeconfig, ADDRESS
    /// needs no --node. --node alone releases everything that the node holds.
    Release(ReleaseArgs),
    /// Release this node's addresses whose sandboxes are gone
    ///
    /// Run it from a timer if the container runtime does not call GC. It releases each
    /// address whose network namespace is gone or is from before the last boot. It
    /// removes what killed calls left behind. It settles this node's debts in the store
    /// (see list --debts).
    ///
    /// Run it on the node itself, not in a container: it must see the namespaces of the
    /// runtime. It keeps every address whose sandbox it cannot check.
    Sweep(SweepArgs),
    /// Check the whole store for problems
    ///
    /// It changes nothing and can run at any time. With the Kubernetes store, it also
    /// compares the objects with the local state of this node. It cannot see the local
    /// state of other nodes.
    ///
    /// Exit status: 0 no problems, 1 problems or failure, 2 wrong usage.
    Verify(VerifyArgs),
    /// Repair what verify reports about this node
    ///
    /// It prints what it will do, and asks. Without a terminal, pass --yes. It can run
    /// at any time, and can be interrupted. It never releases an address that a sandbox
    /// uses.
    ///
    /// A cluster loses objects if the resource is deleted, or if etcd is restored from
    /// an older state. Then repair recreates the objects of this node's running
    /// sandboxes. If another pod has got one of the addresses since, repair names both
    /// pods.
    Repair(RepairArgs),
    /// Install the plugin on this node
    ///
    /// Copies this executable to the runtime's plugin directory, and writes the node's
    /// flat file and a kubeconfig for the plugin. Each file is written whole or not at
    /// all; files that are already correct are kept. In a pod with a ServiceAccount, no
    /// option is needed. --data-dir installs for a file store. The DaemonSet of deploy/
    /// runs it with --watch.
    ///
    /// Refuses to switch to another store while pods on this node hold addresses in the
    /// current one.
    #[cfg(feature = "kube")]
    Install(Box<install::InstallArgs>),
    /// Uninstall the plugin from this node
    ///
    /// Removes the files that install wrote, and nothing else. The custom resource and
    /// the store stay.
    ///
    /// Refuses if pods on this node hold addresses, because nothing could release them
    /// afterwards. Also refuses if no store is configured, because it cannot check this.
    #[cfg(feature = "kube")]
    Uninstall(Box<install::UninstallArgs>),
    /// Release what a machine that is gone has left under this node's name
    ///
    /// For the DaemonSet. Reads the token of its own pod from stdin.
    #[cfg(feature = "kube")]
    #[command(hide = true)]
    TakeOver,
    /// Check configurations
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check clusters
    #[cfg(feature = "kube")]
    #[command(subcommand)]
    Validate(ValidateCommand),
    /// Convert the pools of other programs
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Take over the addresses of another IPAM plugin while its pods run
    #[command(subcommand)]
    Import(ImportCommand),
    /// Give the addresses that are held to another IPAM plugin
    #[cfg(feature = "kube")]
    #[command(subcommand)]
    Export(ExportCommand),
    /// Move a cluster from Whereabouts to hereabouts and back, node by node
    #[cfg(feature = "kube")]
    #[command(subcommand)]
    Move(MoveCommand),
    /// Show and remove slices of pools
    #[cfg(feature = "kube")]
    #[command(subcommand)]
    Slices(SlicesCommand),
    /// Create and test file stores
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
pub(super) enum ConfigCommand {
    /// Show what networks and pools would give, and every mistake in them
    ///
    /// Reads NetworkAttachmentDefinitions, pools, the networks of the SR-IOV, NVIDIA
    /// and OpenShift network operators, OpenShift Templates, lists of these,
    /// multus.conf, plugin lists (conflist), plugin configurations, ipam objects and
    /// flat files, in YAML or JSON. Of a directory it reads the files *.yaml, *.yml,
    /// *.json, *.conf and *.conflist. With --kubeconfig it reads all IPPools and
    /// NetworkAttachmentDefinitions of a cluster, counts the pods that use them, and
    /// compares the pools with the podCIDRs of nodes.
    ///
    /// A network that names a pool is checked as the pool serves it. The pool is taken
    /// from the files of the check, otherwise from the cluster, or from where the
    /// plugin on this machine would find it.
    ///
    /// Each mistake is reported with its JSON path. Settings that are valid but
    /// suspicious are notes, and so is what the main plugin beside ipam will do with
    /// the answer. A network whose ipam is for another plugin is not checked.
    ///
    /// Exit status: 0 no mistakes, 1 mistakes, 2 wrong usage or a file that cannot be
    /// read.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Files and directories with networks and pools; - reads stdin
    #[cfg_attr(feature = "kube", arg(value_name = "FILE", required_unless_present = "kubeconfig"))]
    #[cfg_attr(not(feature = "kube"), arg(value_name = "FILE", required = true))]
    pub(crate) files: Vec<PathBuf>,
    /// Also check all pools and networks of the cluster that this kubeconfig points to
    #[cfg(feature = "kube")]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[cfg(feature = "kube")]
#[derive(Debug, Subcommand)]
pub(super) enum ValidateCommand {
    /// Check that a cluster gives IPv4 and IPv6 addresses everywhere
    ///
    /// Reads the cluster and changes nothing. Each node must have one pod CIDR and an
    /// internal address of each family, and each running pod an address of each family.
    /// So must each interface in a secondary network of hereabouts that wants both. A
    /// service that prefers or requires dual stack must have two cluster IPs.
    ///
    /// The kubeconfig's user needs the right to list nodes, pods, services and
    /// network-attachment-definitions in all namespaces.
    ///
    /// Exit status: 0 no gaps, 1 gaps or failure, 2 wrong usage.
    DualStack(DualStackArgs),
}

#[cfg(feature = "kube")]
#[derive(Debug, Args)]
pub(crate) struct DualStackArgs {
    /// Check the cluster that this kubeconfig points to
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: PathBuf,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs; the keys are stable
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The address, without a prefix length
    #[arg(value_parser = selectors::parse_address)]
    pub(crate) address: std::net::IpAddr,
    /// Also show for whom the networks of this file reserve the address, and whether they still
    /// give it; - reads stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) network: Option<PathBuf>,
    /// Also show for whom this pool reserves the address, and whether it still gives it; may be
    /// repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) pool: Vec<String>,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The NetworkAttachmentDefinition, conflist or plugin configuration; - reads stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) network: PathBuf,
    /// Explain for this pod
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) pod: Option<String>,
    /// Explain for this interface of the pod
    #[arg(long, value_name = "NAME", default_value = "net1")]
    pub(crate) interface: String,
    /// Explain for a pod that requests this address
    #[arg(long, value_name = "ADDRESS", value_parser = selectors::parse_address)]
    pub(crate) ip: Option<std::net::IpAddr>,
    /// Explain for another node, with the flat file of this one
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Explain for a node with these labels
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',', value_parser = selectors::parse_label)]
    pub(crate) node_labels: Option<Vec<(String, String)>>,
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// What to release: exactly one of these, or all of --node.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct What {
    /// The address, without a prefix length
    #[arg(value_parser = selectors::parse_address)]
    pub(crate) address: Option<std::net::IpAddr>,
    /// Release all addresses of this pod
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) pod: Option<String>,
    /// Release all addresses of this container
    #[arg(long, value_name = "ID")]
    pub(crate) container: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    pub(crate) what: What,
    /// Release only addresses of this network
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// Act for this node, which must be off
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Release even the address of a sandbox that is running here
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// Sweep only addresses of this network
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// Settle only the debts of this node (see list --debts), in every store
    #[arg(long, conflicts_with = "network")]
    pub(crate) debts: bool,
    /// Show what would be released, and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Choose the output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Also check the records of other nodes, and repair what any node may repair
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
