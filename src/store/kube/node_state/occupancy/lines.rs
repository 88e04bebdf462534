//! What a node believes about a scope, as the lines of a small file.

use super::{MOST_SHARDS, Occupancy, Set};
use crate::addr::{Family, Shard};
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

impl Occupancy {
    /// Encodes the beliefs as lines: `listed <ms> <ms it took>`, `full <until, ms>`, `others`,
    /// `spread <until, ms>`, `set <key> <from> 0`, `4 <shard> <mask>`. Numbers of shards are
    /// hexadecimal. Earlier versions read the 0 as the time until which the set is full.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        if let Some((at, took)) = self.listed {
            let _ = writeln!(text, "listed {} {}", millis(at), took.as_millis());
        }
        if let Some(until) = self.full_until {
            let _ = writeln!(text, "full {}", millis(until));
        }
        if self.others {
            let _ = writeln!(text, "others");
        }
        if let Some(until) = self.spread {
            let _ = writeln!(text, "spread {}", millis(until));
        }
        for set in &self.sets {
            let from = set.from.map_or_else(|| "-".to_owned(), |from| from.to_string());
            let _ = writeln!(text, "set {} {from} 0", set.key);
        }
        for (shard, [a, b, c, d]) in self.taken.iter().take(MOST_SHARDS) {
            let family = if shard.family() == Family::V4 { 4 } else { 6 };
            let _ = writeln!(text, "{family} {:x} {a:x} {b:x} {c:x} {d:x}", shard.index());
        }
        text
    }

    /// Decodes the lines. A line that is not valid is skipped.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["others"] => found.others = true,
                ["spread", until] => found.spread = parse_millis(until),
                ["listed", at, took] => {
                    let took = took.parse().map(Duration::from_millis).ok();
                    found.listed = parse_millis(at).zip(took);
                }
                ["full", until] => found.full_until = parse_millis(until),
                ["set", key, from, _] => {
                    found.sets.push(Set { key: (*key).to_owned(), from: from.parse().ok() })
                }
                [family, index, a, b, c, d] => {
                    let family = if *family == "4" { Family::V4 } else { Family::V6 };
                    let shard = u128::from_str_radix(index, 16)
                        .ok()
                        .and_then(|index| Shard::at(family, index));
                    let [a, b, c, d] =
                        [a, b, c, d].map(|word| u64::from_str_radix(word, 16).unwrap_or(0));
                    found.taken.extend(shard.map(|shard| (shard, [a, b, c, d])));
                }
                _ => {}
            }
        }
        found
    }
}

fn millis(at: SystemTime) -> u128 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

fn parse_millis(text: &str) -> Option<SystemTime> {
    text.parse().ok().and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis)))
}
