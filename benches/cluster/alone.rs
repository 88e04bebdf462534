//! Measures one call at a time, both plugins in turn, at one number of entries.

use crate::plugin::{Node, container};
use crate::process::Verb;
use crate::times::Times;
use anyhow::Result;

/// The times of ADDs, and of the DELs after them.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pub(crate) add: Times,
    pub(crate) del: Times,
}

impl Pairs {
    /// Runs an ADD and its DEL.
    pub(crate) fn take(&mut self, node: &Node, index: usize) -> Result<()> {
        let container = container(index % 64);
        self.add.push(node.must(Verb::Add, &container)?.0);
        self.del.push(node.must(Verb::Del, &container)?.0);
        Ok(())
    }
}

/// The results at one number of entries.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    pub(crate) entries: usize,
    pub(crate) ours: Pairs,
    pub(crate) theirs: Pairs,
    /// The first ADD of a node. It lists the addresses that the node holds.
    pub(crate) cold: Times,
}

/// Lets both plugins take turns. The few calls of the slow one are spread over the time.
///
/// # Errors
/// Fails if a call fails.
pub(crate) fn alone(
    entries: usize,
    ours: (&Node, usize),
    theirs: Option<(&Node, usize)>,
    cold: &[Node],
) -> Result<Alone> {
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
            // The next program must not pay for work that the slow one left to the machine.
            warm.take(ours.0, round)?;
        }
        for index in ours.1 * round / rounds..ours.1 * (round + 1) / rounds {
            alone.ours.take(ours.0, index)?;
        }
    }
    Ok(alone)
}
