//! Many ranges, read from the lowest address to the highest.

use super::{Family, Range};

/// What happens on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// A range of this owner begins.
    Begins(usize),
    /// A range of this owner has ended.
    Ends(usize),
    /// Nothing begins or ends within these addresses.
    Between(Range),
}

/// Calls `visit` for each edge of some ranges, in the order of the addresses, IPv4 first. Each range
/// has an owner. The ranges of one owner are disjoint.
pub fn sweep(ranges: &[(Range, usize)], mut visit: impl FnMut(Edge)) {
    for family in [Family::V4, Family::V6] {
        let ours = || ranges.iter().filter(|(range, _)| range.family() == family);
        let mut begins: Vec<(u128, usize)> =
            ours().map(|(range, owner)| (range.first(), *owner)).collect();
        let mut ends: Vec<(u128, usize)> =
            ours().map(|(range, owner)| (range.last(), *owner)).collect();
        begins.sort_unstable();
        ends.sort_unstable();
        let mut next = begins.iter().peekable();
        // The first address that no edge has told of.
        let mut from = Some(0);
        for (last, owner) in ends {
            while let Some((first, begun)) = next.next_if(|(first, _)| *first <= last) {
                if let Some(before) = from.filter(|from| from < first) {
                    visit(Edge::Between(Range::spanning(family, before, *first - 1)));
                    from = Some(*first);
                }
                visit(Edge::Begins(*begun));
            }
            if let Some(before) = from.filter(|from| *from <= last) {
                visit(Edge::Between(Range::spanning(family, before, last)));
                // After the highest address, nothing begins.
                from = last.checked_add(1);
            }
            visit(Edge::Ends(owner));
        }
    }
}
