//! What can be wrong with a configuration. Every error holds the place: a JSON
//! path, or the name of the variable or file.

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ConfigError {
    /// What kind of mistake it is.
    pub problem: Problem,
    /// JSON path, variable or file.
    pub place: String,
    /// What was expected, the value last.
    pub reason: String,
    /// What to do, where there is more to say.
    pub hint: Option<String>,
}

/// The kinds of mistakes, as the protocol tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// A key or value that we refuse to ignore.
    Unsupported,
    /// `CNI_ARGS` are malformed.
    Args,
    /// A file cannot be read.
    Read,
    /// Not JSON, or not the shape of the document.
    Shape,
    /// JSON is fine, its meaning is not.
    Meaning,
}

/// So many mistakes are told; the others are counted.
const MOST: usize = 100;

/// All mistakes of a configuration; never empty as an error. The plugin says
/// the first, `config check` all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes {
    first: Vec<ConfigError>,
    /// How many there are beyond those.
    more: usize,
}

impl Mistakes {
    /// The first mistakes, in the order found.
    #[must_use]
    pub fn first(&self) -> &[ConfigError] {
        &self.first
    }

    /// How many there are beyond those.
    #[must_use]
    pub const fn more(&self) -> usize {
        self.more
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Adds other ones.
    pub fn add(&mut self, mistakes: impl Into<Self>) {
        let mut mistakes = mistakes.into();
        let room = MOST.saturating_sub(self.first.len()).min(mistakes.first.len());
        self.more += mistakes.more + mistakes.first.len() - room;
        self.first.extend(mistakes.first.drain(..room));
    }

    /// The value, or `None` and the mistakes are noted.
    pub(super) fn note<T, E: Into<Self>>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(mistakes) => {
                self.add(mistakes);
                None
            }
        }
    }

    /// The values of all items, or every mistake among them.
    pub(super) fn each<I, T, E: Into<Self>>(
        items: impl IntoIterator<Item = I>,
        mut parse: impl FnMut(I) -> Result<T, E>,
    ) -> Result<Vec<T>, Self> {
        let mut mistakes = Self::default();
        let values = items.into_iter().filter_map(|item| mistakes.note(parse(item))).collect();
        if mistakes.is_empty() { Ok(values) } else { Err(mistakes) }
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
        let mut first = mistakes.first.into_iter().next().unwrap_or_else(|| Self::meaning("ipam", "not valid"));
        if 0 < more {
            first.reason = format!("{} (and {more} more)", first.reason);
            let all = "\"hereabouts config check\" shows all mistakes";
            first.hint = Some(first.hint.map_or_else(|| all.to_owned(), |hint| format!("{hint}; {all}")));
        }
        first
    }
}

impl ConfigError {
    pub(crate) fn meaning(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { problem: Problem::Meaning, place: place.into(), reason: reason.into(), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(super) fn unsupported(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { problem: Problem::Unsupported, place: place.into(), reason: reason.into(), hint: None }
    }
}
