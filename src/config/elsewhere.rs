//! The settings for addresses that are in use although no record says so: addresses of this node
//! (`own_addresses`), and addresses of other hosts (`probe`).

use super::field::Field;
use super::merge::Merged;
use super::{ConfigError, parse_duration};
use crate::ipam::Scope;
use crate::json::Json;
use std::time::Duration;

/// The advice where a network has no interface to probe from.
const HINT: &str =
    "probe serves main plugins with \"master\" or \"bridge\" beside ipam; otherwise remove probe";
/// The bridge that the main plugin of that name uses if none is configured.
const BRIDGE: &str = "cni0";
/// The longest name of an interface in Linux.
const LONGEST_NAME: usize = 15;

/// How an ADD asks the other hosts of a network whether one of them has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The interface of the node from which it asks.
    pub interface: String,
    /// How long it waits for an answer.
    pub wait: Duration,
    /// For how long an address that another host has is set aside.
    pub set_aside: Duration,
}

/// Reads `probe`, which only a network may set: it needs the keys of the main plugin.
pub(super) fn probe(merged: &Merged<'_>) -> Result<Option<Probe>, ConfigError> {
    let Some(field) = merged.field("probe") else {
        return Ok(None);
    };
    let field = field.object()?;
    let (wait, set_aside) = (Duration::from_millis(200), Duration::from_secs(600));
    Ok(Some(Probe {
        wait: duration(field.find("wait"), wait, Duration::from_millis(10), "10ms", 10)?,
        set_aside: duration(field.find("set_aside"), set_aside, Duration::from_secs(1), "1s", DAY)?,
        interface: interface(merged.whole)?,
    }))
}

const DAY: u64 = 24 * 60 * 60;

fn duration(
    field: Option<Field<'_>>,
    default: Duration,
    least: Duration,
    least_shown: &str,
    most_seconds: u64,
) -> Result<Duration, ConfigError> {
    let Some(field) = field else { return Ok(default) };
    let most = Duration::from_secs(most_seconds);
    match parse_duration(field.text()?) {
        Ok(found) if least <= found && found <= most => Ok(found),
        _ => {
            let most = humantime::format_duration(most);
            Err(field
                .wrong(&format!("expected a duration of {least_shown} to {most} with its unit")))
        }
    }
}

/// Returns the interface on which the pods of a network meet the other hosts.
fn interface(whole: &Json) -> Result<String, ConfigError> {
    let refused = |reason: &str| Err(ConfigError::meaning("ipam.probe", reason).with_hint(HINT));
    let top = |key: &'static str| {
        let value = whole.find(key).filter(|value| value.as_str() != Some(""))?;
        Some(Field::new(key, value))
    };
    let kind = whole.find("type").and_then(Json::as_str).unwrap_or_default();
    let own_vlan = ["vlan", "vlanId", "vlanTrunk"].into_iter().find_map(top);
    if let Some(vlan) = own_vlan.filter(|vlan| vlan.unsigned() != Ok(0)) {
        // The frames would leave without the tag of the pod's VLAN.
        return Err(vlan.wrong("expected no VLAN of its own in a network with probe").with_hint(
            "use macvlan or ipvlan with the VLAN's interface as master, or remove probe",
        ));
    }
    if top("linkInContainer").is_some_and(|field| field.boolean() != Ok(false)) {
        return refused("expected an interface of the node to probe from, found linkInContainer");
    }
    let field = if kind == "bridge" {
        let Some(field) = top("bridge") else { return Ok(BRIDGE.to_owned()) };
        field
    } else {
        let Some(field) = top("master") else {
            return refused("expected an interface of the node to probe from, found no \"master\"");
        };
        field
    };
    let name = field.text()?;
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if LONGEST_NAME < name.len() || name.contains(is_odd) {
        return Err(field.wrong("expected the name of an interface"));
    }
    Ok(name.to_owned())
}

/// Reads `own_addresses` of the node's own flat file: returns whether pods may get addresses of
/// this node's interfaces in a scope.
pub(super) fn own_addresses(merged: &Merged<'_>, scope: &Scope) -> Result<bool, ConfigError> {
    let Some(field) = merged.node_setting("own_addresses") else {
        return Ok(false);
    };
    let mut is_allowed = false;
    for (name, value) in field.object()?.value.entries() {
        let entry = field.inner(field.path_of(&field.key(name)), value);
        let allowed = match entry.value.as_str() {
            Some("allowed") => true,
            Some("passed_over") => false,
            _ => return Err(entry.wrong("expected \"allowed\" or \"passed_over\"")),
        };
        if name == scope.name().unwrap_or_default() {
            is_allowed = allowed;
        }
    }
    Ok(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(whole: &str) -> Result<Option<Probe>, String> {
        let whole = Json::parse(whole.as_bytes()).unwrap();
        probe(&Merged::new(&whole, None).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_interface_is_the_one_on_which_the_main_plugin_puts_the_pod() {
        let interface = |keys: &str| {
            let whole = format!(r#"{{{keys},"ipam":{{"probe":{{"wait":"200ms"}}}}}}"#);
            read(&whole).map(|probe| probe.unwrap().interface)
        };
        let named = |name: &str| Ok(name.to_owned());
        assert_eq!(interface(r#""type":"macvlan","master":"eth1""#), named("eth1"));
        assert_eq!(interface(r#""type":"macvlan","master":"eth1.100""#), named("eth1.100"));
        assert_eq!(interface(r#""type":"bridge","bridge":"br1","vlan":0"#), named("br1"));
        assert_eq!(interface(r#""type":"bridge""#), named("cni0"));
        for refused in [
            r#""type":"macvlan""#,
            r#""type":"ptp""#,
            r#""type":"macvlan","master":"""#,
            r#""type":"macvlan","master":"a/b""#,
            r#""type":"macvlan","master":"name-of-16-bytes""#,
            r#""type":"macvlan","master":"eth0","linkInContainer":true"#,
            r#""type":"vlan","master":"eth0","vlanId":5"#,
            r#""type":"bridge","bridge":"br1","vlan":5"#,
        ] {
            assert!(interface(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn durations_have_defaults_and_bounds() {
        let probe = |value: &str| {
            read(&format!(r#"{{"type":"bridge","ipam":{{"probe":{value}}}}}"#))
                .map(|probe| probe.map(|probe| (probe.wait, probe.set_aside)))
        };
        let (default, long) = (Duration::from_millis(200), Duration::from_secs(600));
        assert_eq!(probe("null"), Ok(None));
        assert_eq!(probe("{}"), Ok(Some((default, long))));
        assert_eq!(
            probe(r#"{"wait":"1s","set_aside":"1m"}"#),
            Ok(Some((Duration::from_secs(1), Duration::from_secs(60))))
        );
        for refused in [
            r#"{"wait":"1ms"}"#,
            r#"{"wait":"11s"}"#,
            r#"{"wait":5}"#,
            r#"{"set_aside":"2d"}"#,
            "5",
        ] {
            assert!(probe(refused).is_err(), "{refused}");
        }
    }
}
