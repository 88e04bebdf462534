//! Every form of a file that holds networks, with the networks that are found in it.

use super::{Content, Found, IpamPlugin, networks, plugin_configurations};
use crate::json::Json;
use expect_test::{Expect, expect};
use std::fmt::Write;

fn found(text: &str) -> Result<Vec<Found>, String> {
    let mut all = Vec::new();
    networks(text.as_bytes(), "", &mut |found| all.push(found))
        .map_err(|error| error.to_string())?;
    Ok(all)
}

/// What is found in a text, one line each.
fn check(text: &str, expected: &Expect) {
    let mut lines = String::new();
    for Found { place, origin, content } in
        found(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    {
        let place = if place.is_empty() { "whole" } else { &place };
        let of = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        write!(
            lines,
            "{place} [{} {}/{}] ",
            origin.kind.unwrap_or("-"),
            of(origin.namespace),
            of(origin.name)
        )
        .unwrap();
        match content {
            Content::Plugin { configuration, chain } => {
                let text = |key: &str| {
                    configuration.find(key).map_or("-".to_owned(), |value| value.excerpt())
                };
                let plugin = IpamPlugin::of(&configuration);
                writeln!(
                    lines,
                    "{} {} {} {plugin:?} {}",
                    text("type"),
                    text("name"),
                    text("cniVersion"),
                    if chain.types.is_empty() { "-".to_owned() } else { chain.types.join("+") }
                )
                .unwrap();
            }
            Content::FlatFile(_) => writeln!(lines, "flat file").unwrap(),
            Content::Pool(document) => {
                let keys: Vec<&str> =
                    document.entries().iter().map(|(key, _)| key.as_str()).collect();
                writeln!(lines, "pool with {}", keys.join(", ")).unwrap();
            }
            Content::Elsewhere(why) => writeln!(lines, "{why}").unwrap(),
            Content::Mistake(error) => writeln!(lines, "{error}").unwrap(),
        }
    }
    expected.assert_eq(&lines);
}

const HEAD: &str = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n  name: a\n  namespace: apps\nspec:\n";

#[test]
fn pools_are_told_from_pools_of_others() {
    let pool = r#""metadata":{"name":"blue"},"spec":{}"#;
    let of = |version: &str| format!(r#"{{"apiVersion":"{version}","kind":"IPPool",{pool}}}"#);
    check(
        &of("hereabouts.dev/v1alpha1"),
        &expect![[r#"
            whole [IPPool -/blue] pool with apiVersion, kind, metadata, spec
        "#]],
    );
    for version in ["whereabouts.cni.cncf.io/v1alpha1", "crd.projectcalico.org/v1", "v1"] {
        check(&of(version), &expect![[""]]);
    }
    // The server leaves kind and apiVersion out of the items of a list.
    check(
        &format!(
            r#"{{"apiVersion":"hereabouts.dev/v1alpha1","kind":"IPPoolList","items":[{{{pool}}}]}}"#
        ),
        &expect![[r#"
            items[0] [IPPool -/blue] pool with metadata, spec, kind, apiVersion
        "#]],
    );
}

#[test]
fn whatever_kubectl_reads_is_read() {
    let forms = [
        "  config: |\n    {\"type\":\"macvlan\",\n    \"ipam\":{\"type\":\"hereabouts\"}}\n",
        "  config: '{\"type\":\"macvlan\",\n    \"ipam\":{\"type\":\"hereabouts\"}\n  }'\n",
        "  config: '{\"type\":\"macvlan\",\n    \"ipam\":{\"type\":\"hereabouts\"}\n}'\n",
        "  config: '{\n\t\"type\":\"macvlan\",\n\t\"ipam\":{\"type\":\"hereabouts\"}\n\t}'\n",
        "  config: \"{\n    \\\"type\\\":\\\"macvlan\\\",\n\t\\\"ipam\\\":{\\\"type\\\":\\\"hereabouts\\\"}\n}\"\n",
        "  config: >-\n    {\"type\":\"macvlan\",\n    \"ipam\":{\"type\":\"hereabouts\"}}\n",
    ];
    // One snapshot for all of them.
    let expected = expect![[r#"
        spec.config [NetworkAttachmentDefinition apps/a] "macvlan" "a" - Ours macvlan
    "#]];
    for config in forms {
        check(&format!("{HEAD}{config}"), &expected);
    }
}

#[test]
fn a_list_gives_its_plugins_its_name_and_version() {
    let config = r#"'{"cniVersion":"1.0.0","name":"l","plugins":[{"type":"macvlan","name":"b","cniVersion":"0.3.1","ipam":{"type":"whereabouts"}},{"type":"tuning"},{"type":"x","ipam":{}}]}'"#;
    check(
        &format!("{HEAD}  config: {config}\n"),
        &expect![[r#"
            spec.config: plugins[0] [NetworkAttachmentDefinition apps/a] "macvlan" "l" "1.0.0" Ours macvlan+tuning+x
            spec.config: plugins[2] [NetworkAttachmentDefinition apps/a] "x" "l" "1.0.0" Other("empty ipam") macvlan+tuning+x
        "#]],
    );
    let config = r#"'{"plugins":[{"type":"macvlan","name":"b","cniVersion":"0.3.1","ipam":{"type":"dhcp"}}]}'"#;
    check(
        &format!("{HEAD}  config: {config}\n"),
        &expect![[r#"
            spec.config: plugins[0] [NetworkAttachmentDefinition apps/a] "macvlan" "a" - Other("type dhcp") macvlan
        "#]],
    );
    check(
        &format!(
            "{HEAD}  config: '{{\"plugins\":[{{\"type\":\"macvlan\"}}]}}'\n---\n{HEAD}  config: ''\n---\n{HEAD}  config: '{{'\n"
        ),
        &expect![[r#"
            spec.config [NetworkAttachmentDefinition apps/a] no ipam
            document 2 [NetworkAttachmentDefinition apps/a] no spec.config; Multus uses a file of that name on the node
            document 3: spec.config [NetworkAttachmentDefinition apps/a] document 3: spec.config: expected JSON: EOF while parsing an object at line 1 column 1; found "{"
        "#]],
    );
}

#[test]
fn the_kinds_of_network_operators() {
    let sriov = "apiVersion: sriovnetwork.openshift.io/v1\nkind: SriovNetwork\nmetadata: {name: s, namespace: openshift-sriov-network-operator}\nspec:\n  networkNamespace: apps\n  capabilities: '{\"ips\": true}'\n  ipam: |\n    {\"type\": \"whereabouts\", \"range\": \"10.0.0.0/24\"}\n";
    let nvidia = |kind: &str, ipam: &str| {
        format!(
            "---\napiVersion: mellanox.com/v1alpha1\nkind: {kind}\nmetadata:\n  name: m\nspec:\n  networkNamespace: default\n  master: eth0\n{ipam}"
        )
    };
    let ipam = "  ipam: '{\"type\": \"host-local\", \"subnet\": \"10.0.0.0/24\"}'\n";
    let text = [
        sriov.to_owned(),
        sriov.replace("SriovNetwork", "SriovIBNetwork").replacen("api", "---\napi", 1),
        sriov.replace("SriovNetwork", "OVSNetwork").replacen("api", "---\napi", 1),
        nvidia("MacvlanNetwork", ipam),
        nvidia("HostDeviceNetwork", "  ipam: '{}'\n"),
        nvidia("IPoIBNetwork", ""),
        // Of other groups.
        sriov.replace("sriovnetwork.openshift.io", "example.org").replacen("api", "---\napi", 1),
        "---\napiVersion: v1\nkind: Pod\nspec: {config: '{'}\n".to_owned(),
    ];
    check(
        &text.concat(),
        &expect![[r#"
        spec.ipam [SriovNetwork apps/s] "sriov" "s" "1.0.0" Ours sriov
        document 2: spec.ipam [SriovIBNetwork apps/s] "ib-sriov" "s" "1.0.0" Ours ib-sriov
        document 3: spec.ipam [OVSNetwork apps/s] "ovs" "s" "1.0.0" Ours ovs
        document 4: spec.ipam [MacvlanNetwork default/m] "macvlan" "m" "1.0.0" HostLocal macvlan
        document 5: spec.ipam [HostDeviceNetwork default/m] "host-device" "m" "1.0.0" Other("empty ipam") host-device
        document 6 [IPoIBNetwork default/m] no spec.ipam
    "#]],
    );
}

#[test]
fn lists_templates_and_the_cluster_network_operator() {
    let nad = r#"{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"a"},"spec":{"config":"{\"type\":\"bridge\",\"name\":\"own\",\"ipam\":{\"type\":\"hereabouts\",\"range\":\"${RANGE}\"}}"}}"#;
    check(
        &format!(
            r#"{{"apiVersion":"v1","kind":"List","items":[{nad},{{"apiVersion":"v1","kind":"Pod"}}]}}"#
        ),
        &expect![[r#"
            items[0]: spec.config [NetworkAttachmentDefinition -/a] "bridge" "own" - Ours bridge
        "#]],
    );
    // What the server answers: its items do not say their kind.
    let bare = nad
        .replace(r#""apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","#, "");
    check(
        &format!(
            r#"{{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinitionList","items":[{bare}]}}"#
        ),
        &expect![[r#"
            items[0]: spec.config [NetworkAttachmentDefinition -/a] "bridge" "own" - Ours bridge
        "#]],
    );
    check(
        &format!("[{nad},{nad}]"),
        &expect![[r#"
        [0]: spec.config [NetworkAttachmentDefinition -/a] "bridge" "own" - Ours bridge
        [1]: spec.config [NetworkAttachmentDefinition -/a] "bridge" "own" - Ours bridge
    "#]],
    );
    check(
        &format!("{nad}\n{nad}\n"),
        &expect![[r#"
        spec.config [NetworkAttachmentDefinition -/a] "bridge" "own" - Ours bridge
        document 2: spec.config [NetworkAttachmentDefinition -/a] "bridge" "own" - Ours bridge
    "#]],
    );
    check(
        "{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, # a comment\nmetadata: {name: a,}}",
        &expect![[r#"
            whole [NetworkAttachmentDefinition -/a] no spec.config; Multus uses a file of that name on the node
        "#]],
    );
    let template = format!(
        r#"{{"apiVersion":"template.openshift.io/v1","kind":"Template","objects":[{nad}],"parameters":[{{"name":"RANGE","value":"10.0.0.0/24"}}]}}"#
    );
    check(
        &template,
        &expect![[r#"
        objects[0]: spec.config [NetworkAttachmentDefinition -/a] "bridge" "own" - Ours bridge
    "#]],
    );
    let Content::Plugin { configuration, .. } = &found(&template).unwrap()[0].content else {
        panic!("{template}")
    };
    assert_eq!(
        configuration.find("ipam").unwrap().find("range").unwrap().as_str(),
        Some("10.0.0.0/24")
    );
    check(
        "apiVersion: operator.openshift.io/v1\nkind: Network\nmetadata: {name: cluster}\nspec:\n  additionalNetworks:\n  - name: n1\n    namespace: apps\n    type: Raw\n    rawCNIConfig: '{\"cniVersion\":\"0.3.1\",\"type\":\"ipvlan\",\"ipam\":{\"type\":\"whereabouts\"}}'\n  - name: n2\n    type: SimpleMacvlan\n",
        &expect![[r#"
            spec.additionalNetworks[0].rawCNIConfig [Network apps/n1] "ipvlan" "n1" "0.3.1" Ours ipvlan
            spec.additionalNetworks[1] [Network -/n2] no rawCNIConfig
        "#]],
    );
}

#[test]
fn cnis_own_documents() {
    check(
        r#"{"name":"n","cniVersion":"1.0.0","type":"macvlan","ipam":{"type":"static"}}"#,
        &expect![[r#"
            whole [- -/-] "macvlan" "n" "1.0.0" Other("type static") macvlan
        "#]],
    );
    check(
        r#"{"name":"n","type":"loopback"}"#,
        &expect![[r#"
            whole [- -/-] "loopback" "n" - Other("no ipam") loopback
        "#]],
    );
    check(
        r#"{"type":"whereabouts","range":"10.0.0.0/24"}"#,
        &expect![[r#"
            whole [- -/-] - - - Ours -
        "#]],
    );
    check(
        r#"{"datastore":"kubernetes","kubernetes":{"kubeconfig":"/x"}}"#,
        &expect![[r#"
            whole [- -/-] flat file
        "#]],
    );
    check(
        r#"{"name":"multus-cni-network","type":"multus","delegates":[{"name":"d","type":"bridge","ipam":{"type":"host-local"}},{"name":"l","plugins":[{"type":"ptp","ipam":{"type":"hereabouts"}}]}]}"#,
        &expect![[r#"
            delegates[0] [- -/-] "bridge" "d" - HostLocal bridge
            delegates[1]: plugins[0] [- -/-] "ptp" "l" - Ours ptp
        "#]],
    );
    check(
        r#"{"name":"l","plugins":[{"type":"multus","delegates":[{"type":"bridge","ipam":{"type":"hereabouts"}}]}]}"#,
        &expect![[r#"
            plugins[0].delegates[0] [- -/-] "bridge" - - Ours bridge
        "#]],
    );
    let mut all = Vec::new();
    let count = networks(b"{}", "whereabouts.conf", &mut |found| all.push(found)).unwrap();
    assert!(count == 1 && matches!(all[0].content, Content::FlatFile(_)));
    assert_eq!(networks(b"{}", "x.conf", &mut |_| {}).unwrap(), 0);
}

#[test]
fn a_forgotten_type_is_ours_if_the_keys_are_ours() {
    for (ipam, plugin) in [
        (r#"{"range":"10.0.0.0/24"}"#, IpamPlugin::Ours),
        (r#"{"type":"","range":"10.0.0.0/24"}"#, IpamPlugin::Ours),
        (r#"{"type":5}"#, IpamPlugin::Ours),
        (r#""text""#, IpamPlugin::Ours),
        ("{}", IpamPlugin::Other("empty ipam".to_owned())),
        (r#"{"dns":{}}"#, IpamPlugin::Other("ipam without a type".to_owned())),
        (r#"{"type":"calico-ipam"}"#, IpamPlugin::Other("type calico-ipam".to_owned())),
    ] {
        let configuration = Json::parse(format!("{{\"ipam\":{ipam}}}").as_bytes()).unwrap();
        assert_eq!(IpamPlugin::of(&configuration), plugin, "{ipam}");
    }
}

#[test]
fn what_is_no_json_is_shown_with_advice() {
    let mut text = String::new();
    for config in [
        r#"{"type": "macvlan", "ipam": {"type": "hereabouts",}}"#,
        "{\"type\": \u{201c}macvlan\u{201d}}",
        "{\"type\": \"macvlan\", # the type\n \"a\": 1}",
        "{'type': 'macvlan'}",
        "{\"mtu\": {{ .Values.mtu }}}",
        "{",
    ] {
        let nad =
            serde_json::json!({"kind": "NetworkAttachmentDefinition", "spec": {"config": config}});
        let all = found(&nad.to_string()).unwrap();
        let Content::Mistake(error) = &all[0].content else { panic!("{config}") };
        writeln!(text, "{error}\n  hint: {:?}", error.hint).unwrap();
    }
    let text = text.replace(['\u{201c}', '\u{201d}'], "(curly)");
    expect![[r#"
        spec.config: expected JSON: trailing comma at line 1 column 51; found ": {\"type\": \"hereabouts\",}}"
          hint: Some("remove the comma before the bracket")
        spec.config: expected JSON: expected value at line 1 column 10; found "{\"type\": (curly)macvlan(curly)}"
          hint: Some("replace typographic quotes with \"")
        spec.config: expected JSON: key must be a string at line 1 column 21; found "{\"type\": \"macvlan\", # the type\n \"a\": 1}"
          hint: Some("remove the comment: JSON has none")
        spec.config: expected JSON: key must be a string at line 1 column 2; found "{\'type\': \'macvlan\'}"
          hint: Some("replace ' with \": JSON has no other quotes")
        spec.config: expected JSON: key must be a string at line 1 column 10; found "{\"mtu\": {{ .Values.mtu }}}"
          hint: Some("check what the template renders, for example with \"helm template\"")
        spec.config: expected JSON: EOF while parsing an object at line 1 column 1; found "{"
          hint: None
    "#]].assert_eq(&text);
}

#[test]
fn what_is_neither_yaml_nor_json_is_refused_and_the_rest_is_no_network() {
    assert!(found("a: [").is_err());
    assert!(found("{\"a\":").is_err());
    assert!(found("\u{0}").is_err());
    assert!(networks(b"\xff\xfea\x00:\x00 \x001\x00", "", &mut |_| {}).is_ok());
    assert!(networks(b"\xc3\x28", "", &mut |_| {}).is_err());
    for text in ["", "{}", "kind: Pod\n", "just text", "[1, [2]]"] {
        assert_eq!(found(text).unwrap(), [], "{text}");
        assert!(plugin_configurations(text.as_bytes()).is_err(), "{text}");
    }
    assert!(plugin_configurations(br#"{"type":"macvlan","ipam":{"type":"dhcp"}}"#).is_err());
}
