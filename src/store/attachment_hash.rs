//! The hash of an attachment: its place in an index, in a lock file, in a label.

use crate::digest::{hex, of_parts};
use crate::ipam::Attachment;

/// SHA-256 of the four parts of an attachment, each told from the next.
pub(crate) fn of_attachment(attachment: &Attachment) -> [u8; 32] {
    let Attachment { node, network, container, ifname } = attachment;
    of_parts(&[node.as_str(), network.as_str(), container.as_str(), ifname.as_str()])
}

/// The first 16 hexadecimal digits of [`of_attachment`].
pub(crate) fn short_of_attachment(attachment: &Attachment) -> String {
    hex(&of_attachment(attachment)[..8])
}
