//! kubeconfigs that cannot be used: each is refused with a message that says what is missing and
//! shows nothing that may be secret.

use super::certificates::Authority;
use crate::support::sandbox::Sandbox;
use crate::support::transcript::assert_file;
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
fn what_is_missing_malformed_or_not_supported_is_named() {
    let sandbox = Sandbox::new();
    let authority = Authority::new("ca");
    sandbox.write("ca.crt", &authority.pem);
    sandbox.write("empty", "");
    sandbox
        .write("broken.crt", "-----BEGIN CERTIFICATE-----\n*s3cret*\n-----END CERTIFICATE-----\n");
    sandbox
        .write("other.crt", "-----BEGIN CERTIFICATE-----\nczNjcmV0\n-----END CERTIFICATE-----\n");
    let whole = parts(SERVER, "token: s3cret");
    let text = |text: &str| (text.to_owned(), text.to_owned());
    let changed = |from: &str, to: &str| (format!("{from:?} is {to:?}"), whole.replace(from, to));
    let user = |user: &str| (user.to_owned(), parts(SERVER, user));
    let cluster = |cluster: &str| (cluster.to_owned(), parts(cluster, "token: s3cret"));
    let server = |url: &str| cluster(&format!("server: '{url}', insecure-skip-tls-verify: true"));
    let https = |rest: &str| cluster(&format!("server: 'https://10.0.0.1', {rest}"));
    let key = rcgen::KeyPair::generate().unwrap();
    sandbox.write("one.crt", &authority.client(rcgen::KeyPair::generate().unwrap()).pem);
    sandbox.write("another.key", &key.serialize_pem());
    let mut said = String::new();
    for (label, text) in [
        text(""),
        text("- a\n"),
        text("s3cret: [\n"),
        changed("token: s3cret", "token: [s3cret]"),
        changed("token: s3cret", "token: 0x5ec"),
        changed("current-context: here", "current-context: yes"),
        (
            "clusters is an object".to_owned(),
            whole.replace("clusters: [", "s3cret: [") + "clusters: {}\n",
        ),
        changed("insecure-skip-tls-verify: true", "insecure-skip-tls-verify: s3cret"),
        text("{\"current-context\": 7"),
        changed("current-context: here", ""),
        changed("current-context: here", "current-context: ''"),
        changed("current-context: here", "current-context: there"),
        changed("cluster: c,", "cluster: d,"),
        changed("cluster: c,", ""),
        changed("user: u}", "user: v}"),
        cluster("insecure-skip-tls-verify: true"),
        server("10.0.0.1:6443"),
        server("ftp://10.0.0.1"),
        server("http://10.0.0.1:8080"),
        server("https://me:s3cret@10.0.0.1"),
        server("https://10.0.0.1:port"),
        server("https://[fd00::1]:6443/?s3cret"),
        https("tls-server-name: 'a b', insecure-skip-tls-verify: true"),
        https("certificate-authority: ca.crt, insecure-skip-tls-verify: true"),
        https("certificate-authority: gone.crt"),
        https("certificate-authority: ."),
        https("certificate-authority: empty"),
        https("certificate-authority: broken.crt"),
        https("certificate-authority: other.crt"),
        https("certificate-authority-data: '*s3cret*'"),
        user("client-certificate: one.crt"),
        user("client-key: another.key"),
        user("client-certificate: one.crt, client-key: another.key"),
        user("client-certificate: one.crt, client-key: one.crt"),
        user("client-certificate: empty, client-key: another.key"),
        user("exec: {command: aws, args: [s3cret]}"),
        user("auth-provider: {name: gcp}"),
        user("username: me, password: s3cret"),
        user("token: s3cret, as: somebody"),
        user("token: s3cret, as-groups: [system:masters]"),
    ] {
        let error = refused(&sandbox, &text).to_string();
        let error = error.replace(&sandbox.root.display().to_string(), "DIR");
        said.push_str(&format!("{}\n  {error}\n\n", label.trim_end()));
    }
    assert_file("messages/kubeconfig.txt", &format!("{}\n", said.trim_end()));
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
    let documents = format!("# A comment\n---\n{yaml}---\ncurrent-context: other\n");
    assert_eq!(open(&yaml), open(&documents), "the first document counts");
    let merged = yaml.replace(
        SERVER,
        "<<: &same {server: 'https://10.0.0.1:6443'}, insecure-skip-tls-verify: on",
    );
    assert_eq!(open(&yaml), open(&merged), "YAML as kubectl reads it");
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
