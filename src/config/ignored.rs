//! The keys of `ipam` and of a flat file that nothing reads. The plugin passes over them;
//! `config check` names each one.

use super::field::shown;
use super::keys::{INNER_KEYS, KEYS, RANGE_KEYS, Role, is_near};
use crate::json::Json;

/// Keys of other IPAM plugins that mean something here under another name.
const ELSEWHERE: &[(&str, &str)] = &[
    ("excludeSubnets", "exclude"),
    ("excludeIPs", "exclude"),
    ("excludeIps", "exclude"),
    ("exclude_ips", "exclude"),
    ("excludedIPs", "exclude"),
    ("omit_ranges", "exclude"),
    ("omitRanges", "exclude"),
    ("exclude_range", "exclude"),
    ("exclude_ranges", "exclude"),
    ("cidr", "range"),
    ("ipRange", "ipRanges"),
    ("range_v6", "ipRanges"),
    ("rangeV6", "ipRanges"),
    ("range6", "ipRanges"),
    ("subnetV6", "ranges"),
    ("rangeStop", "rangeEnd"),
    ("range_stop", "range_end"),
    ("defaultGateway", "gateway"),
    ("default_gateway", "gateway"),
];

/// Keys of a route in the words of other programs.
const OF_ROUTES: &[(&str, &str)] = &[
    ("via", "gw"),
    ("gateway", "gw"),
    ("nexthop", "gw"),
    ("nextHop", "gw"),
    ("next_hop", "gw"),
    ("to", "dst"),
    ("dest", "dst"),
    ("destination", "dst"),
    ("metric", "priority"),
];

/// A key that is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The JSON path.
    pub place: String,
    /// The advice, if it probably means something.
    pub hint: Option<String>,
    /// Whether it is a key of Whereabouts that is accepted without effect.
    pub is_accepted: bool,
}

/// The maximum number of keys that are named.
const MOST: usize = 100;

/// Returns the ignored keys of an object with the keys of `ipam`.
#[must_use]
pub fn ignored(object: &Json, place: &str) -> Vec<Ignored> {
    let mut found = Vec::new();
    for (name, value) in object.entries() {
        let path = || format!("{place}.{}", shown(name));
        match KEYS.iter().find(|key| key.name.eq_ignore_ascii_case(name)) {
            Some(key) if key.role == Role::Accepted => {
                found.push(Ignored { place: path(), hint: None, is_accepted: true });
            }
            Some(key) => inner(key.name, value, &path(), &mut found),
            None if KEYS.iter().any(|key| is_near(name, key.name)) => {}
            None => found.push(unread(path(), meant(name, ELSEWHERE))),
        }
        if MOST < found.len() {
            break;
        }
    }
    found.truncate(MOST);
    found
}

/// Adds the ignored keys of the objects inside a value.
fn inner(name: &str, value: &Json, path: &str, found: &mut Vec<Ignored>) {
    if MOST < found.len() {
        return;
    }
    let is_list_of_ranges = matches!(name, "ranges" | "ipRanges");
    let known = match INNER_KEYS.iter().find(|(object, _)| *object == name) {
        Some((_, known)) => *known,
        None if is_list_of_ranges => RANGE_KEYS,
        None => return,
    };
    match value {
        Json::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                inner(name, item, &format!("{path}[{at}]"), found);
            }
        }
        Json::Object(entries) => {
            for (key, _) in entries
                .iter()
                .filter(|(key, _)| !known.iter().any(|known| known.eq_ignore_ascii_case(key)))
            {
                if known.iter().any(|known| is_near(key, known)) {
                    continue;
                }
                let elsewhere = if name == "routes" { OF_ROUTES } else { ELSEWHERE };
                let hint = meant(key, elsewhere).or_else(|| belongs_above(key));
                found.push(unread(format!("{path}.{}", shown(key)), hint));
            }
        }
        _ => {}
    }
}

fn unread(place: String, hint: Option<String>) -> Ignored {
    Ignored { place, hint, is_accepted: false }
}

fn meant(name: &str, table: &[(&str, &str)]) -> Option<String> {
    let (_, meant) = table.iter().find(|(other, _)| *other == name)?;
    Some(format!("did you mean \"{meant}\"?"))
}

fn belongs_above(name: &str) -> Option<String> {
    let key = KEYS.iter().find(|key| key.name == name)?;
    (key.role == Role::Read).then(|| format!("\"{name}\" belongs in ipam itself"))
}

#[cfg(test)]
mod tests {
    use super::ignored;
    use crate::json::Json;
    use expect_test::expect;
    use std::fmt::Write;

    #[test]
    fn every_key_that_nothing_reads_is_named() {
        let ipam = r#"{"type":"whereabouts","range":"10.0.0.0/24","excludeSubnets":[],"range_v6":"fd00::/64","poolName":"x","args":{},
            "ipRanges":[{"range":"10.1.0.0/24","enable_overlapping_ranges":false,"routes":[]}],"ranges":[[{"subnet":"10.2.0.0/24","vlan":7}]],
            "routes":[{"dst":"0.0.0.0/0","via":"10.0.0.1"},{"dst":"10.0.0.0/8","gateway":"10.0.0.1"}],"dns":{"ttl":5},
            "sleep_for_race":3,"rangestart":"x","kubernetes":{"kubeconfig":"/x","token":"secret"}}"#;
        let mut text = String::new();
        for found in ignored(&Json::parse(ipam.as_bytes()).unwrap(), "ipam") {
            let what = if found.is_accepted { "accepted" } else { "ignored" };
            writeln!(text, "{what} {} {}", found.place, found.hint.unwrap_or_default()).unwrap();
        }
        expect![[r#"
            ignored ipam.excludeSubnets did you mean "exclude"?
            ignored ipam.range_v6 did you mean "ipRanges"?
            ignored ipam.poolName 
            ignored ipam.args 
            ignored ipam.ipRanges[0].enable_overlapping_ranges "enable_overlapping_ranges" belongs in ipam itself
            ignored ipam.ipRanges[0].routes "routes" belongs in ipam itself
            ignored ipam.ranges[0][0].vlan 
            ignored ipam.routes[0].via did you mean "gw"?
            ignored ipam.routes[1].gateway did you mean "gw"?
            ignored ipam.dns.ttl 
            accepted ipam.sleep_for_race 
            ignored ipam.kubernetes.token 
        "#]].assert_eq(&text);
    }
}
