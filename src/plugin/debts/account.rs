//! The debt of one attachment in one store, as its own calls meet it: ADD pays
//! it first, DEL leaves one or has paid it.

use super::note::Unreadable;
use super::pay::{self, IsDead};
use super::{Answer, Debt, Debts, Place, Since, name_of, words};
use crate::config::StoreSettings;
use crate::ipam::{Allocation, Attachment, Record};
use crate::plugin::evidence;
use crate::plugin::failure::Failure;
use crate::plugin::recently_freed::Freed;
use crate::retry::Deadline;
use crate::store::{Store, StoreError};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// See the module.
pub struct Account {
    debts: Rc<Debts>,
    attachment: Attachment,
    store: Place,
    /// Of its file: made when there is a debt of anybody.
    name: OnceCell<PathBuf>,
}

/// What a call could not free.
pub struct Owed<'a> {
    /// Why.
    pub error: &'a StoreError,
    /// What stands, where that can be told.
    pub held: Option<Vec<Allocation>>,
    /// Whether the call had the attachment's lock.
    pub exclusive: bool,
    /// What the caller is told.
    pub answered: Answer,
    /// What is seen of the sandbox.
    pub seen: Record,
}

/// A debt that an ADD met and that is not paid.
#[must_use]
pub struct Unpaid(crate::store::disk::Inode);

impl Account {
    /// The account of an attachment.
    #[must_use]
    pub fn new(debts: Rc<Debts>, store: &StoreSettings, attachment: Attachment) -> Self {
        Self { debts, attachment, store: Place::of(store), name: OnceCell::new() }
    }

    /// Whether the store is one behind an API server.
    #[must_use]
    pub const fn is_of_api_server(&self) -> bool {
        self.store.kubeconfig.is_some()
    }

    fn name(&self) -> &Path {
        self.name.get_or_init(|| name_of(&self.attachment, &self.store))
    }

    /// For an ADD that has the attachment's lock and has not looked at what it
    /// holds: frees what is due. What is not due stays and is the ADD's to answer
    /// with, as that of any earlier ADD: the DEL has not ended the attachment.
    /// Then the debt is [void](Self::cancel) before anybody is told the answer.
    ///
    /// # Errors
    /// It can be neither paid nor removed.
    pub fn pay_first(
        &self,
        store: &dyn Store,
        is_dead: IsDead<'_>,
        freed: Option<&Freed>,
        deadline: Deadline,
    ) -> Result<Option<Unpaid>, Failure> {
        if !self.debts.are_there() {
            return Ok(None);
        }
        let (debt, inode) = match self.debts.read(self.name()) {
            Ok(None) => return Ok(None),
            Ok(Some(found)) => found,
            Err(unreadable) => return self.put_away(&unreadable).map(|()| None),
        };
        let paid = pay::pay(store, &debt, is_dead, freed, deadline).map_err(|error| self.unpaid(&error.to_string()))?;
        if paid {
            self.remove(inode)?;
            return Ok(None);
        }
        Ok(Some(Unpaid(inode)))
    }

    /// Says that nothing is owed any more: an ADD answers with what is held.
    ///
    /// # Errors
    /// The debt stands, and would be paid with what is answered.
    pub fn cancel(&self, unpaid: &Unpaid) -> Result<(), Failure> {
        self.remove(unpaid.0)
    }

    /// A debt that this version cannot read is not paid by it, and must not be
    /// paid by another one with what this ADD answers.
    fn put_away(&self, unreadable: &Unreadable) -> Result<(), Failure> {
        tracing::warn!(?unreadable, "a debt that cannot be read is put away");
        match (self.debts.unlink(self.name()), unreadable) {
            (Err(error), Unreadable::Newer(_)) => Err(self.unpaid(&words(&error))),
            _ => Ok(()),
        }
    }

    fn remove(&self, inode: crate::store::disk::Inode) -> Result<(), Failure> {
        self.debts.remove(self.name(), inode).map_err(|error| self.unpaid(&words(&error)))
    }

    fn unpaid(&self, reason: &str) -> Failure {
        Failure::Unpaid { path: self.debts.path(self.name()).display().to_string(), reason: reason.to_owned() }
    }

    /// Whether the runtime was told that the attachment has ended which holds this
    /// very record, of whichever attachment of the store it is. For certain only
    /// under that one's lock.
    #[must_use]
    pub fn has_ended(&self, standing: &Allocation) -> bool {
        self.of(&standing.record.attachment).is_some_and(|(_, debt)| debt.has_ended(standing))
    }

    /// After another attachment of the same pod has taken over a record, under the
    /// lock of the one that held it: that one owes it no more.
    pub fn moved(&self, old: &Allocation) {
        let Some((name, mut debt)) = self.of(&old.record.attachment) else { return };
        let Some(held) = &mut debt.held else { return };
        held.retain(|known| (&known.scope, known.address) != (&old.scope, old.address));
        let settled = if held.is_empty() { self.debts.unlink(&name) } else { self.debts.write(&debt) };
        if let Err(error) = settled {
            tracing::warn!(error = %words(&error), "a debt that is paid stays until the next look at it");
        }
    }

    /// What another attachment owes in this store.
    fn of(&self, attachment: &Attachment) -> Option<(PathBuf, Debt)> {
        if !self.debts.are_there() {
            return None;
        }
        let name = name_of(attachment, &self.store);
        let (debt, _) = self.debts.read(&name).ok()??;
        Some((name, debt))
    }

    /// After a DEL that has freed all, under the attachment's lock.
    pub fn forget(&self) {
        if !self.debts.are_there() {
            return;
        }
        if let Err(error) = self.debts.unlink(self.name()) {
            tracing::warn!(error = %words(&error), "a debt that is paid stays until the next look at it");
        }
    }

    /// Notes what is owed.
    ///
    /// # Errors
    /// Why it is not noted.
    pub fn leave(&self, owed: Owed<'_>) -> Result<(), String> {
        let now = Since { time: owed.seen.since, boot_id: owed.seen.boot_id.clone(), uptime: evidence::uptime().unwrap_or(Duration::ZERO) };
        // A repeated DEL does not make it younger.
        let since = self.debts.read(self.name()).ok().flatten().map_or(now, |(earlier, _)| earlier.since);
        let reason: String = owed.error.to_string().chars().take(1000).collect();
        let debt = Debt {
            attachment: self.attachment.clone(),
            store: self.store.clone(),
            held: owed.held,
            answered: owed.answered,
            exclusive: owed.exclusive,
            seen: owed.seen,
            reason,
            since,
        };
        let written = self.debts.write(&debt);
        written.map_err(|error| format!("cannot write to {}: {}", self.debts.path(Path::new("")).display(), words(&error)))
    }
}
