//! Answers of the server, and missing answers: each call sends its request once, whatever happens
//! to it.

use super::certificates::Authority;
use super::server::{GET, PATIENCE, Server, Talk, client, get, not_sent, timed, unknown};
use crate::support::sandbox::Sandbox;
use hereabouts::api_client::client::CallError;
use hereabouts::api_client::http::{Answer, Method, Request};
use hereabouts::retry::{Deadline, until};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Makes one call to a server that handles its first request as the script says.
fn outcome(script: impl Fn(Talk) + Send + Sync + 'static) -> Result<Answer, CallError> {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    let server = Server::start(&authority, move |mut talk| {
        assert!(talk.hears());
        script(talk);
    });
    let outcome = timed(|| get(&client(&sandbox, &server.url(), &authority)));
    assert_eq!((server.connections(), server.requests().len()), (1, 1), "{outcome:?}");
    outcome
}

/// The same with a server that sends this text and keeps the connection open.
fn answer(text: impl Into<Vec<u8>>) -> Result<Answer, CallError> {
    let text = text.into();
    outcome(move |mut talk| {
        talk.says(&text);
        talk.holds();
    })
}

/// A status and a body.
fn said(text: &str) -> (u16, String) {
    let answer = answer(text).unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    let ok = |body: &str| (200, body.to_owned());
    assert_eq!(said("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), ok("hello"));
    assert_eq!(said("HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n"), ok(""));
    assert_eq!(
        said("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab"),
        ok("ab")
    );
    assert_eq!(
        said(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n"
        ),
        ok("hello")
    );
    assert_eq!(
        said(
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
        ),
        ok("a")
    );
    assert_eq!(said("HTTP/1.1 204 No Content\r\n\r\n"), (204, String::new()));
}

#[test]
fn a_body_without_a_length_ends_with_the_connection_when_that_ends_well() {
    let begun = "HTTP/1.1 200 OK\r\n\r\nhello";
    let ended = outcome(move |mut talk| {
        talk.says(begun);
        talk.ends();
    });
    assert_eq!(ended.unwrap().body, b"hello");
    // Without a close_notify, somebody else may have cut the connection.
    let reason = unknown(outcome(move |mut talk| talk.says(begun)));
    assert!(reason.contains("ended too early"), "{reason}");
}

#[test]
fn every_status_is_an_answer_and_no_redirect_is_followed() {
    for status in [307, 401, 404, 409, 500, 504] {
        let text = format!(
            "HTTP/1.1 {status} X\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(said(&text), (status, String::new()));
    }
    let retry_after = |value: &str| {
        answer(format!("HTTP/1.1 429 X\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"))
            .unwrap()
            .retry_after
    };
    assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
    assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
}

#[test]
fn what_is_no_whole_answer_is_an_unknown_outcome() {
    for (text, word) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "ended"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "ended"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "ended"),
        ("HTTP/1.1 200 OK\r\nContent-", "ended"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "ended"),
        ("", "ended"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "a chunk without a valid length",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
            "longer than it says",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "how long it is"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\na", "how long it is"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\na", "how long it is"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "protocol"),
        ("SSH-2.0-x\r\n", "not HTTP/1.1"),
        ("HTTP/2 200\r\n\r\n", "not HTTP/1.1"),
    ] {
        let reason = unknown(outcome(move |mut talk| {
            talk.says(text);
            talk.ends();
        }));
        assert!(reason.contains(word), "{text:?}: {reason}");
    }
}

#[test]
fn answers_are_bounded() {
    const MIB: usize = 1024 * 1024;
    let whole = |length: usize| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length))
    };
    assert_eq!(answer(whole(16 * MIB)).unwrap().body.len(), 16 * MIB);
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(MIB));
    for text in [
        whole(17 * MIB),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunk.repeat(17)
        ),
        format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(17 * MIB)),
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff0\r\n".to_owned(),
    ] {
        let reason = unknown(answer(text));
        assert!(reason.ends_with("the answer is larger than 16 MiB"), "{reason}");
    }
    for line in ["X: y\r\n".to_owned(), format!("X: {}\r\n", "y".repeat(100_000))] {
        let reason = unknown(answer(format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            line.repeat(100_000 / line.len() + 1)
        )));
        assert!(reason.contains("64 KiB") || reason.contains("too many headers"), "{reason}");
    }
}

#[test]
fn a_reset_before_or_within_the_answer_is_an_unknown_outcome() {
    for begun in ["", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"] {
        let reason = unknown(outcome(move |mut talk| {
            talk.says(begun);
            talk.resets();
        }));
        assert!(reason.contains("ECONNRESET") || reason.contains("ended too early"), "{reason}");
    }
}

#[test]
fn a_call_ends_with_its_limit_wherever_the_silence_begins() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    // Long enough for a handshake on a busy machine.
    let limit = Duration::from_secs(2);
    // The kernel accepts the connection, and no process serves it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let (reason, may_pass) =
        not_sent(timed(|| client(&sandbox, &url, &authority).call(&GET, limit)));
    assert!(reason.contains("no answer within 2s") && may_pass, "{reason}");
    for begun in ["", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"] {
        let server = Server::start(&authority, move |mut talk| {
            talk.hears();
            talk.says(begun);
            talk.holds();
        });
        let reason =
            unknown(timed(|| client(&sandbox, &server.url(), &authority).call(&GET, limit)));
        assert!(reason.contains("no answer within 2s"), "{reason}");
    }
    // A server that sends a little more all the time.
    let server = Server::start(&authority, |mut talk| {
        talk.hears();
        talk.says("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        let never = Deadline::after(PATIENCE);
        let _ = until(&never, || {
            talk.says("x");
            Ok::<Option<()>, ()>(None)
        });
    });
    let reason = unknown(timed(|| client(&sandbox, &server.url(), &authority).call(&GET, limit)));
    assert!(reason.contains("no answer within 2s"), "{reason}");
}

/// The kernel drops packets to a full queue.
#[test]
fn a_call_ends_with_its_limit_where_nobody_answers_at_all() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = deaf.local_addr().unwrap();
    nix::sys::socket::listen(&deaf, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100);
    }
    let client = client(&sandbox, &format!("https://{address}"), &authority);
    let (reason, may_pass) = not_sent(timed(|| client.call(&GET, Duration::from_millis(300))));
    assert!(
        reason.starts_with(&format!("cannot connect to {address}: no answer within ")) && may_pass,
        "{reason}"
    );
}

#[test]
fn a_refused_connection_was_not_sent_and_may_pass() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (reason, may_pass) =
        not_sent(get(&client(&sandbox, &format!("https://127.0.0.1:{port}"), &authority)));
    assert_eq!(
        reason,
        format!("cannot connect to 127.0.0.1:{port}: connection refused (ECONNREFUSED)")
    );
    assert!(may_pass);
}

const EMPTY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_connection_is_kept_unless_the_server_says_otherwise() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    for (text, connections) in [
        (EMPTY, 1),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 1),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n", 3),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 3),
        // More bytes than announced would be taken for the next answer.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            3,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 3),
    ] {
        let server = Server::start(&authority, move |mut talk| {
            while talk.hears() {
                talk.says(text);
            }
        });
        let client = client(&sandbox, &server.url(), &authority);
        for _ in 0..3 {
            assert_eq!(get(&client).unwrap().status, 200);
        }
        assert_eq!((server.connections(), server.requests().len()), (connections, 3), "{text:?}");
    }
}

#[test]
fn a_kept_connection_that_the_server_closed_is_replaced_before_anything_is_sent() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    for polite in [true, false] {
        let (closed, was_closed) = std::sync::mpsc::channel();
        let server = Server::start(&authority, move |mut talk| {
            talk.hears();
            talk.says(EMPTY);
            if polite {
                talk.ends();
            }
            drop(talk);
            let _ = closed.send(());
        });
        let client = client(&sandbox, &server.url(), &authority);
        for call in 1..=3 {
            assert_eq!(get(&client).unwrap().status, 200);
            was_closed.recv().unwrap();
            assert_eq!((server.connections(), server.requests().len()), (call, call));
        }
    }
}

#[test]
fn a_kept_connection_that_ends_under_a_request_is_an_unknown_outcome() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    let server = Server::start(&authority, |mut talk| {
        talk.hears();
        talk.says(EMPTY);
        talk.hears();
        if talk.number == 1 {
            talk.says(EMPTY);
            talk.holds();
        }
    });
    let client = client(&sandbox, &server.url(), &authority);
    assert_eq!(get(&client).unwrap().status, 200);
    unknown(get(&client));
    assert_eq!((server.connections(), server.requests().len()), (1, 2));
    assert_eq!(get(&client).unwrap().status, 200);
    assert_eq!((server.connections(), server.requests().len()), (2, 3));
}

#[test]
fn a_request_has_what_the_api_needs_and_nothing_twice() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    let server = Server::start(&authority, |mut talk| {
        while talk.hears() {
            talk.says(EMPTY);
        }
    });
    let base = format!("{}/k8s/clusters/c-1/", server.url());
    let client = client(&sandbox, &base, &authority);
    let body = "x".repeat(1_000_000);
    let post = Request {
        method: Method::Post,
        path: "/apis/x?dryRun=All",
        content: Some(("application/json", body.as_bytes())),
        ..GET
    };
    for request in
        [GET, post, Request { method: Method::Delete, content: Some(("a/b", b"")), ..GET }]
    {
        client.call(&request, PATIENCE).unwrap();
    }
    let sent = server.requests();
    let agent = env!("CARGO_PKG_VERSION");
    let fixed = format!(
        "Host: {}\r\nUser-Agent: hereabouts/{agent}\r\nAccept: application/json\r\nAuthorization: Bearer s3cret\r\n",
        server.address
    );
    assert_eq!(sent[0], format!("GET /k8s/clusters/c-1/version HTTP/1.1\r\n{fixed}\r\n"));
    let kind = "Content-Type: application/json\r\nContent-Length: 1000000\r\n";
    assert_eq!(
        sent[1],
        format!("POST /k8s/clusters/c-1/apis/x?dryRun=All HTTP/1.1\r\n{fixed}{kind}\r\n{body}")
    );
    assert!(
        sent[2].starts_with("DELETE ") && sent[2].ends_with("Content-Length: 0\r\n\r\n"),
        "{}",
        sent[2]
    );
    for path in ["version", "/a b", "/a\r\nX: y", "/\u{e4}", ""] {
        let (_, may_pass) = not_sent(client.call(&Request { path, ..GET }, PATIENCE));
        assert!(!may_pass, "{path:?}");
    }
    assert_eq!(server.requests().len(), 3);
}
