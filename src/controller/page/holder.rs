//! The holder of an address, for people.

use super::html::Html;
use crate::controller::state::{Holder, Name};
use std::rc::Rc;

/// Who holds an address.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// A pod, by namespace and name, on a node. The name is empty if the runtime named no pod.
    Pod(Name, Rc<str>),
    /// A claim, or an answer without a claim, with its kind.
    Claim(String, Name),
    /// A claim that is being answered.
    Asked,
    /// Somebody whom no watch has told of yet.
    Unknown,
}

impl Who {
    pub(super) fn of(holder: &Holder) -> Self {
        match holder {
            Holder::Attachment(attached) => {
                let pod = attached.pod.as_ref().map(|pod| Name {
                    namespace: Rc::clone(&pod.namespace),
                    name: Rc::clone(&pod.name),
                });
                Self::Pod(pod.unwrap_or_default(), Rc::clone(&attached.node))
            }
            Holder::Claim(claim) => Self::Claim(claim.kind.clone(), claim.name.clone()),
            Holder::Asked(_) => Self::Asked,
            Holder::Unknown(_) => Self::Unknown,
        }
    }

    /// Returns the node.
    pub(super) fn node(&self) -> Option<&Rc<str>> {
        match self {
            Self::Pod(_, node) => Some(node),
            Self::Claim(..) | Self::Asked | Self::Unknown => None,
        }
    }

    /// Writes the two cells of a table: the holder and the node.
    pub(super) fn cells(&self, html: &mut Html) {
        html.raw("<td data-label=\"Holder\">").name(self);
        html.raw("</td><td data-label=\"Node\">");
        match self.node() {
            Some(node) => html.name(node),
            None => html.raw("<span class=\"quiet\">none</span>"),
        };
        html.raw("</td>");
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod(name, _) if name.name.is_empty() => f.write_str("an interface without a pod"),
            Self::Pod(name, _) => write!(f, "pod {name}"),
            Self::Claim(kind, name) => write!(f, "{kind} {name}"),
            Self::Asked => f.write_str("a claim that is being answered"),
            Self::Unknown => f.write_str("a holder that is not known yet"),
        }
    }
}
