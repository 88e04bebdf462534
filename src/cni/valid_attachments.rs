//! Parses GC's list of valid attachments (CNI specification 1.1.0, "GC").

use super::{CniError, Code};
use crate::json::Json;

/// The attachments of GC's list, which still exist.
pub type Attachments = crate::ipam::AttachmentSet;

/// The keys of GC's list: the one in the text of the specification, and the one in the tag of its
/// code.
pub(super) const LISTS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// Returns GC's list. If both keys are present, it is the union of both. `null`, which CRI-O sends,
/// is an empty list. A missing list is an error: cnitool sends no list to mean "everything", which
/// would free addresses that are in use.
pub(super) fn attachments(configuration: &Json) -> Result<Attachments, CniError> {
    if !LISTS.iter().any(|key| configuration.has(key)) {
        return Err(CniError::new(
            Code::Config,
            format!(
                "{}: expected the list of valid attachments, found none; nothing was released",
                LISTS[0]
            ),
        ));
    }
    let mut valid = Attachments::default();
    for key in LISTS {
        let Some(value) = configuration.find(key) else {
            continue;
        };
        let Json::Array(items) = value else {
            return Err(CniError::new(
                Code::Config,
                format!("{key}: expected a list, found {}", value.excerpt()),
            ));
        };
        for (at, item) in items.iter().enumerate() {
            note_attachment(&mut valid, key, at, item)?;
        }
    }
    Ok(valid)
}

/// Adds one entry of the list.
pub(super) fn note_attachment(
    valid: &mut Attachments,
    key: &str,
    at: usize,
    item: &Json,
) -> Result<(), CniError> {
    let text = |name: &str| item.find(name).and_then(Json::as_str).filter(|text| !text.is_empty());
    let Some((container, ifname)) = text("containerID").zip(text("ifname")) else {
        let reason = format!(
            "{key}[{at}]: expected the strings containerID and ifname, found {}",
            item.excerpt()
        );
        return Err(CniError::new(Code::Config, reason));
    };
    valid.insert(container, ifname);
    Ok(())
}
