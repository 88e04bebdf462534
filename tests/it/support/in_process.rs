//! Calls of the protocol inside the test's own process, through the same dispatcher and plugin as
//! the executable's, with the test's own ports. They run thousands of times per second, and a panic
//! can be caught. `sandbox` is for the executable itself, its streams and its exit status.

use hereabouts::cni::{Outcome, Ports, dispatch};
use hereabouts::environment::Environment;
use hereabouts::plugin::call_summary::Report;
use hereabouts::plugin::evidence::Machine;
use hereabouts::plugin::failure::Failure;
use hereabouts::plugin::{Ipam, Surroundings};
use serde_json::Value;
use std::cell::RefCell;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;

/// The answer of a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The error's code; 0 for success.
    pub(crate) code: u64,
    /// What was written to stdout.
    pub(crate) stdout: Vec<u8>,
}

impl Answer {
    /// Returns the one document on stdout.
    pub(crate) fn document(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.stdout)))
    }

    /// Returns the error's sentence.
    pub(crate) fn details(&self) -> String {
        if self.code == 0 {
            String::new()
        } else {
            self.document()["details"].as_str().unwrap_or_default().to_owned()
        }
    }
}

/// The same machine under another id for each flat file.
struct Of(PathBuf);

impl Surroundings for Of {
    fn machine(&self) -> Result<Machine, Failure> {
        let mut machine = Machine::read()?;
        machine.machine_id = machine.machine_id.map(|id| format!("{id} {}", self.0.display()));
        Ok(machine)
    }
}

/// A plugin whose flat file the environment names.
pub(crate) struct InProcess {
    pub(crate) flat: PathBuf,
}

impl InProcess {
    /// Makes one call with these variables in addition to the usual ones. Fails the test if the
    /// answer does not have the shape that the protocol requires.
    pub(crate) fn call(&self, verb: &str, variables: &[(&str, &[u8])], stdin: &[u8]) -> Answer {
        let lookup = |name: &str| -> Option<OsString> {
            if let Some((_, value)) = variables.iter().find(|(known, _)| *known == name) {
                return Some(OsString::from_vec(value.to_vec()));
            }
            match name {
                "CNI_COMMAND" => Some(verb.into()),
                "CNI_CONTAINERID" => Some("abc123".into()),
                "CNI_NETNS" => Some("/var/run/netns/x".into()),
                "CNI_IFNAME" => Some("net1".into()),
                "CNI_PATH" => Some("/opt/cni/bin".into()),
                "HEREABOUTS_CONFIG" => Some(self.flat.clone().into()),
                _ => None,
            }
        };
        let environment = Environment::read(&lookup);
        let ipam = Ipam {
            environment: &environment,
            log: &|_, _| {},
            report: Report::default(),
            orphaned: &|| false,
            surroundings: Rc::new(Of(self.flat.clone())),
        };
        let stdout = RefCell::new(Vec::new());
        let mut bytes = stdin;
        let ports = Ports {
            variables: &environment.call,
            stdin: &mut bytes,
            stdin_ready: &|| true,
            deliver: &|bytes| {
                stdout.borrow_mut().extend_from_slice(bytes);
                Ok(())
            },
            undeliverable: &|| None,
            orphaned: &|| false,
        };
        let outcome = dispatch(&ipam, ports);
        let answer = Answer {
            code: if outcome == Outcome::Done { 0 } else { u64::MAX },
            stdout: stdout.into_inner(),
        };
        if answer.code == 0 {
            let prints = matches!(verb, "ADD" | "VERSION");
            assert_eq!(prints, !answer.stdout.is_empty(), "{verb} succeeded");
            return answer;
        }
        let document = answer.document();
        let code = document["code"].as_u64().unwrap_or_default();
        assert!(
            code != 0
                && code != 999
                && document["msg"].is_string()
                && document["cniVersion"].is_string(),
            "{document}"
        );
        Answer { code, ..answer }
    }
}
