//! The network configuration as bytes.

use super::{RANGE, code_of_text};
use crate::support::sandbox::{Ended, Sandbox, configuration};
use std::process::Stdio;

fn named(name: &str) -> String {
    configuration(RANGE).replace(r#""name":"net1""#, &format!(r#""name":{name}"#))
}

#[test]
fn empty_blank_or_truncated_stdin_is_6() {
    for text in ["", "  \n", r#"{"cniVersion":"1.1.0","name""#] {
        assert_eq!(code_of_text(text.as_bytes()), 6, "{text}");
    }
}

#[test]
fn null_and_an_empty_object_have_no_name() {
    assert_eq!(code_of_text(b"null"), 7);
    assert_eq!(code_of_text(b"{}"), 7);
}

#[test]
fn what_is_not_exactly_one_json_document_is_6() {
    let good = configuration(RANGE);
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [Vec<u8>; 10] = [
        format!("{good}x").into(),
        format!("{good}{good}").into(),
        format!("{good}\0").into(),
        format!("\0{good}").into(),
        [b"\xef\xbb\xbf", good.as_bytes()].concat(),
        utf16,
        format!("/* c */{good}").into(),
        good.replacen('}', ",}", 1).into(),
        good.replacen('{', r#"{"x":NaN,"#, 1).into(),
        good.replace('"', "'").into(),
    ];
    for case in cases {
        assert_eq!(code_of_text(&case), 6, "{:?}", String::from_utf8_lossy(&case));
    }
}

#[test]
fn newlines_around_the_document_are_fine() {
    assert_eq!(code_of_text(format!("\n\n{}\n\n", configuration(RANGE)).as_bytes()), 0);
}

#[test]
fn a_raw_nul_in_a_string_is_6() {
    assert_eq!(
        code_of_text(configuration(RANGE).replacen('{', "{\"x\":\"a\0b\",", 1).as_bytes()),
        6
    );
}

#[test]
fn an_escaped_nul_is_7_in_the_name_and_fine_where_nobody_looks() {
    assert_eq!(code_of_text(named(r#""a\u0000b""#).as_bytes()), 7);
    assert_eq!(
        code_of_text(configuration(RANGE).replacen('{', r#"{"x":"a\u0000b","#, 1).as_bytes()),
        0
    );
}

#[test]
fn a_lone_surrogate_in_the_name_is_6() {
    assert_eq!(code_of_text(named(r#""a\ud800b""#).as_bytes()), 6);
}

#[test]
fn a_name_that_stands_twice_is_6_whichever_is_good() {
    for names in [r#""name":"../x","name":"net1""#, r#""name":"net1","name":"../x""#] {
        assert_eq!(
            code_of_text(configuration(RANGE).replace(r#""name":"net1""#, names).as_bytes()),
            6
        );
    }
}

#[test]
fn keys_outside_ipam_are_case_sensitive() {
    assert_eq!(code_of_text(configuration(RANGE).replace("\"name\"", "\"NAME\"").as_bytes()), 7);
    assert_eq!(code_of_text(configuration(RANGE).replace("\"ipam\"", "\"IPAM\"").as_bytes()), 7);
}

#[test]
fn nesting_beyond_128_is_6_and_never_a_crash() {
    let nested = |depth: usize| {
        configuration(RANGE).replacen(
            '{',
            &format!(r#"{{"x":{}{},"#, "[".repeat(depth), "]".repeat(depth)),
            1,
        )
    };
    assert_eq!(code_of_text(nested(100).as_bytes()), 0);
    for depth in [1_000, 10_001, 1_000_000] {
        assert_eq!(code_of_text(nested(depth).as_bytes()), 6, "{depth}");
    }
}

#[test]
fn a_megabyte_is_fine_and_50_are_5() {
    let padded = |bytes: usize| {
        configuration(RANGE).replacen('{', &format!(r#"{{"x":"{}","#, "x".repeat(bytes)), 1)
    };
    assert_eq!(code_of_text(padded(1_000_000).as_bytes()), 0);
    assert_eq!(code_of_text(padded(50_000_000).as_bytes()), 5);
}

#[test]
fn a_directory_as_stdin_is_5_and_a_closed_one_6() {
    let sandbox = Sandbox::new();
    let directory = std::fs::File::open("/").unwrap();
    let output = sandbox.call("ADD").command().stdin(directory).output().unwrap();
    assert_eq!(Ended::from(output).code(), 5);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", &format!("exec {} <&-", crate::support::sandbox::HEREABOUTS)])
        .env_clear()
        .envs(sandbox.call("ADD").environment);
    assert_eq!(Ended::from(command.stdin(Stdio::null()).output().unwrap()).code(), 6);
}

#[test]
fn a_missing_name_is_7_and_a_number_6() {
    let without = configuration(RANGE).replace(r#""name":"net1","#, "");
    for text in [without, named("\"\""), named("null")] {
        assert_eq!(code_of_text(text.as_bytes()), 7, "{text}");
    }
    assert_eq!(code_of_text(named("7").as_bytes()), 6);
}

#[test]
fn a_name_with_other_characters_is_7_with_the_value_in_the_details() {
    for name in ["../x", "a/b", ".", "..", "-a", "_a", "a b", "a\n", "\u{e9}", "a\\b", "a%2f"] {
        let text = named(&serde_json::to_string(name).unwrap());
        let ended = Sandbox::new().call("ADD").stdin(text).run();
        assert_eq!(ended.code(), 7, "{name}");
        assert!(ended.details().ends_with(name), "{ended:?}");
    }
}

#[test]
fn long_names_are_names() {
    for length in [255, 256, 1000] {
        assert_eq!(
            code_of_text(named(&format!("\"{}\"", "a".repeat(length))).as_bytes()),
            0,
            "{length}"
        );
    }
}

#[test]
fn a_missing_ipam_is_7() {
    assert_eq!(code_of_text(br#"{"cniVersion":"1.1.0","name":"net1"}"#), 7);
    assert_eq!(code_of_text(br#"{"cniVersion":"1.1.0","name":"net1","ipam":null}"#), 7);
}

#[test]
fn the_type_of_another_plugin_is_accepted() {
    let text = configuration(RANGE).replace(r#""type":"hereabouts""#, r#""type":"host-local""#);
    assert_eq!(code_of_text(text.as_bytes()), 0);
}

#[test]
fn unknown_keys_are_ignored_everywhere() {
    let ipam = format!(r#"{RANGE},"something":{{}},"routes":[{{"dst":"10.0.0.0/8","x":1}}]"#);
    let text =
        configuration(&ipam).replacen('{', r#"{"capabilities":{"ips":true},"unknown":[1],"#, 1);
    assert_eq!(code_of_text(text.as_bytes()), 0);
}
