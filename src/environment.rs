//! The environment variables that hereabouts reads. `main` reads them once, at the
//! start; nothing else reads the process environment.

use std::ffi::OsString;

/// All variables that are read. An empty value counts as missing.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// What a container runtime sets for a call.
    pub call: CallVariables,
    /// What names the node and its flat file.
    pub node: NodeVariables,
    /// Whether the API server is behind a proxy.
    pub proxy: ProxyVariables,
    /// What `install` and `uninstall` read.
    pub install: InstallVariables,
}

/// The parameters of a call (CNI spec 1.1.0, "Parameters").
#[derive(Debug, Clone, Default)]
pub struct CallVariables {
    /// `CNI_COMMAND`; without it the process is the command line.
    pub command: Option<OsString>,
    /// `CNI_CONTAINERID`
    pub container_id: Option<OsString>,
    /// `CNI_NETNS`
    pub netns: Option<OsString>,
    /// `CNI_NETNS_OVERRIDE`
    pub netns_override: Option<OsString>,
    /// `CNI_IFNAME`
    pub ifname: Option<OsString>,
    /// `CNI_ARGS`
    pub args: Option<OsString>,
    /// `CNI_PATH`
    pub path: Option<OsString>,
}

/// What names the node and its flat file.
#[derive(Debug, Clone, Default)]
pub struct NodeVariables {
    /// `HEREABOUTS_CONFIG`: the path of the flat file.
    pub config: Option<OsString>,
    /// `HEREABOUTS_MOUNT_NAMESPACE`: in which mount namespace commands work.
    pub mount_namespace: Option<OsString>,
    /// `NODENAME`: the node's name where no configuration gives it.
    pub name: Option<OsString>,
}

/// A proxy in front of the API server, as Go's programs read it.
#[derive(Debug, Clone, Default)]
pub struct ProxyVariables {
    /// `HTTPS_PROXY`, otherwise `https_proxy`: which of them, and its value.
    pub https: Option<(&'static str, OsString)>,
    /// `NO_PROXY`, otherwise `no_proxy`.
    pub exceptions: Option<OsString>,
}

/// What `install` reads; the names are those of Whereabouts' installer.
#[derive(Debug, Clone, Default)]
pub struct InstallVariables {
    /// `CNI_BIN_DIR`
    pub bin_dir: Option<OsString>,
    /// `CNI_CONF_DIR`
    pub conf_dir: Option<OsString>,
    /// `KUBE_CA_FILE`
    pub ca_file: Option<OsString>,
    /// `KUBECONFIG_MODE`
    pub kubeconfig_mode: Option<OsString>,
    /// `SKIP_TLS_VERIFY`
    pub skip_tls_verify: Option<OsString>,
    /// `KUBERNETES_SERVICE_HOST`
    pub service_host: Option<OsString>,
    /// `KUBERNETES_SERVICE_PORT`
    pub service_port: Option<OsString>,
}

/// Returns a variable as text. Bytes that are not UTF-8 are replaced.
#[must_use]
pub fn text(variable: &Option<OsString>) -> Option<String> {
    variable.as_ref().map(|value| value.to_string_lossy().into_owned())
}

impl Environment {
    /// Reads each variable once. `lookup` returns a variable's value.
    #[must_use]
    pub fn read(lookup: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        Self {
            call: CallVariables {
                command: set("CNI_COMMAND"),
                container_id: set("CNI_CONTAINERID"),
                netns: set("CNI_NETNS"),
                netns_override: set("CNI_NETNS_OVERRIDE"),
                ifname: set("CNI_IFNAME"),
                args: set("CNI_ARGS"),
                path: set("CNI_PATH"),
            },
            node: NodeVariables {
                config: set("HEREABOUTS_CONFIG"),
                mount_namespace: set("HEREABOUTS_MOUNT_NAMESPACE"),
                name: set("NODENAME"),
            },
            proxy: ProxyVariables {
                https: ["HTTPS_PROXY", "https_proxy"]
                    .into_iter()
                    .find_map(|name| Some((name, set(name)?))),
                exceptions: set("NO_PROXY").or_else(|| set("no_proxy")),
            },
            install: InstallVariables {
                bin_dir: set("CNI_BIN_DIR"),
                conf_dir: set("CNI_CONF_DIR"),
                ca_file: set("KUBE_CA_FILE"),
                kubeconfig_mode: set("KUBECONFIG_MODE"),
                skip_tls_verify: set("SKIP_TLS_VERIFY"),
                service_host: set("KUBERNETES_SERVICE_HOST"),
                service_port: set("KUBERNETES_SERVICE_PORT"),
            },
        }
    }
}
