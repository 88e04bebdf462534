//! The debt of one attachment in one store, as its own calls use it: ADD settles it first, DEL
//! leaves one or has settled it.

use super::note::Unreadable;
use super::settle::{self, IsDead};
use super::{Answer, Debt, Debts, Place, Since, name_of};
use crate::config::StoreSettings;
use crate::ipam::{Allocation, Attachment, Record};
use crate::plugin::evidence;
use crate::plugin::failure::Failure;
use crate::plugin::recently_freed::Freed;
use crate::retry::Deadline;
use crate::small_file::error_text;
use crate::store::{Store, StoreError};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The account of one attachment in one store, see the module.
pub struct Account {
    debts: Rc<Debts>,
    attachment: Attachment,
    store: Place,
    /// The name of its file, computed only if there is any debt on this node.
    name: OnceCell<PathBuf>,
}

/// What a call could not free.
pub struct Owed<'a> {
    /// Why it could not be freed.
    pub error: &'a StoreError,
    /// The records that exist, if that is known.
    pub held: Option<Vec<Allocation>>,
    /// Whether the call had the attachment's lock.
    pub exclusive: bool,
    /// What the caller is told.
    pub answered: Answer,
    /// What is seen of the sandbox.
    pub seen: Record,
}

/// A debt that an ADD found and that is not settled.
#[must_use]
pub struct Unsettled(crate::store::disk::Inode);

impl Account {
    /// Returns the account of an attachment.
    #[must_use]
    pub fn new(debts: Rc<Debts>, store: &StoreSettings, attachment: Attachment) -> Self {
        Self { debts, attachment, store: Place::of(store), name: OnceCell::new() }
    }

    /// Returns whether the store is behind an API server.
    #[must_use]
    pub const fn is_of_api_server(&self) -> bool {
        self.store.kubeconfig.is_some()
    }

    fn name(&self) -> &Path {
        self.name.get_or_init(|| name_of(&self.attachment, &self.store))
    }

    /// Frees what is due, for an ADD that holds the attachment's lock and has not read yet what the
    /// attachment holds. What is not due stays, and the ADD answers with it, as with the addresses
    /// of any earlier ADD: the DEL has not ended the attachment. The ADD must then
    /// [cancel](Self::cancel) the debt before it answers.
    ///
    /// # Errors
    /// The debt can be neither settled nor removed.
    pub fn settle_first(
        &self,
        store: &dyn Store,
        is_dead: IsDead<'_>,
        freed: Option<&Freed>,
        deadline: Deadline,
    ) -> Result<Option<Unsettled>, Failure> {
        if !self.debts.are_there() {
            return Ok(None);
        }
        let (debt, inode) = match self.debts.read(self.name()) {
            Ok(None) => return Ok(None),
            Ok(Some(found)) => found,
            Err(unreadable) => return self.put_away(&unreadable).map(|()| None),
        };
        let settled = settle::settle(store, &debt, is_dead, freed, deadline)
            .map_err(|error| self.unsettled(&error.to_string()))?;
        if settled {
            self.remove(inode)?;
            return Ok(None);
        }
        Ok(Some(Unsettled(inode)))
    }

    /// Cancels a debt, because an ADD answers with what is held.
    ///
    /// # Errors
    /// The debt remains, and settling it later would free what is answered.
    pub fn cancel(&self, unsettled: &Unsettled) -> Result<(), Failure> {
        self.remove(unsettled.0)
    }

    /// Removes a debt that this version cannot read. This version does not settle it, and another
    /// version must not settle it with what this ADD answers.
    fn put_away(&self, unreadable: &Unreadable) -> Result<(), Failure> {
        tracing::warn!(?unreadable, "an unreadable debt is removed");
        match (self.debts.unlink(self.name()), unreadable) {
            (Err(error), Unreadable::Newer(_)) => Err(self.unsettled(&error_text(&error))),
            _ => Ok(()),
        }
    }

    fn remove(&self, inode: crate::store::disk::Inode) -> Result<(), Failure> {
        self.debts.remove(self.name(), inode).map_err(|error| self.unsettled(&error_text(&error)))
    }

    fn unsettled(&self, reason: &str) -> Failure {
        Failure::Unsettled {
            path: self.debts.path(self.name()).display().to_string(),
            reason: reason.to_owned(),
        }
    }

    /// Returns whether the runtime was told that the attachment which holds this very record has
    /// ended. It may be any attachment of the store. The answer is certain only under the lock of
    /// that attachment.
    #[must_use]
    pub fn has_ended(&self, current: &Allocation) -> bool {
        self.of(&current.record.attachment).is_some_and(|(_, debt)| debt.has_ended(current))
    }

    /// Removes a record from the debt of the attachment that held it, after another attachment of
    /// the same pod has taken it over. The caller holds the lock of the attachment that held it.
    pub fn moved(&self, old: &Allocation) {
        let Some((name, mut debt)) = self.of(&old.record.attachment) else { return };
        let Some(held) = &mut debt.held else { return };
        held.retain(|known| (&known.scope, known.address) != (&old.scope, old.address));
        let settled =
            if held.is_empty() { self.debts.unlink(&name) } else { self.debts.write(&debt) };
        if let Err(error) = settled {
            tracing::warn!(error = %error_text(&error), "cannot remove a settled debt; the next check removes it");
        }
    }

    /// Returns what another attachment owes in this store.
    fn of(&self, attachment: &Attachment) -> Option<(PathBuf, Debt)> {
        if !self.debts.are_there() {
            return None;
        }
        let name = name_of(attachment, &self.store);
        let (debt, _) = self.debts.read(&name).ok()??;
        Some((name, debt))
    }

    /// Removes the debt after a DEL that has freed everything. The caller holds the attachment's
    /// lock.
    pub fn forget(&self) {
        if !self.debts.are_there() {
            return;
        }
        if let Err(error) = self.debts.unlink(self.name()) {
            tracing::warn!(error = %error_text(&error), "cannot remove a settled debt; the next check removes it");
        }
    }

    /// Notes what is owed.
    ///
    /// # Errors
    /// The reason why it is not noted.
    pub fn leave(&self, owed: Owed<'_>) -> Result<(), String> {
        let now = Since {
            time: owed.seen.since,
            boot_id: owed.seen.boot_id.clone(),
            uptime: evidence::uptime().unwrap_or(Duration::ZERO),
        };
        // A repeated DEL does not make the debt younger.
        let since =
            self.debts.read(self.name()).ok().flatten().map_or(now, |(earlier, _)| earlier.since);
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
        written.map_err(|error| {
            format!(
                "cannot write to {}: {}",
                self.debts.path(Path::new("")).display(),
                error_text(&error)
            )
        })
    }
}
