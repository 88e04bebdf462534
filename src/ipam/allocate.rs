//! Decides the steps of an ADD: return the addresses that the attachment holds, re-home those of a
//! dead sandbox of the same pod, and claim the others.
//!
//! This file only decides. The store finds out which of the candidates is free, the lowest first.

use super::{Allocation, PodRef, Record, Slot, Source};
use std::collections::HashSet;
use std::net::IpAddr;

/// The steps of one ADD.
#[derive(Debug, PartialEq)]
pub struct Plan<'a> {
    /// The addresses that the attachment already holds, in the order of the result.
    pub held: Vec<&'a Allocation>,
    /// The allocations to re-home, each into a slot.
    pub rehome: Vec<(&'a Allocation, &'a Slot)>,
    /// The slots for which an address has to be claimed.
    pub claim: Vec<&'a Slot>,
}

/// The reasons why an ADD cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A repeated ADD requests an address that the attachment does not hold.
    #[error("the attachment already holds addresses other than the requested {asked}: {holds}")]
    HoldsOthers {
        /// The requested address.
        asked: IpAddr,
        /// The addresses that the attachment holds.
        holds: String,
    },
}

/// Decides the steps of an ADD.
///
/// `held` contains the allocations of the attachment. `of_pod` contains those of other attachments
/// of the same pod and interface on this node that are dead.
///
/// A repeated ADD returns the addresses that are held, even if the ranges have changed since. A
/// partial ADD is completed. Only slots without a held address are re-homed, and only to an address
/// that the current configuration still allows.
///
/// # Errors
/// [`PlanError::HoldsOthers`].
pub fn plan<'a>(
    slots: &'a [Slot],
    held: &'a [Allocation],
    of_pod: &'a [Allocation],
    pod: Option<&PodRef>,
) -> Result<Plan<'a>, PlanError> {
    let mut plan = Plan { held: Vec::new(), rehome: Vec::new(), claim: Vec::new() };
    let missing =
        if held.is_empty() { slots.iter().collect() } else { plan_repeat(slots, held, &mut plan)? };
    for slot in missing {
        let free =
            |old: &&Allocation| plan.rehome.iter().all(|(taken, _)| taken.address != old.address);
        let movable = |old: &&Allocation| {
            pod.zip(old.record.pod.as_ref()).is_some_and(|(new, old)| new.is_same(old))
                && slot
                    .candidates
                    .iter()
                    .any(|candidates| candidates.addresses.contains(old.address))
        };
        match of_pod.iter().filter(free).find(movable) {
            Some(old) => plan.rehome.push((old, slot)),
            None => plan.claim.push(slot),
        }
    }
    Ok(plan)
}

/// Returns whether an attachment holds fewer addresses than its ADD was to get.
#[must_use]
pub fn is_half_done(held: &[Allocation]) -> bool {
    held.iter().any(|allocation| held.len() < usize::from(allocation.record.part.of))
}

/// Adds the held addresses to the plan. Returns the slots that a partial ADD still lacks.
fn plan_repeat<'a>(
    slots: &'a [Slot],
    held: &'a [Allocation],
    plan: &mut Plan<'a>,
) -> Result<Vec<&'a Slot>, PlanError> {
    let mut missing = Vec::new();
    plan.held = held.iter().collect();
    plan.held.sort_by_key(|allocation| allocation.record.part.index);
    let whole = !is_half_done(held);
    let parts: HashSet<u16> = held.iter().map(|allocation| allocation.record.part.index).collect();
    let addresses: HashSet<IpAddr> = held.iter().map(|allocation| allocation.address).collect();
    for slot in slots {
        let has_part = parts.contains(&slot.part.index);
        // The candidates of a requested slot are one address.
        let lacks = || {
            slot.candidates.iter().all(|candidates| {
                candidates.addresses.nth(0).is_none_or(|address| !addresses.contains(&address))
            })
        };
        if slot.source == Source::Requested && (whole || has_part) && lacks() {
            let holds: Vec<String> =
                plan.held.iter().map(|allocation| allocation.address.to_string()).collect();
            let asked = slot
                .candidates
                .iter()
                .flat_map(|candidates| candidates.addresses.ranges())
                .map(|range| range.first_address());
            return match asked.into_iter().next() {
                Some(asked) => Err(PlanError::HoldsOthers { asked, holds: holds.join(", ") }),
                None => Ok(missing),
            };
        }
        if !whole && !has_part {
            missing.push(slot);
        }
    }
    Ok(missing)
}

impl Slot {
    /// Returns the record of an address that is given out for this slot, based on the `record` of
    /// the ADD.
    #[must_use]
    pub fn record(&self, candidates: &super::Candidates, record: &Record) -> Record {
        Record {
            source: self.source,
            part: self.part,
            prefix: candidates.prefix,
            gateway: candidates.gateway,
            ..record.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::addr::Subnet;

    fn pod(uid: &str) -> PodRef {
        PodRef {
            namespace: "default".to_owned(),
            name: "web-0".to_owned(),
            uid: Some(uid.to_owned()),
        }
    }

    fn allocation(address: &str, index: u16, of: u16, uid: &str) -> Allocation {
        Allocation {
            scope: Scope::default(),
            address: address.parse().unwrap(),
            record: Record {
                attachment: Attachment {
                    node: NodeName::parse("n1").unwrap(),
                    network: NetworkName::parse("net1").unwrap(),
                    container: ContainerId::parse("c1").unwrap(),
                    ifname: IfName::parse("eth0").unwrap(),
                },
                pod: Some(pod(uid)),
                netns: None,
                view: None,
                boot_id: String::new(),
                since: std::time::UNIX_EPOCH,
                source: Source::Dynamic,
                part: Part { index, of },
                prefix: 24,
                gateway: None,
            },
            version: None,
        }
    }

    fn two_ranges(requested: &[&str]) -> Vec<Slot> {
        let sets: Vec<RangeSet> = ["10.0.0.0/24", "10.0.1.0/24"]
            .iter()
            .map(|text| {
                let subnet = Subnet::parse(text).unwrap();
                let (excluded, gateways) = Default::default();
                RangeSet {
                    ranges: vec![ConfiguredRange {
                        subnet,
                        bounds: subnet.usable(),
                        excluded,
                        gateways,
                        reserved: Default::default(),
                        gateway: None,
                    }],
                }
            })
            .collect();
        let requested: Vec<Requested> = requested
            .iter()
            .map(|text| Requested {
                address: text.parse().unwrap(),
                prefix: None,
                gateway: None,
                origin: String::new(),
            })
            .collect();
        slots(&sets, &requested, &[], &Reservations::default()).unwrap()
    }

    /// Returns "held / rehome / claim" as addresses and slot numbers.
    fn outline(slots: &[Slot], held: &[Allocation], of_pod: &[Allocation], uid: &str) -> String {
        match plan(slots, held, of_pod, Some(&pod(uid))) {
            Err(error) => error.to_string(),
            Ok(plan) => {
                let held: Vec<_> = plan.held.iter().map(|a| a.address.to_string()).collect();
                let rehome: Vec<_> = plan
                    .rehome
                    .iter()
                    .map(|(a, s)| format!("{}>{}", a.address, s.part.index))
                    .collect();
                let claim: Vec<_> = plan.claim.iter().map(|s| s.part.index.to_string()).collect();
                format!("{} / {} / {}", held.join(" "), rehome.join(" "), claim.join(" "))
            }
        }
    }

    #[test]
    fn a_fresh_add_claims_every_slot() {
        assert_eq!(outline(&two_ranges(&[]), &[], &[], "u"), " /  / 0 1");
    }

    #[test]
    fn a_repeated_add_answers_with_what_is_held_also_outside_todays_ranges() {
        let held = [allocation("172.16.0.9", 1, 2, "u"), allocation("172.16.1.9", 0, 2, "u")];
        assert_eq!(outline(&two_ranges(&[]), &held, &[], "u"), "172.16.1.9 172.16.0.9 /  / ");
    }

    #[test]
    fn a_half_done_add_is_completed() {
        assert_eq!(
            outline(&two_ranges(&[]), &[allocation("10.0.0.5", 0, 2, "u")], &[], "u"),
            "10.0.0.5 /  / 1"
        );
    }

    #[test]
    fn a_repeated_add_that_asks_for_another_address_is_refused() {
        let held = [allocation("10.0.0.5", 0, 2, "u"), allocation("10.0.1.5", 1, 2, "u")];
        assert_eq!(
            outline(&two_ranges(&["10.0.1.6"]), &held, &[], "u"),
            "the attachment already holds addresses other than the requested 10.0.1.6: 10.0.0.5, 10.0.1.5"
        );
        assert_eq!(outline(&two_ranges(&["10.0.1.5"]), &held, &[], "u"), "10.0.0.5 10.0.1.5 /  / ");
    }

    #[test]
    fn a_dead_sandbox_of_the_same_pod_hands_its_addresses_on() {
        let old = [allocation("10.0.1.5", 1, 2, "u"), allocation("10.0.0.5", 0, 2, "u")];
        assert_eq!(outline(&two_ranges(&[]), &[], &old, "u"), " / 10.0.0.5>0 10.0.1.5>1 / ");
    }

    #[test]
    fn a_half_done_add_takes_the_rest_from_the_dead_sandbox_too() {
        let (held, old) =
            ([allocation("10.0.0.5", 0, 2, "u")], [allocation("10.0.1.5", 1, 2, "u")]);
        assert_eq!(outline(&two_ranges(&[]), &held, &old, "u"), "10.0.0.5 / 10.0.1.5>1 / ");
        let whole = [allocation("10.0.0.5", 0, 2, "u"), allocation("10.0.1.6", 1, 2, "u")];
        assert_eq!(outline(&two_ranges(&[]), &whole, &old, "u"), "10.0.0.5 10.0.1.6 /  / ");
    }

    #[test]
    fn another_uid_or_an_address_no_longer_allowed_is_not_rehomed() {
        assert_eq!(
            outline(&two_ranges(&[]), &[], &[allocation("10.0.0.5", 0, 1, "v")], "u"),
            " /  / 0 1"
        );
        assert_eq!(
            outline(&two_ranges(&[]), &[], &[allocation("10.9.0.5", 0, 1, "u")], "u"),
            " /  / 0 1"
        );
    }
}
