//! `--check`: checks that the plugin is on this node and reaches its store, or that it is removed.
//! The probes of the DaemonSet use it, and operators.

use super::super::output;
use super::plan::Plan;
use super::{atomic_write, enter_mount_namespace, kubeconfig, remove};
use crate::json::excerpt;
use crate::plugin::machine::{CONFIG_VARIABLE, read_small};
use anyhow::{Context, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A network for STATUS. Its range (RFC 5737) is never allocated from.
const NETWORK: &str = r#"{"cniVersion":"1.1.0","name":"hereabouts","type":"hereabouts",
"ipam":{"type":"hereabouts","range":"192.0.2.0/24"}}"#;

/// Asks the running install, or compares the files with the plan if none is running. Then lets the
/// installed plugin answer STATUS in the mount namespace in which it will be called.
pub(super) fn installed(plan: &Plan, namespace: &Path, offline: bool) -> anyhow::Result<()> {
    if let Some(Err(wrong)) = &plan.running {
        bail!("the running install reports: {wrong}");
    }
    for path in plan.executables() {
        let found =
            path.metadata().with_context(|| format!("not installed: {}", path.display()))?;
        if std::os::unix::fs::MetadataExt::mode(&found) & 0o111 == 0 {
            bail!("not executable: {}", path.display());
        }
    }
    let flat = plan.flat_path();
    let bytes = read_small(&flat).with_context(|| format!("not installed: {}", flat.display()))?;
    if !plan.flat.is_empty() && bytes != plan.flat.as_bytes() {
        bail!("{} {}", flat.display(), differs(&bytes, &plan.flat));
    }
    let said: serde_json::Value =
        serde_json::from_slice(&bytes).with_context(|| format!("not JSON: {}", flat.display()))?;
    let node = said["node_name"].as_str().unwrap_or_else(|| plan.node.as_str());
    if plan.credentials.is_some() {
        let path = plan.kubeconfig_path();
        read_small(&path).with_context(|| format!("not installed: {}", path.display()))?;
    }
    if !offline {
        enter_mount_namespace(namespace)?;
        ask(&plan.bin_dir.join(plan.names[0]), &plan.flat_path())?;
    }
    output::say(&format!(
        "hereabouts is installed on {}{}",
        output::printable(node),
        if offline { "" } else { " and reaches its store" }
    ));
    Ok(())
}

/// Returns how a flat file differs from the one that would be written.
fn differs(present: &[u8], wanted: &str) -> String {
    let parse = |bytes: &[u8]| {
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes)
            .unwrap_or_default()
    };
    let (present, wanted) = (parse(present), parse(wanted.as_bytes()));
    let said = |keys: &serde_json::Map<String, serde_json::Value>, key: &str| {
        keys.get(key).map_or_else(|| "nothing".to_owned(), |value| excerpt(&value.to_string()))
    };
    let keys: std::collections::BTreeSet<&String> = present.keys().chain(wanted.keys()).collect();
    let others = keys.into_iter().filter(|key| present.get(*key) != wanted.get(*key));
    let list: Vec<String> = others
        .map(|key| format!("{key} is {}, not {}", said(&present, key), said(&wanted, key)))
        .collect();
    let what = if list.is_empty() {
        "the same content, written differently".to_owned()
    } else {
        list.join("; ")
    };
    format!("differs from what install would write with these options: {what}")
}

/// The message of the admission policy (deploy/node/policy.yaml).
const OF_ANOTHER_NODE: &str = "a token changes only records of its own node";

/// Lets the plugin try the token that a person gives, before anything is written. Only the message
/// of the admission policy counts: a server that cannot be reached now may be reachable when pods
/// start.
///
/// # Errors
/// The token names no node, or another node.
pub(super) fn token(plan: &Plan) -> anyhow::Result<()> {
    let Some(credentials) = plan.credentials.as_ref().filter(|credentials| credentials.by_hand)
    else {
        return Ok(());
    };
    let aside = Aside::make()?;
    let (flat, kubeconfig) = (aside.0.join("hereabouts.conf"), aside.0.join("kubeconfig"));
    atomic_write::put(&kubeconfig, 0o600, kubeconfig::render(credentials)?.as_bytes())?;
    let said = serde_json::json!({
        "node_name": plan.node.as_str(), "datastore": "kubernetes", "kubernetes": {"kubeconfig": kubeconfig}, "data_dir": aside.0.join("state"),
    });
    atomic_write::put(&flat, 0o600, said.to_string().as_bytes())?;
    match ask(Path::new("/proc/self/exe"), &flat) {
        Err(error) if error.to_string().contains(OF_ANOTHER_NODE) => {
            bail!("--token-file: the token does not belong to node {}: {error}", plan.node)
        }
        _ => Ok(()),
    }
}

/// A temporary directory that only root can read.
struct Aside(PathBuf);

impl Aside {
    fn make() -> anyhow::Result<Self> {
        let drawn =
            std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        let path = PathBuf::from(format!("/tmp/hereabouts-install-{drawn:016x}"));
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn ask(executable: &Path, flat: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(executable);
    command.env_clear().env("CNI_COMMAND", "STATUS").env(CONFIG_VARIABLE, flat);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start the plugin")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(NETWORK.as_bytes()).context("cannot ask the plugin")?;
    }
    let answer = child.wait_with_output().context("cannot ask the plugin")?;
    if answer.status.success() {
        return Ok(());
    }
    let document: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
    match document["details"].as_str() {
        Some(details) => {
            bail!(
                "the plugin is not ready, code {}: {}",
                document["code"],
                output::printable(details)
            )
        }
        None => bail!("the plugin is not ready: {}", answer.status),
    }
}

/// Checks that none of our files remain.
pub(super) fn removed(plan: &Plan) -> anyhow::Result<()> {
    if let Some((path, _)) = remove::installed_files(plan)?.iter().find(|(_, is_ours)| *is_ours) {
        bail!("still installed: {}", path.display());
    }
    output::say("hereabouts is not installed here");
    Ok(())
}
