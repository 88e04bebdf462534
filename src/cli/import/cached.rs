//! Reads the results of ADDs that runtimes keep: libcni writes one file for each attachment, below
//! `results` of its cache directory, and removes it after the DEL. Multus has a cache directory of
//! its own for the networks of its pods.
//!
//! The file has the attachment as a DEL will name it, its configuration, its namespace and its
//! addresses. libcni writes this form (`cniCacheV1`) since version 0.7.1.

use super::hold::Given;
use crate::addr::{Family, parse_prefixed};
use crate::cli::output;
use crate::config::{CniArgs, Content, networks};
use crate::ipam::{ContainerId, IfName, NetworkName, PodRef};
use crate::json::Json;
use crate::small_file::{error_text, read_small};
use base64::Engine;
use serde::Deserialize;
use serde_json::Value;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The form of the files that can be read.
const KIND: &str = "cniCacheV1";

/// An attachment as a runtime knows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cached {
    /// The file.
    pub(super) path: PathBuf,
    /// The name of the network configuration, as a DEL will give it.
    pub(super) network: NetworkName,
    /// The sandbox.
    pub(super) container: ContainerId,
    /// The interface in the sandbox.
    pub(super) ifname: IfName,
    /// The pod, if the runtime named one.
    pub(super) pod: Option<PodRef>,
    /// The namespace of the sandbox, if the file names one.
    pub(super) netns: Option<PathBuf>,
    /// The addresses, in the order of the result.
    pub(super) addresses: Vec<Given>,
    /// The plugin configurations of the ADD that have `ipam`.
    pub(super) configurations: Vec<Json>,
}

/// Calls `visit` for each file of these cache directories. A directory that does not exist has no
/// files. For a file that cannot be read, it warns.
///
/// # Errors
/// A directory cannot be listed, or `visit` fails.
pub(super) fn each(
    directories: &[PathBuf],
    visit: &mut dyn FnMut(&Cached) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for directory in directories {
        each_path(directory, &mut |path| {
            match read(&path) {
                // The attachment has ended since the directory was listed.
                Ok(None) => {}
                Ok(Some(cached)) => visit(&cached)?,
                Err(reason) => {
                    let warning = format!("warning: {}: {reason}", path.display());
                    output::say(&output::printable(&warning));
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Returns the names of the files of these cache directories. Each has the name of its network, the
/// container ID and the name of the interface.
///
/// # Errors
/// As [`each`].
#[cfg(feature = "kube")]
pub(super) fn file_names(directories: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for directory in directories {
        each_path(directory, &mut |path| {
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
            Ok(())
        })?;
    }
    Ok(names)
}

fn each_path(
    directory: &Path,
    visit: &mut dyn FnMut(PathBuf) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let results = directory.join("results");
    let failed = |error: &io::Error| {
        anyhow::anyhow!("cannot list {}: {}", results.display(), error_text(error))
    };
    let entries = match std::fs::read_dir(&results) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    for entry in entries {
        visit(entry.map_err(|error| failed(&error))?.path())?;
    }
    Ok(())
}

/// Reads one file. `None` if it is gone.
fn read(path: &Path) -> Result<Option<Cached>, String> {
    match read_small(path) {
        Ok(bytes) => parse(path, &bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error_text(&error)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default)]
    netns: String,
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    #[serde(default)]
    result: Value,
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Cached, String> {
    let file: File = serde_json::from_slice(bytes)
        .map_err(|error| format!("this is not a cached result of libcni: {error}"))?;
    if file.kind != KIND {
        return Err(format!(
            "expected the kind {KIND}, found {}",
            crate::json::excerpt(&file.kind)
        ));
    }
    let invalid = |key: &str| format!("invalid {key}");
    let configuration = base64::engine::general_purpose::STANDARD
        .decode(&file.config)
        .map_err(|_| invalid("config"))?;
    Ok(Cached {
        path: path.to_owned(),
        network: NetworkName::parse(&file.network_name).map_err(|_| invalid("networkName"))?,
        container: ContainerId::parse(&file.container_id).map_err(|_| invalid("containerId"))?,
        ifname: IfName::parse(&file.if_name).map_err(|_| invalid("ifName"))?,
        pod: pod(&file.cni_args),
        netns: netns(&file.netns, &file.result),
        addresses: addresses(&file.result)?,
        configurations: configurations(&configuration),
    })
}

fn pod(args: &[(String, String)]) -> Option<PodRef> {
    let pairs: Vec<String> = args.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let text = format!("IgnoreUnknown=1;{}", pairs.join(";"));
    CniArgs::parse(text.as_bytes()).ok()?.pod
}

/// Returns the namespace that the runtime named (libcni 1.2 and later), otherwise the one that the
/// result has for its interface.
fn netns(named: &str, result: &Value) -> Option<PathBuf> {
    let of_result = || {
        let interfaces = result["interfaces"].as_array()?;
        interfaces.iter().find_map(|interface| {
            interface["sandbox"].as_str().filter(|path| path.starts_with('/'))
        })
    };
    Some(named).filter(|path| path.starts_with('/')).or_else(of_result).map(PathBuf::from)
}

/// Returns the addresses of a result: `ips` since version 0.3.0 of the specification, `ip4` and
/// `ip6` before.
fn addresses(result: &Value) -> Result<Vec<Given>, String> {
    let given = |entry: &Value, key: &str| -> Result<Given, String> {
        let text = entry[key].as_str().unwrap_or_default();
        let (address, prefix) = parse_prefixed(text)
            .map_err(|error| format!("invalid address in the result: {error}"))?;
        let gateway = entry["gateway"].as_str().and_then(|text| text.parse().ok());
        let gateway =
            gateway.filter(|gateway: &IpAddr| Family::of(*gateway) == Family::of(address));
        Ok(Given { address, prefix, gateway })
    };
    match result["ips"].as_array() {
        Some(ips) => ips.iter().map(|entry| given(entry, "address")).collect(),
        None => [&result["ip4"], &result["ip6"]]
            .into_iter()
            .filter(|entry| entry.is_object())
            .map(|entry| given(entry, "ip"))
            .collect(),
    }
}

/// Returns the plugin configurations that have `ipam`. libcni keeps a whole list, or one plugin.
fn configurations(bytes: &[u8]) -> Vec<Json> {
    let mut found = Vec::new();
    // A configuration that nobody can read is of no plugin whose addresses are imported.
    let _ = networks(bytes, "", &mut |one| {
        if let Content::Plugin { configuration, .. } = one.content {
            found.push(configuration);
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(change: impl FnOnce(&mut Value)) -> Result<Cached, String> {
        let configuration = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [
            {"type": "macvlan", "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"}},
            {"type": "tuning"},
        ]});
        let config = base64::engine::general_purpose::STANDARD.encode(configuration.to_string());
        let mut file = json!({
            "kind": "cniCacheV1", "containerId": "c1", "ifName": "net1", "networkName": "n",
            "config": config,
            "cniArgs": [["IgnoreUnknown", "true"], ["K8S_POD_NAMESPACE", "default"],
                ["K8S_POD_NAME", "web"], ["K8S_POD_UID", "u"], ["ANOTHER", "x"]],
            "result": {
                "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"}],
                "ips": [{"interface": 0, "address": "10.0.0.5/24", "gateway": "10.0.0.1"},
                    {"address": "fd00::5/64"}],
            },
        });
        change(&mut file);
        parse(Path::new("/r/n-c1-net1"), file.to_string().as_bytes())
    }

    #[test]
    fn a_cached_result_has_all_that_a_record_needs() {
        let cached = file(|_| {}).unwrap();
        assert_eq!(cached.network.as_str(), "n");
        assert_eq!(cached.pod.unwrap().to_string(), "default/web");
        assert_eq!(cached.netns, Some("/run/netns/x".into()));
        assert_eq!(
            cached.addresses,
            [
                Given {
                    address: "10.0.0.5".parse().unwrap(),
                    prefix: 24,
                    gateway: Some("10.0.0.1".parse().unwrap())
                },
                Given { address: "fd00::5".parse().unwrap(), prefix: 64, gateway: None },
            ]
        );
        let [configuration] = &cached.configurations[..] else { panic!() };
        assert_eq!(configuration.find("name").and_then(Json::as_str), Some("n"));
    }

    #[test]
    fn the_namespace_that_the_runtime_named_comes_first() {
        let named = file(|file| file["netns"] = json!("/run/netns/y")).unwrap();
        assert_eq!(named.netns, Some("/run/netns/y".into()));
        let none = file(|file| file["result"]["interfaces"] = json!([{"name": "net1"}])).unwrap();
        assert_eq!(none.netns, None);
    }

    #[test]
    fn results_of_the_first_versions_are_read() {
        let old = file(|file| {
            file["result"] = json!({"ip4": {"ip": "10.0.0.5/24", "gateway": "10.0.0.1"},
                "ip6": {"ip": "fd00::5/64"}});
        })
        .unwrap();
        assert_eq!(old.addresses, file(|_| {}).unwrap().addresses);
    }

    #[test]
    fn what_is_no_cached_result_is_an_error_with_its_reason() {
        let reason = |change: fn(&mut Value)| file(change).unwrap_err();
        assert!(reason(|file| file["kind"] = json!("other")).contains("kind cniCacheV1"));
        assert!(reason(|file| file["config"] = json!("?")).contains("invalid config"));
        assert!(reason(|file| file["containerId"] = json!("../x")).contains("containerId"));
        let bad = |file: &mut Value| file["result"]["ips"][0]["address"] = json!("10.0.0.5");
        assert!(reason(bad).contains("invalid address"), "{}", reason(bad));
        assert!(parse(Path::new("/x"), b"{").is_err());
    }
}
