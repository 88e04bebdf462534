//! Parses what a runtime passes to the plugin: the `CNI_*` variables, and the configuration on
//! stdin (CNI specification 1.1.0, "Parameters" and "CNI operations").

use super::valid_attachments::{Attachments, attachments};
use super::verb::Verb;
use super::{CniError, Code, Version, outline};
use crate::environment::CallVariables;
use crate::ipam::{ContainerId, IdError, IfName, NetworkName};
use crate::json::{Json, MOST_VALUES, Refused, TWO_VALUES, excerpt};
use std::ffi::OsStr;
use std::path::PathBuf;

/// One call of any verb.
#[derive(Debug, Clone)]
pub struct Call {
    /// The name of the network.
    pub network: NetworkName,
    /// The version of the configuration, and of the result.
    pub version: Version,
    /// The whole plugin configuration.
    pub configuration: Json,
    /// The bytes of `CNI_ARGS`. They are not parsed here, because DEL must not fail if they are
    /// malformed.
    pub args: Vec<u8>,
}

/// The sandbox of an ADD, CHECK or DEL.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// `CNI_CONTAINERID`
    pub container: ContainerId,
    /// `CNI_IFNAME`
    pub ifname: IfName,
    /// `CNI_NETNS`. May be missing for DEL.
    pub netns: Option<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: whether the plugin's own namespace is allowed.
    pub own_netns_allowed: bool,
}

/// The part of stdin that the verb uses.
pub(super) struct Document {
    pub(super) configuration: Json,
    pub(super) network: NetworkName,
    /// The list of GC, if it was already read together with the configuration.
    attachments: Option<Result<Attachments, CniError>>,
}

impl Document {
    /// Returns the list of GC. A missing list is an error.
    pub(super) fn attachments(&mut self) -> Result<Attachments, CniError> {
        self.attachments.take().unwrap_or_else(|| attachments(&self.configuration))
    }
}

/// Checks the variables that the verb needs. Reports a malformed value before a missing one, and all
/// missing variables together.
pub(super) fn sandbox(variables: &CallVariables, verb: Verb) -> Result<Option<Sandbox>, CniError> {
    let about_sandbox = matches!(verb, Verb::Add | Verb::Del | Verb::Check);
    let container = variables
        .container_id
        .as_deref()
        .filter(|_| about_sandbox)
        .map(parse_container)
        .transpose()?;
    let ifname =
        variables.ifname.as_deref().filter(|_| about_sandbox).map(parse_ifname).transpose()?;
    let netns = variables.netns.as_ref().map(PathBuf::from);

    let mut missing = Vec::new();
    if about_sandbox && container.is_none() {
        missing.push("CNI_CONTAINERID");
    }
    if matches!(verb, Verb::Add | Verb::Check) && netns.is_none() {
        missing.push("CNI_NETNS");
    }
    if about_sandbox && ifname.is_none() {
        missing.push("CNI_IFNAME");
    }
    // The specification requires CNI_PATH for GC only. If all other variables of an ADD are
    // missing, CNI_PATH is named too, as in the reference code: one message with the whole list.
    let needs_path = verb == Verb::Gc || (verb == Verb::Add && missing.len() == 3);
    if needs_path && variables.path.is_none() {
        missing.push("CNI_PATH");
    }
    if !missing.is_empty() {
        let msg = format!("required env variables [{}] missing", missing.join(","));
        return Err(CniError::with_message(Code::Environment, msg, ""));
    }
    let own_netns_allowed = variables
        .netns_override
        .as_ref()
        .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
    Ok(container.zip(ifname).map(|(container, ifname)| Sandbox {
        container,
        ifname,
        netns,
        own_netns_allowed,
    }))
}

fn parse_container(value: &OsStr) -> Result<ContainerId, CniError> {
    let text = value.to_string_lossy();
    match value.to_str().map(ContainerId::parse) {
        Some(Ok(id)) => Ok(id),
        Some(Err(IdError::TooLong(limit))) => Err(malformed(
            "invalid CNI_CONTAINERID",
            format!("CNI_CONTAINERID: expected at most {limit} bytes: {}", text.len()),
        )),
        _ => Err(malformed("invalid characters in CNI_CONTAINERID", text.into_owned())),
    }
}

fn parse_ifname(value: &OsStr) -> Result<IfName, CniError> {
    let text = value.to_string_lossy();
    let msg = match value.to_str().map(IfName::parse) {
        Some(Ok(name)) => return Ok(name),
        Some(Err(IdError::TooLong(_))) => "interface name in CNI_IFNAME is too long",
        Some(Err(IdError::Dots)) => "interface name in CNI_IFNAME is . or ..",
        _ => "interface name in CNI_IFNAME contains / or : or whitespace characters",
    };
    Err(malformed(
        msg,
        format!(
            "CNI_IFNAME: expected 1 to 15 bytes without /, : and white space, found {}",
            excerpt(&text)
        ),
    ))
}

fn malformed(msg: &str, details: String) -> CniError {
    CniError::with_message(Code::Environment, msg, details)
}

/// Parses stdin as far as every verb needs it: one JSON object with a valid `name`. If it has too
/// many values, a verb that would allocate from it refuses it. A verb that checks or frees skips
/// what it does not need.
pub(super) fn document(bytes: &[u8], verb: Option<Verb>) -> Result<Document, CniError> {
    let decode = |reason: String| {
        CniError::new(Code::Decode, format!("network configuration on stdin: {reason}"))
    };
    let malformed = |error: serde_json::Error| match error.is_eof() {
        true => decode(format!("unexpected end of JSON input: {error}")),
        false => decode(format!("expected JSON: {error}")),
    };
    let (json, attachments) = match Json::parse_within(bytes, MOST_VALUES) {
        Ok(json @ (Json::Object(_) | Json::Null)) => (json, None),
        Ok(other) => return Err(decode(format!("expected a JSON object, found {}", other.kind()))),
        Err(Refused::Malformed(error)) => return Err(malformed(error)),
        Err(refused @ Refused::TooMany { .. }) => match verb {
            Some(verb @ (Verb::Check | Verb::Del | Verb::Gc)) => {
                let outline = outline::read(bytes, verb).map_err(malformed)?;
                (outline.configuration, outline.attachments)
            }
            _ => return Err(decode(refused.to_string())),
        },
    };
    // An address is freed even if its configuration has become invalid.
    if verb != Some(Verb::Del)
        && let Some(path) = json.conflict()
    {
        return Err(decode(format!("{path}: {TWO_VALUES}")));
    }
    let network = network(&json)?;
    Ok(Document { configuration: json, network, attachments })
}

fn network(json: &Json) -> Result<NetworkName, CniError> {
    let missing = || CniError::new(Code::Config, "name: expected a network name, found none");
    let name = match json.find("name") {
        None => return Err(missing()),
        Some(Json::String(text)) if text.is_empty() => return Err(missing()),
        Some(Json::String(text)) => text,
        Some(other) => {
            return Err(CniError::new(
                Code::Decode,
                format!("name: expected a string, found {}", other.excerpt()),
            ));
        }
    };
    NetworkName::parse(name).map_err(|error| {
        CniError::new(
            Code::Config,
            match error {
                IdError::TooLong(limit) => format!("name: expected at most {limit} bytes: {}", name.len()),
                _ => format!("name: expected letters, digits, \"_\", \".\" or \"-\", beginning with a letter or digit: {}", shown(name)),
            },
        )
    })
}

/// Returns the value itself, so that it can be searched for, with a limited length.
fn shown(name: &str) -> String {
    name.chars().take(120).collect()
}
