//! InClusterIPPool and GlobalInClusterIPPool of Cluster API's in-cluster provider.

use super::addresses::{ConvertedSubnet, Span, between, bits, cidr, gateway, name_ends, spans};
use super::manifest::Converted;
use super::source::{Result, Source, Unmatched, unmatched};
use crate::addr::{Subnet, number};
use crate::config::{ConfigError, Field, Mistakes};
use crate::json::Json;

const READ: &[&str] =
    &["addresses", "prefix", "gateway", "excludedAddresses", "allocateReservedIPAddresses"];
const READ_V1ALPHA1: &[&str] = &["addresses", "prefix", "gateway", "subnet", "start", "end"];
const UNMATCHED: &[Unmatched] = &[unmatched(
    "addressReuseGracePeriodSeconds",
    "set reuse_after in the networks that use the pool",
)];

/// The annotation with which Cluster API stops a controller.
const PAUSED: &str = "cluster.x-k8s.io/paused";

/// Converts a pool of either kind, in either version.
pub(super) fn convert(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let is_first_version = source.version == "v1alpha1";
    let mut mistakes = Mistakes::default();
    let listed = mistakes.note(spans(spec.find("addresses"))).unwrap_or_default();
    let exclude = mistakes.note(spans(spec.find("excludedAddresses"))).unwrap_or_default();
    let (bounds, subnet) = match is_first_version {
        true => mistakes.note(first_version(&spec)).unwrap_or_default(),
        false => (None, None),
    };
    let prefix = spec.find("prefix").map(|field| bits(&field, "a prefix length", 128)).transpose();
    let prefix = mistakes.note(prefix).flatten().filter(|prefix| *prefix != 0);
    let addresses: Vec<Span> = listed.into_iter().chain(bounds).collect();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let Some(length) = prefix.or_else(|| subnet.map(|subnet| subnet.length())) else {
        return Err(spec.lacks("prefix").into());
    };
    let subnet = mistakes.note(subnet_of(&spec, &addresses, length));
    let family = addresses.first().map(|span| span.range.family());
    let gateway = family.map_or(Ok(None), |family| gateway(spec.find("gateway"), family));
    let gateway = mistakes.note(gateway).flatten();
    let Some(subnet) = subnet.filter(|_| mistakes.is_empty()) else {
        return Err(mistakes);
    };
    let part = ConvertedSubnet { subnet, gateway, addresses, exclude };
    if is_true(spec.find("allocateReservedIPAddresses").as_ref()) {
        name_ends(source, "spec.allocateReservedIPAddresses", std::slice::from_ref(&part), false);
    }
    source.rest(&spec, if is_first_version { READ_V1ALPHA1 } else { READ }, UNMATCHED);
    if source.metadata.find("annotations").is_some_and(|all| all.find(PAUSED).is_some()) {
        source.lost(
            "metadata.annotations",
            format!("{PAUSED}: a pool cannot be paused: name it in no network"),
        );
    }
    let namespaces = source.namespace.map(str::to_owned).into_iter().collect();
    Ok(Converted { subnets: vec![part], namespaces, ..Converted::default() })
}

fn is_true(field: Option<&Field<'_>>) -> bool {
    field.is_some_and(|field| *field.value == Json::Bool(true))
}

/// Returns the addresses between `start` and `end` of v1alpha1, and the subnet. Without them, the
/// second and the second last address of the subnet.
fn first_version(spec: &Field<'_>) -> Result<(Option<Span>, Option<Subnet>)> {
    let subnet = spec.find("subnet").map(|_| cidr(spec, "subnet")).transpose()?;
    let subnet = subnet.map(|(_, subnet)| subnet);
    let of = |key: &str| spec.find(key).map(|field| field.address()).transpose();
    let (start, end) = (of("start")?, of("end")?);
    let usable = subnet.map(|subnet| subnet.usable());
    let first = start.or_else(|| usable.map(|usable| usable.first_address()));
    let last = end.or_else(|| usable.map(|usable| usable.last_address()));
    let span = match (first, last) {
        (Some(first), Some(last)) => {
            let field = ["start", "end", "subnet"].iter().find_map(|key| spec.find(key));
            Some(between(field.as_ref().unwrap_or(spec), first, last)?)
        }
        (None, None) => None,
        (Some(_), None) => return Err(spec.lacks("end").into()),
        (None, Some(_)) => return Err(spec.lacks("start").into()),
    };
    Ok((span, subnet))
}

/// Returns the subnet of a pool: that of its lowest address. All its addresses must be there.
fn subnet_of(spec: &Field<'_>, addresses: &[Span], length: u8) -> Result<Subnet> {
    let first = addresses.iter().map(|span| span.range.first_address());
    let Some(lowest) = first.min_by_key(|address| number(*address)) else {
        return Err(spec.lacks("addresses").into());
    };
    let subnet = Subnet::new(lowest, length)
        .map_err(|error| ConfigError::meaning("spec.prefix", format!("{error}, found {length}")))?;
    let is_outside = |span: &&Span| subnet.whole().intersection(&span.range) != Some(span.range);
    match addresses.iter().find(is_outside) {
        None => Ok(subnet),
        Some(outside) => {
            let reason = format!(
                "expected addresses of one subnet, {subnet} with the prefix of the pool, found {}",
                outside.text
            );
            Err(ConfigError::meaning("spec.addresses", reason).into())
        }
    }
}
