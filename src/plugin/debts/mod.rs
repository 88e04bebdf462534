//! Debts: notes on this node of what a call should have freed and could not.
//!
//! Runtimes do not always repeat a DEL that failed: Multus answers the next DEL of a pod that was
//! force-deleted without calling any plugin. So a DEL that meets a busy or absent store, and an ADD
//! that cannot take back what it made, leave a note here before they answer. Later calls settle the
//! debt: see `settle`.
//!
//! There is one file per attachment and store, outside of every store, written under a temporary
//! name and renamed: it survives the kill of every process. A power loss ends all sandboxes of the
//! node, and what they held is freed like anything from before a boot. So nothing is synced.

mod account;
pub mod answer;
mod note;
mod settle;
#[cfg(test)]
mod tests;

pub(super) use account::Owed;
pub use account::{Account, Unsettled};
pub use answer::Answer;
pub use settle::{IsDead, Open, Settlement, Settler};

use super::evidence::{self, Machine};
use crate::config::{ConfigError, FlatFile, Merged, Settings, StoreKind, StoreSettings};
use crate::digest::{is_short, short};
use crate::ipam::{Allocation, Attachment, NodeName, Record};
use crate::json::Json;
use crate::small_file::error_text;
use crate::store::attachment_hash::short_of_attachment;
use crate::store::disk::{Disk, Inode, RealDisk};
use note::Unreadable;
use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// For how long a call settles debts after its own work.
pub const OF_A_CALL: Duration = Duration::from_millis(50);
/// The largest size of a debt, in bytes.
const LARGEST: usize = 256 * 1024;
/// The maximum number of names of the directory that are read.
const MOST: usize = 4096;
/// The end of the name of a file that is being written.
const ASIDE: &str = ".new";
/// The age at which such a file counts as abandoned.
const ABANDONED: Duration = Duration::from_secs(600);

/// What a call left undone.
#[derive(Debug, Clone, PartialEq)]
pub struct Debt {
    /// The attachment whose records were to be freed.
    pub attachment: Attachment,
    /// Where the records are.
    pub store: Place,
    /// Which records they were; `None` if that is unknown.
    pub held: Option<Vec<Allocation>>,
    /// What the runtime was told.
    pub answered: Answer,
    /// Whether the call had the attachment's lock, so that no other call of it was under way.
    pub exclusive: bool,
    /// What the call saw of the sandbox.
    pub seen: Record,
    /// Why the records could not be freed.
    pub reason: String,
    /// Since when something has been owed. `seen` has the boot and the time of the last call that
    /// failed.
    pub since: Since,
}

/// A moment, for people and for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The wall clock.
    pub time: SystemTime,
    /// The boot ID.
    pub boot_id: String,
    /// The time since that boot.
    pub uptime: Duration,
}

impl Debt {
    /// Returns the addresses that were held, if they are known.
    #[must_use]
    pub fn addresses(&self) -> Option<Vec<String>> {
        self.held
            .as_ref()
            .map(|known| known.iter().map(|known| known.address.to_string()).collect())
    }

    /// Returns for how long something has been owed.
    #[must_use]
    pub fn age(&self, machine: &Machine) -> Duration {
        match evidence::uptime() {
            Some(uptime) if self.since.boot_id == machine.boot_id => {
                uptime.saturating_sub(self.since.uptime)
            }
            _ => machine.now.duration_since(self.since.time).unwrap_or_default(),
        }
    }
}

/// A store as a call resolved it, with everything that is needed to open it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory of the file store, or of the node state of the Kubernetes store.
    pub data_dir: PathBuf,
    /// The kubeconfig of the store in the Kubernetes API.
    pub kubeconfig: Option<PathBuf>,
    /// The ID that the store must have.
    pub id: Option<String>,
}

impl Place {
    /// Returns the place that the settings name.
    #[must_use]
    pub fn of(store: &StoreSettings) -> Self {
        let kubeconfig = match &store.kind {
            StoreKind::File => None,
            #[cfg(feature = "kube")]
            StoreKind::Kubernetes { kubeconfig } => Some(kubeconfig.clone()),
        };
        Self { data_dir: store.data_dir.clone(), kubeconfig, id: store.id.clone() }
    }

    /// Returns the settings that lead there. They count as settings of the node's operator, because
    /// a call was allowed to use the store.
    ///
    /// # Errors
    /// This version has no such store.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let datastore = if self.kubeconfig.is_some() { "kubernetes" } else { "file" };
        let mut flat = serde_json::json!({"datastore": datastore, "data_dir": self.data_dir});
        if let Some(kubeconfig) = &self.kubeconfig {
            flat["kubernetes"] = serde_json::json!({"kubeconfig": kubeconfig});
        }
        if let Some(id) = &self.id {
            flat["store_id"] = id.as_str().into();
        }
        let flat = FlatFile::parse(
            "debt".into(),
            flat.to_string().as_bytes(),
            crate::config::Chosen::ByNode,
        )?;
        let network = Json::Object(vec![("ipam".to_owned(), Json::Object(Vec::new()))]);
        Settings::parse(&Merged::new(&network, Some(&flat))?, false)
    }

    /// Returns whether both lead to the same place.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    fn key(&self) -> String {
        let path =
            |path: &Path| path.components().collect::<PathBuf>().to_string_lossy().into_owned();
        let kubeconfig = self.kubeconfig.as_deref().map(path).unwrap_or_default();
        short(&["store", &path(&self.data_dir), &kubeconfig])
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kubeconfig.as_ref().unwrap_or(&self.data_dir).display())
    }
}

/// The debts of this node.
pub struct Debts {
    disk: Box<dyn Disk>,
    /// Whether anything has ever been owed here; checked once.
    used: Cell<Option<bool>>,
    /// Whether nothing is written and removed: for an ADD on trial.
    is_frozen: bool,
}

/// A file in the directory of debts.
#[derive(Debug)]
pub struct Found {
    /// Where the file is.
    pub path: PathBuf,
    /// What it says, or what is wrong with it.
    pub debt: Result<Debt, Wrong>,
}

/// Why a file is not a debt that can be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// No version writes such a file.
    Damaged(String),
    /// A newer version wrote it.
    Newer(u64),
    /// The file does not belong there.
    Foreign,
}

impl Debts {
    /// Returns the debts in a directory of this machine, which need not exist yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self::on(Box::new(RealDisk::new(root)))
    }

    /// Returns the debts on any disk, as tests need it.
    #[must_use]
    pub fn on(disk: Box<dyn Disk>) -> Self {
        Self { disk, used: Cell::new(None), is_frozen: false }
    }

    /// Lets every change of the debts succeed and have no effect.
    #[must_use]
    pub(super) fn frozen(mut self) -> Self {
        self.is_frozen = true;
        self
    }

    /// Returns everything in the directory, of any node, in the order of the names.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> io::Result<Vec<Found>> {
        let mut names = self.names()?;
        names.sort();
        let mut found = Vec::new();
        for name in names {
            let path = self.disk.root().join(&name);
            if !is_debt(&name) {
                if !is_aside(&name) {
                    found.push(Found { path, debt: Err(Wrong::Foreign) });
                }
                continue;
            }
            match self.read(&name) {
                Ok(Some((debt, _))) => found.push(Found { path, debt: Ok(debt) }),
                Ok(None) => {}
                Err(Unreadable::Newer(number)) => {
                    found.push(Found { path, debt: Err(Wrong::Newer(number)) })
                }
                Err(Unreadable::Damaged(reason)) => {
                    found.push(Found { path, debt: Err(Wrong::Damaged(reason)) })
                }
            }
        }
        Ok(found)
    }

    /// Returns whether there may be any debts. If nothing has ever been owed, a call makes one
    /// system call, which fails.
    pub(super) fn are_there(&self) -> bool {
        if let Some(known) = self.used.get() {
            return known;
        }
        // Opens the directory and does nothing else.
        let used = !self.disk.is_marked(Path::new("")).is_err_and(|error| is_nothing(&error));
        self.used.set(Some(used));
        used
    }

    /// Returns up to `MOST` names; none if there is no directory.
    fn names(&self) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        if !self.are_there() {
            return Ok(names);
        }
        let seen = self.disk.visit(Path::new(""), &mut |name, _| {
            if names.len() < MOST {
                names.push(PathBuf::from(name));
            }
        });
        match seen {
            Err(error) if is_nothing(&error) => Ok(Vec::new()),
            seen => seen.map(|()| names),
        }
    }

    /// Reads a debt. Returns `None` if there is none.
    fn read(&self, name: &Path) -> Result<Option<(Debt, Inode)>, Unreadable> {
        if !self.are_there() {
            return Ok(None);
        }
        let content = match self.disk.read(name) {
            Ok(content) => content,
            Err(error) if is_nothing(&error) => return Ok(None),
            Err(error) => return Err(Unreadable::Damaged(error_text(&error))),
        };
        if LARGEST < content.bytes.len() {
            return Err(Unreadable::Damaged(format!("it is larger than {LARGEST} bytes")));
        }
        let debt = note::decode(&content.bytes)?;
        // A copy under another name belongs to no attachment.
        if name_of(&debt.attachment, &debt.store) != name {
            return Err(Unreadable::Damaged(
                "it is the debt of another attachment or store".to_owned(),
            ));
        }
        Ok(Some((debt, content.inode)))
    }

    /// Writes a debt and replaces an existing one.
    fn write(&self, debt: &Debt) -> io::Result<()> {
        if self.is_frozen {
            return Ok(());
        }
        let bytes = note::encode(debt)?;
        let nanos =
            self.disk.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let aside = PathBuf::from(format!("{}.{nanos:x}{ASIDE}", std::process::id()));
        let create = || self.disk.create(&aside, &bytes);
        let created = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.make_root().and_then(|()| create())
            }
            created => created,
        };
        let written =
            created.and_then(|_| self.disk.rename(&aside, &name_of(&debt.attachment, &debt.store)));
        if written.is_err() {
            let _ = self.disk.unlink(&aside);
        } else {
            self.used.set(Some(true));
        }
        written
    }

    /// Removes a debt, unless another one has replaced it.
    fn remove(&self, name: &Path, inode: Inode) -> io::Result<()> {
        match self.disk.inode(name) {
            Ok(found) if found == inode => self.unlink(name),
            Ok(_) => Ok(()),
            Err(error) if is_nothing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn unlink(&self, name: &Path) -> io::Result<()> {
        if self.is_frozen {
            return Ok(());
        }
        match self.disk.unlink(name) {
            Err(error) if is_nothing(&error) => Ok(()),
            unlinked => unlinked,
        }
    }

    /// Removes the temporary files of calls that were killed.
    pub fn tidy(&self) {
        let now = self.disk.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        for name in self.names().unwrap_or_default().iter().filter(|name| is_aside(name)) {
            if begun(name).is_none_or(|begun| ABANDONED <= now.abs_diff(begun)) {
                let _ = self.disk.unlink(name);
            }
        }
    }

    fn path(&self, name: &Path) -> PathBuf {
        self.disk.root().join(name)
    }
}

/// Returns the name of the file of an attachment's debt in a store.
fn name_of(attachment: &Attachment, store: &Place) -> PathBuf {
    format!("{}-{}", short_of_attachment(attachment), store.key()).into()
}

fn is_debt(name: &Path) -> bool {
    name.to_str()
        .and_then(|name| name.split_once('-'))
        .is_some_and(|(whose, store)| is_short(whose) && is_short(store))
}

fn is_aside(name: &Path) -> bool {
    name.as_os_str().as_encoded_bytes().ends_with(ASIDE.as_bytes()) && begun(name).is_some()
}

/// Returns when the write of a temporary file began, since 1970.
fn begun(name: &Path) -> Option<Duration> {
    let text = name.file_name().and_then(OsStr::to_str)?.strip_suffix(ASIDE)?;
    let (process, nanos) = text.split_once('.')?;
    process.parse::<u32>().ok()?;
    u64::from_str_radix(nanos, 16).ok().map(Duration::from_nanos)
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns whether a debt is of this node.
fn is_own(debt: &Debt, node: &NodeName) -> bool {
    debt.attachment.node == *node
}
