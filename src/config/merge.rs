//! Merges the network configuration with the flat file of the node.
//!
//! The flat file describes the node and its store. It provides the settings that the network
//! configuration does not have. The file that the network's `configuration_path` names has a place
//! between the two, and it cannot set anything about the node.

use super::Mistakes;
use super::error::{ConfigError, Problem};
use super::field::{Field, either};
use super::keys;
use crate::json::{Json, MOST_VALUES, Refused, TWO_VALUES};
use std::path::{Component, Path, PathBuf};

/// The directories in which distributions keep their CNI configuration. Only root can write there.
///
/// If a network configuration names a file anywhere else, the file may belong to a pod. It gets no
/// more rights than the network configuration that named it. The distributions' directories are
/// given with their full path, because the root filesystems of containers are near them.
const TRUSTED: &[&str] = &["/etc", "/host/etc", K3S_ETC, RKE2_ETC, MICROK8S_ARGS];
pub(super) const K3S_ETC: &str = "/var/lib/rancher/k3s/agent/etc";
pub(super) const RKE2_ETC: &str = "/var/lib/rancher/rke2/agent/etc";
pub(super) const MICROK8S_ARGS: &str = "/var/snap/microk8s/current/args";

/// The keys that choose addresses. Those of the flat file are used only if the network
/// configuration has none of them. Half of one range and half of another would form a third range
/// that no one configured. `exclude` is not among them: see [`Merged::excludes`].
pub const ADDRESS_KEYS: &[&str] = &[
    "range",
    "range_start",
    "range_end",
    "gateway",
    "ipRanges",
    "pool",
    "pools",
    "subnet",
    "ranges",
    "rangeStart",
    "rangeEnd",
    "addresses",
];

/// The keys that the flat file never provides. Whereabouts reads `enable_overlapping_ranges` from
/// the network configuration only, a type names a plugin, not a node, a probe needs the keys of
/// one network's main plugin, and families are those of one network's ranges.
const NEVER_FILLED: &[&str] = &[
    "type",
    "enable_overlapping_ranges",
    "configuration_path",
    "probe",
    "ipFamilyPolicy",
    "ipFamilies",
];

/// The keys that name a store, except the kubeconfig.
const STORE_KEYS: &[&str] = &["datastore", "data_dir", "dataDir"];

/// The end of every path at which Whereabouts' own installation places its kubeconfig.
const WHEREABOUTS_KUBECONFIG: &str = "whereabouts.d/whereabouts.kubeconfig";

/// The directory and file names of a flat file.
const NAMES: &[&str] = &["hereabouts", "whereabouts"];

/// Returns the places of a node's own flat file. The first one that exists is used: hereabouts' own
/// name in the three places of Whereabouts, then Whereabouts' name.
#[must_use]
pub fn flat_file_places() -> Vec<PathBuf> {
    let bases = ["/etc/kubernetes/cni/net.d", "/etc/cni/net.d", "/host/etc/cni/net.d"];
    let in_bases =
        |name: &&str| bases.map(|base| [base, "/", name, ".d/", name, ".conf"].concat().into());
    NAMES.iter().flat_map(in_bases).collect()
}

/// Returns the places of the file that a `configuration_path` names: the path itself, or a file in
/// it if it is a directory.
#[must_use]
pub fn chosen_places(configuration_path: &Path) -> Vec<PathBuf> {
    let inside = NAMES.iter().map(|name| configuration_path.join(format!("{name}.conf")));
    std::iter::once(configuration_path.to_owned()).chain(inside).collect()
}

/// The author of the choice of a flat file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// The node's operator: the file is in one of the fixed places, or the process was started with
    /// it.
    ByNode,
    /// A network configuration, with its `configuration_path`.
    ByNetwork,
}

/// The maximum number of values in a file that a network configuration chose.
const MOST_CHOSEN: usize = 5000;

/// Returns a path, shortened, as errors show it. Each error about a flat file begins with it.
fn place(path: &Path) -> String {
    let mut shown: String = path.display().to_string().chars().take(300).collect();
    if shown.len() < path.as_os_str().len() {
        shown.push_str("...");
    }
    shown
}

/// Implements [`FlatFile::trusted`].
fn is_trusted(path: &Path, chosen: Chosen) -> bool {
    let plain = path.components().all(|part| !matches!(part, Component::ParentDir));
    chosen == Chosen::ByNode || (plain && TRUSTED.iter().any(|root| path.starts_with(root)))
}

/// A parsed flat file, and the one below it.
#[derive(Debug, Clone)]
pub struct FlatFile {
    /// The path of the file.
    path: PathBuf,
    /// The content, which is a JSON object.
    content: Json,
    chosen: Chosen,
    /// The node's own flat file, below one that a network configuration chose.
    below: Option<Box<Self>>,
}

impl FlatFile {
    /// Returns the flat file with another value of a key in the node's own file.
    #[must_use]
    pub fn with_own(mut self, key: &str, value: Json) -> Self {
        self.below.as_mut().map_or(&mut self.content, |own| &mut own.content).set(key, value);
        self
    }

    /// Parses a flat file. [`Merged::check`] looks for refused and mistyped keys in it.
    ///
    /// # Errors
    /// Fails if the text is not JSON or not an object.
    pub fn parse(path: PathBuf, bytes: &[u8], chosen: Chosen) -> Result<Self, ConfigError> {
        let place = place(&path);
        let most = match chosen {
            Chosen::ByNode => MOST_VALUES,
            Chosen::ByNetwork => MOST_CHOSEN,
        };
        let content = match Json::parse_within(bytes, most) {
            Ok(json @ Json::Object(_)) => json,
            Ok(other) => {
                let reason = format!("expected a JSON object, found {}", other.kind());
                return Err(ConfigError { problem: Problem::Shape, place, reason, hint: None });
            }
            Err(error) => {
                let reason = match error {
                    Refused::Malformed(error) if is_trusted(&path, chosen) => {
                        format!("expected JSON: {error}")
                    }
                    Refused::Malformed(error) => format!(
                        "expected JSON, at line {} column {} is none",
                        error.line(),
                        error.column()
                    ),
                    Refused::TooMany { .. } => error.to_string(),
                };
                return Err(ConfigError { problem: Problem::Shape, place, reason, hint: None });
            }
        };
        Ok(Self { path, content, chosen, below: None })
    }

    /// Refuses keys that must not be ignored, in this file and the one below it.
    ///
    /// # Errors
    /// Returns every mistake.
    pub fn check(&self) -> Result<(), Mistakes> {
        let mut mistakes = Mistakes::default();
        let field = self.field();
        if let Some(path) = self.content.conflict() {
            let path = if self.trusted() { path } else { "*".to_owned() };
            mistakes.add(ConfigError {
                problem: Problem::Shape,
                place: format!("{}: {path}", field.path),
                reason: TWO_VALUES.to_owned(),
                hint: None,
            });
        }
        mistakes.note(keys::check(&field, true));
        mistakes.note(self.below.as_ref().map_or(Ok(()), |below| below.check()));
        mistakes.none_or(())
    }

    /// Puts this file above the node's own flat file, if there is one.
    #[must_use]
    pub fn above(mut self, own: Option<Self>) -> Self {
        self.below = own.map(Box::new);
        self
    }

    /// Returns the node's own flat file. Only this file, and files next to it, tell which node this
    /// is.
    #[must_use]
    pub fn own(&self) -> Option<&Self> {
        match self.chosen {
            Chosen::ByNode => Some(self),
            Chosen::ByNetwork => self.below.as_deref(),
        }
    }

    /// Returns whether the node's operator wrote this file for hereabouts, and it names a store.
    fn names_a_store(&self) -> bool {
        let is_for_whereabouts =
            self.path.file_name().is_some_and(|name| name == "whereabouts.conf");
        let field = self.field();
        let names = |key: &str| field.find(key).is_some();
        self.chosen == Chosen::ByNode
            && !is_for_whereabouts
            && (STORE_KEYS.iter().any(|key| names(key)) || kubeconfig(&field).is_some())
    }

    /// Returns those of `keys` that the file has.
    #[must_use]
    pub fn has<'k>(&self, keys: &[&'k str]) -> Vec<&'k str> {
        keys.iter().copied().filter(|key| self.find(key).is_some()).collect()
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the node's operator is the author of the file.
    fn trusted(&self) -> bool {
        is_trusted(&self.path, self.chosen)
    }

    /// Returns the whole content. A network configuration may have named any file that root can
    /// read, and errors are shown in the pod's events. Therefore the content of an untrusted file
    /// is hidden.
    fn field(&self) -> Field<'_> {
        let place = place(&self.path);
        if self.trusted() {
            Field::new(place, &self.content)
        } else {
            Field::hidden(place, &self.content)
        }
    }

    /// Returns the absolute paths of `allowed_paths`. Ignores invalid entries, which are reported
    /// when the settings are read.
    #[must_use]
    pub fn allowed_paths(&self) -> Vec<PathBuf> {
        let Some(Json::Array(items)) = self.content.find("allowed_paths") else {
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| item.as_str().map(PathBuf::from))
            .filter(|path| path.is_absolute())
            .collect()
    }

    fn find(&self, key: &str) -> Option<Field<'_>> {
        self.field().find(key)
    }
}

/// The value of a key, and its source.
pub(super) struct Setting<'a> {
    pub(super) field: Field<'a>,
    /// Whether root wrote the value, and not the author of the network.
    pub(super) trusted: bool,
    /// Whether the value comes from the node's own flat file.
    pub(super) own: bool,
}

/// One of the objects that hold settings.
#[derive(Debug)]
struct Level<'a> {
    field: Field<'a>,
    trusted: bool,
    own: bool,
    /// Whether the store that it names is not used.
    is_overruled: bool,
}

impl<'a> Level<'a> {
    fn find(&self, key: &str) -> Option<Setting<'a>> {
        if self.is_overruled && matches!(key, "datastore" | "kubernetes") {
            return None;
        }
        let field = self.field.find(key)?;
        Some(Setting { field, trusted: self.trusted, own: self.own })
    }
}

fn kubeconfig<'a>(level: &Field<'a>) -> Option<Field<'a>> {
    level.find("kubernetes")?.find("kubeconfig")
}

/// Returns whether a configuration names the store of Whereabouts and no other: its kubeconfig, or
/// for the type `whereabouts` the word `kubernetes` alone.
fn repeats_whereabouts(level: &Field<'_>) -> bool {
    let names = |key: &str| level.find(key).is_some();
    let text = |key: &str| level.find(key).and_then(|field| field.value.as_str());
    let is_kubernetes = text("datastore") == Some("kubernetes");
    if names("data_dir") || names("dataDir") || (names("datastore") && !is_kubernetes) {
        return false;
    }
    match kubeconfig(level) {
        None => is_kubernetes && text("type") == Some("whereabouts"),
        Some(field) => field
            .value
            .as_str()
            .and_then(|path| path.strip_suffix(WHEREABOUTS_KUBECONFIG))
            .is_some_and(|directory| directory.is_empty() || directory.ends_with('/')),
    }
}

/// The `ipam` object with the flat file below it.
#[derive(Debug)]
pub struct Merged<'a> {
    /// The whole plugin configuration.
    pub(super) whole: &'a Json,
    /// The network configuration and the flat files, the one that takes precedence first.
    levels: Vec<Level<'a>>,
    flat: Option<&'a FlatFile>,
    /// The level from which all keys of ranges are read.
    of_ranges: usize,
}

/// The `ipam` object of a configuration that has none.
static NOTHING: Json = Json::Object(Vec::new());

impl<'a> Merged<'a> {
    /// Puts the network configuration above the flat file. Does not look for refused or mistyped
    /// keys, see [`Self::check`].
    ///
    /// # Errors
    /// Fails if there is no `ipam` object.
    pub fn new(whole: &'a Json, flat: Option<&'a FlatFile>) -> Result<Self, ConfigError> {
        let ipam = match whole.find("ipam") {
            Some(value @ Json::Object(_)) => Field::new("ipam", value),
            Some(other) => return Err(Field::new("ipam", other).wrong("expected an object")),
            None => {
                return Err(ConfigError::meaning(
                    "ipam",
                    "expected an object with the key \"type\", found none",
                ));
            }
        };
        Ok(Self::with_ipam(whole, ipam, flat))
    }

    /// Does the same for a verb that frees addresses: a configuration without an `ipam` object is
    /// one without settings.
    #[must_use]
    pub fn to_release(whole: &'a Json, flat: Option<&'a FlatFile>) -> Self {
        let ipam = whole.find("ipam").filter(|value| matches!(value, Json::Object(_)));
        Self::with_ipam(whole, Field::new("ipam", ipam.unwrap_or(&NOTHING)), flat)
    }

    fn with_ipam(whole: &'a Json, ipam: Field<'a>, flat: Option<&'a FlatFile>) -> Self {
        let own = flat.and_then(FlatFile::own);
        let node_names_store = own.is_some_and(FlatFile::names_a_store);
        let level = |field: Field<'a>, trusted, own: bool| {
            let is_overruled = node_names_store && !own && repeats_whereabouts(&field);
            Level { field, trusted, own, is_overruled }
        };
        let files = std::iter::successors(flat, |flat| flat.below.as_deref());
        let files =
            files.map(|flat| level(flat.field(), flat.trusted(), flat.chosen == Chosen::ByNode));
        let levels: Vec<_> = std::iter::once(level(ipam, false, false)).chain(files).collect();
        let has_ranges =
            |level: &Level<'_>| ADDRESS_KEYS.iter().any(|key| level.find(key).is_some());
        let of_ranges = levels.iter().position(has_ranges).unwrap_or(0);
        Self { whole, levels, flat, of_ranges }
    }

    /// Refuses keys that must not be ignored.
    ///
    /// # Errors
    /// [`Problem::Unsupported`], or a mistake for a key that belongs in the flat file.
    pub fn check(&self) -> Result<(), Mistakes> {
        let mut mistakes = Mistakes::default();
        mistakes.note(keys::check(&self.levels[0].field, false));
        mistakes.note(self.flat.map_or(Ok(()), FlatFile::check));
        mistakes.none_or(())
    }

    /// Returns `ipam.configuration_path`, if it is a text.
    #[must_use]
    pub fn configuration_path(whole: &Json) -> Option<&str> {
        whole
            .find("ipam")?
            .find_in_any_case("configuration_path")?
            .as_str()
            .filter(|path| !path.is_empty())
    }

    /// Returns the node's own flat file if it names the store although the network configuration
    /// names one too: that of Whereabouts.
    #[must_use]
    pub fn overruled_by(&self) -> Option<&'a Path> {
        self.flat?.own().map(FlatFile::path).filter(|_| self.levels[0].is_overruled)
    }

    pub(super) fn find(&self, key: &str) -> Option<Setting<'a>> {
        self.settings(key).next()
    }

    /// Returns the values of a key, the one that takes precedence first.
    pub(super) fn settings(&self, key: &str) -> impl Iterator<Item = Setting<'a>> {
        let levels = if ADDRESS_KEYS.contains(&key) {
            &self.levels[self.of_ranges..=self.of_ranges]
        } else if NEVER_FILLED.contains(&key) {
            &self.levels[..1]
        } else {
            &self.levels[..]
        };
        levels.iter().filter_map(move |level| level.find(key))
    }

    /// Returns the `exclude` of every level, and whether it is one of those of the ranges: not the
    /// one of a flat file below a network that has its own ranges. All of them count. An address
    /// that the flat file excludes belongs to something else, whichever range contains it.
    pub(super) fn excludes(&self) -> impl Iterator<Item = (Field<'a>, bool)> {
        let of_ranges = self.of_ranges;
        self.levels.iter().enumerate().filter_map(move |(at, level)| {
            level.field.find("exclude").map(|field| (field, at <= of_ranges))
        })
    }

    /// Returns the value of a key that has two spellings. The uppermost level that has one of them
    /// takes precedence.
    ///
    /// # Errors
    /// One level has both spellings, with different values.
    pub(super) fn find_either(
        &self,
        one: &str,
        other: &str,
    ) -> Result<Option<Setting<'a>>, ConfigError> {
        for level in &self.levels {
            let Level { field, trusted, own, .. } = level;
            if let Some(field) = either(field.find(one), field.find(other))? {
                return Ok(Some(Setting { field, trusted: *trusted, own: *own }));
            }
        }
        Ok(None)
    }

    /// Returns a key of an object. If the object does not have the key, the flat file provides it.
    pub(super) fn find_in(&self, object: &str, key: &str) -> Option<Setting<'a>> {
        self.settings(object).find_map(|setting| {
            let field = setting.field.find(key)?;
            Some(Setting { field, ..setting })
        })
    }

    pub(super) fn field(&self, key: &str) -> Option<Field<'a>> {
        self.find(key).map(|setting| setting.field)
    }

    /// Returns the value of a key that only the node's own flat file may set.
    pub(super) fn node_setting(&self, key: &str) -> Option<Field<'a>> {
        self.flat?.own()?.find(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_flat_file_is_found_before_whereabouts() {
        let places = flat_file_places();
        assert_eq!(places.len(), 6);
        assert!(places[..3].iter().all(|path| path.ends_with("hereabouts.d/hereabouts.conf")));
        assert_eq!(
            chosen_places(Path::new("/x/y"))[..2],
            [PathBuf::from("/x/y"), PathBuf::from("/x/y/hereabouts.conf")]
        );
    }

    #[test]
    fn a_flat_file_outside_the_configuration_directories_has_no_authority() {
        let trusted =
            |path: &str| FlatFile::parse(path.into(), b"{}", Chosen::ByNetwork).unwrap().trusted();
        assert!(trusted("/etc/cni/net.d/hereabouts.d/hereabouts.conf"));
        assert!(!trusted("/proc/77/root/etc/x.conf"));
        assert!(!trusted("/etc/../tmp/x.conf"));
        assert!(!trusted("/etcetera/x.conf"));
        assert!(trusted("/var/lib/rancher/k3s/agent/etc/cni/net.d/whereabouts.d/whereabouts.conf"));
        // A file that belongs to a container.
        assert!(!trusted(
            "/var/lib/rancher/k3s/agent/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs/x.conf"
        ));
        assert!(!trusted(
            "/var/snap/microk8s/common/var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/v/x.conf"
        ));
    }

    #[test]
    fn the_network_configuration_wins_and_ranges_are_not_mixed() {
        let whole = Json::parse(br#"{"ipam":{"range":"10.0.0.0/24","log_level":""}}"#).unwrap();
        let flat = FlatFile::parse(
            "/etc/f".into(),
            br#"{"range":"10.9.0.0/24","range_start":"10.9.0.7","log_level":"debug"}"#,
            Chosen::ByNode,
        )
        .unwrap();
        let merged = Merged::new(&whole, Some(&flat)).unwrap();
        assert_eq!(merged.field("range").unwrap().text(), Ok("10.0.0.0/24"));
        assert!(merged.field("range_start").is_none());
        assert_eq!(merged.field("log_level").unwrap().path, "/etc/f: log_level");
    }

    #[test]
    fn ranges_of_two_flat_files_are_not_mixed() {
        let whole = Json::parse(br#"{"ipam":{}}"#).unwrap();
        let parse = |path: &str, text: &[u8], chosen| FlatFile::parse(path.into(), text, chosen);
        let own = parse("/etc/own", br#"{"range_start":"10.9.0.7"}"#, Chosen::ByNode).unwrap();
        let chosen =
            parse("/etc/chosen", br#"{"range":"10.9.0.0/24"}"#, Chosen::ByNetwork).unwrap();
        let flat = chosen.above(Some(own));
        let merged = Merged::new(&whole, Some(&flat)).unwrap();
        assert!(merged.field("range").is_some());
        assert!(merged.field("range_start").is_none());
    }

    #[test]
    fn what_a_network_configuration_chose_lies_between_it_and_the_nodes_own() {
        let whole = Json::parse(br#"{"ipam":{"log_level":"panic"}}"#).unwrap();
        let own = br#"{"node_name":"n1","allowed_paths":["/a"],"log_level":"debug","data_dir":"/own","datastore":"file"}"#;
        let own = FlatFile::parse("/etc/own".into(), own, Chosen::ByNode).unwrap();
        let chosen = br#"{"node_name":"n2","log_level":"error","data_dir":"/chosen"}"#;
        let flat = FlatFile::parse("/etc/chosen".into(), chosen, Chosen::ByNetwork)
            .unwrap()
            .above(Some(own));
        let merged = Merged::new(&whole, Some(&flat)).unwrap();
        let text = |field: Option<Field<'_>>| field.unwrap().text().unwrap().to_owned();
        assert_eq!(text(merged.field("log_level")), "panic");
        assert_eq!(text(merged.field("data_dir")), "/chosen");
        assert_eq!(text(merged.field("datastore")), "file");
        assert_eq!(text(merged.node_setting("node_name")), "n1");
        assert!(merged.node_setting("allowed_paths").is_some());
        let alone = FlatFile::parse("/etc/chosen".into(), chosen, Chosen::ByNetwork).unwrap();
        assert!(Merged::new(&whole, Some(&alone)).unwrap().node_setting("node_name").is_none());
    }
}
