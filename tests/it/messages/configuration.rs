//! Every mistake of a configuration, as `config check` and the plugin report it.

use super::{assert_all, variants};
use hereabouts::config::{
    Chosen, CniArgs, ConfigError, FlatFile, Merged, Mistakes, Network, Problem, Settings,
};
use hereabouts::json::Json;
use std::path::PathBuf;

#[test]
fn every_kind_of_mistake_reads_so() {
    let (variants, name_of) = variants!(Problem: Unsupported Args Read Shape Meaning);
    let all =
        [Problem::Unsupported, Problem::Args, Problem::Read, Problem::Shape, Problem::Meaning];
    let text = |problem: Problem| {
        let mut mistakes = Mistakes::from(ConfigError {
            problem,
            place: "ipam.range".to_owned(),
            reason: "expected a string: 7".to_owned(),
            hint: None,
        });
        let one = ConfigError::from(mistakes.clone()).to_string();
        mistakes.add(mistakes.clone());
        (name_of(&problem), format!("{one}\n{}", ConfigError::from(mistakes)))
    };
    assert_all("config-error", variants, &all.map(text));
}

/// Keys of `ipam`, in addition to the type.
const OF_A_NETWORK: &[&str] = &[
    r"",
    r#""range":7"#,
    r#""range":"10.0.0.0/33""#,
    r#""range":"10.0.0.0""#,
    r#""range":"x""#,
    r#""range":"::ffff:10.0.0.0/120""#,
    r#""range":"fe80::1%eth0/64""#,
    r#""range":"10.0.0.9-10.0.0.1/24""#,
    r#""range":"10.9.0.1-10.0.0.1/24""#,
    r#""range":"127.0.0.0/24""#,
    r#""range":"255.255.255.0/24""#,
    r#""range":"10.0.0.0/24","subnet":"10.0.0.0/24""#,
    r#""range":"10.0.0.0/24","range_start":"10.9.0.1""#,
    r#""range":"10.0.0.0/24","range_start":"10.0.0.9","range_end":"10.0.0.1""#,
    r#""range":"10.0.0.0/24","range_start":"10.0.0.1","rangeStart":"10.0.0.2""#,
    r#""range":"10.0.0.0/24","range_start":"10.0.0.0","range_end":"10.0.0.0""#,
    r#""range":"10.0.0.0/24","gateway":"10.9.0.1""#,
    r#""range":"10.0.0.0/24","gateway":"224.0.0.1""#,
    r#""range":"10.0.0.0/24","exclude":"10.0.0.0/28""#,
    r#""range":"10.0.0.0/24","exclude":["x"]"#,
    r#""range_start":"10.0.0.1""#,
    r#""ipRanges":[{}]"#,
    r#""ipRanges":[{"range":"10.0.0.0/24"},{"range":"10.0.0.0/25"}]"#,
    r#""ipRanges":[{"range":"10.0.0.0/24","gateway":"10.9.0.1"}]"#,
    r#""ranges":[[]]"#,
    r#""ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]]"#,
    r#""ranges":[{"subnet":"10.0.0.0/24"}]"#,
    r#""addresses":[{}]"#,
    r#""addresses":[{"address":"10.0.0.1"}]"#,
    r#""addresses":[{"address":"127.0.0.1/8"}]"#,
    r#""addresses":[{"address":"10.0.0.1/24"},{"address":"10.0.0.1/24"}]"#,
    r#""addresses":[{"address":"10.0.0.1/24","gateway":"fd00::1"}]"#,
    r#""addresses":[{"address":"10.0.0.1/24","gateway":"10.0.0.1"}]"#,
    r#""range":"10.0.0.0/24","routes":[{"gw":"10.0.0.1"}]"#,
    r#""range":"10.0.0.0/24","routes":[{"dst":"default"}]"#,
    r#""range":"10.0.0.0/24","routes":[{"dst":"0.0.0.0/0","gw":"fd00::1"}]"#,
    r#""range":"10.0.0.0/24","routes":[{"dst":"0.0.0.0/0","mtu":-1}]"#,
    r#""range":"10.0.0.0/24","routes":[7]"#,
    r#""range":"10.0.0.0/24","dns":[]"#,
    r#""range":"10.0.0.0/24","resolvConf":"/root/x""#,
    r#""range":"10.0.0.0/24","enable_overlapping_ranges":"no""#,
    r#""range":"10.0.0.0/24","sticky":"yes""#,
    r#""range":"10.0.0.0/24","status_when_full":"maybe""#,
    r#""range":"10.0.0.0/24","gatway":"10.0.0.1""#,
    r#""range":"10.0.0.0/24","Gateway":"10.0.0.1""#,
    r#""range":"10.0.0.0/24","node_slice_size":"/26""#,
    r#""range":"10.0.0.0/24","node_name":"n1""#,
    r#""range":"10.0.0.0/24","limits":{"addresses":99}"#,
    r#""range":"10.0.0.0/24","allocation_order":"any""#,
    r#""range":"10.0.0.0/24","datastore":"etcd""#,
    r#""range":"10.0.0.0/24","kubernetes":7"#,
    r#""range":"10.0.0.0/24","kubernetes":{"kubeconfig":"/root/k"}"#,
    r#""range":"10.0.0.0/24","data_dir":"/tmp/x""#,
    r#""range":"10.0.0.0/24","data_dir":"x""#,
    r#""range":"10.0.0.0/24","data_dir":"/var/lib/cni/a","dataDir":"/var/lib/cni/b""#,
    r#""range":"10.0.0.0/24","log_file":"/etc/passwd""#,
    r#""range":"10.0.0.0/24","log_file":"x""#,
    r#""range":"10.0.0.0/24","log_level":"loud""#,
    r#""range":"10.0.0.0/24","deadlines":{"add":"10"}"#,
    r#""range":"10.0.0.0/24","deadlines":{"ad":"1s"}"#,
    r#""range":"10.0.0.0/24","deadlines":7"#,
];

/// Keys of the node's flat file.
const OF_A_FLAT_FILE: &[&str] = &[
    "[]",
    "{",
    r#"{"node_name":"a/b"}"#,
    r#"{"store_id":"1"}"#,
    r#"{"single_node_store":"yes"}"#,
    r#"{"allowed_paths":"/"}"#,
    r#"{"allowed_paths":["x"]}"#,
    r#"{"debts_dir":"x"}"#,
    r#"{"host_local_dir":"x"}"#,
    r#"{"limits":{"addresses":0}}"#,
    r#"{"limits":{"addresses":"many"}}"#,
    r#"{"nodename":"n1"}"#,
];

fn mistakes(ipam: &str, flat: Option<&str>) -> String {
    let flat = flat
        .map(|flat| {
            FlatFile::parse(PathBuf::from("/etc/flat.conf"), flat.as_bytes(), Chosen::ByNode)
        })
        .transpose();
    let flat = match flat {
        Ok(flat) => flat,
        Err(error) => return error.to_string(),
    };
    let separator = if ipam.is_empty() { "" } else { "," };
    let whole = Json::parse(
        format!(r#"{{"name":"a","ipam":{{"type":"hereabouts"{separator}{ipam}}}}}"#).as_bytes(),
    )
    .unwrap();
    let merged = Merged::new(&whole, flat.as_ref()).unwrap();
    let mut all = Mistakes::default();
    match Settings::parse(&merged, false) {
        Err(error) => all.add(error),
        Ok(settings) => {
            if let Some(note) = settings.log.notes.first() {
                return format!("(in the log) {note}");
            }
        }
    }
    match Network::parse(&merged, &CniArgs::default()) {
        Err(mistakes) => all.add(mistakes),
        Ok(network) => all.add(network.beyond),
    }
    all.first().iter().map(|error| format!("{error}\n")).collect()
}

#[test]
fn every_mistake_of_a_network_configuration_reads_so() {
    let shown = |ipam: &&'static str| {
        (if ipam.is_empty() { "(nothing)" } else { ipam }, mistakes(ipam, None))
    };
    let mut cases: Vec<_> = OF_A_NETWORK.iter().map(shown).collect();
    let ranges: Vec<String> =
        (0..65).map(|number| format!(r#"{{"range":"10.{number}.0.0/24"}}"#)).collect();
    cases.push(("65 ranges", mistakes(&format!(r#""ipRanges":[{}]"#, ranges.join(",")), None)));
    let unnamed =
        Json::parse(br#"{"name":"a","ipam":{"type":"whereabouts","range":"10.0.0.0/24"}}"#)
            .unwrap();
    let error = Settings::parse(&Merged::new(&unnamed, None).unwrap(), true).unwrap_err();
    cases.push(("no store is named for a pod", error.to_string()));
    for (what, whole) in [("no ipam", "{}"), ("an ipam that is no object", r#"{"ipam":7}"#)] {
        let whole = Json::parse(whole.as_bytes()).unwrap();
        cases.push((what, Merged::new(&whole, None).unwrap_err().to_string()));
    }
    assert_all("network-configuration", &[], &cases);
}

#[test]
fn every_mistake_of_a_flat_file_reads_so() {
    let cases: Vec<_> = OF_A_FLAT_FILE
        .iter()
        .map(|flat| (*flat, mistakes(r#""range":"10.0.0.0/24""#, Some(flat))))
        .collect();
    assert_all("flat-file", &[], &cases);
}

#[test]
fn every_file_that_is_no_configuration_reads_so() {
    let cases = [
        "",
        "{",
        "[]",
        "7",
        r#"{"plugins":[]}"#,
        r#"{"plugins":7}"#,
        r#"{"kind":"NetworkAttachmentDefinition","spec":{"config":"{"}}"#,
        "a: [b",
    ];
    let said = |bytes: &'static str| {
        let found = hereabouts::config::plugin_configurations(bytes.as_bytes());
        let said = found.map_or_else(
            |error| error.to_string(),
            |found| format!("{} configurations", found.len()),
        );
        (if bytes.is_empty() { "(nothing)" } else { bytes }, said)
    };
    assert_all("file", &[], &cases.map(said));
}
