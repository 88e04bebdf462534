//! The order in which the addresses of a range are given.

/// The order in which a Kubernetes store gives the addresses of a range. The file
/// store always gives the lowest free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AllocationOrder {
    /// The lowest free one first until several nodes want the same; from then
    /// on this node spreads.
    #[default]
    Auto,
    /// Always the lowest that is believed to be free.
    Lowest,
    /// From a drawn one on.
    Spread,
}
