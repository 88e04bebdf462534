//! Objects that are gone.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

/// How many are remembered: more than there are requests under way.
const MOST: usize = 4096;

/// The uids of the objects that went last. A uid never comes back.
#[derive(Debug, Default)]
pub(super) struct Gone {
    order: VecDeque<Rc<str>>,
    uids: HashSet<Rc<str>>,
}

impl Gone {
    pub(super) fn contains(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }

    pub(super) fn insert(&mut self, uid: Rc<str>) {
        if self.uids.insert(Rc::clone(&uid)) {
            self.order.push_back(uid);
        }
        if MOST < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }
}
