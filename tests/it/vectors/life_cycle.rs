//! ADD, CHECK, DEL, GC and STATUS, in order and out of order.

use super::{RANGE, silent};
use crate::support::sandbox::{Ended, HEREABOUTS, Sandbox, configuration, make_store};
use nix::fcntl::{FcntlArg, fcntl};
use serde_json::json;
use std::io::Write;
use std::process::{Command, Stdio};

fn with(extra: &str) -> String {
    configuration(RANGE).replacen('{', &format!("{{{extra},"), 1)
}

fn check(sandbox: &Sandbox, previous: &str, ifname: &str) -> Ended {
    sandbox
        .call("CHECK")
        .set("CNI_IFNAME", ifname)
        .stdin(with(&format!(r#""prevResult":{previous}"#)))
        .run()
}

#[test]
fn a_del_of_nothing_and_a_second_del_succeed() {
    let sandbox = Sandbox::new();
    assert!(silent(&sandbox.del("abc123", RANGE)));
    assert!(!sandbox.store().exists(), "a DEL makes no store");
    sandbox.add("abc123", RANGE).succeeded();
    for _ in 0..2 {
        let ended = sandbox.call("DEL").unset("CNI_NETNS").stdin(configuration(RANGE)).run();
        assert!(silent(&ended), "{ended:?}");
    }
    assert!(sandbox.held().is_empty());
}

#[test]
fn del_does_not_look_at_prev_result() {
    for previous in ["\"text\"", "{\"garbage\":[1]}", "null"] {
        let sandbox = Sandbox::new();
        sandbox.add("abc123", RANGE).succeeded();
        assert!(silent(
            &sandbox.call("DEL").stdin(with(&format!(r#""prevResult":{previous}"#))).run()
        ));
        assert!(sandbox.held().is_empty());
    }
}

#[test]
fn a_del_that_cannot_be_understood_is_an_error() {
    let sandbox = Sandbox::new();
    assert_eq!(
        sandbox.call("DEL").stdin(configuration(RANGE).replace("1.1.0", "9.9.9")).run().code(),
        1
    );
    assert_eq!(sandbox.call("DEL").stdin("{").run().code(), 6);
}

#[test]
fn a_repeated_add_gives_the_same_result() {
    let sandbox = Sandbox::new();
    let first = sandbox.add("abc123", RANGE);
    assert_eq!(sandbox.add("abc123", RANGE).succeeded().stdout, first.succeeded().stdout);
    assert_eq!(sandbox.held().len(), 1);
}

#[test]
fn another_interface_or_container_gets_another_address() {
    let sandbox = Sandbox::new();
    let add = |id: &str, ifname: &str| {
        sandbox
            .call("ADD")
            .set("CNI_CONTAINERID", id)
            .set("CNI_IFNAME", ifname)
            .stdin(configuration(RANGE))
            .run()
            .addresses()
    };
    assert_eq!(add("c1", "net1"), ["10.1.2.1"]);
    assert_eq!(add("c1", "net2"), ["10.1.2.2"]);
    assert_eq!(add("c2", "net1"), ["10.1.2.3"]);
}

#[test]
fn check_passes_between_add_and_del_only() {
    let sandbox = Sandbox::new();
    let good = r#"{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.1/24"}]}"#;
    assert!(100 <= check(&sandbox, good, "net1").code());
    sandbox.add("abc123", RANGE).succeeded();
    assert!(silent(&check(&sandbox, good, "net1")));
    assert!(100 <= check(&sandbox, good, "net2").code());
    sandbox.del("abc123", RANGE).succeeded();
    assert!(100 <= check(&sandbox, good, "net1").code());
}

#[test]
fn check_without_prev_result_is_7() {
    let sandbox = Sandbox::new();
    sandbox.add("abc123", RANGE).succeeded();
    assert_eq!(sandbox.call("CHECK").stdin(configuration(RANGE)).run().code(), 7);
}

#[test]
fn prev_result_may_have_no_version_or_another_one() {
    let sandbox = Sandbox::new();
    sandbox.add("abc123", RANGE).succeeded();
    check(&sandbox, r#"{"ips":[{"address":"10.1.2.1/24"}]}"#, "net1").succeeded();
    check(
        &sandbox,
        r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.2.1/24"}]}"#,
        "net1",
    )
    .succeeded();
    check(&sandbox, r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.1/24"}}"#, "net1").succeeded();
    assert_eq!(check(&sandbox, r#"{"cniVersion":"9.9.9"}"#, "net1").code(), 7);
    assert_eq!(check(&sandbox, r#"{"ips":[{"address":"10.1.2.9/24"}]}"#, "net1").code(), 103);
    // Addresses of other plugins are not checked.
    check(&sandbox, r#"{"ips":[{"address":"172.16.0.1/24"},{"address":"10.1.2.1/24"}]}"#, "net1")
        .succeeded();
}

fn gc(sandbox: &Sandbox, list: &str) -> Ended {
    sandbox.call("GC").stdin(with(&format!(r#""cni.dev/valid-attachments":{list}"#))).run()
}

fn with_two() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    sandbox.add("c2", RANGE).succeeded();
    sandbox
}

#[test]
fn gc_frees_what_is_not_listed_and_nothing_by_a_malformed_list() {
    let sandbox = with_two();
    assert!(silent(&gc(&sandbox, r#"[{"containerID":"c1","ifname":"net1"}]"#)));
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    for list in ["[]", "null"] {
        let sandbox = with_two();
        assert!(silent(&gc(&sandbox, list)));
        assert!(sandbox.held().is_empty(), "{list}");
    }
    let sandbox = with_two();
    assert_eq!(sandbox.call("GC").stdin(configuration(RANGE)).run().code(), 7);
    for list in ["{}", "\"x\"", "[{}]", r#"[{"containerID":5}]"#] {
        assert_eq!(gc(&sandbox, list).code(), 7, "{list}");
    }
    assert_eq!(sandbox.held().len(), 2);
}

#[test]
fn gc_matches_container_and_interface_both() {
    let sandbox = Sandbox::new();
    for (id, ifname) in [("abc123", "net1"), ("abc123", "net2"), ("zzz", "net1")] {
        sandbox
            .call("ADD")
            .set("CNI_CONTAINERID", id)
            .set("CNI_IFNAME", ifname)
            .stdin(configuration(RANGE))
            .run()
            .succeeded();
    }
    gc(&sandbox, r#"[{"containerID":"abc123","ifname":"net1"}]"#).succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
}

#[test]
fn status_is_50_when_the_store_is_down_and_for_a_full_range_only_when_asked() {
    let sandbox = Sandbox::new();
    let status = |ipam: &str| sandbox.call("STATUS").stdin(configuration(ipam)).run();
    make_store(&sandbox.store());
    assert!(silent(&status(RANGE)));
    let one = r#""range":"10.0.0.7/32""#;
    sandbox.add("c1", one).succeeded();
    assert!(silent(&status(one)));
    assert_eq!(status(&format!(r#"{one},"status_when_full":"not_ready""#)).code(), 50);
    std::fs::remove_dir_all(sandbox.store()).unwrap();
    std::fs::write(sandbox.store(), "no directory").unwrap();
    assert_eq!(status(RANGE).code(), 50);
}

#[test]
fn forty_at_once_on_a_27_give_30_addresses_and_10_clean_errors() {
    let sandbox = Sandbox::new();
    let children: Vec<_> = (0..40)
        .map(|n| {
            // ADDs for many interfaces of one container may run at once.
            let call = sandbox
                .call("ADD")
                .set("CNI_CONTAINERID", format!("c{}", n / 4))
                .set("CNI_IFNAME", format!("net{}", n % 4))
                .clone();
            let mut child = call
                .command()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(configuration(r#""range":"10.1.2.0/27""#).as_bytes())
                .unwrap();
            child
        })
        .collect();
    let ended: Vec<Ended> =
        children.into_iter().map(|child| Ended::from(child.wait_with_output().unwrap())).collect();
    let (good, bad): (Vec<_>, Vec<_>) = ended.iter().partition(|ended| ended.status == Some(0));
    let given: std::collections::BTreeSet<_> =
        good.iter().flat_map(|ended| ended.addresses()).collect();
    assert_eq!((given.len(), good.len(), bad.len()), (30, 30, 10));
    assert!(bad.iter().all(|ended| ended.code() == 100));
}

#[test]
fn an_add_whose_caller_was_killed_is_taken_back() {
    let sandbox = Sandbox::new();
    let (reader, writer) = std::io::pipe().unwrap();
    // The shell is the caller. It is killed when the plugin has noted its caller and waits for the
    // rest of stdin.
    let mut caller = Command::new("sh");
    caller
        .args(["-c", &format!("{HEREABOUTS}; true")])
        .env_clear()
        .envs(sandbox.call("ADD").environment);
    let log = std::fs::File::create(sandbox.path("stderr")).unwrap();
    let answer = std::fs::File::create(sandbox.path("stdout")).unwrap();
    let mut caller = caller.stdin(reader).stdout(answer).stderr(log).spawn().unwrap();
    await_reader(&writer);
    caller.kill().unwrap();
    caller.wait().unwrap();
    (&writer).write_all(configuration(RANGE).as_bytes()).unwrap();
    drop(writer);
    let deadline = hereabouts::retry::Deadline::after(std::time::Duration::from_secs(20));
    let said = || std::fs::read_to_string(sandbox.path("stderr")).unwrap();
    while !said().contains("nothing was allocated") {
        assert!(!deadline.left().is_zero(), "no word from the orphan: {}", said());
        std::thread::yield_now();
    }
    assert!(sandbox.held().is_empty());
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(
            &std::fs::read_to_string(sandbox.path("stdout")).unwrap()
        )
        .unwrap()["code"],
        json!(5)
    );
}

/// Waits until a process reads from this pipe, by writing more than it can hold. It writes white
/// space, which JSON allows at the start.
fn await_reader(mut writer: &std::io::PipeWriter) {
    let holds = fcntl(writer, FcntlArg::F_GETPIPE_SZ).unwrap();
    writer.write_all(&vec![b' '; usize::try_from(holds).unwrap() + 1]).unwrap();
}
