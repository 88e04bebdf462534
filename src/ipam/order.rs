//! The order in which the addresses of a range are given.

/// The order in which a Kubernetes store gives the addresses of a range. The file store always
/// gives the lowest free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AllocationOrder {
    /// The lowest free address first, until several nodes want the same one. From then on, this
    /// node continues from addresses that it draws at random.
    #[default]
    Auto,
    /// Always the lowest address that is believed to be free.
    Lowest,
    /// From an address that is drawn at random.
    Spread,
}
