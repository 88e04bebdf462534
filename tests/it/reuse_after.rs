//! Networks with `reuse_after`: freed addresses are not given for some time.

use crate::support::sandbox::Sandbox;

const FOUR: &str = r#""range":"10.1.2.0/29","range_end":"10.1.2.4""#;

fn add(sandbox: &Sandbox, container: &str, more: &str) -> Vec<String> {
    sandbox.add(container, &format!("{FOUR}{more}")).addresses()
}

fn del(sandbox: &Sandbox, container: &str, more: &str) {
    sandbox.del(container, &format!("{FOUR}{more}")).succeeded();
}

#[test]
fn a_freed_address_is_given_only_when_no_other_is_free_or_the_time_is_over() {
    let sandbox = Sandbox::new();
    let hour = r#","reuse_after":"1h""#;
    for (container, address) in [("c1", "10.1.2.1"), ("c2", "10.1.2.2")] {
        assert_eq!(add(&sandbox, container, hour), [address]);
    }
    del(&sandbox, "c1", hour);
    assert_eq!(add(&sandbox, "c3", hour), ["10.1.2.3"]);
    del(&sandbox, "c2", hour);
    assert_eq!(add(&sandbox, "c4", hour), ["10.1.2.4"]);
    // Nothing else is left.
    assert_eq!(add(&sandbox, "c5", hour), ["10.1.2.1"]);
    del(&sandbox, "c3", hour);
    // For this network the time is over, and the lowest free address comes first.
    assert_eq!(add(&sandbox, "c6", r#","reuse_after":"1ms""#), ["10.1.2.2"]);
}

#[test]
fn without_the_setting_the_lowest_free_address_comes_first() {
    let sandbox = Sandbox::new();
    add(&sandbox, "c1", "");
    del(&sandbox, "c1", "");
    assert_eq!(add(&sandbox, "c2", ""), ["10.1.2.1"]);
}

#[test]
fn the_flat_file_sets_it_for_all_networks_and_what_is_asked_for_is_given() {
    let sandbox = Sandbox::new();
    sandbox.set_in_flat(&[("reuse_after", "1h".into())]);
    assert_eq!(add(&sandbox, "c1", ""), ["10.1.2.1"]);
    del(&sandbox, "c1", "");
    assert_eq!(add(&sandbox, "c2", ""), ["10.1.2.2"]);
    let asked = sandbox
        .call("ADD")
        .set("CNI_CONTAINERID", "c3")
        .set("CNI_ARGS", "IP=10.1.2.1")
        .stdin(crate::support::sandbox::configuration(FOUR))
        .run();
    assert_eq!(asked.addresses(), ["10.1.2.1"]);
}

#[test]
fn a_wrong_duration_is_a_mistake_of_add_and_not_of_del() {
    let sandbox = Sandbox::new();
    for wrong in ["\"30\"", "\"25h\"", "30", "\"soon\""] {
        let more = format!(r#","reuse_after":{wrong}"#);
        assert_eq!(sandbox.add("c1", &format!("{FOUR}{more}")).code(), 7, "{wrong}");
        add(&sandbox, "c1", "");
        del(&sandbox, "c1", &more);
        assert!(sandbox.held().is_empty(), "{wrong}");
    }
}
