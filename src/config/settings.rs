//! The settings that every verb needs: store, node, paths, deadlines and log.
//!
//! DEL reads only these, so that a range that has become invalid never keeps an address from being
//! freed.

use super::ConfigError;
use super::deadlines::{Deadlines, deadlines};
use super::field::Field;
use super::log_settings::{self, LogSettings};
#[cfg(feature = "kube")]
use super::merge;
use super::merge::{Merged, Setting};
use super::paths::{absolute, is_below};
use crate::ipam::{AllocationOrder, NodeName};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The data directory if none is configured.
pub const DATA_DIR: &str = "/var/lib/cni/hereabouts";
/// The default directory of debts. It belongs to this machine and this boot, wherever the stores
/// are. It is in memory, so that a debt can be noted even if a disk is full or read-only.
const DEBTS_DIR: &str = "/run/hereabouts/debts";
/// The default kubeconfig. "hereabouts install" writes it.
#[cfg(feature = "kube")]
const KUBECONFIG: &str = "/etc/cni/net.d/hereabouts.d/hereabouts.kubeconfig";
/// The directories in which a network configuration may place a store and a log without permission
/// from the flat file. The author of a network configuration is not root.
const OPEN_DATA: &str = "/var/lib/cni";
/// The advice for a path that only the node's operator may allow.
const ALLOWED: &str = "list it in allowed_paths of the node's flat file";
/// The directories from which a network configuration may take a kubeconfig. A kubeconfig names a
/// server, and also files of root whose content is sent to that server. Therefore only directories
/// are listed in which nobody except root has ever written. Below /var/lib/cni, plugins store
/// configurations as their authors wrote them.
#[cfg(feature = "kube")]
const OPEN_KUBECONFIG: &[&str] =
    &["/etc/cni", "/etc/kubernetes", merge::K3S_ETC, merge::RKE2_ETC, merge::MICROK8S_ARGS];

/// The longest time for which freed addresses rest.
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);

/// The store to use, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// The kind of the store.
    pub kind: StoreKind,
    /// The directory of the file store, or of the node state of the Kubernetes store.
    pub data_dir: PathBuf,
    /// The data directories of this node: the default, and the one in its flat file.
    pub own: Vec<PathBuf>,
    /// Whether the node's own flat file names `data_dir`.
    pub by_flat_file: bool,
    /// `store_id` of the flat file: the ID that the store must have.
    pub id: Option<String>,
    /// `single_node_store` of the flat file: whether no other machine uses `data_dir`.
    pub single_node: bool,
    /// Whether the network configuration or the flat file names a store. Otherwise the default is
    /// used.
    pub named: bool,
    /// The source of `data_dir`, for the command line.
    pub origin: String,
}

impl StoreSettings {
    /// Returns whether `data_dir` is the default directory.
    #[must_use]
    pub fn is_default_directory(&self) -> bool {
        self.data_dir == Path::new(DATA_DIR)
    }
}

/// The kind of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// Files below `data_dir`.
    File,
    /// The Kubernetes API.
    #[cfg(feature = "kube")]
    Kubernetes {
        /// The path of the kubeconfig.
        kubeconfig: PathBuf,
    },
}

/// The answer of STATUS if a range is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Ready. On the default network of a cluster, any other answer makes the node unusable.
    Ready,
    /// Error code 50.
    NotReady,
}

/// The settings that every verb needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The store.
    pub store: StoreSettings,
    /// `allocation_order`.
    pub order: AllocationOrder,
    /// `node_name` of the flat file.
    pub node_name: Option<NodeName>,
    /// The directory in which this node notes its debts. It is outside every store.
    pub debts_dir: PathBuf,
    /// `host_local_dir` of the flat file: where host-local has noted the addresses of pods that still
    /// run.
    pub host_local_dir: Option<PathBuf>,
    /// `reuse_after`: for how long a freed address is not given to another attachment while another
    /// one is free.
    pub reuse_after: Option<Duration>,
    /// `node_labels`: the labels of this node, by which pools choose nodes. A node of a cluster has
    /// those of its Node object.
    pub node_labels: BTreeMap<String, String>,
    /// The time limits.
    pub deadlines: Deadlines,
    /// The log.
    pub log: LogSettings,
}

impl Settings {
    /// Reads the settings. `must_name_store` is true if a pod is named or the type is
    /// `whereabouts`. A cluster that lost its flat file must not fall back to addresses that are
    /// unique on one machine only.
    ///
    /// # Errors
    /// Fails for a store that this version does not have, for a required store that is not named,
    /// for a path that a network configuration may not choose, and for a malformed value.
    pub fn parse(merged: &Merged<'_>, must_name_store: bool) -> Result<Self, ConfigError> {
        Self::read(merged, must_name_store, Care::Full)
    }

    fn read(merged: &Merged<'_>, must_name_store: bool, care: Care) -> Result<Self, ConfigError> {
        let allowed = care.unless(allowed_paths(merged), Vec::new)?;
        let store = store(merged, &allowed, care)?;
        if must_name_store && !store.named {
            return Err(ConfigError::meaning(
                "ipam.datastore",
                "expected a store for a Kubernetes pod or the type whereabouts, found none",
            )
            .with_hint("set datastore or data_dir in the network configuration or the flat file"));
        }
        let node_name = match merged.node_setting("node_name") {
            None => None,
            Some(field) => {
                let text = field.text()?;
                Some(NodeName::parse(text).map_err(|_| field.wrong("expected a node name"))?)
            }
        };
        let debts_dir = merged
            .node_setting("debts_dir")
            .map_or_else(|| Ok(DEBTS_DIR.into()), |field| absolute(&field));
        let host_local_dir =
            merged.node_setting("host_local_dir").map(|field| absolute(&field)).transpose();
        Ok(Self {
            store,
            host_local_dir: care.unless(host_local_dir, || None)?,
            order: care.unless(order(merged), || AllocationOrder::Auto)?,
            node_name,
            debts_dir: care.unless(debts_dir, || DEBTS_DIR.into())?,
            reuse_after: care.unless(reuse_after(merged), || None)?,
            node_labels: care.unless(node_labels(merged), BTreeMap::new)?,
            deadlines: care.unless(deadlines(merged), Deadlines::default)?,
            log: log_settings::parse(merged, &allowed),
        })
    }

    /// Reads the settings for a verb that frees addresses. Works like [`Self::parse`], but nothing
    /// that is malformed keeps an address from being freed, except the name of the store or of the
    /// node.
    ///
    /// # Errors
    /// Fails if the store or the node cannot be determined.
    pub fn parse_to_release(
        merged: &Merged<'_>,
        must_name_store: bool,
    ) -> Result<Self, ConfigError> {
        Self::read(merged, must_name_store, Care::ToRelease)
    }
}

/// How much of a configuration must be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Everything.
    Full,
    /// What names the store and the node.
    ToRelease,
}

impl Care {
    /// Returns the value, or if it need not be valid, the default in place of the mistake.
    fn unless<T>(
        self,
        value: Result<T, ConfigError>,
        default: impl FnOnce() -> T,
    ) -> Result<T, ConfigError> {
        match self {
            Self::Full => value,
            Self::ToRelease => Ok(value.unwrap_or_else(|_| default())),
        }
    }
}

fn store(
    merged: &Merged<'_>,
    allowed: &[PathBuf],
    care: Care,
) -> Result<StoreSettings, ConfigError> {
    let (kind, named) = kind(merged, allowed)?;
    let origin_of_kind = match &kind {
        StoreKind::File => "the default".to_owned(),
        #[cfg(feature = "kube")]
        StoreKind::Kubernetes { kubeconfig } => kubeconfig.display().to_string(),
    };
    let found = merged.find_either("data_dir", "dataDir")?;
    let own = merged
        .node_setting("data_dir")
        .or_else(|| merged.node_setting("dataDir"))
        .and_then(|field| absolute(&field).ok());
    let own_id = store_id(merged)?;
    let own_alone =
        merged.node_setting("single_node_store").map_or(Ok(false), |field| field.boolean());
    let own_alone = care.unless(own_alone, || false)?;
    let (data_dir, by_flat_file, named, origin) = match found {
        None => (DATA_DIR.into(), false, named, origin_of_kind),
        Some(Setting { field, trusted, .. }) => {
            let data_dir = absolute(&field)?;
            let by_flat_file = own.as_ref() == Some(&data_dir);
            let is_allowed = by_flat_file || trusted || is_below(&data_dir, Path::new(OPEN_DATA));
            if !is_allowed
                && !allowed.iter().any(|root| data_dir == *root || is_below(&data_dir, root))
            {
                let error = field.wrong(&format!(
                    "expected a directory below {OPEN_DATA}, or one that allowed_paths lists"
                ));
                return Err(error.with_hint(ALLOWED));
            }
            (data_dir, by_flat_file, true, field.path)
        }
    };
    // `store_id` and `single_node_store` describe the store of the flat file. They do not apply to
    // another store that a network configuration names.
    let is_own = data_dir == own.clone().unwrap_or_else(|| DATA_DIR.into());
    let (id, single_node) = (own_id.filter(|_| is_own), own_alone && is_own);
    let own = std::iter::once(DATA_DIR.into()).chain(own).collect();
    Ok(StoreSettings { kind, data_dir, own, by_flat_file, id, single_node, named, origin })
}

/// Reads `store_id`, which only the node's own flat file may set.
fn store_id(merged: &Merged<'_>) -> Result<Option<String>, ConfigError> {
    let Some(field) = merged.node_setting("store_id") else {
        return Ok(None);
    };
    parse_store_id(field.text()?).map(Some).map_err(|reason| field.wrong(&reason))
}

/// Parses the ID of a file store.
///
/// # Errors
/// Fails if the text is not an ID.
pub fn parse_store_id(text: &str) -> Result<String, String> {
    if text.len() != 32 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(
            "expected 32 digits and letters a to f, as \"hereabouts store init\" prints them"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// Returns the store to use, and whether the configuration names it. `datastore` takes precedence
/// over a kubeconfig. A kubeconfig alone selects Kubernetes.
fn kind(merged: &Merged<'_>, allowed: &[PathBuf]) -> Result<(StoreKind, bool), ConfigError> {
    let kubeconfig = merged.find_in("kubernetes", "kubeconfig");
    let datastore = merged.field("datastore");
    match datastore.as_ref().map(Field::text).transpose()? {
        Some("file") => return Ok((StoreKind::File, true)),
        None if kubeconfig.is_none() => return Ok((StoreKind::File, false)),
        Some("kubernetes") | None => {}
        Some(_) => return Err(unsupported(&datastore, "expected \"file\" or \"kubernetes\"")),
    }
    asked_for_kubernetes(datastore, kubeconfig, allowed)
}

#[cfg(not(feature = "kube"))]
fn asked_for_kubernetes(
    datastore: Option<Field<'_>>,
    kubeconfig: Option<Setting<'_>>,
    _: &[PathBuf],
) -> Result<(StoreKind, bool), ConfigError> {
    let asked = datastore.or(kubeconfig.map(|setting| setting.field));
    Err(unsupported(
        &asked,
        "this executable was built without the Kubernetes store, expected datastore \"file\"",
    ))
}

#[cfg(feature = "kube")]
fn asked_for_kubernetes(
    _: Option<Field<'_>>,
    kubeconfig: Option<Setting<'_>>,
    allowed: &[PathBuf],
) -> Result<(StoreKind, bool), ConfigError> {
    let Some(Setting { field, trusted, .. }) = kubeconfig else {
        return Ok((StoreKind::Kubernetes { kubeconfig: KUBECONFIG.into() }, true));
    };
    let kubeconfig = absolute(&field)?;
    let open = OPEN_KUBECONFIG
        .iter()
        .map(Path::new)
        .chain(allowed.iter().map(PathBuf::as_path))
        .any(|root| is_below(&kubeconfig, root));
    if !trusted && !open {
        let error = field.wrong(&format!(
            "expected a file below {}, or below one of allowed_paths",
            OPEN_KUBECONFIG.join(", ")
        ));
        return Err(error.with_hint(ALLOWED));
    }
    Ok((StoreKind::Kubernetes { kubeconfig }, true))
}

fn order(merged: &Merged<'_>) -> Result<AllocationOrder, ConfigError> {
    let Some(field) = merged.field("allocation_order") else {
        return Ok(AllocationOrder::Auto);
    };
    match field.text()? {
        "auto" => Ok(AllocationOrder::Auto),
        "lowest" => Ok(AllocationOrder::Lowest),
        "spread" => Ok(AllocationOrder::Spread),
        _ => Err(field.wrong("expected \"auto\", \"lowest\" or \"spread\"")),
    }
}

fn node_labels(merged: &Merged<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    match merged.node_setting("node_labels") {
        None => Ok(BTreeMap::new()),
        Some(field) => super::pool::labels(&field).map_err(ConfigError::from),
    }
}

fn reuse_after(merged: &Merged<'_>) -> Result<Option<Duration>, ConfigError> {
    let Some(field) = merged.field("reuse_after") else {
        return Ok(None);
    };
    match super::parse_duration(field.text()?) {
        Ok(rest) if rest <= LONGEST_REST => Ok(Some(rest).filter(|rest| !rest.is_zero())),
        _ => Err(field.wrong("expected a duration of at most 24h with its unit, such as \"30s\"")),
    }
}

fn unsupported(field: &Option<Field<'_>>, reason: &str) -> ConfigError {
    let (path, value) = field.as_ref().map_or(("ipam.datastore", String::new()), |field| {
        (&*field.path, field.excerpt(field.value))
    });
    ConfigError::unsupported(path, format!("{reason}: {value}"))
}

fn allowed_paths(merged: &Merged<'_>) -> Result<Vec<PathBuf>, ConfigError> {
    match merged.node_setting("allowed_paths") {
        None => Ok(Vec::new()),
        Some(field) => field.list()?.map(|path| absolute(&path)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Chosen, FlatFile};
    use crate::json::Json;

    fn settings(ipam: &str, flat: Option<&str>, must_name: bool) -> Result<Settings, String> {
        let whole = Json::parse(format!("{{\"ipam\":{ipam}}}").as_bytes()).unwrap();
        let flat = flat
            .map(|text| FlatFile::parse("/etc/f".into(), text.as_bytes(), Chosen::ByNode).unwrap());
        let merged = Merged::new(&whole, flat.as_ref()).unwrap();
        merged
            .check()
            .map_err(ConfigError::from)
            .and_then(|()| Settings::parse(&merged, must_name))
            .map_err(|error| format!("{:?} {error}", error.problem))
    }

    #[test]
    fn a_network_configuration_may_name_only_paths_below_var_lib_cni() {
        assert!(settings(r#"{"data_dir":"/var/lib/cni/x"}"#, None, false).is_ok());
        for path in ["/var/lib/cni", "/var/lib/cnix", "/root", "/var/lib/cni/../x", "relative"] {
            let error = settings(&format!("{{\"data_dir\":\"{path}\"}}"), None, false).unwrap_err();
            assert!(error.starts_with("Meaning ipam.data_dir: "), "{error}");
        }
        assert!(
            settings(r#"{"data_dir":"/mnt/a/b"}"#, Some(r#"{"allowed_paths":["/mnt/a"]}"#), false)
                .is_ok()
        );
        assert!(settings("{}", Some(r#"{"data_dir":"/mnt/a"}"#), false).is_ok());
    }

    #[test]
    fn a_log_elsewhere_is_not_written_but_fails_nothing() {
        let log =
            settings(r#"{"log_file":"/root/.ssh/authorized_keys"}"#, None, false).unwrap().log;
        assert_eq!(log.file, None);
        assert!(log.notes[0].contains("not written"));
        assert_eq!(
            settings(r#"{"log_file":"/var/log/auth.log"}"#, None, false).unwrap().log.file,
            None
        );
        let notes = |ipam: &str| settings(ipam, None, false).unwrap().log.notes.len();
        for ipam in [
            r#"{"log_file":"relative"}"#,
            r#"{"log_file":7}"#,
            r#"{"log_level":"loud"}"#,
            r#"{"log_level":7}"#,
        ] {
            assert_eq!(notes(ipam), 1, "{ipam}");
        }
        assert_eq!(notes(r#"{"log_level":"Warning"}"#), 0);
    }

    #[test]
    fn a_network_does_not_take_the_nodes_log_away_with_one_that_is_not_written() {
        let flat = r#"{"log_file":"/var/log/node.log"}"#;
        let log = settings(r#"{"log_file":"/root/x"}"#, Some(flat), false).unwrap().log;
        assert_eq!(log.file.as_deref(), Some(Path::new("/var/log/node.log")));
        assert_eq!((log.below, log.notes.len()), (None, 1));
        assert!(
            settings(r#"{"log_file":"/var/log/hereabouts/h.log"}"#, None, false)
                .unwrap()
                .log
                .file
                .is_some()
        );
    }

    #[test]
    fn a_store_must_be_named_when_asked_for() {
        assert!(
            settings("{}", None, true)
                .unwrap_err()
                .contains("expected a store for a Kubernetes pod")
        );
        for (ipam, flat) in [
            (r#"{"datastore":"file"}"#, "{}"),
            (r#"{"data_dir":"/var/lib/cni/x"}"#, "{}"),
            ("{}", r#"{"datastore":"file"}"#),
        ] {
            assert!(settings(ipam, Some(flat), true).is_ok(), "{ipam} {flat}");
        }
    }

    #[test]
    fn stores_that_are_not_there_are_unsupported_and_datastore_beats_a_kubeconfig() {
        assert!(
            settings(r#"{"datastore":"etcd"}"#, None, false)
                .unwrap_err()
                .starts_with("Unsupported")
        );
        let both =
            settings(r#"{"datastore":"file","kubernetes":{"kubeconfig":"/x"}}"#, None, false)
                .unwrap();
        assert_eq!(both.store.kind, StoreKind::File);
    }

    #[cfg(feature = "kube")]
    #[test]
    fn a_kubeconfig_alone_means_kubernetes_and_untrusted_hands_choose_among_roots_files() {
        let kubernetes = |path: &str| Some(StoreKind::Kubernetes { kubeconfig: path.into() });
        let kind = |ipam: &str, flat: Option<&str>| {
            settings(ipam, flat, true).ok().map(|settings| settings.store.kind)
        };
        assert_eq!(kind(r#"{"datastore":"kubernetes"}"#, None), kubernetes(KUBECONFIG));
        let whereabouts = "/etc/cni/net.d/whereabouts.d/whereabouts.kubeconfig";
        let named = format!(r#"{{"kubernetes":{{"kubeconfig":"{whereabouts}"}}}}"#);
        assert_eq!(kind(&named, None), kubernetes(whereabouts));
        assert_eq!(kind("{}", Some(&named)), kubernetes(whereabouts));
        let elsewhere = r#"{"kubernetes":{"kubeconfig":"/home/k"}}"#;
        assert_eq!(kind(elsewhere, None), None);
        assert_eq!(kind("{}", Some(elsewhere)), kubernetes("/home/k"));
        assert_eq!(kind(elsewhere, Some(r#"{"allowed_paths":["/home"]}"#)), kubernetes("/home/k"));
        for path in [
            "/etc/cni/../x",
            "/etc/cni",
            "/var/lib/cni/flannel/c1",
            "/var/lib/rancher/k3s/agent/containerd/x/fs/k",
            "k",
        ] {
            assert_eq!(
                kind(&format!(r#"{{"kubernetes":{{"kubeconfig":"{path}"}}}}"#), None),
                None,
                "{path}"
            );
        }
        // The flat file provides a setting that the network configuration leaves out.
        assert_eq!(kind(r#"{"kubernetes":{}}"#, Some(elsewhere)), kubernetes("/home/k"));
        assert_eq!(
            kind(r#"{"kubernetes":{"kubeconfig":""}}"#, Some(elsewhere)),
            kubernetes("/home/k")
        );
    }

    #[test]
    fn node_name_and_allowed_paths_belong_in_the_flat_file() {
        for ipam in [r#"{"node_name":"n2"}"#, r#"{"allowed_paths":["/"]}"#] {
            assert!(
                settings(ipam, None, false).unwrap_err().contains("own flat file may set"),
                "{ipam}"
            );
        }
        assert_eq!(
            settings("{}", Some(r#"{"node_name":"n2"}"#), false)
                .unwrap()
                .node_name
                .unwrap()
                .as_str(),
            "n2"
        );
    }

    #[test]
    fn durations_have_a_unit() {
        let add = |text: &str| {
            settings(&format!("{{\"deadlines\":{{\"add\":\"{text}\"}}}}"), None, false)
                .map(|s| s.deadlines.add)
        };
        assert_eq!(add("500ms"), Ok(Duration::from_millis(500)));
        assert!(add("10").is_err());
        assert!(add("0s").is_err());
        assert!(settings(r#"{"deadlines":{"add":10}}"#, None, false).is_err());
        assert!(settings(r#"{"deadlines":{"ad":"1s"}}"#, None, false).is_err());
    }
}
