//! The addresses that one ADD asks for: one slot for each.
//!
//! A range set gives one address, from the first of its ranges that has a free one. An address that
//! the caller requests replaces the dynamic one of the range set that contains it. The static
//! addresses of the configuration come after the dynamic ones. [`check`] limits their number.

use super::{Part, RequestError, Reservations, Source};
use crate::addr::{AddrSet, Blocks, Family, Range, Subnet, number};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

/// One range of a range set, with the addresses that it must not give out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredRange {
    /// The subnet. Its prefix length is a part of the result.
    pub subnet: Subnet,
    /// The first to the last address that may be given out, within the usable part of the subnet.
    pub bounds: Range,
    /// The excluded addresses: those of the whole configuration, which all its ranges share, and
    /// those of this range.
    pub excluded: [Rc<Blocks>; 2],
    /// All gateways of the configuration. They are not given out, either.
    pub gateways: Rc<Blocks>,
    /// The addresses of the configuration that are not given dynamically.
    pub reserved: Rc<Blocks>,
    /// The gateway of the result.
    pub gateway: Option<IpAddr>,
}

impl ConfiguredRange {
    /// Returns the addresses that may be given out dynamically, whether they are held or not.
    #[must_use]
    pub fn candidates(&self) -> AddrSet {
        let [of_all, own] = &self.excluded;
        AddrSet::outside(&self.bounds, &[of_all, own, &self.gateways, &self.reserved])
    }

    /// Returns the addresses of the range that may be given out, but not dynamically.
    #[must_use]
    pub fn reserved_candidates(&self) -> AddrSet {
        let [of_all, own] = &self.excluded;
        let dynamic: Blocks = self.candidates().ranges().collect();
        AddrSet::outside(&self.bounds, &[of_all, own, &self.gateways, &dynamic])
    }

    /// Returns this address as the only candidate.
    fn only(&self, address: IpAddr) -> Candidates {
        Candidates {
            addresses: AddrSet::from_range(&Range::single(address)),
            prefix: self.subnet.length(),
            gateway: self.gateway,
        }
    }

    /// Returns the reason why an address of the subnet is not given out.
    fn bar(&self, address: IpAddr) -> Option<&'static str> {
        if self.gateway == Some(address) {
            Some("the gateway")
        } else if self.gateways.contains(address) {
            Some("a gateway of this configuration")
        } else if !self.subnet.usable().contains(address) {
            Some("the network or broadcast address")
        } else if self.excluded.iter().any(|blocks| blocks.contains(address)) {
            Some("excluded")
        } else {
            None
        }
    }
}

/// The ranges of which one gives the address. In Whereabouts' spelling, a set has one range. An
/// inner list of host-local may have several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet {
    /// The ranges in order of preference. There is at least one, and all are of one family.
    pub ranges: Vec<ConfiguredRange>,
}

/// An address that the caller requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// The address.
    pub address: IpAddr,
    /// The prefix length, if one was given. It must be the one of the subnet.
    pub prefix: Option<u8>,
    /// The gateway that was requested with it (`GATEWAY=`).
    pub gateway: Option<IpAddr>,
    /// The place of the request, for messages.
    pub origin: String,
}

/// A static address of the configuration.
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
    /// The position among the addresses of the ADD.
    pub part: Part,
    /// Why it has these candidates.
    pub source: Source,
    /// The candidates of each range, in order of preference.
    pub candidates: Vec<Candidates>,
    /// For a reserved address: the candidates for a further interface of the same sandbox, because one
    /// interface has the reserved address.
    pub fallback: Rc<[Candidates]>,
}

/// Addresses of which one is given out, and the values of the result for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// The addresses that may be given out. The lowest free one is taken.
    pub addresses: AddrSet,
    /// The prefix length of the result.
    pub prefix: u8,
    /// The gateway of the result.
    pub gateway: Option<IpAddr>,
}

/// The limits on the addresses of one ADD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// The limit on all addresses together: dynamic, requested and static.
    pub addresses: usize,
    /// The limit on the requested addresses of one range set. Requested addresses outside all range
    /// sets are counted per family.
    pub requested: usize,
}

/// Checks that a network and a caller do not exceed the limits. This applies to new allocations
/// only. The addresses that an attachment already holds are returned, even if there are more.
///
/// # Errors
/// Returns the limit that is exceeded.
pub fn check(
    sets: &[RangeSet],
    requested: &[Requested],
    slots: &[Slot],
    most: Most,
) -> Result<(), RequestError> {
    let places = Places::of(sets);
    let mut asked: HashMap<(Option<usize>, Family), usize> = HashMap::new();
    for request in requested {
        let family = Family::of(request.address);
        let set = places.find(request.address).map(|(set, _)| set);
        let count = asked.entry((set, family)).or_default();
        *count += 1;
        if most.requested < *count {
            let of = if set.is_some() {
                "one range".to_owned()
            } else {
                format!("{family} where there is no range")
            };
            return Err(RequestError::TooManyRequested {
                origin: request.origin.clone(),
                address: request.address,
                most: most.requested,
                of,
            });
        }
    }
    if most.addresses < slots.len() {
        return Err(RequestError::TooMany { found: slots.len(), most: most.addresses });
    }
    Ok(())
}

/// Returns the subnets in which pods get addresses: those of the ranges, then those of the static
/// addresses.
pub fn subnets<'s>(
    sets: &'s [RangeSet],
    statics: &'s [Static],
) -> impl Iterator<Item = Subnet> + 's {
    let of_ranges = sets.iter().flat_map(|set| &set.ranges).map(|range| range.subnet);
    let of_statics = statics.iter();
    of_ranges.chain(of_statics.filter_map(|fixed| Subnet::new(fixed.address, fixed.prefix).ok()))
}

/// The ranges by their first address. No two ranges of one configuration overlap.
struct Places<'s>(BTreeMap<(Family, u128), (usize, &'s ConfiguredRange)>);

impl<'s> Places<'s> {
    fn of(sets: &'s [RangeSet]) -> Self {
        let all = sets
            .iter()
            .enumerate()
            .flat_map(|(at, set)| set.ranges.iter().map(move |range| (at, range)));
        Self(
            all.map(|(at, range)| {
                ((range.bounds.family(), number(range.bounds.first_address())), (at, range))
            })
            .collect(),
        )
    }

    /// Returns the range that contains the address, and the number of its set.
    fn find(&self, address: IpAddr) -> Option<(usize, &'s ConfiguredRange)> {
        let (_, found) = self.0.range(..=(Family::of(address), number(address))).next_back()?;
        Some(*found).filter(|(_, range)| range.bounds.contains(address))
    }
}

/// Returns the slots of one ADD, in the order of the result. A pod with reserved addresses gets
/// these from their sets, whatever it requests there.
///
/// # Errors
/// Fails for a requested address that no range can give out, and for too many addresses.
pub fn slots(
    sets: &[RangeSet],
    requested: &[Requested],
    statics: &[Static],
    reservations: &Reservations,
) -> Result<Vec<Slot>, RequestError> {
    let places = Places::of(sets);
    // Reserved addresses may be outside of every range: then the subnet decides.
    let home = |address: IpAddr| {
        let all = sets.iter().enumerate();
        let mut ranges = all.flat_map(|(at, set)| set.ranges.iter().map(move |range| (at, range)));
        let of_subnet = || ranges.find(|(_, range)| range.subnet.contains(address));
        places.find(address).or_else(of_subnet)
    };
    let mut reserved: BTreeMap<usize, Vec<Candidates>> = BTreeMap::new();
    for address in &reservations.own {
        if let Some((set, range)) = home(*address) {
            reserved.entry(set).or_default().push(range.only(*address));
        }
    }
    let of_pods: Blocks = reservations.of_pods().collect();
    let fixed: Blocks = statics.iter().map(|fixed| Range::single(fixed.address)).collect();
    let mut asked: BTreeMap<usize, Vec<Candidates>> = BTreeMap::new();
    let mut brought = Vec::new();
    for request in requested {
        // The network gives the address to the pod in any case.
        if fixed.contains(request.address) {
            continue;
        }
        // Without any range, a pod brings its address together with the prefix length.
        if sets.is_empty() && statics.is_empty() {
            brought.push((Source::Requested, vec![brought_candidate(request)?], Rc::default()));
            continue;
        }
        let address = request.address;
        let is_replaced = || home(address).is_some_and(|(set, _)| reserved.contains_key(&set));
        if !reserved.is_empty() && is_replaced() {
            continue;
        }
        if of_pods.contains(address)
            && let Some(owner) = reservations.owner_of(address)
        {
            let (origin, owner) = (request.origin.clone(), owner.to_string());
            return Err(RequestError::Reserved { origin, address, owner });
        }
        let place = match reservations.on_request.contains(address) {
            true => home(address),
            false => places.find(address),
        };
        let Some((set, range)) = place.filter(|(_, range)| range.bar(address).is_none()) else {
            return Err(outside(sets, request));
        };
        asked.entry(set).or_default().push(requested_candidate(range, request)?);
    }
    let none: Rc<[Candidates]> = Rc::default();
    let mut wanted: Vec<(Source, Vec<Candidates>, Rc<[Candidates]>)> = brought;
    for (at, set) in sets.iter().enumerate() {
        let dynamic = || {
            let candidates = |range: &ConfiguredRange| Candidates {
                addresses: range.candidates(),
                prefix: range.subnet.length(),
                gateway: range.gateway,
            };
            set.ranges.iter().map(candidates).collect::<Vec<_>>()
        };
        match (reserved.remove(&at), asked.remove(&at)) {
            (Some(candidates), _) => {
                let fallback: Rc<[Candidates]> = dynamic().into();
                let candidates = candidates.into_iter();
                wanted
                    .extend(candidates.map(|candidates| {
                        (Source::Static, vec![candidates], Rc::clone(&fallback))
                    }));
            }
            (None, Some(candidates)) => wanted.extend(
                candidates
                    .into_iter()
                    .map(|candidates| (Source::Requested, vec![candidates], Rc::clone(&none))),
            ),
            (None, None) => wanted.push((Source::Dynamic, dynamic(), Rc::clone(&none))),
        }
    }
    wanted.extend(statics.iter().map(|fixed| {
        let candidates = Candidates {
            addresses: AddrSet::from_range(&Range::single(fixed.address)),
            prefix: fixed.prefix,
            gateway: fixed.gateway,
        };
        (Source::Static, vec![candidates], Rc::clone(&none))
    }));
    let found = wanted.len();
    let of = u16::try_from(found)
        .map_err(|_| RequestError::TooMany { found, most: usize::from(u16::MAX) })?;
    Ok((0..of)
        .zip(wanted)
        .map(|(index, (source, candidates, fallback))| Slot {
            part: Part { index, of },
            source,
            candidates,
            fallback,
        })
        .collect())
}

fn requested_candidate(
    range: &ConfiguredRange,
    request: &Requested,
) -> Result<Candidates, RequestError> {
    if let Some(prefix) = request.prefix.filter(|prefix| *prefix != range.subnet.length()) {
        return Err(RequestError::Prefix {
            origin: request.origin.clone(),
            address: request.address,
            prefix,
            subnet: range.subnet,
        });
    }
    let candidates = range.only(request.address);
    Ok(Candidates { gateway: request.gateway.or(candidates.gateway), ..candidates })
}

fn brought_candidate(request: &Requested) -> Result<Candidates, RequestError> {
    let address = request.address;
    let Some(prefix) = request.prefix else {
        return Err(RequestError::NoPrefix { origin: request.origin.clone(), address });
    };
    let barred = |what| RequestError::Barred { origin: request.origin.clone(), address, what };
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(barred("no address of an interface"));
    }
    if request.gateway == Some(address) {
        return Err(barred("the gateway"));
    }
    if Subnet::new(address, prefix).is_ok_and(|subnet| !subnet.usable().contains(address)) {
        return Err(barred("the network or broadcast address"));
    }
    Ok(Candidates {
        addresses: AddrSet::from_range(&Range::single(address)),
        prefix,
        gateway: request.gateway,
    })
}

/// Checks that a network may give out its static addresses. Such an address must not be a gateway
/// of the network, and not the network or broadcast address of its own prefix or of a range's
/// subnet. An address that the same configuration excludes is allowed.
///
/// # Errors
/// Returns an address that is not allowed.
pub fn check_statics(sets: &[RangeSet], statics: &[Static]) -> Result<(), RequestError> {
    let ranges = || sets.iter().flat_map(|set| &set.ranges);
    let gateways: Blocks = ranges()
        .filter_map(|range| range.gateway)
        .chain(statics.iter().filter_map(|fixed| fixed.gateway))
        .map(Range::single)
        .collect();
    let ends =
        ranges().map(|range| range.subnet).filter(|subnet| subnet.usable() != subnet.whole());
    let ends: Blocks = ends
        .flat_map(|subnet| [subnet.whole().first_address(), subnet.whole().last_address()])
        .map(Range::single)
        .collect();
    for fixed in statics {
        let own = Subnet::new(fixed.address, fixed.prefix);
        let what = if gateways.contains(fixed.address) {
            "a gateway of this configuration"
        } else if ends.contains(fixed.address)
            || own.is_ok_and(|subnet| !subnet.usable().contains(fixed.address))
        {
            "the network or broadcast address"
        } else {
            continue;
        };
        return Err(RequestError::BarredStatic { address: fixed.address, what });
    }
    Ok(())
}

/// Returns the error that names the obstacle for a requested address.
fn outside(sets: &[RangeSet], request: &Requested) -> RequestError {
    let address = request.address;
    let origin = request.origin.clone();
    let mut ranges =
        sets.iter().flat_map(|set| &set.ranges).filter(|range| range.subnet.contains(address));
    let what = ranges.next().and_then(|range| range.bar(address));
    match what {
        Some(what) => RequestError::Barred { origin, address, what },
        None => RequestError::Outside { origin, address, ranges: outline(sets) },
    }
}

/// Returns the first ranges in few words.
fn outline(sets: &[RangeSet]) -> String {
    let mut ranges = sets.iter().flat_map(|set| &set.ranges).map(|range| range.bounds);
    let first: Vec<String> = ranges.by_ref().take(4).map(|range| range.to_string()).collect();
    match (first.is_empty(), ranges.next()) {
        (true, _) => "a range, but the network has none".to_owned(),
        (false, None) => first.join(" or "),
        (false, Some(_)) => format!("{} or another range", first.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn set(subnet: &str) -> RangeSet {
        let subnet = Subnet::parse(subnet).unwrap();
        let gateway = subnet.usable().first_address();
        RangeSet {
            ranges: vec![ConfiguredRange {
                subnet,
                bounds: subnet.usable(),
                excluded: Default::default(),
                gateways: Rc::new([Range::single(gateway)].into_iter().collect()),
                reserved: Rc::default(),
                gateway: Some(gateway),
            }],
        }
    }

    fn ask(address: &str) -> Requested {
        Requested {
            address: address.parse().unwrap(),
            prefix: None,
            gateway: None,
            origin: "ips".to_owned(),
        }
    }

    fn sources(slots: &[Slot]) -> Vec<Source> {
        slots.iter().map(|slot| slot.source).collect()
    }

    #[test]
    fn a_requested_address_replaces_the_dynamic_one_of_its_range() {
        let sets = [set("10.0.0.0/24"), set("10.0.1.0/24")];
        let requested = [ask("10.0.1.7"), ask("10.0.1.8")];
        let slots = slots(&sets, &requested, &[], &Reservations::default()).unwrap();
        assert_eq!(sources(&slots), [Source::Dynamic, Source::Requested, Source::Requested]);
        assert_eq!(slots[2].part, Part { index: 2, of: 3 });
        let most = |addresses, requested_of_one| {
            check(&sets, &requested, &slots, Most { addresses, requested: requested_of_one })
        };
        assert_eq!(most(3, 2), Ok(()));
        assert!(matches!(most(3, 1), Err(RequestError::TooManyRequested { most: 1, .. })));
        assert_eq!(most(2, 2), Err(RequestError::TooMany { found: 3, most: 2 }));
    }

    #[test]
    fn static_addresses_obey_gateways_and_the_ends_of_subnets() {
        let sets = [set("10.0.0.0/24")];
        let fixed = |address: &str, gateway: Option<&str>| Static {
            address: address.parse().unwrap(),
            prefix: 16,
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        };
        let barred = |statics: &[Static]| check_statics(&sets, statics).is_err();
        for address in ["10.0.0.1", "10.0.0.0", "10.0.0.255", "10.9.0.0", "10.9.255.255"] {
            assert!(barred(&[fixed(address, None)]), "{address}");
        }
        assert!(!barred(&[fixed("10.0.0.2", None), fixed("10.9.0.1", Some("10.9.0.9"))]));
        assert!(barred(&[fixed("10.9.0.9", None), fixed("10.9.0.1", Some("10.9.0.9"))]));
    }

    #[test]
    fn what_bars_a_requested_address_is_named() {
        let sets = [set("10.0.0.0/24")];
        let bar = |address: &&str| {
            slots(&sets, &[ask(address)], &[], &Reservations::default()).unwrap_err().to_string()
        };
        let barred = ["10.0.0.1", "10.0.0.0", "10.0.0.255", "10.0.9.1"];
        expect![[r#"
            ips: expected an address that may be given, but 10.0.0.1 is the gateway
            ips: expected an address that may be given, but 10.0.0.0 is the network or broadcast address
            ips: expected an address that may be given, but 10.0.0.255 is the network or broadcast address
            ips: expected an address of 10.0.0.1-10.0.0.254, found 10.0.9.1"#]].assert_eq(&barred.iter().map(bar).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn static_addresses_come_after_the_dynamic_ones() {
        let fixed = Static { address: "192.0.2.7".parse().unwrap(), prefix: 24, gateway: None };
        let slots = slots(&[set("10.0.0.0/24")], &[], &[fixed], &Reservations::default()).unwrap();
        assert_eq!(sources(&slots), [Source::Dynamic, Source::Static]);
    }

    #[test]
    fn another_prefix_than_the_subnets_is_refused() {
        let request = Requested { prefix: Some(16), ..ask("10.0.0.9") };
        assert!(matches!(
            slots(&[set("10.0.0.0/24")], &[request], &[], &Reservations::default()),
            Err(RequestError::Prefix { .. })
        ));
    }
}
