//! How much one ADD may ask for, and what a document may cost. Held addresses are returned, checked
//! and freed whatever the limits say.

mod allocating;
mod edges;
mod late;

use crate::support::sandbox::{Ended, Sandbox, configuration};
use serde_json::{Value, json};

const RANGE: &str = r#""range":"10.9.0.0/24","gateway":"10.9.0.1""#;

/// Writes these limits into the sandbox's flat file.
fn allow(sandbox: &Sandbox, limits: &Value) {
    sandbox.set_in_flat(&[("limits", limits.clone())]);
}

fn asking(ipam: &str, ips: &[String]) -> String {
    let mut whole: Value = serde_json::from_str(&configuration(ipam)).unwrap();
    whole["runtimeConfig"] = json!({ "ips": ips });
    whole.to_string()
}

fn call(sandbox: &Sandbox, verb: &str, container: &str, stdin: &str) -> Ended {
    sandbox.call(verb).set("CNI_CONTAINERID", container).stdin(stdin).run()
}

/// A pod wrote all addresses of a range into its annotation, and got them.
#[test]
fn a_pod_gets_one_address_of_a_range_and_what_it_holds_is_answered_and_freed() {
    let sandbox = Sandbox::new();
    let ips: Vec<String> = (2..255).map(|n| format!("10.9.0.{n}")).collect();
    let stdin = asking(RANGE, &ips);
    let refused = call(&sandbox, "ADD", "c1", &stdin);
    assert_eq!(refused.code(), 101);
    assert!(refused.details().contains("limits.requested"), "{refused:?}");
    assert!(sandbox.held().is_empty());
    let args = format!("IgnoreUnknown=1;IP={}", ips.join(","));
    assert_eq!(
        sandbox.call("ADD").set("CNI_ARGS", args).stdin(configuration(RANGE)).run().code(),
        101
    );
    allow(&sandbox, &json!({"requested": 1000}));
    let refused = call(&sandbox, "ADD", "c1", &stdin);
    assert_eq!(
        (refused.code(), refused.details().contains("limits.addresses")),
        (7, true),
        "{refused:?}"
    );

    allow(&sandbox, &json!({"requested": 20, "addresses": 20}));
    let few = asking(RANGE, &ips[..20]);
    let given = call(&sandbox, "ADD", "c1", &few);
    assert_eq!(given.addresses().len(), 20);
    // An older version gave this many, or the site has changed its limits.
    sandbox.write("flat.conf", &sandbox.flat("n1"));
    assert_eq!(call(&sandbox, "ADD", "c2", &asking(RANGE, &ips[20..40])).code(), 101);
    assert_eq!(call(&sandbox, "ADD", "c1", &few).stdout, given.stdout, "a repeat");
    let mut previous: Value = serde_json::from_str(&few).unwrap();
    previous["prevResult"] = given.document();
    call(&sandbox, "CHECK", "c1", &previous.to_string()).succeeded();
    call(&sandbox, "DEL", "c1", &few).succeeded();
    assert!(sandbox.held().is_empty());
}

#[test]
fn what_goes_beyond_a_limit_is_7_and_names_the_key_of_the_flat_file() {
    let sandbox = Sandbox::new();
    let ranges = |count: usize| -> Vec<Value> {
        (0..count).map(|n| json!({"range": format!("10.{}.{}.0/28", n >> 8, n & 255)})).collect()
    };
    let alternatives = |count: usize| {
        json!([(0..count).map(|n| json!({"subnet": format!("10.1.{n}.0/28")})).collect::<Vec<_>>()])
    };
    let excludes = |count: usize| -> Vec<String> {
        (0..count).map(|n| format!("10.3.{}.{}", n >> 8, n & 255)).collect()
    };
    let routes = |count: usize| -> Vec<Value> {
        (0..count).map(|n| json!({"dst": format!("10.4.{}.{}/32", n >> 8, n & 255)})).collect()
    };
    let cases = [
        ("addresses", 16, json!({"ipRanges": ranges(16)}), json!({"ipRanges": ranges(17)})),
        ("ranges", 64, json!({"ranges": alternatives(64)}), json!({"ranges": alternatives(65)})),
        (
            "excludes",
            4096,
            json!({"range": "10.9.0.0/24", "exclude": excludes(4096)}),
            json!({"range": "10.9.0.0/24", "exclude": excludes(4097)}),
        ),
        (
            "excludes",
            4096,
            json!({"ipRanges": [{"range": "10.9.0.0/24", "exclude": excludes(4096)}]}),
            json!({"ipRanges": [{"range": "10.9.0.0/24", "exclude": excludes(4000)}], "exclude": excludes(97)}),
        ),
        (
            "routes",
            1024,
            json!({"range": "10.9.0.0/24", "routes": routes(1024)}),
            json!({"range": "10.9.0.0/24", "routes": routes(1025)}),
        ),
    ];
    for (key, most, fits, beyond) in cases {
        let stdin = |ipam: &Value| {
            let text = ipam.to_string();
            configuration(&text[1..text.len() - 1])
        };
        sandbox.write("flat.conf", &sandbox.flat("n1"));
        call(&sandbox, "ADD", key, &stdin(&fits)).succeeded();
        for verb in ["ADD", "STATUS"] {
            let refused = call(&sandbox, verb, "more", &stdin(&beyond));
            assert_eq!(refused.code(), 7, "{key}");
            assert!(refused.details().contains(&format!("at most {most} ")), "{refused:?}");
            assert!(
                refused.details().contains(&format!("limits.{key} in the node's flat file")),
                "{refused:?}"
            );
        }
        let file = sandbox.write("network.json", &stdin(&beyond));
        let checked = sandbox.command(&["config", "check", file.to_str().unwrap()]);
        assert!(checked.stdout.contains(&format!("limits.{key}")), "{checked:?}");
        // Held addresses are returned.
        call(&sandbox, "ADD", key, &stdin(&beyond)).succeeded();
        call(&sandbox, "DEL", key, &stdin(&beyond)).succeeded();
        allow(&sandbox, &json!({ key: most + 1 }));
        call(&sandbox, "ADD", "more", &stdin(&beyond)).succeeded();
        call(&sandbox, "DEL", "more", &stdin(&beyond)).succeeded();
    }
    assert!(sandbox.held().is_empty());
}

#[test]
fn a_network_configuration_sets_no_limits() {
    let sandbox = Sandbox::new();
    let refused = sandbox.add("c1", &format!(r#"{RANGE},"limits":{{"addresses":1000}}"#));
    assert_eq!(
        (refused.code(), refused.details().contains("own flat file may set")),
        (7, true),
        "{refused:?}"
    );
    let planted = sandbox.write("planted.conf", r#"{"limits":{"requested":1000}}"#);
    let chosen = format!(r#"{RANGE},"configuration_path":"{}""#, planted.display());
    let ips = ["10.9.0.2".to_owned(), "10.9.0.3".to_owned()];
    assert_eq!(call(&sandbox, "ADD", "c1", &asking(&chosen, &ips)).code(), 101);
    // One of each range is fine.
    let both = r#""ipRanges":[{"range":"10.9.0.0/24"},{"range":"2001:db8::/64"}]"#;
    let ips = ["2001:db8::7".to_owned(), "10.9.0.7".to_owned()];
    assert_eq!(
        call(&sandbox, "ADD", "c1", &asking(both, &ips)).addresses(),
        ["10.9.0.7", "2001:db8::7"]
    );
}

#[test]
fn names_that_are_shown_have_no_control_characters_and_old_ones_are_freed() {
    let sandbox = Sandbox::new();
    let named = format!(r#"{RANGE},"network_name":"x\nforged""#);
    for verb in ["ADD", "STATUS"] {
        assert_eq!(call(&sandbox, verb, "c1", &configuration(&named)).code(), 7);
    }
    let escape =
        sandbox.call("ADD").set("CNI_IFNAME", "a\u{1b}b").stdin(configuration(RANGE)).run();
    assert_eq!(escape.code(), 4, "{escape:?}");
    sandbox.call("DEL").set("CNI_IFNAME", "a\u{1b}b").stdin(configuration(RANGE)).run().succeeded();
    sandbox.call("DEL").stdin(configuration(&named)).run().succeeded();
}

/// Returns `{"filler":[0,0,...],...}` with this many values.
fn bulky(ipam: &str, values: usize, more: &str) -> String {
    let filler = vec!["0"; values].join(",");
    format!(
        r#"{{"filler":[{filler}],"cniVersion":"1.1.0","name":"net1","type":"macvlan"{more},"ipam":{{"type":"hereabouts",{ipam}}}}}"#
    )
}

#[test]
fn a_document_of_too_many_values_is_6_and_read_past_by_what_frees() {
    let sandbox = Sandbox::new();
    let given = sandbox.add("c1", RANGE);
    sandbox.add("c2", RANGE).succeeded();
    for verb in ["ADD", "STATUS"] {
        let refused = call(&sandbox, verb, "c3", &bulky(RANGE, 50_000, ""));
        assert_eq!(
            (refused.code(), refused.details().contains("at most 50000 values")),
            (6, true),
            "{refused:?}"
        );
    }
    call(&sandbox, "ADD", "c3", &bulky(RANGE, 49_000, "")).succeeded();
    call(
        &sandbox,
        "CHECK",
        "c1",
        &bulky(RANGE, 50_000, &format!(r#","prevResult":{}"#, given.stdout)),
    )
    .succeeded();
    // A list that is longer than the limit loses no entry.
    let mut list: Vec<Value> = (0..40_000)
        .map(|n| json!({"containerID": format!("other{n}"), "ifname": "net1"}))
        .collect();
    list.extend(["c1", "c3"].map(|container| json!({"containerID": container, "ifname": "net1"})));
    let list = format!(r#","cni.dev/valid-attachments":{}"#, Value::Array(list));
    call(&sandbox, "GC", "", &bulky(RANGE, 50_000, &list)).succeeded();
    assert_eq!(sandbox.held(), ["10.9.0.2", "10.9.0.4"]);
    let unlisted = call(&sandbox, "GC", "", &bulky(RANGE, 50_000, ""));
    assert_eq!(
        (unlisted.code(), sandbox.held().len()),
        (7, 2),
        "a list that is not there means nothing"
    );
    call(&sandbox, "GC", "", &bulky(RANGE, 50_000, r#","cni.dev/attachments":null"#)).succeeded();
    assert!(sandbox.held().is_empty());
    sandbox.add("c1", RANGE).succeeded();
    call(
        &sandbox,
        "DEL",
        "c1",
        &bulky(&format!(r#""exclude":[{}]"#, vec!["0"; 60_000].join(",")), 9, ""),
    )
    .succeeded();
    assert!(sandbox.held().is_empty());
}

/// Returns the memory and the time of a process as the kernel counts them, in KiB and seconds.
fn costs(sandbox: &Sandbox, verb: Option<&str>, args: &[&str], stdin: &[u8]) -> (u64, f64) {
    let mut call = match verb {
        Some(verb) => sandbox.call(verb),
        None => sandbox.command_call(args),
    };
    call.stdin(stdin);
    let ended = call.run_under(&["/usr/bin/env", "python3", "-c", MEASURE]);
    let line = ended
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("costs "))
        .unwrap_or_else(|| panic!("{ended:?}"))
        .to_owned();
    let (memory, time) = line.split_once(' ').unwrap();
    (memory.parse().unwrap(), time.parse().unwrap())
}

const MEASURE: &str = "
import resource,subprocess,sys
subprocess.run(sys.argv[1:])
u=resource.getrusage(resource.RUSAGE_CHILDREN)
print('costs',u.ru_maxrss,u.ru_utime+u.ru_stime,file=sys.stderr)";

/// The limit on memory is for what the configuration adds: an unoptimized executable has megabytes of
/// code. Time is processor time, and its limit is wide: it must not be a product of two lengths, which
/// would take minutes.
#[test]
fn no_configuration_costs_much() {
    let sandbox = Sandbox::new();
    allow(
        &sandbox,
        &json!({"excludes": 40_000, "ranges": 10_000, "routes": 10_000, "addresses": 1000}),
    );
    let verbs = ["ADD", "STATUS", "CHECK", "DEL", "GC"].map(|verb| (Some(verb), &[][..]));
    let commands = [["config", "check", "-"].as_slice(), &["usage", "-"]].map(|args| (None, args));
    let calls = verbs.into_iter().chain(commands);
    let calls: Vec<_> =
        calls.map(|(verb, args)| (verb, args, costs(&sandbox, verb, args, b"{}").0)).collect();
    for (name, document) in bombs() {
        assert!(document.len() <= 4 * 1024 * 1024, "{name}");
        for (verb, args, without) in &calls {
            let (memory, time) = costs(&sandbox, *verb, args, document.as_bytes());
            let added = memory.saturating_sub(*without);
            assert!(
                added < 28 * 1024 && time < 20.0,
                "{name} {verb:?} {args:?}: {added} KiB, {time} s"
            );
        }
    }
}

/// Each `!` may begin a tag, which the text before it tells. That must not be read from the beginning
/// of the line each time.
#[test]
fn no_line_with_many_exclamation_marks_costs_much() {
    let sandbox = Sandbox::new();
    for part in ["! ", "x ! ", "x !", " !", "!", "a|!|"] {
        let text = format!("a: {}\n", part.repeat(1024 * 1024 / part.len()));
        let (memory, time) = costs(&sandbox, None, &["config", "check", "-"], text.as_bytes());
        assert!(memory < 40 * 1024 && time < 20.0, "{part:?}: {memory} KiB, {time} s");
    }
}

/// Returns documents whose parts could be multiplied with each other.
fn bombs() -> Vec<(&'static str, String)> {
    let address =
        |high: u32, n: u32| format!("{high}.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255);
    let ranges: Vec<Value> =
        (0..9000).map(|n| json!({"range": format!("{}/30", address(10, n * 4))})).collect();
    // No two of them are one block.
    let excludes: Vec<String> = (0..16_000).map(|n| address(9, n * 2)).collect();
    let every_other: Vec<String> = (0..24_000).map(|n| address(10, n * 2)).collect();
    let ips: Vec<String> = (0..20_000).map(|n| address(10, 100_000 + n)).collect();
    let gatewayed: Vec<Value> =
        (0..9000).map(|n| json!({"range": format!("{}/30", address(10, n * 4)), "gateway": address(10, n * 4 + 1)})).collect();
    let routes: Vec<Value> =
        (0..16_000).map(|n| json!({"dst": format!("{}/32", address(10, n))})).collect();
    let statics: Vec<Value> =
        (0..16_000).map(|n| json!({"address": format!("{}/8", address(10, n + 1))})).collect();
    let with = |ipam: Value, more: Value| {
        let mut whole = json!({"cniVersion": "1.1.0", "name": "net1", "type": "macvlan", "cni.dev/valid-attachments": [], "prevResult": {}});
        whole["ipam"] = ipam;
        whole["ipam"]["type"] = "hereabouts".into();
        for (key, value) in more.as_object().unwrap() {
            whole[key] = value.clone();
        }
        whole.to_string()
    };
    let near: String = (0..24_000).map(|n| format!(r#""ranges{n}":0,"Range{n}":0,"#)).collect();
    let long = "x".repeat(3_900_000);
    vec![
        ("ranges by excludes", with(json!({"ipRanges": ranges, "exclude": excludes}), json!({}))),
        ("ranges by gateways", with(json!({"ipRanges": gatewayed}), json!({}))),
        (
            "excludes by ips",
            with(
                json!({"range": "10.0.0.0/8", "exclude": every_other}),
                json!({"args": {"cni": {"ips": ips}}}),
            ),
        ),
        ("routes", with(json!({"range": "10.0.0.0/8", "routes": routes}), json!({}))),
        ("routes by ranges", with(json!({"ipRanges": ranges, "routes": routes}), json!({}))),
        (
            "reservations by ranges",
            with(
                json!({"ipRanges": ranges, "reservations": {"default/x": every_other}}),
                json!({}),
            ),
        ),
        (
            "reservations by ips",
            with(
                json!({"range": "10.0.0.0/8", "reservations": {"default/x": every_other}}),
                json!({"args": {"cni": {"ips": ips}}}),
            ),
        ),
        ("statics", with(json!({"addresses": statics}), json!({}))),
        (
            "near misses",
            format!(
                r#"{{"cniVersion":"1.1.0","name":"net1","ipam":{{{near}"type":"hereabouts"}}}}"#
            ),
        ),
        (
            "one long string",
            with(json!({"range": "10.0.0.0/8", "dns": {"domain": long}}), json!({})),
        ),
        (
            "one long key",
            with(json!({"range": "10.0.0.0/8", "deadlines": {&long: "1s"}}), json!({})),
        ),
        ("a long name for each plugin", {
            let plugins = vec![json!({"type": "x", "ipam": {"type": "hereabouts"}}); 9000];
            json!({"cniVersion": "1.1.0", "name": "x".repeat(1_000_000), "plugins": plugins})
                .to_string()
        }),
        (
            "values",
            format!(
                r#"{{"cniVersion":"1.1.0","name":"net1","a":[{}0],"ipam":{{}}}}"#,
                "0,".repeat(2_000_000)
            ),
        ),
        (
            "containers",
            format!(
                r#"{{"cniVersion":"1.1.0","name":"net1","a":[{}0],"ipam":{{}}}}"#,
                "[],".repeat(1_300_000)
            ),
        ),
        ("attachments", {
            let list = r#"{"containerID":"a","ifname":"b"},"#.repeat(120_000);
            format!(
                r#"{{"cniVersion":"1.1.0","name":"net1","cni.dev/valid-attachments":[{}],"ipam":{{}}}}"#,
                list.trim_end_matches(',')
            )
        }),
        ("previous addresses", {
            let list = r#"{"address":"10.0.0.1/8"},"#.repeat(150_000);
            format!(
                r#"{{"cniVersion":"1.1.0","name":"net1","prevResult":{{"ips":[{}]}},"ipam":{{}}}}"#,
                list.trim_end_matches(',')
            )
        }),
    ]
}
