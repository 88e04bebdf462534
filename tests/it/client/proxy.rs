//! Connections through a proxy: what the client asks of it, and what its refusals mean.

use super::certificates::Authority;
use super::server::{GET, Server, get, kubeconfig, not_sent, timed};
use crate::support::sandbox::Sandbox;
use hereabouts::api_client::client::Client;
use hereabouts::environment::Environment;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Starts a proxy that gives this answer. If the answer is 200, it forwards everything. It reports
/// the requests that it received.
fn proxy(answer: &'static str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut client = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            tell.send(head).unwrap();
            client.write_all(answer.as_bytes()).unwrap();
            if answer.starts_with("HTTP/1.1 200") {
                pass_on(&client, &TcpStream::connect(target).unwrap());
            } else if answer.is_empty() {
                let _ = client.read_to_end(&mut Vec::new());
            }
        }
    });
    (address, asked)
}

fn pass_on(one: &TcpStream, other: &TcpStream) {
    for (from, to) in [(one, other), (other, one)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
}

const OPEN: &str = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";

struct Scene {
    sandbox: Sandbox,
    server: Server,
}

impl Scene {
    fn new() -> Self {
        let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
        let server = Server::start(&authority, |mut talk| {
            while talk.hears() {
                talk.says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        sandbox.write("ca.crt", &authority.pem);
        Self { sandbox, server }
    }

    /// Returns a client with these keys of the cluster in its kubeconfig, and this environment.
    fn client(&self, cluster: &str, environment: &[(&str, &str)]) -> Client {
        let path = kubeconfig(
            &self.sandbox,
            &format!("server: '{}', certificate-authority: ca.crt{cluster}", self.server.url()),
            "token: s3cret",
        );
        let lookup = |name: &str| {
            environment.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value))
        };
        Client::open(&path, &Environment::read(&lookup).proxy).unwrap()
    }
}

#[test]
fn the_proxy_of_the_kubeconfig_is_asked_for_a_way_and_told_nothing_else() {
    let scene = Scene::new();
    let (address, asked) = proxy(OPEN);
    let client = scene.client(&format!(", proxy-url: 'http://me:p%40ss@{address}'"), &[]);
    for _ in 0..2 {
        assert_eq!(get(&client).unwrap().status, 200);
    }
    let server = scene.server.address;
    let credentials = "Proxy-Authorization: Basic bWU6cEBzcw==\r\n";
    assert_eq!(
        asked.try_iter().collect::<Vec<_>>(),
        [format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n{credentials}\r\n")]
    );
    assert_eq!((scene.server.connections(), scene.server.requests().len()), (1, 2));
}

/// This machine is always reached directly, so the server has the address of another machine.
#[test]
fn the_environment_names_a_proxy_and_exceptions() {
    let scene = Scene::new();
    let (address, asked) = proxy("HTTP/1.1 403 Forbidden\r\n\r\n");
    let proxy = address.to_string();
    let kubeconfig = kubeconfig(
        &scene.sandbox,
        "server: 'https://192.0.2.1:6443', insecure-skip-tls-verify: true",
        "",
    );
    for variable in ["HTTPS_PROXY", "https_proxy"] {
        let lookup = |name: &str| (name == variable).then(|| OsString::from(&proxy));
        let (reason, may_pass) =
            not_sent(get(&Client::open(&kubeconfig, &Environment::read(&lookup).proxy).unwrap()));
        assert_eq!(
            reason,
            format!("proxy http://{proxy}: it refuses a connection to 192.0.2.1:6443 (403)")
        );
        assert!(!may_pass);
        assert_eq!(asked.try_iter().count(), 1);
    }
    // Without the proxy: this machine itself, and the exceptions.
    assert_eq!(get(&scene.client("", &[("HTTPS_PROXY", &proxy)])).unwrap().status, 200);
    let lookup = |name: &str| match name {
        "HTTPS_PROXY" => Some(OsString::from(&proxy)),
        "no_proxy" => Some(OsString::from("192.0.2.0/24")),
        _ => None,
    };
    let _ = Client::open(&kubeconfig, &Environment::read(&lookup).proxy)
        .unwrap()
        .call(&GET, Duration::from_millis(50));
    assert_eq!(asked.try_iter().count(), 0);
}

#[test]
fn a_proxy_that_fails_has_passed_nothing_on() {
    let scene = Scene::new();
    for (answer, word, passes) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "other credentials (407)", false),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "it cannot reach 127.0.0.1", true),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\n\r\n",
            "it refuses a connection",
            false,
        ),
        ("SSH-2.0-x\r\n", "not HTTP/1.1", false),
        ("HTTP/1.1 200", "no answer within", true),
        ("", "no answer within", true),
    ] {
        let (address, asked) = proxy(answer);
        let client = scene.client(&format!(", proxy-url: 'http://me:s3cret@{address}'"), &[]);
        let limit =
            Duration::from_millis(if word.starts_with("no answer") { 2_000 } else { 20_000 });
        // A proxy that ends in the middle of its answer counts as silent.
        let (reason, may_pass) = not_sent(timed(|| client.call(&GET, limit)));
        let is_so = reason.contains(word) || (answer == "HTTP/1.1 200" && reason.contains("ended"));
        assert!(is_so && may_pass == passes, "{answer:?}: {reason}");
        assert!(reason.starts_with(&format!("proxy http://{address}: ")), "{reason}");
        assert_eq!(asked.try_iter().count(), 1);
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (reason, may_pass) =
        not_sent(get(&scene.client(&format!(", proxy-url: 'http://{nobody}'"), &[])));
    assert!(reason.contains("ECONNREFUSED") && may_pass, "{reason}");
    assert_eq!(scene.server.requests().len(), 0);
}
