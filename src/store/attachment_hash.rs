//! The hash of an attachment, which gives its place in an index, in a lock file and in a label.

use crate::digest::{hex, of_parts};
use crate::ipam::Attachment;

/// Returns the SHA-256 of the four parts of an attachment, with the parts kept distinct.
pub(crate) fn of_attachment(attachment: &Attachment) -> [u8; 32] {
    let Attachment { node, network, container, ifname } = attachment;
    of_parts(&[node.as_str(), network.as_str(), container.as_str(), ifname.as_str()])
}

/// Returns the first 16 hexadecimal digits of [`of_attachment`].
pub(crate) fn short_of_attachment(attachment: &Attachment) -> String {
    hex(&of_attachment(attachment)[..8])
}
