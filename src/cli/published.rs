//! What nodes publish about the addresses in their slices, for `list`, `show` and `usage`, and how it
//! differs from the node's own files, for `verify`. It may be old, so each address is shown with the
//! age of what its node has published.

use super::output;
use crate::ipam::Scope;
use crate::store::slices::{Compared, Published, Slice, SliceHolder};
use crate::store::upkeep::Upkeep;
use crate::store::{Filter, PodName, StoreError};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// How many slices that publish nothing are named.
const NAMED: usize = 3;
/// How many holders of a slice `verify` names that were not published, or are not held so any more.
const NAMED_OF_SLICE: usize = 20;

/// An address of a slice that is held, as its node has published it.
pub(super) struct PublishedAddress<'p> {
    pub(super) address: IpAddr,
    pub(super) holder: &'p SliceHolder,
    pub(super) slice: &'p Slice,
    /// The time since the node has published it.
    pub(super) age: Duration,
}

impl PublishedAddress<'_> {
    /// Returns the scope in which the address is unique.
    pub(super) fn scope(&self) -> Scope {
        Scope::of_slices(&self.slice.pool)
    }

    /// Returns the pod in words.
    pub(super) fn pod(&self) -> Option<String> {
        pod_of(self.holder)
    }

    /// Returns the age in words.
    pub(super) fn as_of(&self) -> String {
        ago(self.age)
    }

    /// Returns the same keys as for an address that this command has read itself, with null for
    /// those that are not published, and `published`.
    pub(super) fn document(&self) -> Value {
        let SliceHolder { namespace, pod, ifname, network, since, .. } = self.holder;
        let pod =
            (!pod.is_empty()).then(|| json!({"namespace": namespace, "name": pod, "uid": null}));
        json!({
            "address": self.address,
            "prefix": null,
            "gateway": null,
            "scope": self.scope().name(),
            "network": network,
            "pod": pod,
            "interface": ifname,
            "container": null,
            "node": self.slice.node,
            "netns": null,
            "bootID": null,
            "since": output::time(*since),
            "source": null,
            "published": {"slice": self.slice.name, "ageSeconds": self.age.as_secs()},
        })
    }
}

fn pod_of(SliceHolder { namespace, pod, .. }: &SliceHolder) -> Option<String> {
    match (namespace.is_empty(), pod.is_empty()) {
        (_, true) => None,
        (true, false) => Some(output::printable(pod)),
        (false, false) => Some(output::printable(&format!("{namespace}/{pod}"))),
    }
}

/// Returns an age in words.
pub(super) fn ago(age: Duration) -> String {
    format!("{} ago", output::duration(Duration::from_secs(age.as_secs())))
}

/// Returns how long ago something was published. A clock of another machine may be ahead.
pub(super) fn age(published: Published, now: SystemTime) -> Duration {
    now.duration_since(published.at).unwrap_or_default()
}

/// What is not shown, and how old the rest is.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// The number of slices whose nodes publish nothing, and the first of them in words.
    pub(super) unpublished: usize,
    named: Vec<String>,
    /// The number of held addresses that nodes count without naming the holders.
    unnamed: usize,
    /// The largest age.
    pub(super) oldest: Option<Duration>,
}

impl Coverage {
    fn note(&mut self, slice: &Slice, holders: &[SliceHolder], now: SystemTime) {
        let Some(published) = slice.published else {
            self.unpublished += 1;
            if self.named.len() < NAMED {
                let node = output::printable(&slice.node);
                self.named.push(format!("{} of node {node}", slice.block));
            }
            return;
        };
        let listed: usize = holders.iter().map(|holder| holder.addresses.len()).sum();
        let count = usize::try_from(published.count).unwrap_or(usize::MAX);
        self.unnamed += count.saturating_sub(listed);
        self.oldest = self.oldest.max(Some(age(published, now)));
    }

    /// Prints what is not shown.
    pub(super) fn say(&self) {
        if 0 < self.unpublished {
            let more = self.unpublished - self.named.len();
            let more = if 0 < more { format!(" and {more} more") } else { String::new() };
            output::say(&format!(
                "{}, so only the node knows what is held there: {}{more}",
                match self.unpublished {
                    1 => "1 slice publishes nothing".to_owned(),
                    many => format!("{many} slices publish nothing"),
                },
                self.named.join(", "),
            ));
        }
        if 0 < self.unnamed {
            output::say(&format!(
                "{} more in large slices are not named; \"hereabouts list\" on the node shows them",
                output::count(self.unnamed, "address")
            ));
        }
    }
}

/// Visits the published addresses that the filter selects.
///
/// # Errors
/// The visitor fails, or the API server.
pub(super) fn each(
    store: &dyn Upkeep,
    filter: &Filter,
    now: SystemTime,
    visit: &mut dyn FnMut(&PublishedAddress<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Coverage> {
    let mut coverage = Coverage::default();
    let is_of_no_slice = filter.scope.as_ref().is_some_and(|scope| !scope.is_of_slices());
    let Some(slices) = store.slices().filter(|_| !is_of_no_slice && filter.claim.is_none()) else {
        return Ok(coverage);
    };
    for item in slices.published(filter)? {
        let found = match item {
            Ok(found) => found,
            // A cluster whose resources are older has no slices.
            Err(StoreError::NoResource { .. }) => return Ok(coverage),
            // A user who may see addresses, and no slices.
            Err(error @ StoreError::Refused { status: 403, .. }) => {
                output::warn(&error);
                return Ok(coverage);
            }
            Err(error) => return Err(error.into()),
        };
        let slice = &found.slice;
        if filter.address.is_some_and(|address| !slice.block.contains(address)) {
            continue;
        }
        coverage.note(slice, &found.holders, now);
        let Some(published) = slice.published else { continue };
        for holder in found.holders.iter().filter(|holder| is_selected(filter, holder)) {
            for address in holder.addresses.iter().copied() {
                let is_wanted = filter.address.is_none_or(|wanted| wanted == address);
                // Only what is in the slice: the status is a text that its node has written.
                if is_wanted && slice.block.contains(address) {
                    visit(&PublishedAddress { address, holder, slice, age: age(published, now) })?;
                }
            }
        }
    }
    Ok(coverage)
}

fn is_selected(filter: &Filter, holder: &SliceHolder) -> bool {
    let is_pod = |pod: &PodName| {
        pod.name == holder.pod
            && pod.namespace.as_ref().is_none_or(|namespace| *namespace == holder.namespace)
    };
    filter.network.as_ref().is_none_or(|network| network.as_str() == holder.network)
        && filter.pod.as_ref().is_none_or(is_pod)
}

/// Returns how what a node has published differs from its files, as text. It is no problem: the node
/// publishes once a minute.
pub(super) fn describe(compared: &[Compared], now: SystemTime) -> String {
    let mut text = String::new();
    for Compared { slice, unpublished, outdated } in compared {
        let block = &slice.block;
        let since = match slice.published {
            None => format!("slice {block}: nothing has been published yet"),
            Some(_) if unpublished.is_empty() && outdated.is_empty() => continue,
            Some(published) => {
                let ago = ago(age(published, now));
                format!(
                    "slice {block}: what was published {ago} differs from the files of this node"
                )
            }
        };
        text.push_str(&format!("{since}; the DaemonSet publishes once a minute\n"));
        for (holders, what) in
            [(unpublished, "not published"), (outdated, "published, not held so")]
        {
            holders.iter().take(NAMED_OF_SLICE).for_each(|holder| {
                text.push_str(&format!("  {what}: {}\n", words(holder)));
            });
            let more = holders.len().saturating_sub(NAMED_OF_SLICE);
            if 0 < more {
                text.push_str(&format!("  {what}: {more} more\n"));
            }
        }
    }
    text
}

/// Returns the same as JSON, for each slice of this node.
pub(super) fn compared(compared: &[Compared], now: SystemTime) -> Value {
    let addresses = |holders: &[SliceHolder]| -> Vec<IpAddr> {
        holders.iter().flat_map(|holder| holder.addresses.iter().copied()).collect()
    };
    let document = |Compared { slice, unpublished, outdated }: &Compared| {
        json!({
            "slice": slice.name,
            "ageSeconds": slice.published.map(|published| age(published, now).as_secs()),
            "unpublished": addresses(unpublished),
            "outdated": addresses(outdated),
        })
    };
    compared.iter().map(document).collect()
}

fn words(holder: &SliceHolder) -> String {
    let addresses: Vec<String> = holder.addresses.iter().map(IpAddr::to_string).collect();
    let pod = pod_of(holder).unwrap_or_else(|| "an interface without a pod".to_owned());
    let ifname = output::printable(&holder.ifname);
    format!("{} of {pod}, {ifname}, since {}", addresses.join(" and "), output::time(holder.since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_in_whole_seconds() {
        assert_eq!(ago(Duration::from_millis(40_700)), "40s ago");
        assert_eq!(ago(Duration::ZERO), "0s ago");
    }
}
