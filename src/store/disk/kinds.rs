//! What the type in the table of mounts says about a filesystem. Some filesystems can never
//! guarantee what a shared store needs, and some guarantee it only with one of their settings. The
//! type is looked up only if statfs(2) names no local filesystem. `docs/filesystems.md` lists what
//! was tested.

use super::Kind;
use super::mounts::unescaped;
use nix::libc;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A node with thousands of pods has a megabyte of mounts.
const LARGEST: u64 = 64 * 1024 * 1024;

const MOOSEFS: &str =
    "MooseFS answers before it writes, unless mfsmaster.cfg has CHANGELOG_SAVE_MODE = 2";
const JUICEFS: &str = "JuiceFS on Redis answers before it writes, unless redis.conf has appendonly yes and appendfsync always";

/// One line of the table of mounts.
struct Mount {
    /// The directory of the filesystem that is mounted, `/` for all of it.
    root: Vec<u8>,
    point: PathBuf,
    kind: String,
    source: String,
    options: String,
}

/// Returns what is known about the filesystem of an open file.
///
/// # Errors
/// The kernel does not say which mount it is.
pub(crate) fn of(found: BorrowedFd<'_>) -> io::Result<Kind> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", found.as_raw_fd()))?;
    let id = about
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))
        .map(|id| id.trim().to_owned())
        .unwrap_or_default();
    // Large enough for a usual table: each time the buffer is too small, the kernel is asked again.
    let mut table = Vec::with_capacity(64 * 1024);
    File::open("/proc/self/mountinfo")?.take(LARGEST).read_to_end(&mut table)?;
    let line = table
        .split(|byte| *byte == b'\n')
        .find(|line| line.split(|byte| *byte == b' ').next() == Some(id.as_bytes()));
    Ok(line
        .and_then(parse)
        .map_or(Kind::Unknown, |mount| of_mount(&mount, &|mount| branches(mount))))
}

/// Parses a line: `36 35 98:0 /root /point rw,noatime master:1 - type source options`.
fn parse(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let end = words.iter().position(|word| *word == b"-")?;
    let rest = words.get(end + 1..)?;
    Some(Mount {
        root: words.get(3)?.to_vec(),
        point: unescaped(words.get(4)?, 8),
        kind: text(rest.first()?),
        source: unescaped(rest.get(1)?, 8).to_string_lossy().into_owned(),
        options: rest.get(2).map(|word| text(word)).unwrap_or_default(),
    })
}

fn of_mount(mount: &Mount, branches: &dyn Fn(&Mount) -> Option<String>) -> Kind {
    let no_links =
        |name: &str| Kind::Unfit(format!("{name} has no hard links, which the store needs"));
    let option = |wanted: &[&str]| mount.options.split(',').any(|option| wanted.contains(&option));
    match &*mount.kind {
        "fuse.mergerfs" => merged(branches(mount).as_deref(), &mount.source),
        "fuse.unionfs" | "fuse.unionfs-fuse" => {
            Kind::Unfit("unionfs can hold the same name in each of its branches, so two machines can create the same name".to_owned())
        }
        "fuse.seaweedfs" => Kind::Unfit("SeaweedFS lets two machines create the same name at once".to_owned()),
        "fuse.s3fs" => no_links("s3fs"),
        "fuse.rclone" => no_links("an rclone mount"),
        // Linux uses the second form since 6.16.
        "overlay" if option(&["volatile", "fsync=volatile"]) => {
            Kind::Unfit("the overlay is mounted with volatile, so a sync writes nothing to the disk; mount it without volatile".to_owned())
        }
        // The type of MooseFS is "fuse".
        _ if mount.source.starts_with("mfs#") => Kind::Needs(MOOSEFS),
        "fuse.juicefs" => Kind::Needs(JUICEFS),
        _ => Kind::Unknown,
    }
}

/// Returns the kind of a mergerfs mount. A mergerfs over one directory is as good as that
/// directory. mergerfs reports its branches at the root of its mount, and in the source unless
/// `fsname` replaces it.
fn merged(branches: Option<&str>, source: &str) -> Kind {
    let is_one = branches.map_or_else(
        || source.starts_with('/') && !source.contains(':'),
        |branches| !branches.contains(':'),
    );
    if is_one {
        return Kind::Unknown;
    }
    let what = "mergerfs can hold the same name in each of its branches, so two machines can create the same name";
    let seen = branches.map_or_else(|| format!("of {source}"), str::to_owned);
    Kind::Unfit(format!("{what} ({seen})"))
}

/// Returns the branches as mergerfs reports them, `/a=RW:/b=RW`. It does not report them if only a
/// directory of it is mounted.
fn branches(mount: &Mount) -> Option<String> {
    if mount.root != b"/" {
        return None;
    }
    let file = CString::new(mount.point.join(".mergerfs").as_os_str().as_bytes()).ok()?;
    let mut value = vec![0u8; 64 * 1024];
    #[allow(unsafe_code, reason = "no library here reads extended attributes")]
    // SAFETY: both texts end with a zero byte, and no more is written than there is room for.
    let length = unsafe {
        libc::lgetxattr(
            file.as_ptr(),
            c"user.mergerfs.branches".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(usize::try_from(length).ok()?);
    Some(String::from_utf8_lossy(&value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(line: &str, branches: Option<&str>) -> String {
        let mount = parse(line.as_bytes()).unwrap();
        match of_mount(&mount, &|_| branches.map(str::to_owned)) {
            Kind::Unknown => String::new(),
            Kind::Unfit(reason) => reason,
            Kind::Needs(setting) => setting.to_owned(),
        }
    }

    fn line(kind: &str, source: &str, options: &str) -> String {
        format!("70 67 0:42 / /mnt/a\\040b rw,nosuid - {kind} {source} {options}")
    }

    /// As Linux 6.18 shows mounts of the versions in `docs/filesystems.md`.
    #[test]
    fn unfit_filesystems_are_known_by_their_type() {
        let rw = "rw,user_id=0,group_id=0";
        for (kind, source, words) in [
            ("fuse.unionfs", "unionfs", "each of its branches"),
            ("fuse.seaweedfs", "127.0.0.1:8888:/", "the same name at once"),
            ("fuse.s3fs", "s3fs", "no hard links"),
            ("fuse.rclone", "remote:", "no hard links"),
            ("fuse", "mfs\\043192.0.2.1:9421", "CHANGELOG_SAVE_MODE = 2"),
            ("fuse.juicefs", "JuiceFS:hab", "appendfsync always"),
        ] {
            assert!(known(&line(kind, source, rw), None).contains(words), "{kind}");
        }
        for (kind, source) in [
            ("fuse.sshfs", "x:/d"),
            ("fuse", "/d1"),
            ("fuse.glusterfs", "192.0.2.1:/hab"),
            ("overlay", "o"),
        ] {
            assert_eq!(known(&line(kind, source, rw), None), "", "{kind}");
        }
    }

    #[test]
    fn mergerfs_is_unfit_where_it_has_more_than_one_branch_or_hides_them() {
        let two = Some("/d1=RW:/d2=RW");
        for (source, branches) in [("1:2", two), ("pool", two), ("1:2", None), ("pool", None)] {
            assert!(
                known(&line("fuse.mergerfs", source, "rw"), branches)
                    .contains("each of its branches"),
                "{source} {branches:?}"
            );
        }
        for (source, branches) in [("/d1", None), ("pool", Some("/d1=RW"))] {
            assert_eq!(known(&line("fuse.mergerfs", source, "rw"), branches), "", "{source}");
        }
    }

    #[test]
    fn a_volatile_overlay_is_unfit_whatever_the_kernel_calls_it() {
        for options in
            ["rw,lowerdir=l,upperdir=u,workdir=w,volatile", "rw,lowerdir=l,uuid=on,fsync=volatile"]
        {
            assert!(known(&line("overlay", "o", options), None).contains("volatile"), "{options}");
        }
        assert_eq!(known(&line("overlay", "volatile", "rw,lowerdir=volatile"), None), "");
    }

    #[test]
    fn the_mount_of_an_open_file_is_found() {
        use std::os::fd::AsFd;
        let root = File::open("/").unwrap();
        assert!(matches!(of(root.as_fd()), Ok(Kind::Unknown | Kind::Unfit(_))));
    }
}
