//! The errors of a configuration. Every error contains its place: a JSON path, or the name of the
//! variable or file.

/// A mistake that makes a configuration unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ConfigError {
    /// The kind of the mistake.
    pub problem: Problem,
    /// A JSON path, or the name of a variable or file.
    pub place: String,
    /// What was expected, followed by the value.
    pub reason: String,
    /// What to do, where there is more to say.
    pub hint: Option<String>,
}

/// The kinds of mistakes. The CNI error code depends on the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// A key or value that must not be ignored, but is not supported.
    Unsupported,
    /// `CNI_ARGS` is malformed.
    Args,
    /// A file cannot be read.
    Read,
    /// The text is not JSON, or not a document of the expected shape.
    Shape,
    /// The JSON is valid, but its meaning is not.
    Meaning,
}

/// The maximum number of mistakes that are kept. Further ones are only counted.
const MOST: usize = 100;

/// All mistakes of a configuration. Never empty when used as an error. The plugin reports the first
/// one, `config check` reports all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes {
    first: Vec<ConfigError>,
    /// The number of further mistakes.
    more: usize,
}

impl Mistakes {
    /// Returns the first mistakes, in the order in which they were found.
    #[must_use]
    pub fn first(&self) -> &[ConfigError] {
        &self.first
    }

    /// Returns the number of further mistakes.
    #[must_use]
    pub const fn more(&self) -> usize {
        self.more
    }

    /// Returns whether there are no mistakes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Appends other mistakes.
    pub fn add(&mut self, mistakes: impl Into<Self>) {
        let mut mistakes = mistakes.into();
        let room = MOST.saturating_sub(self.first.len()).min(mistakes.first.len());
        self.more += mistakes.more + mistakes.first.len() - room;
        self.first.extend(mistakes.first.drain(..room));
    }

    /// Returns the same mistakes at other places.
    #[must_use]
    pub(crate) fn at(mut self, other: impl Fn(&str) -> String) -> Self {
        for mistake in &mut self.first {
            mistake.place = other(&mistake.place);
        }
        self
    }

    /// Returns the value of a result, or notes its mistakes and returns `None`.
    pub(crate) fn note<T, E: Into<Self>>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(mistakes) => {
                self.add(mistakes);
                None
            }
        }
    }

    /// Returns the parsed values of all items, or all mistakes among them.
    pub(crate) fn each<I, T, E: Into<Self>>(
        items: impl IntoIterator<Item = I>,
        mut parse: impl FnMut(I) -> Result<T, E>,
    ) -> Result<Vec<T>, Self> {
        let mut mistakes = Self::default();
        let values = items.into_iter().filter_map(|item| mistakes.note(parse(item))).collect();
        mistakes.none_or(values)
    }

    /// Returns a value if there are no mistakes.
    pub(crate) fn none_or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<ConfigError> for Mistakes {
    fn from(error: ConfigError) -> Self {
        Self { first: vec![error], more: 0 }
    }
}

impl From<Mistakes> for ConfigError {
    fn from(mistakes: Mistakes) -> Self {
        let more = (mistakes.first.len() + mistakes.more).saturating_sub(1);
        let mut first =
            mistakes.first.into_iter().next().unwrap_or_else(|| Self::meaning("ipam", "not valid"));
        if 0 < more {
            first.reason = format!("{} (and {more} more)", first.reason);
            let all = "\"hereabouts config check\" shows all mistakes";
            first.hint =
                Some(first.hint.map_or_else(|| all.to_owned(), |hint| format!("{hint}; {all}")));
        }
        first
    }
}

impl ConfigError {
    pub(crate) fn meaning(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { problem: Problem::Meaning, place: place.into(), reason: reason.into(), hint: None }
    }

    /// Adds advice.
    #[must_use]
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn unsupported(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            problem: Problem::Unsupported,
            place: place.into(),
            reason: reason.into(),
            hint: None,
        }
    }
}
