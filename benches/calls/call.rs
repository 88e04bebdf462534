//! The plugins with a store in files, and the calls of them.

use crate::process::{Ended, Verb, address, run};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An IPAM plugin with one store.
pub(crate) struct Plugin {
    pub(crate) program: PathBuf,
    /// The environment variables in addition to `CNI_*`.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// The network configuration.
    pub(crate) input: String,
    /// The number of addresses that an ADD must return.
    addresses: usize,
}

impl Plugin {
    /// Returns hereabouts with its store in `store/data`.
    ///
    /// # Errors
    /// Fails if the flat file cannot be written.
    pub(crate) fn hereabouts(program: &Path, store: &Path) -> Result<Self> {
        Self::hereabouts_of(program, store, &[crate::RANGE])
    }

    /// Returns hereabouts with one address from each of these ranges.
    ///
    /// # Errors
    /// Fails if the flat file cannot be written.
    pub(crate) fn hereabouts_of(
        program: &Path,
        store: &Path,
        ranges: &[impl AsRef<str>],
    ) -> Result<Self> {
        let data = store.join("data");
        let flat = store.join("hereabouts.conf");
        let content =
            serde_json::json!({ "datastore": "file", "data_dir": data, "node_name": crate::NODE });
        // An ADD does not create a store that the flat file names.
        std::fs::create_dir_all(&data)?;
        std::fs::write(
            data.join("format"),
            "{\"format\":1,\"id\":\"0123456789abcdef0123456789abcdef\"}\n",
        )?;
        std::fs::write(&flat, content.to_string())
            .with_context(|| format!("cannot write {}", flat.display()))?;
        let ipam = match ranges {
            [range] => serde_json::json!({ "type": "hereabouts", "range": range.as_ref() }),
            ranges => {
                let ranges: Vec<_> = ranges
                    .iter()
                    .map(|range| serde_json::json!({ "range": range.as_ref() }))
                    .collect();
                serde_json::json!({ "type": "hereabouts", "ipRanges": ranges })
            }
        };
        let environment = vec![("HEREABOUTS_CONFIG", flat.into())];
        Ok(Self {
            program: program.to_owned(),
            environment,
            input: network(&ipam),
            addresses: ranges.len(),
        })
    }

    /// Returns host-local with its store in `store/data`.
    pub(crate) fn host_local(program: &Path, store: &Path) -> Self {
        let ipam = serde_json::json!({ "type": "host-local", "subnet": crate::RANGE, "dataDir": store.join("data") });
        Self {
            program: program.to_owned(),
            environment: Vec::new(),
            input: network(&ipam),
            addresses: 1,
        }
    }

    /// Returns the command of one call. `front` is the program that runs the plugin, if there is
    /// one.
    pub(crate) fn command(&self, front: &[OsString], verb: Verb, container: &str) -> Command {
        let mut command = match front {
            [] => Command::new(&self.program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
        };
        command.env_clear().envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.env("CNI_COMMAND", verb.name()).env("CNI_CONTAINERID", container);
        command.env("CNI_NETNS", "/var/run/netns/none").env("CNI_IFNAME", "net1");
        command.env("CNI_PATH", self.program.parent().unwrap_or(Path::new("/")));
        command
    }

    /// Makes one call and checks its answer. For an ADD, also returns its address.
    ///
    /// # Errors
    /// Fails if the call fails or returns a wrong answer.
    pub(crate) fn call(&self, verb: Verb, container: &str) -> Result<(Ended, String)> {
        let ended = run(&mut self.command(&[], verb, container), self.input.as_bytes())?;
        let address = match verb {
            Verb::Add => address(&ended.stdout, self.addresses)?,
            Verb::Del if ended.stdout.trim_ascii().is_empty() => String::new(),
            Verb::Del => bail!("DEL said: {}", String::from_utf8_lossy(&ended.stdout)),
        };
        Ok((ended, address))
    }
}

fn network(ipam: &serde_json::Value) -> String {
    serde_json::json!({ "cniVersion": "1.0.0", "name": crate::NETWORK, "type": "macvlan", "ipam": ipam }).to_string()
}
