//! What an import knows about an address that it would record: everything that a record needs.

use super::super::report::{Outcome, Row};
use crate::ipam::{Attachment, Part, PodRef, Scope, Version};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::IpAddr;

/// An address that a living pod has by an entry of Whereabouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) scope: Scope,
    pub(super) address: IpAddr,
    /// The prefix length of the pool's range.
    pub(super) prefix: u8,
    pub(super) gateway: Option<IpAddr>,
    pub(super) attachment: Attachment,
    pub(super) pod: PodRef,
    /// The uid of the Node object.
    pub(super) node_uid: String,
    /// The boot that the node has reported.
    pub(super) boot_id: String,
    /// The position among the addresses of the interface that are recorded.
    pub(super) part: Part,
    /// The order of the address on its interface: the position of its range, and that in the
    /// network-status.
    pub(super) order: (usize, usize),
    /// The number of addresses that the network-status has for the interface.
    pub(super) of_interface: usize,
    /// The imported record of a pod that Whereabouts has seen end, which is to be replaced.
    pub(super) replaces: Option<Version>,
}

/// What would happen with an address.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) row: Row,
    /// What is done about it. `None` if nothing is.
    pub(super) task: Option<Task>,
}

/// What an import does about an address.
#[derive(Debug)]
pub(super) enum Task {
    /// It records the address. The outcome is [`Outcome::New`].
    Record(Box<Found>),
    /// It removes this record. The outcome is [`Outcome::Freed`].
    Free(Scope, IpAddr, Version),
}

impl Decision {
    /// Returns whether it has to be made sure that it does not come from what changed while the
    /// cluster was read.
    pub(super) fn is_uncertain(&self) -> bool {
        match &self.task {
            Some(Task::Record(found)) => found.replaces.is_some(),
            Some(Task::Free(..)) => true,
            None => matches!(self.row.outcome, Outcome::Left { .. }),
        }
    }

    /// Returns what is to be done, and the place of its outcome.
    pub(super) fn task_and_outcome(&mut self) -> Option<(&Task, &mut Outcome)> {
        Some((self.task.as_ref()?, &mut self.row.outcome))
    }
}

impl Found {
    /// Returns the record as JSON. The keys are documented and stable.
    fn document(&self) -> Value {
        json!({
            "prefix": self.prefix,
            "gateway": self.gateway,
            "podUID": self.pod.uid,
            "nodeUID": self.node_uid,
            "bootID": self.boot_id,
            "part": self.part.index,
            "of": self.part.of,
        })
    }
}

/// Numbers the addresses of each interface: all of one interface are one ADD.
pub(super) fn number(decisions: &mut [Decision]) {
    // The records that are there already have the first numbers.
    let mut recorded: HashMap<(String, String, String), usize> = HashMap::new();
    for Decision { row, .. } in decisions.iter() {
        if let (Outcome::Known, Some(pod), Some(container), Some(interface)) =
            (&row.outcome, &row.pod, &row.container, &row.interface)
        {
            let key = (pod.clone(), container.clone(), interface.clone());
            let count = recorded.entry(key).or_default();
            *count = count.saturating_add(1);
        }
    }
    let mut interfaces: HashMap<Attachment, Vec<usize>> = HashMap::new();
    for (at, decision) in decisions.iter().enumerate() {
        if let Some(Task::Record(found)) = &decision.task {
            interfaces.entry(found.attachment.clone()).or_default().push(at);
        }
    }
    for (attachment, mut all) in interfaces {
        all.sort_by_key(|at| match &decisions.get(*at)?.task {
            Some(Task::Record(found)) => Some(found.order),
            _ => None,
        });
        let pod = all.first().and_then(|at| decisions.get(*at)?.row.pod.clone());
        let key = (
            pod.unwrap_or_default(),
            attachment.container.to_string(),
            attachment.ifname.to_string(),
        );
        let before = recorded.get(&key).copied().unwrap_or_default();
        let of = before.saturating_add(all.len());
        for (index, at) in all.into_iter().enumerate() {
            let Some(Decision { row, task: Some(Task::Record(found)) }) = decisions.get_mut(at)
            else {
                continue;
            };
            let number = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
            found.part = Part { index: number(before.saturating_add(index)), of: number(of) };
            let missing = found.of_interface.saturating_sub(of);
            if 0 < missing {
                row.notes.push(format!(
                    "{missing} of the {} addresses of the interface would not be recorded",
                    found.of_interface
                ));
            }
            row.record = Some(found.document().to_string().into());
        }
    }
}
