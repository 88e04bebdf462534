//! All keys that `ipam` may contain, and the check for mistyped keys.
//!
//! `docs/config.md` has a row for each key. A test compares the two.

use super::field::{Field, shown};
use super::{ConfigError, Mistakes};

/// A known key of `ipam`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The name of the key, as it is written.
    pub name: &'static str,
    /// Whether the key is used, and where it may be set.
    pub role: Role,
}

/// The treatment of a known key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Used. It may be set in the network configuration or in the flat file.
    Read,
    /// Used in the flat file, refused in a network configuration.
    FlatFileOnly,
    /// A key of Whereabouts that is accepted and has no effect.
    Accepted,
}

const fn key(name: &'static str, role: Role) -> Key {
    Key { name, role }
}

/// All known keys of `ipam` and of the flat file.
pub const KEYS: &[Key] = &[
    key("type", Role::Read),
    key("range", Role::Read),
    key("range_start", Role::Read),
    key("range_end", Role::Read),
    key("exclude", Role::Read),
    key("gateway", Role::Read),
    key("ipRanges", Role::Read),
    key("subnet", Role::Read),
    key("ranges", Role::Read),
    key("rangeStart", Role::Read),
    key("rangeEnd", Role::Read),
    key("pool", Role::Read),
    key("pools", Role::Read),
    key("ipFamilyPolicy", Role::Read),
    key("ipFamilies", Role::Read),
    key("routes", Role::Read),
    key("dns", Role::Read),
    key("resolvConf", Role::Read),
    key("addresses", Role::Read),
    key("reservations", Role::Read),
    key("reserved", Role::Read),
    key("network_name", Role::Read),
    key("node_slice_size", Role::Read),
    key("enable_overlapping_ranges", Role::Read),
    key("datastore", Role::Read),
    key("data_dir", Role::Read),
    key("dataDir", Role::Read),
    key("kubernetes", Role::Read),
    key("allocation_order", Role::Read),
    key("configuration_path", Role::Read),
    key("deadlines", Role::Read),
    key("status_when_full", Role::Read),
    key("sticky", Role::Read),
    key("reuse_after", Role::Read),
    key("probe", Role::Read),
    key("log_file", Role::Read),
    key("log_level", Role::Read),
    key("allowed_paths", Role::FlatFileOnly),
    key("node_name", Role::FlatFileOnly),
    key("store_id", Role::FlatFileOnly),
    key("single_node_store", Role::FlatFileOnly),
    key("limits", Role::FlatFileOnly),
    key("debts_dir", Role::FlatFileOnly),
    key("host_local_dir", Role::FlatFileOnly),
    key("own_addresses", Role::FlatFileOnly),
    key("node_labels", Role::FlatFileOnly),
    key("leader_lease_duration", Role::Accepted),
    key("leader_renew_deadline", Role::Accepted),
    key("leader_retry_period", Role::Accepted),
    key("reconciler_cron_expression", Role::Accepted),
    key("sleep_for_race", Role::Accepted),
    key("etcd_host", Role::Accepted),
    key("etcd_username", Role::Accepted),
    key("etcd_password", Role::Accepted),
    key("etcd_key_file", Role::Accepted),
    key("etcd_cert_file", Role::Accepted),
    key("etcd_ca_cert_file", Role::Accepted),
];

/// The keys of one entry of `ipRanges` (snake case) or `ranges` (camel case).
pub(super) const RANGE_KEYS: &[&str] = &[
    "range",
    "range_start",
    "range_end",
    "exclude",
    "gateway",
    "subnet",
    "rangeStart",
    "rangeEnd",
];

/// The keys of the other objects, or of each object of a list.
pub(super) const INNER_KEYS: &[(&str, &[&str])] = &[
    ("routes", &["dst", "gw", "mtu", "advmss", "priority", "table", "scope"]),
    ("dns", &["nameservers", "domain", "search", "options"]),
    ("addresses", &["address", "gateway"]),
    ("kubernetes", &["kubeconfig"]),
    ("probe", &["wait", "set_aside"]),
    ("limits", &["addresses", "requested", "ranges", "excludes", "routes"]),
];

/// Refuses keys that must not be ignored at the top level of `ipam` or of a flat file: names close
/// to a known key, and keys of features that are not supported.
pub(super) fn check(object: &Field<'_>, flat_file: bool) -> Result<(), Mistakes> {
    let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    Mistakes::each(object.value.entries(), |(name, value)| {
        check_near_miss(object, name, value, &names)?;
        // The path is built only for an error. It would take time to build one for each key in each
        // call.
        let field = || object.inner(object.path_of(&shown(name)), value);
        let absent = matches!(value, crate::json::Json::Null) || value.as_str() == Some("");
        match KEYS.iter().find(|key| key.name.eq_ignore_ascii_case(name)).map(|key| key.role) {
            Some(Role::FlatFileOnly) if !absent && !flat_file => {
                let reason = "only the node's own flat file may set this key";
                return Err(ConfigError::meaning(field().path, reason));
            }
            _ if name.eq_ignore_ascii_case("type") => field().text().map(drop)?,
            // The other objects are checked where they are read.
            _ if name.eq_ignore_ascii_case("kubernetes") && !absent => {
                field().object().map(drop)?
            }
            _ => {}
        }
        check_inner(name, field)
    })
    .map(|_| ())
}

fn check_inner<'a>(name: &str, field: impl Fn() -> Field<'a>) -> Result<(), ConfigError> {
    let Some((_, known)) = INNER_KEYS.iter().find(|(object, _)| object.eq_ignore_ascii_case(name))
    else {
        return Ok(());
    };
    let field = field();
    let check = |object: &Field<'_>| {
        object
            .value
            .entries()
            .iter()
            .try_for_each(|(key, value)| check_near_miss(object, key, value, known))
    };
    match field.list() {
        Ok(mut objects) => objects.try_for_each(|object| check(&object)),
        Err(_) => check(&field),
    }
}

/// Refuses all keys of an object but these.
pub(super) fn check_known(object: &Field<'_>, known: &[&str]) -> Result<(), Mistakes> {
    Mistakes::each(object.value.entries(), |(name, value)| {
        check_near_miss(object, name, value, known)?;
        match known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            true => Ok(()),
            false => Err(ConfigError::unsupported(
                object.path_of(&shown(name)),
                format!("unknown key, expected one of {}", known.join(", ")),
            )),
        }
    })
    .map(|_| ())
}

/// Refuses names close to a known key in an entry of `ipRanges` or `ranges`.
pub(super) fn check_range(object: &Field<'_>) -> Result<(), Mistakes> {
    Mistakes::each(object.value.entries(), |(name, value)| {
        check_near_miss(object, name, value, RANGE_KEYS)
    })
    .map(|_| ())
}

fn check_near_miss(
    object: &Field<'_>,
    name: &str,
    value: &crate::json::Json,
    known: &[&str],
) -> Result<(), ConfigError> {
    if let Some(known) = known.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        // host-local and Whereabouts read keys in any case. Two spellings are one key.
        let read = object.value.find_in_any_case(known);
        return match read.is_none_or(|read| name == *known || read == value) {
            true => Ok(()),
            false => Err(ConfigError::meaning(
                object.path_of(&shown(name)),
                format!("expected the same value as in {known}, or only one of the two spellings"),
            )),
        };
    }
    match known.iter().find(|known| is_near(name, known)) {
        None => Ok(()),
        Some(meant) => {
            let place = object.path_of(&shown(name));
            Err(ConfigError::unsupported(
                place,
                format!("unknown key with the value {}", object.excerpt(value)),
            )
            .with_hint(format!("did you mean \"{meant}\"?")))
        }
    }
}

/// Returns whether a name equals a known key except for case, `-` and `_`, or is one edit away from
/// it.
pub(super) fn is_near(name: &str, known: &str) -> bool {
    // A name that is so much longer cannot be one edit away. Return early, so that a hostile key of
    // a megabyte costs nothing.
    if known.len() * 2 + 2 < name.len() {
        return false;
    }
    letters_of(name).eq(letters_of(known)) || is_one_edit(name.as_bytes(), known.as_bytes())
}

fn letters_of(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase)
}

/// Returns whether one insertion, deletion or substitution, or one swap of neighbors, turns one
/// text into the other.
fn is_one_edit(a: &[u8], b: &[u8]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let same = short.iter().zip(long).take_while(|(x, y)| x == y).count();
    let (short, long) = (&short[same..], &long[same..]);
    match long.len() - short.len() {
        0 => {
            let substituted = !short.is_empty() && short[1..] == long[1..];
            let swapped = 2 <= short.len()
                && short[0] == long[1]
                && short[1] == long[0]
                && short[2..] == long[2..];
            substituted || swapped
        }
        1 => short == &long[1..],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{KEYS, is_near};

    #[test]
    fn near_misses_are_recognized() {
        for (name, known) in [
            ("r_ange", "range"),
            ("range-start", "range_start"),
            ("rangestart", "range_start"),
            ("RangeStart", "range_start"),
            ("excludes", "exclude"),
            ("gatway", "gateway"),
            ("gatewya", "gateway"),
            ("rnge", "range"),
            ("data-dir", "data_dir"),
        ] {
            assert!(is_near(name, known), "{name}");
        }
        for (name, known) in [("vlan", "range"), ("range_begin", "range_start"), ("", "dns")] {
            assert!(!is_near(name, known), "{name}");
        }
    }

    #[test]
    fn keys_are_unique() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(KEYS[at + 1..].iter().all(|other| other.name != key.name), "{}", key.name);
        }
    }
}
