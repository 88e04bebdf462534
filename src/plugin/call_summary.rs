//! The last line of a call in the log: its outcome, its code and its duration. There is one line
//! per call, so that `grep` finds the times of a node.

use crate::cni::{CniError, Outcome};
use crate::ipam::{Allocation, Scope};
use crate::retry::Stopwatch;
use std::cell::RefCell;
use std::fmt::Write;
use tracing::field::display;

/// What one call has done so far.
#[derive(Debug, Default)]
pub struct Report {
    begun: Stopwatch,
    /// The addresses that it gave, freed or checked, and the scope of the last one.
    about: RefCell<(String, Option<Scope>)>,
}

impl Report {
    /// Adds an address that the call is about.
    pub(super) fn names(&self, allocation: &Allocation) {
        let mut about = self.about.borrow_mut();
        let (addresses, scope) = &mut *about;
        let separator = if addresses.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(addresses, "{separator}{}/{}", allocation.address, allocation.record.prefix);
        *scope = Some(allocation.scope.clone());
    }

    /// Writes the line. A call that held nothing or only asked is logged at debug level: a runtime
    /// repeats the DELs of a sandbox that is gone, and asks for the STATUS every few seconds.
    pub fn write(&self, outcome: &Outcome) {
        let (about, time) = (self.about.borrow(), self.begun.elapsed());
        let (addresses, scope) = (&about.0, about.1.as_ref().map(display));
        match outcome {
            Outcome::Failed(CniError { code, msg, details }) => {
                tracing::error!(code = code.number(), ?time, "failed: {msg}: {details}");
            }
            Outcome::Done if addresses.is_empty() => {
                tracing::debug!(addresses = "none", code = 0, ?time, "done")
            }
            Outcome::Done => tracing::info!(%addresses, scope, code = 0, ?time, "done"),
        }
    }
}
