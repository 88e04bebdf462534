//! The rows of docs/main-plugins.md that are about Multus.

use super::rig;

#[test]
fn default_route() {
    let Some(rig) = rig() else { return };
    let ipam = |n: u8, routes: &str| {
        format!(
            r#""ipam": {{"type": "hereabouts", "range": "192.168.{n}.0/24", "gateway": "192.168.{n}.1"{routes}}}"#
        )
    };
    rig.network("takes", &ipam(90, r#", "routes": [{"dst": "0.0.0.0/0"}]"#));
    rig.network("plain", &ipam(91, ""));
    let mut node = rig.node("rows-1");
    node.has_default_route = true;
    let way = |annotation: &str, name: &str| {
        let pod = rig.pod(name, annotation);
        node.start(&pod);
        let way =
            node.within(&pod, &["ip", "route", "get", "203.0.113.7"]).succeeded().stdout.clone();
        node.stop(&pod).succeeded();
        way
    };
    let way_of_first = way("plain", "rows-plain");
    assert!(way_of_first.contains("via 10.244.0.1 dev eth0"), "{way_of_first}");
    let taken = way("takes", "rows-takes");
    assert!(taken.contains("via 192.168.90.1 dev net1"), "{taken}");
    // The annotation has no effect if there is a default route.
    let annotation = r#"[{"name":"plain","default-route":["192.168.91.1"]}]"#;
    let kept = way(annotation, "rows-annotation");
    assert!(kept.contains("via 10.244.0.1 dev eth0"), "{kept}");
}

#[test]
fn list_version() {
    let Some(rig) = rig() else { return };
    let log = rig.cluster.directory().join("rows-recorded");
    let script = format!(
        "#!/bin/sh\necho \"$CNI_COMMAND $(tr -d '\\n')\" >>{}\n[ $CNI_COMMAND != ADD ] || echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"192.168.92.5/24\"}}]}}'\n",
        log.display()
    );
    rig.plugin("records", &script);
    let plugin = |version: &str| {
        format!(
            r#"{{"plugins":[{{{version}"type":"macvlan","master":"eth0","ipam":{{"type":"records","range":"192.168.92.0/24"}}}}]}}"#
        )
    };
    // A version inside the plugin does not count.
    rig.network_of("versionless", &plugin(r#""cniVersion":"1.0.0","#));
    let node = rig.node("rows-2");
    let pod = rig.pod("rows-version", "versionless");
    node.start(&pod);
    node.stop(&pod);
    let text = std::fs::read_to_string(&log).unwrap();
    let of = |verb: &str| {
        text.lines().find(|line| line.starts_with(verb)).unwrap_or_else(|| panic!("{text}"))
    };
    assert!(of("ADD").contains("192.168.92.0/24"), "{text}");
    assert!(of("DEL").contains(r#""type":"records""#), "{text}");
    assert!(!of("DEL").contains("192.168.92.0/24") && !of("DEL").contains("master"), "{text}");
}

#[test]
fn ips_undeclared() {
    let Some(rig) = rig() else { return };
    rig.network("undeclared", r#""ipam": {"type": "hereabouts", "range": "192.168.93.0/24"}"#);
    let node = rig.node("rows-3");
    let pod = rig.pod("rows-ips", r#"[{"name":"undeclared","ips":["192.168.93.77/24"]}]"#);
    node.start(&pod);
    assert_eq!(node.on_interface(&pod, "net1"), ["192.168.93.77"]);
    node.stop(&pod).succeeded();
}
