//! The files of host-local on this node, while its pods run: `host_local_dir` of the flat file.
//!
//! host-local has a directory for each network. In it, the name of a file is an address that it has
//! given, and the content is the container ID and the interface, in two lines. While such a file is
//! there, an ADD of the network does not give the address, whether the address was imported or not.
//! A DEL removes the files of its attachment, as host-local would.

use crate::addr::parse_address;
use crate::ipam::{Attachment, NetworkName};
use crate::retry::{self, Deadline};
use crate::small_file::{error_text, read_small};
use fs2::FileExt;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What host-local has in its directory beside the files of addresses.
const LOCK: &str = "lock";
const LAST: &str = "last_reserved_ip";

/// For how long a DEL waits for the lock. host-local has it for milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// What host-local has noted about an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The container ID.
    pub container: String,
    /// The interface. host-local has written it since version 0.8.
    pub ifname: Option<String>,
}

impl Note {
    /// Returns whether an attachment has the address.
    #[must_use]
    pub fn is_of(&self, container: &str, ifname: &str) -> bool {
        self.container == container && self.ifname.as_deref().is_none_or(|own| own == ifname)
    }
}

/// The files of one network, see the module.
#[derive(Debug, Clone)]
pub struct HostLocal {
    directory: PathBuf,
}

impl HostLocal {
    /// Returns the files of a network in a data directory of host-local.
    #[must_use]
    pub fn of(data_dir: &Path, network: &NetworkName) -> Self {
        Self { directory: data_dir.join(network.as_str()) }
    }

    /// Returns the files of a directory that is one network's.
    #[must_use]
    pub const fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the path of the file of an address.
    #[must_use]
    pub fn path(&self, address: IpAddr) -> PathBuf {
        self.directory.join(address.to_string())
    }

    /// Returns the names of all files that are not host-local's own, in order. A directory that does
    /// not exist has none.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != LOCK && !name.starts_with(LAST) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Returns the addresses that host-local has given.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn given(&self) -> io::Result<Vec<IpAddr>> {
        Ok(self.names()?.iter().filter_map(|name| parse_address(name).ok()).collect())
    }

    /// Reads the file of an address; `None` if there is none.
    ///
    /// # Errors
    /// The reason why it cannot be read.
    pub fn note(&self, address: IpAddr) -> Result<Option<Note>, String> {
        let bytes = match read_small(&self.path(address)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error_text(&error)),
        };
        let text = String::from_utf8(bytes).map_err(|_| "its content is not text".to_owned())?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let container = lines.next().ok_or_else(|| "it names no container".to_owned())?.to_owned();
        Ok(Some(Note { container, ifname: lines.next().map(str::to_owned) }))
    }

    /// Removes the files of an attachment, under the lock of host-local. May be repeated.
    ///
    /// # Errors
    /// Some files may still be there.
    pub fn forget(&self, attachment: &Attachment) -> Result<(), String> {
        let failed = |path: &Path, error: &io::Error| {
            format!("cannot remove {}: {}", path.display(), error_text(error))
        };
        let (container, ifname) = (attachment.container.as_str(), attachment.ifname.as_str());
        let is_ours = |address: &IpAddr| {
            self.note(*address).is_ok_and(|note| note.is_some_and(|it| it.is_of(container, ifname)))
        };
        let given = self.given().map_err(|error| failed(&self.directory, &error))?;
        if !given.iter().any(is_ours) {
            return Ok(());
        }
        let lock = self.directory.join(LOCK);
        let file = File::options().create(true).append(true).open(&lock);
        let file = file.map_err(|error| failed(&lock, &error))?;
        let locked =
            retry::until(&Deadline::after(PATIENCE), || match file.try_lock_exclusive() {
                Ok(()) => Ok(Some(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(failed(&lock, &error)),
            })?;
        if locked.is_none() {
            return Err(format!("another process has the lock {}", lock.display()));
        }
        for address in given.into_iter().filter(is_ours) {
            let path = self.path(address);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::{ContainerId, IfName, NodeName};

    #[test]
    fn a_del_removes_the_files_of_its_attachment_alone() {
        let root =
            std::env::temp_dir().join(format!("hereabouts-host-local-{}", std::process::id()));
        let network = NetworkName::parse("n").unwrap();
        let files = HostLocal::of(&root, &network);
        let attachment = |container: &str| Attachment {
            node: NodeName::parse("n1").unwrap(),
            network: network.clone(),
            container: ContainerId::parse(container).unwrap(),
            ifname: IfName::parse("eth0").unwrap(),
        };
        assert_eq!(files.given().unwrap(), [] as [IpAddr; 0]);
        files.forget(&attachment("c1")).unwrap();
        assert!(!root.exists(), "nothing is made where nothing is");
        std::fs::create_dir_all(root.join("n")).unwrap();
        for (name, content) in [
            ("10.0.0.2", "c1\r\neth0"),
            ("10.0.0.3", "c1\r\neth1"),
            ("10.0.0.4", "c2\r\neth0"),
            ("fd00::2", "c1"),
            ("10.0.0.5", ""),
            ("10.0.0.6", "c1\r\neth0\r\n"),
            ("last_reserved_ip.0", "10.0.0.6"),
            ("lock", ""),
            ("note", "c1\r\neth0"),
        ] {
            std::fs::write(root.join("n").join(name), content).unwrap();
        }
        assert_eq!(files.given().unwrap().len(), 6);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let note = files.note(address("10.0.0.3")).unwrap().unwrap();
        assert_eq!((note.container.as_str(), note.ifname.as_deref()), ("c1", Some("eth1")));
        assert!(files.note(address("10.0.0.5")).unwrap_err().contains("no container"));
        files.forget(&attachment("c1")).unwrap();
        let left: Vec<String> = files.given().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(left, ["10.0.0.3", "10.0.0.4", "10.0.0.5"]);
        assert!(root.join("n/note").exists());
        std::fs::remove_dir_all(root).unwrap();
    }
}
