//! Shows the addresses that this node passes over, because one of its interfaces or another host
//! has them, for `list` and `usage`.

use super::locate::Located;
use super::{Format, output};
use crate::plugin::set_aside::{Aside, User};
use crate::store::Filter;
use serde_json::{Value, json};
use std::time::SystemTime;

const HEADINGS: &[&str] = &["SET ASIDE", "SCOPE", "IN USE BY", "SINCE", "UNTIL"];

/// Returns the addresses that this node passes over. Such an address has no pod, claim or network, so
/// a filter for one of these matches none.
pub(super) fn matching(located: &Located<'_>, filter: &Filter) -> Vec<Aside> {
    let is_asked = filter.pod.is_none()
        && filter.claim.is_none()
        && filter.network.is_none()
        && filter.node.as_ref().is_none_or(|node| Some(node) == located.node.as_ref());
    located.set_aside().filter(|_| is_asked).map(|notes| notes.list()).unwrap_or_default()
}

/// Prints them for `list --set-aside`.
pub(super) fn print(asides: &[Aside], format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::print_json(&Value::Array(asides.iter().map(document).collect())),
        Format::Table if asides.is_empty() => {
            output::say("no address is set aside");
            Ok(())
        }
        Format::Table => {
            output::print(&output::table(HEADINGS, &asides.iter().map(row).collect::<Vec<_>>()))
        }
    }
}

/// Prints them below another table, if there are any.
pub(super) fn append(asides: &[Aside]) -> anyhow::Result<()> {
    if asides.is_empty() {
        return Ok(());
    }
    output::print("\n")?;
    print(asides, Format::Table)
}

/// Returns one as JSON. The keys are documented and stable.
pub(super) fn document(aside: &Aside) -> Value {
    let (mac, interface) = match &aside.user {
        User::Mac(mac) => (Some(mac), None),
        User::Interface(interface) => (None, Some(interface)),
    };
    json!({
        "address": aside.address,
        "scope": aside.scope.name(),
        "mac": mac,
        "interface": interface,
        "since": time(aside.since),
        "until": time(aside.until),
    })
}

fn row(aside: &Aside) -> Vec<String> {
    let user = match &aside.user {
        User::Mac(mac) => format!("the host {mac}"),
        User::Interface(interface) => format!("this node, {interface}"),
    };
    vec![
        aside.address.to_string(),
        output::printable(aside.scope.name().unwrap_or("-")),
        output::printable(&user),
        time(aside.since),
        time(aside.until),
    ]
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
