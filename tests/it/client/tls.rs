//! The authorities that the client trusts, its own certificate, and the messages if one of them is
//! refused.

use super::certificates::{Authority, Certificate};
use super::server::{Identity, Server, Talk, client, get, kubeconfig, not_sent};
use crate::support::sandbox::Sandbox;
use hereabouts::api_client::client::Client;
use hereabouts::environment::ProxyVariables;
use rcgen::KeyPair;
use rustls::SupportedProtocolVersion;
use std::net::TcpListener;

const BOTH: &[&[&SupportedProtocolVersion]] =
    &[&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

fn answers(mut talk: Talk) {
    while talk.hears() {
        talk.says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}

fn start(certificate: Certificate) -> Server {
    Server::start_as(
        &Identity { certificate, clients: None, versions: rustls::ALL_VERSIONS },
        "127.0.0.1",
        answers,
    )
}

/// Returns the error for a server with this untrusted certificate.
fn refused(certificate: Certificate, trusted: &Authority) -> String {
    let (sandbox, server) = (Sandbox::new(), start(certificate));
    let (reason, may_pass) = not_sent(get(&client(&sandbox, &server.url(), trusted)));
    assert!(!may_pass, "{reason}");
    assert!(server.requests().is_empty());
    let said = reason.strip_prefix(&format!("TLS with {} failed: ", server.url())).unwrap();
    said.replace(&sandbox.root.display().to_string(), "DIR")
}

#[test]
fn a_server_is_believed_for_its_authority_its_names_and_its_time() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let twin = Authority::new("ca");
    let nobody = "the server's certificate is not from a trusted authority (DIR/ca.crt); put the cluster's authority into certificate-authority";
    assert_eq!(refused(other.server(&["127.0.0.1"]), &ca), nobody);
    // An authority of the same name with another key: the cluster was created again.
    assert_eq!(refused(twin.server(&["127.0.0.1"]), &ca), nobody);
    let said = refused(ca.server_between((1975, 2001)), &ca);
    assert!(
        said.starts_with("the server's certificate expired at 2001-01-01T00:00:00Z, and this machine's clock shows 20"),
        "{said}"
    );
    let said = refused(ca.server_between((3001, 4096)), &ca);
    assert!(said.starts_with("the server's certificate is valid from 3001-01-01T00:00:00Z on, and this machine's clock shows 20"), "{said}");
    assert_eq!(
        refused(ca.server(&["kubernetes", "*.example.com", "10.96.0.1"]), &ca),
        "the server's certificate is not for the name 127.0.0.1, but for kubernetes, *.example.com, 10.96.0.1; \
         use one of these names in server or as tls-server-name"
    );
    let said = refused(ca.client(KeyPair::generate().unwrap()), &ca);
    assert!(said.contains("does not have the extended key usage serverAuth"), "{said}");
}

#[test]
fn both_versions_of_tls_are_spoken_on_both_families_and_by_name() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    for versions in BOTH {
        let identity = || Identity {
            certificate: authority.server(&["127.0.0.1", "localhost", "::1"]),
            clients: None,
            versions,
        };
        let server = Server::start_as(&identity(), "127.0.0.1", answers);
        assert_eq!(get(&client(&sandbox, &server.url(), &authority)).unwrap().status, 200);
        // As Whereabouts' installer writes an IPv4 address.
        for host in ["localhost", "[127.0.0.1]"] {
            let url = format!("https://{host}:{}", server.address.port());
            assert_eq!(get(&client(&sandbox, &url, &authority)).unwrap().status, 200);
        }
        if TcpListener::bind("[::1]:0").is_err() {
            skipped!("no IPv6 here");
            continue;
        }
        let server = Server::start_as(&identity(), "::1", answers);
        assert!(server.url().starts_with("https://[::1]:"));
        assert_eq!(get(&client(&sandbox, &server.url(), &authority)).unwrap().status, 200);
        let host = server.requests()[0]
            .lines()
            .find(|line| line.starts_with("Host: "))
            .unwrap()
            .to_owned();
        assert_eq!(host, format!("Host: {}", server.address));
    }
}

#[test]
fn another_name_may_be_expected_and_nothing_may_be() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    let server = start(authority.server(&["kubernetes.default.svc"]));
    sandbox.write("ca.crt", &authority.pem);
    let open = |rest: &str| {
        Client::open(
            &kubeconfig(&sandbox, &format!("server: '{}', {rest}", server.url()), ""),
            &ProxyVariables::default(),
        )
    };
    for (rest, works) in [
        ("certificate-authority: ca.crt, tls-server-name: kubernetes.default.svc", true),
        ("certificate-authority: ca.crt, tls-server-name: kubernetes", false),
        ("certificate-authority: ca.crt", false),
        ("insecure-skip-tls-verify: true", true),
        ("insecure-skip-tls-verify: false, certificate-authority: ca.crt", false),
    ] {
        assert_eq!(get(&open(rest).unwrap()).is_ok(), works, "{rest}");
    }
    // The system's authorities, if it has any, do not include ours.
    match open("insecure-skip-tls-verify: false") {
        Ok(client) => assert!(not_sent(get(&client)).0.contains("not from a trusted authority")),
        Err(error) => {
            assert!(error.to_string().contains("names no certificate-authority"), "{error}")
        }
    }
}

/// A key of each form that a kubeconfig may hold, and what rcgen reads it from.
fn keys() -> [(&'static str, &'static str, &'static str); 4] {
    let rsa = include_str!("../../data/client-keys/rsa-pkcs8.pem");
    let ec = include_str!("../../data/client-keys/ec-pkcs8.pem");
    [
        ("PKCS#8 RSA", rsa, rsa),
        ("PKCS#1", include_str!("../../data/client-keys/rsa-pkcs1.pem"), rsa),
        ("PKCS#8 EC", ec, ec),
        ("SEC1", include_str!("../../data/client-keys/ec-sec1.pem"), ec),
    ]
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_asks_whatever_form_its_key_has() {
    let (sandbox, ca, clients) = (Sandbox::new(), Authority::new("ca"), Authority::new("clients"));
    sandbox.write("ca.crt", &ca.pem);
    for versions in BOTH {
        let identity = Identity {
            certificate: ca.server(&["127.0.0.1"]),
            clients: Some(clients.pem.clone()),
            versions,
        };
        let server = Server::start_as(&identity, "127.0.0.1", answers);
        let cluster = format!("server: '{}', certificate-authority: ca.crt", server.url());
        for (form, key, readable) in keys() {
            sandbox.write("client.key", key);
            sandbox.write("client.crt", &clients.client(KeyPair::from_pem(readable).unwrap()).pem);
            let user = "client-certificate: client.crt, client-key: client.key";
            let client =
                Client::open(&kubeconfig(&sandbox, &cluster, user), &ProxyVariables::default())
                    .unwrap();
            assert_eq!(get(&client).unwrap().status, 200, "{form}");
        }
        // Without one, or with another authority's, the request is not read.
        sandbox.write("client.crt", &ca.client(KeyPair::from_pem(keys()[2].1).unwrap()).pem);
        sandbox.write("client.key", keys()[2].1);
        for user in ["", "client-certificate: client.crt, client-key: client.key"] {
            let heard = server.requests().len();
            let client =
                Client::open(&kubeconfig(&sandbox, &cluster, user), &ProxyVariables::default())
                    .unwrap();
            let outcome = get(&client);
            assert_eq!(server.requests().len(), heard);
            // The server's message can be lost if it closes while the request is on its way.
            if matches!(&outcome, Err(error) if error.to_string().contains("ECONNRESET")) {
                continue;
            }
            let (reason, may_pass) = not_sent(outcome);
            assert!(reason.contains("refuses our client certificate") && !may_pass, "{reason}");
        }
    }
}

#[test]
fn data_in_the_kubeconfig_does_as_well_as_files() {
    use std::fmt::Write as _;
    let (sandbox, ca, clients) = (Sandbox::new(), Authority::new("ca"), Authority::new("clients"));
    let identity = Identity {
        certificate: ca.server(&["127.0.0.1"]),
        clients: Some(clients.pem.clone()),
        versions: rustls::ALL_VERSIONS,
    };
    let server = Server::start_as(&identity, "127.0.0.1", answers);
    let encode = |text: &str| {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut encoded = String::new();
        for group in text.as_bytes().chunks(3) {
            let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - group.len()));
            for at in 0..4 {
                let letter = char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]);
                encoded.write_char(if group.len() < at { '=' } else { letter }).unwrap();
            }
        }
        encoded
    };
    let certificate = clients.client(KeyPair::generate().unwrap());
    let user = format!(
        "client-certificate-data: {}, client-key-data: {}",
        encode(&certificate.pem),
        encode(&certificate.key.serialize_pem())
    );
    // Data takes precedence over a file. The certificates of the other bundle are there as well.
    let bundle = encode(&format!("# two\n{}{}", clients.pem, ca.pem));
    let cluster = format!(
        "server: '{}', certificate-authority: /nowhere, certificate-authority-data: {bundle}",
        server.url()
    );
    assert_eq!(
        get(&Client::open(&kubeconfig(&sandbox, &cluster, &user), &ProxyVariables::default())
            .unwrap())
        .unwrap()
        .status,
        200
    );
}

#[test]
fn what_does_not_speak_tls_is_named_so() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let plain = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut socket = listener.accept().unwrap().0;
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = socket.read(&mut [0; 4096]);
    });
    let (reason, may_pass) = not_sent(get(&client(&sandbox, &url, &authority)));
    assert!(reason.contains("an answer that is not TLS") && !may_pass, "{reason}");
    plain.join().unwrap();
}

#[test]
fn a_server_that_goes_during_the_handshake_was_sent_nothing() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let (reason, may_pass) = not_sent(get(&client(&sandbox, &url, &authority)));
    assert!(may_pass, "{reason}");
}

#[test]
fn a_token_file_is_read_again_for_each_call() {
    let (sandbox, authority) = (Sandbox::new(), Authority::new("ca"));
    let server = start(authority.server(&["127.0.0.1"]));
    sandbox.write("ca.crt", &authority.pem);
    sandbox.write("token", "first\n");
    let cluster = format!("server: '{}', certificate-authority: ca.crt", server.url());
    let client = Client::open(
        &kubeconfig(&sandbox, &cluster, "tokenFile: token, token: s3cret"),
        &ProxyVariables::default(),
    )
    .unwrap();
    for token in ["first", "second"] {
        sandbox.write("token", &format!("{token}\n"));
        assert_eq!(get(&client).unwrap().status, 200);
        assert!(
            server
                .requests()
                .last()
                .unwrap()
                .contains(&format!("\r\nAuthorization: Bearer {token}\r\n"))
        );
    }
    assert_eq!(server.connections(), 1);
    for (content, word) in
        [("", "expected a token"), ("a b", "expected a token"), ("a\r\nX: y", "expected a token")]
    {
        sandbox.write("token", content);
        let (reason, may_pass) = not_sent(get(&client));
        assert!(reason.contains(word) && !may_pass, "{reason}");
    }
    std::fs::remove_file(sandbox.path("token")).unwrap();
    assert!(not_sent(get(&client)).0.contains("tokenFile"));
    assert_eq!(server.requests().len(), 2);
}
