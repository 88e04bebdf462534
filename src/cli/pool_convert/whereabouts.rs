//! IPPool and NodeSlicePool of Whereabouts. Both hold only a range: everything else is in the
//! network configuration.

use super::addresses::{ConvertedSubnet, cidr};
use super::cluster_cidr::NO_BLOCKS;
use super::manifest::Converted;
use super::source::{Result, Source, bare, shown};

const ELSEWHERE: &str = "gateway, range_start, range_end and exclude are in the network configuration: add them to the pool";

/// Converts an IPPool.
pub(super) fn pool(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let (_, subnet) = cidr(&spec, "range")?;
    source.held(Some(&spec), "allocations", "allocation");
    source.rest(&spec, &["range", "allocations"], &[]);
    // The name is the range, after the network_name or the node if there is one.
    let own = spec.find("range").and_then(|range| range.value.as_str()).unwrap_or_default();
    let of_range = own.replace([':', '/'], "-");
    let name = source.metadata.find("name").and_then(|name| name.value.as_str());
    let before = name
        .and_then(|name| name.strip_suffix(of_range.as_str()))
        .and_then(|before| before.strip_suffix('-'));
    if let Some(before) = before.filter(|before| !before.is_empty()) {
        let before = shown(before);
        source.lost(
            "metadata.name",
            format!("{before}: if this is the network_name of the networks, set scope to it"),
        );
    }
    source.note(ELSEWHERE);
    Ok(Converted { subnets: vec![ConvertedSubnet::whole(subnet)], ..Converted::default() })
}

/// Converts a NodeSlicePool.
pub(super) fn slices(source: &mut Source<'_>) -> Result<Converted> {
    let spec = source.spec.clone();
    let (_, subnet) = cidr(&spec, "range")?;
    if let Some(size) = spec.find("sliceSize") {
        source.lost(&size.path, format!("{}: {NO_BLOCKS}", bare(size.value)));
    }
    source.rest(&spec, &["range", "sliceSize"], &[]);
    let status = source.status.clone();
    source.held(status.as_ref(), "allocations", "slice");
    source.note(ELSEWHERE);
    Ok(Converted { subnets: vec![ConvertedSubnet::whole(subnet)], ..Converted::default() })
}
