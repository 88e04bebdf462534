//! Each limit from outside: the largest allowed value, and one more.

use super::{RANGE, asking, bulky, call};
use crate::support::sandbox::{Sandbox, configuration};
use serde_json::{Value, json};

/// Counts every value of a document, including containers.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(entries) => entries.values().map(values).sum(),
        _ => 0,
    }
}

#[test]
fn a_document_of_50000_values_is_read_and_one_of_50001_is_not() {
    let sandbox = Sandbox::new();
    let beside = values(&serde_json::from_str(&bulky(RANGE, 1, "")).unwrap()) - 1;
    for (count, fits) in [(50_000, true), (50_001, false)] {
        let document = bulky(RANGE, count - beside, "");
        assert_eq!(values(&serde_json::from_str(&document).unwrap()), count);
        for verb in ["ADD", "STATUS"] {
            let ended = call(&sandbox, verb, &format!("c{count}"), &document);
            assert_eq!(ended.status == Some(0), fits, "{count} {verb}: {ended:?}");
            assert!(fits || ended.code() == 6, "{ended:?}");
        }
        call(&sandbox, "ADD", "held", &configuration(RANGE)).succeeded();
        call(&sandbox, "DEL", "held", &document).succeeded();
        call(&sandbox, "DEL", &format!("c{count}"), &document).succeeded();
        assert!(sandbox.held().is_empty(), "{count}");
    }
}

#[test]
fn names_have_at_most_253_bytes_or_what_cni_sets() {
    let sandbox = Sandbox::new();
    let scope = |name: &str| configuration(&format!(r#"{RANGE},"network_name":"{name}""#));
    // The longest name in bytes is the longest in escaped form, too.
    let longest = [
        "n".repeat(253),
        "%".repeat(253),
        format!("{}x", "\u{e9}".repeat(126)),
        format!("{}x", "\u{1f600}".repeat(63)),
    ];
    for (at, name) in longest.iter().enumerate() {
        assert_eq!(name.len(), 253);
        assert_eq!(
            call(&sandbox, "ADD", &format!("c{at}"), &scope(name)).addresses(),
            ["10.9.0.2"],
            "{name}"
        );
        let ended = call(&sandbox, "ADD", "more", &scope(&format!("{name}x")));
        assert_eq!(
            (ended.code(), ended.details().contains("at most 253 bytes")),
            (7, true),
            "{ended:?}"
        );
        call(&sandbox, "DEL", &format!("c{at}"), &scope(name)).succeeded();
    }
    let pod = |key: &str, name: &str| {
        let args: Vec<String> = ["K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID"]
            .iter()
            .map(|known| format!("{known}={}", if *known == key { name } else { "x" }))
            .collect();
        sandbox
            .call("ADD")
            .set("CNI_CONTAINERID", key)
            .set("CNI_ARGS", args.join(";"))
            .stdin(configuration(RANGE))
            .run()
    };
    for key in ["K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID"] {
        let ended = pod(key, &"p".repeat(254));
        assert_eq!(
            (ended.code(), ended.details().contains("at most 253 bytes")),
            (4, true),
            "{ended:?}"
        );
        assert_eq!(pod(key, "a\u{1b}[2J").code(), 4);
        pod(key, &"p".repeat(253)).succeeded();
    }
    // CNI has no limit for these names, but they become file names.
    let named = configuration(RANGE).replace("net1", &"n".repeat(4000));
    for verb in ["ADD", "DEL"] {
        call(&sandbox, verb, &"c".repeat(4000), &named).succeeded();
    }
    for (ifname, fits) in [("i".repeat(15), true), ("i".repeat(16), false)] {
        let ended = sandbox
            .call("ADD")
            .set("CNI_CONTAINERID", "if")
            .set("CNI_IFNAME", &ifname)
            .stdin(configuration(RANGE))
            .run();
        assert_eq!(ended.status == Some(0), fits, "{ended:?}");
    }
}

/// Ranges, requested and static addresses count together.
#[test]
fn an_add_gives_sixteen_addresses_of_all_kinds_and_one_requested_of_each_set() {
    let sandbox = Sandbox::new();
    let ranges = |count: usize| {
        (0..count).map(|n| json!({"range": format!("10.20.{n}.0/24")})).collect::<Vec<_>>()
    };
    let statics = |count: usize| {
        (1..=count).map(|n| json!({"address": format!("10.21.0.{n}/24")})).collect::<Vec<_>>()
    };
    let ipam = |dynamic: usize, fixed: usize| {
        let text = json!({"ipRanges": ranges(dynamic), "addresses": statics(fixed)}).to_string();
        text[1..text.len() - 1].to_owned()
    };
    let ips = |sets: &[u8], lows: &[u8]| -> Vec<String> {
        sets.iter()
            .flat_map(|set| lows.iter().map(move |low| format!("10.20.{set}.{low}")))
            .collect()
    };
    let given = call(&sandbox, "ADD", "c1", &asking(&ipam(10, 6), &ips(&[0, 9], &[7])));
    assert_eq!(given.addresses().len(), 16, "{given:?}");
    assert!(given.addresses().contains(&"10.20.9.7".to_owned()));
    for (dynamic, fixed) in [(11, 6), (17, 0), (1, 16)] {
        let ended = call(&sandbox, "ADD", "c2", &configuration(&ipam(dynamic, fixed)));
        assert_eq!(
            (ended.code(), ended.details().contains("limits.addresses")),
            (7, true),
            "{ended:?}"
        );
    }
    let two = call(&sandbox, "ADD", "c2", &asking(&ipam(10, 0), &ips(&[4], &[7, 8])));
    assert_eq!((two.code(), two.details().contains("limits.requested")), (101, true), "{two:?}");
    // Alternatives are one set.
    let alternatives = r#""ranges":[[{"subnet":"10.22.0.0/24"},{"subnet":"10.22.1.0/24"}]]"#;
    let both = ["10.22.0.7".to_owned(), "10.22.1.7".to_owned()];
    assert_eq!(call(&sandbox, "ADD", "c2", &asking(alternatives, &both)).code(), 101);
    assert_eq!(
        call(&sandbox, "ADD", "c2", &asking(alternatives, &both[1..])).addresses(),
        ["10.22.1.7"]
    );
}
