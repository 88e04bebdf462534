//! Debts: what a call was to free and could not, noted on this node.
//!
//! Runtimes do not always repeat a DEL that failed: Multus answers the next one
//! of a pod that was force-deleted without calling anybody. So a DEL that meets a
//! busy or absent store, and an ADD that cannot take back what it made, leave a
//! note here before they answer. What is known of it is paid later: see `pay`.
//!
//! One file for each attachment and store, outside of every store, written aside
//! and renamed: it survives the kill of every process. A power loss ends all
//! sandboxes of the node, and what they held is freed as before any boot: nothing
//! is synced.

mod account;
pub mod answer;
mod note;
mod pay;
#[cfg(test)]
mod tests;

pub(super) use account::Owed;
pub use account::{Account, Unpaid};
pub use answer::Answer;
pub use pay::{IsDead, Open, Paid, Payer};

use super::evidence::{self, Machine};
use crate::config::{ConfigError, FlatFile, Merged, Settings, StoreKind, StoreSettings};
use crate::digest::{is_short, short};
use crate::ipam::{Allocation, Attachment, NodeName, Record};
use crate::json::Json;
use crate::store::attachment_hash::short_of_attachment;
use crate::store::disk::{Disk, Inode, RealDisk};
use note::Unreadable;
use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// For so long a call pays debts after its own work.
pub const OF_A_CALL: Duration = Duration::from_millis(50);
/// No debt is larger.
const LARGEST: usize = 256 * 1024;
/// So many names of the directory are looked at.
const MOST: usize = 4096;
/// A file that is being written has this at its end.
const ASIDE: &str = ".new";
/// None is written for so long.
const ABANDONED: Duration = Duration::from_secs(600);

/// What a call left undone.
#[derive(Debug, Clone, PartialEq)]
pub struct Debt {
    /// Whose records were to be freed.
    pub attachment: Attachment,
    /// Where they are.
    pub store: Place,
    /// Which they were; `None` where that could not be told.
    pub held: Option<Vec<Allocation>>,
    /// What the runtime was told.
    pub answered: Answer,
    /// Whether the call had the attachment's lock, so that no other call of it
    /// was under way.
    pub exclusive: bool,
    /// What the call saw of the sandbox.
    pub seen: Record,
    /// Why it could not be done.
    pub reason: String,
    /// Since when something is owed; `seen` has the boot and the time of the last
    /// call that failed.
    pub since: Since,
}

/// A moment, for people and for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The wall clock.
    pub time: SystemTime,
    /// The boot.
    pub boot_id: String,
    /// The time since then.
    pub uptime: Duration,
}

impl Debt {
    /// The addresses that were held, where that could be told.
    #[must_use]
    pub fn addresses(&self) -> Option<Vec<String>> {
        self.held.as_ref().map(|known| known.iter().map(|known| known.address.to_string()).collect())
    }

    /// For how long something is owed.
    #[must_use]
    pub fn age(&self, machine: &Machine) -> Duration {
        match evidence::uptime() {
            Some(uptime) if self.since.boot_id == machine.boot_id => uptime.saturating_sub(self.since.uptime),
            _ => machine.now.duration_since(self.since.time).unwrap_or_default(),
        }
    }
}

/// A store as a call resolved it: what it takes to open it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of the file store, or of the node state of the other.
    pub data_dir: PathBuf,
    /// Of the store in the Kubernetes API.
    pub kubeconfig: Option<PathBuf>,
    /// The id that the store must have.
    pub id: Option<String>,
}

impl Place {
    /// Where the settings say.
    #[must_use]
    pub fn of(store: &StoreSettings) -> Self {
        let kubeconfig = match &store.kind {
            StoreKind::File => None,
            #[cfg(feature = "kube")]
            StoreKind::Kubernetes { kubeconfig } => Some(kubeconfig.clone()),
        };
        Self { data_dir: store.data_dir.clone(), kubeconfig, id: store.id.clone() }
    }

    /// The settings that lead there, with the word of the node's operator: a call
    /// was allowed to use it.
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
        let flat = FlatFile::parse("debt".into(), flat.to_string().as_bytes(), crate::config::Chosen::ByNode)?;
        let network = Json::Object(vec![("ipam".to_owned(), Json::Object(Vec::new()))]);
        Settings::parse(&Merged::new(&network, Some(&flat))?, false)
    }

    /// Whether both lead to the same place.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    fn key(&self) -> String {
        let path = |path: &Path| path.components().collect::<PathBuf>().to_string_lossy().into_owned();
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
    /// Whether anything has ever been owed here; looked at once.
    used: Cell<Option<bool>>,
}

/// What stands in the directory.
#[derive(Debug)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// What it says, or what is wrong with it.
    pub debt: Result<Debt, Wrong>,
}

/// Why a file is no debt that can be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// No version wrote it so.
    Damaged(String),
    /// A newer version wrote it.
    Newer(u64),
    /// It has no business there.
    Foreign,
}

impl Debts {
    /// Those in a directory of this machine, which need not be there yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self::on(Box::new(RealDisk::new(root)))
    }

    /// The same on any disk; tests bring theirs.
    #[must_use]
    pub fn on(disk: Box<dyn Disk>) -> Self {
        Self { disk, used: Cell::new(None) }
    }

    /// All that stands there, of whatever node, in the order of the names.
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
                Err(Unreadable::Newer(number)) => found.push(Found { path, debt: Err(Wrong::Newer(number)) }),
                Err(Unreadable::Damaged(reason)) => found.push(Found { path, debt: Err(Wrong::Damaged(reason)) }),
            }
        }
        Ok(found)
    }

    /// Whether there may be any. Where nothing has ever been owed, a call makes one
    /// system call, which fails.
    pub(super) fn are_there(&self) -> bool {
        if let Some(known) = self.used.get() {
            return known;
        }
        // Opens the directory, and no more.
        let used = !self.disk.is_marked(Path::new("")).is_err_and(|error| is_nothing(&error));
        self.used.set(Some(used));
        used
    }

    /// So many names as are looked at; none where there is no directory.
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

    /// Reads one; `None` where none is.
    fn read(&self, name: &Path) -> Result<Option<(Debt, Inode)>, Unreadable> {
        if !self.are_there() {
            return Ok(None);
        }
        let content = match self.disk.read(name) {
            Ok(content) => content,
            Err(error) if is_nothing(&error) => return Ok(None),
            Err(error) => return Err(Unreadable::Damaged(words(&error))),
        };
        if LARGEST < content.bytes.len() {
            return Err(Unreadable::Damaged(format!("it is larger than {LARGEST} bytes")));
        }
        let debt = note::decode(&content.bytes)?;
        // A copy under another name is of nobody.
        if name_of(&debt.attachment, &debt.store) != name {
            return Err(Unreadable::Damaged("it is the debt of another attachment or store".to_owned()));
        }
        Ok(Some((debt, content.inode)))
    }

    /// Writes one in the place of the one that stands.
    fn write(&self, debt: &Debt) -> io::Result<()> {
        let bytes = note::encode(debt)?;
        let nanos = self.disk.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let aside = PathBuf::from(format!("{}.{nanos:x}{ASIDE}", std::process::id()));
        let create = || self.disk.create(&aside, &bytes);
        let created = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.make_root().and_then(|()| create()),
            created => created,
        };
        let written = created.and_then(|_| self.disk.rename(&aside, &name_of(&debt.attachment, &debt.store)));
        if written.is_err() {
            let _ = self.disk.unlink(&aside);
        } else {
            self.used.set(Some(true));
        }
        written
    }

    /// Removes one, unless another stands there by now.
    fn remove(&self, name: &Path, inode: Inode) -> io::Result<()> {
        match self.disk.inode(name) {
            Ok(found) if found == inode => self.unlink(name),
            Ok(_) => Ok(()),
            Err(error) if is_nothing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn unlink(&self, name: &Path) -> io::Result<()> {
        match self.disk.unlink(name) {
            Err(error) if is_nothing(&error) => Ok(()),
            unlinked => unlinked,
        }
    }

    /// Removes what calls that were killed have left aside.
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

/// Where the debt of an attachment in a store is.
fn name_of(attachment: &Attachment, store: &Place) -> PathBuf {
    format!("{}-{}", short_of_attachment(attachment), store.key()).into()
}

fn is_debt(name: &Path) -> bool {
    name.to_str().and_then(|name| name.split_once('-')).is_some_and(|(whose, store)| is_short(whose) && is_short(store))
}

fn is_aside(name: &Path) -> bool {
    name.as_os_str().as_encoded_bytes().ends_with(ASIDE.as_bytes()) && begun(name).is_some()
}

/// When the write of a file aside began, since 1970.
fn begun(name: &Path) -> Option<Duration> {
    let text = name.file_name().and_then(OsStr::to_str)?.strip_suffix(ASIDE)?;
    let (process, nanos) = text.split_once('.')?;
    process.parse::<u32>().ok()?;
    u64::from_str_radix(nanos, 16).ok().map(Duration::from_nanos)
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn words(error: &io::Error) -> String {
    crate::small_file::words(error)
}

/// Whether a record is of this node.
fn is_own(debt: &Debt, node: &NodeName) -> bool {
    debt.attachment.node == *node
}
