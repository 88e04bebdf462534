//! Describes the machine that the numbers come from, and checks that its directory is on a disk.

use crate::times::Times;
use anyhow::{Context, Result, ensure};
use nix::libc;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A filesystem in memory, from linux/magic.h.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Refuses a directory in which flushes cost nothing.
///
/// # Errors
/// Fails if the directory is on tmpfs or ramfs, or cannot be examined.
pub(crate) fn refuse_memory(directory: &Path) -> Result<()> {
    let kind = statfs(directory)
        .with_context(|| format!("statfs {}", directory.display()))?
        .filesystem_type();
    ensure!(
        kind != TMPFS_MAGIC && kind != RAMFS_MAGIC,
        "expected a directory on a disk, not in memory, where a flush costs nothing: {}",
        directory.display()
    );
    Ok(())
}

/// Returns the processor, the number of cores, the kernel and the filesystem in one line.
///
/// # Errors
/// Fails if `/proc` cannot be read.
pub(crate) fn describe(directory: &Path) -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = ["model name", "Model", "Hardware"].iter().find_map(|key| {
        cpuinfo.lines().find_map(|line| {
            line.split_once(':')
                .filter(|(name, _)| name.trim() == *key)
                .map(|(_, value)| value.trim())
        })
    });
    // The cores of the machine. This process may be limited to one of them.
    let cores = cpuinfo
        .lines()
        .filter(|line| line.split(':').next().is_some_and(|name| name.trim() == "processor"))
        .count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let filesystem = filesystem(directory)?;
    let model = model.unwrap_or("unknown processor");
    Ok(format!(
        "{model}, {cores} cores, Linux {}, {}, {filesystem}",
        kernel.trim(),
        std::env::consts::ARCH
    ))
}

/// Returns the name of the filesystem. Among the mount points above the directory, it uses the
/// longest one, and the last one if several filesystems are mounted there. For ext4 it adds whether
/// there is a journal, because a sync without a journal is a different operation.
fn filesystem(directory: &Path) -> Result<String> {
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let kinds = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let point = fields.next()?;
        directory.starts_with(point).then_some((point.len(), fields.next()?))
    });
    let kind = kinds.max_by_key(|(length, _)| *length).map_or("unknown", |(_, kind)| kind);
    let writer = device(&directory).and_then(|device| {
        let device = Path::new("/sys/fs").join(kind).join(device.file_name()?);
        fs::read_to_string(device.join("journal_task")).ok()
    });
    Ok(match writer.as_deref().map(str::trim) {
        Some("<none>") => format!("{kind} without a journal"),
        Some(_) => format!("{kind} with a journal"),
        None => kind.to_owned(),
    })
}

/// Returns the path in /sys of the block device that a directory is on.
pub(crate) fn device(directory: &Path) -> Option<PathBuf> {
    let device = nix::sys::stat::stat(directory).ok()?.st_dev;
    fs::canonicalize(format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device))).ok()
}

/// Measures the cost of a flush: 4 KiB written in place, and `fdatasync`.
///
/// # Errors
/// Fails if the file cannot be written.
pub(crate) fn flush_cost(directory: &Path) -> Result<Times> {
    let path = directory.join("flush");
    let file = File::create_new(&path)?;
    let block = [b'.'; 4096];
    file.write_all_at(&block, 0)?;
    file.sync_all()?;
    let mut times = Times::default();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all_at(&block, 0)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    fs::remove_file(path)?;
    Ok(times)
}

/// Returns the largest resident set of this process so far, in KiB. A child's peak is only known if
/// it is larger.
///
/// # Errors
/// Fails if `/proc` cannot be read.
pub(crate) fn own_peak() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// The Go modules whose version is in the executable, and their names in the report.
const MODULES: [(&str, &[u8]); 2] = [
    ("host-local", b"github.com/containernetworking/plugins\tv"),
    ("Whereabouts", b"github.com/k8snetworkplumbingwg/whereabouts\tv"),
];

/// Returns the name and the version of a program. hereabouts prints them. For other programs, Go
/// writes the version of their module into the executable.
///
/// # Errors
/// Fails if the program cannot be read or run.
pub(crate) fn version(program: &Path) -> Result<String> {
    let bytes = fs::read(program)?;
    for (name, module) in MODULES {
        if let Some(at) = bytes.windows(module.len()).position(|window| window == module) {
            let digits =
                bytes.iter().skip(at + module.len()).take_while(|byte| byte.is_ascii_graphic());
            return Ok(format!("{name} {}", String::from_utf8(digits.copied().collect())?));
        }
    }
    let said = Command::new(program).arg("--version").env_clear().output()?.stdout;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}
