//! `CNI_*` variables.

use super::{RANGE, silent};
use crate::support::sandbox::{Call, Ended, Sandbox, configuration, make_store};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

fn add_with(name: &str, value: impl Into<OsString>) -> Ended {
    Sandbox::new().call("ADD").set(name, value).stdin(configuration(RANGE)).run()
}

fn message(ended: &Ended) -> String {
    ended.document()["msg"].as_str().unwrap().to_owned()
}

const ALL_MISSING: &str =
    "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing";

#[test]
fn all_missing_variables_are_named_in_order() {
    let ended = Call::bare().set("CNI_COMMAND", "ADD").stdin(configuration(RANGE)).run();
    assert_eq!((ended.code(), message(&ended).as_str()), (4, ALL_MISSING));
}

#[test]
fn an_empty_variable_is_a_missing_one() {
    let mut call = Call::bare();
    call.set("CNI_COMMAND", "ADD");
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
        call.set(name, "");
    }
    let ended = call.stdin(configuration(RANGE)).run();
    assert_eq!((ended.code(), message(&ended).as_str()), (4, ALL_MISSING));
}

#[test]
fn del_and_check_need_container_and_interface_and_check_a_namespace() {
    for (verb, name) in [
        ("DEL", "CNI_CONTAINERID"),
        ("DEL", "CNI_IFNAME"),
        ("CHECK", "CNI_CONTAINERID"),
        ("CHECK", "CNI_IFNAME"),
        ("CHECK", "CNI_NETNS"),
    ] {
        let ended = Sandbox::new().call(verb).unset(name).stdin(configuration(RANGE)).run();
        assert_eq!(ended.code(), 4, "{verb} {name}");
        assert_eq!(message(&ended), format!("required env variables [{name}] missing"));
    }
}

#[test]
fn cni_path_may_be_missing() {
    let sandbox = Sandbox::new();
    let add = sandbox.call("ADD").unset("CNI_PATH").stdin(configuration(RANGE)).run();
    let previous = format!(r#"{{"prevResult":{},"#, add.succeeded().stdout.trim());
    sandbox
        .call("CHECK")
        .unset("CNI_PATH")
        .stdin(configuration(RANGE).replacen('{', &previous, 1))
        .run()
        .succeeded();
    sandbox.call("STATUS").unset("CNI_PATH").stdin(configuration(RANGE)).run().succeeded();
    sandbox.call("DEL").unset("CNI_PATH").stdin(configuration(RANGE)).run().succeeded();
}

#[test]
fn gc_needs_cni_path() {
    let ended = Sandbox::new().call("GC").unset("CNI_PATH").stdin(configuration(RANGE)).run();
    assert_eq!(
        (ended.code(), message(&ended).as_str()),
        (4, "required env variables [CNI_PATH] missing")
    );
}

#[test]
fn container_ids_with_other_characters_are_refused() {
    for id in ["../x", "a/b", ".a", "-a", "_a", "a b", "ab\n", "\u{e9}", "a:b", "a%00b"] {
        let ended = add_with("CNI_CONTAINERID", id);
        assert_eq!((ended.code(), ended.details().as_str()), (4, id));
    }
}

#[test]
fn a_malformed_container_id_is_said_before_a_missing_namespace() {
    let ended = Sandbox::new()
        .call("ADD")
        .set("CNI_CONTAINERID", "../x")
        .unset("CNI_NETNS")
        .stdin(configuration(RANGE))
        .run();
    assert_eq!(ended.code(), 4);
    assert!(
        message(&ended).contains("CNI_CONTAINERID") && !ended.stdout.contains("CNI_NETNS"),
        "{ended:?}"
    );
}

#[test]
fn interface_names_have_at_most_15_bytes() {
    add_with("CNI_IFNAME", "123456789012345").succeeded();
    assert_eq!(add_with("CNI_IFNAME", "1234567890123456").code(), 4);
    assert_eq!(add_with("CNI_IFNAME", "\u{e9}".repeat(8)).code(), 4);
}

#[test]
fn interface_names_that_the_kernel_would_not_take_are_refused() {
    for name in [".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{a0}b", "a\u{2003}b"] {
        assert_eq!(add_with("CNI_IFNAME", name).code(), 4, "{name:?}");
    }
    // Names that are not valid text: this is our choice, because no result could contain them.
    assert_eq!(add_with("CNI_IFNAME", OsString::from_vec(vec![b'a', 0xff])).code(), 4);
}

#[test]
fn gc_and_status_do_not_look_at_container_and_interface() {
    let gc = configuration(RANGE).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1);
    for (verb, text) in [("GC", gc), ("STATUS", configuration(RANGE))] {
        let sandbox = Sandbox::new();
        make_store(&sandbox.store());
        let ended = sandbox
            .call(verb)
            .set("CNI_CONTAINERID", "../x")
            .set("CNI_IFNAME", "a/b")
            .stdin(text)
            .run();
        assert!(silent(&ended), "{verb}: {ended:?}");
    }
}

#[test]
fn an_add_into_the_plugins_own_namespace_is_8_and_allocates_nothing() {
    let sandbox = Sandbox::new();
    let ended =
        sandbox.call("ADD").set("CNI_NETNS", "/proc/self/ns/net").stdin(configuration(RANGE)).run();
    assert_eq!(ended.code(), 8);
    assert!(sandbox.is_untouched());
    sandbox
        .call("ADD")
        .set("CNI_NETNS", "/proc/self/ns/net")
        .set("CNI_NETNS_OVERRIDE", "TRUE")
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
}

#[test]
fn a_del_in_the_plugins_own_namespace_frees_and_succeeds() {
    let sandbox = Sandbox::new();
    sandbox.add("abc123", RANGE).succeeded();
    let ended =
        sandbox.call("DEL").set("CNI_NETNS", "/proc/self/ns/net").stdin(configuration(RANGE)).run();
    assert!(silent(&ended), "{ended:?}");
    assert!(sandbox.held().is_empty());
}

#[test]
fn the_namespace_path_may_lead_anywhere() {
    for path in ["/nonexistent/x", "/tmp", "/etc/passwd", "relative/path"] {
        add_with("CNI_NETNS", path).succeeded();
    }
}
