//! What this node's pods have given back of late, so that a pod keeps its address
//! when its sandbox is made anew.
//!
//! A runtime makes the DEL of a sandbox that died, or of all after a boot, a moment
//! before the ADD of the new one: the address is free by then, and others are asking.
//! What a DEL, GC or `sweep` frees is noted by the pod's uid, network and interface.
//! The next ADD of that uid tries it first, and for some seconds ADDs of other uids
//! pass it over while another address is free. All of it is a hint that decides
//! nothing: the claim does. It is of one boot and of one node, and lies beside the
//! debts, where no store is asked.
//!
//! A file for each uid, network and interface; and `recent`, one line for each address
//! that was freed a moment ago.

use crate::addr::{AddrSet, Range};
use crate::ipam::{Allocation, Attachment, NodeName, Offer, PodRef, Scope, Slot, Source};
use crate::store::digest;
use crate::store::small_file::read_small;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// So long other pods pass over what was freed.
const SPARED: Duration = Duration::from_secs(10);
/// Of so many pods, and so long, it is noted what they had.
const MOST: usize = 1000;
const KEPT: Duration = Duration::from_secs(3600);
/// From so many bytes on what is no longer recent is left out.
const LARGE: u64 = 8 * 1024;
const RECENT: &str = "recent";

/// What is noted of one pod's interface.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    /// Whose it was: what a later sandbox had takes the place of this.
    container: String,
    addresses: Vec<(String, IpAddr)>,
}

/// One address that was freed.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Milliseconds since 1970.
    at: u64,
    key: String,
    scope: String,
    address: IpAddr,
}

/// What an ADD is to try, and what to leave to others.
#[derive(Debug, Default)]
pub struct Lately {
    own: Vec<IpAddr>,
    others: Vec<IpAddr>,
}

/// See the module.
#[derive(Debug)]
pub struct Freed {
    directory: PathBuf,
    now: SystemTime,
}

impl Freed {
    /// Of a node that notes its debts in a directory.
    #[must_use]
    pub fn new(debts: &Path, node: &NodeName, now: SystemTime) -> Self {
        Self { directory: debts.with_file_name("freed").join(node.as_str()), now }
    }

    /// Notes an address that was freed just now. That it cannot be noted is no
    /// failure of anything.
    pub fn note(&self, freed: &Allocation) {
        let Some(key) = key(&freed.held.attachment, freed.held.pod.as_ref()) else {
            return;
        };
        if let Err(error) = self.write(&key, freed) {
            tracing::debug!(%error, "what was freed could not be noted");
        }
    }

    fn write(&self, key: &str, freed: &Allocation) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let (scope, container) = (name_of(&freed.scope), freed.held.attachment.container.to_string());
        let mut noted = self.noted(key).filter(|noted| noted.container == container).unwrap_or(Noted { container, addresses: Vec::new() });
        noted.addresses.push((scope.clone(), freed.address));
        self.replace(key, &serde_json::to_vec(&noted)?)?;
        let line = Line { at: millis(self.now), key: key.to_owned(), scope, address: freed.address };
        self.add(&line)
    }

    /// One write to the end of the file: what others write at once stays whole.
    fn add(&self, line: &Line) -> io::Result<()> {
        let path = self.directory.join(RECENT);
        let mut file = File::options().create(true).append(true).mode(0o600).open(&path)?;
        file.write_all(format!("{}\n", serde_json::to_string(line)?).as_bytes())?;
        if LARGE < file.metadata()?.len() {
            self.tidy()?;
        }
        Ok(())
    }

    /// Leaves out what is no longer recent, and what was noted of pods that have not
    /// come back.
    fn tidy(&self) -> io::Result<()> {
        let mut text = String::new();
        for line in self.recent() {
            text.push_str(&serde_json::to_string(&line)?);
            text.push('\n');
        }
        self.replace(RECENT, text.as_bytes())?;
        let mut found = Vec::new();
        for entry in self.directory.read_dir()? {
            let entry = entry?;
            if entry.file_name() != RECENT {
                found.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        found.sort_by(|one, other| other.cmp(one));
        let is_old = |at: &SystemTime| self.now.duration_since(*at).is_ok_and(|age| KEPT < age);
        for (_, path) in found.iter().enumerate().filter(|(number, (at, _))| MOST <= *number || is_old(at)).map(|(_, found)| found) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let aside = self.directory.join(format!("{name}.{}", std::process::id()));
        File::options().create(true).write(true).truncate(true).mode(0o600).open(&aside)?.write_all(bytes)?;
        std::fs::rename(aside, self.directory.join(name))
    }

    fn noted(&self, key: &str) -> Option<Noted> {
        read_small(&self.directory.join(key)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    }

    /// A clock that was set back makes nothing recent for ever.
    fn recent(&self) -> impl Iterator<Item = Line> {
        let (bytes, until) = (read_small(&self.directory.join(RECENT)).unwrap_or_default(), millis(self.now));
        let since = until.saturating_sub(u64::try_from(SPARED.as_millis()).unwrap_or(0));
        let lines: Vec<Line> = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        lines.into_iter().filter(move |line| since < line.at && line.at <= until)
    }

    /// What an ADD of a pod has to know. Of one without a uid nothing is noted, and it
    /// gets the lowest free address as ever.
    #[must_use]
    pub fn lately(&self, attachment: &Attachment, pod: Option<&PodRef>, scope: &Scope) -> Lately {
        let Some(key) = key(attachment, pod) else {
            return Lately::default();
        };
        let scope = name_of(scope);
        let own = self.noted(&key).map_or_else(Vec::new, |noted| noted.addresses);
        let own = own.into_iter().filter(|(of, _)| *of == scope).map(|(_, address)| address).collect();
        let others = self.recent().filter(|line| line.key != key && line.scope == scope).map(|line| line.address).collect();
        Lately { own, others }
    }
}

impl Lately {
    /// From where a slot's address is to come, in order: what its pod had; what no
    /// other pod had a moment ago; the rest.
    #[must_use]
    pub fn order<'s>(&self, slot: &'s Slot) -> Vec<(Cow<'s, AddrSet>, &'s Offer)> {
        let mut ordered = Vec::new();
        if slot.source == Source::Dynamic {
            for address in &self.own {
                let offer = slot.offers.iter().find(|offer| offer.candidates.contains(*address));
                ordered.extend(offer.map(|offer| (Cow::Owned(AddrSet::from_range(&Range::single(*address))), offer)));
            }
            for offer in &slot.offers {
                let spared: Vec<IpAddr> = self.others.iter().copied().filter(|address| offer.candidates.contains(*address)).collect();
                if spared.is_empty() {
                    continue;
                }
                let mut left = offer.candidates.clone();
                spared.into_iter().for_each(|address| left.remove(&Range::single(address)));
                if 0 < left.count() {
                    ordered.push((Cow::Owned(left), offer));
                }
            }
        }
        ordered.extend(slot.offers.iter().map(|offer| (Cow::Borrowed(&offer.candidates), offer)));
        ordered
    }
}

fn key(attachment: &Attachment, pod: Option<&PodRef>) -> Option<String> {
    let uid = pod?.uid.as_ref()?;
    Some(digest::short(&[uid, attachment.network.as_str(), attachment.ifname.as_str()]))
}

fn name_of(scope: &Scope) -> String {
    scope.name().unwrap_or_default().to_owned()
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::{ContainerId, Draft, IfName, NetworkName, Part};

    fn freed(uid: usize, now: SystemTime) -> Allocation {
        let attachment = Attachment {
            node: NodeName::parse("n1").unwrap(),
            network: NetworkName::parse("net").unwrap(),
            container: ContainerId::parse(&format!("c{uid}")).unwrap(),
            ifname: IfName::parse("net1").unwrap(),
        };
        let pod = Some(PodRef { namespace: "default".to_owned(), name: "p".to_owned(), uid: Some(format!("uid-{uid}")) });
        let held = Draft {
            attachment,
            pod,
            netns: None,
            view: None,
            boot_id: String::new(),
            since: now,
            source: Source::Dynamic,
            part: Part { index: 0, of: 1 },
            prefix: 24,
            gateway: None,
        };
        Allocation { scope: Scope::default(), address: "10.0.0.1".parse().unwrap(), held, version: None }
    }

    /// A node that makes a thousand pods an hour for a year has no more of it than one
    /// that made a thousand.
    #[test]
    fn what_is_noted_does_not_grow_without_end() {
        let root = std::env::temp_dir().join(format!("hereabouts-freed-{}", std::process::id()));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for uid in 0..1500 {
            // Each a second after the one before, as the clock has it.
            let now = now + Duration::from_secs(uid as u64 / 100);
            Freed::new(&root.join("debts"), &NodeName::parse("n1").unwrap(), now).note(&freed(uid, now));
        }
        let directory = root.join("freed/n1");
        let files = directory.read_dir().unwrap().count();
        assert!(files <= MOST + 200 && 500 < files, "{files}");
        assert!(directory.join(RECENT).metadata().unwrap().len() < 200 * 1024);
        std::fs::remove_dir_all(root).unwrap();
    }
}
