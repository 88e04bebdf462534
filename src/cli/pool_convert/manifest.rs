//! Pools as Kubernetes objects: their tree, and its text in YAML and JSON.

use super::addresses::{ConvertedSubnet, Span};
use crate::addr::Subnet;
use crate::config::pool_kind;
use crate::ipam::Block;
use crate::json::Json;
use serde_json::Value;
use std::collections::BTreeMap;

/// How a pool is cut into slices.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) ranges: Block,
    pub(super) v4: Option<u8>,
    pub(super) v6: Option<u8>,
}

/// A pool of ours, before it is checked.
#[derive(Debug, Default)]
pub(super) struct Converted {
    pub(super) subnets: Vec<ConvertedSubnet>,
    /// The slices. A pool that has some has no subnets of its own.
    pub(super) cut: Option<Cut>,
    /// The namespaces that may use the pool. If there is none, all may.
    pub(super) namespaces: Vec<String>,
    /// The labels of the nodes on which the pool may be used.
    pub(super) node_labels: BTreeMap<String, String>,
    /// Whether nobody gets an IPv4 address that ends in .0 or .255.
    pub(super) avoids_buggy: bool,
    /// The destinations of routes, and their gateways.
    pub(super) routes: Vec<(String, Option<String>)>,
}

impl Converted {
    /// Returns the object of the pool.
    pub(super) fn object(&self, name: &str) -> Json {
        let mut spec = match &self.cut {
            None => vec![("subnets", list(&self.subnets, subnet))],
            Some(cut) => vec![("ranges", list(&[&cut.ranges], range)), ("slices", slices(cut))],
        };
        if !self.namespaces.is_empty() {
            spec.push(("namespaces", list(&self.namespaces, |name| text(name))));
        }
        if !self.node_labels.is_empty() {
            let labels = self.node_labels.iter().map(|(key, value)| (key.clone(), text(value)));
            spec.push(("nodeSelector", object([("matchLabels", Json::Object(labels.collect()))])));
        }
        if self.avoids_buggy {
            spec.push(("avoidBuggyAddresses", Json::Bool(true)));
        }
        if !self.routes.is_empty() {
            spec.push(("routes", list(&self.routes, route)));
        }
        object([
            ("apiVersion", text(pool_kind::API_VERSION)),
            ("kind", text(pool_kind::KIND)),
            ("metadata", object([("name", text(name))])),
            ("spec", object(spec)),
        ])
    }
}

fn subnet(part: &ConvertedSubnet) -> Json {
    let spans = |spans: &[Span]| list(spans, |span| text(&span.text));
    let mut entries = vec![("subnet", text(&part.subnet.to_string()))];
    entries.extend(part.gateway.map(|gateway| ("gateway", text(&gateway.to_string()))));
    if !part.addresses.is_empty() {
        entries.push(("addresses", spans(&part.addresses)));
    }
    if !part.exclude.is_empty() {
        entries.push(("exclude", spans(&part.exclude)));
    }
    object(entries)
}

fn range(block: &&Block) -> Json {
    let of = |key, subnet: Option<Subnet>| Some((key, text(&subnet?.to_string())));
    object([of("ipv4", block.v4), of("ipv6", block.v6)].into_iter().flatten())
}

fn slices(cut: &Cut) -> Json {
    let of = |key, length: Option<u8>| {
        Some((key, object([("perNodeMaskSize", Json::Number(length?.into()))])))
    };
    object([of("ipv4", cut.v4), of("ipv6", cut.v6)].into_iter().flatten())
}

fn route((dst, gw): &(String, Option<String>)) -> Json {
    let mut entries = vec![("dst", text(dst))];
    entries.extend(gw.as_ref().map(|gw| ("gw", text(gw))));
    object(entries)
}

fn text(text: &str) -> Json {
    Json::String(text.to_owned())
}

fn list<T>(items: &[T], each: impl Fn(&T) -> Json) -> Json {
    Json::Array(items.iter().map(each).collect())
}

fn object(entries: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    Json::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Returns a tree for the JSON printer.
pub(super) fn value(tree: &Json) -> Value {
    match tree {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Number(number.clone()),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(value).collect()),
        Json::Object(entries) => {
            Value::Object(entries.iter().map(|(key, inner)| (key.clone(), value(inner))).collect())
        }
    }
}

/// Returns the YAML text of an object.
pub(super) fn yaml(object: &Json) -> String {
    let mut written = String::new();
    write_entries(object, 0, &mut written);
    written
}

/// Writes the entries of an object, one below the other. The first one continues the line.
fn write_entries(object: &Json, indent: usize, written: &mut String) {
    for (at, (key, value)) in object.entries().iter().enumerate() {
        if 0 < at {
            written.extend(std::iter::repeat_n(' ', indent));
        }
        written.push_str(&scalar(key));
        written.push(':');
        match value {
            Json::Array(items) if !items.is_empty() => {
                written.push('\n');
                for item in items {
                    written.extend(std::iter::repeat_n(' ', indent));
                    written.push_str("- ");
                    match item {
                        Json::Object(_) => write_entries(item, indent + 2, written),
                        item => write_line(item, written),
                    }
                }
            }
            Json::Object(entries) if !entries.is_empty() => {
                written.push('\n');
                written.extend(std::iter::repeat_n(' ', indent + 2));
                write_entries(value, indent + 2, written);
            }
            value => {
                written.push(' ');
                write_line(value, written);
            }
        }
    }
}

/// Writes a value that needs one line.
fn write_line(value: &Json, written: &mut String) {
    match value {
        Json::String(text) => written.push_str(&scalar(text)),
        // In JSON they are YAML, too.
        value => written.push_str(&self::value(value).to_string()),
    }
    written.push('\n');
}

/// Returns a text as a YAML scalar. It is quoted if any reader of YAML could take it for something
/// else than a text.
fn scalar(text: &str) -> String {
    const WORDS: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_plain_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '-');
    let begins = |with: fn(&char) -> bool| text.chars().next().is_some_and(|c| with(&c));
    // A number has at most one dot, and a number to base 60 no empty part.
    let is_word = begins(char::is_ascii_alphabetic)
        && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    let is_address =
        begins(char::is_ascii_digit) && (text.contains("::") || 3 <= text.matches('.').count());
    match text.chars().all(is_plain_char) && !text.ends_with(':') && (is_word || is_address) {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{scalar, yaml};
    use crate::json::Json;

    #[test]
    fn texts_that_yaml_could_misread_are_quoted() {
        for plain in [
            "blue",
            "zone-a.1",
            "10.0.0.0/24",
            "10.0.0.1-10.0.0.9",
            "fd00::/64",
            "2001:db8::1",
            "a/b",
        ] {
            assert_eq!(scalar(plain), plain);
        }
        for quoted in [
            "",
            "true",
            "No",
            "1",
            "1.5",
            "1e3",
            "0x1f",
            "1:20",
            "1:2:3:4:5:6:7:8",
            "::1",
            "fd00::",
            "-",
            "a: b",
            "a #b",
            "a\nb",
            "\u{e9}",
            "~",
            "{}",
            "2026-01-01",
        ] {
            assert_eq!(scalar(quoted), serde_json::Value::from(quoted).to_string());
        }
    }

    #[test]
    fn the_yaml_of_a_tree_is_the_tree() {
        let text = r#"{"a":{"b":[{"c":"1","d":["x","y: z"]},{"c":[]}],"e":{}},"f":true,"g":{"h":{"zone/a":"null","i":7}}}"#;
        let tree = Json::parse(text.as_bytes()).unwrap();
        let mut read = Vec::new();
        crate::config::each_document(yaml(&tree).as_bytes(), &mut |document| read.push(document))
            .unwrap();
        assert_eq!(read, [tree]);
    }
}
