//! What an ADD has to do, given what stands: answer with what is held, move
//! what a dead sandbox of the same pod held, claim the rest.
//!
//! Only the decision is here. Which address of the candidates is free is the
//! store's to find out, lowest first.

use super::{Allocation, Draft, PodRef, Slot, Source};
use std::collections::HashSet;
use std::net::IpAddr;

/// The steps of one ADD.
#[derive(Debug, PartialEq)]
pub struct Plan<'a> {
    /// Held already, to be answered with; in the order of the result.
    pub held: Vec<&'a Allocation>,
    /// To be re-homed, each into a slot.
    pub rehome: Vec<(&'a Allocation, &'a Slot)>,
    /// To be claimed anew.
    pub claim: Vec<&'a Slot>,
}

/// Why an ADD cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A repeated ADD asks for an address that the attachment does not hold.
    #[error("the attachment already holds addresses other than the requested {asked}: {holds}")]
    HoldsOthers {
        /// What the caller asks for.
        asked: IpAddr,
        /// What is held.
        holds: String,
    },
}

/// Decides the steps of an ADD.
///
/// `held` is what the attachment holds, `of_pod` what other attachments of the
/// same pod and interface on this node hold and is shown dead.
///
/// A repeated ADD answers with what is held, also when the ranges have changed
/// since; a half-done one is completed. Re-homing is only for what is not held
/// yet, and only for an address that today's configuration still allows.
///
/// # Errors
/// [`PlanError::HoldsOthers`].
pub fn plan<'a>(slots: &'a [Slot], held: &'a [Allocation], of_pod: &'a [Allocation], pod: Option<&PodRef>) -> Result<Plan<'a>, PlanError> {
    let mut plan = Plan { held: Vec::new(), rehome: Vec::new(), claim: Vec::new() };
    let missing = if held.is_empty() { slots.iter().collect() } else { plan_repeat(slots, held, &mut plan)? };
    for slot in missing {
        let free = |old: &&Allocation| plan.rehome.iter().all(|(taken, _)| taken.address != old.address);
        let movable = |old: &&Allocation| {
            pod.zip(old.held.pod.as_ref()).is_some_and(|(new, old)| new.is_same(old))
                && slot.offers.iter().any(|offer| offer.candidates.contains(old.address))
        };
        match of_pod.iter().filter(free).find(movable) {
            Some(old) => plan.rehome.push((old, slot)),
            None => plan.claim.push(slot),
        }
    }
    Ok(plan)
}

/// Whether an attachment holds fewer addresses than its ADD was to get.
#[must_use]
pub fn is_half_done(held: &[Allocation]) -> bool {
    held.iter().any(|allocation| held.len() < usize::from(allocation.held.part.of))
}

/// Answers with what is held; the slots that a half-done ADD still lacks.
fn plan_repeat<'a>(slots: &'a [Slot], held: &'a [Allocation], plan: &mut Plan<'a>) -> Result<Vec<&'a Slot>, PlanError> {
    let mut missing = Vec::new();
    plan.held = held.iter().collect();
    plan.held.sort_by_key(|allocation| allocation.held.part.index);
    let whole = !is_half_done(held);
    let parts: HashSet<u16> = held.iter().map(|allocation| allocation.held.part.index).collect();
    let addresses: HashSet<IpAddr> = held.iter().map(|allocation| allocation.address).collect();
    for slot in slots {
        let has_part = parts.contains(&slot.part.index);
        // A requested slot offers one address.
        let lacks = || slot.offers.iter().all(|offer| offer.candidates.nth(0).is_none_or(|address| !addresses.contains(&address)));
        if slot.source == Source::Requested && (whole || has_part) && lacks() {
            let holds: Vec<String> = plan.held.iter().map(|allocation| allocation.address.to_string()).collect();
            let asked = slot.offers.iter().flat_map(|offer| offer.candidates.ranges()).map(|range| range.first_address());
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
    /// The record of an address given for this slot, from the ADD's `draft`.
    #[must_use]
    pub fn draft(&self, offer: &super::Offer, draft: &Draft) -> Draft {
        Draft { source: self.source, part: self.part, prefix: offer.prefix, gateway: offer.gateway, ..draft.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::addr::Subnet;

    fn pod(uid: &str) -> PodRef {
        PodRef { namespace: "default".to_owned(), name: "web-0".to_owned(), uid: Some(uid.to_owned()) }
    }

    fn allocation(address: &str, index: u16, of: u16, uid: &str) -> Allocation {
        Allocation {
            scope: Scope::default(),
            address: address.parse().unwrap(),
            held: Draft {
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
                RangeSet { choices: vec![Choice { subnet, range: subnet.usable(), excluded, gateways, gateway: None }] }
            })
            .collect();
        let requested: Vec<Requested> = requested
            .iter()
            .map(|text| Requested { address: text.parse().unwrap(), prefix: None, gateway: None, origin: String::new() })
            .collect();
        slots(&sets, &requested, &[]).unwrap()
    }

    /// "held / rehome / claim" as addresses and slot numbers.
    fn outline(slots: &[Slot], held: &[Allocation], of_pod: &[Allocation], uid: &str) -> String {
        match plan(slots, held, of_pod, Some(&pod(uid))) {
            Err(error) => error.to_string(),
            Ok(plan) => {
                let held: Vec<_> = plan.held.iter().map(|a| a.address.to_string()).collect();
                let rehome: Vec<_> = plan.rehome.iter().map(|(a, s)| format!("{}>{}", a.address, s.part.index)).collect();
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
        assert_eq!(outline(&two_ranges(&[]), &[allocation("10.0.0.5", 0, 2, "u")], &[], "u"), "10.0.0.5 /  / 1");
    }

    #[test]
    fn a_repeated_add_that_asks_for_another_address_is_refused() {
        let held = [allocation("10.0.0.5", 0, 2, "u"), allocation("10.0.1.5", 1, 2, "u")];
        assert!(outline(&two_ranges(&["10.0.1.6"]), &held, &[], "u").contains("already holds addresses"));
        assert_eq!(outline(&two_ranges(&["10.0.1.5"]), &held, &[], "u"), "10.0.0.5 10.0.1.5 /  / ");
    }

    #[test]
    fn a_dead_sandbox_of_the_same_pod_hands_its_addresses_on() {
        let old = [allocation("10.0.1.5", 1, 2, "u"), allocation("10.0.0.5", 0, 2, "u")];
        assert_eq!(outline(&two_ranges(&[]), &[], &old, "u"), " / 10.0.0.5>0 10.0.1.5>1 / ");
    }

    #[test]
    fn a_half_done_add_takes_the_rest_from_the_dead_sandbox_too() {
        let (held, old) = ([allocation("10.0.0.5", 0, 2, "u")], [allocation("10.0.1.5", 1, 2, "u")]);
        assert_eq!(outline(&two_ranges(&[]), &held, &old, "u"), "10.0.0.5 / 10.0.1.5>1 / ");
        let whole = [allocation("10.0.0.5", 0, 2, "u"), allocation("10.0.1.6", 1, 2, "u")];
        assert_eq!(outline(&two_ranges(&[]), &whole, &old, "u"), "10.0.0.5 10.0.1.6 /  / ");
    }

    #[test]
    fn another_uid_or_an_address_no_longer_allowed_is_not_rehomed() {
        assert_eq!(outline(&two_ranges(&[]), &[], &[allocation("10.0.0.5", 0, 1, "v")], "u"), " /  / 0 1");
        assert_eq!(outline(&two_ranges(&[]), &[], &[allocation("10.9.0.5", 0, 1, "u")], "u"), " /  / 0 1");
    }
}
