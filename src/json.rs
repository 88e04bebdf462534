//! A JSON tree that keeps what the protocol needs to judge: the order of
//! keys, and the place of every value.
//!
//! `serde_json::Value` would let the last of two equal keys win, so that one
//! reader checks the first and another uses the second. Here a repeated key,
//! at any depth, is a parse error: nothing is ever validated in one place and
//! used from another. Nesting is bounded at 128 by the parser.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// One JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`; the CNI readers take it as absent.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number(serde_json::Number),
    /// A string, valid UTF-8.
    String(String),
    /// An array, in order.
    Array(Vec<Self>),
    /// An object, in the order written; keys are unique.
    Object(Vec<(String, Self)>),
}

impl Json {
    /// Parses exactly one JSON document.
    ///
    /// # Errors
    /// What `serde_json` says, or that a key stands twice in one object.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The value under `key`, when this is an object that has it and it is
    /// not `null`.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, value)| name == key && *value != Self::Null).map(|(_, value)| value)
    }

    /// Whether this is an object that has `key`, `null` or not.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.entries().iter().any(|(name, _)| name == key)
    }

    /// The keys and values of an object; empty for anything else.
    #[must_use]
    pub fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Object(entries) => entries,
            _ => &[],
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value this is, for sentences.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// The value as it would be written, cut to what a sentence can hold.
    #[must_use]
    pub fn excerpt(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::String(text) => excerpt(text),
            Self::Array(_) | Self::Object(_) => self.kind().to_owned(),
        }
    }
}

/// Quotes `text` for a message: at most 120 characters of it, control
/// characters escaped, so that a hostile value cannot flood or forge a log.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    if text.chars().nth(120).is_some() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        Json::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        // YAML knows .inf and .nan; JSON does not.
        serde_json::Number::from_f64(value)
            .map_or_else(|| Err(E::custom("a number that JSON cannot hold")), |number| Ok(Json::Number(number)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        // A set beside the list keeps a hostile object of a million keys linear.
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let known = if entries.len() < 16 {
                entries.iter().any(|(name, _)| *name == key)
            } else {
                if seen.is_empty() {
                    seen.extend(entries.iter().map(|(name, _)| name.clone()));
                }
                !seen.insert(key.clone())
            };
            if known {
                return Err(A::Error::custom(format_args!("key {} stands twice in one object", excerpt(&key))));
            }
            let value = map.next_value()?;
            entries.push((key, value));
        }
        Ok(Json::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::{Json, excerpt};

    #[test]
    fn a_repeated_key_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"b":{"c":1,"c":2}}]}"#] {
            let error = Json::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("stands twice"), "{error}");
        }
        let mut long: String = (0..40).map(|n| format!("\"k{n}\":1,")).collect();
        long = format!("{{{long}\"k3\":2}}");
        assert!(Json::parse(long.as_bytes()).is_err());
    }

    #[test]
    fn null_counts_as_absent_but_is_there() {
        let json = Json::parse(br#"{"a":null}"#).unwrap();
        assert_eq!(json.find("a"), None);
        assert!(json.has("a"));
    }

    #[test]
    fn an_excerpt_is_short_and_shows_control_characters() {
        assert_eq!(excerpt("a\nb"), "\"a\\nb\"");
        assert!(excerpt(&"x".repeat(4000)).len() < 130);
    }
}
