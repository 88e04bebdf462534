//! The addresses that this node found in use outside of the store: on an interface of its own, or
//! by another host of the network. For a time its ADDs pass them over, so that they are not claimed
//! and given back once for each pod.
//!
//! The notes are of one boot and one node, and they are next to the debts. They decide nothing that
//! the next ADD could not find out again.

use super::note_lines::{NoteLines, millis};
use crate::ipam::{NodeName, Scope};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest time for which an address is set aside. A line with a longer one is damaged.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Who has an address that the store does not know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum User {
    /// This node, on the interface of this name.
    Interface(String),
    /// The host with this MAC address.
    Mac(String),
}

/// An address that is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// The scope of the ADD that found it in use.
    pub scope: Scope,
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub user: User,
    /// When it was found in use.
    pub since: SystemTime,
    /// Until when it is passed over.
    pub until: SystemTime,
}

/// One line: the scope is `""` without a name, the times are milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct Line {
    scope: String,
    address: IpAddr,
    user: User,
    since: u64,
    until: u64,
}

impl Line {
    fn read(self) -> Option<Aside> {
        let at = |millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis));
        Some(Aside {
            scope: Scope::parse(&self.scope).ok()?,
            address: self.address,
            user: self.user,
            since: at(self.since)?,
            until: at(self.until)?,
        })
    }
}

/// The notes of one node, see the module.
#[derive(Debug)]
pub struct SetAside {
    lines: NoteLines,
    now: SystemTime,
    /// Whether nothing is noted: for an ADD on trial.
    is_frozen: bool,
}

impl SetAside {
    /// Returns the notes of a node that has its debts in the directory `debts`.
    #[must_use]
    pub fn new(debts: &Path, node: &NodeName, now: SystemTime) -> Self {
        let path = debts.with_file_name("aside").join(node.as_str());
        Self { lines: NoteLines { path }, now, is_frozen: false }
    }

    /// Lets a note be forgotten at once.
    #[must_use]
    pub(super) fn frozen(mut self) -> Self {
        self.is_frozen = true;
        self
    }

    /// Notes that an address is in use. A failure to note it fails nothing.
    pub(super) fn note(&self, scope: &Scope, address: IpAddr, user: User, time: Duration) {
        if self.is_frozen {
            return;
        }
        let until = self.now.checked_add(time).unwrap_or(self.now);
        let line = Line {
            scope: scope.name().unwrap_or_default().to_owned(),
            address,
            user,
            since: millis(self.now),
            until: millis(until),
        };
        let noted = serde_json::to_string(&line)
            .map_err(std::io::Error::from)
            .and_then(|text| self.lines.add(&(text + "\n")));
        if let Err(error) = noted {
            tracing::debug!(%error, "an address in use could not be noted");
        }
    }

    /// Returns what is set aside now, in order. A clock that was set back sets nothing aside for
    /// longer. Lines that cannot be read are skipped.
    #[must_use]
    pub fn list(&self) -> Vec<Aside> {
        let end = self.lines.end();
        if end.is_empty() {
            return Vec::new();
        }
        let newest: BTreeMap<_, _> = end
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok()?.read())
            .filter(|aside| aside.since <= self.now && self.now < aside.until)
            .filter(|aside| aside.until.duration_since(aside.since).is_ok_and(|it| it <= LONGEST))
            .map(|aside| ((aside.scope.clone(), aside.address), aside))
            .collect();
        newest.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_counts_until_its_time_is_over_and_the_newest_one_counts() {
        let root = std::env::temp_dir().join(format!("hereabouts-aside-{}", std::process::id()));
        let start = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let at = |seconds: u64| {
            let node = NodeName::parse("n1").unwrap();
            SetAside::new(&root.join("debts"), &node, start + Duration::from_secs(seconds))
        };
        let (address, scope) = ("10.0.0.1".parse().unwrap(), Scope::parse("a b").unwrap());
        let (old, new) = (User::Mac("02:00:00:00:00:01".to_owned()), User::Interface("e".into()));
        assert_eq!(at(0).list(), []);
        at(0).note(&scope, address, old, Duration::from_secs(10));
        at(5).note(&scope, address, new.clone(), Duration::from_secs(10));
        std::fs::OpenOptions::new()
            .append(true)
            .open(&at(0).lines.path)
            .map(|mut file| std::io::Write::write_all(&mut file, b"{\"scope\"\n\xff\n"))
            .unwrap()
            .unwrap();
        let listed = at(6).list();
        assert_eq!(listed.len(), 1);
        assert_eq!((&listed[0].scope, &listed[0].user), (&scope, &new));
        assert_eq!(at(14).list().len(), 1);
        assert_eq!(at(15).list(), []);
        std::fs::remove_dir_all(root).unwrap();
    }
}
