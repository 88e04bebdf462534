//! Ranges, bounds, exclusions, gateways.

use super::{code_of, first_of};
use crate::support::sandbox::{Sandbox, versioned};

fn range(text: &str) -> String {
    format!(r#""range":"{text}""#)
}

#[test]
fn no_range_at_all_is_7_unless_there_are_static_addresses() {
    assert_eq!(code_of(""), 7);
    assert_eq!(code_of(r#""addresses":[{"address":"192.0.2.7/24"}]"#), 0);
}

#[test]
fn a_30_and_a_126_have_room() {
    assert_eq!(first_of(&range("10.0.0.0/30")), "10.0.0.1/30");
    assert_eq!(first_of(&range("2001:db8::/126")), "2001:db8::1/126");
}

#[test]
fn a_31_32_127_and_128_are_allowed() {
    for (text, first) in [
        ("10.0.0.0/31", "10.0.0.0/31"),
        ("10.0.0.9/32", "10.0.0.9/32"),
        ("2001:db8::/127", "2001:db8::/127"),
        ("2001:db8::9/128", "2001:db8::9/128"),
    ] {
        assert_eq!(first_of(&range(text)), first);
    }
}

#[test]
fn host_bits_are_masked() {
    assert_eq!(first_of(&range("10.1.2.77/24")), "10.1.2.1/24");
}

#[test]
fn what_is_no_cidr_is_7() {
    for text in [
        "10.1.2.0",
        "10.1.2.0/33",
        "10.1.2.0/-1",
        "10.1.2.0/+24",
        "10.1.2.0/",
        "10.1.2.0/255.255.255.0",
        "10.1.2/24",
        "0x0a010200/24",
        "\u{ff11}\u{ff10}.1.2.0/24",
        " 10.1.2.0/24",
        "10.1.2.0/24 ",
    ] {
        assert_eq!(code_of(&range(text)), 7, "{text}");
    }
    assert_eq!(code_of(r#""range":167838208"#), 7);
}

#[test]
fn a_prefix_with_a_leading_zero_is_accepted() {
    assert_eq!(first_of(&range("10.1.2.0/024")), "10.1.2.1/24");
}

#[test]
fn an_ipv4_mapped_range_is_7() {
    assert_eq!(code_of(&range("::ffff:10.1.2.0/120")), 7);
}

#[test]
fn a_zone_is_7() {
    assert_eq!(code_of(&range("fe80::1%eth0/64")), 7);
}

#[test]
fn addresses_that_no_interface_can_hold_are_7() {
    for text in [
        "224.0.0.0/4",
        "239.1.2.0/24",
        "127.0.0.0/8",
        "ff02::/64",
        "255.255.255.0/24",
        "0.0.0.0/0",
        "::/0",
    ] {
        assert_eq!(code_of(&range(text)), 7, "{text}");
    }
}

#[test]
fn a_reversed_range_is_7() {
    assert_eq!(code_of(&range("10.1.2.20-10.1.2.10/24")), 7);
}

#[test]
fn bounds_outside_the_subnet_are_7() {
    assert_eq!(code_of(r#""range":"10.1.2.0/24","range_start":"10.1.3.1""#), 7);
    assert_eq!(code_of(r#""range":"10.1.2.0/24","range_end":"10.1.1.1""#), 7);
}

#[test]
fn a_bound_that_is_no_address_is_7() {
    assert_eq!(code_of(r#""range":"10.1.2.0/24","range_start":"x""#), 7);
    assert_eq!(code_of(r#""ipRanges":[{"range":"10.1.2.0/24","range_start":"x"}]"#), 7);
}

#[test]
fn an_empty_or_null_bound_is_absent() {
    assert_eq!(
        first_of(r#""range":"10.1.2.0/24","range_start":"","range_end":null"#),
        "10.1.2.1/24"
    );
}

#[test]
fn a_range_of_one_address_gives_it_once() {
    let sandbox = Sandbox::new();
    let ipam = r#""range":"10.1.2.0/24","range_start":"10.1.2.9","range_end":"10.1.2.9""#;
    assert_eq!(sandbox.add("c1", ipam).addresses(), ["10.1.2.9"]);
    assert_eq!(sandbox.add("c2", ipam).code(), 100);
}

#[test]
fn bounds_on_network_and_broadcast_are_moved_inwards() {
    assert_eq!(first_of(r#""range":"10.1.2.0/24","range_start":"10.1.2.0""#), "10.1.2.1/24");
    let sandbox = Sandbox::new();
    let ipam = r#""range":"10.1.2.0/24","range_start":"10.1.2.254","range_end":"10.1.2.255""#;
    assert_eq!(sandbox.add("c1", ipam).addresses(), ["10.1.2.254"]);
    assert_eq!(sandbox.add("c2", ipam).code(), 100);
}

#[test]
fn a_range_of_two_families_is_7() {
    assert_eq!(code_of(&range("10.0.0.1-2001:db8::9/64")), 7);
}

#[test]
fn overlapping_ranges_and_mixed_families_in_one_set_are_7() {
    assert_eq!(code_of(r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"10.1.2.128/25"}]"#), 7);
    assert_eq!(code_of(r#""ranges":[[{"subnet":"10.1.2.0/24"},{"subnet":"2001:db8::/64"}]]"#), 7);
}

#[test]
fn dual_stack_works_in_old_and_new_versions() {
    let ipam = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"2001:db8::/64"}]"#;
    let old =
        Sandbox::new().call("ADD").stdin(versioned("0.2.0", ipam)).run().succeeded().document();
    assert_eq!(
        (&old["ip4"]["ip"], &old["ip6"]["ip"]),
        (&"10.1.2.1/24".into(), &"2001:db8::1/64".into())
    );
    assert_eq!(Sandbox::new().add("c1", ipam).addresses(), ["10.1.2.1", "2001:db8::1"]);
}

#[test]
fn excluding_everything_is_exhausted_at_once() {
    for exclude in ["10.1.2.0/24", "10.0.0.0/8", "0.0.0.0/0"] {
        assert_eq!(
            code_of(&format!(r#""range":"10.1.2.0/24","exclude":["{exclude}"]"#)),
            100,
            "{exclude}"
        );
    }
    assert_eq!(code_of(r#""range":"2001:db8::/64","exclude":["2001:db8::/64"]"#), 100);
}

#[test]
fn exclusions_may_be_addresses_unmasked_or_elsewhere() {
    let with = |exclude: &str| first_of(&format!(r#""range":"10.1.2.0/24","exclude":[{exclude}]"#));
    assert_eq!(with(r#""10.1.2.1""#), "10.1.2.2/24");
    assert_eq!(with(r#""10.1.2.3/29""#), "10.1.2.8/24");
    assert_eq!(with(r#""2001:db8::/32","172.16.0.0/12""#), "10.1.2.1/24");
}

#[test]
fn an_invalid_exclusion_is_7_before_any_allocation() {
    for exclude in [r#"["x"]"#, r#"[""]"#, r#"["10.1.2.9-10.1.2.1"]"#, r#""10.1.2.1""#] {
        assert_eq!(
            code_of(&format!(r#""range":"10.1.2.0/24","exclude":{exclude}"#)),
            7,
            "{exclude}"
        );
    }
}

#[test]
fn an_exhausted_range_leaves_nothing_behind() {
    let sandbox = Sandbox::new();
    for n in 0..2 {
        sandbox.add(&format!("c{n}"), &range("10.0.0.0/30")).succeeded();
    }
    let before = sandbox.held();
    let ended = sandbox.add("c9", &range("10.0.0.0/30"));
    assert!(100 <= ended.code());
    assert_eq!(sandbox.held(), before);
    assert!(
        !sandbox.files().iter().any(|path| path.contains("c9") || path.contains("@tmp")),
        "{:?}",
        sandbox.files()
    );
}

#[test]
fn a_gateway_inside_the_range_is_never_handed_out() {
    assert_eq!(first_of(r#""range":"10.1.2.0/24","gateway":"10.1.2.1""#), "10.1.2.2/24");
}

#[test]
fn a_gateway_of_another_family_is_7() {
    for gateway in ["2001:db8::1", "224.0.0.1", "255.255.255.255", "10.1.2.1/24", "x"] {
        assert_eq!(
            code_of(&format!(r#""range":"10.1.2.0/24","gateway":"{gateway}""#)),
            7,
            "{gateway}"
        );
    }
    assert_eq!(
        code_of(
            r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"2001:db8::/64"}],"gateway":"2001:db8::1""#
        ),
        0
    );
}
