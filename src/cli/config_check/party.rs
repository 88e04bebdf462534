//! The networks and pools that a note is about, and lists of names that do not grow without bounds.

/// The maximum number of names in a note.
const MOST: usize = 5;

/// A network or a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    /// The network of this name.
    Network(String),
    /// The pool of this name.
    Pool(String),
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(name) => write!(f, "network {name}"),
            Self::Pool(name) => write!(f, "pool {name}"),
        }
    }
}

/// A note about several networks and pools.
pub(super) struct Note {
    /// Those to whose reports it is added.
    pub(super) about: Vec<Party>,
    /// What it says.
    pub(super) words: String,
}

/// Names, of which only the first are kept.
#[derive(Default)]
pub(super) struct Names {
    pub(super) first: Vec<String>,
    pub(super) count: usize,
}

impl Names {
    /// Adds a name.
    pub(super) fn add(&mut self, name: String) {
        self.count += 1;
        if self.first.len() < MOST {
            self.first.push(name);
        }
    }

    /// Returns the first names, and the number of the others.
    pub(super) fn list(&self) -> String {
        let mut list = self.first.join(", ");
        if self.first.len() < self.count {
            list.push_str(&format!(" and {} more", self.count - self.first.len()));
        }
        list
    }
}
