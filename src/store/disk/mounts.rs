//! Finds mount points that this machine's tables list and that have nothing mounted. The tables are
//! /etc/fstab, and the mount and automount units of systemd, whose file names are their paths. The
//! check runs only before a store is created, which is rare.

use crate::small_file::read_small;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const FSTAB: &str = "/etc/fstab";
/// The first directory that has a unit of a name defines the unit.
const UNITS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/run/systemd/generator.early",
    "/run/systemd/generator.late",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// A node with thousands of pods has a megabyte of mounts.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Returns a description of the mount point, at a path or above it, that is listed and not mounted.
pub(crate) fn unmounted(path: &Path) -> io::Result<Option<String>> {
    let real = resolved(path);
    let mut listed = Vec::new();
    fstab(&mut listed);
    units(&mut listed);
    listed.retain(|(point, _)| {
        point != Path::new("/") && [path, &real].iter().any(|path| path.starts_with(point))
    });
    if listed.is_empty() {
        return Ok(None);
    }
    let mounted = mounted()?;
    let is_mounted = |point: &Path| mounted.contains(point) || mounted.contains(&resolved(point));
    Ok(listed
        .into_iter()
        .find(|(point, _)| !is_mounted(point))
        .map(|(point, table)| format!("{} ({table} lists it)", point.display())))
}

/// Returns the path without symbolic links, as far as it exists.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    found.map_or_else(
        || path.to_owned(),
        |(above, real)| path.strip_prefix(above).map_or(real.clone(), |rest| real.join(rest)),
    )
}

fn fstab(listed: &mut Vec<(PathBuf, String)>) {
    let bytes = read_small(Path::new(FSTAB)).unwrap_or_default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut words =
            line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let (Some(first), Some(point)) = (words.next(), words.next()) else { continue };
        if !first.starts_with(b"#") && point.starts_with(b"/") {
            listed.push((normalized(&unescaped(point, 8)), FSTAB.to_owned()));
        }
    }
}

fn units(listed: &mut Vec<(PathBuf, String)>) {
    let mut seen = HashSet::new();
    for directory in UNITS {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let stem = [".mount", ".automount"]
                .iter()
                .find_map(|end| name.as_bytes().strip_suffix(end.as_bytes()));
            let Some(stem) = stem else { continue };
            // An empty file, or a link to /dev/null, means that there is no such unit.
            let path = entry.path();
            if !seen.insert(name.clone())
                || path.metadata().map_or(true, |found| !found.is_file() || found.len() == 0)
            {
                continue;
            }
            let slashes: Vec<u8> =
                stem.iter().map(|byte| if *byte == b'-' { b'/' } else { *byte }).collect();
            let point = Path::new("/").join(unescaped(&slashes, 16));
            listed.push((normalized(&point), path.display().to_string()));
        }
    }
}

/// Returns the path without a slash at the end and without two slashes in a row.
fn normalized(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Returns the mounted paths. An automount point alone does not count.
fn mounted() -> io::Result<HashSet<PathBuf>> {
    let mut bytes = Vec::new();
    File::open("/proc/self/mountinfo")?.take(LARGEST).read_to_end(&mut bytes)?;
    let mut points = HashSet::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let kind = words.iter().position(|word| *word == b"-").and_then(|at| words.get(at + 1));
        if let Some(point) = words.get(4).filter(|_| kind != Some(&&b"autofs"[..])) {
            points.insert(unescaped(point, 8));
        }
    }
    Ok(points)
}

/// Decodes `\040` of the kernel and of fstab, or `\x2d` of systemd.
pub(crate) fn unescaped(text: &[u8], radix: u32) -> PathBuf {
    let (lead, digits) = if radix == 8 { (&b"\\"[..], 3) } else { (&b"\\x"[..], 2) };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let code = rest.strip_prefix(lead).and_then(|code| code.get(..digits));
        let code = code
            .and_then(|code| std::str::from_utf8(code).ok())
            .and_then(|code| u8::from_str_radix(code, radix).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[lead.len() + digits..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_tables_are_read_back() {
        assert_eq!(unescaped(br"/mnt/a\040b", 8), Path::new("/mnt/a b"));
        assert_eq!(unescaped(br"mnt/a\x2db\x20c", 16), Path::new("mnt/a-b c"));
        assert_eq!(unescaped(br"/a\04", 8), Path::new(r"/a\04"));
    }

    #[test]
    fn what_is_mounted_is_seen() {
        let mounted = mounted().unwrap();
        assert!(mounted.contains(Path::new("/proc")) && !mounted.contains(Path::new("/proc/self")));
    }
}
