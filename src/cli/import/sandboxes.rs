//! Records the addresses of this node's running sandboxes, as if hereabouts had given them.
//!
//! The record is the one that an ADD would have written: DEL, CHECK, GC, sweep and a repeated ADD
//! need to know nothing of imports.

use super::cached::Cached;
use super::hold::{APART, Given, Interface, held_by, hold, is_incomplete};
use super::new_networks::NewNetworks;
use super::report::{Outcome, Row};
use crate::cli::{locate::Located, records};
#[cfg(feature = "kube")]
use crate::ipam::Allocation;
use crate::ipam::{Attachment, HeldAddress, NodeName, Record, Scope};
use crate::json::Json;
use crate::retry::Deadline;
use crate::store::Filter;
#[cfg(feature = "kube")]
use crate::store::Store;
use crate::store::upkeep::Upkeep;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Records what sandboxes hold.
pub(super) struct Recorder<'a> {
    located: &'a Located<'a>,
    node: &'a NodeName,
    networks: &'a NewNetworks<'a>,
    store: Box<dyn Upkeep>,
    is_dry_run: bool,
    rows: Vec<Row>,
    /// In a dry run: the rows whose outcome depends on who holds the address, and for whom it is
    /// wanted.
    open: HashMap<(Scope, IpAddr), Vec<(usize, Attachment)>>,
    /// In a dry run: what would be free by then.
    free: HashSet<(Scope, IpAddr)>,
}

/// The addresses of one sandbox's interface.
pub(super) struct Wanted<'a> {
    /// What the runtime knows.
    pub(super) cached: &'a Cached,
    /// The plugin configuration whose `ipam` gave them.
    pub(super) configuration: &'a Json,
    /// The addresses.
    pub(super) addresses: &'a [Given],
    /// Where the other plugin has noted them.
    pub(super) source: &'a dyn Fn(IpAddr) -> String,
}

impl<'a> Recorder<'a> {
    /// Opens the store.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub(super) fn open(
        located: &'a Located<'a>,
        node: &'a NodeName,
        networks: &'a NewNetworks<'a>,
        is_dry_run: bool,
    ) -> anyhow::Result<Self> {
        let store = located.store_of(node)?;
        let (rows, open, free) = (Vec::new(), HashMap::new(), HashSet::new());
        Ok(Self { located, node, networks, store, is_dry_run, rows, open, free })
    }

    /// Records the addresses of a sandbox's interface, and adds a row for each.
    ///
    /// # Errors
    /// The store failed. What was recorded stays, and the call may be repeated.
    pub(super) fn record(&mut self, wanted: &Wanted<'_>) -> anyhow::Result<()> {
        let cached = wanted.cached;
        let Some(path) = cached.netns.as_deref() else {
            let reason = format!("{} names no network namespace", cached.path.display());
            self.left(wanted, &reason, "delete the pod, so that it is created again");
            return Ok(());
        };
        let seen = self.located.machine.see(Some(path));
        if seen.netns.is_none() {
            self.add(wanted, "", |_| Outcome::Gone("its sandbox is gone".to_owned()));
            return Ok(());
        }
        let network = match self.networks.find(&cached.network, wanted.configuration) {
            Ok(network) => network,
            Err(reason) => {
                let reason = format!("hereabouts cannot serve its network: {reason}");
                let hint = "correct the network, and pass its file with --network";
                self.left(wanted, &reason, hint);
                return Ok(());
            }
        };
        if network.slicing.is_some() {
            // Under the name of Whereabouts, these may be addresses of hereabouts.
            let noted = self.store.noted(&self.attachment(cached)).unwrap_or_default();
            let is_ours = |given: &Given| {
                noted
                    .iter()
                    .any(|held| (held.address, &held.scope) == (given.address, &network.scope))
            };
            if wanted.addresses.iter().all(is_ours) {
                self.add(wanted, network.scope.name().unwrap_or_default(), |_| Outcome::Known);
                return Ok(());
            }
            let reason =
                "its network has node_slice_size, and such networks cannot be imported yet";
            self.left(wanted, reason, "delete the pods of this network before the move");
            return Ok(());
        }
        if !network.pools.is_empty() {
            let reason = "its network takes its addresses from pools";
            let hint = "import before the network names pools, with the scope of the pool as its network_name";
            self.left(wanted, reason, hint);
            return Ok(());
        }
        let scope = network.scope.clone();
        let outcomes = match self.is_dry_run {
            true => {
                self.try_later(wanted, &scope);
                vec![Outcome::New; wanted.addresses.len()]
            }
            false => {
                let attachment = self.attachment(cached);
                let record = self.located.machine.record(attachment, seen);
                let interface = Interface {
                    scope: &scope,
                    record: Record { pod: cached.pod.clone(), ..record },
                    addresses: wanted.addresses,
                };
                let deadline = Deadline::after(records::PATIENCE);
                hold(self.store.as_ref(), &interface, &|| self.still_runs(cached), deadline)?
            }
        };
        let mut outcomes = outcomes.into_iter();
        self.add(wanted, scope.name().unwrap_or_default(), |_| {
            outcomes.next().unwrap_or(Outcome::New)
        });
        Ok(())
    }

    /// Notes what a dry run has to compare with the store at its end.
    fn try_later(&mut self, wanted: &Wanted<'_>, scope: &Scope) {
        let attachment = self.attachment(wanted.cached);
        for (at, given) in (self.rows.len()..).zip(wanted.addresses) {
            let key = (scope.clone(), given.address);
            self.open.entry(key).or_default().push((at, attachment.clone()));
        }
    }

    /// Returns all rows. A dry run reads who holds which address first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn finish(mut self) -> anyhow::Result<Vec<Row>> {
        if !self.open.is_empty() {
            let (rows, open) = (&mut self.rows, &mut self.open);
            let free = &self.free;
            records::each(self.store.as_ref(), &Filter::default(), &mut |held| {
                if free.contains(&(held.scope().clone(), held.address())) {
                    return Ok(());
                }
                let wanted = open.remove(&(held.scope().clone(), held.address()));
                for (at, attachment) in wanted.unwrap_or_default() {
                    rows[at].outcome = tried(&held, &attachment);
                }
                Ok(())
            })?;
            for wanted in self.open.into_values().filter(|wanted| 1 < wanted.len()) {
                // The first one would get it.
                for (at, _) in &wanted[1..] {
                    self.rows[*at].outcome = two_sandboxes();
                }
            }
        }
        Ok(self.rows)
    }

    /// Returns the store.
    #[cfg(feature = "kube")]
    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Lets a dry run pass over these records.
    #[cfg(feature = "kube")]
    pub(super) fn assume_free(&mut self, ended: &[Allocation]) {
        self.free.extend(ended.iter().map(|held| (held.scope.clone(), held.address)));
    }

    /// Returns the records that were imported for this node from elsewhere, and that are not
    /// complete.
    ///
    /// # Errors
    /// The store cannot be read.
    #[cfg(feature = "kube")]
    pub(super) fn incomplete(&self) -> anyhow::Result<Vec<Allocation>> {
        let filter = Filter { node: Some(self.node.clone()), ..Filter::default() };
        let mut found = Vec::new();
        records::each(self.store.as_ref(), &filter, &mut |held| {
            found.extend(held.of_attachment().filter(|held| is_incomplete(&held.record)));
            Ok(())
        })?;
        Ok(found)
    }

    fn attachment(&self, cached: &Cached) -> Attachment {
        Attachment {
            node: self.node.clone(),
            network: cached.network.clone(),
            container: cached.container.clone(),
            ifname: cached.ifname.clone(),
        }
    }

    fn still_runs(&self, cached: &Cached) -> bool {
        cached.path.exists() && self.located.machine.see(cached.netns.as_deref()).netns.is_some()
    }

    /// Adds rows of addresses that stay unrecorded.
    fn left(&mut self, wanted: &Wanted<'_>, reason: &str, hint: &str) {
        let left = Outcome::Left { reason: reason.to_owned(), hint: hint.to_owned() };
        self.add(wanted, "", |_| left.clone());
    }

    fn add(
        &mut self,
        wanted: &Wanted<'_>,
        scope: &str,
        mut outcome: impl FnMut(&Given) -> Outcome,
    ) {
        let cached = wanted.cached;
        let row = |given: &Given| Row {
            address: given.address.to_string(),
            scope: scope.to_owned(),
            network: Some(cached.network.to_string()),
            pod: cached.pod.as_ref().map(ToString::to_string),
            container: Some(cached.container.to_string()),
            interface: Some(cached.ifname.to_string()),
            node: Some(self.node.to_string()),
            source: (wanted.source)(given.address),
            outcome: outcome(given),
            notes: Vec::new(),
            record: None,
        };
        let rows: Vec<Row> = wanted.addresses.iter().map(row).collect();
        self.rows.extend(rows);
    }
}

fn two_sandboxes() -> Outcome {
    Outcome::Left {
        reason: "another sandbox of this node has it, too".to_owned(),
        hint: APART.to_owned(),
    }
}

/// Returns what a recording would do with an address that has a holder.
fn tried(held: &HeldAddress, attachment: &Attachment) -> Outcome {
    match held {
        HeldAddress::Attachment(known) if known.record.attachment == *attachment => {
            if is_incomplete(&known.record) { Outcome::Completed } else { Outcome::Known }
        }
        HeldAddress::Attachment(_) | HeldAddress::Claim(_) => held_by(Some(held)),
    }
}
