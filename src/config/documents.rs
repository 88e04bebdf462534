//! Finds the networks in what operators write: Kubernetes objects (YAML or JSON, also several in
//! one file), the configuration of Multus, plugin lists, plugin configurations, `ipam` objects and
//! flat files.
//!
//! The command line uses it, and the controller, which reads the networks of a cluster.
//!
//! - `objects`: Kubernetes objects, told apart by `kind` and the group of `apiVersion`
//! - `lists`: CNI's own documents: plugin lists, plugin configurations, `delegates`
//! - `slips`: explains why a text is not JSON

mod lists;
mod objects;
mod slips;

use super::ConfigError;
use super::error::Problem;
use super::keys::KEYS;
use crate::json::{Json, MOST_VALUES, Refused};
use crate::yaml::{Documents, YamlError};
use serde::de::IgnoredAny;

/// The maximum number of values in one document of a file, outside the configurations in it.
const MOST_OUTER: usize = 100_000;

/// A network, a pool or a flat file, and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The place in the file, such as `document 2: spec.config: plugins[1]`. Empty if it is the
    /// whole file.
    pub place: String,
    /// The object that contains it.
    pub origin: Origin,
    /// What was found there.
    pub content: Content,
}

/// The object that contains a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The kind of the Kubernetes object. `None` for CNI's own documents.
    pub kind: Option<&'static str>,
    /// The name of the NetworkAttachmentDefinition that the object is or becomes.
    pub name: Option<String>,
    /// Its namespace, if it is given.
    pub namespace: Option<String>,
}

/// What was found at a place.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A plugin configuration. Name and version are those of its list.
    Plugin {
        /// The configuration.
        configuration: Json,
        /// The list that contains it.
        chain: Chain,
    },
    /// A flat file.
    FlatFile(Json),
    /// The document of a pool, whether it is valid or not.
    Pool(Json),
    /// A network that has no plugin configuration here, and why.
    Elsewhere(&'static str),
    /// Something that should be a network.
    Mistake(ConfigError),
}

/// The plugin list that contains a plugin. A plugin configuration alone is a list of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Whether it is written as a list (`plugins`).
    pub is_list: bool,
    /// The types of all its plugins.
    pub types: Vec<String>,
    /// Whether the list has its own name. Otherwise the name is that of the object.
    pub is_named: bool,
    /// Whether the list has a version (`cniVersion` or `cniVersions`).
    pub has_version: bool,
}

/// The plugin that a network's `ipam` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpamPlugin {
    /// hereabouts, under either name, or a plugin with a mistake in `ipam.type`.
    Ours,
    /// host-local, whose configurations hereabouts understands.
    HostLocal,
    /// Another plugin or none, in words.
    Other(String),
}

impl IpamPlugin {
    /// Returns the plugin that a plugin configuration names.
    #[must_use]
    pub fn of(configuration: &Json) -> Self {
        let ipam = match configuration.find("ipam") {
            None => return Self::Other("no ipam".to_owned()),
            Some(Json::Object(entries)) if entries.is_empty() => {
                return Self::Other("empty ipam".to_owned());
            }
            Some(ipam) => ipam,
        };
        match ipam.find("type") {
            Some(Json::String(name)) => match name.as_str() {
                "hereabouts" | "whereabouts" => Self::Ours,
                "host-local" => Self::HostLocal,
                "" => Self::without_type(ipam),
                other => Self::Other(format!("type {}", shorten(other))),
            },
            Some(_) => Self::Ours,
            None => Self::without_type(ipam),
        }
    }

    /// Returns the plugin of an `ipam` object without a type. The missing type is a mistake only if
    /// the other keys are ours.
    fn without_type(ipam: &Json) -> Self {
        let ours = |key: &str| key != "type" && key != "dns" && is_key(key);
        let is_ours = !matches!(ipam, Json::Object(_))
            || ipam.entries().iter().any(|(key, value)| ours(key) && *value != Json::Null);
        if is_ours { Self::Ours } else { Self::Other("ipam without a type".to_owned()) }
    }
}

fn is_key(name: &str) -> bool {
    KEYS.iter().any(|key| key.name == name)
}

/// Calls `emit` for everything in a file that is a network, a pool or a flat file, and returns how
/// many there are. `file_name` is its last name, which tells an empty flat file from other JSON.
///
/// # Errors
/// Fails if the text is neither YAML nor JSON.
pub fn networks(
    bytes: &[u8],
    file_name: &str,
    emit: &mut dyn FnMut(Found),
) -> Result<usize, ConfigError> {
    let mut count = 0_usize;
    let mut walk = Walk {
        emit: &mut |found| {
            count += 1;
            emit(found);
        },
        is_flat_file: matches!(file_name, "hereabouts.conf" | "whereabouts.conf"),
    };
    let mut at = 0;
    each_document(bytes, &mut |document| {
        at += 1;
        let place = if at == 1 { String::new() } else { format!("document {at}: ") };
        walk.document(document, &place);
    })?;
    Ok(count)
}

/// Returns the error for a file in which nothing is a network.
#[must_use]
pub fn no_network() -> ConfigError {
    shape(
        "file",
        "expected a NetworkAttachmentDefinition, a pool, a plugin list, a plugin configuration, an ipam object or a flat file",
    )
}

/// Returns the plugin configurations in a file that are for hereabouts.
///
/// # Errors
/// Fails if the text is neither YAML nor JSON, if a network in it is malformed, or if there is no
/// plugin configuration with an `ipam` object.
pub fn plugin_configurations(bytes: &[u8]) -> Result<Vec<Json>, ConfigError> {
    let (mut ours, mut first) = (Vec::new(), None);
    let count = networks(bytes, "", &mut |found| match found.content {
        Content::Plugin { configuration, .. } => {
            if !matches!(IpamPlugin::of(&configuration), IpamPlugin::Other(_)) {
                ours.push(configuration);
            }
        }
        Content::Mistake(error) => {
            first.get_or_insert(error);
        }
        Content::FlatFile(_) | Content::Pool(_) | Content::Elsewhere(_) => {}
    })?;
    match first {
        Some(error) => Err(error),
        None if count == 0 => Err(no_network()),
        None if ours.is_empty() => Err(shape(
            "file",
            "expected a network with an ipam object of type hereabouts, whereabouts or host-local",
        )),
        None => Ok(ours),
    }
}

/// Takes documents apart. It moves their parts and copies none: copies of all parts could be many
/// times as large.
struct Walk<'e> {
    emit: &'e mut dyn FnMut(Found),
    is_flat_file: bool,
}

impl Walk<'_> {
    fn document(&mut self, document: Json, place: &str) {
        match document {
            Json::Array(items) => {
                for (at, item) in items.into_iter().enumerate() {
                    self.document(item, &format!("{place}[{at}]: "));
                }
            }
            document if document.find("kind").is_some() => {
                self.object(document, place, &objects::Around::default());
            }
            document if document.find("items").is_some() => {
                self.items(document, "items", place, &objects::Around::default());
            }
            document if is_configuration(&document) => {
                self.configuration(document, place, Origin::default());
            }
            document
                if self.is_flat_file || document.entries().iter().any(|(key, _)| is_key(key)) =>
            {
                self.found(place, Origin::default(), Content::FlatFile(document));
            }
            _ => {}
        }
    }

    fn found(&mut self, place: &str, origin: Origin, content: Content) {
        let place = place.trim_end_matches(": ").to_owned();
        (self.emit)(Found { place, origin, content });
    }

    fn mistake(&mut self, place: &str, origin: Origin, error: ConfigError) {
        self.found(place, origin, Content::Mistake(error));
    }
}

/// Returns whether this is one of CNI's own documents, and not a flat file.
fn is_configuration(document: &Json) -> bool {
    ["plugins", "delegates", "ipam", "type"].iter().any(|key| document.find(key).is_some())
}

/// Returns the only document of a file.
pub(super) fn only(bytes: &[u8]) -> Result<Json, ConfigError> {
    let mut found = Vec::new();
    each_document(bytes, &mut |document| found.push(document))?;
    let count = found.len();
    match found.pop() {
        Some(document) if count == 1 => Ok(document),
        _ => Err(shape("file", &format!("expected one document, found {count}"))),
    }
}

/// Calls `each` for every document in a file.
///
/// # Errors
/// Fails if the text is neither YAML nor JSON.
pub fn each_document(bytes: &[u8], each: &mut dyn FnMut(Json)) -> Result<(), ConfigError> {
    let text = text_of(bytes)?;
    if !text.trim_start().starts_with(['{', '[']) {
        return yaml(&text, each)
            .map_err(|error| shape("file", &format!("expected YAML or JSON: {error}")));
    }
    let Err(error) = json(&text, each) else {
        return Ok(());
    };
    // kubectl also takes objects in braces that are YAML and not JSON. libcni does not.
    let mut objects = Vec::new();
    if yaml(&text, &mut |document| objects.push(document)).is_ok()
        && objects.iter().all(|object| object.find("kind").is_some())
    {
        objects.into_iter().for_each(each);
        return Ok(());
    }
    Err(error)
}

/// Returns the text of a file, in UTF-8 or in UTF-16 with a byte order mark.
fn text_of(bytes: &[u8]) -> Result<std::borrow::Cow<'_, str>, ConfigError> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => {
            let text = std::str::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
            return text
                .map(Into::into)
                .map_err(|error| shape("file", &format!("expected UTF-8 text: {error}")));
        }
    };
    let units = bytes.chunks_exact(2).skip(1).filter_map(|pair| pair.try_into().ok()).map(unit);
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.map(Into::into).map_err(|_| shape("file", "expected UTF-8 text, found broken UTF-16"))
}

fn yaml(text: &str, each: &mut dyn FnMut(Json)) -> Result<(), YamlError> {
    // Keys count, too.
    for document in Documents::new(text, 2 * MOST_OUTER) {
        match document? {
            Json::Null => {}
            document => each(document),
        }
    }
    Ok(())
}

/// Parses JSON with the JSON parser, because its errors fit better. kubectl takes several objects
/// in a row.
fn json(text: &str, each: &mut dyn FnMut(Json)) -> Result<(), ConfigError> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    loop {
        let start = stream.byte_offset();
        match stream.next() {
            None => return Ok(()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(slips::malformed("file", text, &error)),
        }
        let document = text.get(start..stream.byte_offset()).unwrap_or_default();
        match Json::parse_within(document.as_bytes(), MOST_OUTER) {
            Ok(document) => each(document),
            Err(Refused::Malformed(error)) => {
                return Err(slips::malformed("file", document, &error));
            }
            Err(refused @ Refused::TooMany { .. }) => {
                return Err(shape("file", &refused.to_string()));
            }
        }
    }
}

/// Parses the JSON in a text of an object, with the limit of a network configuration.
fn inner_json(text: &str, place: &str) -> Result<Json, ConfigError> {
    match Json::parse_within(text.as_bytes(), MOST_VALUES) {
        Ok(json) => Ok(json),
        Err(Refused::Malformed(error)) => Err(slips::malformed(place, text, &error)),
        Err(refused @ Refused::TooMany { .. }) => Err(shape(place, &refused.to_string())),
    }
}

/// Returns a copy of a short text. Several networks get the same name or version.
fn short(value: Option<&Json>) -> Option<String> {
    value?.as_str().filter(|text| !text.is_empty() && text.len() <= 4096).map(str::to_owned)
}

/// Returns a text as messages show it, without quotes.
fn shorten(text: &str) -> String {
    crate::json::excerpt(text).trim_matches('"').to_owned()
}

fn shape(place: &str, reason: &str) -> ConfigError {
    ConfigError {
        problem: Problem::Shape,
        place: place.trim_end_matches(": ").to_owned(),
        reason: reason.to_owned(),
        hint: None,
    }
}

#[cfg(test)]
mod tests;
