//! Finds the plugin configurations in a file: a NetworkAttachmentDefinition (YAML or JSON, also
//! several documents), a plugin list (conflist) or a plugin configuration.
//!
//! The command line uses it, and it serves the `plugins` lists that Multus passes on.

use super::ConfigError;
use super::error::Problem;
use crate::json::{Json, MOST_VALUES, Refused};

/// A plugin configuration with an `ipam` object.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The place in the file, such as `spec.config` or `plugins[1]`.
    pub place: String,
    /// The configuration. The name and the version of its list are filled in.
    pub configuration: Json,
}

/// Returns all plugin configurations in a file that have an `ipam` object.
///
/// # Errors
/// Fails if the text is neither YAML nor JSON, or has no plugin configuration with an `ipam`
/// object.
pub fn plugin_configurations(bytes: &[u8]) -> Result<Vec<Found>, ConfigError> {
    let mut found = Vec::new();
    for (at, document) in documents(bytes)?.into_iter().enumerate() {
        let place = if at == 0 { String::new() } else { format!("document {}: ", at + 1) };
        collect(document, &place, &mut found)?;
    }
    if found.is_empty() {
        let reason = "expected a NetworkAttachmentDefinition, a plugin list or a plugin configuration with an ipam object".to_owned();
        return Err(ConfigError {
            problem: Problem::Meaning,
            place: "file".to_owned(),
            reason,
            hint: None,
        });
    }
    Ok(found)
}

/// Parses JSON with the JSON parser, because its errors name the line and the column.
fn documents(bytes: &[u8]) -> Result<Vec<Json>, ConfigError> {
    let looks_like_json =
        bytes.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| matches!(b, b'{' | b'['));
    if looks_like_json {
        return Json::parse_within(bytes, MOST_VALUES).map(|json| vec![json]).map_err(|refused| {
            match refused {
                Refused::Malformed(error) => shape("file", &format!("expected JSON: {error}")),
                Refused::TooMany { .. } => shape("file", &refused.to_string()),
            }
        });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| shape("file", &format!("expected UTF-8 text: {error}")))?;
    // Keys count as nodes, too.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: 2 * MOST_VALUES, max_documents: 1024 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MOST_VALUES },
    };
    let documents =
        serde_saphyr::from_multiple_with_options::<Json>(text, options).map_err(|error| {
            let sentence = error.to_string();
            shape(
                "file",
                &format!("expected YAML or JSON: {}", sentence.lines().next().unwrap_or_default()),
            )
        })?;
    Ok(documents.into_iter().filter(|document| *document != Json::Null).collect())
}

/// Takes the document apart instead of copying it. Copies of all parts could be many times as
/// large.
fn collect(mut document: Json, place: &str, found: &mut Vec<Found>) -> Result<(), ConfigError> {
    if let Some(config) = document.find("spec").and_then(|spec| spec.find("config")) {
        let path = format!("{place}spec.config");
        let Some(text) = config.as_str() else {
            return Err(shape(&path, "expected a string that holds JSON"));
        };
        let inner = Json::parse_within(text.as_bytes(), MOST_VALUES)
            .map_err(|error| shape(&path, &format!("expected JSON: {error}")))?;
        let name = document.find("metadata").and_then(|meta| meta.find("name")).and_then(short);
        drop(document);
        return collect_plugins(with_default(inner, "name", name), &format!("{path}: "), found);
    }
    if let Some(Json::Array(items)) = document.take("items") {
        return items.into_iter().try_for_each(|item| collect(item, place, found));
    }
    collect_plugins(document, place, found)
}

fn collect_plugins(
    mut configuration: Json,
    place: &str,
    found: &mut Vec<Found>,
) -> Result<(), ConfigError> {
    match configuration.take("plugins") {
        None => {
            if configuration.has("ipam") {
                found.push(Found { place: place.trim_end_matches(": ").to_owned(), configuration });
            }
        }
        Some(Json::Array(plugins)) => {
            let (name, version) = (
                configuration.find("name").and_then(short),
                configuration.find("cniVersion").and_then(short),
            );
            for (at, plugin) in
                plugins.into_iter().enumerate().filter(|(_, plugin)| plugin.has("ipam"))
            {
                let named = with_default(plugin, "name", name.clone());
                let configuration = with_default(named, "cniVersion", version.clone());
                found.push(Found { place: format!("{place}plugins[{at}]"), configuration });
            }
        }
        Some(_) => return Err(shape(&format!("{place}plugins"), "expected a list")),
    }
    Ok(())
}

/// Returns a copy of a name or version, if it is short. Each plugin gets its own copy.
fn short(value: &Json) -> Option<Json> {
    value.as_str().filter(|text| text.len() <= 4096).map(|text| Json::String(text.to_owned()))
}

fn with_default(mut object: Json, key: &str, value: Option<Json>) -> Json {
    if let (Json::Object(entries), Some(value)) = (&mut object, value)
        && entries.iter().all(|(name, held)| name != key || *held == Json::Null)
    {
        entries.retain(|(name, _)| name != key);
        entries.push((key.to_owned(), value));
    }
    object
}

fn shape(place: &str, reason: &str) -> ConfigError {
    ConfigError {
        problem: Problem::Shape,
        place: place.to_owned(),
        reason: reason.to_owned(),
        hint: None,
    }
}

/// Quick tests that YAML values are read in the same way as JSON values.
#[cfg(test)]
mod tests {
    use super::*;

    const NAD: &str = r#"
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: macvlan-conf
spec:
  config: |
    {"cniVersion": "0.3.1", "plugins": [
      {"type": "macvlan", "ipam": {"type": "whereabouts", "range": "192.168.20.0/24"}},
      {"type": "tuning"}]}
"#;

    #[test]
    fn a_nad_gives_its_plugins_with_ipam_the_name_it_has() {
        let found = plugin_configurations(NAD.as_bytes()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "spec.config: plugins[0]");
        assert_eq!(found[0].configuration.find("name").unwrap().as_str(), Some("macvlan-conf"));
        assert_eq!(found[0].configuration.find("cniVersion").unwrap().as_str(), Some("0.3.1"));
    }

    #[test]
    fn repeated_yaml_keys_are_refused() {
        assert!(plugin_configurations(b"ipam:\n  type: a\n  type: b\n").is_err());
    }

    #[test]
    fn what_has_no_ipam_is_no_configuration_of_ours() {
        assert!(plugin_configurations(b"{}").is_err());
        assert!(plugin_configurations(b"kind: Pod\n").is_err());
        assert!(plugin_configurations(b"").is_err());
    }
}
