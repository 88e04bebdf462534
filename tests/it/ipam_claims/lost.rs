//! A cluster that has lost what claims hold, as after a restore of etcd: the node of a user creates it
//! again.

use super::{Claims, shared};
use crate::support::living::Living;

/// Removes objects, whatever their finalizers say.
fn lose(claims: &Claims, names: &[&str]) {
    let strip = r#"{"metadata":{"finalizers":null}}"#;
    for name in names {
        claims.cluster.text(&["patch", "ipa", name, "--type=merge", "-p", strip]);
        claims.cluster.text(&["delete", "ipa", name]);
    }
}

fn users(claims: &Claims) -> Vec<String> {
    let label = "hereabouts.dev/node";
    let list = claims.cluster.text(&[
        "get",
        "ipa",
        "-l",
        label,
        "-o",
        "jsonpath={range .items[*]}{.metadata.name} {.spec.node}{\"\\n\"}{end}",
    ]);
    let own = format!(" {}", claims.nodes[0].name);
    list.lines().filter_map(|line| line.strip_suffix(&own)).map(str::to_owned).collect()
}

/// Returns the lines of `verify` that are about this test. The cluster is that of other tests, too.
fn problems(claims: &Claims) -> Vec<String> {
    let verified = claims.nodes[0].sandbox.command(&["verify"]);
    let of_claims = format!("ipallocations/{}.", claims.namespace);
    let lines = verified.stdout.lines().filter(|line| line.contains(&of_claims));
    let users = users(claims);
    let of_users = verified
        .stdout
        .lines()
        .filter(|line| users.iter().any(|name| line.contains(&format!("ipallocations/{name} "))));
    lines.chain(of_users).map(str::to_owned).collect()
}

#[test]
fn what_a_claim_has_lost_is_created_again_by_the_node_of_its_living_user() {
    let Some(claims) = shared() else { return };
    let Some(living) = Living::new() else { return skipped!("needs root") };
    claims.claim("vm", None);
    let dual =
        r#""ipRanges":[{"range":"10.9.0.0/24","gateway":"10.9.0.254"},{"range":"fd00:9::/64"}]"#;
    let mut call = claims.call("ADD", 1, "a", "vm", dual);
    call.set("CNI_NETNS", living.path());
    assert_eq!(call.run().addresses(), ["10.9.0.1", "fd00:9::1"]);
    let before = claims.held();
    let node = &claims.nodes[0];
    let command = |args: &[&str]| node.sandbox.command(args);
    assert_eq!(problems(&claims), Vec::<String>::new());
    let (v4, v6) = (
        format!("{}.10.9.0.1", claims.namespace),
        format!("{}.fd00-0009-0000-0000-0000-0000-0000-0001", claims.namespace),
    );
    // Of one address the claim alone is lost, of the other one the user, too.
    let user = users(&claims).into_iter().find(|name| name.ends_with("10.9.0.1")).unwrap();
    lose(&claims, &[&v4, &v6, &user]);
    assert_eq!(claims.held(), Vec::<String>::new());
    let verified = command(&["verify"]);
    assert_eq!(verified.status, Some(1));
    assert!(verified.stdout.contains("3 x lost-record"), "{verified:?}");
    for name in [&v4, &v6, &user] {
        assert!(verified.stdout.contains(&format!("  ipallocations/{name} (")), "{verified:?}");
    }
    assert!(
        verified.stdout.contains(&format!("the address of IPAMClaim {}/vm", claims.namespace)),
        "{verified:?}"
    );
    let repaired = command(&["repair", "--yes"]);
    for name in [&v4, &v6, &user] {
        let said = format!("recreated ipallocations/{name}\n");
        assert!(repaired.succeeded().stdout.contains(&said), "{repaired:?}");
    }
    assert_eq!(claims.held(), before);
    assert_eq!(claims.users(), ["a 10.9.0.1", "a fd00:9::1"]);
    assert_eq!(problems(&claims), Vec::<String>::new());
    // The recreated user knows its claim, too.
    lose(&claims, &[&v4]);
    command(&["repair", "--yes"]).succeeded();
    assert_eq!(claims.held(), before);
    // Somebody else got the address meanwhile.
    lose(&claims, &[&v4]);
    let mut thief = claims.nodes[1].call("ADD", "thief");
    let network = claims.network(r#""addresses":[{"address":"10.9.0.1/24"}]"#);
    assert_eq!(thief.stdin(network.to_string()).run().addresses(), ["10.9.0.1"]);
    let verified = command(&["verify"]);
    assert!(verified.stdout.contains(&format!("  ipallocations/{v4} (")), "{verified:?}");
    // The user has ended, so nothing needs the claim's record.
    lose(&claims, &[&v6]);
    drop(living);
    command(&["repair", "--yes"]);
    assert!(!claims.held().iter().any(|held| held.contains("IPAMClaim")), "{:?}", claims.held());
}
