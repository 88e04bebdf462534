//! Versions, verbs, and the shapes of results.

use super::{RANGE, silent};
use crate::support::sandbox::{Call, Ended, Sandbox, versioned};
use serde_json::{Value, json};

const DUAL: &str = r#""ipRanges":[{"range":"10.1.2.0/24","gateway":"10.1.2.1"},{"range":"2001:db8:1::/64","gateway":"2001:db8:1::1"}],
    "routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1"},{"dst":"2001:db8:9::/64"},{"dst":"192.0.2.0/24","mtu":1400,"advmss":1300,"priority":5,"table":0,"scope":0}]"#;

fn dual(version: &str) -> Value {
    Sandbox::new().call("ADD").stdin(versioned(version, DUAL)).run().succeeded().document()
}

/// Returns the shape of 0.1.0 and 0.2.0: one object per family, routes inside it by family, `dns`
/// always.
fn oldest(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "ip4": {"ip": "10.1.2.2/24", "gateway": "10.1.2.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}, {"dst": "192.0.2.0/24"}]},
        "ip6": {"ip": "2001:db8:1::2/64", "gateway": "2001:db8:1::1", "routes": [{"dst": "2001:db8:9::/64"}]},
        "dns": {},
    })
}

fn routes() -> Value {
    json!([
        {"dst": "0.0.0.0/0", "gw": "10.1.2.1"},
        {"dst": "2001:db8:9::/64"},
        {"dst": "192.0.2.0/24", "mtu": 1400, "advmss": 1300, "priority": 5, "table": 0, "scope": 0},
    ])
}

/// Returns the shape of 0.3.0 to 0.4.0: a list with `version`, routes at the top, `dns` always.
fn middle(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "ips": [
            {"version": "4", "address": "10.1.2.2/24", "gateway": "10.1.2.1"},
            {"version": "6", "address": "2001:db8:1::2/64", "gateway": "2001:db8:1::1"},
        ],
        "routes": routes(),
        "dns": {},
    })
}

/// Returns the shape of 1.0.0 and later: no `version`, an empty `dns` is left out.
fn newest(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "ips": [
            {"address": "10.1.2.2/24", "gateway": "10.1.2.1"},
            {"address": "2001:db8:1::2/64", "gateway": "2001:db8:1::1"},
        ],
        "routes": routes(),
    })
}

#[test]
fn result_of_0_1_0() {
    assert_eq!(dual("0.1.0"), oldest("0.1.0"));
}

#[test]
fn result_of_0_2_0() {
    assert_eq!(dual("0.2.0"), oldest("0.2.0"));
}

#[test]
fn result_of_0_3_0() {
    assert_eq!(dual("0.3.0"), middle("0.3.0"));
}

#[test]
fn result_of_0_3_1() {
    assert_eq!(dual("0.3.1"), middle("0.3.1"));
}

#[test]
fn result_of_0_4_0() {
    assert_eq!(dual("0.4.0"), middle("0.4.0"));
}

#[test]
fn result_of_1_0_0() {
    assert_eq!(dual("1.0.0"), newest("1.0.0"));
}

#[test]
fn result_of_1_1_0() {
    assert_eq!(dual("1.1.0"), newest("1.1.0"));
}

#[test]
fn a_missing_empty_or_null_version_is_0_1_0() {
    for key in ["", r#""cniVersion":"","#, r#""cniVersion":null,"#] {
        let text = format!(r#"{{{key}"name":"net1","ipam":{{"type":"hereabouts",{RANGE}}}}}"#);
        let document = Sandbox::new().call("ADD").stdin(text).run().succeeded().document();
        assert_eq!(
            document,
            json!({"cniVersion": "0.1.0", "ip4": {"ip": "10.1.2.1/24"}, "dns": {}}),
            "{key}"
        );
    }
}

fn with_version(verb: &str, version: &str) -> Ended {
    let text = versioned(version, RANGE).replacen(
        '{',
        r#"{"cni.dev/valid-attachments":[],"prevResult":{},"#,
        1,
    );
    Sandbox::new().call(verb).stdin(text).run()
}

#[test]
fn an_unknown_version_is_1_and_the_details_list_the_known_ones() {
    for version in ["1.0", "v1.0.0", "01.0.0", "1.1.0-rc1", "1.2.0", "2.0.0", "abc"] {
        let ended = with_version("ADD", version);
        assert_eq!(ended.code(), 1, "{version}");
        for known in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            assert!(ended.details().contains(known), "{ended:?}");
        }
    }
}

#[test]
fn a_version_that_is_none_is_6_for_later_verbs() {
    for verb in ["CHECK", "GC", "STATUS"] {
        assert_eq!(with_version(verb, "abc").code(), 6, "{verb}");
    }
}

#[test]
fn a_short_version_is_1_for_gc() {
    assert_eq!(with_version("GC", "1.1").code(), 1);
}

fn message(ended: &Ended) -> String {
    ended.document()["msg"].as_str().unwrap().to_owned()
}

#[test]
fn a_verb_that_the_version_does_not_have_is_1() {
    for (verb, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
        let ended = with_version(verb, version);
        assert_eq!(ended.code(), 1, "{verb}");
        assert_eq!(message(&ended), format!("config version does not allow {verb}"));
    }
}

#[test]
fn a_later_version_than_ours_is_1() {
    for verb in ["CHECK", "GC", "STATUS"] {
        let ended = with_version(verb, "2.0.0");
        assert_eq!(ended.code(), 1, "{verb}");
        assert_eq!(message(&ended), format!("plugin version does not allow {verb}"));
    }
}

#[test]
fn without_a_command_it_says_what_it_is_on_stderr() {
    for mut call in [Call::bare(), Call::bare().set("CNI_COMMAND", "").clone()] {
        let ended = call.stdin("").run();
        assert!(silent(&ended), "{ended:?}");
        assert!(
            ended.stderr.contains(
                "CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"
            ),
            "{ended:?}"
        );
    }
}

const SUPPORTED: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

fn version(stdin: &str) -> Value {
    Call::bare().set("CNI_COMMAND", "VERSION").stdin(stdin).run().succeeded().document()
}

#[test]
fn version_needs_nothing_but_the_command() {
    assert_eq!(version(""), json!({"cniVersion": "1.1.0", "supportedVersions": SUPPORTED}));
}

#[test]
fn version_echoes_the_version_asked_with() {
    assert_eq!(
        version(r#"{"cniVersion":"0.3.1"}"#),
        json!({"cniVersion": "0.3.1", "supportedVersions": SUPPORTED})
    );
}

#[test]
fn version_does_not_mind_garbage_or_an_open_stdin() {
    assert_eq!(version("garbage"), json!({"cniVersion": "1.1.0", "supportedVersions": SUPPORTED}));
    let (reader, _open) = std::io::pipe().unwrap();
    let output =
        Call::bare().set("CNI_COMMAND", "VERSION").command().stdin(reader).output().unwrap();
    assert!(output.status.success());
}

#[test]
fn an_unknown_command_with_empty_stdin_is_6() {
    assert_eq!(Sandbox::new().call("NOPE").stdin("").run().code(), 6);
}

#[test]
fn commands_are_case_sensitive_and_untrimmed() {
    for command in ["add", "ADD "] {
        let ended = Sandbox::new().call(command).stdin(versioned("1.1.0", RANGE)).run();
        assert_eq!(ended.code(), 4, "{command}");
        assert_eq!(message(&ended), "unknown CNI_COMMAND");
    }
}
