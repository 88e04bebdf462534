//! A JSON tree for configurations. It keeps the order of the keys and refuses repeated keys.
//!
//! With `serde_json::Value`, the last of two equal keys wins. One reader could check the first
//! value and another one use the second. Here a repeated key is a parse error at any depth, so a
//! value that was checked is the value that is used. The parser limits the nesting to 128, and
//! [`Json::parse_within`] limits the number of values, because a value in memory takes many times
//! its bytes in the text.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// The maximum number of values of a network configuration.
pub const MOST_VALUES: usize = 50_000;

/// One JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`. Readers of CNI configurations treat it as missing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number(serde_json::Number),
    /// A string in valid UTF-8.
    String(String),
    /// An array in the written order.
    Array(Vec<Self>),
    /// An object in the written order. The keys are unique.
    Object(Vec<(String, Self)>),
}

impl Json {
    /// Parses exactly one JSON document.
    ///
    /// # Errors
    /// Returns the error of `serde_json`, or an error for a key that appears twice in one object.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Parses one JSON document with at most `most` values.
    ///
    /// # Errors
    /// The errors of [`Self::parse`], or [`Refused::TooMany`].
    pub fn parse_within(bytes: &[u8], most: usize) -> Result<Self, Refused> {
        let left = Cell::new(most);
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let parsed = Tree(Some(&left))
            .deserialize(&mut deserializer)
            .and_then(|json| deserializer.end().map(|()| json));
        parsed.map_err(|error| {
            if left.get() == SPENT { Refused::TooMany { most } } else { Refused::Malformed(error) }
        })
    }

    /// Returns the value of `key`. Returns `None` if this is not an object, or if the value is
    /// missing or `null`.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|(name, value)| name == key && *value != Self::Null)
            .map(|(_, value)| value)
    }

    /// Removes the value of `key` from this object and returns it. Returns `None` if it is missing
    /// or `null`.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        let Self::Object(entries) = self else {
            return None;
        };
        let at = entries.iter().position(|(name, value)| name == key && *value != Self::Null)?;
        Some(entries.remove(at).1)
    }

    /// Returns whether this is an object that has `key`, even with a `null` value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.entries().iter().any(|(name, _)| name == key)
    }

    /// Returns the keys and values of an object, or an empty list for any other value.
    #[must_use]
    pub fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Object(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the kind of the value, for messages.
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

    /// Returns the value as JSON, shortened for messages.
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

/// Quotes a text for a message: at most 120 characters, with control characters escaped. A hostile
/// value cannot flood or forge a log.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    if text.chars().nth(120).is_some() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

/// The reasons why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The text is not JSON, or a key appears twice in one object.
    #[error(transparent)]
    Malformed(serde_json::Error),
    /// The document has too many values.
    #[error("expected at most {most} values, found more")]
    TooMany {
        /// The maximum number of values.
        most: usize,
    },
}

/// The state of an allowance that was exceeded.
pub(crate) const SPENT: usize = usize::MAX;

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree(None))
    }
}

/// The reader of one value. It subtracts the number of values from the allowance.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'c>(pub(crate) Option<&'c Cell<usize>>);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        if let Some(left) = self.0 {
            match left.get() {
                0 | SPENT => {
                    left.set(SPENT);
                    return Err(D::Error::custom("too many values"));
                }
                some => left.set(some - 1),
            }
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
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
        // YAML has .inf and .nan, JSON does not.
        serde_json::Number::from_f64(value).map_or_else(
            || Err(E::custom("a number that JSON cannot hold")),
            |number| Ok(Json::Number(number)),
        )
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        items.shrink_to_fit();
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        let mut seen = Seen::default();
        while let Some(key) = map.next_key::<String>()? {
            if seen.is_repeated(&key, &entries) {
                return Err(A::Error::custom(format_args!(
                    "key {} stands twice in one object",
                    excerpt(&key)
                )));
            }
            let value = map.next_value_seed(self)?;
            entries.push((key, value));
        }
        entries.shrink_to_fit();
        Ok(Json::Object(entries))
    }
}

/// The keys of an object so far. For many keys, it stores their hashes. This keeps the time for a
/// hostile object linear, without a second copy of its keys.
#[derive(Default)]
struct Seen {
    keyed: RandomState,
    hashes: HashSet<u64>,
}

impl Seen {
    fn is_repeated(&mut self, key: &str, entries: &[(String, Json)]) -> bool {
        let stands = || entries.iter().any(|(name, _)| name == key);
        if entries.len() < 16 {
            return stands();
        }
        if self.hashes.is_empty() {
            self.hashes.extend(entries.iter().map(|(name, _)| self.keyed.hash_one(name.as_str())));
        }
        !self.hashes.insert(self.keyed.hash_one(key)) && stands()
    }
}

#[cfg(test)]
mod tests {
    use super::{Json, Refused, excerpt};

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
    fn every_value_counts_against_the_allowance_and_is_told_from_malformed_json() {
        let text = br#"{"a":[1,2,{"b":null}],"c":"x"}"#;
        assert_eq!(Json::parse_within(text, 7).unwrap(), Json::parse(text).unwrap());
        assert!(matches!(Json::parse_within(text, 6), Err(Refused::TooMany { most: 6 })));
        assert!(matches!(Json::parse_within(b"[1,", 6), Err(Refused::Malformed(_))));
        assert!(matches!(Json::parse_within(b"[1] 2", 6), Err(Refused::Malformed(_))));
        assert!(matches!(Json::parse_within(b"[0", 2), Err(Refused::Malformed(_))));
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
