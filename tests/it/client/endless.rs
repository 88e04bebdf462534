//! The real executable against an API server of the tests that sends page after page, asks for
//! longer and longer waits, or refuses with misleading answers. Each verb ends within its deadline,
//! with the right message.

use super::certificates::Authority;
use super::server::{Server, kubeconfig};
use crate::support::sandbox::{Call, Ended, Sandbox, configuration};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The path of the object that says whether the cluster is being moved. Each first call asks for it.
const MOVE: &str = "/moves/whereabouts";

/// The parts of a request on which a script decides.
struct Asked {
    method: String,
    is_table: bool,
    /// Whether the request names one object.
    is_single: bool,
    body: String,
}

/// A sandbox with a server that answers each request as the script says, one call at a time.
struct Rig {
    sandbox: Sandbox,
    server: Server,
}

impl Rig {
    fn new(deadline: &str, script: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
        let server = Server::start(&authority, move |mut talk| {
            while talk.hears() {
                let request = talk.heard();
                let (head, body) = request.split_once("\r\n\r\n").unwrap();
                // Nothing is moved in this cluster.
                if head.contains(MOVE) {
                    talk.says(absent());
                    continue;
                }
                let method = head.split(' ').next().unwrap().to_owned();
                let is_single = head.split(' ').nth(1).unwrap().contains("/ipallocations/");
                talk.says(script(&Asked {
                    method,
                    is_table: head.contains("as=Table"),
                    is_single,
                    body: body.to_owned(),
                }));
            }
        });
        sandbox.write("ca.crt", &authority.pem);
        let path = kubeconfig(
            &sandbox,
            &format!("server: '{}', certificate-authority: ca.crt", server.url()),
            "token: s3cret",
        );
        let flat = json!({
            "datastore": "kubernetes", "kubernetes": {"kubeconfig": path}, "data_dir": sandbox.store(), "node_name": "n1",
            "debts_dir": sandbox.path("debts"),
            "deadlines": {"add": deadline, "del": deadline, "gc": deadline},
        });
        sandbox.write("flat.conf", &flat.to_string());
        Self { sandbox, server }
    }

    /// Runs a call with a time limit.
    fn end(call: &mut Call) -> Ended {
        call.through(&["timeout", "--signal=KILL", "90"]).run()
    }

    fn verb(&self, verb: &str, range: &str) -> Ended {
        let ended = Self::end(
            self.sandbox
                .call(verb)
                .stdin(configuration(&format!(r#""range":"10.9.0.0/24"{range}"#))),
        );
        // Together with a limit, a resourceVersion would mean exactly that revision, and 0 would
        // mean a cache.
        assert!(
            self.server
                .requests()
                .iter()
                .all(|request| !request.starts_with("GET") || !request.contains("resourceVersion"))
        );
        ended
    }

    fn count(&self, start: &str) -> usize {
        let counts = |request: &&String| request.starts_with(start) && !request.contains(MOVE);
        self.server.requests().iter().filter(counts).count()
    }
}

fn say(status: u16, headers: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn failure(status: u16, headers: &str, reason: &str, message: &str) -> String {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": status});
    say(status, headers, "application/json", &body.to_string())
}

/// Returns the answer that there is no such object.
fn absent() -> String {
    let body = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "details": {"name": "it"}, "code": 404});
    say(404, "", "application/json", &body.to_string())
}

/// Returns an empty page of a list.
fn page(asked: &Asked, next: &str, names: &[String]) -> String {
    let rows: Vec<Value> = names.iter().map(|name| json!({"cells": [name]})).collect();
    let body = match asked.is_table {
        true => json!({"kind": "Table", "metadata": {"continue": next}, "rows": rows}),
        false => json!({"kind": "IPAllocationList", "metadata": {"continue": next}, "items": []}),
    };
    say(200, "", "application/json", &body.to_string())
}

/// Returns the server's answer to a creation.
fn made(asked: &Asked) -> String {
    let mut object: Value = serde_json::from_str(&asked.body).unwrap();
    object["metadata"]["uid"] = json!("u1");
    object["metadata"]["resourceVersion"] = json!("7");
    say(201, "", "application/json", &object.to_string())
}

/// Cause: nothing checked the deadline between pages, or whether a page came again. Effect: an ADD
/// with a deadline of one second never ended. Fix: a continue token that the server has used before
/// is an error, and so is the end of the deadline.
#[test]
fn a_list_that_comes_to_no_end_is_an_error() {
    for (places, code) in [(1, 105), (3, 105), (usize::MAX, 11)] {
        let pages = AtomicUsize::new(0);
        // An endless list uses the whole deadline, which must be too short for the maximum number
        // of pages. The other lists must not exceed it on a busy machine.
        let limit = if places == usize::MAX { "500ms" } else { "40s" };
        let rig = Rig::new(limit, move |asked| {
            page(asked, &format!("p{}", pages.fetch_add(1, Ordering::SeqCst) % places), &[])
        });
        for verb in ["ADD", "DEL"] {
            assert_eq!(rig.verb(verb, "").code(), code, "{places} places");
        }
        if places < usize::MAX {
            for args in [&["list"][..], &["verify"], &["repair", "--yes"], &["sweep", "--yes"]] {
                let ended = Rig::end(&mut rig.sandbox.command_call(args));
                assert!(
                    ended.status == Some(1) && ended.stderr.contains("the list repeats a page"),
                    "{args:?} {ended:?}"
                );
            }
        }
    }
}

/// The same for a list of names, which an ADD reads after misses in a range.
#[test]
fn a_list_of_names_that_comes_to_no_end_is_an_error() {
    let rig = Rig::new("2s", |asked| match (&*asked.method, asked.is_table) {
        ("GET", true) => page(asked, "same", &[]),
        ("GET", false) => page(asked, "", &[]),
        _ => failure(409, "", "AlreadyExists", "already exists"),
    });
    let code = rig.verb("ADD", r#","range_end":"10.9.0.3""#).code();
    assert!(code == 105 || code == 11, "{code}");
}

/// Cause: the wait that a server asks for was added to a pause without a check for overflow.
/// Effect: a panic, code 999, and the addresses that the ADD had claimed stayed held. Fix: no wait
/// is longer than an hour, and no sum overflows.
#[test]
fn no_retry_after_is_too_long() {
    let posts = AtomicUsize::new(0);
    let rig = Rig::new("10s", move |asked| match &*asked.method {
        "GET" => page(asked, "", &[]),
        // The pauses have grown beyond a second by then.
        _ if posts.fetch_add(1, Ordering::SeqCst) < 7 => {
            failure(503, "", "ServiceUnavailable", "x")
        }
        _ => failure(503, "Retry-After: 18446744073709551615\r\n", "ServiceUnavailable", "x"),
    });
    let ended = rig.verb("ADD", "");
    assert!(ended.code() == 11 && ended.details().contains("503"), "{ended:?}");
}

/// An overloaded server asks for 1 s, then 2, and up to 32.
#[test]
fn a_wait_that_a_server_asks_for_leaves_time_for_another_attempt() {
    let rig = Rig::new("3s", |asked| match &*asked.method {
        "GET" => page(asked, "", &[]),
        _ => failure(429, "Retry-After: 32\r\n", "TooManyRequests", "x"),
    });
    assert_eq!(rig.verb("ADD", "").code(), 11);
    assert!(
        2 < rig.count("POST"),
        "an attempt at the end of the time is not the only other one: {}",
        rig.count("POST")
    );
}

#[test]
fn a_conflict_that_is_not_about_the_name_is_an_error_in_words() {
    let rig = Rig::new("20s", |asked| match &*asked.method {
        "GET" => page(asked, "", &[]),
        _ => failure(409, "", "Conflict", "admission webhook \"quota\" denied the request"),
    });
    let ended = rig.verb("ADD", "");
    assert!(ended.code() == 105 && ended.details().contains("admission webhook"), "{ended:?}");
    assert_eq!(rig.count("POST"), 1, "no other name is tried");
}

#[test]
fn a_definition_that_is_being_deleted_is_not_a_missing_right() {
    let words = "ipallocations.hereabouts.dev \"10.9.0.1\" is forbidden: \
                 create not allowed while custom resource definition is terminating";
    let rig = Rig::new("20s", move |asked| match &*asked.method {
        "GET" => page(asked, "", &[]),
        _ => failure(403, "", "Forbidden", words),
    });
    let ended = rig.verb("ADD", "");
    assert!(ended.code() == 105 && ended.details().contains("is being deleted"), "{ended:?}");
    assert!(!ended.details().contains("lacks the right"), "{ended:?}");
}

/// The answers of a real server in the first moments after a definition was created.
#[test]
fn a_definition_that_was_made_a_moment_ago_serves_its_first_add() {
    let gets = AtomicUsize::new(0);
    let rig = Rig::new("30s", move |asked| match (&*asked.method, gets.load(Ordering::SeqCst)) {
        ("GET", before) => {
            gets.store(before + 1, Ordering::SeqCst);
            match before {
                0 => say(404, "", "text/plain", "404 page not found\n"),
                1 => failure(
                    429,
                    "Retry-After: 1\r\n",
                    "TooManyRequests",
                    "storage is (re)initializing",
                ),
                _ => page(asked, "", &[]),
            }
        }
        _ => {
            #[allow(
                clippy::disallowed_methods,
                reason = "the server is as slow as a real one is then"
            )]
            std::thread::sleep(std::time::Duration::from_millis(2100));
            made(asked)
        }
    });
    assert_eq!(rig.verb("ADD", "").addresses(), ["10.9.0.1"]);
    // Two refused creations, a list of the node's objects, and a list of the scope.
    assert_eq!((rig.count("POST"), rig.count("GET")), (1, 4));
    // If the definition stays missing, the error names it.
    let rig = Rig::new("5s", |_| say(404, "", "text/plain", "404 page not found\n"));
    let ended = rig.verb("ADD", "");
    assert!(
        ended.code() == 105 && ended.details().contains("kubectl apply -k deploy/crd"),
        "{ended:?}"
    );
}

/// Cause: a full range was identified by its bounds. Effect: a client that used other bounds each
/// time made two lists of the whole scope per ADD. Fix: a listing covers the whole scope, and is
/// believed for all of it.
#[test]
fn other_bounds_of_a_full_scope_are_no_reason_to_list_it_again() {
    const ADDS: usize = 8;
    let names: Vec<String> = (0..=255).map(|low| format!("10.9.0.{low}")).collect();
    let rig = Rig::new("30s", move |asked| match &*asked.method {
        "GET" => page(asked, "", if asked.is_table { &names } else { &[] }),
        _ => failure(409, "", "AlreadyExists", "already exists"),
    });
    for add in 0..ADDS {
        let container = format!("c{add}");
        let stdin =
            configuration(&format!(r#""range":"10.9.0.0/24","range_end":"10.9.0.{}""#, 100 + add));
        assert_eq!(
            rig.sandbox.call("ADD").set("CNI_CONTAINERID", container).stdin(stdin).run().code(),
            100
        );
    }
    let lists = rig.server.requests().iter().filter(|request| request.contains("as=Table")).count();
    assert!(lists < ADDS, "{lists} lists for {ADDS} ADDs");
}

/// Cause: the node state found an attachment by a 64-bit hash alone. Effect: a DEL would have freed
/// the addresses of another attachment with the same hash. Fix: the attachment is compared.
#[test]
fn a_del_frees_nothing_of_another_attachment_that_shares_its_hash() {
    let rig = Rig::new("20s", |asked| match &*asked.method {
        "GET" => page(asked, "", &[]),
        "POST" => made(asked),
        _ => say(200, "", "application/json", r#"{"kind":"Status","status":"Success"}"#),
    });
    rig.verb("ADD", "").succeeded();
    let directory = rig.sandbox.store().join("kubernetes/n1/attachments");
    let file = std::fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    let others = text.replace("\"abc123\"", "\"another\"");
    assert_ne!(text, others);
    std::fs::write(&file, &others).unwrap();
    rig.verb("DEL", "").succeeded();
    assert_eq!(rig.count("DELETE"), 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), others, "it is not forgotten either");
    std::fs::write(&file, &text).unwrap();
    rig.verb("DEL", "").succeeded();
    assert_eq!(rig.count("DELETE"), 1);
}

/// Returns records of sandboxes of an earlier boot of the node.
fn of_an_earlier_boot(asked: &Asked, last: std::ops::RangeInclusive<u8>) -> String {
    let object = |low: u8| {
        let address = format!("10.9.0.{low}");
        json!({
            "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPAllocation",
            "metadata": {"name": address, "uid": format!("u{low}"), "resourceVersion": "7"},
            "spec": {
                "address": address, "prefix": 28, "network": "net1", "interface": "net1", "containerID": format!("old{low}"),
                "node": "n1", "bootID": "before", "since": "2026-01-01T00:00:00Z", "source": "dynamic", "part": 0, "of": 1,
            },
        })
    };
    let rows: Vec<Value> =
        last.clone().map(|low| json!({"cells": [format!("10.9.0.{low}")]})).collect();
    let body = match asked.is_table {
        true => json!({"kind": "Table", "metadata": {}, "rows": rows}),
        false => {
            json!({"kind": "IPAllocationList", "metadata": {}, "items": last.map(object).collect::<Vec<_>>()})
        }
    };
    say(200, "", "application/json", &body.to_string())
}

/// Cause: after its deadline, a GC made one more attempt for each further record. Effect: it ended
/// long after its deadline. Fix: it ends, and reports how far it came.
#[test]
fn a_gc_ends_at_its_deadline_however_much_there_is_to_free() {
    let rig = Rig::new("2s", |asked| match &*asked.method {
        "GET" => of_an_earlier_boot(asked, 1..=200),
        _ => failure(503, "", "ServiceUnavailable", "x"),
    });
    let list = configuration(r#""range":"10.9.0.0/24""#).replacen(
        '{',
        r#"{"cni.dev/valid-attachments":[],"#,
        1,
    );
    let ended = Rig::end(rig.sandbox.call("GC").stdin(list));
    assert!(ended.code() == 11 && ended.details().contains("200 of 200"), "{ended:?}");
    let deleted = rig.server.requests().into_iter().filter(|request| request.starts_with("DELETE"));
    let names: std::collections::BTreeSet<String> =
        deleted.map(|request| request.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

/// The same for an ADD that frees what its node held before the boot: it needs only one address.
#[test]
fn an_add_that_is_late_frees_no_more_of_an_earlier_boot_than_it_needs() {
    let rig = Rig::new("10ms", |asked| match &*asked.method {
        "GET" => of_an_earlier_boot(asked, 1..=14),
        "POST" => failure(409, "", "AlreadyExists", "already exists"),
        _ => say(200, "", "application/json", r#"{"kind":"Status","status":"Success"}"#),
    });
    let ended = rig.sandbox.call("ADD").stdin(configuration(r#""range":"10.9.0.0/28""#)).run();
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(rig.count("DELETE") <= 1, "{}", rig.count("DELETE"));
}

/// Each call checks for creations that may have come late. Whatever their number and however slow
/// the server, this takes at most two seconds, and never more than the call has.
#[test]
fn a_call_ends_at_its_deadline_however_many_creations_may_come_late() {
    for (deadline, most) in [("60s", 5), ("1s", 3)] {
        let rig = Rig::new(deadline, move |asked| match &*asked.method {
            "GET" if asked.is_single => {
                #[allow(
                    clippy::disallowed_methods,
                    reason = "a server as slow as one that is overloaded"
                )]
                std::thread::sleep(std::time::Duration::from_millis(500));
                absent()
            }
            "GET" => page(asked, "", &[]),
            "POST" => made(asked),
            _ => say(200, "", "application/json", r#"{"kind":"Status","status":"Success"}"#),
        });
        rig.verb("ADD", "").succeeded();
        let state = rig.sandbox.store().join("kubernetes/n1");
        let file =
            std::fs::read_dir(state.join("attachments")).unwrap().next().unwrap().unwrap().path();
        let known: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let late = |number: usize| {
            let mut object = known[0].clone();
            let address = format!("10.9.{}.{}", 1 + number / 256, number % 256);
            object["metadata"]["name"] = json!(address);
            object["spec"]["address"] = json!(address);
            object["spec"]["containerID"] = json!("late");
            json!({"since": 1, "looked": 1, "object": object})
        };
        std::fs::write(
            state.join("tombstones"),
            json!((0..1_000).map(late).collect::<Vec<_>>()).to_string(),
        )
        .unwrap();
        let before = rig.count("GET");
        let ended = rig.verb("DEL", "");
        assert!(deadline == "1s" || ended.status == Some(0), "{ended:?}");
        let looked = rig.count("GET") - before;
        assert!((1..=most).contains(&looked), "{looked} in {deadline}");
    }
}
