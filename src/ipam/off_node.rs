//! Whether an address may be freed because the machine of its node is off.
//!
//! That the machine is off is somebody else's word: an operator has set the taint out-of-service, or
//! has deleted the Node and asked for this. What is decided here is which addresses that word covers:
//! those of the machine that was meant, as they were at the moment at which the word was first seen.
//! A machine that comes back changes and creates records after that moment.

use super::leak::{Holder, Node};
use std::rc::Rc;

/// A moment, in two clocks of the API server. Neither is that of a machine which may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The second, since 1970.
    pub second: u64,
    /// The revision of the IPAllocations. It rises with each write.
    pub revision: u64,
}

/// A record as the API server has it.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'h> {
    /// Who holds the address.
    pub holder: &'h Holder,
    /// The second at which the object was created.
    pub created: Option<u64>,
    /// The revision of its last change.
    pub revision: Option<u64>,
    /// The uid of the Node that it is marked for, if its spec has not changed since.
    pub marked_for: Option<&'h str>,
}

/// Why an address is not freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is of another machine, or may be.
    OtherMachine,
    /// The record was created or changed after the moment, or in the same second.
    Later,
    /// The API server has the pod, and the pod has not ended.
    PodLives,
}

impl Kept {
    /// Returns whether the record is of the machine that was meant, so that somebody should know
    /// that it stays.
    #[must_use]
    pub const fn is_of_the_node(self) -> bool {
        match self {
            Self::OtherMachine => false,
            Self::Later | Self::PodLives => true,
        }
    }
}

impl Recorded<'_> {
    /// Returns whether the record is surely older than the moment, and has not changed since. A
    /// record moves to the next sandbox of its pod by a change, so its age alone says nothing. A
    /// revision alone says nothing either: it goes back if the API server is restored.
    ///
    /// A mark raises the revision, and only a record that was before a moment gets one. Since then
    /// its spec has not changed, so it is before this moment, too: a later moment of the same Node.
    fn is_before(&self, moment: Moment, node_uid: &str) -> Result<(), Kept> {
        let is_older = self.created.is_some_and(|created| created < moment.second);
        let is_unchanged = self.revision.is_some_and(|revision| revision <= moment.revision);
        let is_marked = self.marked_for == Some(node_uid);
        if is_older && (is_unchanged || is_marked) { Ok(()) } else { Err(Kept::Later) }
    }

    /// Returns whether the record is surely older than the moment, and has not changed since.
    #[must_use]
    pub fn was_before(&self, moment: Moment, node_uid: &str) -> bool {
        self.is_before(moment, node_uid).is_ok()
    }
}

/// Decides about a record and a node that is out of service since a moment. `name` is that of the
/// Node.
///
/// # Errors
/// Why the address stays held.
pub fn of_node_out_of_service(
    recorded: Recorded<'_>,
    name: &str,
    node: &Node,
    since: Moment,
) -> Result<(), Kept> {
    let holder = recorded.holder;
    let is_its_own = match &holder.node_uid {
        Some(uid) => *uid == node.uid,
        // The name alone may have been that of an earlier machine.
        None => {
            let after_node = recorded.created.zip(node.created).is_some_and(|(of, node)| node < of);
            *holder.node == *name && after_node
        }
    };
    if !is_its_own {
        return Err(Kept::OtherMachine);
    }
    recorded.is_before(since, &node.uid)
}

/// Decides about a record and a Node that is gone since a moment. `uid` is that of the Node that is
/// gone. `same_name` is the Node that has its name now.
///
/// A record without the uid of its Node, or without its boot, is in doubt: hereabouts may know the
/// node by another name than the API server, and a machine may be there as another Node.
///
/// # Errors
/// Why the address stays held.
pub fn of_deleted_node(
    recorded: Recorded<'_>,
    uid: &str,
    same_name: Option<&Node>,
    since: Moment,
) -> Result<(), Kept> {
    let holder = recorded.holder;
    let boot = holder.boot_id.as_ref().filter(|_| holder.node_uid.as_deref() == Some(uid));
    // A kubelet that registers again makes another Node for the same machine.
    let is_other = |boot: &Rc<str>| same_name.is_none_or(|node| has_another_boot(node, uid, boot));
    if !boot.is_some_and(is_other) {
        return Err(Kept::OtherMachine);
    }
    recorded.is_before(since, uid)
}

/// Returns whether a Node is another one, and surely of another boot.
fn has_another_boot(node: &Node, uid: &str, boot: &str) -> bool {
    *node.uid != *uid && node.boot_id.as_deref().is_some_and(|reported| reported != boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Moment = Moment { second: 1000, revision: 50 };

    fn holder(node: &str, uid: Option<&str>, boot: Option<&str>) -> Holder {
        Holder {
            address: "10.0.0.5".parse().unwrap(),
            node: node.into(),
            node_uid: uid.map(Into::into),
            boot_id: boot.map(Into::into),
            interface: "net1".into(),
            pod: None,
        }
    }

    fn node() -> Node {
        Node {
            uid: "u1".into(),
            boot_id: Some("b1".into()),
            created: Some(500),
            is_out_of_service: true,
        }
    }

    fn recorded(holder: &Holder, created: u64, revision: u64) -> Recorded<'_> {
        Recorded { holder, created: Some(created), revision: Some(revision), marked_for: None }
    }

    #[test]
    fn only_records_from_before_the_moment_are_freed() {
        let held = holder("n1", Some("u1"), Some("b1"));
        let of = |recorded| of_node_out_of_service(recorded, "n1", &node(), SINCE);
        for (created, revision, expected) in [
            (999, 50, Ok(())),
            (600, 7, Ok(())),
            // The same second is in doubt: the API server keeps no fractions.
            (1000, 50, Err(Kept::Later)),
            (1001, 50, Err(Kept::Later)),
            // It has moved to another sandbox, or the API server was restored.
            (999, 51, Err(Kept::Later)),
            (1001, 51, Err(Kept::Later)),
        ] {
            assert_eq!(of(recorded(&held, created, revision)), expected, "{created} {revision}");
        }
        // The mark itself is a change.
        for (created, marked_for, expected) in
            [(999, "u1", Ok(())), (1000, "u1", Err(Kept::Later)), (999, "u0", Err(Kept::Later))]
        {
            let marked = Recorded { marked_for: Some(marked_for), ..recorded(&held, created, 51) };
            assert_eq!(of(marked), expected, "{created} {marked_for}");
        }
        for unknown in [
            Recorded { created: None, ..recorded(&held, 999, 50) },
            Recorded { revision: None, ..recorded(&held, 999, 50) },
        ] {
            assert_eq!(of(unknown), Err(Kept::Later));
        }
    }

    /// A record of a boot that the Node has not reported yet is younger than the moment.
    #[test]
    fn another_boot_than_the_node_reports_may_be_the_next_one() {
        let of = |boot: Option<&str>, created, revision| {
            let held = holder("n1", Some("u1"), boot);
            of_node_out_of_service(recorded(&held, created, revision), "n1", &node(), SINCE)
        };
        for boot in [Some("b0"), Some("b1"), Some("b2"), None] {
            assert_eq!(of(boot, 999, 50), Ok(()), "{boot:?}");
            assert_eq!(of(boot, 1005, 55), Err(Kept::Later), "{boot:?}");
        }
    }

    #[test]
    fn only_records_of_this_machine_are_freed() {
        let of = |name: &str, uid: Option<&str>, boot: Option<&str>, created| {
            let held = holder(name, uid, boot);
            of_node_out_of_service(recorded(&held, created, 50), "n1", &node(), SINCE)
        };
        let other = Err(Kept::OtherMachine);
        for (name, uid, boot, created, expected) in [
            // hereabouts may know the node by another name than the API server.
            ("n1.example", Some("u1"), Some("b0"), 600, Ok(())),
            ("n1", Some("u0"), Some("b0"), 600, other),
            ("n1", Some("u0"), None, 600, other),
            // An earlier Node of the name, even if its machine is the same. Machines that are
            // containers have the boot ID of their host.
            ("n1", Some("u0"), Some("b1"), 400, other),
            ("n2", Some("u2"), Some("b1"), 600, other),
            ("n2", Some("u2"), Some("b2"), 600, other),
            // Without a uid, the record must be younger than the Node.
            ("n1", None, Some("b0"), 501, Ok(())),
            ("n1", None, Some("b0"), 500, other),
            ("n1", None, Some("b1"), 400, other),
            ("n1", None, None, 400, other),
            ("n2", None, Some("b0"), 600, other),
            ("n2", None, Some("b1"), 600, other),
        ] {
            let said = of(name, uid, boot, created);
            assert_eq!(said, expected, "{name} {uid:?} {boot:?} {created}");
        }
    }

    #[test]
    fn a_node_that_is_gone_frees_only_records_that_name_it_and_a_boot_that_no_node_reports() {
        let of = |uid: Option<&str>, boot: Option<&str>, same_name: Option<&Node>| {
            let held = holder("n1", uid, boot);
            of_deleted_node(recorded(&held, 600, 50), "u1", same_name, SINCE)
        };
        let named = |uid: &str, boot: Option<&str>| Node {
            uid: uid.into(),
            boot_id: boot.map(Into::into),
            ..Node::default()
        };
        let other = Err(Kept::OtherMachine);
        for (uid, boot, same_name, expected) in [
            (Some("u1"), Some("b1"), None, Ok(())),
            (Some("u1"), Some("b1"), Some(named("u2", Some("b2"))), Ok(())),
            // The kubelet has registered its machine again.
            (Some("u1"), Some("b1"), Some(named("u2", Some("b1"))), other),
            (Some("u1"), Some("b1"), Some(named("u2", None)), other),
            // It is not gone.
            (Some("u1"), Some("b1"), Some(named("u1", Some("b2"))), other),
            (Some("u1"), None, None, other),
            (Some("u2"), Some("b1"), None, other),
            (None, Some("b1"), None, other),
        ] {
            assert_eq!(of(uid, boot, same_name.as_ref()), expected, "{uid:?} {boot:?}");
        }
    }

    #[test]
    fn a_record_that_changes_after_its_node_is_gone_stays() {
        let held = holder("n1", Some("u1"), Some("b1"));
        let of = |recorded| of_deleted_node(recorded, "u1", None, SINCE);
        assert_eq!(of(recorded(&held, 999, 51)), Err(Kept::Later));
        assert_eq!(of(recorded(&held, 1000, 50)), Err(Kept::Later));
        let marked = Recorded { marked_for: Some("u1"), ..recorded(&held, 999, 51) };
        assert_eq!(of(marked), Ok(()));
    }
}
