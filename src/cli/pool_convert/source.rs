//! An object that is converted: its fields, and what is said about them.

use crate::config::{ConfigError, Field, Mistakes};
use crate::json::{Json, excerpt};

/// A result with all mistakes of an object.
pub(super) type Result<T> = std::result::Result<T, Mistakes>;

/// What to do about addresses that are held.
const STILL_HELD: &str = "before a network uses the pool, restart the pods that hold these addresses, or add the addresses to exclude";

/// What is said about an object that can be converted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remark {
    /// A setting without a counterpart: its path, and why or what to do.
    Lost(String, String),
    /// Something to know that is no loss.
    Note(String),
}

/// A key without a counterpart.
pub(super) struct Unmatched {
    key: &'static str,
    /// The value that needs no counterpart. By default, each empty value and `false`.
    harmless: Option<&'static str>,
    /// Why, or what to do.
    why: &'static str,
}

/// Returns a key without a counterpart.
pub(super) const fn unmatched(key: &'static str, why: &'static str) -> Unmatched {
    Unmatched { key, harmless: None, why }
}

impl Unmatched {
    /// Sets the value that needs no counterpart.
    pub(super) const fn unless(self, value: &'static str) -> Self {
        Self { harmless: Some(value), ..self }
    }

    fn is_harmless(&self, value: &Json) -> bool {
        match (self.harmless, value) {
            (_, Json::Null) => true,
            (Some(harmless), Json::String(text)) => text.is_empty() || text == harmless,
            (Some(harmless), value) => value.excerpt() == harmless,
            (None, value) => is_empty(value),
        }
    }
}

/// An object that is converted.
pub(super) struct Source<'s> {
    /// The version of its API, without the group.
    pub(super) version: &'s str,
    /// Its namespace, if it is given.
    pub(super) namespace: Option<&'s str>,
    /// Its `metadata`.
    pub(super) metadata: Field<'s>,
    /// Its `spec`.
    pub(super) spec: Field<'s>,
    /// Its `status`, if there is one.
    pub(super) status: Option<Field<'s>>,
    remarks: Vec<Remark>,
}

impl<'s> Source<'s> {
    /// Returns the parts of an object.
    ///
    /// # Errors
    /// Fails if `spec` is missing, or if a part is not an object.
    pub(super) fn new(object: &'s Json, version: &'s str) -> Result<Self> {
        let part = |key| object.find(key).map(|value| Field::new(key, value));
        let metadata = part("metadata").unwrap_or_else(|| Field::new("metadata", &Json::Null));
        let spec = part("spec")
            .ok_or_else(|| ConfigError::meaning("spec", "expected an object, found none"))?;
        spec.object()?;
        let namespace = metadata.find("namespace").and_then(|field| field.value.as_str());
        let status = part("status");
        Ok(Self { version, namespace, metadata, spec, status, remarks: Vec::new() })
    }

    /// Returns what is said about the object.
    pub(super) fn into_remarks(self) -> Vec<Remark> {
        self.remarks
    }

    /// Names a setting without a counterpart.
    pub(super) fn lost(&mut self, path: &str, why: impl Into<String>) {
        self.remarks.push(Remark::Lost(path.to_owned(), why.into()));
    }

    /// Notes something that is no loss.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.remarks.push(Remark::Note(text.into()));
    }

    /// Names every key of an object that was not read and has a value of consequence.
    pub(super) fn rest(&mut self, object: &Field<'_>, read: &[&str], unmatched: &[Unmatched]) {
        for (key, value) in object.value.entries() {
            if read.iter().any(|name| name.eq_ignore_ascii_case(key)) {
                continue;
            }
            let path = object.path_of(&object.key(key));
            match unmatched.iter().find(|known| known.key == key) {
                Some(known) if known.is_harmless(value) => {}
                Some(known) => self.lost(&path, with_value(value, known.why)),
                None if is_empty(value) => {}
                None => self.lost(&path, with_value(value, "the key is unknown")),
            }
        }
    }

    /// Names what an object says that pods or nodes hold.
    pub(super) fn held(&mut self, object: Option<&Field<'_>>, key: &str, what: &str) {
        let Some(field) = object.and_then(|object| object.find(key)) else {
            return;
        };
        let count = match field.value {
            Json::Array(items) => items.len(),
            value => value.entries().len(),
        };
        self.held_count(&field.path, count, what);
    }

    /// Names that pods or nodes hold so many addresses or blocks.
    pub(super) fn held_count(&mut self, path: &str, count: usize, what: &str) {
        if 0 < count {
            let counted = crate::cli::output::count(count, what);
            self.lost(path, format!("{counted}: {STILL_HELD}"));
        }
    }
}

/// Returns a reason with the value in front of it, if the value is short.
fn with_value(value: &Json, why: &str) -> String {
    match value {
        Json::Array(_) | Json::Object(_) | Json::Null => why.to_owned(),
        value => format!("{}: {why}", bare(value)),
    }
}

/// Returns a value for messages, a text without quotes.
pub(super) fn bare(value: &Json) -> String {
    match value {
        Json::String(text) => shown(text),
        value => value.excerpt(),
    }
}

/// Returns a text for messages, shortened and without control characters.
pub(super) fn shown(text: &str) -> String {
    let shown = excerpt(text);
    let inner = shown.strip_prefix('"').and_then(|shown| shown.strip_suffix('"'));
    inner.unwrap_or(&shown).replace("\\\"", "\"").replace("\\'", "'")
}

/// Returns whether a value sets nothing.
fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Bool(true) => false,
        Json::Number(number) => number.as_u64() == Some(0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(entries) => entries.is_empty(),
    }
}
