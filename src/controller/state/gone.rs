//! Objects that are gone.

use super::Kind;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;

/// How many are remembered of each kind: more than there are requests under way.
const MOST: usize = 4096;

/// The uids of the objects that went last, by kind. A uid never comes back, unless the API server is
/// set back.
#[derive(Debug, Default)]
pub(super) struct Gone(BTreeMap<Kind, Last>);

#[derive(Debug, Default)]
struct Last {
    order: VecDeque<Rc<str>>,
    uids: HashSet<Rc<str>>,
}

impl Gone {
    pub(super) fn contains(&self, kind: Kind, uid: &str) -> bool {
        self.0.get(&kind).is_some_and(|last| last.uids.contains(uid))
    }

    pub(super) fn insert(&mut self, kind: Kind, uid: Rc<str>) {
        let last = self.0.entry(kind).or_default();
        if last.uids.insert(Rc::clone(&uid)) {
            last.order.push_back(uid);
        }
        if MOST < last.order.len()
            && let Some(oldest) = last.order.pop_front()
        {
            last.uids.remove(&oldest);
        }
    }

    /// Forgets what is gone of a kind. A list will tell of every object of it that there is.
    pub(super) fn forget(&mut self, kind: Kind) {
        self.0.remove(&kind);
    }
}
