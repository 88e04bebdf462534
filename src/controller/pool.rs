//! What a pool gives to claims, whatever kind it has.

use super::shapes::PoolSpec;
use crate::addr::{
    AddrSet, Blocks, Family, Range, Subnet, address, number, parse_address, parse_prefixed,
};
use crate::config::Pool;
use std::net::IpAddr;
use std::time::Duration;

pub use crate::store::kube::objects::cluster_api::{PoolId, PoolKind};

/// What a pool gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supply {
    /// The parts, in the order in which they are tried.
    pub parts: Vec<Part>,
    /// How long an address stays held after its claim was deleted.
    pub grace: Duration,
    /// What it lists, whether it gives it or not.
    pub outline: Outline,
}

/// What a pool lists. Of that, it gives what is in its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The subnets.
    pub sections: Vec<Section>,
    /// The addresses for certain pods.
    pub reserved: Blocks,
}

/// What a pool lists in one subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The subnet.
    pub subnet: Subnet,
    /// The addresses, whether they are given or not.
    pub listed: Blocks,
    /// The gateway.
    pub gateway: Option<IpAddr>,
}

impl Outline {
    /// Returns how many addresses are listed. Saturates at 2^128 - 1.
    #[must_use]
    pub fn count(&self) -> u128 {
        self.sections.iter().fold(0, |sum: u128, section| sum.saturating_add(section.count()))
    }
}

impl Section {
    /// Returns how many addresses are listed. Saturates at 2^128 - 1.
    #[must_use]
    pub fn count(&self) -> u128 {
        self.listed.ranges().fold(0, |sum: u128, range| sum.saturating_add(range.count()))
    }
}

/// Addresses of a pool that share a subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What claims can get: neither excluded nor the gateway.
    pub addresses: AddrSet,
    /// The prefix length of the subnet.
    pub prefix: u8,
    /// The gateway.
    pub gateway: Option<IpAddr>,
}

impl Supply {
    /// Reads a pool of Cluster API. Its webhook may not be installed, so everything is checked.
    ///
    /// # Errors
    /// The first mistake, with its path.
    pub fn of_cluster_api(spec: &PoolSpec) -> Result<Self, String> {
        let listed = ranges("spec.addresses", &spec.addresses)?;
        let all: Blocks = listed.iter().copied().collect();
        let Some(lowest) = all.ranges().next().map(|range| range.first_address()) else {
            return Err("spec.addresses: expected at least one address, found none".to_owned());
        };
        let family = Family::of(lowest);
        if let Some(other) = listed.iter().find(|range| range.family() != family) {
            return Err(format!(
                "spec.addresses: expected addresses of one family, found {lowest} and {other}"
            ));
        }
        if family.bits() < spec.prefix {
            return Err(format!(
                "spec.prefix: expected at most {} for {family}, found {}",
                family.bits(),
                spec.prefix
            ));
        }
        let subnet = Subnet::parse(&format!("{lowest}/{}", spec.prefix))
            .map_err(|error| format!("spec.prefix: {error}"))?;
        let gateway = match spec.gateway.as_str() {
            "" => None,
            text => Some(
                parse_address(text)
                    .map_err(|error| format!("spec.gateway: {error}, found \"{text}\""))?,
            ),
        };
        let mut barred = ranges("spec.excludedAddresses", &spec.excluded_addresses)?;
        barred.extend(gateway.map(Range::single));
        if !spec.allocate_reserved {
            let whole = subnet.whole();
            barred.push(Range::single(whole.first_address()));
            if family == Family::V4 {
                barred.push(Range::single(whole.last_address()));
            }
        }
        // One set with gaps: whether an address is in it is found in a few steps, also for a pool
        // of many thousand entries.
        barred.extend(gaps(&all));
        let barred: Blocks = barred.into_iter().collect();
        let highest = all.ranges().last().map_or(lowest, |range| range.last_address());
        let whole = Range::new(lowest, highest).unwrap_or(Range::single(lowest));
        let addresses = AddrSet::outside(&whole, &[&barred]);
        let parts = vec![Part { addresses, prefix: spec.prefix, gateway }];
        let sections = vec![Section { subnet, listed: all, gateway }];
        let outline = Outline { sections, reserved: Blocks::default() };
        Ok(Self { parts, grace: Duration::from_secs(spec.grace_seconds.into()), outline })
    }

    /// Returns what a pool of hereabouts gives to claims: what it gives to pods, too.
    #[must_use]
    pub fn of_own(pool: &Pool) -> Self {
        let reserved = pool.reservations.iter().flat_map(|entry| entry.ranges.iter().copied());
        let gateways = pool.subnets.iter().filter_map(|subnet| subnet.gateway).map(Range::single);
        let reserved: Blocks = reserved.collect();
        let barred: Blocks = reserved.ranges().chain(gateways).collect();
        let sections = pool.subnets.iter().map(|subnet| Section {
            subnet: subnet.subnet,
            listed: subnet.addresses.clone(),
            gateway: subnet.gateway,
        });
        let outline = Outline { sections: sections.collect(), reserved };
        let parts = pool.subnets.iter().flat_map(|subnet| {
            let excluded: Blocks = subnet.excluded.iter().map(|entry| entry.range).collect();
            let barred = &barred;
            let parts: Vec<Part> = subnet
                .addresses
                .ranges()
                .map(|range| Part {
                    addresses: AddrSet::outside(&range, &[barred, &excluded]),
                    prefix: subnet.subnet.length(),
                    gateway: subnet.gateway,
                })
                .collect();
            parts
        });
        Self { parts: parts.collect(), grace: Duration::ZERO, outline }
    }

    /// Returns how many addresses the pool can give.
    #[must_use]
    pub fn total(&self) -> u128 {
        self.parts.iter().fold(0, |sum: u128, part| sum.saturating_add(part.addresses.count()))
    }

    /// Returns the part that has an address.
    #[must_use]
    pub fn part(&self, address: IpAddr) -> Option<&Part> {
        self.parts.iter().find(|part| part.addresses.contains(address))
    }
}

/// Returns the ranges between blocks of one family.
fn gaps(blocks: &Blocks) -> Vec<Range> {
    let ranges: Vec<Range> = blocks.ranges().collect();
    let between = ranges.windows(2).filter_map(|pair| {
        let family = pair[0].family();
        // Blocks are sorted and not adjacent.
        let first = number(pair[0].last_address()).checked_add(1)?;
        let last = number(pair[1].first_address()).checked_sub(1)?;
        Range::new(address(family, first), address(family, last))
    });
    between.collect()
}

/// Parses addresses, subnets and `first-last`.
fn ranges(place: &str, texts: &[String]) -> Result<Vec<Range>, String> {
    let parse = |text: &String| -> Option<Range> {
        if let Some((first, last)) = text.split_once('-') {
            Range::new(parse_address(first.trim()).ok()?, parse_address(last.trim()).ok()?)
        } else if text.contains('/') {
            parse_prefixed(text).ok()?;
            Subnet::parse(text).ok().map(|subnet| subnet.whole())
        } else {
            parse_address(text).ok().map(Range::single)
        }
    };
    let one = |(at, text): (usize, &String)| {
        parse(text).ok_or_else(|| {
            format!("{place}[{at}]: expected an address, a subnet or first-last, found \"{text}\"")
        })
    };
    texts.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(spec: &str, expected: &Expect) {
        let spec: PoolSpec = serde_json::from_str(spec).unwrap();
        let text = match Supply::of_cluster_api(&spec) {
            Err(error) => error,
            Ok(supply) => {
                let ranges = supply.parts.iter().flat_map(|part| {
                    part.addresses.ranges().map(move |range| format!("{range}/{}", part.prefix))
                });
                ranges.chain([format!("{} in total", supply.total())]).collect::<Vec<_>>().join(" ")
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn a_pool_gives_what_it_lists_but_neither_gateway_nor_reserved_nor_excluded() {
        check(
            r#"{"gateway":"10.10.10.1","prefix":24,"addresses":["10.10.10.104","10.10.10.2-10.10.10.100","10.10.10.102"]}"#,
            &expect![
                "10.10.10.2-10.10.10.100/24 10.10.10.102-10.10.10.102/24 10.10.10.104-10.10.10.104/24 101 in total"
            ],
        );
        check(
            r#"{"prefix":29,"addresses":["10.0.0.0/29"],"excludedAddresses":["10.0.0.3"]}"#,
            &expect!["10.0.0.1-10.0.0.2/29 10.0.0.4-10.0.0.6/29 5 in total"],
        );
        check(
            r#"{"prefix":29,"addresses":["10.0.0.0/29"],"allocateReservedIPAddresses":true,"gateway":"10.0.0.1"}"#,
            &expect!["10.0.0.0-10.0.0.0/29 10.0.0.2-10.0.0.7/29 7 in total"],
        );
        // IPv6 has no broadcast address.
        check(
            r#"{"prefix":125,"addresses":["fd00::/125"]}"#,
            &expect!["fd00::1-fd00::7/125 7 in total"],
        );
        check(
            r#"{"prefix":64,"addresses":["fd00::/64"]}"#,
            &expect!["fd00::1-fd00::ffff:ffff:ffff:ffff/64 18446744073709551615 in total"],
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_path() {
        check(
            r#"{"prefix":24}"#,
            &expect!["spec.addresses: expected at least one address, found none"],
        );
        check(
            r#"{"prefix":24,"addresses":["10.0.0.9-10.0.0.1"]}"#,
            &expect![[
                r#"spec.addresses[0]: expected an address, a subnet or first-last, found "10.0.0.9-10.0.0.1""#
            ]],
        );
        check(
            r#"{"prefix":24,"addresses":["10.0.0.1","fd00::1"]}"#,
            &expect![
                "spec.addresses: expected addresses of one family, found 10.0.0.1 and fd00::1-fd00::1"
            ],
        );
        check(
            r#"{"prefix":33,"addresses":["10.0.0.1"]}"#,
            &expect!["spec.prefix: expected at most 32 for IPv4, found 33"],
        );
        check(
            r#"{"prefix":24,"addresses":["10.0.0.1"],"gateway":"10.0.0.256"}"#,
            &expect![[r#"spec.gateway: expected an IPv4 or IPv6 address, found "10.0.0.256""#]],
        );
    }
}
