//! `list`: who holds what.

use super::{Format, ListArgs, Lookup, StoreArgs, Usage, locate, output};
use crate::ipam::{Allocation, NetworkName, NodeName};
use crate::store::{Filter, Store, StoreError};
use std::io::Write;
use std::time::Duration;

/// How long a command waits for a lock.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn list(lookup: Lookup<'_>, store: &StoreArgs, args: &ListArgs) -> anyhow::Result<()> {
    let filter = Filter {
        node: args.node.as_deref().map(parse_node).transpose()?,
        network: args.network.as_deref().map(parse_network).transpose()?,
        ..Filter::default()
    };
    let store = locate::locate(lookup, store)?.store()?;
    let mut damaged = 0;
    let mut found = Vec::new();
    // JSON is written as it is read: a million records need no memory.
    let mut json = (args.output == Format::Json).then(|| std::io::BufWriter::new(std::io::stdout().lock()));
    let mut count = 0usize;
    if let Some(out) = &mut json {
        out.write_all(b"[")?;
    }
    for item in listing(&store, &filter)? {
        match item {
            Ok(allocation) if args.pod.as_deref().is_none_or(|pod| is_of_pod(&allocation, pod)) => {
                count += 1;
                match &mut json {
                    Some(out) => {
                        out.write_all(if count == 1 { b"\n  " } else { b",\n  " })?;
                        serde_json::to_writer(&mut *out, &output::allocation(&allocation))?;
                    }
                    None => found.push(allocation),
                }
            }
            Ok(_) => {}
            Err(error) => {
                damaged += 1;
                output::say(&format!("warning: {error}"));
            }
        }
    }
    match json {
        Some(mut out) => {
            out.write_all(if count == 0 { b"]\n" } else { b"\n]\n" })?;
            out.flush()?;
        }
        None => print_table(found)?,
    }
    if 0 < damaged {
        anyhow::bail!("{damaged} records could not be read");
    }
    Ok(())
}

fn print_table(mut found: Vec<Allocation>) -> anyhow::Result<()> {
    if found.is_empty() {
        output::say("no address is held");
        return Ok(());
    }
    found.sort_by(|a, b| (&a.scope, a.address).cmp(&(&b.scope, b.address)));
    let scoped = found.iter().any(|allocation| allocation.scope.name().is_some());
    let mut headings = vec!["ADDRESS", "NETWORK", "POD", "INTERFACE", "CONTAINER", "NODE", "SINCE"];
    if scoped {
        headings.insert(1, "SCOPE");
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|allocation| {
            let attachment = &allocation.held.attachment;
            let mut row = vec![
                format!("{}/{}", allocation.address, allocation.held.prefix),
                attachment.network.to_string(),
                allocation.held.pod.as_ref().map_or_else(|| "-".to_owned(), |pod| output::plain(&pod.to_string())),
                output::plain(attachment.ifname.as_str()),
                shortened(attachment.container.as_str()),
                attachment.node.to_string(),
                output::since(allocation),
            ];
            if scoped {
                row.insert(1, output::plain(allocation.scope.name().unwrap_or("-")));
            }
            row
        })
        .collect();
    output::print(&output::table(&headings, &rows))
}

/// Container ids are long and tell themselves apart early; `show` and JSON
/// have the whole.
fn shortened(id: &str) -> String {
    match id.get(..20) {
        Some(head) if 24 < id.len() => format!("{head}..."),
        _ => id.to_owned(),
    }
}

/// The store's listing; a store that is not there yet holds nothing.
pub(super) fn listing<'s>(store: &'s dyn Store, filter: &Filter) -> anyhow::Result<crate::store::Listing<'s>> {
    match store.list(filter) {
        Err(error @ StoreError::Absent { .. }) => {
            output::say(&error.to_string());
            Ok(Box::new(std::iter::empty()))
        }
        listing => Ok(listing?),
    }
}

pub(super) fn is_of_pod(allocation: &Allocation, pod: &str) -> bool {
    allocation.held.pod.as_ref().is_some_and(|held| held.to_string() == pod || (!pod.contains('/') && held.name == pod))
}

pub(super) fn parse_node(text: &str) -> anyhow::Result<NodeName> {
    NodeName::parse(text).map_err(|_| Usage(format!("--node: expected a node name: {text}")).into())
}

pub(super) fn parse_network(text: &str) -> anyhow::Result<NetworkName> {
    NetworkName::parse(text).map_err(|_| Usage(format!("--network: expected a network name: {text}")).into())
}
