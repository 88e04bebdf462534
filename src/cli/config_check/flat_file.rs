//! Checks a flat file, in the way in which the plugin reads it.

use super::network;
use super::notes;
use super::outline::Outline;
use super::report::Report;
use crate::config::{Chosen, CniArgs, FlatFile, Merged, Network, Settings};
use crate::environment::Environment;
use crate::json::Json;

/// The keys whose presence means that the flat file has ranges.
const RANGES: &[&str] = &["range", "ipRanges", "subnet", "ranges", "addresses"];

/// Checks the bytes of a file that is a flat file.
pub(super) fn examine(
    report: &mut Report,
    bytes: &[u8],
    content: &Json,
    environment: &Environment,
) {
    report.is_flat_file = true;
    let flat = match FlatFile::parse(report.file.clone().into(), bytes, Chosen::ByNode) {
        Ok(flat) => flat,
        Err(error) => return report.mistakes.add(error),
    };
    let nothing = Json::Object(vec![("ipam".to_owned(), Json::Object(Vec::new()))]);
    let merged = match Merged::new(&nothing, Some(&flat)) {
        Ok(merged) => merged,
        Err(error) => return report.mistakes.add(error),
    };
    report.mistakes.note(flat.check());
    match Settings::parse(&merged, false) {
        Ok(settings) => {
            network::store(report, &settings, environment);
            report.notes.extend(settings.log.notes);
        }
        Err(error) => report.mistakes.add(error),
    }
    if RANGES.iter().any(|key| content.find(key).is_some()) {
        match Network::parse(&merged, &CniArgs::default()) {
            Ok(network) => {
                let own = network.reservations.entries.len();
                report.outlines.push(Outline::of(&network, None, own));
            }
            Err(mistakes) => report.mistakes.add(mistakes),
        }
    }
    notes::of_flat_file(report, content);
}
