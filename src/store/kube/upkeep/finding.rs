//! The problems of the Kubernetes store, in words for people and names for programs. `verify`
//! contains how they are detected.

use crate::store::kube::node_state;
use crate::store::kube::objects::ip_allocation::PLURAL;
use crate::store::percent::decode_path;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Problem {
    /// An object that cannot be read.
    Damaged,
    /// An object that a later version wrote.
    Newer,
    /// An object whose name is not that of its address.
    Misnamed,
    /// An object that another machine made under this node's name.
    SecondMachine,
    /// An address of a living sandbox that another attachment holds.
    GivenAway,
    /// An address of a living sandbox that has no object.
    Lost,
    /// An object of this node that the node does not know.
    Unindexed,
    /// A creation that was never answered.
    Unconfirmed,
    /// A creation that came after its holder had ended.
    Late,
    /// Labels that are not those of the record.
    WrongLabels,
    /// A file of the node state that cannot be read.
    DamagedState,
    /// An entry of the node state for a sandbox that is gone and has no object.
    DanglingEntry,
    /// A file of a call that was killed.
    Temporary,
}

impl Problem {
    const ALL: [Self; 13] = [
        Self::Damaged,
        Self::Newer,
        Self::Misnamed,
        Self::SecondMachine,
        Self::GivenAway,
        Self::Lost,
        Self::Unindexed,
        Self::Unconfirmed,
        Self::Late,
        Self::WrongLabels,
        Self::DamagedState,
        Self::DanglingEntry,
        Self::Temporary,
    ];

    /// Returns the name for programs, which is stable. It is the file store's name if it means the
    /// same.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged-record",
            Self::Newer => "newer-record",
            Self::Misnamed => "misnamed-record",
            Self::SecondMachine => "second-machine",
            Self::GivenAway => "given-away",
            Self::Lost => "lost-record",
            Self::Unindexed => "not-in-index",
            Self::Unconfirmed => "unconfirmed",
            Self::Late => "late-record",
            Self::WrongLabels => "wrong-labels",
            Self::DamagedState => "damaged-state",
            Self::DanglingEntry => "dangling-entry",
            Self::Temporary => "temporary-file",
        }
    }

    /// Returns the problem that [`Self::name`] names.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.name() == name)
    }

    /// Returns what the problem means and what to do.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Damaged => {
                "an unreadable object keeps its address taken; \"kubectl delete ipallocations/NAME\" releases the address"
            }
            Self::Newer => "written by a newer version; install a newer hereabouts",
            Self::Misnamed => {
                "the name of the object does not match its address, so the object does not reserve the address; \"kubectl delete ipallocations/NAME\" removes the object"
            }
            Self::SecondMachine => {
                "another machine created the record under this node's name, so this node never releases the address; \
                 if that machine is gone, \"hereabouts release --node NODE\" releases it, and so does \"install --watch\" (the DaemonSet); \
                 if that machine still runs, give each machine its own node_name; \
                 if no pod uses the address, \"kubectl delete ipallocations/NAME\" releases it"
            }
            Self::GivenAway => {
                "two pods use one address; delete the pod that is named first, then its replacement gets a new address"
            }
            Self::Lost => {
                "an address is in use without an object, so another pod could get it; \"repair\" recreates the object"
            }
            Self::Unindexed => {
                "a DEL of the holder would miss the object; \"repair\" adds it to the node state"
            }
            Self::Unconfirmed => {
                "an ADD was killed or timed out, and its sandbox exists; the next CNI call of the sandbox or \"repair\" resolves this"
            }
            Self::Late => {
                "created after the ADD had given up, so no pod uses the address; the next call, \"sweep\" or \"repair\" removes the object"
            }
            Self::WrongLabels => {
                "a list by node, network, pod or claim misses the object; \"repair\" corrects the labels"
            }
            Self::DamagedState => {
                "a file of the node state is unreadable; \"repair\" rebuilds it from the objects"
            }
            Self::DanglingEntry => {
                "an entry of the node state without an object; harmless; the next call of the attachment, \"sweep\" or \"repair\" removes it"
            }
            Self::Temporary => {
                "left behind by a killed call; harmless; \"sweep\" or \"repair\" removes it"
            }
        }
    }

    /// Returns what a repair has done to the path.
    pub(crate) const fn done(self) -> &'static str {
        match self {
            Self::Lost => "recreated",
            Self::Unindexed => "added to the node state:",
            Self::Unconfirmed => "confirmed",
            Self::WrongLabels => "corrected the labels of",
            Self::DamagedState => "rebuilt",
            Self::DanglingEntry => "removed an entry of",
            _ => "removed",
        }
    }

    /// Returns whether `repair` corrects the problem.
    pub(crate) const fn is_repairable(self) -> bool {
        !matches!(
            self,
            Self::Damaged | Self::Newer | Self::Misnamed | Self::SecondMachine | Self::GivenAway
        )
    }

    /// Returns whether no living sandbox needs it: this is what `sweep` removes.
    pub(crate) const fn is_orphan(self) -> bool {
        matches!(self, Self::Late | Self::DanglingEntry | Self::Temporary)
    }
}

/// A possible problem, which is checked again before it is reported. As JSON it is the key of a
/// [`Finding`](crate::store::upkeep::Finding).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Suspect {
    /// An entry of the node state: the attachment's hash and the object's name.
    Entry { hash: String, name: String },
    /// An entry of a user of an IPAMClaim, and the name of the object by which its claim should hold
    /// the address.
    User { hash: String, name: String, held: String },
    /// An object that this node may not know.
    Object { name: String },
    /// An object with other labels than it should have, and its node, if an attachment holds it.
    Labels { name: String, node: Option<String> },
    /// A creation that may have come late.
    Tombstone(Box<node_state::Tombstone>),
    /// An attachment's file, by its hash.
    File { hash: String },
    /// A file that was being written: its path, percent-encoded.
    Temporary(String),
    /// An object that is wrong whatever else happens.
    Plain { name: String },
}

impl Suspect {
    /// Returns where the problem is: the object, or the file below the node state.
    pub(crate) fn path(&self, problem: Problem) -> PathBuf {
        match self {
            Self::Entry { hash, .. } if problem == Problem::DanglingEntry => {
                node_state::attachment(hash)
            }
            Self::Entry { name, .. }
            | Self::Object { name }
            | Self::Labels { name, .. }
            | Self::Plain { name } => object(name),
            Self::User { held, .. } => object(held),
            Self::Tombstone(tombstone) if problem == Problem::Late => {
                object(&tombstone.object.metadata.name)
            }
            Self::Tombstone(_) => node_state::TOMBSTONES.into(),
            Self::File { hash } => node_state::attachment(hash),
            Self::Temporary(path) => decode_path(path).into(),
        }
    }

    /// Returns the other path that the problem concerns.
    pub(crate) fn other(&self, problem: Problem) -> Option<PathBuf> {
        match self {
            Self::Entry { name, .. } if problem == Problem::DanglingEntry => Some(object(name)),
            Self::Entry { hash, .. } => Some(node_state::attachment(hash)),
            Self::User { name, .. } => Some(object(name)),
            Self::Tombstone(tombstone) if problem != Problem::Late => {
                Some(object(&tombstone.object.metadata.name))
            }
            _ => None,
        }
    }
}

fn object(name: &str) -> PathBuf {
    PathBuf::from(PLURAL).join(name)
}
