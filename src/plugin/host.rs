//! Looks at the machine: boot id, machine id, host name, flat file, network
//! namespaces. Looks only, and decides nothing.

use super::failure::Failure;
use super::named_file;
use crate::config::{Chosen, ConfigError, FlatFile, Problem, ResolvConf, Settings, StoreKind, chosen_places, flat_file_places};
use crate::ipam::{Netns, NodeName, Seen};
pub use crate::store::small_file::{read_small, words};
use nix::errno::Errno;
use nix::sys::stat::{fstat, stat};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Names a flat file explicitly; whoever sets the process's environment is
/// its operator.
pub const CONFIG_VARIABLE: &str = "HEREABOUTS_CONFIG";

/// What identifies this machine and its boot.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Changes with every boot.
    pub boot_id: String,
    /// Stays with the installation; a few machines have none.
    pub machine_id: Option<String>,
    /// When it was looked at.
    pub now: std::time::SystemTime,
}

impl Machine {
    /// Reads both.
    ///
    /// # Errors
    /// The kernel shows no boot id.
    #[allow(clippy::disallowed_methods, reason = "the one look at the clock, handed on with the rest")]
    pub fn look() -> Result<Self, Failure> {
        let word = |path: &str| read_small(Path::new(path)).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        let path = "/proc/sys/kernel/random/boot_id";
        let boot_id = word(path).map_err(|error| Failure::Machine { path: path.to_owned(), reason: words(&error) })?;
        let machine_id = word("/etc/machine-id").ok().filter(|text| !text.is_empty());
        Ok(Self { boot_id, machine_id, now: std::time::SystemTime::now() })
    }
}

/// Finds and parses the node's own flat file, and lays the one over it that the
/// network configuration's `configuration_path` names. That path never decides
/// whether the node's own is read: who the node is, its operator alone says.
///
/// # Errors
/// One is there and cannot be used; or the environment names one that is not
/// there.
pub fn flat_file(lookup: &dyn Fn(&str) -> Option<OsString>, configuration_path: Option<&str>) -> Result<Option<FlatFile>, ConfigError> {
    let own = own_flat_file(lookup)?;
    let allowed = allowed_paths(own.as_ref());
    let read_chosen = |path: &Path| named_file::read(path, &allowed).map(|(_, bytes)| bytes);
    let chosen = configuration_path.map(|path| first_of(chosen_places(Path::new(path)), Chosen::ByNetwork, &read_chosen));
    let chosen = chosen.transpose()?.flatten();
    // Whereabouts' networks name the file that is found without their word, too.
    let is_own = |file: &FlatFile| own.as_ref().is_some_and(|own| own.path() == file.path());
    Ok(match chosen.filter(|file| !is_own(file)) {
        Some(chosen) => Some(chosen.above(own)),
        None => own,
    })
}

fn own_flat_file(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<FlatFile>, ConfigError> {
    let Some(path) = lookup(CONFIG_VARIABLE).filter(|path| !path.is_empty()) else {
        return first_of(flat_file_places(), Chosen::ByNode, &read_small);
    };
    let path = PathBuf::from(path);
    let bytes = read_small(&path).map_err(|error| unreadable(&path, &error))?;
    FlatFile::parse(path, &bytes, Chosen::ByNode).map(Some)
}

fn first_of(places: Vec<PathBuf>, chosen: Chosen, read: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Option<FlatFile>, ConfigError> {
    for path in places {
        match read(&path) {
            Ok(bytes) => return FlatFile::parse(path, &bytes, chosen).map(Some),
            // configuration_path may name a directory as well.
            Err(error) if is_nothing(&error) || error.raw_os_error() == Some(Errno::EISDIR as i32) => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok(None)
}

fn allowed_paths(flat: Option<&FlatFile>) -> Vec<PathBuf> {
    flat.and_then(FlatFile::own).map(FlatFile::allowed_paths).unwrap_or_default()
}

/// Reads the file that `resolvConf` names.
///
/// # Errors
/// It cannot be read, or leads to where a network configuration may not look.
pub fn read_resolv_conf(file: &ResolvConf, flat: Option<&FlatFile>) -> io::Result<Vec<u8>> {
    if file.own {
        return read_small(&file.path);
    }
    let (place, bytes) = named_file::read(&file.path, &allowed_paths(flat))?;
    if file.may_be_at(&place) {
        return Ok(bytes);
    }
    Err(io::Error::other(format!("it leads to {}, below neither /etc nor /run/systemd", place.display())))
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    let reason = format!("cannot read the flat file: {}", words(error));
    ConfigError { problem: Problem::Read, place: path.display().to_string(), reason }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENOTDIR))
}

/// This node's name: `node_name` of the node's own flat file, else `NODENAME`,
/// else the `nodename` file beside that flat file, else the host name.
///
/// # Errors
/// The name is none, or one that many machines share.
pub fn node_name(lookup: &dyn Fn(&str) -> Option<OsString>, settings: &Settings, flat: Option<&FlatFile>) -> Result<NodeName, Failure> {
    if let Some(name) = &settings.node_name {
        return Ok(name.clone());
    }
    let wrong = |place: &str, value: &str| {
        let reason = format!("expected a node name: {}", crate::json::excerpt(value));
        ConfigError { problem: Problem::Meaning, place: place.to_owned(), reason }
    };
    let parse = |place: &str, text: &str| NodeName::parse(text).map_err(|_| wrong(place, text));
    if let Some(value) = lookup("NODENAME").filter(|value| !value.is_empty()) {
        return Ok(parse("NODENAME", &value.to_string_lossy())?);
    }
    if let Some(path) = flat.and_then(|flat| flat.own()?.path().parent()).map(|directory| directory.join("nodename")) {
        match read_small(&path) {
            Ok(bytes) => return Ok(parse(&path.display().to_string(), String::from_utf8_lossy(&bytes).trim())?),
            Err(error) if is_nothing(&error) => {}
            Err(error) => return Err(Failure::Machine { path: path.display().to_string(), reason: words(&error) }),
        }
    }
    let must_be_given = |reason: &str, name: &str| ConfigError {
        problem: Problem::Meaning,
        place: "node_name".to_owned(),
        reason: format!("{reason}, set node_name in the flat file: {}", crate::json::excerpt(name)),
    };
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name == "localhost" || name.starts_with("localhost.") {
        return Err(must_be_given("expected a name that no other machine has", &name).into());
    }
    if settings.store.kind == StoreKind::File && is_shared(&settings.store.data_dir) {
        return Err(must_be_given("expected an explicit name, data_dir is on a filesystem that machines share", &name).into());
    }
    Ok(parse("host name", &name)?)
}

/// Whether the directory, or the nearest one above it, is on a filesystem
/// that other machines may reach.
fn is_shared(directory: &Path) -> bool {
    use crate::store::file::disk::{Disk, RealDisk};
    let nearest = directory.ancestors().find(|path| path.is_dir());
    nearest.is_some_and(|path| !RealDisk::new(path.to_owned()).is_local().unwrap_or(true))
}

/// The namespace of a sandbox as ADD sees it; `None` when there is none to be
/// seen at the path.
#[must_use]
pub fn find_netns(path: &Path) -> Option<Netns> {
    let path = std::path::absolute(path).ok()?;
    match look_at_netns(&path) {
        Seen::Namespace { inode, directory_device } => Some(Netns { path, inode, directory_device }),
        Seen::Gone { .. } | Seen::Unclear => None,
    }
}

/// What is at the path of a recorded namespace now.
#[must_use]
pub fn look_at_netns(path: &Path) -> Seen {
    let Some(directory_device) = device_above(path) else {
        return Seen::Unclear;
    };
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => {
            let on_nsfs = nix::sys::statfs::fstatfs(file.as_fd()).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::NSFS_MAGIC);
            match fstat(file.as_fd()) {
                Ok(stat) if on_nsfs => Seen::Namespace { inode: stat.st_ino, directory_device },
                _ => Seen::Unclear,
            }
        }
        // A directory on the way that is gone is the same: /proc/<pid>/ns.
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Seen::Gone { directory_device },
        Err(_) => Seen::Unclear,
    }
}

fn device_above(path: &Path) -> Option<u64> {
    let mut above = path.ancestors().skip(1);
    above.find_map(|directory| match stat(directory) {
        Ok(found) => Some(Some(found.st_dev)),
        Err(Errno::ENOENT) => None,
        Err(_) => Some(None),
    })?
}

/// Whether the path leads to the namespace that this process is in.
#[must_use]
pub fn is_own_netns(path: &Path) -> bool {
    let own = stat("/proc/self/ns/net");
    own.is_ok_and(|own| stat(path).is_ok_and(|other| (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino)))
}
