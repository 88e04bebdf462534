//! One call from start to answer. Together with the command line's printer
//! this is the only place that writes to stdout.
//!
//! Order of checks, which the test vectors fix: variables, stdin, JSON, name,
//! version, verb. Nothing is done before all of them have passed.

use super::invocation::{self, Call, Sandbox};
use super::valid_attachments::Attachments;
use super::verb::Verb;
use super::{CniError, Code, Ip, Success, Version, result, version};
use crate::environment::CallVariables;
use std::io::{self, Read};

/// More than this is no network configuration.
const LONGEST: u64 = 4 * 1024 * 1024;

/// What the process lends to one call.
pub struct Ports<'a> {
    /// The variables of the call.
    pub variables: &'a CallVariables,
    /// The network configuration.
    pub stdin: &'a mut dyn Read,
    /// Whether stdin has something to read or has ended; VERSION asks, so as
    /// never to wait for a stdin that was left open.
    pub stdin_ready: &'a dyn Fn() -> bool,
    /// Writes all bytes to the caller, past every buffer.
    pub deliver: &'a dyn Fn(&[u8]) -> io::Result<()>,
    /// Why nothing written to stdout would reach a caller; asked before an ADD
    /// begins.
    pub undeliverable: &'a dyn Fn() -> Option<String>,
    /// Whether the process that started us has gone.
    pub orphaned: &'a dyn Fn() -> bool,
}

/// What the verbs do.
pub trait Plugin {
    /// Allocates; nothing stays when it fails.
    ///
    /// # Errors
    /// Whatever the caller shall be told.
    fn add<'p>(&'p self, call: &Call, sandbox: &Sandbox) -> Result<Box<dyn Added + 'p>, CniError>;
    /// Frees all that the attachment holds.
    ///
    /// # Errors
    /// Only where a silent success would leak.
    fn del(&self, call: &Call, sandbox: &Sandbox) -> Result<(), CniError>;
    /// Compares what is recorded with the previous result.
    ///
    /// # Errors
    /// Any difference.
    fn check(&self, call: &Call, sandbox: &Sandbox, previous: &[Ip]) -> Result<(), CniError>;
    /// Frees what is not valid any more.
    ///
    /// # Errors
    /// What could not be freed.
    fn gc(&self, call: &Call, valid: &Attachments) -> Result<(), CniError>;
    /// Whether an ADD would be served.
    ///
    /// # Errors
    /// Why not.
    fn status(&self, call: &Call) -> Result<(), CniError>;
}

/// An ADD that has allocated and is not printed yet. Until it is dropped no
/// other call of the attachment begins.
pub trait Added {
    /// What to print.
    fn success(&self) -> &Success;
    /// Takes back what this call created. A repeated ADD undoes nothing.
    ///
    /// # Errors
    /// What could not be taken back.
    fn undo(self: Box<Self>) -> Result<(), CniError>;
    /// The caller has the answer.
    fn delivered(self: Box<Self>);
}

/// How the call ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit status 0.
    Done,
    /// Exit status 1; the error document was written if it could be.
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

fn answer(plugin: &dyn Plugin, ports: &mut Ports<'_>, spoken: &mut Version) -> Result<(), CniError> {
    let command = ports.variables.command.clone().unwrap_or_default();
    let verb = command.to_str().and_then(Verb::find);
    if verb == Some(Verb::Version) {
        return answer_version(ports);
    }
    let sandbox = verb.map(|verb| invocation::sandbox(ports.variables, verb)).transpose()?.flatten();
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
    let args = ports.variables.args.clone().map(std::os::unix::ffi::OsStringExt::into_vec).unwrap_or_default();
    let valid = (verb == Some(Verb::Gc)).then(|| document.attachments());
    let call = Call { network: document.network, version, configuration: document.configuration, args };
    match (verb, &sandbox) {
        (Some(Verb::Add), Some(sandbox)) => answer_add(plugin, ports, &call, sandbox),
        (Some(Verb::Del), Some(sandbox)) => plugin.del(&call, sandbox),
        (Some(Verb::Check), Some(sandbox)) => plugin.check(&call, sandbox, &result::previous(&call.configuration, version)?),
        (Some(Verb::Gc), _) => plugin.gc(&call, &valid.unwrap_or_else(|| Ok(Attachments::default()))?),
        (Some(Verb::Status), _) => plugin.status(&call),
        _ => {
            let shown = command.to_string_lossy();
            let details = format!("CNI_COMMAND: expected ADD, DEL, CHECK, GC, STATUS or VERSION: {}", crate::json::excerpt(&shown));
            Err(CniError::with_message(Code::Environment, "unknown CNI_COMMAND", details))
        }
    }
}

fn answer_add(plugin: &dyn Plugin, ports: &Ports<'_>, call: &Call, sandbox: &Sandbox) -> Result<(), CniError> {
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
        Err(error) => format!("releasing what this call allocated failed too: {}; hint: DEL releases it", error.details),
    };
    Err(CniError::new(Code::Io, format!("{undelivered}; {kept}")))
}

/// Writes the result, and looks whether somebody was there to read it: a pipe
/// takes bytes that nobody will read.
fn hand_over(ports: &Ports<'_>, call: &Call, success: &Success) -> Result<(), String> {
    let gone = || "the calling process has exited, so the result cannot be delivered".to_owned();
    if (ports.orphaned)() {
        return Err(gone());
    }
    success.encode(call.version).and_then(|bytes| deliver(ports, &bytes)).map_err(|error| error.details)?;
    if (ports.orphaned)() { Err(gone()) } else { Ok(()) }
}

fn deliver(ports: &Ports<'_>, bytes: &[u8]) -> Result<(), CniError> {
    (ports.deliver)(bytes).map_err(|error| CniError::new(Code::Io, format!("stdout: cannot write the result: {error}")))
}

/// VERSION echoes a valid version on stdin and answers 1.1.0 to anything else.
fn answer_version(ports: &mut Ports<'_>) -> Result<(), CniError> {
    let mut head = vec![0; 64 * 1024];
    let length = if (ports.stdin_ready)() { ports.stdin.read(&mut head).unwrap_or(0) } else { 0 };
    let asked = crate::json::Json::parse(&head[..length]).ok();
    let version = asked.as_ref().and_then(|json| json.find("cniVersion")?.as_str().and_then(Version::find));
    let supported: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
    let document = serde_json::json!({
        "cniVersion": version.unwrap_or(Version::NEWEST).as_str(),
        "supportedVersions": supported,
    });
    deliver(ports, format!("{document}\n").as_bytes())
}

fn read_stdin(stdin: &mut dyn Read) -> Result<Vec<u8>, CniError> {
    // Room for all of a usual one: each look for more asks the kernel twice.
    let mut bytes = Vec::with_capacity(8192);
    let read = stdin.take(LONGEST + 1).read_to_end(&mut bytes);
    match read {
        Ok(length) if LONGEST < length as u64 => {
            Err(CniError::new(Code::Io, format!("stdin: expected a network configuration of at most {LONGEST} bytes, found more")))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(CniError::new(Code::Io, format!("stdin: cannot read the network configuration: {error}"))),
    }
}
