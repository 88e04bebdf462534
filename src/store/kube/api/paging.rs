//! The place at which a list continues, page by page, and the check that the list ends: a server,
//! or a cache in front of it, that names the same place twice would be read forever.

use crate::retry::Deadline;
use std::collections::HashSet;

/// The maximum number of pages of one list. With 500 objects per page they are ten million objects,
/// more than etcd can hold.
const MOST_PAGES: usize = 20_000;

/// A place in a list, see the module. The default is the start of a list.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// The server's name for the next page; `None` for the first.
    next: Option<String>,
    /// All places that the server has named.
    named: HashSet<String>,
    is_ended: bool,
}

impl Place {
    /// Returns whether the last page was read.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Ends the list where it is.
    pub(crate) fn end(&mut self) {
        self.is_ended = true;
    }

    /// Returns the server's name for the next page; `None` for the first.
    pub(crate) fn token(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// Returns whether there is time for another page. The first page is always requested, because
    /// a call makes at least one attempt.
    pub(crate) fn has_time(&self, deadline: &Deadline) -> bool {
        self.next.is_none() || !deadline.left().is_zero()
    }

    /// Moves to the place where the server says that the list continues.
    ///
    /// # Errors
    /// The reason why the list would not end, in words.
    pub(crate) fn go_on(&mut self, next: Option<String>) -> Result<(), &'static str> {
        let Some(next) = next else {
            self.is_ended = true;
            return Ok(());
        };
        if !self.named.insert(next.clone()) {
            return Err("the list repeats a page");
        }
        if MOST_PAGES < self.named.len() {
            return Err("the list has more pages than any list of addresses");
        }
        self.next = Some(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_place_that_comes_again_is_an_error_and_so_is_a_list_without_end() {
        let token = |number: usize| Some(number.to_string());
        let mut place = Place::default();
        for number in 0..3 {
            assert_eq!(place.go_on(token(number)), Ok(()));
        }
        assert!(place.go_on(token(1)).is_err(), "not only the last one");
        let mut place = Place::default();
        let pages = (0..).map(token).take_while(|next| place.go_on(next.clone()).is_ok()).count();
        assert_eq!(pages, MOST_PAGES);
    }

    #[test]
    fn the_first_page_needs_no_time_and_the_last_ends_the_list() {
        let (mut place, passed) = (Place::default(), Deadline::after(Duration::ZERO));
        assert!(place.has_time(&passed) && place.token().is_none());
        assert_eq!(place.go_on(Some("a".to_owned())), Ok(()));
        assert!(!place.has_time(&passed) && !place.is_ended() && place.token() == Some("a"));
        assert_eq!(place.go_on(None), Ok(()));
        assert!(place.is_ended());
    }
}
