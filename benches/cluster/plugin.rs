//! The two plugins, called as a runtime calls them on a node.

use crate::process::{Verb, address, finish};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One of the two plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Ours,
    Theirs,
}

impl Which {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "hereabouts",
            Self::Theirs => "Whereabouts",
        }
    }
}

/// The range of addresses and the name of the network. Each case has its own, so that entries that
/// one case leaves do not disturb the next.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) network: String,
    pub(crate) subnet: String,
    /// The first and the last address. Without them, the range is the whole subnet.
    pub(crate) bounds: Option<(String, String)>,
    /// The pool that the network names instead of a range.
    pub(crate) pool: Option<String>,
}

impl Range {
    /// Returns a range for more entries than a /16 has.
    pub(crate) fn huge() -> Self {
        Self {
            network: "huge".to_owned(),
            subnet: "10.0.0.0/8".to_owned(),
            bounds: None,
            pool: None,
        }
    }

    /// Returns a range of which only a small part is used.
    pub(crate) fn large(second: u8) -> Self {
        Self {
            network: format!("large-{second}"),
            subnet: format!("10.{second}.0.0/16"),
            bounds: None,
            pool: None,
        }
    }

    /// Returns the range of a pool.
    pub(crate) fn of_pool(name: &str, subnet: &str) -> Self {
        Self {
            network: name.to_owned(),
            subnet: subnet.to_owned(),
            bounds: None,
            pool: Some(name.to_owned()),
        }
    }

    /// Returns a range of exactly `addresses` addresses, at most 1022.
    pub(crate) fn exactly(second: u8, addresses: usize) -> Self {
        let last = format!("10.{second}.{}.{}", addresses / 256, addresses % 256);
        let bounds = Some((format!("10.{second}.0.1"), last));
        Self {
            network: format!("exact-{second}"),
            subnet: format!("10.{second}.0.0/22"),
            bounds,
            pool: None,
        }
    }
}

/// The result of a call.
pub(crate) struct Called {
    pub(crate) took: Duration,
    /// The address of an ADD, or an empty text for a DEL.
    pub(crate) outcome: Result<String>,
}

/// A plugin on one node, for one range.
pub(crate) struct Node {
    pub(crate) which: Which,
    pub(crate) program: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    pub(crate) input: String,
}

impl Node {
    /// Returns hereabouts with its node state below `directory`.
    ///
    /// # Errors
    /// Fails if the flat file cannot be written.
    pub(crate) fn hereabouts(
        program: &Path,
        kubeconfig: &Path,
        directory: &Path,
        name: &str,
        range: &Range,
    ) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let flat = directory.join(format!("{name}.conf"));
        let content = serde_json::json!({
            "datastore": "kubernetes",
            "kubernetes": { "kubeconfig": kubeconfig },
            "data_dir": directory.join(name),
            "node_name": name,
        });
        std::fs::write(&flat, content.to_string())
            .with_context(|| format!("cannot write {}", flat.display()))?;
        let environment = vec![("HEREABOUTS_CONFIG", flat.into())];
        Ok(Self {
            which: Which::Ours,
            program: program.to_owned(),
            environment,
            input: input("hereabouts", None, range),
        })
    }

    /// Returns hereabouts with the file store in `directory`.
    ///
    /// # Errors
    /// Fails if the store or the flat file cannot be written.
    pub(crate) fn files(program: &Path, directory: &Path, range: &Range) -> Result<Self> {
        let environment = vec![("HEREABOUTS_CONFIG", file_store(directory)?.into())];
        Ok(Self {
            which: Which::Ours,
            program: program.to_owned(),
            environment,
            input: input("hereabouts", None, range),
        })
    }

    /// Returns Whereabouts. It makes no difference between nodes.
    ///
    /// # Errors
    /// Fails if the flat file cannot be written.
    pub(crate) fn whereabouts(
        program: &Path,
        kubeconfig: &Path,
        directory: &Path,
        range: &Range,
    ) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let flat = directory.join("whereabouts.conf");
        let content = serde_json::json!({ "datastore": "kubernetes", "kubernetes": { "kubeconfig": kubeconfig } });
        std::fs::write(&flat, content.to_string())
            .with_context(|| format!("cannot write {}", flat.display()))?;
        let input = input("whereabouts", Some(&flat), range);
        Ok(Self {
            which: Which::Theirs,
            program: program.to_owned(),
            environment: Vec::new(),
            input,
        })
    }

    /// Returns the command of one call. Every container belongs to a different pod.
    pub(crate) fn command(&self, verb: Verb, container: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.env("CNI_COMMAND", verb.name()).env("CNI_CONTAINERID", container);
        command.env("CNI_NETNS", "/var/run/netns/none").env("CNI_IFNAME", "net1");
        command.env("CNI_PATH", self.program.parent().unwrap_or(Path::new("/")));
        command.env(
            "CNI_ARGS",
            format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={}", pod(container)),
        );
        command
    }

    /// Makes one call.
    ///
    /// # Errors
    /// Fails if the process cannot be started.
    pub(crate) fn call(&self, verb: Verb, container: &str) -> Result<Called> {
        let ended = finish(&mut self.command(verb, container), self.input.as_bytes())?;
        let said = || String::from_utf8_lossy(&ended.stdout).trim().to_owned();
        let outcome = match (ended.status, verb) {
            (0, Verb::Add) => address(&ended.stdout, 1),
            (0, Verb::Del) => Ok(String::new()),
            (status, _) => Err(anyhow::anyhow!(
                "{} {} ended with wait status {status:#x}: {}",
                self.which.name(),
                verb.name(),
                said()
            )),
        };
        Ok(Called { took: ended.took, outcome })
    }

    /// Returns a command of the operator's command line on this node.
    pub(crate) fn operator(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.args(words);
        command
    }

    /// Makes one call that must succeed.
    ///
    /// # Errors
    /// Fails if the call fails.
    pub(crate) fn must(&self, verb: Verb, container: &str) -> Result<(Duration, String)> {
        let called = self.call(verb, container)?;
        Ok((called.took, called.outcome?))
    }
}

/// Makes a file store, and returns the path of the flat file that names it. An ADD does not create a
/// store that the flat file names.
///
/// # Errors
/// Fails if a file cannot be written.
pub(crate) fn file_store(directory: &Path) -> Result<PathBuf> {
    let data = directory.join("data");
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    std::fs::write(
        data.join("format"),
        "{\"format\":1,\"id\":\"0123456789abcdef0123456789abcdef\"}\n",
    )?;
    let flat = directory.join("hereabouts.conf");
    let content =
        serde_json::json!({ "datastore": "file", "data_dir": data, "node_name": "bench" });
    std::fs::write(&flat, content.to_string())?;
    Ok(flat)
}

/// Returns a container ID like a runtime's: 64 hexadecimal digits.
pub(crate) fn container(index: usize) -> String {
    format!("{:064x}", 0xc0de_0000_0000_u64 + index as u64)
}

/// Returns the name of the pod of a container.
pub(crate) fn pod(container: &str) -> String {
    format!("pod-{}", container.trim_start_matches('0'))
}

fn input(plugin: &str, flat: Option<&Path>, range: &Range) -> String {
    let mut ipam = match &range.pool {
        Some(pool) => serde_json::json!({ "type": plugin, "pool": pool }),
        None => serde_json::json!({ "type": plugin, "range": range.subnet }),
    };
    let mut set = |key: &str, value: &str| {
        if let Some(ipam) = ipam.as_object_mut() {
            ipam.insert(key.to_owned(), value.into());
        }
    };
    if let Some((first, last)) = &range.bounds {
        set("range_start", first);
        set("range_end", last);
    }
    if let Some(flat) = flat {
        set("configuration_path", &flat.to_string_lossy());
    }
    serde_json::json!({ "cniVersion": "1.0.0", "name": range.network, "type": "macvlan", "ipam": ipam }).to_string()
}
