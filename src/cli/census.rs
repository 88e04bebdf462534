//! Describes what `verify` reports in addition to problems: which records are in doubt, how many
//! addresses each node holds, how old its newest record is, and the command that releases them.

use super::output;
use crate::ipam::{Allocation, Doubt, NodeName, Scope};
use crate::store::census::{Census, OfNode};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// Returns the text for people: the records in doubt, then the nodes. The node that has been
/// without a new address for the longest time comes first.
pub(super) fn describe(census: &Census, now: SystemTime) -> String {
    let mut text = String::new();
    let all = census.doubted.len() + census.more_doubted;
    if 0 < all {
        // A write to a String cannot fail.
        let _ = writeln!(
            text,
            "{all} x in doubt: the sandbox is not visible, but not proven to be gone either, so nothing releases the address automatically; \
             if no pod uses the address, run the command below it (on another machine, add --kubeconfig FILE or --data-dir DIR)"
        );
    }
    for (allocation, doubt) in &census.doubted {
        let held = age(now, allocation.record.since);
        let _ = writeln!(
            text,
            "  {}, for {held}: {doubt}\n    {}",
            output::holder(allocation),
            release(allocation)
        );
    }
    if 0 < census.more_doubted {
        let _ = writeln!(text, "  and {} more", census.more_doubted);
    }
    for (scope, records) in &census.kept_scopes {
        let _ = writeln!(
            text,
            "scope {} is kept for a pool of Cluster API, and pods hold {} there; its networks give nothing to new pods: choose another network_name",
            output::printable(&scope.to_string()),
            output::count(*records, "address")
        );
    }
    if 0 < census.claims {
        let _ = writeln!(
            text,
            "claims hold {}; \"hereabouts list\" shows them",
            output::count(census.claims, "address")
        );
    }
    if census.nodes.is_empty() {
        return text;
    }
    let rows: Vec<Vec<String>> = by_age(census)
        .into_iter()
        .map(|(node, of)| {
            vec![output::printable(node.as_str()), of.records.to_string(), age(now, of.youngest)]
        })
        .collect();
    text.push_str(&output::table(&["NODE", "ADDRESSES", "AGE OF NEWEST"], &rows));
    for name in &census.earlier_names {
        let name = output::printable(name.as_str());
        let _ = writeln!(
            text,
            "this machine was named {name} before: DEL, GC and sweep also check that name"
        );
    }
    text.push_str("if a node is off for good, \"hereabouts release --node NODE\" releases everything that it holds\n");
    text
}

/// Returns the scopes that are kept for pools of Cluster API and in which pods hold addresses.
pub(super) fn kept_scopes(census: &Census) -> Value {
    let document =
        |(scope, records): (&Scope, &usize)| json!({"scope": scope.name(), "records": records});
    census.kept_scopes.iter().map(document).collect()
}

/// Returns the same as JSON.
pub(super) fn document(census: &Census, now: SystemTime) -> (Value, Value) {
    let doubted = census.doubted.iter().map(|(allocation, doubt)| doubted(allocation, *doubt, now));
    let nodes = by_age(census).into_iter().map(|(node, of)| {
        json!({
            "node": node.as_str(),
            "records": of.records,
            "youngest": humantime::format_rfc3339_seconds(of.youngest).to_string(),
            "youngestAgeSeconds": seconds(now, of.youngest),
            "thisMachineBefore": census.earlier_names.contains(node),
            "release": format!("hereabouts release --node {node}"),
        })
    });
    (doubted.collect(), nodes.collect())
}

fn doubted(allocation: &Allocation, doubt: Doubt, now: SystemTime) -> Value {
    let mut document = output::allocation(allocation);
    if let Some(fields) = document.as_object_mut() {
        fields.insert("ageSeconds".to_owned(), json!(seconds(now, allocation.record.since)));
        fields.insert("doubt".to_owned(), json!(doubt.to_string()));
        fields.insert("release".to_owned(), json!(release(allocation)));
    }
    document
}

/// Returns the command that frees one record, from any machine.
fn release(allocation: &Allocation) -> String {
    let attachment = &allocation.record.attachment;
    format!(
        "hereabouts release {} --network {} --node {}",
        allocation.address, attachment.network, attachment.node
    )
}

fn by_age(census: &Census) -> Vec<(&NodeName, &OfNode)> {
    let mut nodes: Vec<_> = census.nodes.iter().collect();
    nodes.sort_by_key(|(_, of)| of.youngest);
    nodes
}

fn seconds(now: SystemTime, since: SystemTime) -> u64 {
    now.duration_since(since).unwrap_or_default().as_secs()
}

/// Returns an age in its two largest units: days and hours, or minutes and seconds.
fn age(now: SystemTime, since: SystemTime) -> String {
    output::duration(Duration::from_secs(seconds(now, since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_two_units_and_is_never_negative() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (seconds, shown) in [
            (3 * 86_400 + 7_261, "3d 2h"),
            (400 * 86_400, "400d"),
            (3_661, "1h 1m"),
            (90, "1m 30s"),
            (59, "59s"),
        ] {
            assert_eq!(age(at(seconds), at(0)), shown);
        }
        assert_eq!(age(at(0), at(9)), "0s");
    }
}
