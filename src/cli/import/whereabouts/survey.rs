//! Everything that an import reads of a cluster, and what it decides about each address.

use super::found::Decision;
use super::networks::Definition;
use super::{cluster, decide, write};
use crate::addr::Subnet;
use crate::cli::cluster_lists::Cluster;
use crate::cli::import::report::{Outcome, Row};
use crate::cli::locate::Located;
use crate::cli::output;
use crate::environment::Environment;
use crate::whereabouts::range::PoolRange;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

/// See the module.
pub(in crate::cli) struct Survey {
    facts: super::facts::Facts,
    decisions: Vec<Decision>,
}

/// A network, as far as a move needs it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct SurveyedNetwork {
    /// `namespace/name` of the NetworkAttachmentDefinition.
    pub(in crate::cli) name: String,
    /// `network_name`, which may be empty.
    pub(in crate::cli) scope: String,
    pub(in crate::cli) has_slices: bool,
    /// Whether `enable_overlapping_ranges` is false.
    pub(in crate::cli) may_repeat: bool,
    /// Why it, or a part of it, is not known.
    pub(in crate::cli) mistake: Option<String>,
    pub(in crate::cli) subnets: Vec<Subnet>,
}

/// A pool of Whereabouts.
pub(in crate::cli) struct SurveyedPool<'s> {
    pub(in crate::cli) namespace: &'s str,
    pub(in crate::cli) name: &'s str,
    /// The range as it is written.
    pub(in crate::cli) text: &'s str,
    /// `None` if its range is not readable.
    pub(in crate::cli) range: Option<PoolRange>,
}

/// An entry that a node of hereabouts wrote.
pub(in crate::cli) struct SurveyedEntry<'s> {
    /// The pool and the key, in words.
    pub(in crate::cli) place: String,
    pub(in crate::cli) namespace: &'s str,
    pub(in crate::cli) pool: &'s str,
    pub(in crate::cli) key: &'s str,
    pub(in crate::cli) pod: &'s str,
    /// The uid of the IPAllocation.
    pub(in crate::cli) uid: &'s str,
}

impl Survey {
    /// Reads everything, and decides.
    ///
    /// # Errors
    /// Something could not be read completely.
    pub(in crate::cli) fn read(api: &Cluster) -> anyhow::Result<Self> {
        let mut facts = cluster::read(api)?;
        let mut decisions = decide::decide(&facts);
        if decisions.iter().any(Decision::is_uncertain) {
            drop(decisions);
            let now = cluster::noted(api)?;
            cluster::settle(&mut facts, now);
            decisions = decide::decide(&facts);
        }
        Ok(Self { facts, decisions })
    }

    /// Returns how much was read.
    pub(in crate::cli) fn in_words(&self) -> String {
        format!(
            "read {} of {}, {}, and the pods, nodes and networks that use them",
            output::count(self.facts.entries.len(), "entry"),
            output::count(self.facts.pools.len(), "IPPool"),
            output::count(self.facts.reservations.len(), "reservation"),
        )
    }

    /// Records what is to be recorded.
    ///
    /// # Errors
    /// The API server cannot be asked, or refuses. A repeat is safe.
    pub(in crate::cli) fn write(
        &mut self,
        environment: &Environment,
        located: &Located<'_>,
        kubeconfig: &Path,
    ) -> anyhow::Result<()> {
        write::write(environment, located, kubeconfig, &mut self.decisions)
    }

    pub(in crate::cli) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.decisions.iter().map(|decision| &decision.row)
    }

    pub(in crate::cli) fn into_rows(self) -> Vec<Row> {
        self.decisions.into_iter().map(|decision| decision.row).collect()
    }

    /// Returns the networks of Whereabouts, and those that cannot be read, by name.
    pub(in crate::cli) fn networks(&self) -> Vec<SurveyedNetwork> {
        let mut networks: Vec<SurveyedNetwork> =
            self.facts.networks.iter().filter_map(|(name, found)| network(name, found)).collect();
        networks.sort_by(|one, other| one.name.cmp(&other.name));
        networks
    }

    pub(in crate::cli) fn pools(&self) -> impl Iterator<Item = SurveyedPool<'_>> {
        self.facts.pools.iter().map(|pool| SurveyedPool {
            namespace: &pool.namespace,
            name: &pool.name,
            text: &pool.text,
            range: pool.range,
        })
    }

    /// Returns what nodes of hereabouts have written.
    pub(in crate::cli) fn ours(&self) -> impl Iterator<Item = SurveyedEntry<'_>> {
        self.facts.ours.iter().filter_map(|ours| {
            let pool = self.facts.pools.get(ours.pool)?;
            Some(SurveyedEntry {
                place: format!("IPPool {}/{} key {}", pool.namespace, pool.name, ours.key),
                namespace: &pool.namespace,
                pool: &pool.name,
                key: &ours.key,
                pod: &ours.pod,
                uid: &ours.uid,
            })
        })
    }

    /// Returns the entries of pods that are gone, with the container ID in place of a uid, and the
    /// scope and the address.
    pub(in crate::cli) fn gone(&self) -> Vec<(SurveyedEntry<'_>, &str, IpAddr)> {
        let is_gone = |row: &&Row| matches!(row.outcome, Outcome::Gone(_));
        let gone: HashMap<&str, &str> = self
            .rows()
            .filter(is_gone)
            .flat_map(|row| row.source.split(", ").map(|place| (place, row.scope.as_str())))
            .collect();
        let entries = self.facts.entries.iter().filter_map(|entry| {
            let place = self.facts.source(entry);
            let scope = *gone.get(place.as_str())?;
            let (pool, holder) = (self.facts.pools.get(entry.pool)?, entry.holder.as_ref()?);
            let found = SurveyedEntry {
                place,
                namespace: &pool.namespace,
                pool: &pool.name,
                key: &entry.key,
                pod: &holder.pod,
                uid: &holder.container,
            };
            Some((found, scope, entry.address.ok()?))
        });
        entries.collect()
    }

    /// Returns the reservations that nodes of hereabouts have written: namespace, name, and the uid of
    /// the IPAllocation.
    pub(in crate::cli) fn our_reservations(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.facts.our_reservations.iter().map(|one| (&*one.namespace, &*one.name, &*one.uid))
    }
}

fn network(name: &str, found: &Definition) -> Option<SurveyedNetwork> {
    let unread = |mistake: &str| SurveyedNetwork {
        name: name.to_owned(),
        scope: String::new(),
        has_slices: false,
        may_repeat: false,
        mistake: Some(mistake.to_owned()),
        subnets: Vec::new(),
    };
    match found {
        Definition::Other(_) => None,
        Definition::Unknown(why) => Some(unread(why)),
        Definition::Known(known) if known.has_pools => None,
        Definition::Known(known) => {
            let subnets = known.ranges.iter();
            let subnets = subnets
                .filter_map(|range| Subnet::new(range.bounds.first_address(), range.length).ok());
            Some(SurveyedNetwork {
                name: name.to_owned(),
                scope: known.network_name.as_ref().to_owned(),
                has_slices: known.has_slices,
                may_repeat: known.may_repeat,
                mistake: known.mistake.clone(),
                subnets: subnets.collect(),
            })
        }
    }
}
