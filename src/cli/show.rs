//! `show`: prints the record of an address, in every scope that holds it, and for whom networks
//! reserve the address.

use super::reserved_for::{self, ReservedFor};
use super::{Format, ShowArgs, StoreArgs, locate, output, records};
use crate::environment::Environment;
use crate::ipam::{Allocation, Life};
use crate::store::Filter;
use anyhow::bail;
use serde_json::Value;

pub(super) fn show(
    environment: &Environment,
    store: &StoreArgs,
    args: &ShowArgs,
) -> anyhow::Result<()> {
    // This comes first, so that a mistake in the file is reported before any store is read.
    let reserved = match &args.network {
        Some(file) => reserved_for::find(environment, file, args.address)?,
        None => Vec::new(),
    };
    let located = locate::locate(environment, store)?;
    let filter = Filter { address: Some(args.address), ..Filter::default() };
    let mut found = Vec::new();
    let unreadable = records::each(located.store()?.as_ref(), &filter, &mut |allocation| {
        found.push(allocation);
        Ok(())
    })?;
    if found.is_empty() && 0 < unreadable {
        bail!("this address is taken, but its record is unreadable: {}", args.address);
    }
    if found.is_empty() {
        let by: Vec<String> = reserved.iter().map(ReservedFor::text).collect();
        match by.is_empty() {
            true => bail!("this address is not held: {}", args.address),
            false => bail!(
                "this address is not held: {}; it is reserved for {}",
                args.address,
                by.join(" and for ")
            ),
        }
    }
    let of_scope = |allocation: &Allocation| -> Vec<&ReservedFor> {
        reserved.iter().filter(|entry| entry.is_in(&allocation.scope)).collect()
    };
    if args.output == Format::Json {
        let documents = found.iter().map(|allocation| {
            let mut document = output::allocation(allocation);
            if args.network.is_some() {
                let entries = of_scope(allocation).into_iter();
                document["reservedFor"] = entries.map(ReservedFor::document).collect();
            }
            document
        });
        return output::print_json(&Value::Array(documents.collect()));
    }
    let pages: Vec<String> =
        found.iter().map(|allocation| page(allocation, &of_scope(allocation), &located)).collect();
    output::print(&pages.join("\n"))
}

fn page(
    allocation: &Allocation,
    reserved: &[&ReservedFor],
    located: &locate::Located<'_>,
) -> String {
    let held = &allocation.record;
    let attachment = &held.attachment;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let of_this_node = located.node.as_ref() == Some(&attachment.node);
    let alive = if !of_this_node {
        format!("unknown, only node {} can tell", attachment.node)
    } else {
        match located.life(held) {
            Life::Alive => "yes".to_owned(),
            Life::Doubted(doubt) => format!("in doubt: {doubt}"),
            Life::Dead => "no, its sandbox is gone".to_owned(),
        }
    };
    let mut rows = vec![
        ("Address", format!("{}/{}", allocation.address, held.prefix)),
        ("Gateway", or_dash(held.gateway.map(|gateway| gateway.to_string()))),
        ("Scope", output::printable(&allocation.scope.to_string())),
        ("Network", attachment.network.to_string()),
        ("Pod", or_dash(held.pod.as_ref().map(|pod| output::printable(&pod.to_string())))),
        (
            "Pod UID",
            or_dash(held.pod.as_ref().and_then(|pod| pod.uid.as_deref()).map(output::printable)),
        ),
        ("Interface", output::printable(attachment.ifname.as_str())),
        ("Container", attachment.container.to_string()),
        ("Node", attachment.node.to_string()),
        (
            "Netns",
            or_dash(
                held.netns.as_ref().map(|netns| output::printable(&netns.path.to_string_lossy())),
            ),
        ),
        ("Alive", alive),
        ("Since", output::since(allocation)),
        ("Source", output::source(held.source).to_owned()),
    ];
    rows.extend(reserved.iter().map(|entry| ("Reserved", format!("for {}", entry.text()))));
    rows.iter().map(|(name, value)| format!("{:<11}{value}\n", format!("{name}:"))).collect()
}
