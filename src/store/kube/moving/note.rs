//! The node's note about the Move: what this node knows of the state, durably.
//!
//! An address that is given while addresses are shown, and that is not shown, is given twice. So a
//! node never goes back to a state that it has left. What a node knows is ordered by the time of the
//! object's creation and by its generation. An answer that is older, or that says that the object is
//! gone while addresses are shown, comes from a cluster that was restored to an older state: an ADD
//! is refused.
//!
//! ```text
//! no note, or one without shown addresses, older than a minute   ADD asks the API server
//! a note with shown addresses                                    each ADD asks
//! any note                                                       DEL asks nothing
//! ```

use crate::retry::Deadline;
use crate::store::StoreError;
use crate::store::kube::KubeStore;
use crate::store::kube::node_state::State;
use crate::store::kube::node_state::slices::Moment;
use crate::store::kube::objects::move_object::{MoveObject, MoveState};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

const MOVE: &str = "move";
/// For how long a note is enough for an ADD, if no addresses are shown.
const FRESH: Duration = Duration::from_secs(60);
/// How long an ADD waits for an answer if the note is enough without one.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a node has noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The object; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known: Option<Known>,
    /// When the API server was asked.
    looked: Moment,
}

/// The state of a Move, and where it stands among all that a node can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    /// When the object was created, as the API server writes it (RFC 3339, UTC, whole seconds).
    creation_timestamp: String,
    uid: String,
    generation: u64,
    state: MoveState,
}

impl Known {
    fn of(object: &MoveObject) -> Self {
        let metadata = &object.metadata;
        Self {
            creation_timestamp: metadata.creation_timestamp.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: object.spec.generation,
            state: object.spec.state,
        }
    }

    fn is_older_than(&self, other: &Self) -> bool {
        let order = |known: &Self| (known.creation_timestamp.clone(), known.generation);
        order(self) < order(other)
    }

    fn in_words(&self) -> String {
        let Self { creation_timestamp, generation, state, .. } = self;
        format!("the Move of {creation_timestamp} in generation {generation} ({state})")
    }
}

impl Note {
    fn shows_addresses(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.state.shows_addresses())
    }

    fn state(&self) -> Option<MoveState> {
        self.known.as_ref().map(|known| known.state)
    }

    fn is_fresh(&self, now: &Moment) -> bool {
        self.looked.before(now).is_some_and(|ago| ago < FRESH)
    }
}

/// Returns what a node knows after an answer. `answer` is `None` if there is no object.
fn compare(noted: Option<&Known>, answer: Option<Known>) -> Result<Option<Known>, StoreError> {
    match (noted, answer) {
        (Some(noted), Some(answer)) if answer.is_older_than(noted) => {
            Err(set_back(noted, &format!("the API server has {}", answer.in_words())))
        }
        (Some(noted), None) => match noted.state {
            // Its deletion gives no address to Whereabouts again.
            MoveState::Finished => Ok(Some(noted.clone())),
            // Whereabouts has all nodes, and who deletes the Move says that hereabouts serves none of
            // its networks.
            MoveState::Ended => Ok(None),
            MoveState::Shared | MoveState::Closing | MoveState::Opening => {
                Err(set_back(noted, "the API server has none"))
            }
        },
        (_, answer) => Ok(answer),
    }
}

fn set_back(noted: &Known, found: &str) -> StoreError {
    StoreError::MoveSetBack {
        reason: format!("this node has seen {}, and {found}", noted.in_words()),
    }
}

impl State {
    /// Returns the note. A damaged one counts as lost: the API server is asked.
    fn note_of_move(&self) -> Result<Option<Note>, StoreError> {
        let Some(bytes) = self.read_unless_damaged(Path::new(MOVE))? else { return Ok(None) };
        let note = serde_json::from_slice(&bytes);
        if let Err(error) = &note {
            tracing::error!(%error, "the note about the move is damaged");
        }
        Ok(note.ok())
    }

    /// Writes the note durably, unless another call has noted something newer meanwhile. Returns
    /// what is noted then.
    fn write_note_of_move(&self, note: Note, deadline: &Deadline) -> Result<Note, StoreError> {
        let _lock = self.lock_briefly(deadline)?;
        let current = self.note_of_move()?;
        let newer = current.filter(|current| match (&current.known, &note.known) {
            (Some(current), Some(known)) => known.is_older_than(current),
            // Only who has seen the end of the move notes that there is none.
            (Some(current), None) => current.state != MoveState::Ended,
            (None, _) => false,
        });
        if let Some(newer) = newer {
            return Ok(newer);
        }
        self.write_durably(Path::new(MOVE), &note)?;
        Ok(note)
    }
}

impl KubeStore {
    /// Returns the state of the move, for an ADD before it gives, confirms or takes over an address.
    /// `None`: nothing is moved. The node has noted it durably.
    ///
    /// # Errors
    /// The state is not known, or the cluster was restored to an older state.
    pub fn move_state(&self, deadline: &Deadline) -> Result<Option<MoveState>, StoreError> {
        if self.for_dead_node {
            return Ok(self.read_move(deadline)?.map(|object| object.spec.state));
        }
        self.make_complete(deadline)?;
        let noted = self.state.note_of_move()?;
        let Some(enough) = noted.as_ref().filter(|note| !note.shows_addresses()) else {
            return Ok(self.ask_and_note(noted.as_ref(), deadline, deadline)?.1.state());
        };
        if enough.is_fresh(&self.moment()) {
            return Ok(enough.state());
        }
        let patience = Deadline::after(PATIENCE.min(deadline.left()));
        match self.ask_and_note(noted.as_ref(), &patience, deadline) {
            Ok((_, note)) => Ok(note.state()),
            Err(error @ StoreError::MoveSetBack { .. }) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the API server does not tell the state of the move; the last one counts");
                Ok(enough.state())
            }
        }
    }

    /// Returns the state of the move that this node has noted, for a DEL. Asks the API server only if
    /// there is no note.
    ///
    /// # Errors
    /// There is no note, and those of [`Self::move_state`].
    pub fn noted_move_state(&self, deadline: &Deadline) -> Result<Option<MoveState>, StoreError> {
        if !self.for_dead_node {
            self.make_complete(deadline)?;
            if let Some(note) = self.state.note_of_move()? {
                return Ok(note.state());
            }
        }
        self.move_state(deadline)
    }

    /// Asks the API server for the Move and notes the state durably, for the DaemonSet. Returns the
    /// object, and whether this node's calls ask often: it shows addresses, or the state is new.
    ///
    /// # Errors
    /// Those of [`Self::move_state`].
    pub fn look_at_move(
        &self,
        deadline: &Deadline,
    ) -> Result<(Option<MoveObject>, bool), StoreError> {
        self.make_complete(deadline)?;
        let noted = self.state.note_of_move()?;
        let (answer, note) = self.ask_and_note(noted.as_ref(), deadline, deadline)?;
        let is_new = noted.is_some_and(|noted| noted.known != note.known);
        // A call has noted something newer meanwhile: the next look answers.
        let answer = answer.filter(|answer| Some(Known::of(answer)) == note.known);
        Ok((answer, is_new || note.shows_addresses()))
    }

    /// Asks for the Move until `patience` is over, and notes the answer. It is compared with what was
    /// noted before the question: what another call has noted meanwhile may have overtaken it.
    fn ask_and_note(
        &self,
        noted: Option<&Note>,
        patience: &Deadline,
        deadline: &Deadline,
    ) -> Result<(Option<MoveObject>, Note), StoreError> {
        let looked = self.moment();
        let answer = self.read_move(patience)?;
        let known = noted.and_then(|note| note.known.as_ref());
        let known = compare(known, answer.as_ref().map(Known::of))?;
        let note = Note { known, looked };
        let note = match noted {
            // Each call asks again, so nobody needs the time.
            Some(noted) if noted.known == note.known && note.shows_addresses() => note,
            _ => self.state.write_note_of_move(note, deadline)?,
        };
        Ok((answer, note))
    }
}

#[cfg(test)]
mod tests;
