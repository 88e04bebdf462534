//! Secondary networks: which NetworkAttachmentDefinitions of hereabouts want both families.

use super::printer::Printer;
use super::row::{ByFamily, Row, Verdict};
use crate::cli::cluster_lists::{Cluster, DEFINITIONS};
use crate::config::{CniArgs, Content, FlatFile, IpamPlugin, Merged, Mistakes, Network, networks};
use crate::json::Json;
use serde::Deserialize;
use std::collections::HashSet;

/// The networks that want both families, as `namespace/name`.
#[derive(Debug, Default)]
pub(super) struct DualNetworks(HashSet<String>);

impl DualNetworks {
    /// Returns whether a network wants both families.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

#[derive(Deserialize)]
struct Definition {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

/// Reads all networks of the cluster. A cluster without the resource has none.
pub(super) fn read(
    cluster: &Cluster,
    flat: Option<&FlatFile>,
    printer: &mut Printer,
) -> anyhow::Result<DualNetworks> {
    let mut dual = DualNetworks::default();
    cluster.list_if_known(&DEFINITIONS, &mut |item| {
        let Definition { metadata: Metadata { name, namespace } } = DEFINITIONS.parse(item)?;
        let (mut is_dual, mut is_readable) = (false, true);
        let read = networks(item.as_bytes(), "", &mut |found| match found.content {
            Content::Plugin { configuration, .. } => match self::is_dual(&configuration, flat) {
                Ok(found) => is_dual |= found,
                Err(_) => is_readable = false,
            },
            Content::Mistake(_) => is_readable = false,
            Content::FlatFile(_) | Content::Pool(_) | Content::Elsewhere(_) => {}
        });
        if is_dual {
            dual.0.insert(format!("{namespace}/{name}"));
        }
        if is_readable && read.is_ok() {
            return Ok(());
        }
        let reason = "mistakes in its configuration, see config check".to_owned();
        printer.add(&Row {
            kind: "NetworkAttachmentDefinition",
            namespace,
            name,
            what: "ipam".to_owned(),
            found: ByFamily::default(),
            verdict: Verdict::NotChecked(reason),
        })
    })?;
    Ok(dual)
}

/// Returns whether a plugin configuration is one of hereabouts that wants both families.
fn is_dual(configuration: &Json, flat: Option<&FlatFile>) -> Result<bool, Mistakes> {
    if IpamPlugin::of(configuration) != IpamPlugin::Ours {
        return Ok(false);
    }
    let merged = Merged::new(configuration, flat)?;
    Ok(Network::parse(&merged, &CniArgs::default())?.wants_both_families())
}

#[cfg(test)]
mod tests {
    use super::is_dual;
    use crate::json::Json;

    #[test]
    fn ranges_of_both_families_or_a_policy_want_both() {
        let both = r#""ipRanges":[{"range":"10.0.0.0/24"},{"range":"fd00::/64"}]"#;
        for (ipam, expected) in [
            (both.to_owned(), Some(true)),
            (r#""range":"10.0.0.0/24""#.to_owned(), Some(false)),
            (r#""range":"10.0.0.0/24","ipFamilyPolicy":"PreferDualStack""#.to_owned(), Some(true)),
            (format!(r#"{both},"ipFamilyPolicy":"SingleStack""#), Some(false)),
            (format!(r#"{both},"ipFamilies":["IPv6"]"#), Some(false)),
            (r#""pool":"blue","ipFamilyPolicy":"RequireDualStack""#.to_owned(), Some(true)),
            (r#""pool":"blue""#.to_owned(), Some(false)),
            (
                r#""range":"10.0.0.0/24","addresses":[{"address":"fd00::1/64"}]"#.to_owned(),
                Some(true),
            ),
            (r#""range":"10.0.0.0/33""#.to_owned(), None),
        ] {
            let text = format!(r#"{{"ipam":{{"type":"hereabouts",{ipam}}}}}"#);
            let configuration = Json::parse(text.as_bytes()).unwrap();
            assert_eq!(is_dual(&configuration, None).ok(), expected, "{ipam}");
        }
        let other = Json::parse(br#"{"ipam":{"type":"host-local"}}"#).unwrap();
        assert_eq!(is_dual(&other, None), Ok(false));
    }
}
