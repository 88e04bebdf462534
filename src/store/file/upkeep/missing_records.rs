//! Finds records that this node got and that the store has lost, and recreates them for living
//! sandboxes. The node's notes ([`crate::store::file::given_notes`]) show which records are
//! missing.

use super::finding::{FileFinding, Problem};
use crate::ipam::{Allocation, Life};
use crate::retry::Deadline;
use crate::store::disk::Disk;
use crate::store::file::given_notes::{RecordAtName, is_at};
use crate::store::file::{FileStore, layout};
use crate::store::upkeep::{IsAlive, Repaired};
use crate::store::{Access, StoreError};

impl<D: Disk> FileStore<D> {
    /// Returns a finding for each note without a matching record in the store.
    pub(crate) fn noted_and_lost(
        &self,
        is_alive: IsAlive<'_>,
    ) -> Result<Vec<FileFinding>, StoreError> {
        let mut found = Vec::new();
        for noted in self.given().map(|given| given.all()).unwrap_or_default() {
            found.extend(self.classify_noted(&noted, is_alive(&noted.record))?);
        }
        Ok(found)
    }

    fn classify_noted(
        &self,
        noted: &Allocation,
        life: Life,
    ) -> Result<Option<FileFinding>, StoreError> {
        let holder = noted.holder();
        let (problem, reason) = match self.record_at_name(noted)? {
            RecordAtName::Ours | RecordAtName::Unreadable => return Ok(None),
            // A sandbox that is not seen needs the note only until its next DEL.
            _ if !life.is_seen() => (Problem::UnusedNote, holder),
            RecordAtName::Nothing => (Problem::Lost, holder),
            RecordAtName::Anothers(other) => (Problem::GivenAway, format!("{holder}, and {other}")),
        };
        let path = layout::record(&noted.scope, noted.address);
        let entry = layout::attachment(&noted.record.attachment).entry(0);
        Ok(Some(FileFinding::new(problem, path).with_reason(reason).with_other(entry)))
    }

    /// Returns the note that a finding is about.
    fn noted_at(&self, finding: &FileFinding) -> Option<Allocation> {
        let all = self.given()?.all();
        let entry = finding.other.as_deref()?;
        all.into_iter().find(|noted| {
            layout::record(&noted.scope, noted.address) == finding.path
                && layout::attachment(&noted.record.attachment).entry(0) == entry
        })
    }

    /// Returns whether a finding about a note still applies. Takes the state of the sandbox from
    /// the first check.
    pub(crate) fn is_noted_still(&self, finding: &FileFinding) -> Result<bool, StoreError> {
        let Some(noted) = self.noted_at(finding) else { return Ok(false) };
        let life = if finding.problem == Problem::UnusedNote { Life::Dead } else { Life::Alive };
        Ok(self.classify_noted(&noted, life)?.is_some_and(|now| now.problem == finding.problem))
    }

    /// Recreates a lost record of a living sandbox, or removes a note. Never replaces another
    /// record: link(2) decides, as for every ADD.
    pub(crate) fn repair_noted(
        &self,
        finding: &FileFinding,
        is_alive: IsAlive<'_>,
        deadline: Deadline,
    ) -> Result<Repaired, StoreError> {
        let Some(noted) = self.noted_at(finding) else { return Ok(Repaired::Gone) };
        let _lock = self.wait_attachment(&noted.record.attachment, &deadline)?;
        let mut session = self.open_session(Access::Release, deadline)?;
        let Some(given) = self.given() else { return Ok(Repaired::Gone) };
        // A call of the attachment may have ended in the meantime.
        let Some(noted) =
            given.of(&noted.record.attachment).into_iter().find(|now| is_at(now, &noted))
        else {
            return Ok(Repaired::Gone);
        };
        match self
            .classify_noted(&noted, is_alive(&noted.record))?
            .map(|now| (now.problem, now.reason))
        {
            Some((Problem::UnusedNote, _)) => {
                self.take_given(&noted);
                Ok(Repaired::Done)
            }
            Some((Problem::Lost, _)) if session.claim_again(&noted)? => Ok(Repaired::Done),
            Some((Problem::Lost, _)) => Ok(Repaired::GivenAway(noted.holder())),
            Some((_, both)) => Ok(Repaired::GivenAway(both)),
            None => Ok(Repaired::Gone),
        }
    }
}
