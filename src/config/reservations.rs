//! `reservations` and `reserved`: addresses for certain pods, and addresses that are given only to
//! a caller that asks for them.

use super::address_list::{listed, span};
use super::field::Field;
use super::keys::check_known;
use super::merge::Merged;
use super::{ConfigError, Mistakes};
use crate::addr::{AddrSet, Blocks, Range, number};
use crate::ipam::{IfName, Owner, OwnerKind, RangeSet, Reservation, Reservations};
use crate::json::Json;

type Result<T> = std::result::Result<T, Mistakes>;

/// The keys of an entry that names its owner with a key.
const KEYS: &[&str] = &["pod", "statefulSet", "address", "addresses", "interface"];

/// The forms of an entry, for messages.
const FORMS: &str = "expected {\"NAMESPACE/POD\": ADDRESS} or {\"statefulSet\": \"NAMESPACE/NAME\", \"addresses\": \"FIRST-LAST\"}";

/// Parses the reservations of a configuration.
pub(super) fn parse(merged: &Merged<'_>) -> Result<Reservations> {
    let mut mistakes = Mistakes::default();
    let entries = merged.field("reservations").map_or(Ok(Vec::new()), |field| all(&field));
    let entries = mistakes.note(entries).unwrap_or_default();
    let reserved = merged.field("reserved").map_or(Ok(Vec::new()), |field| listed(&field));
    let on_request = mistakes.note(reserved).unwrap_or_default().into_iter().collect();
    mistakes.none_or(Reservations { entries, on_request, own: Vec::new() })
}

/// Parses one object of reservations, or a list of them.
pub(super) fn all(field: &Field<'_>) -> Result<Vec<Reservation>> {
    let Json::Array(_) = field.value else {
        return entries(field);
    };
    let lists = Mistakes::each(field.list()?, |entry| entries(&entry))?;
    Ok(lists.into_iter().flatten().collect())
}

fn entries(field: &Field<'_>) -> Result<Vec<Reservation>> {
    let Json::Object(_) = field.value else {
        return Err(field.wrong(FORMS).into());
    };
    let (set, pod) = (field.find("statefulSet"), field.find("pod"));
    if set.is_some() || pod.is_some() {
        check_known(field, KEYS)?;
    }
    let interface = || field.find("interface").map(|field| interface(&field)).transpose();
    if let Some(set) = set {
        let owner = owner(OwnerKind::StatefulSet, &set, interface()?)?;
        let Some(addresses) = field.find("addresses") else {
            return Err(field.lacks("addresses").into());
        };
        let ranges = match addresses.value {
            Json::Array(_) => listed(&addresses)?,
            _ => vec![span(&addresses)?],
        };
        return Ok(vec![Reservation { owner, ranges }]);
    }
    if let Some(pod) = pod {
        let Some(addresses) = field.find("addresses").or_else(|| field.find("address")) else {
            return Err(field.lacks("addresses").into());
        };
        return Ok(vec![of_pod(&pod, interface()?, &addresses)?]);
    }
    Mistakes::each(field.value.entries(), |(pod, value)| {
        let path = format!("{}[\"{}\"]", field.path, field.key(pod));
        let key = Json::String(pod.clone());
        let (place, addresses) = (field.inner(path.clone(), &key), field.inner(path, value));
        of_pod(&place, None, &addresses)
    })
}

fn of_pod(
    pod: &Field<'_>,
    interface: Option<IfName>,
    addresses: &Field<'_>,
) -> Result<Reservation> {
    let owner = owner(OwnerKind::Pod, pod, interface)?;
    let single = |field: &Field<'_>| field.address().map(Range::single);
    let ranges = match addresses.value {
        Json::Array(_) => Mistakes::each(addresses.list()?, |item| single(&item))?,
        _ => vec![single(addresses)?],
    };
    match ranges.is_empty() {
        true => Err(pod.wrong("expected at least one address").into()),
        false => Ok(Reservation { owner, ranges }),
    }
}

fn owner(kind: OwnerKind, name: &Field<'_>, interface: Option<IfName>) -> Result<Owner> {
    match name.text()?.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(Owner { kind, namespace: namespace.to_owned(), name: name.to_owned(), interface })
        }
        _ => Err(name.wrong("expected NAMESPACE/NAME").into()),
    }
}

fn interface(field: &Field<'_>) -> Result<IfName> {
    IfName::parse(field.text()?).map_err(|_| {
        field.wrong("expected the name of an interface in the pod, such as net1").into()
    })
}

/// Returns the mistakes of reservations that these ranges cannot serve.
pub(super) fn check(reservations: &Reservations, sets: &[RangeSet]) -> Mistakes {
    if reservations.entries.is_empty() {
        return Mistakes::default();
    }
    let ranges = || sets.iter().flat_map(|set| &set.ranges);
    let usable: Blocks = ranges().map(|range| range.subnet.usable()).collect();
    // All ranges share the gateways and the exclusions of the whole configuration.
    let shared = ranges()
        .take(1)
        .flat_map(|range| range.gateways.ranges().chain(range.excluded[0].ranges()));
    let own = ranges().flat_map(|range| range.excluded[1].ranges());
    let barred: Blocks = shared.chain(own).collect();
    conflicts("ipam.reservations", &reservations.entries, &usable, &barred)
}

/// Returns the mistakes of reservations of addresses that are not usable, are barred, or are
/// reserved twice.
pub(super) fn conflicts(
    place: &str,
    reservations: &[Reservation],
    usable: &Blocks,
    barred: &Blocks,
) -> Mistakes {
    let mut mistakes = Mistakes::default();
    let mut all: Vec<(Range, &Owner)> = Vec::new();
    for entry in reservations {
        for range in &entry.ranges {
            let reason = if !AddrSet::outside(range, &[usable]).is_empty() {
                "expected addresses that the network's subnets can give"
            } else if barred.touches(range) {
                "expected addresses that are neither excluded nor a gateway"
            } else {
                all.push((*range, &entry.owner));
                continue;
            };
            mistakes.add(ConfigError::meaning(place, format!("{reason}, found {range}")));
        }
    }
    all.sort_by_key(|(range, _)| (range.family(), number(range.first_address())));
    for pair in all.windows(2) {
        if let Some(twice) = pair[0].0.intersection(&pair[1].0) {
            mistakes.add(ConfigError::meaning(
                place,
                format!(
                    "expected each address once, but {twice} is reserved for {} and for {}",
                    pair[0].1, pair[1].1
                ),
            ));
        }
    }
    mistakes
}
