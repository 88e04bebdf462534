//! Opens a file that a network configuration names. The author of that configuration is not root,
//! and a mere open can do harm: a watchdog starts, a line of the kernel's log is lost, a pod's own
//! FUSE daemon never answers. So each name on the way is opened as a path (`O_PATH`), which asks
//! only the filesystem in which the name is found. Its mount is checked before anything else is
//! done with it, and only a regular file is opened.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;
use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Filesystems of the kernel, and filesystems that mount something on access or ask a process.
const NEVER: &[&str] = &[
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "functionfs",
    "fusectl",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

const MOST_LINKS: u32 = 40;

/// The mounts of this process's namespace, by their number.
pub(super) struct Mounts {
    /// The device and the type of each mount.
    by_id: HashMap<u64, (String, String)>,
    /// The device of the root.
    root: Option<String>,
}

/// The place to which a path has led so far.
struct Walk<'a> {
    mounts: Mounts,
    allowed: &'a [PathBuf],
    root: OwnedFd,
    /// Each directory below the root, with its name.
    at: Vec<(OsString, OwnedFd)>,
}

/// Reads a regular file. Returns where it is, with all links followed, and its bytes.
///
/// # Errors
/// The kernel's error; or the file is not a regular file, or it is on a filesystem from which no
/// network configuration is read.
pub(super) fn read(path: &Path, allowed: &[PathBuf]) -> io::Result<(PathBuf, Vec<u8>)> {
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut walk = Walk { mounts: Mounts::read()?, allowed, root, at: Vec::new() };
    if !path.is_absolute() {
        return Err(Errno::ENOENT.into());
    }
    walk.go(path)?;
    let place = walk.place(None);
    let found = walk.at.last().map_or(&walk.root, |(_, fd)| fd);
    Ok((place, crate::small_file::read_found(found)?))
}

impl Walk<'_> {
    fn go(&mut self, path: &Path) -> io::Result<()> {
        let mut todo: VecDeque<OsString> =
            path.components().map(|part| part.as_os_str().to_owned()).collect();
        let mut links = 0;
        while let Some(next) = todo.pop_front() {
            match Path::new(&next).components().next() {
                None | Some(Component::CurDir | Component::Prefix(_)) => {}
                Some(Component::RootDir) => self.at.clear(),
                Some(Component::ParentDir) => {
                    self.at.pop();
                }
                Some(Component::Normal(name)) => {
                    if let Some(target) = self.enter(name)? {
                        links += 1;
                        if MOST_LINKS < links {
                            return Err(Errno::ELOOP.into());
                        }
                        for part in Path::new(&target).components().rev() {
                            todo.push_front(part.as_os_str().to_owned());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes one name further. If the name is a link, returns where the link leads instead.
    fn enter(&mut self, name: &OsStr) -> io::Result<Option<OsString>> {
        let above = self.at.last().map_or(&self.root, |(_, fd)| fd);
        let found = openat(
            above.as_fd(),
            name,
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        self.mounts.check(&found, &self.place(Some(name)), self.allowed)?;
        // For a link, this reads its target; for anything else it fails.
        match readlinkat(found.as_fd(), "") {
            Ok(target) => Ok(Some(target)),
            Err(Errno::EINVAL | Errno::ENOENT) => {
                self.at.push((name.to_owned(), found));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn place(&self, name: Option<&OsStr>) -> PathBuf {
        let names = self.at.iter().map(|(name, _)| name.as_os_str()).chain(name);
        std::iter::once(OsStr::new("/")).chain(names).collect()
    }
}

impl Mounts {
    /// Reads the table of mounts.
    ///
    /// # Errors
    /// The kernel does not show it.
    pub(super) fn read() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/self/mountinfo")?;
        let (mut by_id, mut root) = (HashMap::new(), None);
        for line in text.lines() {
            // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
            let mut words = line.split(' ');
            let (id, device, place) = (words.next(), words.nth(1), words.nth(1));
            let kind = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next());
            if let (Some(Ok(id)), Some(device), Some(kind)) = (id.map(str::parse), device, kind) {
                if place == Some("/") {
                    root = Some(device.to_owned());
                }
                by_id.insert(id, (device.to_owned(), kind.to_owned()));
            }
        }
        Ok(Self { by_id, root })
    }

    /// Refuses a file on a filesystem that must not contain a configuration or a log. The node's
    /// own root may be of any type.
    ///
    /// # Errors
    /// The file is on such a filesystem, or its mount is unknown.
    pub(super) fn check(
        &self,
        found: &OwnedFd,
        place: &Path,
        allowed: &[PathBuf],
    ) -> io::Result<()> {
        let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", found.as_raw_fd()))?;
        let id =
            about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok());
        let Some((device, kind)) = id.and_then(|id| self.by_id.get(&id)) else {
            return Err(io::Error::other("cannot determine its mount"));
        };
        if self.root.as_ref() == Some(device) {
            return Ok(());
        }
        let is_fuse = kind == "fuse" || kind == "fuseblk" || kind.starts_with("fuse.");
        let is_allowed = || allowed.iter().any(|root| place.starts_with(root));
        if NEVER.contains(&kind.as_str()) || (is_fuse && !is_allowed()) {
            let more = if is_fuse { ", outside allowed_paths of the node's flat file" } else { "" };
            return Err(io::Error::other(format!(
                "{} is on {kind}, where a network configuration must not name a file{more}",
                place.display()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuse_is_allowed_where_it_is_listed_and_the_kernels_own_nowhere() {
        let found = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let about =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", found.as_raw_fd())).unwrap();
        let id: u64 = about
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let check = |kind: &str, root: &str, allowed: &[PathBuf]| {
            let mounts = Mounts {
                by_id: HashMap::from([(id, ("0:50".to_owned(), kind.to_owned()))]),
                root: Some(root.to_owned()),
            };
            mounts.check(&found, Path::new("/mnt/site/file"), allowed).is_ok()
        };
        let [site, beside] = ["/mnt/site", "/mnt/si"].map(|path| vec![PathBuf::from(path)]);
        for kind in ["fuse", "fuseblk", "fuse.sshfs", "fuse.bindfs"] {
            assert!(
                check(kind, "8:1", &site)
                    && !check(kind, "8:1", &beside)
                    && !check(kind, "8:1", &[]),
                "{kind}"
            );
        }
        for kind in ["proc", "sysfs", "devtmpfs", "autofs", "cgroup2", "bpf"] {
            assert!(!check(kind, "8:1", &site), "{kind}");
        }
        // A node whose root is on one of these.
        assert!(
            check("fuse.mergerfs", "0:50", &[])
                && check("ext4", "8:1", &[])
                && check("nfs4", "8:1", &[])
        );
    }

    #[test]
    fn links_are_followed_and_the_kernels_filesystems_are_not_entered() {
        let directory =
            std::env::temp_dir().join(format!("hereabouts-named-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("a/b")).unwrap();
        std::fs::write(directory.join("a/b/file"), "x").unwrap();
        for (name, target) in
            [("link", "a/./b/../b/file"), ("absolute", "/proc/self/status"), ("round", "round")]
        {
            std::os::unix::fs::symlink(target, directory.join(name)).unwrap();
        }
        let real = directory.canonicalize().unwrap();
        for path in ["a/b/file", "link"] {
            assert_eq!(
                read(&directory.join(path), &[]).unwrap(),
                (real.join("a/b/file"), b"x".to_vec())
            );
        }
        let refused = |path: &Path| read(path, &[]).unwrap_err().to_string();
        assert!(refused(&directory.join("absolute")).contains("is on proc"));
        assert!(refused(Path::new("/proc/self/root/etc/hostname")).contains("is on proc"));
        assert!(refused(Path::new("/sys/kernel/notes")).contains("is on sysfs"));
        assert!(
            refused(&directory.join("a")).contains("EISDIR")
                || refused(&directory.join("a")).contains("directory")
        );
        assert_eq!(
            read(&directory.join("round"), &[]).unwrap_err().raw_os_error(),
            Some(Errno::ELOOP as i32)
        );
        assert_eq!(read(&directory.join("none"), &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
