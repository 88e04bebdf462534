//! Answers and certificates that no further attempt changes: a clear code at once, the cause in the
//! error, and nothing lost. Also answers that look like the server's and are not.

use super::rig::{Rig, assert_says, server_of, shared, within};
use crate::support::nodes::DEADLINES;
use crate::support::proxy::authority::{Authority, Validity};
use crate::support::proxy::{Act, Reply};
use crate::support::sandbox::Ended;
use serde_json::json;

/// Checks that the other verbs return the same error as the ADD, and that everything is freed after
/// `mend` has corrected the cause.
fn assert_all_refused(rig: &Rig<'_>, kept: &Ended, code: u64, words: &str, mend: impl Fn()) {
    let node = &rig.node;
    assert_says(&within(1.0, &node.call("ADD", "c")), code, words);
    let deleted = within(1.0, &node.call("DEL", "c"));
    assert!(deleted.status == Some(0) || deleted.code() == code, "{deleted:?}");
    assert_says(&within(1.0, &node.check_call("kept", &kept.document())), code, words);
    assert_says(&within(1.0, &node.call("DEL", "kept")), code, words);
    assert_says(&within(1.0, &node.gc_call(&[])), code, words);
    assert_says(&node.status(), 50, words);
    mend();
    node.status().succeeded();
    node.check("kept", kept).succeeded();
    node.del("kept").succeeded();
    node.del("c").succeeded();
    rig.assert_empty(words);
}

#[test]
fn a_server_that_refuses_is_105_at_once() {
    let Some(cluster) = shared() else { return };
    for (status, words) in [
        (401, "token or certificate"),
        (403, "lacks the right to"),
        (400, "said by the test"),
        (422, "said by the test"),
    ] {
        let rig = Rig::new(cluster);
        let kept = rig.node.add("kept");
        rig.proxy.script(move |_| Act::Answer(Reply::status(status)));
        assert_all_refused(&rig, &kept, 105, words, || rig.proxy.pass());
    }
}

#[test]
fn what_is_no_answer_of_an_api_server_is_not_believed() {
    let Some(cluster) = shared() else { return };
    for status in [200, 201, 202, 302, 404] {
        let rig = Rig::new(cluster);
        let kept = rig.node.add("kept");
        rig.proxy.script(move |_| Act::Answer(Reply::garbage(status)));
        assert_all_refused(&rig, &kept, 105, "", || rig.proxy.pass());
    }
}

#[test]
fn garbage_after_it_was_done_loses_nothing() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    rig.proxy.first(1, "POST", Act::AnswerAfter(Reply::garbage(201)));
    assert_eq!(within(1.0, &rig.node.call("ADD", "c")).code(), 105);
    assert_eq!(rig.holders().len(), 1);
    rig.node.del("c").succeeded();
    rig.assert_empty("the object was made, and nobody was told");
    rig.node.add("c").succeeded();
    rig.proxy.first(1, "DELETE", Act::AnswerAfter(Reply::garbage(200)));
    let deleted = within(1.0, &rig.node.call("DEL", "c"));
    assert!(deleted.status == Some(0) || deleted.code() == 105, "{deleted:?}");
    rig.node.del("c").succeeded();
    rig.assert_empty("the object is gone");
}

/// Conflicts without a reason: the wanted state exists already.
#[test]
fn a_conflict_without_reason_frees_all_the_same() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    rig.node.add("c").succeeded();
    rig.proxy.first(1, "DELETE", Act::Answer(Reply::status(409)));
    within(4.0, &rig.node.call("DEL", "c")).succeeded();
    rig.assert_empty("one conflict");
    rig.node.add("c").succeeded();
    rig.proxy.script(|asked| {
        if asked.method == "DELETE" { Act::Answer(Reply::status(409)) } else { Act::Pass }
    });
    assert_eq!(within(4.0, &rig.node.call("DEL", "c")).code(), 11);
    rig.proxy.pass();
    rig.node.del("c").succeeded();
    rig.assert_empty("many conflicts");
}

#[test]
fn a_conflict_at_a_creation_is_somebody_elses_address() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    rig.proxy.first(1, "POST", Act::Answer(Reply::taken()));
    let added = within(5.0, &rig.node.call("ADD", "c")).addresses();
    assert_eq!(rig.holders().into_iter().collect::<Vec<_>>(), [(added[0].clone(), "c".to_owned())]);
    rig.node.del("c").succeeded();
    rig.assert_empty("after the DEL");
}

#[test]
fn an_authority_that_is_not_ours_is_named_at_once() {
    let Some(cluster) = shared() else { return };
    let rig = Rig::new(cluster);
    let kept = rig.node.add("kept");
    rig.proxy.certificate(Authority::new("another").server(&[&rig.proxy.host()], Validity::Today));
    let right = rig.proxy.authority.server(&[&rig.proxy.host()], Validity::Today);
    assert_all_refused(&rig, &kept, 11, "not from a trusted authority", || {
        rig.proxy.certificate(right.clone())
    });
}

#[test]
fn a_certificate_that_is_not_valid_today_is_named_at_once() {
    let Some(cluster) = shared() else { return };
    for (validity, words) in [
        (Validity::Expired, "certificate expired at 2020-01-01"),
        (Validity::NotYet, "valid from 2089-01-01"),
    ] {
        let rig = Rig::new(cluster);
        let kept = rig.node.add("kept");
        rig.proxy.certificate(rig.proxy.authority.server(&[&rig.proxy.host()], validity));
        let right = rig.proxy.authority.server(&[&rig.proxy.host()], Validity::Today);
        assert_all_refused(&rig, &kept, 11, words, || rig.proxy.certificate(right.clone()));
    }
}

/// The real server checks client certificates.
#[test]
fn a_client_certificate_that_is_not_valid_today_is_105() {
    let Some(cluster) = shared() else { return };
    let pki =
        |name: &str| std::fs::read_to_string(cluster.directory().join("pki").join(name)).unwrap();
    let authority = Authority::known("hereabouts-cluster", &pki("ca.key"), &pki("ca.crt"));
    let rig = Rig::new(cluster);
    let use_certificate = |validity| {
        let (certificate, key) = authority.client("c", "system:masters", validity);
        std::fs::write(rig.node.sandbox.path("client.crt"), certificate).unwrap();
        std::fs::write(rig.node.sandbox.path("client.key"), key).unwrap();
    };
    let user = json!({"client-certificate": rig.node.sandbox.path("client.crt"), "client-key": rig.node.sandbox.path("client.key")});
    // Past the proxy, which has no client certificate.
    let server = server_of(cluster);
    let text = crate::support::proxy::kubeconfig(&server, authority.pem(), &user);
    let kubeconfig = rig.node.sandbox.write("certificate.kubeconfig", &text);
    rig.node.configure(&kubeconfig, DEADLINES);
    use_certificate(Validity::Today);
    // Its sandbox is alive: other calls do not settle what its refused DELs left.
    let mut add = rig.node.call("ADD", "kept");
    add.set("CNI_NETNS", format!("/proc/{}/ns/net", std::process::id()))
        .set("CNI_NETNS_OVERRIDE", "1");
    let kept = add.run();
    for validity in [Validity::Expired, Validity::NotYet] {
        use_certificate(validity);
        assert_says(
            &within(1.0, &rig.node.call("ADD", "c")),
            105,
            "token or certificate of the kubeconfig is no longer valid",
        );
        assert_says(
            &within(1.0, &rig.node.call("DEL", "kept")),
            105,
            "token or certificate of the kubeconfig is no longer valid",
        );
        assert_says(
            &rig.node.status(),
            50,
            "token or certificate of the kubeconfig is no longer valid",
        );
        // A renewed certificate is read again.
        use_certificate(Validity::Today);
        rig.node.check("kept", &kept).succeeded();
    }
    rig.node.del("kept").succeeded();
    rig.assert_empty("with a renewed certificate");
}
