//! What install writes: the flat file, the kubeconfig, the executable; and how
//! each of them is known again as ours.

use super::atomic_write::{self, Executable, Presence};
use super::executables_aside::{self, Quiet};
use super::options::{Credentials, Plan};
use crate::ipam::NodeName;
use crate::plugin::machine::read_small;
use anyhow::{Context, bail};
use base64::Engine;
use serde_json::{Map, Value, json};
use std::path::Path;

/// How our flat file says that it is ours: JSON has no comments.
const WRITTEN_BY: (&str, &str) = ("written_by", "hereabouts install");
/// How our kubeconfig says so.
const KUBECONFIG_HEAD: &str = "# Written by hereabouts install, anew when token or CA change.\n";

/// What a person adds to the flat file.
pub(super) struct Settings(Map<String, Value>);

impl Settings {
    /// # Errors
    /// Not an object, or a key that install itself sets.
    pub(super) fn parse(settings: Option<&str>, data_dir: Option<&Path>) -> Result<Self, String> {
        let parsed = settings.map(serde_json::from_str::<Map<String, Value>>).transpose();
        let mut keys = parsed.map_err(|error| format!("--settings: expected a JSON object: {error}"))?.unwrap_or_default();
        for key in ["node_name", "kubernetes", WRITTEN_BY.0] {
            if keys.contains_key(key) {
                return Err(format!("--settings: not the place for {key}, which install sets itself"));
            }
        }
        if let Some(datastore) = keys.get("datastore").filter(|datastore| *datastore != "file" && *datastore != "kubernetes") {
            return Err(format!("--settings: datastore: expected \"file\" or \"kubernetes\": {datastore}"));
        }
        if let Some(data_dir) = data_dir {
            keys.insert("datastore".to_owned(), json!("file"));
            keys.insert("data_dir".to_owned(), json!(data_dir));
        }
        Ok(Self(keys))
    }

    /// Whether the store is the Kubernetes API, as it is when nobody says
    /// otherwise.
    pub(super) fn wants_kubernetes(&self) -> bool {
        self.0.get("datastore").is_none_or(|datastore| datastore == "kubernetes")
    }

    /// The flat file of a node.
    pub(super) fn flat_file(self, node: &NodeName, kubeconfig: Option<&Path>) -> String {
        let mut keys = self.0;
        keys.insert(WRITTEN_BY.0.to_owned(), json!(WRITTEN_BY.1));
        keys.insert("node_name".to_owned(), json!(node.as_str()));
        if let Some(kubeconfig) = kubeconfig {
            keys.insert("datastore".to_owned(), json!("kubernetes"));
            keys.insert("kubernetes".to_owned(), json!({"kubeconfig": kubeconfig}));
        }
        format!("{:#}\n", Value::Object(keys))
    }
}

/// All files of a plan.
pub(super) struct Files {
    pub(super) plan: Plan,
    executable: Executable,
    presence: Presence,
    /// Whether all was written once.
    settled: bool,
    /// The kubeconfig as it was last written.
    kubeconfig: String,
}

impl Files {
    /// # Errors
    /// This process's executable cannot be opened.
    pub(super) fn new(plan: Plan) -> anyhow::Result<Self> {
        let presence = Presence::new(plan.directory.clone());
        Ok(Self { plan, executable: Executable::own()?, presence, settled: false, kubeconfig: String::new() })
    }

    /// Writes what is missing or different; says what. The executable comes
    /// last: from then on pods meet it.
    ///
    /// While a rollout replaces one install by another, both are here, and they
    /// do not undo each other's work for ever: what another wrote stays until
    /// that one has gone, or it was this one's first time.
    ///
    /// # Errors
    /// The first that cannot be written, or is another's; `allow` does not.
    pub(super) fn put(&mut self, allow: &mut dyn FnMut(&Plan) -> anyhow::Result<Quiet>) -> anyhow::Result<Vec<String>> {
        let is_alone = self.presence.show()?;
        if is_alone && !self.settled {
            atomic_write::remove_aside(&self.plan.directory)?;
            atomic_write::remove_aside(&self.plan.bin_dir)?;
            executables_aside::end_others(&self.plan.bin_dir)?;
        }
        let mut changes = Vec::new();
        let insists = is_alone || !self.settled;
        let flat = self.plan.flat_path();
        // Until all is written.
        let mut _quiet = Quiet::default();
        if insists {
            refuse_of_others(&flat, is_our_flat_file)?;
            _quiet = allow(&self.plan)?;
        }
        self.put_kubeconfig(insists, &mut changes)?;
        if insists || !flat.exists() {
            atomic_write::put(&flat, 0o644, self.plan.flat.as_bytes())?.then(|| changes.push(wrote(&flat)));
        }
        for path in self.plan.executables() {
            if insists || !path.exists() {
                self.executable.put(&path)?.then(|| changes.push(wrote(&path)));
            }
        }
        if is_alone {
            self.remove_kubeconfig(&mut changes)?;
        }
        self.settled = true;
        Ok(changes)
    }

    fn put_kubeconfig(&mut self, insists: bool, changes: &mut Vec<String>) -> anyhow::Result<()> {
        let Some(credentials) = &self.plan.credentials else {
            return Ok(());
        };
        let path = self.plan.kubeconfig_path();
        let text = kubeconfig(credentials)?;
        if !insists && text == self.kubeconfig && path.exists() {
            return Ok(());
        }
        refuse_of_others(&path, is_our_kubeconfig)?;
        atomic_write::put(&path, credentials.mode, text.as_bytes())?.then(|| changes.push(wrote(&path)));
        self.kubeconfig = text;
        Ok(())
    }

    /// The token of an install of another kind, which the flat file no longer
    /// leads to.
    fn remove_kubeconfig(&self, changes: &mut Vec<String>) -> anyhow::Result<()> {
        let path = self.plan.kubeconfig_path();
        let flat: Value = serde_json::from_str(&self.plan.flat)?;
        let is_needed = flat["kubernetes"]["kubeconfig"].as_str().is_some_and(|used| Path::new(used) == path);
        if !is_needed && read_small(&path).is_ok_and(|bytes| is_our_kubeconfig(&bytes)) && atomic_write::remove(&path)? {
            changes.push(format!("removed {}", path.display()));
        }
        Ok(())
    }

    /// Renews token and CA where there is a kubeconfig of ours, and nothing else.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(super) fn renew(&mut self) -> anyhow::Result<Vec<String>> {
        let mut changes = Vec::new();
        if self.plan.kubeconfig_path().exists() {
            self.put_kubeconfig(true, &mut changes)?;
        }
        Ok(changes)
    }
}

fn wrote(path: &Path) -> String {
    format!("wrote {}", path.display())
}

/// A file that somebody wrote by hand says more than we know: another store,
/// say, under living pods.
fn refuse_of_others(path: &Path, is_ours: fn(&[u8]) -> bool) -> anyhow::Result<()> {
    match read_small(path) {
        Ok(bytes) if !is_ours(&bytes) => {
            bail!("not written by hereabouts install, move it away, or give its keys with --settings: {}", path.display())
        }
        _ => Ok(()),
    }
}

/// Whether install wrote this flat file.
pub(super) fn is_our_flat_file(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|flat| flat[WRITTEN_BY.0] == WRITTEN_BY.1)
}

/// Whether install wrote this kubeconfig.
pub(super) fn is_our_kubeconfig(bytes: &[u8]) -> bool {
    bytes.starts_with(KUBECONFIG_HEAD.as_bytes())
}

/// What a kubeconfig of ours says for a key.
pub(super) fn line_of<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.trim_start().strip_prefix(key))
}

/// The kubeconfig of this moment's token and CA: one file, so that they never
/// come from two moments.
pub(super) fn kubeconfig(credentials: &Credentials) -> anyhow::Result<String> {
    let read =
        |path: &Path, flag: &str| read_small(path).with_context(|| format!("cannot read {}, another is given with {flag}", path.display()));
    let token = String::from_utf8_lossy(&read(&credentials.token_file, "--token-file")?).trim().to_owned();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        bail!("expected a token: {}", credentials.token_file.display());
    }
    let ca = read(&credentials.ca_file, "--ca-file")?;
    if !String::from_utf8_lossy(&ca).contains("-----BEGIN CERTIFICATE-----") {
        bail!("expected certificates in PEM: {}", credentials.ca_file.display());
    }
    // JSON's strings are YAML's.
    let (server, token) = (json!(credentials.server), json!(token));
    let ca = base64::engine::general_purpose::STANDARD.encode(ca);
    Ok(format!(
        "{KUBECONFIG_HEAD}\
apiVersion: v1
kind: Config
current-context: hereabouts
contexts:
- name: hereabouts
  context: {{cluster: hereabouts, user: hereabouts}}
clusters:
- name: hereabouts
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: hereabouts
  user:
    token: {token}
"
    ))
}
