//! Reads YAML as kubectl reads it, into the tree of `json`.
//!
//! kubectl parses with a port of libyaml, and so does this module: each accepts what the other one
//! accepts. The types of plain scalars are those of YAML 1.1, and the last of two equal keys wins.
//! Every text needs bounded memory: values, nesting and the copies that aliases make have limits.

mod scalar;

use crate::json::Json;
use libyaml_safer::{Encoding, EventData, Mark, Parser, ScalarStyle};
use std::collections::HashMap;
use std::io::{BufReader, Chain, Read};

/// The maximum nesting, the same as that of JSON.
const DEEPEST: usize = 128;

/// The maximum size of all copies that anchors and aliases make, in bytes.
const MOST_COPIED: usize = 8 * 1024 * 1024;

/// The size of a value without its text, in bytes, for [`MOST_COPIED`].
const OF_A_VALUE: usize = 64;

/// The reasons why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// The text is not YAML, or a part of it has no meaning in JSON.
    #[error("{reason} (line {line}, column {column})")]
    Malformed {
        /// What is wrong.
        reason: String,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
    },
    /// The text has too many values.
    #[error("expected at most {most} values, found more")]
    TooMany {
        /// The maximum number of values.
        most: usize,
    },
}

/// The documents of a text, one by one. Ends after the first error.
pub struct Documents<'t> {
    parser: Parser<BufReader<Chain<&'t [u8], &'static [u8]>>>,
    most: usize,
    left: usize,
    copied: usize,
    /// The anchored values of this document, with their sizes.
    anchors: HashMap<String, (Json, usize)>,
    /// The error that ends the documents, if it is known from the start.
    refused: Option<YamlError>,
    is_ended: bool,
}

impl<'t> Documents<'t> {
    /// Reads a text of at most `most` values, keys included.
    #[must_use]
    pub fn new(text: &'t str, most: usize) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut parser = Parser::new();
        parser.set_encoding(Encoding::Utf8);
        // The parser aborts the process on some texts that end inside a line. It keeps all
        // characters that its source has ready, each in four bytes.
        let end: &'static [u8] = if text.ends_with('\n') { b"" } else { b"\n" };
        parser.set_input(BufReader::with_capacity(4096, text.as_bytes().chain(end)));
        Self {
            parser,
            most,
            left: most,
            copied: 0,
            anchors: HashMap::new(),
            refused: tag_before_comma(text),
            is_ended: false,
        }
    }

    /// Returns the next document, or `None` after the last one.
    fn document(&mut self) -> Result<Option<Json>, YamlError> {
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        loop {
            let (event, mark) = self.event()?;
            match event {
                EventData::StreamEnd => return Ok(None),
                EventData::StreamStart { .. } | EventData::DocumentEnd { .. } => {}
                EventData::DocumentStart { .. } => {
                    self.anchors.clear();
                    let (event, mark) = self.event()?;
                    return self.value(event, mark, DEEPEST).map(Some);
                }
                _ => return Err(malformed("expected a document", mark)),
            }
        }
    }

    fn event(&mut self) -> Result<(EventData, Mark), YamlError> {
        match self.parser.parse() {
            Ok(event) => Ok((event.data, event.start_mark)),
            Err(error) => {
                let mark = error.problem_mark().or(error.context_mark()).unwrap_or_default();
                Err(malformed(error.problem(), mark))
            }
        }
    }

    /// Reads the value that begins with this event. `deeper` is the number of levels that may
    /// follow.
    fn value(&mut self, event: EventData, mark: Mark, deeper: usize) -> Result<Json, YamlError> {
        self.left = self.left.checked_sub(1).ok_or(YamlError::TooMany { most: self.most })?;
        let (anchor, value) = match event {
            EventData::Scalar { anchor, tag, value, style, .. } => {
                let is_plain = style == ScalarStyle::Plain;
                let resolved = scalar::resolve(value, tag.as_deref(), is_plain);
                (anchor, resolved.map_err(|reason| malformed(reason, mark))?)
            }
            EventData::SequenceStart { anchor, .. } => {
                (anchor, self.sequence(below(deeper, mark)?)?)
            }
            EventData::MappingStart { anchor, .. } => (anchor, self.mapping(below(deeper, mark)?)?),
            EventData::Alias { anchor } => return self.alias(&anchor, mark),
            _ => return Err(malformed("expected a value", mark)),
        };
        if let Some(anchor) = anchor {
            let size = size(&value);
            self.copy(size, mark)?;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    fn sequence(&mut self, deeper: usize) -> Result<Json, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.event()? {
                (EventData::SequenceEnd, _) => return Ok(Json::Array(items)),
                (event, mark) => items.push(self.value(event, mark, deeper)?),
            }
        }
    }

    fn mapping(&mut self, deeper: usize) -> Result<Json, YamlError> {
        let mut entries = Entries::default();
        loop {
            let (event, mark) = self.event()?;
            if event == EventData::MappingEnd {
                return Ok(Json::Object(entries.list));
            }
            let merges = matches!(
                &event,
                EventData::Scalar { tag: None, value, style: ScalarStyle::Plain, .. } if value == "<<"
            );
            let key = self.value(event, mark, deeper)?;
            let (event, value_mark) = self.event()?;
            let value = self.value(event, value_mark, deeper)?;
            if merges {
                entries.merge(value).map_err(|reason| malformed(reason, value_mark))?;
            } else {
                entries.set(key_text(key).map_err(|reason| malformed(reason, mark))?, value);
            }
        }
    }

    fn alias(&mut self, anchor: &str, mark: Mark) -> Result<Json, YamlError> {
        let Some((value, size)) = self.anchors.get(anchor) else {
            return Err(malformed("expected an alias of an anchor above it", mark));
        };
        let (value, size) = (value.clone(), *size);
        self.copy(size, mark)?;
        Ok(value)
    }

    /// Counts the copy of a value.
    fn copy(&mut self, size: usize, mark: Mark) -> Result<(), YamlError> {
        self.copied = self.copied.saturating_add(size);
        if MOST_COPIED < self.copied {
            return Err(malformed("expected aliases that stand for at most 8 MiB", mark));
        }
        Ok(())
    }
}

impl Iterator for Documents<'_> {
    type Item = Result<Json, YamlError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_ended {
            return None;
        }
        let document = self.document().transpose();
        self.is_ended = !matches!(document, Some(Ok(_)));
        document
    }
}

/// The entries of a mapping. The last value of a key wins, at the place of the first.
#[derive(Default)]
struct Entries {
    list: Vec<(String, Json)>,
    /// The place of each key, once there are many.
    places: HashMap<String, usize>,
}

impl Entries {
    fn set(&mut self, key: String, value: Json) {
        let place = if self.list.len() < 16 {
            self.list.iter().position(|(held, _)| *held == key)
        } else {
            if self.places.is_empty() {
                let places = self.list.iter().enumerate();
                self.places.extend(places.map(|(at, (key, _))| (key.clone(), at)));
            }
            self.places.get(&key).copied()
        };
        match place.and_then(|at| self.list.get_mut(at)) {
            Some((_, held)) => *held = value,
            None => {
                if !self.places.is_empty() {
                    self.places.insert(key.clone(), self.list.len());
                }
                self.list.push((key, value));
            }
        }
    }

    /// Carries out the key `<<` of YAML 1.1.
    fn merge(&mut self, value: Json) -> Result<(), &'static str> {
        match value {
            Json::Object(entries) => {
                entries.into_iter().for_each(|(key, value)| self.set(key, value));
                Ok(())
            }
            // The first mapping of the list wins.
            Json::Array(items) => items.into_iter().rev().try_for_each(|item| match item {
                Json::Object(_) => self.merge(item),
                _ => Err("expected a mapping to merge"),
            }),
            _ => Err("expected a mapping to merge"),
        }
    }
}

/// Returns a key as JSON has it.
fn key_text(key: Json) -> Result<String, &'static str> {
    match key {
        Json::String(text) => Ok(text),
        Json::Bool(value) => Ok(value.to_string()),
        Json::Number(number) => Ok(number
            .as_f64()
            .filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15)
            .map_or_else(|| number.to_string(), |float| format!("{float:.0}"))),
        Json::Null | Json::Array(_) | Json::Object(_) => Err("expected a key that is a text"),
    }
}

fn below(deeper: usize, mark: Mark) -> Result<usize, YamlError> {
    deeper.checked_sub(1).ok_or_else(|| malformed("expected at most 128 levels", mark))
}

fn size(value: &Json) -> usize {
    let inner = match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(size).sum(),
        Json::Object(entries) => entries.iter().map(|(key, value)| key.len() + size(value)).sum(),
    };
    inner + OF_A_VALUE
}

fn malformed(reason: impl Into<String>, mark: Mark) -> YamlError {
    YamlError::Malformed { reason: reason.into(), line: mark.line + 1, column: mark.column + 1 }
}

/// Finds a tag that a comma ends, such as in `[!a, b]`. kubectl refuses it; the parser that is used
/// here has no code for it and stops the process.
fn tag_before_comma(text: &str) -> Option<YamlError> {
    let of_a_tag = |byte: &u8| {
        byte.is_ascii_alphanumeric() || b"-_;/?:@&=+$.!~*'()%".contains(byte) || !byte.is_ascii()
    };
    let bytes = text.as_bytes();
    // The place of a tag whose end has not come yet.
    let mut tag = None;
    for (at, byte) in bytes.iter().enumerate() {
        tag = match (tag, byte) {
            (Some(start), b',') => {
                let before = bytes.get(..start).unwrap_or_default();
                let line = before.iter().filter(|byte| **byte == b'\n').count();
                let column = before.iter().rev().take_while(|byte| **byte != b'\n').count();
                let (line, column) = (line as u64 + 1, column as u64 + 1);
                let reason = "expected a space after a tag".to_owned();
                return Some(YamlError::Malformed { reason, line, column });
            }
            (Some(start), byte) if of_a_tag(byte) => Some(start),
            (None, b'!') if may_begin_a_tag(bytes.get(..at).unwrap_or_default()) => Some(at),
            _ => None,
        };
    }
    None
}

/// Returns whether a `!` after this text may begin a tag. Inside of a plain scalar, as in `a !b, c`,
/// it does not: there a word stands before it that is neither an anchor, an alias or a tag nor ends
/// with what ends a value. In a comment or in quotes it does not either, but that is not known here.
///
/// It reads back to the beginning of that word, and not of the line. So all calls for one text
/// together read it about once.
fn may_begin_a_tag(before: &[u8]) -> bool {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let ends_a_value = |byte: u8| b"[]{},:?-\"'%@`&*!".contains(&byte) || !byte.is_ascii();
    let is_of_a_node = |byte: &u8| b"&*!".contains(byte) || !byte.is_ascii();
    let blanks = before.iter().rev().take_while(|byte| is_blank(byte)).count();
    let mut word = before[..before.len() - blanks]
        .iter()
        .rev()
        .take_while(|byte| !is_blank(byte) && !matches!(byte, b'\n' | b'\r'))
        .peekable();
    match word.peek() {
        None => true,
        Some(last) if blanks == 0 || ends_a_value(**last) => ends_a_value(**last),
        Some(_) => word.any(is_of_a_node),
    }
}

#[cfg(test)]
mod tests;
