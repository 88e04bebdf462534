//! What Whereabouts keeps in the Kubernetes API, as both the import and the store need it. It reads
//! and writes nothing.
//!
//! - `names`: the names of its objects, which say what they are for
//! - `range`: the range of a pool, and the address of each key in it
//! - `objects`: the shapes of its objects

pub(crate) mod names;
pub(crate) mod objects;
pub(crate) mod range;
