//! Before each request of an ADD in turn, somebody else does something whole: an address never has
//! two holders, and never two users that do not belong together.

use super::Claims;
use super::freeing::controlled;
use crate::support::nodes::{DEADLINES, Node};
use crate::support::proxy::{Act, Proxy, Reply};
use crate::support::sandbox::Ended;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

/// More requests than any ADD makes.
const MOST: usize = 40;

/// Runs an ADD of the pod `source` of the machine `vm` on the first node, on claims of its own each
/// time. Before its request of each number, `intrude` runs. After it, `check` gets its end, or `None`
/// if the ADD made fewer requests.
fn before_each_request(
    is_known: bool,
    intrude: impl Fn(&Claims) + Sync,
    check: impl Fn(&Claims, usize, &Ended),
) {
    for number in 0..MOST {
        let Some(claims) = controlled() else { return };
        claims.claim("vm", None);
        for pod in ["before", "source", "target"] {
            claims.pod(pod, Some("vm"), "");
        }
        claims.pod("other", Some("x"), "");
        if is_known {
            assert_eq!(claims.add(2, "before", "vm").addresses(), ["10.9.0.1"]);
            claims.del(2, "before", "vm");
        }
        let proxy = Proxy::new(claims.cluster);
        let node: &Node = &claims.nodes[0];
        node.configure(&proxy.kubeconfig(&node.sandbox.root), DEADLINES);
        // The intruder runs on a thread of its own, because it uses the claims of this one.
        let (begin, begun) = mpsc::channel::<()>();
        let (end, ended) = mpsc::channel::<()>();
        let count = Arc::new(AtomicUsize::new(0));
        let at = Arc::clone(&count);
        proxy.script(move |_| {
            if at.fetch_add(1, Ordering::SeqCst) == number {
                begin.send(()).unwrap();
                ended.recv().unwrap();
            }
            Act::Pass
        });
        let added = thread::scope(|scope| {
            let adding = scope.spawn(|| claims.add(1, "source", "vm"));
            let is_turn = loop {
                match begun.recv_timeout(std::time::Duration::from_millis(20)) {
                    Ok(()) => break true,
                    Err(_) if adding.is_finished() => break false,
                    Err(_) => {}
                }
            };
            if is_turn {
                intrude(&claims);
                end.send(()).unwrap();
            }
            is_turn.then_some(adding.join().unwrap())
        });
        let Some(added) = added else {
            assert!(1 < number, "an ADD makes requests");
            return;
        };
        check(&claims, number, &added);
        node.configure(&claims.cluster.kubeconfig(), DEADLINES);
        claims.del(1, "source", "vm");
    }
    panic!("an ADD made {MOST} requests");
}

/// Returns who holds an address in the scope of the network: the kind of the holder and its name.
fn holder(claims: &Claims, address: &str) -> Option<String> {
    claims.held().into_iter().find(|held| held.split(' ').next() == Some(address))
}

/// What an answered ADD printed is held by the claim of today, and the sandbox uses it.
fn is_held_by_the_claim(claims: &Claims, number: usize, added: &Ended) {
    for address in added.addresses() {
        let held = holder(claims, &address).unwrap_or_default();
        assert!(held.starts_with(&format!("{address} IPAMClaim vm ")), "{number}: {held:?}");
        assert!(claims.users().contains(&format!("source {address}")), "{number}");
    }
}

#[test]
fn a_claim_that_goes_before_any_request_leaves_no_address_with_two_holders() {
    for is_known in [true, false] {
        let intrude = |claims: &Claims| {
            claims.delete_claim("vm");
            // The controller frees the address, unless the sandbox is a user by now.
            claims.until(&true, |claims| match holder(claims, "10.9.0.1") {
                None => true,
                Some(_) => is_ending(claims, "10.9.0.1"),
            });
            let fixed = claims.network(r#""addresses":[{"address":"10.9.0.1/24"}]"#);
            claims.nodes[1].call("ADD", "thief").stdin(fixed.to_string()).run();
        };
        before_each_request(is_known, intrude, |claims, number, added| {
            match added.status {
                // The claim went afterwards, or the ADD had read it: then it may have got another
                // address, which is freed after its user.
                Some(0) => is_held_by_the_claim(claims, number, added),
                _ => {
                    let users = claims.users();
                    assert!(!users.iter().any(|user| user.starts_with("source ")), "{number}");
                }
            }
            let both = claims.held();
            let twice = both.iter().filter(|held| held.starts_with("10.9.0.1 "));
            assert!(twice.count() <= 1, "{both:?}");
        });
    }
}

fn is_ending(claims: &Claims, address: &str) -> bool {
    let name = format!("{}.{address}", claims.namespace);
    let text = claims.cluster.kubectl(&[
        "get",
        "ipa",
        &name,
        "-o",
        "jsonpath={.metadata.deletionTimestamp}",
    ]);
    !text.stdout.is_empty()
}

#[test]
fn a_machine_that_moves_before_any_request_has_one_address() {
    for is_known in [true, false] {
        let intrude = |claims: &Claims| {
            let moved = claims.add(2, "target", "vm");
            assert_eq!(moved.addresses().len(), 1, "{moved:?}");
        };
        before_each_request(is_known, intrude, |claims, number, added| {
            is_held_by_the_claim(claims, number, added);
            let users = claims.users();
            let (first, second) =
                (users[0].split_once(' ').unwrap(), users[1].split_once(' ').unwrap());
            assert_eq!((first.0, second.0, first.1), ("source", "target", second.1), "{number}");
            claims.del(2, "target", "vm");
        });
    }
}

#[test]
fn a_pod_of_another_machine_never_uses_a_claim_beside_it() {
    for is_known in [true, false] {
        let intrude = |claims: &Claims| drop(claims.add(2, "other", "vm"));
        before_each_request(is_known, intrude, |claims, number, added| {
            let users = claims.users();
            assert!(users.len() <= 1, "{number}: {users:?}");
            let is_user = users.iter().any(|user| user.starts_with("source "));
            assert_eq!(added.status == Some(0), is_user, "{number}: {added:?} {users:?}");
            claims.del(2, "other", "vm");
        });
    }
}

#[test]
fn an_add_that_fails_at_any_request_is_repeated_and_leaves_nothing_too_much() {
    for (what, act) in [
        ("lost", Act::ResetAfter),
        ("not sent", Act::Reset),
        ("busy", Act::Answer(Reply::status(503))),
    ] {
        for number in 0..MOST {
            let Some(claims) = controlled() else { return };
            claims.claim("vm", None);
            let proxy = Proxy::new(claims.cluster);
            let node = &claims.nodes[0];
            node.configure(
                &proxy.kubeconfig(&node.sandbox.root),
                r#"{"add":"1s","del":"4s","gc":"4s"}"#,
            );
            let count = Arc::new(AtomicUsize::new(0));
            let (at, failing) = (Arc::clone(&count), act.clone());
            // From this request on, for this call.
            proxy.script(move |_| match number <= at.fetch_add(1, Ordering::SeqCst) {
                true => failing.clone(),
                false => Act::Pass,
            });
            let failed = claims.add(1, "a", "vm");
            let is_whole = count.load(Ordering::SeqCst) <= number;
            proxy.pass();
            node.configure(&proxy.kubeconfig(&node.sandbox.root), DEADLINES);
            let again = claims.add(1, "a", "vm");
            assert_eq!(again.addresses().len(), 1, "{what} {number}: {failed:?}");
            assert_eq!(claims.held().len(), 1, "{what} {number}: {:?}", claims.held());
            assert_eq!(claims.users().len(), 1, "{what} {number}");
            claims.del(1, "a", "vm");
            assert_eq!(claims.users(), Vec::<String>::new(), "{what} {number}");
            claims.delete_claim("vm");
            claims.until(&Vec::<String>::new(), Claims::held);
            if is_whole {
                break;
            }
        }
    }
}
