//! The pods that hold addresses. A pod has several addresses, and a node has many pods: each name is
//! kept once.

use std::collections::HashSet;
use std::rc::Rc;

/// The fewest entries at which those that are not used any more are looked for.
const FEW: usize = 1024;

/// The pod of an interface that holds an address, and the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attached {
    /// The namespace of the pod. Empty if the runtime did not name a pod.
    pub namespace: Rc<str>,
    /// The name of the pod. Empty if the runtime did not name a pod.
    pub pod: Rc<str>,
    /// The node that created the record.
    pub node: Rc<str>,
}

/// One copy of each.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    known: HashSet<Rc<Attached>>,
    /// Namespaces and nodes.
    texts: HashSet<Rc<str>>,
    /// The number of entries at which those that are not used any more are dropped.
    limit: usize,
}

impl Attachments {
    /// Returns the one copy of a pod on a node.
    pub(super) fn shared(&mut self, namespace: &str, pod: &str, node: &str) -> Rc<Attached> {
        let attached =
            Attached { namespace: self.text(namespace), pod: pod.into(), node: self.text(node) };
        if let Some(known) = self.known.get(&attached) {
            return Rc::clone(known);
        }
        if self.limit <= self.known.len() {
            self.known.retain(|attached| 1 < Rc::strong_count(attached));
            self.texts.retain(|text| 1 < Rc::strong_count(text));
            self.known.shrink_to_fit();
            self.limit = self.known.len().saturating_mul(2).max(FEW);
        }
        let attached = Rc::new(attached);
        self.known.insert(Rc::clone(&attached));
        attached
    }

    fn text(&mut self, text: &str) -> Rc<str> {
        if let Some(known) = self.texts.get(text) {
            return Rc::clone(known);
        }
        let text: Rc<str> = text.into();
        self.texts.insert(Rc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_is_kept_once_and_what_is_unused_goes() {
        let mut attachments = Attachments::default();
        let first = attachments.shared("default", "web-0", "n1");
        assert!(Rc::ptr_eq(&first, &attachments.shared("default", "web-0", "n1")));
        let other = attachments.shared("default", "web-1", "n1");
        assert!(Rc::ptr_eq(&first.node, &other.node));
        for number in 0..100_000 {
            attachments.shared("default", &format!("web-{number}"), &format!("n{number}"));
        }
        assert!(attachments.known.len() <= FEW + 2, "{}", attachments.known.len());
        assert!(attachments.texts.len() <= FEW + 4, "{}", attachments.texts.len());
        assert!(Rc::ptr_eq(&first, &attachments.shared("default", "web-0", "n1")));
    }
}
