//! Sticky addresses: the next StatefulSet pod of the same namespace and name gets them again, no
//! matter how much later.
//!
//! This file defines the owner of such an address and the stored data about it.

use super::{Attachment, IfName, NetworkName, PodRef};
use std::net::IpAddr;
use std::time::SystemTime;

/// The owner of a sticky address: the pod of this name, at one interface of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyOwner {
    /// The name of the CNI network configuration.
    pub network: NetworkName,
    /// The interface in the pod.
    pub ifname: IfName,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
}

impl StickyOwner {
    /// Returns the owner for the pod of an attachment. Returns `None` for a pod that no StatefulSet
    /// can have created. StatefulSet pods are named `<set>-<number>`. Other names do not come back,
    /// for example those of a Deployment's pods, which end with random letters.
    #[must_use]
    pub fn of(attachment: &Attachment, pod: Option<&PodRef>) -> Option<Self> {
        let pod = pod.filter(|pod| pod.is_whole())?;
        let (set, ordinal) = pod.name.rsplit_once('-')?;
        let is_ordinal = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
        (is_ordinal && !set.is_empty()).then(|| Self {
            network: attachment.network.clone(),
            ifname: attachment.ifname.clone(),
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
        })
    }
}

/// A sticky address of a scope, and its last owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The address.
    pub address: IpAddr,
    /// The owner, which gets the address again.
    pub owner: StickyOwner,
    /// The time of the ADD. All addresses of one ADD have the same time.
    pub since: SystemTime,
}

/// Returns the addresses that an owner got from its last ADD, and the addresses of other owners.
/// Earlier addresses of the owner are in neither list.
#[must_use]
pub fn of_owner(all: &[Sticky], owner: Option<&StickyOwner>) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let is_own = |sticky: &&Sticky| owner == Some(&sticky.owner);
    let last = all.iter().filter(is_own).map(|sticky| sticky.since).max();
    let own = all.iter().filter(|sticky| is_own(sticky) && Some(sticky.since) == last);
    let others = all.iter().filter(|sticky| !is_own(sticky));
    (own.map(|sticky| sticky.address).collect(), others.map(|sticky| sticky.address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::{ContainerId, NodeName};
    use std::time::{Duration, UNIX_EPOCH};

    fn owner(pod: &str) -> Option<StickyOwner> {
        let attachment = Attachment {
            node: NodeName::parse("n1").unwrap(),
            network: NetworkName::parse("net1").unwrap(),
            container: ContainerId::parse("c1").unwrap(),
            ifname: IfName::parse("net1").unwrap(),
        };
        StickyOwner::of(
            &attachment,
            Some(&PodRef { namespace: "db".to_owned(), name: pod.to_owned(), uid: None }),
        )
    }

    #[test]
    fn the_names_of_a_statefulset_come_back_and_no_others() {
        for pod in ["web-0", "a-b-12", "web-00"] {
            assert_eq!(owner(pod).unwrap().pod, pod);
        }
        for pod in ["web", "web-", "-0", "0", "web-5d4f8c7b9-x2k9q", "web-1a", "web-\u{664}"] {
            assert_eq!(owner(pod), None, "{pod}");
        }
    }

    #[test]
    fn an_owner_gets_what_it_was_given_last_and_leaves_what_others_had() {
        let sticky = |address: &str, pod: &str, since: u64| Sticky {
            address: address.parse().unwrap(),
            owner: owner(pod).unwrap(),
            since: UNIX_EPOCH + Duration::from_secs(since),
        };
        let all = [
            sticky("10.0.0.1", "db-0", 1),
            sticky("10.0.0.2", "db-0", 2),
            sticky("10.0.0.3", "db-1", 3),
            sticky("fd00::2", "db-0", 2),
        ];
        let words = |pod: &str| {
            let (own, others) = of_owner(&all, owner(pod).as_ref());
            let text = |all: Vec<IpAddr>| {
                all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            };
            format!("{}; {}", text(own), text(others))
        };
        assert_eq!(words("db-0"), "10.0.0.2 fd00::2; 10.0.0.3");
        assert_eq!(words("db-1"), "10.0.0.3; 10.0.0.1 10.0.0.2 fd00::2");
        assert_eq!(words("web"), "; 10.0.0.1 10.0.0.2 10.0.0.3 fd00::2");
    }
}
