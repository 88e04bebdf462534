//! Handles one call of the CNI protocol, from the environment to the answer on stdout.
//!
//! Only this module and `cli/output` write to stdout. The test vectors fix the order of the checks:
//! variables, stdin, JSON, name, version, verb. Nothing is done before all of them have passed.

use super::invocation::{self, Call, Sandbox};
use super::valid_attachments::Attachments;
use super::verb::Verb;
use super::{CniError, Code, Ip, Success, Version, result, version};
use crate::environment::CallVariables;
use std::io::{self, Read};

/// The maximum size of a network configuration, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// The parts of the process that one call uses.
pub struct Ports<'a> {
    /// The environment variables of the call.
    pub variables: &'a CallVariables,
    /// The network configuration.
    pub stdin: &'a mut dyn Read,
    /// Returns whether stdin has something to read or has ended. VERSION asks this, so that it
    /// never waits for a stdin that was left open.
    pub stdin_ready: &'a dyn Fn() -> bool,
    /// Writes all bytes to the caller, without any buffer.
    pub deliver: &'a dyn Fn(&[u8]) -> io::Result<()>,
    /// Returns the reason why no output on stdout would reach a caller, if there is one. Asked
    /// before an ADD begins.
    pub undeliverable: &'a dyn Fn() -> Option<String>,
    /// Returns whether the process that started this one has exited.
    pub orphaned: &'a dyn Fn() -> bool,
}

/// The implementation of the verbs.
pub trait Plugin {
    /// Allocates addresses. After a failure, no address stays allocated.
    ///
    /// # Errors
    /// Any failure. The caller gets it as the answer.
    fn add<'p>(&'p self, call: &Call, sandbox: &Sandbox) -> Result<Box<dyn Added + 'p>, CniError>;
    /// Frees all addresses that the attachment holds.
    ///
    /// # Errors
    /// Fails only if success would hide a leak of addresses.
    fn del(&self, call: &Call, sandbox: &Sandbox) -> Result<(), CniError>;
    /// Compares the records with the previous result.
    ///
    /// # Errors
    /// Fails for any difference.
    fn check(&self, call: &Call, sandbox: &Sandbox, previous: &[Ip]) -> Result<(), CniError>;
    /// Frees the addresses of attachments that are no longer valid.
    ///
    /// # Errors
    /// Returns what could not be freed.
    fn gc(&self, call: &Call, valid: &Attachments) -> Result<(), CniError>;
    /// Checks whether an ADD would be served.
    ///
    /// # Errors
    /// Returns the reason why it would not be served.
    fn status(&self, call: &Call) -> Result<(), CniError>;
}

/// An ADD that has allocated its addresses, but whose result is not yet printed. No other call of
/// the attachment begins until this value is dropped.
pub trait Added {
    /// Returns the result to print.
    fn success(&self) -> &Success;
    /// Frees the addresses that this call allocated. For a repeated ADD this does nothing.
    ///
    /// # Errors
    /// Returns what could not be freed.
    fn undo(self: Box<Self>) -> Result<(), CniError>;
    /// Ends the ADD after the caller received the answer.
    fn delivered(self: Box<Self>);
}

/// The end of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success: exit status 0.
    Done,
    /// Failure: exit status 1. The error document was written if possible.
    Failed(CniError),
}

/// Answers one call of the protocol.
pub fn dispatch(plugin: &dyn Plugin, mut ports: Ports<'_>) -> Outcome {
    let mut spoken = Version::NEWEST;
    match answer(plugin, &mut ports, &mut spoken) {
        Ok(()) => Outcome::Done,
        Err(mut error) => {
            if let Err(unwritten) = (ports.deliver)(&error.encode(spoken)) {
                error.details = format!("{}; stdout: {unwritten}", error.details);
            }
            Outcome::Failed(error)
        }
    }
}

fn answer(
    plugin: &dyn Plugin,
    ports: &mut Ports<'_>,
    spoken: &mut Version,
) -> Result<(), CniError> {
    let command = ports.variables.command.clone().unwrap_or_default();
    let verb = command.to_str().and_then(Verb::find);
    if verb == Some(Verb::Version) {
        return answer_version(ports);
    }
    let sandbox =
        verb.map(|verb| invocation::sandbox(ports.variables, verb)).transpose()?.flatten();
    let mut document = invocation::document(&read_stdin(ports.stdin)?, verb)?;
    let text = version::text_of(&document.configuration)?;
    if let Some(version) = Version::find(text) {
        *spoken = version;
    }
    let version = match verb {
        Some(Verb::Check) => version::require_from(text, Version::V040, "CHECK")?,
        Some(Verb::Gc) => version::require_from(text, Version::V110, "GC")?,
        Some(Verb::Status) => version::require_from(text, Version::V110, "STATUS")?,
        _ => version::require(text)?,
    };
    let args = ports
        .variables
        .args
        .clone()
        .map(std::os::unix::ffi::OsStringExt::into_vec)
        .unwrap_or_default();
    let valid = (verb == Some(Verb::Gc)).then(|| document.attachments());
    let call =
        Call { network: document.network, version, configuration: document.configuration, args };
    match (verb, &sandbox) {
        (Some(Verb::Add), Some(sandbox)) => answer_add(plugin, ports, &call, sandbox),
        (Some(Verb::Del), Some(sandbox)) => plugin.del(&call, sandbox),
        (Some(Verb::Check), Some(sandbox)) => {
            plugin.check(&call, sandbox, &result::previous(&call.configuration, version)?)
        }
        (Some(Verb::Gc), _) => {
            plugin.gc(&call, &valid.unwrap_or_else(|| Ok(Attachments::default()))?)
        }
        (Some(Verb::Status), _) => plugin.status(&call),
        _ => {
            let shown = command.to_string_lossy();
            let details = format!(
                "CNI_COMMAND: expected ADD, DEL, CHECK, GC, STATUS or VERSION, found {}",
                crate::json::excerpt(&shown)
            );
            Err(CniError::with_message(Code::Environment, "unknown CNI_COMMAND", details))
        }
    }
}

fn answer_add(
    plugin: &dyn Plugin,
    ports: &Ports<'_>,
    call: &Call,
    sandbox: &Sandbox,
) -> Result<(), CniError> {
    if let Some(reason) = (ports.undeliverable)() {
        return Err(CniError::new(Code::Io, reason));
    }
    let added = plugin.add(call, sandbox)?;
    let Err(undelivered) = hand_over(ports, call, added.success()) else {
        added.delivered();
        return Ok(());
    };
    let kept = match added.undo() {
        Ok(()) => "what this call allocated was released".to_owned(),
        Err(error) => format!(
            "releasing what this call allocated failed too: {}; hint: DEL releases it",
            error.details
        ),
    };
    Err(CniError::new(Code::Io, format!("{undelivered}; {kept}")))
}

/// Writes the result, and checks before and after whether the caller still exists: a pipe accepts
/// bytes even if no process will read them.
fn hand_over(ports: &Ports<'_>, call: &Call, success: &Success) -> Result<(), String> {
    let gone = || "the calling process has exited, so the result cannot be delivered".to_owned();
    if (ports.orphaned)() {
        return Err(gone());
    }
    success
        .encode(call.version)
        .and_then(|bytes| deliver(ports, &bytes))
        .map_err(|error| error.details)?;
    if (ports.orphaned)() { Err(gone()) } else { Ok(()) }
}

fn deliver(ports: &Ports<'_>, bytes: &[u8]) -> Result<(), CniError> {
    (ports.deliver)(bytes).map_err(|error| {
        CniError::new(Code::Io, format!("stdout: cannot write the result: {error}"))
    })
}

/// Answers VERSION with the version on stdin if it is valid, and with 1.1.0 otherwise.
fn answer_version(ports: &mut Ports<'_>) -> Result<(), CniError> {
    let mut head = vec![0; 64 * 1024];
    let length = if (ports.stdin_ready)() { ports.stdin.read(&mut head).unwrap_or(0) } else { 0 };
    let asked = crate::json::Json::parse(&head[..length]).ok();
    let version =
        asked.as_ref().and_then(|json| json.find("cniVersion")?.as_str().and_then(Version::find));
    let supported: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
    let document = serde_json::json!({
        "cniVersion": version.unwrap_or(Version::NEWEST).as_str(),
        "supportedVersions": supported,
    });
    deliver(ports, format!("{document}\n").as_bytes())
}

fn read_stdin(stdin: &mut dyn Read) -> Result<Vec<u8>, CniError> {
    // Large enough for a usual configuration. Each growth of the buffer costs two more system
    // calls.
    let mut bytes = Vec::with_capacity(8192);
    let read = stdin.take(LONGEST + 1).read_to_end(&mut bytes);
    match read {
        Ok(length) if LONGEST < length as u64 => Err(CniError::new(
            Code::Io,
            format!(
                "stdin: expected a network configuration of at most {LONGEST} bytes, found more"
            ),
        )),
        Ok(_) => Ok(bytes),
        Err(error) => Err(CniError::new(
            Code::Io,
            format!("stdin: cannot read the network configuration: {error}"),
        )),
    }
}
