//! Records that this node was given and that the store has lost: found by the
//! node's notes ([`crate::store::file::given_notes`]), and made again for sandboxes that live.

use super::finding::{Finding, Problem};
use crate::ipam::{Allocation, Life};
use crate::retry::Deadline;
use crate::store::disk::Disk;
use crate::store::file::given_notes::{Standing, is_at};
use crate::store::file::{FileStore, layout};
use crate::store::upkeep::{IsAlive, Repaired};
use crate::store::{Access, StoreError};

impl<D: Disk> FileStore<D> {
    /// What the notes say and the store does not.
    pub(crate) fn noted_and_lost(&self, is_alive: IsAlive<'_>) -> Result<Vec<Finding>, StoreError> {
        let mut found = Vec::new();
        for noted in self.given().map(|given| given.all()).unwrap_or_default() {
            found.extend(self.judge_noted(&noted, is_alive(&noted.held))?);
        }
        Ok(found)
    }

    fn judge_noted(&self, noted: &Allocation, life: Life) -> Result<Option<Finding>, StoreError> {
        let holder = noted.held.attachment.to_string();
        let (problem, reason) = match self.standing_for(noted)? {
            Standing::Ours | Standing::Unreadable => return Ok(None),
            // Whoever is not seen needs it no more than its next DEL does.
            _ if !life.is_seen() => (Problem::LeftOverNote, holder),
            Standing::Nothing => (Problem::Lost, holder),
            Standing::Anothers(other) => (Problem::GivenAway, format!("{holder}, and {other}")),
        };
        let path = layout::record(&noted.scope, noted.address);
        let entry = layout::attachment(&noted.held.attachment).entry(0);
        Ok(Some(Finding::new(problem, path).with_reason(reason).with_other(entry)))
    }

    /// Which note a finding is about.
    fn noted_at(&self, finding: &Finding) -> Option<Allocation> {
        let all = self.given()?.all();
        let entry = finding.other.as_deref()?;
        all.into_iter().find(|noted| {
            layout::record(&noted.scope, noted.address) == finding.path && layout::attachment(&noted.held.attachment).entry(0) == entry
        })
    }

    /// Whether a finding about a note is still so; of the sandbox, what was seen
    /// at the first look.
    pub(crate) fn is_noted_still(&self, finding: &Finding) -> Result<bool, StoreError> {
        let Some(noted) = self.noted_at(finding) else { return Ok(false) };
        let life = if finding.problem == Problem::LeftOverNote { Life::Dead } else { Life::Alive };
        Ok(self.judge_noted(&noted, life)?.is_some_and(|now| now.problem == finding.problem))
    }

    /// Makes a lost record of a living sandbox again, or forgets a note. Never in
    /// the place of another record: link(2) decides, as for every ADD.
    pub(crate) fn repair_noted(&self, finding: &Finding, is_alive: IsAlive<'_>, deadline: Deadline) -> Result<Repaired, StoreError> {
        let Some(noted) = self.noted_at(finding) else { return Ok(Repaired::Gone) };
        let _lock = self.wait_attachment(&noted.held.attachment, &deadline)?;
        let mut session = self.open_session(Access::Release, deadline)?;
        let Some(given) = self.given() else { return Ok(Repaired::Gone) };
        // A call of the attachment may have ended meanwhile.
        let Some(noted) = given.of(&noted.held.attachment).into_iter().find(|now| is_at(now, &noted)) else {
            return Ok(Repaired::Gone);
        };
        match self.judge_noted(&noted, is_alive(&noted.held))?.map(|now| (now.problem, now.reason)) {
            Some((Problem::LeftOverNote, _)) => {
                self.take_given(&noted);
                Ok(Repaired::Done)
            }
            Some((Problem::Lost, _)) if session.claim_again(&noted)? => Ok(Repaired::Done),
            Some((Problem::Lost, _)) => Ok(Repaired::GivenAway(noted.held.attachment.to_string())),
            Some((_, both)) => Ok(Repaired::GivenAway(both)),
            None => Ok(Repaired::Gone),
        }
    }
}
