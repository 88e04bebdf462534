//! The identity of a node state: its cluster, node and boot, and its format.

use crate::api_client::way::Way;
use serde::{Deserialize, Serialize};

/// The format of the state. It rises only where an older version would damage what a newer one
/// wrote; new keys alone do not raise it. Whatever a newer version does to the other files, it
/// writes the file `complete` in the same place.
pub(crate) const FORMAT: u64 = 1;
/// The maximum number of ways that are kept. Beyond that, the oldest is forgotten.
const MOST_WAYS: usize = 16;

/// The file `complete`. For any other node or boot the state is not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeStateIdentity {
    /// Absent in files of the first version.
    #[serde(default = "first_format")]
    pub(crate) format: u64,
    /// The way of the last list. The first version reads only this one.
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) machine: Option<String>,
    pub(crate) boot: String,
    /// All ways that are known to lead to the cluster.
    #[serde(default)]
    pub(crate) ways: Vec<Way>,
}

const fn first_format() -> u64 {
    1
}

impl NodeStateIdentity {
    /// Returns whether this way is known to lead to the state's cluster.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.cluster == id || self.ways.iter().any(|way| way.id == id)
    }

    /// Returns whether an unknown way leads there, as far as the ways show.
    pub(crate) fn is_reached_by(&self, way: &Way) -> bool {
        self.ways.iter().any(|known| known.leads_where(way))
            || self.ways.is_empty() && Way::of(&self.cluster).leads_where(way)
    }

    /// Returns whether both are of the same node, machine and boot.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        self.node == other.node && self.machine == other.machine && self.boot == other.boot
    }

    /// Adds a way, or replaces the known one of the same ID.
    pub(crate) fn learn(&mut self, way: Way) {
        self.cluster.clone_from(&way.id);
        self.ways.retain(|known| known.id != way.id);
        self.ways.insert(0, way);
        self.ways.truncate(MOST_WAYS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_first_version_wrote_is_read_and_ways_are_bounded() {
        let text = r#"{"cluster":"a-s","node":"n","machine":null,"boot":"b"}"#;
        let mut identity: NodeStateIdentity = serde_json::from_str(text).unwrap();
        assert_eq!(identity.format, 1);
        assert!(identity.knows("a-s") && !identity.knows("a-s2"));
        assert!(
            identity.is_reached_by(&Way::of("a-s2")) && !identity.is_reached_by(&Way::of("a2-s2"))
        );
        for n in 0..MOST_WAYS + 5 {
            identity.learn(Way::of(&format!("a-s{n}")));
        }
        assert_eq!(identity.ways.len(), MOST_WAYS);
        assert_eq!(identity.ways[0].id, format!("a-s{}", MOST_WAYS + 4));
    }
}
