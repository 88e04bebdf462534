//! Health, readiness and metrics, and clients that are slow, greedy or many.

use super::cluster;
use crate::deploy::chart::tool;
use crate::support::controller::{Replica, pause};
use crate::support::sandbox::Sandbox;
use hereabouts::retry::Deadline;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

fn alone(sandbox: &Sandbox) -> Option<Replica> {
    Some(Replica::start(sandbox, &cluster()?.kubeconfig(), &[]))
}

#[test]
fn it_answers_what_kubernetes_and_prometheus_ask() {
    let sandbox = Sandbox::new();
    let Some(mut replica) = alone(&sandbox) else { return };
    replica.wait(20, "readiness", |replica| (replica.get("/readyz").status == 200).then_some(()));
    let health = replica.get("/healthz?verbose");
    assert_eq!((health.status, &*health.body), (200, "ok\n"));
    let metrics = replica.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{metrics:?}"
    );
    assert!(metrics.body.contains("hereabouts_controller_synced 1\n"), "{metrics:?}");
    // Without a lease, every replica writes.
    assert!(replica.leads());
    let version = format!("hereabouts_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(replica.metric(&version), Some(1.0));
    for path in ["/metricz", "//metrics", "/metrics/", "/../metrics", "*"] {
        assert_eq!(replica.get(path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let page = replica.request(method, "/metrics").unwrap();
        assert!(page.status == 405 && page.head.contains("allow: get"), "{method} {page:?}");
    }
}

#[test]
fn prometheus_finds_no_fault_with_the_metrics() {
    let mut promtool = match tool("prometheus", "promtool") {
        Ok(promtool) => promtool,
        Err(reason) => return skipped!("{reason}"),
    };
    let sandbox = Sandbox::new();
    let Some(replica) = alone(&sandbox) else { return };
    let mut check = promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let metrics = replica.get("/metrics").body;
    check.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn clients_cannot_keep_it_from_answering() {
    let sandbox = Sandbox::new();
    let Some(replica) = alone(&sandbox) else { return };
    // 300 clients that say nothing.
    let mut silent: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(replica.address).unwrap()).collect();
    assert_eq!(replica.get("/healthz").status, 200);
    // The oldest were closed at once, the others when they had said nothing for 5 s.
    let limit = Duration::from_secs(8);
    let deadline = Deadline::after(limit);
    for stream in &mut silent {
        stream.set_read_timeout(Some(limit)).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!deadline.left().is_zero());
    }
    assert!(deadline.left() < Duration::from_secs(6), "{:?}", deadline.left());

    // A head that never ends, and one with too many headers.
    let long = format!("GET /healthz HTTP/1.1\r\nHost: c\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: c\r\n{}\r\n", "X: x\r\n".repeat(1000));
    for request in [&long, &many] {
        match replica.send(request.as_bytes()) {
            Ok(answer) => assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}"),
            // The connection was reset before everything was sent.
            Err(error) => println!("{error}"),
        }
    }
    // What is not HTTP.
    let answer = replica.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n");
    assert!(
        answer.is_err() || answer.is_ok_and(|a| a.is_empty() || a.starts_with("HTTP/1.1 400 "))
    );
    // A request that comes byte by byte.
    let mut slow = TcpStream::connect(replica.address).unwrap();
    let deadline = Deadline::after(Duration::from_secs(60));
    while slow.write_all(b"G").is_ok() {
        pause(Duration::from_millis(300));
        assert!(Duration::from_secs(50) < deadline.left(), "it still listens");
    }
    assert_eq!(replica.get("/healthz").status, 200);
}
