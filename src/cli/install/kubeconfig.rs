//! Renders the kubeconfig that install writes, from the current token and CA, and recognizes it
//! later. A changed CA or token results in a new file.

use super::plan::Credentials;
use crate::plugin::machine::read_small;
use anyhow::{Context, bail};
use base64::Engine;
use serde_json::json;
use std::path::Path;

/// The first line that earlier builds wrote, before and after a word that differed.
const EARLIER_HEAD: (&[u8], &[u8]) =
    (b"# Written by hereabouts install, ", b" when token or CA change.");
/// The first line of our kubeconfig.
const KUBECONFIG_HEAD: &str =
    "# Written by hereabouts install. Rewritten when the token or the CA changes.\n";

/// Returns whether install wrote this kubeconfig.
pub(super) fn is_our_kubeconfig(bytes: &[u8]) -> bool {
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let (before, after) = EARLIER_HEAD;
    bytes.starts_with(KUBECONFIG_HEAD.as_bytes())
        || first.starts_with(before) && first.ends_with(after)
}

/// Returns the value of a key in a kubeconfig that install wrote.
pub(super) fn line_of<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.trim_start().strip_prefix(key))
}

/// Returns the kubeconfig for the current token and CA. Both are in one file, so that they always
/// belong to the same moment.
pub(super) fn render(credentials: &Credentials) -> anyhow::Result<String> {
    let read = |path: &Path, flag: &str| {
        read_small(path).with_context(|| format!("cannot read {} ({flag})", path.display()))
    };
    let token =
        String::from_utf8_lossy(&read(&credentials.token_file, "--token-file")?).trim().to_owned();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        bail!(
            "--token-file: expected a token in {}, found none or other text",
            credentials.token_file.display()
        );
    }
    let ca = read(&credentials.ca_file, "--ca-file")?;
    if !String::from_utf8_lossy(&ca).contains("-----BEGIN CERTIFICATE-----") {
        bail!(
            "--ca-file: expected certificates in PEM in {}, found none",
            credentials.ca_file.display()
        );
    }
    // JSON strings are valid YAML strings.
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
