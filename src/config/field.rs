//! A JSON value together with its path, so that every error about a value can name its place.
//!
//! `null` counts as missing. An empty string does too, where Whereabouts and host-local read it
//! that way. Keys are found in any case of their letters, as these plugins find them.

use super::ConfigError;
use crate::addr::{AddrError, Subnet, parse_address};
use crate::json::Json;
use std::net::IpAddr;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    /// JSON path, such as `ipam.ipRanges[1].range`, or `FILE: data_dir`.
    pub path: String,
    /// The value.
    pub value: &'a Json,
    /// Whether errors may show the value.
    is_shown: bool,
}

type Result<T> = std::result::Result<T, ConfigError>;

impl<'a> Field<'a> {
    pub(crate) fn new(path: impl Into<String>, value: &'a Json) -> Self {
        Self { path: path.into(), value, is_shown: true }
    }

    /// Creates a field that errors must not show. Its file belongs to root, but someone else named
    /// it and sees the error.
    pub(crate) fn hidden(path: impl Into<String>, value: &'a Json) -> Self {
        Self { path: path.into(), value, is_shown: false }
    }

    /// Creates a field for a value inside this one.
    pub(crate) fn inner(&self, path: String, value: &'a Json) -> Self {
        Self { path, value, is_shown: self.is_shown }
    }

    /// Returns the name of a key inside this value, in the form that errors show.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.is_shown { shown(name) } else { "*".to_owned() }
    }

    /// Returns the value, or a part of it, in the form that errors show.
    pub(crate) fn excerpt(&self, value: &Json) -> String {
        if self.is_shown { value.excerpt() } else { value.kind().to_owned() }
    }

    /// Returns the value of a key of this object, or `None` if it is missing, `null` or `""`.
    pub(crate) fn find(&self, key: &str) -> Option<Self> {
        let value = self.value.find_in_any_case(key)?;
        (value.as_str() != Some("")).then(|| self.inner(self.path_of(key), value))
    }

    /// Returns the path of a key inside this value.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            return key.to_owned();
        }
        // A file name and a key have dots of their own.
        let separator =
            if self.path.starts_with('/') && !self.path.contains(": ") { ": " } else { "." };
        format!("{}{separator}{key}", self.path)
    }

    pub(crate) fn wrong(&self, expected: &str) -> ConfigError {
        let found = self.excerpt(self.value);
        ConfigError::meaning(&self.path, format!("{expected}, found {found}"))
    }

    /// Returns the error of a key that does not fit another key, whatever its value is.
    pub(crate) fn clashes(&self, expected: &str) -> ConfigError {
        ConfigError::meaning(&self.path, expected)
    }

    /// Returns the error of an object without a key.
    pub(crate) fn lacks(&self, key: &str) -> ConfigError {
        ConfigError::meaning(&self.path, format!("expected the key {key}, found none"))
    }

    pub(crate) fn text(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong("expected a string"))
    }

    pub(crate) fn boolean(&self) -> Result<bool> {
        match self.value {
            Json::Bool(value) => Ok(*value),
            _ => Err(self.wrong("expected true or false")),
        }
    }

    /// Returns an unsigned number, as the CNI specification defines them for routes.
    pub(crate) fn unsigned(&self) -> Result<u32> {
        let Json::Number(number) = self.value else {
            return Err(self.wrong("expected a number from 0 to 4294967295"));
        };
        match number.as_u64().and_then(|value| u32::try_from(value).ok()) {
            Some(value) => Ok(value),
            None => Err(self.wrong("expected a number from 0 to 4294967295")),
        }
    }

    /// Returns the items of a list, one by one. All their paths together could take many times the
    /// memory of the list.
    pub(crate) fn list(&self) -> Result<impl ExactSizeIterator<Item = Self> + use<'a, '_>> {
        let Json::Array(items) = self.value else {
            return Err(self.wrong("expected a list"));
        };
        Ok(items
            .iter()
            .enumerate()
            .map(|(at, item)| self.inner(format!("{}[{at}]", self.path), item)))
    }

    pub(crate) fn object(&self) -> Result<&Self> {
        match self.value {
            Json::Object(_) => Ok(self),
            _ => Err(self.wrong("expected an object")),
        }
    }

    pub(crate) fn texts(&self) -> Result<Vec<String>> {
        self.list()?.map(|item| item.text().map(str::to_owned)).collect()
    }

    pub(crate) fn parsed<T>(
        &self,
        parse: impl Fn(&str) -> std::result::Result<T, AddrError>,
    ) -> Result<T> {
        let text = self.text()?;
        match parse(text) {
            Ok(value) => Ok(value),
            Err(error) => Err(ConfigError::meaning(
                &self.path,
                format!("{error}, found {}", self.excerpt(self.value)),
            )),
        }
    }

    pub(crate) fn address(&self) -> Result<IpAddr> {
        self.parsed(parse_address)
    }

    /// Parses a CIDR. A bare address becomes a subnet of that one address.
    pub(crate) fn block(&self) -> Result<Subnet> {
        self.parsed(|text| {
            if text.contains('/') {
                return Subnet::parse(text);
            }
            let address = parse_address(text)?;
            Subnet::new(address, crate::addr::Family::of(address).bits())
        })
    }
}

/// Returns the value of a key that has two spellings.
///
/// # Errors
/// Both are there, with different values.
pub(super) fn either<'a>(
    one: Option<Field<'a>>,
    other: Option<Field<'a>>,
) -> Result<Option<Field<'a>>> {
    match (one, other) {
        (Some(one), Some(other)) if one.value != other.value => Err(other
            .clashes("expected the same value in both spellings of this key, or only one of them")),
        (one, other) => Ok(one.or(other)),
    }
}

/// Returns a key as a path shows it, with a limited length.
pub(super) fn shown(name: &str) -> String {
    crate::json::excerpt(name).trim_matches('"').to_owned()
}
