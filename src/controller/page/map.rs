//! What is in each cell of the map of a pool. A cell is an address or a block of addresses.

use super::holder::Who;
use crate::addr::{Blocks, Grid, Range};
use crate::controller::pool::{Section, Supply};
use std::net::IpAddr;
use std::rc::Rc;

/// How many cells the maps of a pool have together.
pub(super) const CELLS: usize = 1024;
/// The largest subnet that is drawn whole, also where the pool does not list it.
const SMALL: u128 = 256;

/// One cell.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// The addresses that the pool lists.
    pub(super) listed: u128,
    /// The addresses that the pool gives.
    pub(super) given: u128,
    /// The addresses for certain pods.
    pub(super) reserved: u128,
    /// Whether the gateway is here.
    pub(super) gateway: bool,
    /// The addresses that pods hold, or somebody who is not known yet.
    pub(super) pods: u64,
    /// The addresses that claims hold.
    pub(super) claims: u64,
    /// Of both, the addresses that the pool does not list.
    pub(super) outside: u64,
    /// The holder, in a cell of one address.
    pub(super) who: Option<Who>,
    /// The nodes of the pods, with their addresses here.
    pub(super) nodes: Vec<(Rc<str>, u64)>,
}

/// The cells of one subnet of a pool.
#[derive(Debug)]
pub(super) struct Map {
    /// Where the cells are.
    pub(super) grid: Grid,
    /// The cells, in order.
    pub(super) cells: Vec<Cell>,
    listed: Blocks,
}

impl Map {
    /// Returns the map of a section of a pool with nothing held. `within` limits it, and `most` is
    /// the number of its cells. Returns `None` if nothing is left to draw.
    pub(super) fn new(
        section: &Section,
        supply: &Supply,
        within: Option<&Range>,
        most: usize,
    ) -> Option<Self> {
        let whole = section.subnet.whole();
        let mut ranges: Vec<Range> = match whole.count() <= SMALL {
            true => vec![whole],
            false => section.listed.ranges().collect(),
        };
        if let Some(within) = within {
            ranges = ranges.iter().filter_map(|range| range.intersection(within)).collect();
        }
        let grid = Grid::over(&ranges, most)?;
        let mut cells: Vec<Cell> = Vec::new();
        cells.resize_with(grid.len(), Cell::default);
        let mut spread = |range: &Range, part: fn(&mut Cell) -> &mut u128| {
            for (at, count) in grid.spread(range) {
                if let Some(cell) = cells.get_mut(at) {
                    *part(cell) = part(cell).saturating_add(count);
                }
            }
        };
        for range in section.listed.ranges() {
            spread(&range, |cell| &mut cell.listed);
        }
        for range in supply.outline.reserved.ranges() {
            spread(&range, |cell| &mut cell.reserved);
        }
        for range in supply.parts.iter().flat_map(|part| part.addresses.ranges()) {
            spread(&range, |cell| &mut cell.given);
        }
        let gateway = section.gateway.and_then(|gateway| grid.position(gateway));
        if let Some(cell) = gateway.and_then(|at| cells.get_mut(at)) {
            cell.gateway = true;
        }
        Some(Self { grid, cells, listed: section.listed.clone() })
    }

    /// Returns the range from the first cell to the last one.
    pub(super) fn range(&self) -> Option<Range> {
        let first = self.grid.subnet(0)?.whole().first_address();
        let last = self.grid.subnet(self.grid.len().checked_sub(1)?)?.whole().last_address();
        Range::new(first, last)
    }

    /// Notes who holds an address. Returns whether the pool lists it.
    pub(super) fn note(&mut self, address: IpAddr, who: &Who) -> bool {
        let is_listed = self.listed.contains(address);
        let is_single = self.grid.is_of_single_addresses();
        let Some(cell) = self.grid.position(address).and_then(|at| self.cells.get_mut(at)) else {
            return false;
        };
        match who {
            Who::Claim(..) | Who::Asked => cell.claims += 1,
            Who::Pod(..) | Who::Unknown => cell.pods += 1,
        }
        cell.outside += u64::from(!is_listed);
        if let Some(node) = who.node() {
            match cell.nodes.iter_mut().find(|(known, _)| known == node) {
                Some((_, count)) => *count += 1,
                None => cell.nodes.push((Rc::clone(node), 1)),
            }
        }
        if is_single {
            cell.who = Some(who.clone());
        }
        is_listed
    }
}

/// What a cell is, in one word. The stylesheet and the legend have one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Held by pods.
    Pod,
    /// Held by claims.
    Claim,
    /// The pool can give it.
    Free,
    /// The pool lists it and does not give it.
    Excluded,
    /// It is for certain pods.
    Reserved,
    /// It is the gateway.
    Gateway,
    /// It is held, and not in the pool.
    Outside,
    /// It is not in the pool.
    Absent,
}

impl State {
    /// All states, in the order of the legend.
    pub(super) const ALL: [Self; 8] = [
        Self::Pod,
        Self::Claim,
        Self::Free,
        Self::Excluded,
        Self::Reserved,
        Self::Gateway,
        Self::Outside,
        Self::Absent,
    ];

    /// Returns the class of the stylesheet.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Claim => "claim",
            Self::Free => "free",
            Self::Excluded => "excluded",
            Self::Reserved => "reserved",
            Self::Gateway => "gateway",
            Self::Outside => "outside",
            Self::Absent => "absent",
        }
    }

    /// Returns the words of the legend.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Pod => "held by a pod",
            Self::Claim => "held by a claim",
            Self::Free => "free",
            Self::Excluded => "excluded",
            Self::Reserved => "reserved for certain pods",
            Self::Gateway => "gateway",
            Self::Outside => "held, not in this pool",
            Self::Absent => "not in this pool",
        }
    }
}

impl Cell {
    /// Returns how many addresses are held.
    pub(super) const fn held(&self) -> u64 {
        self.pods.saturating_add(self.claims)
    }

    /// Returns what the cell is. In a block, what is free or held counts more than what is not
    /// given.
    pub(super) fn state(&self) -> State {
        if 0 < self.held() && self.outside == self.held() {
            State::Outside
        } else if 0 < self.pods {
            State::Pod
        } else if 0 < self.claims {
            State::Claim
        } else if 0 < self.given {
            State::Free
        } else if self.gateway {
            State::Gateway
        } else if 0 < self.reserved {
            State::Reserved
        } else if 0 < self.listed {
            State::Excluded
        } else {
            State::Absent
        }
    }
}
