//! What goes wrong while a cluster is moved: the API server restarts, somebody deletes the Move, a node
//! loses its power.

use super::{World, locked};
use crate::multus::rig::{Node, Pod};
use crate::support::cluster::Server;
use hereabouts::retry::{Deadline, pause};
use std::sync::PoisonError;
use std::time::Duration;

/// What goes wrong during a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// The API server is killed in each step, and starts again.
    ServerRestarts,
    /// Somebody deletes the Move while both give addresses.
    MoveDeleted,
    /// A node of Whereabouts with a pod loses its power while both give addresses, and no DEL comes.
    NodeOff,
}

impl World<'_> {
    /// The API server is killed a moment after a step has begun, and starts again.
    pub(super) fn restart(&self) {
        pause(&Deadline::after(Duration::from_secs(1)), Duration::from_millis(500));
        let _held = self.asks.write().unwrap_or_else(PoisonError::into_inner);
        self.rig.cluster.kill(Server::ApiServer);
        self.rig.cluster.start(Server::ApiServer);
    }

    /// Somebody deletes the Move. Nodes of hereabouts give no address until it is there again.
    pub(super) fn the_move_is_deleted(&self, office: &Node<'_>) {
        if self.trouble != Trouble::MoveDeleted {
            return;
        }
        self.rig.cluster.text(&["delete", "moves", "whereabouts"]);
        // Each node has looked again by then.
        let deadline = Deadline::after(Duration::from_secs(65));
        while !deadline.left().is_zero() {
            pause(&deadline, Duration::from_secs(5));
        }
        let pod = self.rig.pod_on(&locked(&self.nodes[0]), "refused", "named");
        let refused = locked(&self.nodes[0]).try_start(&pod);
        assert!(refused.stdout.contains("the cluster was set back"), "{refused:?}");
        self.end(0, &pod);
        self.step(office, &["start"]);
        assert_eq!(self.state(), "shared");
        self.rages();
    }

    /// A node that is off for good is named, and is given up as docs/moving.md says.
    pub(super) fn the_node_is_given_up(&self, office: &Node<'_>, pod: &Pod) {
        let kubeconfig = self.rig.cluster.kubeconfig();
        let admin = ["--kubeconfig", kubeconfig.to_str().unwrap()];
        let finish = ["move", "finish", "--wait", "1s"];
        let refused = office.hereabouts(&[&finish, &admin[..]].concat());
        assert!(
            refused.status == Some(1) && refused.stderr.contains("node m-off has not answered"),
            "{refused:?}"
        );
        self.rig.cluster.text(&["delete", "pod", &pod.name, "--force", "--grace-period=0"]);
        self.rig.cluster.text(&["delete", "node", "m-off"]);
        let release = ["release", "--node", "m-off", "--yes"];
        // From here on, others may get its addresses.
        self.loses(pod);
        office.hereabouts(&[&release, &admin[..]].concat()).succeeded();
    }
}
