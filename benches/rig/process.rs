//! Runs one process and measures its time, its memory and its output. Also contains the verbs of an
//! IPAM plugin and the parser of its answer.
//!
//! The time is measured from the start of the process until it is reaped, as a runtime sees it. It
//! contains no work of the driver: standard input is filled before the start, and the answer is
//! checked after the end.

use anyhow::{Context, Result, bail};
use nix::libc;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A process that ended.
pub(crate) struct Ended {
    /// The status of wait(2). 0 is success.
    pub(crate) status: i32,
    /// The time from the start until the process was reaped.
    pub(crate) took: Duration,
    /// The largest resident set, in KiB. The kernel counts the memory that the child shares with
    /// this process until its exec, so this is never less than the driver's own, see
    /// `machine::own_peak`.
    pub(crate) peak_kib: u64,
    /// The whole standard output.
    pub(crate) stdout: Vec<u8>,
}

/// Runs a process, which must succeed.
///
/// # Errors
/// Fails if it cannot be started, or if its exit status is not 0.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<Ended> {
    let ended = finish(command, input)?;
    if ended.status != 0 {
        let said = String::from_utf8_lossy(&ended.stdout);
        bail!("{:?} ended with wait status {:#x}: {said}", command.get_program(), ended.status);
    }
    Ok(ended)
}

/// Runs a process, which may fail.
///
/// # Errors
/// Fails if it cannot be started.
pub(crate) fn finish(command: &mut Command, input: &[u8]) -> Result<Ended> {
    // A pipe holds 64 KiB, so the whole input fits before the process reads.
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(input)?;
    drop(writer);
    command.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::null());

    let mut stdout = Vec::new();
    let start = Instant::now();
    let mut child =
        command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout)?;
    }
    let (status, peak_kib) = reap(child.id())?;
    Ok(Ended { status, took: start.elapsed(), peak_kib, stdout })
}

/// Waits for a child, and returns its wait status and its peak memory. `Child::wait` does not
/// return the peak memory.
#[allow(
    unsafe_code,
    reason = "no safe crate that the project has wraps wait4; both out-parameters are plain data"
)]
fn reap(pid: u32) -> Result<(i32, u64)> {
    let pid = libc::pid_t::try_from(pid)?;
    let mut status = 0;
    loop {
        // SAFETY: a rusage with all bytes zero is valid, and both pointers lead to live local
        // variables of the types that the call writes.
        let (reaped, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
        };
        if reaped == pid {
            return Ok((status, u64::try_from(usage.ru_maxrss)?));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error).context("wait4");
        }
    }
}

/// The two verbs that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
}

impl Verb {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }
}

/// Returns the first address in the answer of an ADD, which must have `expected` addresses.
///
/// # Errors
/// Fails if there are more or fewer.
pub(crate) fn address(answer: &[u8], expected: usize) -> Result<String> {
    let result: serde_json::Value =
        serde_json::from_slice(answer).context("ADD answered no JSON")?;
    match result.get("ips").and_then(|ips| ips.as_array()).map(Vec::as_slice) {
        Some(ips @ [ip, ..]) if ips.len() == expected => {
            let text = ip
                .get("address")
                .and_then(|address| address.as_str())
                .context("ADD answered no address")?;
            let subnet: ipnet::IpNet =
                text.parse().with_context(|| format!("ADD answered no address: {text}"))?;
            Ok(subnet.addr().to_string())
        }
        _ => bail!(
            "ADD answered not exactly {expected} addresses: {}",
            String::from_utf8_lossy(answer)
        ),
    }
}
