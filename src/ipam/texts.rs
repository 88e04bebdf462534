//! Texts that many records have in common, such as the names of nodes and namespaces: each is kept
//! once.

use std::collections::HashSet;
use std::rc::Rc;

/// The fewest texts at which those that are not used any more are looked for.
const FEW: usize = 1024;

/// One copy of each text.
#[derive(Debug, Default)]
pub struct Texts {
    known: HashSet<Rc<str>>,
    /// The number of texts at which those that are not used any more are dropped.
    limit: usize,
}

impl Texts {
    /// Returns the one copy of a text.
    pub fn shared(&mut self, text: &str) -> Rc<str> {
        if let Some(known) = self.known.get(text) {
            return Rc::clone(known);
        }
        if self.limit <= self.known.len() {
            self.known.retain(|text| 1 < Rc::strong_count(text));
            self.known.shrink_to_fit();
            self.limit = self.known.len().saturating_mul(2).max(FEW);
        }
        let text: Rc<str> = text.into();
        self.known.insert(Rc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_is_kept_once_and_what_is_unused_goes() {
        let mut texts = Texts::default();
        let first = texts.shared("n1");
        assert!(Rc::ptr_eq(&first, &texts.shared("n1")));
        for number in 0..100_000 {
            texts.shared(&format!("n{number}"));
        }
        assert!(texts.known.len() <= FEW + 2, "{}", texts.known.len());
        assert!(Rc::ptr_eq(&first, &texts.shared("n1")));
    }
}
