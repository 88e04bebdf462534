//! The controller: it frees what a claim held that is gone, when nobody uses it, and says in the
//! status what a claim has.

use super::{Claims, shared};
use crate::support::controller::{Kept, pause};
use crate::support::sandbox::Sandbox;
use hereabouts::retry::{Deadline, until};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::Duration;

/// Returns the shared cluster, in which a controller runs, with the rights that it ships with.
pub(super) fn controlled() -> Option<Claims> {
    static RUNNING: LazyLock<Option<(Sandbox, Kept)>> = LazyLock::new(|| {
        let sandbox = Sandbox::new();
        let claims = shared()?;
        let rights = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/controller/rbac.yaml");
        claims.cluster.text(&["apply", "-f", rights]);
        let account = "hereabouts-controller";
        let token = ["create", "token", account, "--namespace", "kube-system", "--duration", "10h"];
        let token = claims.cluster.text(&token);
        let kubeconfig = claims.cluster.kubeconfig_with(token.trim());
        let kubeconfig = sandbox.write("kubeconfig", &kubeconfig);
        let controller = Kept::start(&kubeconfig, &sandbox.path("controller.log"));
        Some((sandbox, controller))
    });
    RUNNING.as_ref()?;
    shared()
}

impl Claims {
    /// Waits until `look` returns this.
    pub(super) fn until<T: PartialEq + std::fmt::Debug>(
        &self,
        expected: &T,
        look: impl Fn(&Self) -> T,
    ) {
        let deadline = Deadline::after(Duration::from_secs(60));
        let seen = until(&deadline, || Ok::<_, ()>((look(self) == *expected).then_some(())));
        assert!(matches!(seen, Ok(Some(()))), "expected {expected:?}, found {:?}", look(self));
    }

    pub(super) fn delete_claim(&self, name: &str) {
        self.kubectl(&["delete", "ipamclaim", name]);
    }

    /// Returns addresses, pod and condition in the status of a claim.
    fn status(&self, name: &str) -> String {
        let text = self.kubectl(&["get", "ipamclaim", name, "-o", "json"]);
        let claim: Value = serde_json::from_str(&text).unwrap();
        let (status, condition) = (&claim["status"], &claim["status"]["conditions"][0]);
        format!(
            "{} {} {} {} {}",
            status["ips"],
            status["ownerPod"]["name"],
            condition["type"],
            condition["status"],
            condition["reason"]
        )
    }
}

fn of_claim(name: &str, address: &str) -> String {
    format!(r#"{address} IPAMClaim {name} ["hereabouts.dev/in-use"]"#)
}

#[test]
fn the_address_of_a_claim_that_is_gone_is_free_when_nobody_uses_it() {
    let Some(claims) = controlled() else { return };
    claims.claim("vm", None);
    assert_eq!(claims.add(1, "a", "vm").addresses(), ["10.9.0.1"]);
    let held = |claims: &Claims| claims.held();
    // A living pod has it, so it is kept, for whichever claim.
    claims.delete_claim("vm");
    let uid_of = |claims: &Claims| {
        claims.cluster.text(&[
            "get",
            "ipa",
            &format!("{}.10.9.0.1", claims.namespace),
            "-o",
            "jsonpath={.metadata.deletionTimestamp}",
        ])
    };
    claims.until(&false, |claims| uid_of(claims).is_empty());
    assert_eq!(held(&claims), [of_claim("vm", "10.9.0.1")]);
    claims.claim("vm", None);
    let next = claims.add(2, "b", "vm");
    assert_eq!(next.addresses(), ["10.9.0.2"], "a claim of the same name is another claim");
    assert_eq!(claims.nodes[1].add("other").addresses(), ["10.9.0.3"]);
    claims.del(1, "a", "vm");
    claims.until(&vec![of_claim("vm", "10.9.0.2"), "10.9.0.3 other".to_owned()], held);
    // It is free for everybody.
    let taken = claims.nodes[0].add("last");
    assert_eq!(taken.addresses(), ["10.9.0.1"]);
    // The other claim goes after its user.
    claims.del(2, "b", "vm");
    claims.delete_claim("vm");
    claims.until(&vec!["10.9.0.1 last".to_owned(), "10.9.0.3 other".to_owned()], held);
}

#[test]
fn the_status_of_a_claim_says_what_it_has_and_who_uses_it() {
    let Some(claims) = controlled() else { return };
    claims.claim("vm", None);
    let dual = r#""ipRanges":[{"range":"fd00:9::/64"},{"range":"10.9.0.0/24"}]"#;
    for pod in ["source", "target"] {
        claims.pod(pod, Some("vm"), "");
    }
    let call = |verb: &str, node, pod: &str| claims.call(verb, node, pod, "vm", dual).run();
    let has = |pod: &str| {
        format!(
            r#"["10.9.0.1/24","fd00:9::1/64"] "{pod}" "IPsAllocated" "True" "SuccessfulAllocation""#
        )
    };
    assert_eq!(call("ADD", 1, "source").addresses(), ["fd00:9::1", "10.9.0.1"]);
    claims.until(&has("source"), |claims| claims.status("vm"));
    assert_eq!(call("ADD", 2, "target").addresses(), ["fd00:9::1", "10.9.0.1"]);
    claims.until(&has("target"), |claims| claims.status("vm"));
    call("DEL", 1, "source").succeeded();
    call("DEL", 2, "target").succeeded();
    claims.until(&Vec::<String>::new(), |claims| claims.users());
    pause(Duration::from_secs(2));
    assert_eq!(claims.status("vm"), has("target"));
    // Somebody else's word is put right.
    claims.write_status("vm", &json!({"ips": ["192.0.2.7/24"]}));
    claims.until(&has("target"), |claims| claims.status("vm"));
}

/// The controller has the rights that it ships with, and knows networks and what is held.
#[test]
fn the_condition_says_why_a_claim_has_no_address() {
    let Some(claims) = controlled() else { return };
    let ipam = r#""range":"10.9.0.0/30""#;
    let mut network = claims.network(ipam);
    network["name"] = json!(format!("{}-wire", claims.namespace));
    let definition = json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "wire", "namespace": claims.namespace},
        "spec": {"config": network.to_string()},
    });
    let call = |verb: &str, container: &str, claim: Option<&str>| {
        let mut stdin = network.clone();
        if let Some(claim) = claim {
            stdin["args"] = json!({"cni": {"ipamClaim": claim}});
        }
        claims.call_with(verb, 1, container, &stdin).run()
    };
    let write = |name: &str| {
        claims.claim_with(name, None, &json!({"network": network["name"], "interface": ""}));
    };
    let condition = |claims: &Claims, name: &str| {
        let text = claims.kubectl(&["get", "ipamclaim", name, "-o", "json"]);
        let claim: Value = serde_json::from_str(&text).unwrap();
        let found = &claim["status"]["conditions"][0];
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("status"), text("reason"), text("message"))
    };
    claims.cluster.apply(&definition.to_string());
    assert_eq!(call("ADD", "a", None).addresses(), ["10.9.0.1"]);
    write("asks");
    claims.write_status("asks", &json!({"ips": ["10.9.0.1/30"]}));
    let held = "False IPAddressConflict: 10.9.0.1, for which it asks, is held by pod";
    claims.until(&true, |claims| condition(claims, "asks").starts_with(held));
    assert_eq!(call("ADD", "b", None).addresses(), ["10.9.0.2"]);
    write("any");
    let full = format!(
        "False SubnetExhausted: network {}-wire has no free address: 2 from 10.9.0.1 to 10.9.0.2 are held",
        claims.namespace
    );
    claims.until(&full, |claims| condition(claims, "any"));
    assert_eq!(call("ADD", "c", Some("any")).code(), 100, "the plugin says so, too");
    // What stood in the way goes, and so does the condition; then the claim gets its address.
    call("DEL", "b", None).succeeded();
    claims.until(&" : ".to_owned(), |claims| condition(claims, "any"));
    assert_eq!(call("ADD", "c", Some("any")).addresses(), ["10.9.0.2"]);
    let has = "True SuccessfulAllocation: has 10.9.0.2/30".to_owned();
    claims.until(&has, |claims| condition(claims, "any"));
    // Of a network that is not known, nothing is said.
    claims.claim_with("far", None, &json!({"network": "elsewhere", "interface": ""}));
    write("late");
    claims.until(&true, |claims| condition(claims, "late").contains("SubnetExhausted"));
    assert_eq!(condition(&claims, "far"), " : ");
}

#[test]
fn an_operator_takes_an_address_from_a_claim_when_nobody_uses_it() {
    let Some(claims) = controlled() else { return };
    claims.claim("vm", None);
    assert_eq!(claims.add(1, "a", "vm").addresses(), ["10.9.0.1"]);
    let name = format!("{}.10.9.0.1", claims.namespace);
    claims.cluster.text(&["delete", "ipa", &name, "--wait=false"]);
    // Until its user has ended, the claim gets nothing else, and the address goes to nobody.
    let busy = claims.add(2, "b", "vm");
    assert_eq!(busy.code(), 11, "{}", busy.details());
    let said = "its address 10.9.0.1 is being freed, because its IPAllocation was deleted";
    assert!(busy.details().contains(said), "{}", busy.details());
    assert_eq!(claims.held(), [of_claim("vm", "10.9.0.1")]);
    claims.del(1, "a", "vm");
    claims.until(&Vec::<String>::new(), |claims| claims.held());
    assert_eq!(claims.nodes[1].add("other").addresses(), ["10.9.0.1"]);
    // Its status still wishes for that address.
    let refused = claims.add(2, "b", "vm");
    assert_eq!(refused.code(), 101, "{}", refused.details());
    claims.write_status("vm", &json!({"ips": []}));
    assert_eq!(claims.add(2, "b", "vm").addresses(), ["10.9.0.2"]);
}

#[test]
fn no_address_has_two_users_while_claims_come_and_go() {
    come_and_go(6);
}

#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_no_address_has_two_users_while_claims_come_and_go() {
    come_and_go(60);
}

/// Claims come, are used by their machines on both nodes, and go, all at the same time.
fn come_and_go(rounds: usize) {
    let Some(claims) = controlled() else { return };
    let small = r#""range":"10.9.0.0/28""#;
    std::thread::scope(|scope| {
        for machine in 0..4 {
            let claims = &claims;
            scope.spawn(move || {
                let name = format!("vm-{machine}");
                for round in 0..rounds {
                    claims.claim(&name, Some(&name));
                    let (source, target) =
                        (format!("{name}-{round}-s"), format!("{name}-{round}-t"));
                    for pod in [&source, &target] {
                        claims.pod(pod, Some(&name), "");
                    }
                    let add = |node, pod: &str| claims.call("ADD", node, pod, &name, small).run();
                    let given = add(1, &source).addresses();
                    assert_eq!(add(2, &target).addresses(), given, "{name} {round}");
                    if round % 2 == 0 {
                        claims.delete_claim(&name);
                    }
                    claims.call("DEL", 1, &source, &name, small).run().succeeded();
                    // The claim may be gone, and its address is still the target's.
                    let others = claims.users();
                    let same =
                        others.iter().filter(|user| user.ends_with(&format!(" {}", given[0])));
                    assert_eq!(same.count(), 1, "{others:?}");
                    claims.call("DEL", 2, &target, &name, small).run().succeeded();
                    if round % 2 == 1 {
                        claims.delete_claim(&name);
                    }
                }
            });
        }
    });
    claims.until(&Vec::<String>::new(), |claims| claims.held());
    assert_eq!(claims.users(), Vec::<String>::new());
}
