//! What callers did and were told, in one order, and the replay that finds an address with two
//! holders.
//!
//! A holder has an address from the moment when its ADD's result was read until the moment before
//! its DEL begins, or before its sandbox ends. This is shorter than it really has it, so a finding
//! never depends on timing. It knows no store.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Mutex;

/// One event of a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Invoked(&'static str),
    /// An ADD was answered.
    Printed(Vec<IpAddr>),
    /// A call failed with this code, or without an answer.
    Failed(&'static str, Option<u64>),
    /// CHECK found what was given.
    Checked,
    /// No promise is valid any more: a DEL begins, or the sandbox is gone.
    Ended,
    /// A DEL was answered.
    Freed,
}

/// The events, see the module.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: Mutex<Vec<(String, What)>>,
}

/// The end of a history.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Promises that are still valid.
    pub(crate) held: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Holders whose last event is the answer of a DEL.
    pub(crate) freed: BTreeSet<String>,
}

impl History {
    pub(crate) fn note(&self, holder: &str, what: What) {
        self.events.lock().unwrap().push((holder.to_owned(), what));
    }

    /// Replays the history.
    ///
    /// # Errors
    ///
    /// Which promise was broken, with all events of the holders concerned.
    pub(crate) fn replay(&self) -> Result<Outcome, String> {
        let events = self.events.lock().unwrap();
        let mut holders: BTreeMap<IpAddr, &str> = BTreeMap::new();
        let mut outcome = Outcome::default();
        for (at, (holder, what)) in events.iter().enumerate() {
            match what {
                What::Printed(addresses) => {
                    for address in addresses {
                        if let Some(other) =
                            holders.insert(*address, holder).filter(|other| *other != holder)
                        {
                            return Err(tell(
                                &events,
                                at,
                                &format!("{address} has two holders"),
                                &[holder, other],
                            ));
                        }
                    }
                    let addresses: BTreeSet<IpAddr> = addresses.iter().copied().collect();
                    let before = outcome.held.insert(holder.clone(), addresses.clone());
                    if before.as_ref().is_some_and(|before| *before != addresses) {
                        return Err(tell(
                            &events,
                            at,
                            &format!("another answer than {before:?}"),
                            &[holder],
                        ));
                    }
                }
                What::Ended => {
                    for address in outcome.held.remove(holder).unwrap_or_default() {
                        holders.remove(&address);
                    }
                }
                What::Freed => drop(outcome.freed.insert(holder.clone())),
                What::Invoked("ADD") => drop(outcome.freed.remove(holder)),
                What::Failed("CHECK", Some(102..=104)) if outcome.held.contains_key(holder) => {
                    return Err(tell(&events, at, "CHECK denies what was printed", &[holder]));
                }
                What::Invoked(_) | What::Failed(..) | What::Checked => {}
            }
        }
        Ok(outcome)
    }

    /// Returns all events of these holders.
    pub(crate) fn of(&self, holders: &[&str]) -> String {
        let events = self.events.lock().unwrap();
        tell(&events, events.len(), "all that happened", holders)
    }
}

fn tell(events: &[(String, What)], until: usize, what: &str, holders: &[&str]) -> String {
    let concerned = events
        .iter()
        .take(until + 1)
        .enumerate()
        .filter(|(_, (holder, _))| holders.contains(&holder.as_str()));
    let lines: Vec<String> =
        concerned.map(|(at, (holder, what))| format!("{at:>6} {holder} {what:?}")).collect();
    format!("{what}:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(events: &[(&str, What)]) -> History {
        let history = History::default();
        events.iter().for_each(|(holder, what)| history.note(holder, what.clone()));
        history
    }

    fn printed(address: &str) -> What {
        What::Printed(vec![address.parse().unwrap()])
    }

    #[test]
    fn two_holders_are_found() {
        let twice = history(&[
            ("a", printed("10.0.0.1")),
            ("b", printed("10.0.0.2")),
            ("b", printed("10.0.0.2")),
            ("c", printed("10.0.0.1")),
        ]);
        let error = twice.replay().unwrap_err();
        assert!(error.starts_with("10.0.0.1 has two holders:"), "{error}");
        let early =
            history(&[("a", printed("10.0.0.1")), ("b", printed("10.0.0.1")), ("a", What::Ended)]);
        assert!(early.replay().is_err());
        let fine = history(&[
            ("a", printed("10.0.0.1")),
            ("a", What::Ended),
            ("b", printed("10.0.0.1")),
            ("a", What::Freed),
        ]);
        let outcome = fine.replay().unwrap();
        assert_eq!((outcome.held.len(), outcome.freed.len()), (1, 1));
    }

    #[test]
    fn another_answer_and_a_check_that_denies_are_found() {
        assert!(
            history(&[("a", printed("10.0.0.1")), ("a", printed("10.0.0.2"))]).replay().is_err()
        );
        assert!(
            history(&[("a", printed("10.0.0.1")), ("a", What::Failed("CHECK", Some(102)))])
                .replay()
                .is_err()
        );
        assert!(history(&[("a", What::Failed("CHECK", Some(102)))]).replay().is_ok());
        let again = history(&[("a", What::Freed), ("a", What::Invoked("ADD"))]);
        assert!(again.replay().unwrap().freed.is_empty());
    }
}
