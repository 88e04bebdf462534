//! Who may use a claim beside whom: two pods of one virtual machine, and nobody else.

use super::shared;
use std::thread;

#[test]
fn only_one_pod_of_ten_gets_the_address_of_a_claim() {
    let Some(claims) = shared() else { return };
    claims.claim("vm", None);
    for number in 0..10 {
        claims.pod(&format!("web-{number}"), None, "");
    }
    let ended: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..10)
            .map(|number| {
                let call = claims.call(
                    "ADD",
                    1 + number % 2,
                    &format!("web-{number}"),
                    "vm",
                    r#""range":"10.9.0.0/24""#,
                );
                scope.spawn(move || call.run())
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let given = ended.iter().filter(|ended| ended.status == Some(0)).count();
    assert!(given <= 1, "{ended:?}");
    for ended in ended.iter().filter(|ended| ended.status != Some(0)) {
        assert_eq!(ended.code(), 101, "{}", ended.details());
        assert!(ended.details().contains("it is in use by pod "), "{}", ended.details());
    }
    // If they stood in each other's way, the next one is alone.
    if given == 0 {
        assert_eq!(claims.add(1, "web-0", "vm").status, Some(0));
    }
    assert_eq!(claims.users().len(), 1);
}

#[test]
fn a_virtual_machine_has_one_address_on_two_nodes_while_it_moves() {
    let Some(claims) = shared() else { return };
    claims.claim("vm", None);
    for (pod, machine) in [("source", "vm"), ("target", "vm"), ("third", "vm"), ("other", "x")] {
        claims.pod(pod, Some(machine), "");
    }
    assert_eq!(claims.add(1, "source", "vm").addresses(), ["10.9.0.1"]);
    let other = claims.add(2, "other", "vm");
    assert_eq!(other.code(), 101, "{}", other.details());
    assert_eq!(claims.add(2, "target", "vm").addresses(), ["10.9.0.1"]);
    assert_eq!(claims.users(), ["source 10.9.0.1", "target 10.9.0.1"]);
    let third = claims.add(2, "third", "vm");
    assert_eq!(third.code(), 101, "{}", third.details());
    // Both repeat their ADD, and the source ends. Then there is room for another move.
    assert_eq!(claims.add(1, "source", "vm").addresses(), ["10.9.0.1"]);
    assert_eq!(claims.add(2, "target", "vm").addresses(), ["10.9.0.1"]);
    claims.del(1, "source", "vm");
    let other = claims.add(1, "other", "vm");
    assert_eq!(other.code(), 101, "{}", other.details());
    assert_eq!(claims.users(), ["target 10.9.0.1"]);
    assert_eq!(claims.add(1, "third", "vm").addresses(), ["10.9.0.1"]);
    claims.del(2, "target", "vm");
    let other = claims.add(2, "other", "vm");
    assert_eq!(other.code(), 101, "{}", other.details());
    assert_eq!(claims.users(), ["third 10.9.0.1"]);
}

#[test]
fn a_claim_of_a_virtual_machine_is_for_its_pods_alone() {
    let Some(claims) = shared() else { return };
    claims.claim("vm", Some("vm"));
    claims.pod("plain", None, "");
    claims.pod("other", Some("x"), "");
    for (pod, found) in [("plain", "none"), ("other", "x")] {
        let refused = claims.add(1, pod, "vm");
        assert_eq!(refused.code(), 101);
        let said = format!("it is owned by the virtual machine vm, and the pod runs {found}");
        assert!(refused.details().contains(&said), "{}", refused.details());
    }
    assert_eq!((claims.held(), claims.users()), (vec![], vec![]));
    // A pod that is not in the API, or another one of its name.
    let unknown = claims.add(1, "nobody", "vm");
    assert_eq!(unknown.code(), 11, "{}", unknown.details());
    claims.pod("source", Some("vm"), "");
    assert_eq!(claims.add(1, "source", "vm").addresses(), ["10.9.0.1"]);
    // Its pod was deleted while the node was cut off. The machine starts on another node.
    claims.kubectl(&["delete", "pod", "source", "--force", "--grace-period=0"]);
    claims.pod("next", Some("vm"), "");
    assert_eq!(claims.add(2, "next", "vm").addresses(), ["10.9.0.1"]);
    assert_eq!(claims.users(), ["next 10.9.0.1", "source 10.9.0.1"]);
}

#[test]
fn a_pod_that_gets_a_new_sandbox_keeps_its_claim() {
    let Some(claims) = shared() else { return };
    claims.claim("vm", None);
    claims.pod("web", None, "");
    assert_eq!(claims.add(1, "web", "vm").addresses(), ["10.9.0.1"]);
    // The DEL of the old sandbox comes later.
    assert_eq!(claims.add(1, "web_2", "vm").addresses(), ["10.9.0.1"]);
    claims.del(1, "web", "vm");
    assert_eq!(claims.users(), ["web_2 10.9.0.1"]);
    // Another interface of the same sandbox would have the same address twice.
    let mut call = claims.call("ADD", 1, "web_2", "vm", r#""range":"10.9.0.0/24""#);
    let refused = call.set("CNI_IFNAME", "net2").run();
    assert_eq!(refused.code(), 101, "{}", refused.details());
    assert_eq!(claims.users(), ["web_2 10.9.0.1"]);
}
