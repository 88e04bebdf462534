//! GC's list of valid attachments (CNI spec 1.1.0, "GC").

use super::{CniError, Code};
use crate::json::Json;

/// GC's list of attachments that still exist.
pub type Attachments = crate::ipam::AttachmentSet;

/// The keys of GC's list: the spec's text, and its tag's.
pub(super) const LISTS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// GC's list: the union of both keys when both are there. `null` is a list of
/// nothing, as CRI-O sends it; no list at all is an error, because cnitool
/// means "everything" by it and frees what lives.
pub(super) fn attachments(configuration: &Json) -> Result<Attachments, CniError> {
    if !LISTS.iter().any(|key| configuration.has(key)) {
        return Err(CniError::new(
            Code::Config,
            format!("{}: expected the list of valid attachments, found none; nothing was released", LISTS[0]),
        ));
    }
    let mut valid = Attachments::default();
    for key in LISTS {
        let Some(value) = configuration.find(key) else {
            continue;
        };
        let Json::Array(items) = value else {
            return Err(CniError::new(Code::Config, format!("{key}: expected a list: {}", value.excerpt())));
        };
        for (at, item) in items.iter().enumerate() {
            note_attachment(&mut valid, key, at, item)?;
        }
    }
    Ok(valid)
}

/// Adds one entry of the list.
pub(super) fn note_attachment(valid: &mut Attachments, key: &str, at: usize, item: &Json) -> Result<(), CniError> {
    let text = |name: &str| item.find(name).and_then(Json::as_str).filter(|text| !text.is_empty());
    let Some((container, ifname)) = text("containerID").zip(text("ifname")) else {
        let reason = format!("{key}[{at}]: expected the strings containerID and ifname: {}", item.excerpt());
        return Err(CniError::new(Code::Config, reason));
    };
    valid.insert(container, ifname);
    Ok(())
}
