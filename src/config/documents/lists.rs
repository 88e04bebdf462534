//! CNI's own documents: plugin lists, plugin configurations and `ipam` objects, and the `delegates`
//! of Multus.

use super::{Chain, Content, Origin, Walk, shape, short};
use crate::json::Json;

impl Walk<'_> {
    /// Finds the networks in one of CNI's own documents.
    pub(super) fn configuration(&mut self, mut document: Json, place: &str, origin: Origin) {
        if let Some(delegates) = document.take("delegates") {
            return self.delegates(delegates, &format!("{place}delegates"), &origin);
        }
        let (is_named, has_version) = (has_text(&document, "name"), has_version(&document));
        let Some(plugins) = document.take("plugins") else {
            if is_ipam(&document) {
                let wrapped = Json::Object(vec![("ipam".to_owned(), document)]);
                let chain = Chain { is_named, has_version: true, ..Chain::default() };
                return self.found(
                    place,
                    origin,
                    Content::Plugin { configuration: wrapped, chain },
                );
            }
            let types = type_of(&document).into_iter().collect();
            let chain = Chain { is_list: false, types, is_named, has_version };
            let configuration = with_name(document, &origin);
            return self.found(place, origin, Content::Plugin { configuration, chain });
        };
        let Json::Array(plugins) = plugins else {
            let error = shape(&format!("{place}plugins"), "expected a list");
            return self.mistake(place, origin, error);
        };
        let name = short(document.find("name")).or_else(|| origin.name.clone());
        let version = short(document.find("cniVersion"));
        drop(document);
        let types: Vec<String> = plugins.iter().filter_map(type_of).collect();
        let chain = Chain { is_list: true, types, is_named, has_version };
        let mut is_found = false;
        for (at, mut plugin) in plugins.into_iter().enumerate() {
            let place = format!("{place}plugins[{at}]");
            if let Some(delegates) = plugin.take("delegates") {
                self.delegates(delegates, &format!("{place}.delegates"), &origin);
                is_found = true;
            } else if plugin.has("ipam") {
                set(&mut plugin, "name", name.clone());
                set(&mut plugin, "cniVersion", version.clone());
                let content = Content::Plugin { configuration: plugin, chain: chain.clone() };
                self.found(&place, origin.clone(), content);
                is_found = true;
            }
        }
        if !is_found {
            self.found(place, origin, Content::Elsewhere("no ipam"));
        }
    }

    fn delegates(&mut self, delegates: Json, place: &str, origin: &Origin) {
        let Json::Array(delegates) = delegates else {
            return self.mistake(place, origin.clone(), shape(place, "expected a list"));
        };
        for (at, delegate) in delegates.into_iter().enumerate() {
            self.configuration(delegate, &format!("{place}[{at}]: "), origin.clone());
        }
    }
}

/// Returns whether this is an `ipam` object and not the configuration of a main plugin.
fn is_ipam(document: &Json) -> bool {
    !document.has("ipam")
        && document
            .find("type")
            .and_then(Json::as_str)
            .is_some_and(|name| matches!(name, "hereabouts" | "whereabouts" | "host-local"))
}

fn type_of(plugin: &Json) -> Option<String> {
    short(plugin.find("type"))
}

fn has_text(document: &Json, key: &str) -> bool {
    document.find(key).and_then(Json::as_str).is_some_and(|text| !text.is_empty())
}

fn has_version(document: &Json) -> bool {
    has_text(document, "cniVersion")
        || matches!(document.find("cniVersions"), Some(Json::Array(versions)) if !versions.is_empty())
}

/// Gives a plugin configuration without a name the one of its object, as Multus does.
fn with_name(mut configuration: Json, origin: &Origin) -> Json {
    if let Some(name) = &origin.name
        && !has_text(&configuration, "name")
    {
        set(&mut configuration, "name", Some(name.clone()));
    }
    configuration
}

/// Sets a key of a plugin in a list, as libcni does: what the plugin says itself does not count.
fn set(plugin: &mut Json, key: &str, value: Option<String>) {
    if let Json::Object(entries) = plugin {
        entries.retain(|(name, _)| name != key);
        entries.extend(value.map(|value| (key.to_owned(), Json::String(value))));
    }
}
