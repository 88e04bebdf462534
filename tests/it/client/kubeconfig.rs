//! kubeconfigs that cannot be used: each is refused with a message that says what is missing and
//! shows nothing that may be secret.

use super::certificates::Authority;
use crate::support::sandbox::Sandbox;
use hereabouts::api_client::client::{Client, ClientError};
use hereabouts::environment::ProxyVariables;

fn refused(sandbox: &Sandbox, text: &str) -> ClientError {
    let path = sandbox.write("kubeconfig", text);
    match Client::open(&path, &ProxyVariables::default()) {
        Ok(_) => panic!("expected to be refused: {text}"),
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains(&path.display().to_string()), "{said}");
            assert!(!said.contains("s3cret") && !said.contains("o such file"), "{said}");
            error
        }
    }
}

/// Returns a kubeconfig with these parts of the cluster and the user.
fn parts(cluster: &str, user: &str) -> String {
    format!(
        "current-context: here\ncontexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
    )
}

const SERVER: &str = "server: 'https://10.0.0.1:6443', insecure-skip-tls-verify: true";

#[test]
fn what_is_missing_or_malformed_is_named() {
    let sandbox = Sandbox::new();
    let authority = Authority::new("ca");
    sandbox.write("ca.crt", &authority.pem);
    sandbox.write("empty", "");
    sandbox
        .write("broken.crt", "-----BEGIN CERTIFICATE-----\n*s3cret*\n-----END CERTIFICATE-----\n");
    sandbox
        .write("other.crt", "-----BEGIN CERTIFICATE-----\nczNjcmV0\n-----END CERTIFICATE-----\n");
    let whole = parts(SERVER, "token: s3cret");
    let server = |url: &str| {
        parts(&format!("server: '{url}', insecure-skip-tls-verify: true"), "token: s3cret")
    };
    let https = |rest: &str| parts(&format!("server: 'https://10.0.0.1', {rest}"), "token: s3cret");
    let key = rcgen::KeyPair::generate().unwrap();
    sandbox.write("one.crt", &authority.client(rcgen::KeyPair::generate().unwrap()).pem);
    sandbox.write("another.key", &key.serialize_pem());
    for (text, word) in [
        (String::new(), "current-context"),
        ("- a\n".to_owned(), "in YAML or JSON"),
        ("s3cret: [\n".to_owned(), "in YAML or JSON"),
        (whole.replace("token: s3cret", "token: [s3cret]"), "in YAML or JSON, line 4"),
        ("{\"current-context\": 7".to_owned(), "in YAML or JSON"),
        (
            whole.replace("current-context: here", ""),
            "current-context: expected the name of a context, found none",
        ),
        (whole.replace("current-context: here", "current-context: ''"), "current-context"),
        (
            whole.replace("current-context: here", "current-context: there"),
            "current-context: no context has the name \"there\"",
        ),
        (
            whole.replace("cluster: c,", "cluster: d,"),
            "the current context: no cluster has the name \"d\"",
        ),
        (whole.replace("cluster: c,", ""), "expected the name of a cluster, found none"),
        (whole.replace("user: u}", "user: v}"), "the current context: no user has the name \"v\""),
        (
            parts("insecure-skip-tls-verify: true", ""),
            "the current cluster: expected a server, found none",
        ),
        (server("10.0.0.1:6443"), "https://host:port"),
        (server("ftp://10.0.0.1"), "https://host:port"),
        (
            server("http://10.0.0.1:8080"),
            "must not be sent unencrypted, found http://10.0.0.1:8080",
        ),
        (server("https://me:s3cret@10.0.0.1"), "a password in the URL is not supported"),
        (server("https://10.0.0.1:port"), "expected a port"),
        (server("https://[fd00::1]:6443/?s3cret"), "without ? and #"),
        (https("tls-server-name: 'a b', insecure-skip-tls-verify: true"), "DNS name"),
        (https("certificate-authority: ca.crt, insecure-skip-tls-verify: true"), "found both"),
        (https("certificate-authority: gone.crt"), "it is missing (ENOENT)"),
        (https("certificate-authority: ."), "it is a directory"),
        (https("certificate-authority: empty"), "expected certificates in PEM"),
        (https("certificate-authority: broken.crt"), "expected certificates in PEM"),
        (
            https("certificate-authority: other.crt"),
            "expected an X.509 certificate of an authority",
        ),
        (
            https("certificate-authority-data: '*s3cret*'"),
            "certificate-authority-data: expected base64",
        ),
        (
            parts(SERVER, "client-certificate: one.crt"),
            "client-certificate: expected also a client-key",
        ),
        (
            parts(SERVER, "client-key: another.key"),
            "client-key: expected also a client-certificate",
        ),
        (
            parts(SERVER, "client-certificate: one.crt, client-key: another.key"),
            "found the key of another one",
        ),
        (
            parts(SERVER, "client-certificate: one.crt, client-key: one.crt"),
            "unencrypted private key",
        ),
        (
            parts(SERVER, "client-certificate: empty, client-key: another.key"),
            "expected certificates in PEM",
        ),
    ] {
        let said = refused(&sandbox, &text).to_string();
        assert!(said.contains(word), "{text}\n{said}\nexpected: {word}");
    }
}

#[test]
fn who_we_cannot_be_is_said_together_with_who_we_can() {
    let sandbox = Sandbox::new();
    for (user, word) in [
        ("exec: {command: aws, args: [s3cret]}", "exec (a credential plugin)"),
        ("auth-provider: {name: gcp}", "auth-provider"),
        ("username: me, password: s3cret", "username and password"),
        ("token: s3cret, as: somebody", "impersonation"),
        ("token: s3cret, as-groups: [system:masters]", "impersonation"),
    ] {
        let error = refused(&sandbox, &parts(SERVER, user));
        assert!(matches!(error, ClientError::Unsupported { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains(word)
                && said.ends_with("only token, tokenFile, client-certificate and client-key are"),
            "{said}"
        );
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_read_is_said_so() {
    let sandbox = Sandbox::new();
    for (path, word) in [("gone", "it is missing (ENOENT)"), (".", "it is a directory")] {
        let error = Client::open(&sandbox.path(path), &ProxyVariables::default()).err().unwrap();
        assert!(
            matches!(&error, ClientError::Unreadable { .. }) && error.to_string().contains(word),
            "{error}"
        );
    }
    nix::unistd::mkfifo(&sandbox.path("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(Client::open(&sandbox.path("fifo"), &ProxyVariables::default()).is_err());
    std::fs::write(sandbox.path("bytes"), b"current-context: \xff").unwrap();
    assert!(
        Client::open(&sandbox.path("bytes"), &ProxyVariables::default())
            .err()
            .unwrap()
            .to_string()
            .contains("expected UTF-8")
    );
}

#[test]
fn yaml_and_json_are_read_alike_and_what_others_write_is_passed_over() {
    let sandbox = Sandbox::new();
    let yaml = format!(
        "apiVersion: v1\nkind: Config\npreferences: {{}}\nextensions: []\n{}",
        parts(SERVER, "token: '12', username: ''")
    );
    let json = r#"{"kind":"Config","current-context":"here","contexts":[{"name":"here","context":{"cluster":"c","user":"u","namespace":"x"}}],
        "clusters":[{"name":"c","cluster":{"server":"https://10.0.0.1:6443","insecure-skip-tls-verify":true,"extensions":null}}],"users":null}"#
        .replace(",\"user\":\"u\"", "");
    let open = |text: &str| {
        Client::open(&sandbox.write("kubeconfig", text), &ProxyVariables::default())
            .map(|client| client.cluster().to_owned())
    };
    assert_eq!(open(&yaml), open(&json));
    assert!(open(&yaml).unwrap().starts_with("anybody-"));
    // Another server, or another authority, is another cluster.
    assert_ne!(open(&yaml), open(&yaml.replace("10.0.0.1", "10.0.0.2")));
    sandbox.write("ca.crt", &Authority::new("ca").pem);
    assert_ne!(
        open(&yaml),
        open(&yaml.replace("insecure-skip-tls-verify: true", "certificate-authority: ca.crt"))
    );
}

#[test]
fn a_proxy_that_we_do_not_speak_to_is_named_wherever_it_was() {
    let sandbox = Sandbox::new();
    let said =
        refused(&sandbox, &parts(&format!("{SERVER}, proxy-url: 'socks5://me:s3cret@p:1080'"), ""))
            .to_string();
    assert!(said.ends_with("proxy-url: expected an http proxy, found socks5; https and SOCKS proxies are not supported"), "{said}");
    let path = sandbox.write("kubeconfig", &parts(SERVER, ""));
    let environment = ProxyVariables {
        https: Some(("https_proxy", "https://me:s3cret@p".into())),
        exceptions: None,
    };
    let said = Client::open(&path, &environment).err().unwrap().to_string();
    assert!(said.contains("https_proxy: ") && !said.contains("s3cret"), "{said}");
}

#[test]
fn no_kubeconfig_is_too_odd() {
    use proptest::prelude::*;
    let sandbox = Sandbox::new();
    let whole =
        parts(SERVER, "token: s3cret, client-certificate-data: LS0tLQ==, client-key: ca.crt");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(300)
    });
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    runner
        .run(&changes, |changes| {
            let mut bytes = whole.clone().into_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let path = sandbox.path("kubeconfig");
            std::fs::write(&path, &bytes).unwrap();
            let _ = Client::open(&path, &ProxyVariables::default());
            Ok(())
        })
        .unwrap();
}
