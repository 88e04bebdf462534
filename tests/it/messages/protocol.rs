//! The protocol: the message of every code, and the errors for a caller that breaks a rule.

use super::{assert_all, document, variants};
use crate::support::sandbox::{Call, configuration};
use crate::support::transcript::sandbox;
use hereabouts::cni::{CniError, Code};

#[test]
fn every_code_has_this_message() {
    let (variants, name_of) = variants!(Code: Version Unsupported Environment Io Decode Config Netns TryAgain NotAvailable Exhausted
        Requested NotRecorded Differs Stored Api Internal);
    let cases: Vec<_> = Code::ALL
        .iter()
        .map(|code| (name_of(code), document(&CniError::new(*code, "DETAILS"))))
        .collect();
    assert_all("code", variants, &cases);
}

const RANGE: &str = r#""range":"10.1.2.0/24""#;

/// What is wrong, and a function that makes a correct call wrong in this way.
type Case = (&'static str, fn(&mut Call) -> &mut Call);

const CASES: &[Case] = &[
    ("no variables", |call| {
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
            call.unset(name);
        }
        call
    }),
    ("an unknown verb", |call| call.set("CNI_COMMAND", "MOVE")),
    ("a container id with a slash", |call| call.set("CNI_CONTAINERID", "a/b")),
    ("a long container id", |call| call.set("CNI_CONTAINERID", "c".repeat(5000))),
    ("a long interface name", |call| call.set("CNI_IFNAME", "i".repeat(16))),
    ("an interface name of dots", |call| call.set("CNI_IFNAME", "..")),
    ("an interface name with a slash", |call| call.set("CNI_IFNAME", "a/b")),
    ("the plugin's own network namespace", |call| call.set("CNI_NETNS", "/proc/self/ns/net")),
    ("no bytes", |call| call.stdin("")),
    ("no JSON", |call| call.stdin("{\"name\":")),
    ("another JSON", |call| call.stdin("{]")),
    ("a list", |call| call.stdin("[]")),
    ("a key twice", |call| call.stdin(r#"{"name":"a","name":"b"}"#)),
    ("no name", |call| call.stdin(r#"{"cniVersion":"1.1.0"}"#)),
    ("a name that is a number", |call| call.stdin(r#"{"name":7}"#)),
    ("a name with a space", |call| call.stdin(r#"{"name":"a b"}"#)),
    ("a long name", |call| call.stdin(format!(r#"{{"name":"{}"}}"#, "n".repeat(300)))),
    ("a version that is a number", |call| call.stdin(r#"{"cniVersion":1,"name":"a"}"#)),
    ("a version that nobody knows", |call| call.stdin(r#"{"cniVersion":"9.9.9","name":"a"}"#)),
    ("CHECK of an old version", |call| {
        call.set("CNI_COMMAND", "CHECK").stdin(r#"{"cniVersion":"0.3.1","name":"a"}"#)
    }),
    ("CHECK of a later version", |call| {
        call.set("CNI_COMMAND", "CHECK").stdin(r#"{"cniVersion":"9.9.9","name":"a"}"#)
    }),
    ("CHECK of no version", |call| {
        call.set("CNI_COMMAND", "CHECK").stdin(r#"{"cniVersion":"one","name":"a"}"#)
    }),
    ("CHECK without prevResult", |call| call.set("CNI_COMMAND", "CHECK")),
    ("GC without a list", |call| call.set("CNI_COMMAND", "GC")),
    ("GC with no list", |call| {
        call.set("CNI_COMMAND", "GC")
            .stdin(r#"{"cniVersion":"1.1.0","name":"a","cni.dev/valid-attachments":7,"ipam":{}}"#)
    }),
    ("GC with no attachment", |call| {
        call.set("CNI_COMMAND", "GC")
            .stdin(r#"{"cniVersion":"1.1.0","name":"a","cni.dev/valid-attachments":[7],"ipam":{}}"#)
    }),
    ("no ipam", |call| call.stdin(r#"{"cniVersion":"1.1.0","name":"a"}"#)),
    ("CNI_ARGS without =", |call| call.set("CNI_ARGS", "FOO")),
    ("CNI_ARGS with an unknown key", |call| call.set("CNI_ARGS", "FOO=BAR")),
    ("CNI_ARGS with neither true nor false", |call| call.set("CNI_ARGS", "IgnoreUnknown=maybe")),
    ("CNI_ARGS with a long name", |call| {
        call.set("CNI_ARGS", format!("K8S_POD_NAME={}", "p".repeat(300)))
    }),
    ("CNI_ARGS with no address", |call| call.set("CNI_ARGS", "IP=10.0.0")),
    ("CNI_ARGS with a gateway elsewhere", |call| {
        call.set("CNI_ARGS", "IP=10.1.2.7/24;GATEWAY=10.9.9.9")
    }),
];

#[test]
fn every_call_that_is_malformed_gets_this_answer() {
    let sandbox = sandbox();
    let mut cases = Vec::new();
    for (what, change) in CASES {
        let mut call = sandbox.call("ADD");
        call.set("CNI_NETNS", "/var/run/netns/x").stdin(configuration(RANGE));
        change(&mut call);
        let ended = call.run();
        assert_eq!(ended.status, Some(1), "{what}: {ended:?}");
        let answer = ended.document();
        let text = |key: &str| answer[key].as_str().unwrap_or_default();
        cases.push((*what, format!("{}: {}\n{}", ended.code(), text("msg"), text("details"))));
    }
    assert_all("protocol", &[], &cases);
}
