//! A JSON tree for configurations. It keeps the order of the keys, and keys that occur twice in one
//! object.
//!
//! Of two equal keys the last one counts, as for every other program that reads a network
//! configuration. Readers that allocate refuse a key that has two different values, at any depth:
//! [`Json::repeats`] finds it. A verb that only frees addresses continues. The parser limits the
//! nesting to 128, and [`Json::parse_within`] limits the number of values, because a value in
//! memory takes many times its bytes in the text.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

/// What is wrong with a key that has two different values in one object.
pub const TWO_VALUES: &str = "expected one value, found two different ones";

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
    /// An object in the written order. Of equal keys the last one counts.
    Object(Vec<(String, Self)>),
}

impl Json {
    /// Parses exactly one JSON document.
    ///
    /// # Errors
    /// Returns the error of `serde_json`.
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
        let found = self.entries().iter().rfind(|(name, _)| name == key);
        found.map(|(_, value)| value).filter(|value| **value != Self::Null)
    }

    /// Returns the value of `key` in any case of its letters. The spelling `key` itself takes
    /// precedence.
    #[must_use]
    pub fn find_in_any_case(&self, key: &str) -> Option<&Self> {
        self.find(key).or_else(|| {
            let found = self.entries().iter().rfind(|(name, _)| name.eq_ignore_ascii_case(key));
            found.map(|(_, value)| value).filter(|value| **value != Self::Null)
        })
    }

    /// Returns the first key, with its path, that has two different values in one object.
    #[must_use]
    pub fn conflict(&self) -> Option<String> {
        self.repeats().into_iter().find(|repeat| !repeat.is_equal).map(|repeat| repeat.path)
    }

    /// Returns the keys that occur more than once in one object, at any depth.
    #[must_use]
    pub fn repeats(&self) -> Vec<Repeat> {
        let mut found = Vec::new();
        self.note_repeats(&mut Path(Vec::new()), &mut found);
        found
    }

    fn note_repeats<'j>(&'j self, path: &mut Path<'j>, found: &mut Vec<Repeat>) {
        let inner = |step, value: &'j Self, path: &mut Path<'j>, found: &mut Vec<Repeat>| {
            path.0.push(step);
            value.note_repeats(path, found);
            path.0.pop();
        };
        match self {
            Self::Object(entries) => {
                for (first, second) in repeated(entries) {
                    path.0.push(Step::Key(&first.0));
                    if found.len() < MOST_REPEATS {
                        let is_equal = first.1 == second.1;
                        found.push(Repeat { path: path.to_string(), is_equal });
                    }
                    path.0.pop();
                }
                for (key, value) in entries {
                    inner(Step::Key(key), value, path, found);
                }
            }
            Self::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    inner(Step::Item(at), item, path, found);
                }
            }
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => {}
        }
    }

    /// Removes the value of `key` from this object and returns it. Returns `None` if it is missing
    /// or `null`.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        let Self::Object(entries) = self else {
            return None;
        };
        let at = entries.iter().rposition(|(name, _)| name == key)?;
        Some(entries.remove(at).1).filter(|value| *value != Self::Null)
    }

    /// Sets the value of a key of an object, in whatever case it is written there.
    pub fn set(&mut self, key: &str, value: Self) {
        if let Self::Object(entries) = self {
            entries.retain(|(name, _)| !name.eq_ignore_ascii_case(key));
            entries.push((key.to_owned(), value));
        }
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

/// A key that occurs twice in one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// The path of the key.
    pub path: String,
    /// Whether both values are equal.
    pub is_equal: bool,
}

/// The maximum number of repeats that are reported.
const MOST_REPEATS: usize = 100;

/// The maximum number of steps of a path that are shown.
const MOST_STEPS: usize = 16;

/// The place of a value in a document.
struct Path<'j>(Vec<Step<'j>>);

enum Step<'j> {
    Key(&'j str),
    Item(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().take(MOST_STEPS).enumerate() {
            match step {
                Step::Key(key) => {
                    f.write_str(if at == 0 { "" } else { "." })?;
                    f.write_str(excerpt(key).trim_matches('"'))?;
                }
                Step::Item(at) => write!(f, "[{at}]")?,
            }
        }
        f.write_str(if MOST_STEPS < self.0.len() { "..." } else { "" })
    }
}

/// A key of an object with its value.
type Entry = (String, Json);

/// Returns each entry whose key occurred before, together with the earlier entry.
fn repeated(entries: &[Entry]) -> Vec<(&Entry, &Entry)> {
    let mut found = Vec::new();
    // Few keys need no table.
    if entries.len() < 16 {
        for (at, entry) in entries.iter().enumerate() {
            let before = entries[..at].iter().rfind(|(name, _)| *name == entry.0);
            found.extend(before.map(|before| (before, entry)));
        }
        return found;
    }
    let mut last: HashMap<&str, &Entry> = HashMap::with_capacity(entries.len());
    for entry in entries {
        found.extend(last.insert(&entry.0, entry).map(|before| (before, entry)));
    }
    found
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
    /// The text is not JSON.
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
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            entries.push((key, value));
        }
        entries.shrink_to_fit();
        Ok(Json::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::{Json, Refused, Repeat, excerpt};

    #[test]
    fn a_repeated_key_is_found_at_any_depth_and_the_last_value_counts() {
        let json = Json::parse(br#"{"x":[{"a":1,"b":{"c":1,"c":2}}],"y":1,"y":1}"#).unwrap();
        let repeat = |path: &str, is_equal| Repeat { path: path.to_owned(), is_equal };
        assert_eq!(json.repeats(), [repeat("y", true), repeat("x[0].b.c", false)]);
        assert_eq!(json.conflict().as_deref(), Some("x[0].b.c"));
        let json = Json::parse(br#"{"a":1,"a":null,"b":1,"b":2}"#).unwrap();
        assert_eq!(json.find("a"), None);
        assert_eq!(json.find("b"), Some(&Json::Number(2.into())));
        let long: String = (0..40).map(|n| format!("\"k{n}\":1,")).collect();
        let json = Json::parse(format!("{{{long}\"k3\":2}}").as_bytes()).unwrap();
        assert_eq!(json.repeats(), [repeat("k3", false)]);
    }

    #[test]
    fn a_key_in_any_case_is_found_after_the_key_itself() {
        let json = Json::parse(br#"{"RANGE":1,"Range":2,"x":3,"X":4}"#).unwrap();
        assert_eq!(json.find_in_any_case("range"), Some(&Json::Number(2.into())));
        assert_eq!(json.find_in_any_case("x"), Some(&Json::Number(3.into())));
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
