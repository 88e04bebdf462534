//! Addresses as other programs write them, and the subnets around them.

use super::source::{Result, Source};
use crate::addr::{Family, Range, Subnet, number, parse_address};
use crate::config::{ConfigError, Field, Mistakes};
use crate::json::Json;
use std::net::IpAddr;

type One<T> = std::result::Result<T, ConfigError>;

/// Addresses in a row, and the text that stands for them in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) range: Range,
    pub(super) text: String,
}

impl Span {
    fn of_subnet(subnet: &Subnet) -> Self {
        Self { range: subnet.whole(), text: subnet.to_string() }
    }

    fn of_range(range: Range) -> Self {
        Self { range, text: crate::cli::output::addresses(&range) }
    }
}

/// A subnet of a pool, before it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConvertedSubnet {
    pub(super) subnet: Subnet,
    pub(super) gateway: Option<IpAddr>,
    /// The addresses of the pool. If there are none, all of the subnet.
    pub(super) addresses: Vec<Span>,
    /// The addresses that nobody gets.
    pub(super) exclude: Vec<Span>,
}

impl ConvertedSubnet {
    /// Returns a subnet, all of whose addresses belong to the pool.
    pub(super) const fn whole(subnet: Subnet) -> Self {
        Self { subnet, gateway: None, addresses: Vec::new(), exclude: Vec::new() }
    }
}

/// Parses an address, a CIDR or `first-last`.
pub(super) fn span(item: &Field<'_>) -> One<Span> {
    let text = item.text()?.trim();
    if let Some((first, last)) = text.split_once('-') {
        let first = item.parsed(|_| parse_address(first.trim()))?;
        let last = item.parsed(|_| parse_address(last.trim()))?;
        return between(item, first, last);
    }
    if text.contains('/') {
        return item.parsed(|_| Subnet::parse(text)).map(|subnet| Span::of_subnet(&subnet));
    }
    item.parsed(|_| parse_address(text)).map(|address| Span::of_range(Range::single(address)))
}

/// Returns the addresses between two addresses. The field is named in an error.
pub(super) fn between(field: &Field<'_>, first: IpAddr, last: IpAddr) -> One<Span> {
    Range::new(first, last).map(Span::of_range).ok_or_else(|| {
        field.wrong(
            "expected a first and a last address of one family, the first not above the last",
        )
    })
}

/// Parses a list of addresses, CIDRs and `first-last`.
pub(super) fn spans(list: Option<Field<'_>>) -> Result<Vec<Span>> {
    list.map_or(Ok(Vec::new()), |list| Mistakes::each(list.list()?, |item| span(&item)))
}

/// Parses a required CIDR.
pub(super) fn cidr(object: &Field<'_>, key: &str) -> One<(Field<'static>, Subnet)> {
    let field = object.find(key).ok_or_else(|| object.lacks(key))?;
    let subnet = field.parsed(|text| Subnet::parse(text.trim()))?;
    Ok((Field::new(field.path, &Json::Null), subnet))
}

/// Parses a gateway.
pub(super) fn gateway(field: Option<Field<'_>>, family: Family) -> One<Option<IpAddr>> {
    let Some(field) = field else {
        return Ok(None);
    };
    let gateway = field.address()?;
    match Family::of(gateway) == family {
        true => Ok(Some(gateway)),
        false => Err(field.wrong(&format!("expected an {family} address, as the pool has"))),
    }
}

/// Parses a number of bits: a prefix length or a number of host bits.
pub(super) fn bits(field: &Field<'_>, what: &str, most: u8) -> One<u8> {
    let number = match field.value {
        Json::Number(number) => number.as_u64().and_then(|number| u8::try_from(number).ok()),
        Json::String(text) => text.trim_start_matches('/').parse().ok(),
        _ => None,
    };
    number
        .filter(|number| *number <= most)
        .ok_or_else(|| field.wrong(&format!("expected {what} of 0 to {most}")))
}

/// Returns the subnets around addresses: the smallest one around each span, without those inside
/// others. They are in order, IPv4 first.
pub(super) fn around(spans: Vec<Span>) -> Vec<ConvertedSubnet> {
    let mut parts: Vec<(Subnet, Span)> =
        spans.into_iter().map(|span| (Subnet::around(&span.range), span)).collect();
    parts.sort_by_key(|(subnet, span)| {
        (
            subnet.family(),
            number(subnet.network()),
            subnet.length(),
            number(span.range.first_address()),
        )
    });
    let mut found: Vec<ConvertedSubnet> = Vec::new();
    for (subnet, span) in parts {
        match found.last_mut() {
            Some(last) if last.subnet.contains(subnet.network()) => last.addresses.push(span),
            _ => found
                .push(ConvertedSubnet { addresses: vec![span], ..ConvertedSubnet::whole(subnet) }),
        }
    }
    for part in &mut found {
        if part.addresses.iter().any(|span| span.range == part.subnet.whole()) {
            part.addresses.clear();
        }
    }
    found
}

/// Returns whether an IPv4 address ends in .0 or .255.
const fn is_buggy(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if matches!(v4.octets(), [_, _, _, 0 | 255]))
}

/// Names the first and the last address of each subnet if the source gives them out: a pool does not.
/// A source that avoids buggy addresses gives none that ends in .0 or .255.
pub(super) fn name_ends(
    source: &mut Source<'_>,
    path: &str,
    subnets: &[ConvertedSubnet],
    avoids_buggy: bool,
) {
    for part in subnets {
        let (whole, usable) = (part.subnet.whole(), part.subnet.usable());
        let is_given = |address: IpAddr| {
            let listed = part.addresses.iter().any(|span| span.range.contains(address));
            (listed || part.addresses.is_empty())
                && part.gateway != Some(address)
                && !(avoids_buggy && is_buggy(address))
                && !part.exclude.iter().any(|span| span.range.contains(address))
        };
        let ends: Vec<String> = [whole.first_address(), whole.last_address()]
            .into_iter()
            .filter(|address| !usable.contains(*address) && is_given(*address))
            .map(|address| address.to_string())
            .collect();
        if !ends.is_empty() {
            source.lost(
                path,
                format!(
                    "{}: nobody gets the first and the last address of the subnet {}",
                    ends.join(" and "),
                    part.subnet
                ),
            );
        }
    }
}
