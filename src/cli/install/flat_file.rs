//! Renders the flat file that install writes, recognizes it later, and reads it as a verb does.

use crate::config::{self, ConfigError, FlatFile, Merged};
use crate::ipam::NodeName;
use crate::json::Json;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The key and the value that mark a flat file as written by install. JSON has no comments.
const WRITTEN_BY: (&str, &str) = ("written_by", "hereabouts install");
/// The settings that an operator adds to the flat file.
pub(super) struct Settings(Map<String, Value>);

impl Settings {
    /// Parses the settings.
    ///
    /// # Errors
    /// The text is not a JSON object, or it has a key that install itself sets.
    pub(super) fn parse(settings: Option<&str>, data_dir: Option<&Path>) -> Result<Self, String> {
        let parsed = settings.map(serde_json::from_str::<Map<String, Value>>).transpose();
        let mut keys = parsed
            .map_err(|error| format!("--settings: not a JSON object: {error}"))?
            .unwrap_or_default();
        for key in ["node_name", "kubernetes", WRITTEN_BY.0] {
            if keys.contains_key(key) {
                return Err(format!("--settings: {key} is set by install itself"));
            }
        }
        if let Some(datastore) = keys
            .get("datastore")
            .filter(|datastore| *datastore != "file" && *datastore != "kubernetes")
        {
            return Err(format!(
                "--settings: datastore: expected \"file\" or \"kubernetes\", found {datastore}"
            ));
        }
        if let Some(data_dir) = data_dir {
            keys.insert("datastore".to_owned(), json!("file"));
            keys.insert("data_dir".to_owned(), json!(data_dir));
        }
        Ok(Self(keys))
    }

    /// Returns whether the store is the Kubernetes API, which is the default.
    pub(super) fn wants_kubernetes(&self) -> bool {
        self.0.get("datastore").is_none_or(|datastore| datastore == "kubernetes")
    }

    /// Returns the flat file of a node.
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

/// Returns whether install wrote this flat file.
pub(super) fn is_our_flat_file(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|flat| flat[WRITTEN_BY.0] == WRITTEN_BY.1)
}

/// Returns the settings that a verb reads from a flat file.
///
/// # Errors
/// A mistake in the file.
pub(super) fn read_flat(path: &Path, bytes: &[u8]) -> Result<config::Settings, ConfigError> {
    let flat = FlatFile::parse(path.to_owned(), bytes, config::Chosen::ByNode)?;
    flat.check()?;
    let network = Json::Object(vec![("ipam".to_owned(), Json::Object(Vec::new()))]);
    let settings = config::Settings::parse(&Merged::new(&network, Some(&flat))?, true)?;
    // A call continues with such a setting. The author of the file can correct it now.
    let place = path.display().to_string();
    match settings.log.notes.first() {
        Some(note) => {
            let reason = note.strip_prefix(&format!("{place}: ")).unwrap_or(note).to_owned();
            Err(ConfigError::meaning(place, reason))
        }
        None => Ok(settings),
    }
}
