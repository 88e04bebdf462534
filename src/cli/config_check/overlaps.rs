//! Addresses that a pool has, and another pool or the ranges of a network, too. In one scope this is
//! safe. In two scopes, two pods may get the same address.

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

    /// Returns a note for each pool that has addresses of another pool or network.
    pub(super) fn notes(&self) -> Vec<Note> {
        let mut notes: Vec<Note> = Vec::new();
        let mut more = 0_usize;
        for (at, one) in self.all.iter().enumerate() {
            for other in self.all.iter().skip(at + 1) {
                let has_pool =
                    [one, other].iter().any(|holder| matches!(holder.party, Party::Pool(_)));
                let Some(common) =
                    has_pool.then(|| common(&one.addresses, &other.addresses)).flatten()
                else {
                    continue;
                };
                let words = words(one, other, &common);
                if notes.iter().any(|note| note.words == words) {
                    continue;
                }
                match notes.len() < MOST {
                    true => {
                        let about = vec![one.party.clone(), other.party.clone()];
                        notes.push(Note { about, words });
                    }
                    false => more += 1,
                }
            }
        }
        if 0 < more {
            let words = format!("{more} more pairs of pools and networks have the same addresses");
            notes.push(Note { about: Vec::new(), words });
        }
        notes
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
