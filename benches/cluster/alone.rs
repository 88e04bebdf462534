//! One call at a time, both plugins in turn, at a number of entries.

use crate::plugin::{Node, container};
use crate::process::Verb;
use crate::times::Times;
use anyhow::Result;

/// ADDs, and the DELs that followed them.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pub(crate) add: Times,
    pub(crate) del: Times,
}

impl Pairs {
    /// An ADD and its DEL.
    fn take(&mut self, node: &Node, index: usize) -> Result<()> {
        let container = container(index % 64);
        self.add.push(node.must(Verb::Add, &container)?.0);
        self.del.push(node.must(Verb::Del, &container)?.0);
        Ok(())
    }
}

/// What was seen at one number of entries.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    pub(crate) entries: usize,
    pub(crate) ours: Pairs,
    pub(crate) theirs: Pairs,
    /// The first ADD of a node, which lists what the node holds.
    pub(crate) cold: Times,
}

/// Lets both take turns, which spreads the few of the slow one over the time.
///
/// # Errors
/// A call failed.
pub(crate) fn alone(entries: usize, ours: (&Node, usize), theirs: Option<(&Node, usize)>, cold: &[Node]) -> Result<Alone> {
    let mut alone = Alone { entries, ..Alone::default() };
    for node in cold {
        let container = container(0);
        alone.cold.push(node.must(Verb::Add, &container)?.0);
        node.must(Verb::Del, &container)?;
    }
    let mut warm = Pairs::default();
    for index in 0..5 {
        warm.take(ours.0, index)?;
    }
    if let Some((node, _)) = theirs {
        warm.take(node, 0)?;
    }
    let rounds = theirs.map_or(1, |(_, pairs)| pairs);
    for round in 0..rounds {
        if let Some((node, _)) = theirs {
            alone.theirs.take(node, round)?;
            // What it left for the machine to do is not the next one's.
            warm.take(ours.0, round)?;
        }
        for index in ours.1 * round / rounds..ours.1 * (round + 1) / rounds {
            alone.ours.take(ours.0, index)?;
        }
    }
    Ok(alone)
}
