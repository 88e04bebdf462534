//! Addresses that a pool has, and another pool, the ranges of a network or nodes, too. In one scope
//! this is safe. In two scopes, two pods may get the same address.

use super::outline::Outline;
use super::party::{Names, Note, Party};
use crate::addr::{AddrSet, Blocks, Range};
use crate::cli::output;

/// The maximum number of notes.
const MOST: usize = 50;

/// The addresses of pools, and of networks with ranges.
#[derive(Default)]
pub(super) struct Overlaps {
    all: Vec<Holder>,
    /// The podCIDRs of nodes, by the name of the node.
    pub(super) nodes: Vec<(String, Blocks)>,
}

struct Holder {
    party: Party,
    scope: Option<String>,
    addresses: Blocks,
}

impl Overlaps {
    /// Adds a network with ranges, or a pool. A pool that serves several networks is added once.
    pub(super) fn add(&mut self, network: Option<&str>, pool: Option<&str>, outline: &Outline) {
        let party = match (network, pool) {
            (_, Some(pool)) => Party::Pool(pool.to_owned()),
            (Some(network), None) => Party::Network(network.to_owned()),
            (None, None) => return,
        };
        let is_pool = matches!(party, Party::Pool(_));
        if is_pool && self.all.iter().any(|other| other.party == party) {
            return;
        }
        let addresses = outline.addresses();
        self.all.push(Holder { party, scope: outline.scope.clone(), addresses });
    }

    /// Returns whether there are pools among them.
    #[cfg(feature = "kube")]
    pub(super) fn has_pools(&self) -> bool {
        self.pools().next().is_some()
    }

    fn pools(&self) -> impl Iterator<Item = &Holder> {
        self.all.iter().filter(|holder| matches!(holder.party, Party::Pool(_)))
    }

    /// Returns a note for each pool that has addresses of another pool or network, or of nodes.
    pub(super) fn notes(&self) -> Vec<Note> {
        let mut notes: Vec<Note> = Vec::new();
        let mut more = 0_usize;
        for (about, words) in self.pairs().chain(self.with_nodes()) {
            if notes.iter().any(|note| note.words == words) {
                continue;
            }
            match notes.len() < MOST {
                true => notes.push(Note { about, words }),
                false => more += 1,
            }
        }
        if 0 < more {
            let words = format!("{more} more pairs of pools and others have the same addresses");
            notes.push(Note { about: Vec::new(), words });
        }
        notes
    }

    /// Returns what a note says about each pair with a pool.
    fn pairs(&self) -> impl Iterator<Item = (Vec<Party>, String)> {
        let pairs = self
            .all
            .iter()
            .enumerate()
            .flat_map(|(at, one)| self.all.iter().skip(at + 1).map(move |other| (one, other)));
        let is_pool = |holder: &Holder| matches!(holder.party, Party::Pool(_));
        pairs.filter(move |(one, other)| is_pool(one) || is_pool(other)).filter_map(
            |(one, other)| {
                let common = common(&one.addresses, &other.addresses)?;
                let about = vec![one.party.clone(), other.party.clone()];
                Some((about, words(one, other, &common)))
            },
        )
    }

    /// Returns what a note says about each pool that has addresses of podCIDRs.
    fn with_nodes(&self) -> impl Iterator<Item = (Vec<Party>, String)> {
        let all: Blocks = self.nodes.iter().flat_map(|(_, ranges)| ranges.ranges()).collect();
        self.pools().filter_map(move |pool| {
            let common = common(&pool.addresses, &all)?;
            let mut names = Names::default();
            let of_pool = |ranges: &Blocks| ranges.ranges().any(|one| pool.addresses.touches(&one));
            let nodes = self.nodes.iter().filter(|(_, ranges)| of_pool(ranges));
            nodes.for_each(|(name, _)| names.add(name.clone()));
            let words = format!(
                "{} and podCIDRs of nodes both have {common}: the network of the cluster may give the same address to another pod, unless it takes its addresses from hereabouts; the nodes are {}",
                pool.party,
                names.list()
            );
            Some((vec![pool.party.clone()], words))
        })
    }
}

fn words(one: &Holder, other: &Holder, common: &str) -> String {
    let (first, second) = (&one.party, &other.party);
    if one.scope == other.scope {
        return format!(
            "{first} and {second} both have {common}: this is safe, because their scope is the same, and an address has one holder in its scope"
        );
    }
    format!(
        "{first} ({}) and {second} ({}) both have {common}: on one wire, two pods could get the same address, because an address is unique only in its scope; set the same scope in both, unless their wires are separate",
        scope(one),
        scope(other)
    )
}

fn scope(holder: &Holder) -> String {
    holder.scope.as_ref().map_or_else(|| "unnamed scope".to_owned(), |name| format!("scope {name}"))
}

/// Returns the addresses that are in both, in words, or `None` if there are none.
fn common(one: &Blocks, other: &Blocks) -> Option<String> {
    let mut names = Names::default();
    for range in other.ranges().filter(|range| one.touches(range)) {
        let missing: Blocks = AddrSet::outside(&range, &[one]).ranges().collect();
        let both: Vec<Range> = AddrSet::outside(&range, &[&missing]).ranges().collect();
        both.iter().for_each(|part| names.add(output::addresses(part)));
    }
    (0 < names.count).then(|| names.list())
}
