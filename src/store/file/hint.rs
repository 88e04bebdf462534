//! Hints: which shards are full, and which candidates ran out a moment ago. They save searches and
//! never decide. They are not synced, and a failure to read or write one does not fail the verb.

use super::{FileStore, layout};
use crate::addr::{AddrSet, Family, Mask, Shard, lowest_free};
use crate::ipam::Scope;
use crate::store::disk::Disk;
use crate::store::disk::error::failed;
use crate::store::{StoreError, percent};
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// How long the note "exhausted" is believed.
const BELIEVED: Duration = Duration::from_secs(5);
/// A hint with more spans than this is started again from empty.
const MOST_SPANS: usize = 16_384;

/// Shards in which at least the masked addresses are held. The mask has at least one address, so
/// that a span ends where the records do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    family: Family,
    first: u128,
    last: u128,
    held: Mask,
}

/// The shards known to be full: sorted, disjoint spans.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct FullShards {
    spans: Vec<Span>,
}

/// What the hint says about a shard.
pub(super) enum ShardState {
    /// Nothing.
    Unknown,
    /// All wanted addresses of the shard are held.
    Full,
    /// Every address is held in this shard and in all shards up to the given one.
    FullUpTo(Shard),
}

impl FullShards {
    pub(super) fn read(disk: &dyn Disk, scope: &Scope) -> Self {
        let content = disk.read(&layout::full_hint(scope));
        content.ok().and_then(|content| Self::decode(&content.bytes)).unwrap_or_default()
    }

    /// Returns whether all addresses that the hint names are held, according to `held`. Stops at
    /// the first shard that proves otherwise.
    pub(super) fn is_true_of(&self, held: impl Fn(Shard) -> Mask) -> bool {
        self.spans.iter().all(|span| {
            (span.first..=span.last)
                .filter_map(|index| Shard::at(span.family, index))
                .all(|shard| lowest_free(&span.held, &held(shard)).is_none())
        })
    }

    /// Reads lines of the form `4 <first> <last> <mask>`, with the numbers in hexadecimal.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut spans: Vec<Span> = Vec::new();
        for line in std::str::from_utf8(bytes).ok()?.lines() {
            let mut words = line.split(' ');
            let family = match words.next()? {
                "4" => Family::V4,
                "6" => Family::V6,
                _ => return None,
            };
            let first = u128::from_str_radix(words.next()?, 16).ok()?;
            let last = u128::from_str_radix(words.next()?, 16).ok()?;
            let mut held = [0; 4];
            for word in &mut held {
                *word = u64::from_str_radix(words.next()?, 16).ok()?;
            }
            let sorted =
                spans.last().is_none_or(|before| (before.family, before.last) < (family, first));
            // An empty mask is true of every shard, and IPv6 has 2^120 of them.
            if last < first || family.highest() >> 8 < last || held == [0; 4] || !sorted {
                return None;
            }
            spans.push(Span { family, first, last, held });
        }
        Some(Self { spans })
    }

    fn encode(&self) -> String {
        let mut text = String::new();
        for Span { family, first, last, held: [a, b, c, d] } in &self.spans {
            let digit = if *family == Family::V4 { '4' } else { '6' };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{digit} {first:x} {last:x} {a:x} {b:x} {c:x} {d:x}");
        }
        text
    }

    fn position(&self, shard: Shard) -> Result<usize, usize> {
        self.spans.binary_search_by(|span| {
            if (span.family, span.last) < (shard.family(), shard.index()) {
                std::cmp::Ordering::Less
            } else if (shard.family(), shard.index()) < (span.family, span.first) {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
    }

    pub(super) fn state_of(&self, shard: Shard, wanted: &Mask) -> ShardState {
        let Ok(at) = self.position(shard) else {
            return ShardState::Unknown;
        };
        let span = &self.spans[at];
        if span.held == [u64::MAX; 4] {
            return Shard::at(span.family, span.last)
                .map_or(ShardState::Full, ShardState::FullUpTo);
        }
        if lowest_free(wanted, &span.held).is_none() {
            ShardState::Full
        } else {
            ShardState::Unknown
        }
    }

    pub(super) fn contains(&self, shard: Shard) -> bool {
        self.position(shard).is_ok()
    }

    /// Removes a shard from the hint.
    pub(super) fn remove(&mut self, shard: Shard) {
        let Ok(at) = self.position(shard) else {
            return;
        };
        let span = self.spans.remove(at);
        if shard.index() < span.last {
            self.spans.insert(at, Span { first: shard.index() + 1, ..span });
        }
        if span.first < shard.index() {
            self.spans.insert(at, Span { last: shard.index() - 1, ..span });
        }
    }

    /// Notes the held addresses of a shard. Equal neighbors become one span.
    pub(super) fn insert(&mut self, shard: Shard, held: Mask) {
        self.remove(shard);
        if held == [0; 4] {
            return;
        }
        if MOST_SPANS < self.spans.len() {
            self.spans.clear();
        }
        let (Ok(at) | Err(at)) = self.position(shard);
        let mut span =
            Span { family: shard.family(), first: shard.index(), last: shard.index(), held };
        if let Some(after) = self.spans.get(at).filter(|after| {
            after.family == span.family && after.held == held && after.first == span.last + 1
        }) {
            span.last = after.last;
            self.spans.remove(at);
        }
        let before = at.checked_sub(1).and_then(|before| self.spans.get_mut(before));
        match before.filter(|before| {
            before.family == span.family && before.held == held && before.last + 1 == span.first
        }) {
            Some(before) => before.last = span.last,
            None => self.spans.insert(at, span),
        }
    }

    pub(super) fn write<D: Disk>(&self, store: &FileStore<D>, scope: &Scope) {
        try_replace(store, &layout::full_hint(scope), self.encode().as_bytes());
    }
}

/// Replaces a hint as a whole: readers see the old one or the new one.
pub(super) fn replace<D: Disk>(
    store: &FileStore<D>,
    path: &Path,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let disk = &store.disk;
    // Almost no call writes a hint, so no call checks for this directory earlier.
    store.ensure(&layout::temporary(&store.host.node))?;
    let temporary = super::unique(disk, &store.host.node);
    let written = disk.create(&temporary, bytes).and_then(|_| disk.rename(&temporary, path));
    written.map_err(|error| {
        let _ = disk.unlink(&temporary);
        failed(disk, "write", path, error)
    })
}

/// Does the same for a hint whose loss does not matter.
fn try_replace<D: Disk>(store: &FileStore<D>, path: &Path, bytes: &[u8]) {
    if let Err(error) = replace(store, path, bytes) {
        tracing::debug!(path = %path.display(), %error, "a hint could not be written");
    }
}

/// Returns whether these candidates were all held less than 5 s ago.
pub(super) fn is_exhausted(disk: &dyn Disk, scope: &Scope, candidates: &AddrSet) -> bool {
    let Ok(content) = disk.read(&layout::exhausted(scope)) else {
        return false;
    };
    let Ok(now) = disk.now().duration_since(UNIX_EPOCH) else {
        return false;
    };
    let (key, text) = (describe(candidates), String::from_utf8_lossy(&content.bytes).into_owned());
    text.lines().filter_map(|line| line.split_once(' ')).any(|(millis, whose)| {
        let said = millis.parse().map(Duration::from_millis).unwrap_or_default();
        whose == key && said <= now && now < said + BELIEVED
    })
}

/// Notes that these candidates are all held.
pub(super) fn mark_exhausted<D: Disk>(store: &FileStore<D>, scope: &Scope, candidates: &AddrSet) {
    let disk = &store.disk;
    let Ok(now) = disk.now().duration_since(UNIX_EPOCH) else {
        return;
    };
    let path = layout::exhausted(scope);
    let old = disk
        .read(&path)
        .map(|content| String::from_utf8_lossy(&content.bytes).into_owned())
        .unwrap_or_default();
    let key = describe(candidates);
    let still = |line: &&str| {
        line.split_once(' ').is_some_and(|(millis, whose)| {
            whose != key
                && millis.parse().map(Duration::from_millis).is_ok_and(|said| now < said + BELIEVED)
        })
    };
    let mut text: String =
        old.lines().filter(still).take(64).map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("{} {key}\n", now.as_millis()));
    try_replace(store, &path, text.as_bytes());
}

/// Returns a short key for the candidates.
fn describe(candidates: &AddrSet) -> String {
    let ranges: Vec<String> = candidates.ranges().map(|range| range.to_string()).collect();
    percent::escape(&ranges.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(index: u128) -> Shard {
        Shard::at(Family::V4, index).unwrap()
    }

    /// Compares random insertions and removals with a plain map.
    #[test]
    fn spans_agree_with_a_plain_map() {
        let mut hint = FullShards::default();
        let mut plain = std::collections::BTreeMap::new();
        let mut state = 7u64;
        for _ in 0..5000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let index = u128::from(state >> 33) % 40;
            let held = if state >> 60 & 1 == 0 { [u64::MAX; 4] } else { [1, 2, 3, 4] };
            if state >> 61 & 1 == 0 {
                hint.insert(shard(index), held);
                plain.insert(index, held);
            } else {
                hint.remove(shard(index));
                plain.remove(&index);
            }
            for index in 0..40 {
                assert_eq!(hint.contains(shard(index)), plain.contains_key(&index));
                let full =
                    !matches!(hint.state_of(shard(index), &[u64::MAX; 4]), ShardState::Unknown);
                assert_eq!(full, plain.get(&index) == Some(&[u64::MAX; 4]));
            }
            assert_eq!(FullShards::decode(hint.encode().as_bytes()), Some(hint.clone()));
        }
    }

    #[test]
    fn a_garbled_hint_says_nothing() {
        for text in [
            "x",
            "4 5",
            "4 5 4 1 0 0 0",
            "4 ffffffff ffffffff 1 0 0 0",
            "4 5 5 1 0 0 0\n4 5 5 1 0 0 0",
        ] {
            assert_eq!(FullShards::decode(text.as_bytes()), None, "{text}");
        }
    }

    /// Cause: a span with an empty mask is true of each of its shards. Effect: `verify` and
    /// `repair` examined 2^120 of them. Fix: such a span is not a valid hint.
    #[test]
    fn a_span_of_which_nothing_is_said_is_no_hint() {
        let all = "6 0 ffffffffffffffffffffffffffffff";
        assert_eq!(FullShards::decode(format!("{all} 0 0 0 0").as_bytes()), None);
        // A span that names addresses in all shards ends at the first shard without records.
        for mask in [
            "1 0 0 0",
            "0 0 0 8000000000000000",
            "ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff",
        ] {
            let hint = FullShards::decode(format!("{all} {mask}").as_bytes()).unwrap();
            let looks = std::cell::Cell::new(0);
            let held = |shard: Shard| {
                looks.set(looks.get() + 1);
                if shard.index() < 3 { [u64::MAX; 4] } else { [0; 4] }
            };
            assert!(!hint.is_true_of(held));
            assert_eq!(looks.get(), 4, "{mask}");
        }
        let mut hint = FullShards::default();
        hint.insert(shard(7), [1, 0, 0, 0]);
        hint.insert(shard(7), [0; 4]);
        assert_eq!(hint, FullShards::default());
    }
}
