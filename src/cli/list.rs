//! `list`: shows who holds which address. A cluster may hold more records than fit into memory. Few
//! rows are sorted; many rows are printed while they are read.

use super::output::{self, Columns};
use super::published::{self, Coverage, PublishedAddress};
use super::{Format, ListArgs, StoreArgs, debts, locate, pools, records, selectors, set_aside};
use crate::config::Pool;
use crate::environment::Environment;
use crate::ipam::{HeldAddress, Scope};
use crate::plugin::debts::Debt;
use crate::plugin::set_aside::Aside;
use crate::store::Filter;
use crate::store::upkeep::Upkeep;
use std::io::Write;
use std::net::IpAddr;
use std::time::SystemTime;

/// The largest number of rows that are sorted. Until then, each row takes half a kilobyte of
/// memory.
const SORTED: usize = 10_000;

const HEADINGS: [&str; 9] =
    ["ADDRESS", "SCOPE", "NETWORK", "POD", "INTERFACE", "CONTAINER", "NODE", "SINCE", "AS OF"];
/// The index of the scope column. It is shown if an address is in a named scope, or if one may
/// still come.
const SCOPE: usize = 1;
/// The index of the column with the age of what a node has published. It is shown if there is such
/// an address, or if one may still come.
const AS_OF: usize = 8;

pub(super) fn list(
    environment: &Environment,
    store: &StoreArgs,
    args: &ListArgs,
) -> anyhow::Result<()> {
    let mut filter = Filter {
        node: args.node.as_deref().map(selectors::parse_node).transpose()?,
        network: args.network.as_deref().map(selectors::parse_network).transpose()?,
        pod: args.pod.as_deref().map(selectors::parse_pod).transpose()?,
        claim: args.claim.as_deref().map(selectors::parse_claim).transpose()?,
        ..Filter::default()
    };
    let located = locate::locate(environment, store)?;
    let pools = pools::named(&located, &args.pool)?;
    if let [pool] = pools.as_slice() {
        filter.scope = Some(pool.scope.clone());
    }
    let mut asides = set_aside::matching(&located, &filter);
    let has = |pool: &Pool, aside: &Aside| {
        pool.scope == aside.scope && pools::contains(pool, aside.address)
    };
    asides.retain(|aside| pools.is_empty() || pools.iter().any(|pool| has(pool, aside)));
    if args.set_aside {
        return set_aside::print(&asides, args.output);
    }
    let only = Some(located.place()).filter(|_| !args.debts);
    let found = if args.debts { debts::found(&located)? } else { debts::beside(&located) };
    let owed = debts::matching(found, &filter, only.as_ref());
    if args.debts {
        return debts::print(&owed, args.output);
    }
    let store = located.store()?;
    let stdout = output::buffered();
    let selected = Selected { filter, pools, now: located.machine.now };
    let (unreadable, coverage) = match args.output {
        Format::Json => write_json(stdout, store.as_ref(), &selected, &owed)?,
        Format::Table => {
            let mut rows = Rows::new(stdout, SORTED);
            let read = selected.each(store.as_ref(), &mut |found| rows.add(found));
            let read = match read {
                Err(error) if rows.is_empty() => return Err(error),
                read => read,
            };
            let unreadable = read.as_ref().map_or(0, |(unreadable, _)| *unreadable);
            let is_filtered = args.node.is_some() || args.network.is_some() || args.pod.is_some();
            let is_filtered = is_filtered || args.claim.is_some() || !args.pool.is_empty();
            rows.end(match unreadable {
                0 if is_filtered => "no address matches",
                0 => "no address is held",
                _ => "no address is readable",
            })?;
            // The address of a debt is not known here.
            if !owed.is_empty() && args.pool.is_empty() {
                output::print("\n")?;
                debts::print(&owed, args.output)?;
            }
            set_aside::append(&asides)?;
            records::complete(read)?
        }
    };
    coverage.say();
    if 0 < unreadable {
        anyhow::bail!("{} could not be read", output::count(unreadable, "record"));
    }
    Ok(())
}

/// What is listed.
struct Selected {
    filter: Filter,
    /// Only addresses of these pools. If there is none, all addresses.
    pools: Vec<Pool>,
    now: SystemTime,
}

/// An address that is shown.
#[derive(Clone, Copy)]
enum Shown<'s> {
    /// The store has a record of it.
    Recorded(&'s HeldAddress),
    /// It is in a slice of another node, which has published it.
    Published(&'s PublishedAddress<'s>),
}

impl Selected {
    /// Visits the selected addresses: first the records, see [`records::each`], then what nodes
    /// publish.
    fn each(
        &self,
        store: &dyn Upkeep,
        visit: &mut dyn FnMut(Shown<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<(usize, Coverage)> {
        let has = |scope: &Scope, address: IpAddr| {
            self.pools.is_empty() || self.pools.iter().any(|pool| pools::has(pool, scope, address))
        };
        let unreadable = records::each(store, &self.filter, &mut |held| match has(
            held.scope(),
            held.address(),
        ) {
            true => visit(Shown::Recorded(&held)),
            false => Ok(()),
        })?;
        let coverage = published::each(store, &self.filter, self.now, &mut |found| match has(
            &found.scope(),
            found.address,
        ) {
            true => visit(Shown::Published(found)),
            false => Ok(()),
        })?;
        Ok((unreadable, coverage))
    }
}

/// Writes one JSON document while the store is read. Nothing is written if the read cannot begin. If
/// it fails later, the document has what was read before.
fn write_json(
    mut out: impl Write,
    store: &dyn Upkeep,
    selected: &Selected,
    owed: &[Debt],
) -> anyhow::Result<(usize, Coverage)> {
    let mut first = true;
    let read = selected.each(store, &mut |shown| {
        out.write_all(if first { b"[\n  " } else { b",\n  " })?;
        first = false;
        let mut document = match &shown {
            Shown::Recorded(held) => output::held(held),
            Shown::Published(found) => found.document(),
        };
        let is_owed = |debt: &&Debt| match &shown {
            Shown::Recorded(HeldAddress::Attachment(held)) => {
                debt.attachment == held.record.attachment
            }
            Shown::Recorded(HeldAddress::Claim(_)) | Shown::Published(_) => false,
        };
        if let Some(debt) = owed.iter().find(is_owed) {
            document["debt"] = debts::document(debt);
        }
        // Converted to an output error, so that a reader that stops reading is not a failure.
        Ok(serde_json::to_writer(&mut out, &document).map_err(std::io::Error::from)?)
    });
    if first && read.is_err() {
        return read;
    }
    out.write_all(if first { b"[]\n" } else { b"\n]\n" })?;
    out.flush()?;
    records::complete(read)
}

/// A table that is printed in the course of reading.
struct Rows<W: Write> {
    out: W,
    /// The rows so far, as long as they are few enough to be sorted.
    kept: Vec<(Scope, IpAddr, [String; 9])>,
    most: usize,
    /// The widths of the columns, as soon as there are too many rows.
    columns: Option<Columns>,
}

impl<W: Write> Rows<W> {
    fn new(out: W, most: usize) -> Self {
        Self { out, kept: Vec::new(), most, columns: None }
    }

    /// Returns whether no row was added.
    const fn is_empty(&self) -> bool {
        self.columns.is_none() && self.kept.is_empty()
    }

    fn add(&mut self, shown: Shown<'_>) -> anyhow::Result<()> {
        let (scope, address, cells) = match shown {
            Shown::Recorded(held) => (held.scope().clone(), held.address(), cells(held)),
            Shown::Published(found) => (found.scope(), found.address, cells_of_published(found)),
        };
        if let Some(columns) = &self.columns {
            return Ok(self.out.write_all(columns.line(&cells).as_bytes())?);
        }
        self.kept.push((scope, address, cells));
        if self.most < self.kept.len() {
            output::say(&format!(
                "more than {} addresses are held: they are not sorted",
                self.most
            ));
            // A following row may be in a named scope, or be published, or be wider.
            self.columns = Some(self.write_kept(&[])?);
        }
        Ok(())
    }

    /// Prints the rest. Prints `nothing` if there are no rows.
    fn end(mut self, nothing: &str) -> anyhow::Result<()> {
        if self.is_empty() {
            output::say(nothing);
            return Ok(());
        }
        if self.columns.is_none() {
            self.kept.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
            let unscoped = self.kept.iter().all(|(scope, ..)| scope.name().is_none());
            let recorded = self.kept.iter().all(|(.., cells)| cells[AS_OF] == "-");
            let hidden = [(unscoped, SCOPE), (recorded, AS_OF)];
            let hidden: Vec<usize> =
                hidden.iter().filter_map(|(is, column)| is.then_some(*column)).collect();
            self.write_kept(&hidden)?;
        }
        Ok(self.out.flush()?)
    }

    fn write_kept(&mut self, hidden: &[usize]) -> anyhow::Result<Columns> {
        let kept = std::mem::take(&mut self.kept);
        let mut columns = Columns::fit(&HEADINGS, kept.iter().map(|(.., cells)| &cells[..]));
        hidden.iter().for_each(|column| columns.hide(*column));
        self.out.write_all(columns.line(&HEADINGS).as_bytes())?;
        for (.., cells) in &kept {
            self.out.write_all(columns.line(cells).as_bytes())?;
        }
        Ok(columns)
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// A node publishes neither the prefix length nor the container.
fn cells_of_published(found: &PublishedAddress<'_>) -> [String; 9] {
    [
        found.address.to_string(),
        output::printable(found.scope().name().unwrap_or("-")),
        output::printable(&found.holder.network),
        found.pod().unwrap_or_else(dash),
        output::printable(&found.holder.ifname),
        dash(),
        output::printable(&found.slice.node),
        output::time(found.holder.since),
        found.as_of(),
    ]
}

fn cells(held: &HeldAddress) -> [String; 9] {
    let allocation = match held {
        HeldAddress::Attachment(allocation) => allocation,
        // The kind of the claim shows that it is not a pod.
        HeldAddress::Claim(held) => {
            return [
                format!("{}/{}", held.address, held.prefix),
                output::printable(held.scope.name().unwrap_or("-")),
                dash(),
                output::printable(&held.claim.to_string()),
                dash(),
                dash(),
                dash(),
                output::time(held.since),
                dash(),
            ];
        }
    };
    let attachment = &allocation.record.attachment;
    [
        format!("{}/{}", allocation.address, allocation.record.prefix),
        output::printable(allocation.scope.name().unwrap_or("-")),
        attachment.network.to_string(),
        allocation.record.pod.as_ref().map_or_else(dash, |pod| output::printable(&pod.to_string())),
        output::printable(attachment.ifname.as_str()),
        records::shortened(attachment.container.as_str()),
        attachment.node.to_string(),
        output::since(allocation),
        dash(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::{Allocation, Attachment, ContainerId, IfName, Part, Record, Source};
    use crate::ipam::{NetworkName, NodeName};

    fn allocation(scope: &str, address: &str) -> HeldAddress {
        let attachment = Attachment {
            node: NodeName::parse("n1").unwrap(),
            network: NetworkName::parse("net1").unwrap(),
            container: ContainerId::parse("c1").unwrap(),
            ifname: IfName::parse("eth0").unwrap(),
        };
        let held = Record {
            attachment,
            pod: None,
            netns: None,
            view: None,
            boot_id: String::new(),
            since: std::time::UNIX_EPOCH,
            source: Source::Dynamic,
            part: Part { index: 0, of: 1 },
            prefix: 24,
            gateway: None,
        };
        Allocation {
            scope: Scope::parse(scope).unwrap(),
            address: address.parse().unwrap(),
            record: held,
            version: None,
        }
        .into()
    }

    /// Returns the first two columns of the printed table.
    fn print(most: usize, held: &[(&str, &str)]) -> Vec<String> {
        let mut out = Vec::new();
        let mut rows = Rows::new(&mut out, most);
        for (scope, address) in held {
            rows.add(Shown::Recorded(&allocation(scope, address))).unwrap();
        }
        rows.end("nothing").unwrap();
        let lines = String::from_utf8(out).unwrap();
        lines
            .lines()
            .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn a_few_rows_are_in_order_and_have_a_scope_where_one_is() {
        let few = [("", "10.0.0.10"), ("", "10.0.0.2"), ("", "10.0.0.1")];
        assert_eq!(
            print(3, &few),
            ["ADDRESS NETWORK", "10.0.0.1/24 net1", "10.0.0.2/24 net1", "10.0.0.10/24 net1"]
        );
        assert_eq!(
            print(3, &[("b", "10.0.0.1"), ("", "10.0.0.2")]),
            ["ADDRESS SCOPE", "10.0.0.2/24 -", "10.0.0.1/24 b"]
        );
    }

    #[test]
    fn many_rows_come_as_they_are_read_and_none_is_kept() {
        let many = [("", "10.0.0.10"), ("", "10.0.0.2"), ("", "10.0.0.1"), ("b", "10.0.0.1")];
        assert_eq!(
            print(2, &many),
            ["ADDRESS SCOPE", "10.0.0.10/24 -", "10.0.0.2/24 -", "10.0.0.1/24 -", "10.0.0.1/24 b"]
        );
        let mut rows = Rows::new(std::io::sink(), 2);
        many.iter().for_each(|(scope, address)| {
            rows.add(Shown::Recorded(&allocation(scope, address))).unwrap()
        });
        assert!(rows.kept.is_empty());
    }
}
