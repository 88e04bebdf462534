//! What the controller sees at one moment, for metrics, status and the page.

/// What the controller sees.
pub trait Observed {
    /// Returns whether everything has been read once.
    fn is_synced(&self) -> bool;
    /// Returns the pools, in the order of kind, namespace and name.
    fn pools(&self) -> Vec<PoolNumbers>;
    /// Returns the number of leak candidates for each kind of evidence. Empty if it is not known.
    fn leaks(&self) -> Vec<(&'static str, u64)>;
}

/// A pool in numbers. A /64 has more addresses than a `u64` can count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolNumbers {
    /// `InClusterIPPool`, `GlobalInClusterIPPool` or `IPPool`.
    pub kind: &'static str,
    /// Empty for a pool without a namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The scope of its addresses.
    pub scope: String,
    /// The addresses that the pool can give.
    pub total: u128,
    /// The addresses of the pool that are held.
    pub held: u128,
    /// The addresses that are left: `total` without those that are held inside the pool.
    pub free: u128,
    /// The addresses of claims of this pool that are no longer in it.
    pub out_of_range: u128,
    /// Whether the pool has slices. Then `held` is what their nodes have published, and an address
    /// that is free is so for one node.
    pub has_slices: bool,
    /// The slices, if it has any, and if they have been read.
    pub slices: Option<SliceNumbers>,
    /// The claims of this pool that have no address yet.
    pub waiting: u64,
    /// Why no claim is answered from the pool, if that is so.
    pub trouble: Option<String>,
}

/// The slices of a pool in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SliceNumbers {
    /// The slices of the pool, whether somebody owns them or not.
    pub total: u32,
    /// Those that a node owns.
    pub owned: u32,
    /// Those that an operator released, and that no node may claim yet.
    pub released: u32,
    /// Those that are not free and whose nodes publish nothing.
    pub unpublished: u32,
    /// The addresses that are held in the others.
    pub held: u64,
}

impl SliceNumbers {
    /// Returns the number of slices that a node may claim.
    #[must_use]
    pub const fn free(&self) -> u32 {
        self.total.saturating_sub(self.taken())
    }

    /// Returns the number of slices that no node may claim.
    #[must_use]
    pub const fn taken(&self) -> u32 {
        self.owned.saturating_add(self.released)
    }
}
