//! Reservations that bind one network or pool, while another one of the same scope gives the
//! addresses to any pod.

use super::outline::Outline;
use super::party::{Names, Note, Party};
use crate::addr::{Blocks, Range};
use crate::cli::output;
use std::collections::{BTreeMap, BTreeSet};

/// The maximum number of reservations of a scope that are compared with other networks.
const MOST_RESERVED: usize = 100;

/// The reservations and the dynamic addresses of each scope.
#[derive(Default)]
pub(super) struct Reserved {
    scopes: BTreeMap<String, Scope>,
    /// The pools that were added.
    pools: BTreeSet<String>,
}

#[derive(Default)]
struct Scope {
    reserved: Vec<Entry>,
    dynamic: Vec<Given>,
}

/// A reservation: the addresses, and the pods that they are for.
struct Entry {
    range: Range,
    by: Party,
    /// The pool that serves the network, or the pool itself.
    pool: Option<String>,
    owner: String,
}

/// Addresses that any pod may get.
struct Given {
    range: Range,
    by: Party,
    pool: Option<String>,
}

impl Given {
    /// Returns whether the reservation should bind this network or pool, and does not.
    fn ignores(&self, entry: &Entry) -> bool {
        let is_of_this_pool = entry.pool.is_some() && entry.pool == self.pool;
        let is_concerned = match (&self.by, &self.pool) {
            // A pool knows nothing of the networks that name it: these are compared with one another.
            (Party::Pool(_), _) => !is_of_this_pool,
            // What a network gets from a pool is compared with other pools together with the pool.
            (Party::Network(_), Some(_)) => {
                is_of_this_pool && matches!(entry.by, Party::Network(_))
            }
            (Party::Network(_), None) => true,
        };
        is_concerned && self.by != entry.by && self.range.intersection(&entry.range).is_some()
    }
}

impl Reserved {
    /// Adds a network, a network as a pool serves it, or a pool without a network.
    pub(super) fn add(&mut self, network: Option<&str>, pool: Option<&str>, outline: &Outline) {
        let scope = self.scopes.entry(outline.scope.clone().unwrap_or_default()).or_default();
        if let Some(network) = network {
            let by = Party::Network(network.to_owned());
            scope.add(&by, pool, outline.own_reservations(), outline);
        }
        if let Some(pool) = pool
            && self.pools.insert(pool.to_owned())
        {
            let by = Party::Pool(pool.to_owned());
            scope.add(&by, Some(pool), outline.pool_reservations(), outline);
        }
    }

    /// Returns the notes that a network or pool gives out addresses that another one reserves.
    pub(super) fn notes(&self) -> Vec<Note> {
        let mut found: BTreeMap<&Party, Names> = BTreeMap::new();
        for scope in self.scopes.values() {
            let dynamic: Blocks = scope.dynamic.iter().map(|given| given.range).collect();
            let given = scope.reserved.iter().filter(|entry| dynamic.touches(&entry.range));
            for entry in given.take(MOST_RESERVED) {
                for given in scope.dynamic.iter().filter(|given| given.ignores(entry)) {
                    let addresses = output::addresses(&entry.range);
                    let reserved = format!("{addresses} for {} ({})", entry.owner, entry.by);
                    found.entry(&given.by).or_default().add(reserved);
                }
            }
        }
        let note = |(by, names): (&Party, Names)| Note {
            about: vec![by.clone()],
            words: format!(
                "{by} gives out addresses that others reserve: {}; put the reservations into both, or into their pool, or let their ranges not overlap",
                names.list()
            ),
        };
        found.into_iter().map(note).collect()
    }
}

impl Scope {
    fn add(
        &mut self,
        by: &Party,
        pool: Option<&str>,
        reserved: &[(Range, String)],
        outline: &Outline,
    ) {
        let pool = pool.map(str::to_owned);
        self.reserved.extend(reserved.iter().map(|(range, owner)| Entry {
            range: *range,
            by: by.clone(),
            pool: pool.clone(),
            owner: owner.clone(),
        }));
        let given = |range: &Range| Given { range: *range, by: by.clone(), pool: pool.clone() };
        self.dynamic.extend(outline.dynamic.iter().map(given));
    }
}
