//! What one ADD asks for: one slot for each address it is to get.
//!
//! A range set gives one address, from the first of its choices that has
//! room; an address that the caller requests takes the place of the dynamic
//! one of the set that contains it (several in one set: all are given); the
//! configuration's static addresses come after the dynamic ones.

use super::{Part, Source};
use crate::addr::{AddrSet, Range, Subnet};
use std::net::IpAddr;

/// One subnet of a range set, and what of it may be given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The subnet; its prefix length goes into the result.
    pub subnet: Subnet,
    /// First to last that may be given; inside the usable part of the subnet.
    pub range: Range,
    /// Given to nobody: exclusions and gateways.
    pub excluded: Vec<Range>,
    /// The gateway of the result.
    pub gateway: Option<IpAddr>,
}

impl Choice {
    /// The addresses that may be given out, held or not.
    #[must_use]
    pub fn candidates(&self) -> AddrSet {
        let mut set = AddrSet::from_range(&self.range);
        for range in &self.excluded {
            set.remove(range);
        }
        set
    }
}

/// Ranges of which one gives the address: Whereabouts writes sets of one,
/// host-local's inner lists can be longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet {
    /// In order of preference; never empty, all of one family.
    pub choices: Vec<Choice>,
}

/// An address that the caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// The address.
    pub address: IpAddr,
    /// The prefix length, when one was given: it must be the subnet's.
    pub prefix: Option<u8>,
    /// A gateway asked for with it (`GATEWAY=`).
    pub gateway: Option<IpAddr>,
    /// Where it was written, for messages.
    pub origin: String,
}

/// An address that the configuration assigns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Static {
    /// The address.
    pub address: IpAddr,
    /// The prefix length.
    pub prefix: u8,
    /// The gateway of the result.
    pub gateway: Option<IpAddr>,
}

/// One address that an ADD is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Which of the ADD's addresses.
    pub part: Part,
    /// Why these candidates.
    pub source: Source,
    /// Where the address may come from, in order; each with what the result
    /// says about it.
    pub offers: Vec<Offer>,
}

/// Candidates, and what the result says about an address out of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The addresses that may be given; the lowest free one is.
    pub candidates: AddrSet,
    /// The prefix length of the result.
    pub prefix: u8,
    /// The gateway of the result.
    pub gateway: Option<IpAddr>,
}

/// Why a request cannot be met by this configuration, whoever holds what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The requested address is in none of the ranges.
    #[error("{origin}: expected an address inside one of the ranges: {address}")]
    Outside {
        /// Where it was asked for.
        origin: String,
        /// The address.
        address: IpAddr,
    },
    /// It is inside a subnet, but never given out.
    #[error("{origin}: this address is not given out, it is {what}: {address}")]
    Barred {
        /// Where it was asked for.
        origin: String,
        /// The address.
        address: IpAddr,
        /// What bars it.
        what: &'static str,
    },
    /// The prefix length is not the subnet's.
    #[error("{origin}: expected the prefix length of subnet {subnet}, or none: {address}/{prefix}")]
    Prefix {
        /// Where it was asked for.
        origin: String,
        /// The address.
        address: IpAddr,
        /// The prefix length asked for.
        prefix: u8,
        /// The subnet that holds it.
        subnet: Subnet,
    },
    /// More addresses than a record can number.
    #[error("expected at most 65535 addresses for one interface")]
    TooMany,
}

/// The slots of one ADD, in the order of the result.
///
/// # Errors
/// A requested address that no range can give.
pub fn slots(sets: &[RangeSet], requested: &[Requested], statics: &[Static]) -> Result<Vec<Slot>, RequestError> {
    let mut wanted: Vec<(Source, Vec<Offer>)> = Vec::new();
    let mut met = vec![false; requested.len()];
    for set in sets {
        let mut asked = Vec::new();
        for (request, met) in requested.iter().zip(&mut met) {
            if *met {
                continue;
            }
            if let Some(offer) = offer_requested(set, request)? {
                *met = true;
                asked.push((Source::Requested, vec![offer]));
            }
        }
        if asked.is_empty() {
            let offers = set.choices.iter().map(|choice| Offer {
                candidates: choice.candidates(),
                prefix: choice.subnet.length(),
                gateway: choice.gateway,
            });
            wanted.push((Source::Dynamic, offers.collect()));
        } else {
            wanted.append(&mut asked);
        }
    }
    if let Some((request, _)) = requested.iter().zip(met).find(|(_, met)| !met) {
        return Err(outside(sets, request));
    }
    wanted.extend(statics.iter().map(|fixed| {
        let offer = Offer { candidates: AddrSet::from_range(&Range::single(fixed.address)), prefix: fixed.prefix, gateway: fixed.gateway };
        (Source::Static, vec![offer])
    }));
    let of = u16::try_from(wanted.len()).map_or(Err(RequestError::TooMany), Ok)?;
    Ok((0..of).zip(wanted).map(|(index, (source, offers))| Slot { part: Part { index, of }, source, offers }).collect())
}

fn offer_requested(set: &RangeSet, request: &Requested) -> Result<Option<Offer>, RequestError> {
    let Some(choice) = set.choices.iter().find(|choice| choice.candidates().contains(request.address)) else {
        return Ok(None);
    };
    if let Some(prefix) = request.prefix.filter(|prefix| *prefix != choice.subnet.length()) {
        return Err(RequestError::Prefix { origin: request.origin.clone(), address: request.address, prefix, subnet: choice.subnet });
    }
    Ok(Some(Offer {
        candidates: AddrSet::from_range(&Range::single(request.address)),
        prefix: choice.subnet.length(),
        gateway: request.gateway.or(choice.gateway),
    }))
}

/// Names what stands in the way of a requested address.
fn outside(sets: &[RangeSet], request: &Requested) -> RequestError {
    let address = request.address;
    let origin = request.origin.clone();
    let mut choices = sets.iter().flat_map(|set| &set.choices).filter(|choice| choice.subnet.contains(address));
    let Some(choice) = choices.next() else {
        return RequestError::Outside { origin, address };
    };
    let what = if choice.gateway == Some(address) {
        "the gateway"
    } else if !choice.subnet.usable().contains(address) {
        "the network or broadcast address"
    } else if choice.excluded.iter().any(|range| range.contains(address)) {
        "excluded, or a gateway"
    } else {
        return RequestError::Outside { origin, address };
    };
    RequestError::Barred { origin, address, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(subnet: &str) -> RangeSet {
        let subnet = Subnet::parse(subnet).unwrap();
        let gateway = subnet.usable().first_address();
        RangeSet {
            choices: vec![Choice { subnet, range: subnet.usable(), excluded: vec![Range::single(gateway)], gateway: Some(gateway) }],
        }
    }

    fn ask(address: &str) -> Requested {
        Requested { address: address.parse().unwrap(), prefix: None, gateway: None, origin: "ips".to_owned() }
    }

    fn sources(slots: &[Slot]) -> Vec<Source> {
        slots.iter().map(|slot| slot.source).collect()
    }

    #[test]
    fn a_requested_address_replaces_the_dynamic_one_of_its_range() {
        let sets = [set("10.0.0.0/24"), set("10.0.1.0/24")];
        let slots = slots(&sets, &[ask("10.0.1.7"), ask("10.0.1.8")], &[]).unwrap();
        assert_eq!(sources(&slots), [Source::Dynamic, Source::Requested, Source::Requested]);
        assert_eq!(slots[2].part, Part { index: 2, of: 3 });
    }

    #[test]
    fn what_bars_a_requested_address_is_named() {
        let sets = [set("10.0.0.0/24")];
        let bar = |address: &str| slots(&sets, &[ask(address)], &[]).unwrap_err().to_string();
        assert!(bar("10.0.0.1").contains("the gateway"));
        assert!(bar("10.0.0.0").contains("network or broadcast"));
        assert!(bar("10.0.0.255").contains("network or broadcast"));
        assert!(bar("10.0.9.1").contains("inside one of the ranges"));
    }

    #[test]
    fn static_addresses_come_after_the_dynamic_ones() {
        let fixed = Static { address: "192.0.2.7".parse().unwrap(), prefix: 24, gateway: None };
        let slots = slots(&[set("10.0.0.0/24")], &[], &[fixed]).unwrap();
        assert_eq!(sources(&slots), [Source::Dynamic, Source::Static]);
    }

    #[test]
    fn another_prefix_than_the_subnets_is_refused() {
        let request = Requested { prefix: Some(16), ..ask("10.0.0.9") };
        assert!(matches!(slots(&[set("10.0.0.0/24")], &[request], &[]), Err(RequestError::Prefix { .. })));
    }
}
