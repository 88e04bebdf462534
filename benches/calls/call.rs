//! One process, from its start to its end: how long, how much memory, what it
//! said.
//!
//! The time is that between the start and the reaping, as a runtime sees it.
//! Nothing that belongs to the driver is inside: standard input is filled
//! before the start and the answer is judged after the end.

use anyhow::{Context, Result, bail};
use nix::libc;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A process that ended well.
pub(crate) struct Ended {
    /// From the start to the reaping.
    pub(crate) took: Duration,
    /// The largest resident set, in KiB. The kernel counts what the child
    /// shared with this process until its exec, so this is never less than
    /// the driver's own; see `machine::own_peak`.
    pub(crate) peak_kib: u64,
    /// All that it wrote to standard output.
    pub(crate) stdout: Vec<u8>,
}

/// Starts a process and waits for its end.
///
/// # Errors
/// It cannot be started, or its exit status is not 0.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Result<Ended> {
    // A pipe holds 64 KiB, so the whole input fits before anybody reads.
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(input)?;
    drop(writer);
    command.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::null());

    let mut stdout = Vec::new();
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout)?;
    }
    let (status, peak_kib) = reap(child.id())?;
    let took = start.elapsed();

    if status != 0 {
        let said = String::from_utf8_lossy(&stdout);
        bail!("{:?} ended with wait status {status:#x}: {said}", command.get_program());
    }
    Ok(Ended { took, peak_kib, stdout })
}

/// Waits for a child; its wait status and its peak memory. `Child::wait` would
/// throw the second away.
#[allow(unsafe_code, reason = "no safe crate that the project has wraps wait4; both out-parameters are plain data")]
fn reap(pid: u32) -> Result<(i32, u64)> {
    let pid = libc::pid_t::try_from(pid)?;
    let mut status = 0;
    loop {
        // SAFETY: all-zero bytes are a valid rusage, and both pointers are to
        // live locals of the types that the call writes.
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

/// An IPAM plugin with one store.
pub(crate) struct Plugin {
    pub(crate) program: PathBuf,
    /// Variables beside `CNI_*`.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// The network configuration.
    pub(crate) input: String,
}

impl Plugin {
    /// hereabouts with its store in `store/data`.
    ///
    /// # Errors
    /// The flat file cannot be written.
    pub(crate) fn hereabouts(program: &Path, store: &Path) -> Result<Self> {
        let data = store.join("data");
        let flat = store.join("hereabouts.conf");
        let content = serde_json::json!({ "datastore": "file", "data_dir": data, "node_name": crate::NODE });
        std::fs::write(&flat, content.to_string()).with_context(|| format!("cannot write {}", flat.display()))?;
        let ipam = serde_json::json!({ "type": "hereabouts", "range": crate::RANGE });
        Ok(Self { program: program.to_owned(), environment: vec![("HEREABOUTS_CONFIG", flat.into())], input: network(&ipam) })
    }

    /// host-local with its store in `store/data`.
    pub(crate) fn host_local(program: &Path, store: &Path) -> Self {
        let ipam = serde_json::json!({ "type": "host-local", "subnet": crate::RANGE, "dataDir": store.join("data") });
        Self { program: program.to_owned(), environment: Vec::new(), input: network(&ipam) }
    }

    /// The command of one call; `front` is what runs it, if anything does.
    pub(crate) fn command(&self, front: &[OsString], verb: Verb, container: &str) -> Command {
        let mut command = match front {
            [] => Command::new(&self.program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
        };
        command.env_clear().envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.env("CNI_COMMAND", verb.name()).env("CNI_CONTAINERID", container);
        command.env("CNI_NETNS", "/var/run/netns/none").env("CNI_IFNAME", "net1");
        command.env("CNI_PATH", self.program.parent().unwrap_or(Path::new("/")));
        command
    }

    /// One call, its answer checked; an ADD's address comes with it.
    ///
    /// # Errors
    /// The call failed, or it answered what it should not.
    pub(crate) fn call(&self, verb: Verb, container: &str) -> Result<(Ended, String)> {
        let ended = run(&mut self.command(&[], verb, container), self.input.as_bytes())?;
        let address = match verb {
            Verb::Add => address(&ended.stdout)?,
            Verb::Del if ended.stdout.trim_ascii().is_empty() => String::new(),
            Verb::Del => bail!("DEL said: {}", String::from_utf8_lossy(&ended.stdout)),
        };
        Ok((ended, address))
    }
}

fn network(ipam: &serde_json::Value) -> String {
    serde_json::json!({ "cniVersion": "1.0.0", "name": crate::NETWORK, "type": "macvlan", "ipam": ipam }).to_string()
}

/// The one address in an ADD's answer.
fn address(answer: &[u8]) -> Result<String> {
    let result: serde_json::Value = serde_json::from_slice(answer).context("ADD answered no JSON")?;
    match result.get("ips").and_then(|ips| ips.as_array()).map(Vec::as_slice) {
        Some([ip]) => {
            let text = ip.get("address").and_then(|address| address.as_str()).context("ADD answered no address")?;
            let subnet: ipnet::IpNet = text.parse().with_context(|| format!("ADD answered no address: {text}"))?;
            Ok(subnet.addr().to_string())
        }
        _ => bail!("ADD answered not exactly one address: {}", String::from_utf8_lossy(answer)),
    }
}
