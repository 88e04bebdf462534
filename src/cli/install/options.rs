//! Reads the options of install and uninstall: flags, then the variables of Whereabouts' installer,
//! then defaults.

use super::super::{UsageError, selectors};
use super::flat_file::{Settings, read_flat};
use super::plan::{Credentials, NAMES, Plan};
use super::probe_status;
use crate::config::ConfigError;
use crate::environment::{Environment, text};
use crate::ipam::NodeName;
use crate::plugin::machine::read_small;
use crate::plugin::stores;
use anyhow::Context;
use clap::Args;
use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory in which a pod finds its ServiceAccount's token and the API server's CA.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Install for the file store in this directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Let the plugin use this kubeconfig; do not write one
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
    /// Also install under the name whereabouts, for networks of that type
    ///
    /// With --watch, also records what Whereabouts has given to running pods (see import).
    #[arg(long)]
    pub(super) whereabouts: bool,
    /// Add these keys to the flat file (see docs/config.md)
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
    /// Keep running: restore changed files, renew token and CA, and sweep at intervals
    #[arg(long, conflicts_with = "check")]
    pub(super) watch: bool,
    /// With --watch, sweep at this interval; 0s means never
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = selectors::parse_duration)]
    pub(super) sweep_every: Duration,
    /// Check that the plugin is installed and reaches its store; change nothing
    #[arg(long)]
    pub(super) check: bool,
    /// Switch stores even if pods on this node hold addresses in the current one
    ///
    /// Those pods cannot be deleted until the current store is configured again.
    #[arg(long, conflicts_with_all = ["watch", "check"])]
    pub(super) force: bool,
    /// With --check, do not contact the store
    #[arg(long, requires = "check")]
    pub(super) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Keep running: wait until this node holds no addresses, then remove the installed files
    ///
    /// Renews the plugin's token while it waits, and keeps running afterwards.
    #[arg(long, conflicts_with = "check")]
    pub(super) watch: bool,
    /// With --watch, wait until the node has held no addresses for this long
    ///
    /// The kubelet repeats the DELs of a sandbox that is gone, up to two minutes later.
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = selectors::parse_duration)]
    pub(super) idle: Duration,
    /// Check that nothing is installed; change nothing
    #[arg(long)]
    pub(super) check: bool,
    /// Uninstall without checking whether this node holds addresses
    ///
    /// Pods that hold addresses cannot be deleted until the plugin is installed again.
    #[arg(long, conflicts_with = "watch")]
    pub(super) force: bool,
}

impl InstallArgs {
    /// Returns whether this is a check by a person who does not state what should be installed.
    const fn asks_for_what_is_there(&self) -> bool {
        let NodeArgs { node_name, token_file, ca_file, .. } = &self.node;
        self.check
            && self.settings.is_none()
            && node_name.is_none()
            && token_file.is_none()
            && ca_file.is_none()
    }
}

/// The node, and how it reaches the API server.
#[derive(Debug, Args)]
struct NodeArgs {
    /// Set the runtime's plugin directory [env: CNI_BIN_DIR] [default: /opt/cni/bin]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Set the directory of hereabouts.d, which has the flat file and the kubeconfig [env:
    /// CNI_CONF_DIR] [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIR")]
    conf_dir: Option<PathBuf>,
    /// Set the name of this node in the cluster [env: NODENAME] [default: the Node that the token
    /// names; for a file store, the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Set the URL at which this node reaches the API server [default in a pod: the Service
    /// kubernetes]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Read the plugin's token from this file [default: the token of the pod's ServiceAccount]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Read the CA of the API server from this file [env: KUBE_CA_FILE] [default: the CA of the
    /// pod]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Plan {
    /// Returns the plan for install: what to write.
    ///
    /// # Errors
    /// A flag or a variable cannot be used, or is missing.
    pub(super) fn to_install(
        environment: &Environment,
        args: &InstallArgs,
    ) -> anyhow::Result<Self> {
        let mut plan =
            Self::new(environment, &args.node, if args.whereabouts { NAMES } else { &NAMES[..1] })?;
        plan.running = if args.check { probe_status::ask(&plan.directory)? } else { None };
        if plan.running.is_some() {
            return Ok(plan);
        }
        let settings = Settings::parse(args.settings.as_deref(), args.data_dir.as_deref())
            .map_err(|error| usage(&error))?;
        let kubeconfig = match (&args.kubeconfig, settings.wants_kubernetes()) {
            (Some(_), _)
                if args.node.server.is_some()
                    || args.node.token_file.is_some()
                    || args.node.ca_file.is_some() =>
            {
                return Err(usage(
                    "--kubeconfig cannot be combined with --server, --token-file or --ca-file",
                ));
            }
            (Some(_), false) => return Err(usage("--kubeconfig: a file store does not need one")),
            (None, false) => None,
            (Some(given), true) => {
                let path = std::path::absolute(given)?;
                // A pod may not see the host's file. There the probe checks it.
                if !args.watch && !args.check {
                    stores::server(&path, &environment.proxy).context("--kubeconfig")?;
                }
                Some(path)
            }
            (None, true) => match server(environment, &args.node)? {
                Some(server) => {
                    plan.credentials = Some(credentials(environment, &args.node, server)?);
                    Some(plan.kubeconfig_path())
                }
                None if args.asks_for_what_is_there() => return Ok(plan),
                None => {
                    return Err(UsageError::hinted(
                        "no API server is configured",
                        "outside a pod, pass --kubeconfig, or --server, --token-file and --ca-file",
                    )
                    .into());
                }
            },
        };
        if settings.wants_kubernetes() && given_name(environment, &args.node).is_none() {
            plan.node = plan.node_of_token(environment, kubeconfig.as_deref())?;
        }
        plan.flat = settings.flat_file(&plan.node, kubeconfig.as_deref());
        // A mistake must not reach the file, because it would affect every pod of the node.
        plan.check_flat_file()
            .map_err(|error| UsageError::with_hint(format!("--settings: {error}"), error.hint))?;
        Ok(plan)
    }

    /// Returns the Node that the token is bound to. The host name may differ from it. The token
    /// must not change records of a node with another name, and the host name may change while pods
    /// live.
    fn node_of_token(
        &self,
        environment: &Environment,
        kubeconfig: Option<&Path>,
    ) -> anyhow::Result<NodeName> {
        let named = match (&self.credentials, kubeconfig) {
            (Some(made), _) => read_small(&made.token_file)
                .ok()
                .and_then(|token| stores::node_of_token(String::from_utf8_lossy(&token).trim())),
            (None, Some(given)) => stores::node_of_kubeconfig(given, &environment.proxy),
            (None, None) => None,
        };
        let Some((name, _)) = named else {
            let message = format!(
                "the Kubernetes store needs the name of this machine's Node object, found only the host name {}",
                self.node
            );
            return Err(UsageError::hinted(
                message,
                "pass it with --node-name: the token does not name the Node",
            )
            .into());
        };
        NodeName::parse(&name).map_err(|_| {
            UsageError::hinted(
                format!("expected the name of a Node in the token, found {name:?}"),
                "pass --node-name",
            )
            .into()
        })
    }

    /// Reads the flat file as a verb will read it.
    fn check_flat_file(&self) -> Result<(), ConfigError> {
        read_flat(&self.flat_path(), self.flat.as_bytes()).map(drop)
    }

    /// Returns the plan for uninstall: what to remove, and how to keep it working until then.
    ///
    /// # Errors
    /// As [`Self::to_install`].
    pub(super) fn to_uninstall(
        environment: &Environment,
        args: &UninstallArgs,
    ) -> anyhow::Result<Self> {
        let mut plan = Self::new(environment, &args.node, NAMES)?;
        if args.watch {
            plan.credentials = server(environment, &args.node)?
                .map(|server| credentials(environment, &args.node, server))
                .transpose()?;
        }
        Ok(plan)
    }

    fn new(
        environment: &Environment,
        args: &NodeArgs,
        names: &'static [&'static str],
    ) -> anyhow::Result<Self> {
        let path = |flag: &Option<PathBuf>, variable: &Option<OsString>, default: &str| {
            std::path::absolute(
                flag.clone()
                    .or_else(|| variable.clone().map(PathBuf::from))
                    .unwrap_or_else(|| default.into()),
            )
        };
        Ok(Self {
            bin_dir: path(&args.bin_dir, &environment.install.bin_dir, "/opt/cni/bin")?,
            names,
            directory: path(&args.conf_dir, &environment.install.conf_dir, "/etc/cni/net.d")?
                .join("hereabouts.d"),
            node: node_name(environment, args)?,
            flat: String::new(),
            credentials: None,
            running: None,
        })
    }
}

fn usage(text: &str) -> anyhow::Error {
    UsageError::new(text).into()
}

fn given_name(environment: &Environment, args: &NodeArgs) -> Option<String> {
    args.node_name.clone().or_else(|| text(&environment.node.name))
}

fn node_name(environment: &Environment, args: &NodeArgs) -> anyhow::Result<NodeName> {
    let name = given_name(environment, args).unwrap_or_else(|| {
        nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    });
    if name == "localhost" || name.starts_with("localhost.") {
        return Err(UsageError::hinted(
            format!("expected a node name that no other machine has, found {name:?}"),
            "pass --node-name",
        )
        .into());
    }
    NodeName::parse(&name).map_err(|_| {
        UsageError::hinted(format!("expected a node name, found {name:?}"), "pass --node-name")
            .into()
    })
}

/// Returns the URL of the API server that a flag or the pod's environment names.
fn server(environment: &Environment, args: &NodeArgs) -> anyhow::Result<Option<String>> {
    if let Some(server) = &args.server {
        return match server.strip_prefix("https://") {
            Some(rest) if !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic()) => {
                Ok(Some(server.clone()))
            }
            _ => Err(usage(&format!(
                "--server: expected a URL that begins with https://, found {server:?}"
            ))),
        };
    }
    let Some(host) = text(&environment.install.service_host) else {
        return Ok(None);
    };
    let port = text(&environment.install.service_port).unwrap_or_else(|| "443".to_owned());
    if port.parse::<u16>().is_err()
        || !host.chars().all(|c| c.is_ascii_alphanumeric() || ".:-".contains(c))
    {
        return Err(usage(&format!(
            "KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT: expected an address and a port, found {host:?} and {port:?}"
        )));
    }
    Ok(Some(if host.parse::<Ipv6Addr>().is_ok() {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    }))
}

fn credentials(
    environment: &Environment,
    args: &NodeArgs,
    server: String,
) -> anyhow::Result<Credentials> {
    if text(&environment.install.skip_tls_verify).is_some_and(|value| value != "false") {
        return Err(UsageError::hinted(
            "SKIP_TLS_VERIFY is not supported, because any server could then get the token",
            "pass the CA with --ca-file",
        )
        .into());
    }
    let mode = match text(&environment.install.kubeconfig_mode) {
        None => 0o600,
        Some(text) => match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o777 => mode,
            _ => {
                return Err(usage(&format!(
                    "KUBECONFIG_MODE: expected permissions such as 600, found {text:?}"
                )));
            }
        },
    };
    let of_pod = |name: &str| Path::new(SERVICE_ACCOUNT).join(name);
    Ok(Credentials {
        server,
        token_file: args.token_file.clone().unwrap_or_else(|| of_pod("token")),
        ca_file: args
            .ca_file
            .clone()
            .or_else(|| text(&environment.install.ca_file).map(PathBuf::from))
            .unwrap_or_else(|| of_pod("ca.crt")),
        mode,
        by_hand: args.server.is_some(),
    })
}
