//! Routes of the result.

use super::code_of;
use crate::support::sandbox::{Sandbox, versioned};
use serde_json::{Value, json};

fn with(routes: &str) -> String {
    format!(r#""range":"10.1.2.0/24","routes":{routes}"#)
}

fn result(version: &str, routes: &str) -> Value {
    Sandbox::new().call("ADD").stdin(versioned(version, &with(routes))).run().succeeded().document()
}

#[test]
fn a_null_route_is_7() {
    assert_eq!(code_of(&with("[null]")), 7);
    assert_eq!(
        Sandbox::new().call("ADD").stdin(versioned("0.2.0", &with("[null]"))).run().code(),
        7
    );
}

#[test]
fn a_destination_that_is_no_cidr_is_7() {
    for dst in ["default", "10.0.0.0", ""] {
        assert_eq!(code_of(&with(&format!(r#"[{{"dst":"{dst}"}}]"#))), 7, "{dst}");
    }
    assert_eq!(code_of(&with("[{}]")), 7);
}

#[test]
fn a_long_zero_is_shortened() {
    assert_eq!(result("1.1.0", r#"[{"dst":"::0/0"}]"#)["routes"], json!([{"dst": "::/0"}]));
}

#[test]
fn a_gateway_that_is_none_or_of_another_family_is_7() {
    for gw in ["x", "10.1.2.1/24", "2001:db8::1"] {
        assert_eq!(code_of(&with(&format!(r#"[{{"dst":"0.0.0.0/0","gw":"{gw}"}}]"#))), 7, "{gw}");
    }
}

#[test]
fn table_and_scope_0_are_kept() {
    let routes = &result("1.1.0", r#"[{"dst":"10.0.0.0/8","table":0,"scope":0}]"#)["routes"];
    assert_eq!(routes, &json!([{"dst": "10.0.0.0/8", "table": 0, "scope": 0}]));
}

#[test]
fn further_fields_are_kept_from_0_3_0_and_stripped_before() {
    let routes = r#"[{"dst":"10.0.0.0/8","gw":"10.1.2.1","mtu":1400,"priority":5}]"#;
    for version in ["0.4.0", "1.0.0"] {
        assert_eq!(
            result(version, routes)["routes"],
            json!([{"dst": "10.0.0.0/8", "gw": "10.1.2.1", "mtu": 1400, "priority": 5}]),
            "{version}"
        );
    }
    assert_eq!(
        result("0.2.0", routes)["ip4"]["routes"],
        json!([{"dst": "10.0.0.0/8", "gw": "10.1.2.1"}])
    );
}
