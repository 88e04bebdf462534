//! Reads the needed parts of a configuration that has too many values, and skips the rest.
//!
//! CHECK, DEL and GC need little of a configuration, and the addresses of an attachment must be
//! freed whatever its configuration has become. The skipped parts use no memory.

use super::CniError;
use super::valid_attachments::{self, Attachments};
use super::verb::Verb;
use crate::json::{Json, Tree};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::{Cell, RefCell};
use std::fmt;

/// The maximum number of values to keep, not counting the addresses of `prevResult`.
const MOST_KEPT: usize = 1000;
/// The maximum number of addresses of one interface.
const MOST_IPS: usize = 10_000;
/// The keys of `ipam` that identify the store and the node.
const IPAM: &[&str] = &[
    "type",
    "datastore",
    "data_dir",
    "dataDir",
    "kubernetes",
    "allocation_order",
    "configuration_path",
    "deadlines",
    "reuse_after",
    "log_file",
    "log_level",
];

/// The parts of a document that a verb reads.
#[derive(Debug)]
pub(super) struct Outline {
    /// The keys that the verb reads.
    pub(super) configuration: Json,
    /// The list of GC, if the document has it.
    pub(super) attachments: Option<Result<Attachments, CniError>>,
}

/// Reads what the verb needs, and skips the rest.
pub(super) fn read(bytes: &[u8], verb: Verb) -> Result<Outline, serde_json::Error> {
    let reader = Reader { verb, left: Cell::new(MOST_KEPT), attachments: RefCell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let configuration = (&reader).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Outline { configuration, attachments: reader.attachments.into_inner() })
}

struct Reader {
    verb: Verb,
    left: Cell<usize>,
    attachments: RefCell<Option<Result<Attachments, CniError>>>,
}

/// The position of an object in the document.
#[derive(Clone, Copy)]
enum Place {
    Top,
    Ipam,
    PrevResult,
}

/// An object of which some keys are kept.
struct Object<'r> {
    reader: &'r Reader,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for &Reader {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        Object { reader: self, place: Place::Top }.deserialize(deserializer)
    }
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let reader = self.reader;
        let tree = Tree(Some(&reader.left));
        let mut kept: Vec<(String, Json)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let inner = |place| Object { reader, place };
            let value = match (self.place, key.as_str()) {
                (Place::Top, "cniVersion" | "name")
                | (Place::PrevResult, "cniVersion" | "ip4" | "ip6") => map.next_value_seed(tree)?,
                (Place::Top, "ipam") => map.next_value_seed(inner(Place::Ipam))?,
                (Place::Top, "prevResult") if reader.verb == Verb::Check => {
                    map.next_value_seed(inner(Place::PrevResult))?
                }
                (Place::Ipam, known) if IPAM.contains(&known) => map.next_value_seed(tree)?,
                (Place::PrevResult, "ips") => {
                    Json::Array(map.next_value_seed(Items { key: "ips", each: &mut keep_ip })?)
                }
                (Place::Top, list)
                    if reader.verb == Verb::Gc && valid_attachments::LISTS.contains(&list) =>
                {
                    let note = &mut |at: usize, item: Json| {
                        let mut found = reader.attachments.borrow_mut();
                        if let Ok(valid) = found.get_or_insert_with(|| Ok(Attachments::default()))
                            && let Err(error) =
                                valid_attachments::note_attachment(valid, list, at, &item)
                        {
                            *found = Some(Err(error));
                        }
                        None
                    };
                    map.next_value_seed(Items { key: list, each: note })?;
                    // An empty list is a list, too.
                    reader
                        .attachments
                        .borrow_mut()
                        .get_or_insert_with(|| Ok(Attachments::default()));
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            kept.push((key, value));
        }
        Ok(Json::Object(kept))
    }
}

/// Reduces an entry of `ips` to the keys that CHECK reads.
fn keep_ip(at: usize, item: Json) -> Option<Json> {
    let Json::Object(mut entries) = item else {
        return Some(item).filter(|_| at < MOST_IPS);
    };
    entries.retain(|(key, _)| matches!(key.as_str(), "address" | "gateway"));
    Some(Json::Object(entries)).filter(|_| at < MOST_IPS)
}

/// A list that is read item by item. The results of `each` are kept.
struct Items<'i> {
    key: &'i str,
    each: &'i mut dyn FnMut(usize, Json) -> Option<Json>,
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<Json>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Json>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<Json>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list for {}", self.key)
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<Json>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Json>, A::Error> {
        let mut kept = Vec::new();
        for at in 0.. {
            let left = Cell::new(MOST_KEPT);
            let Some(item) = seq.next_element_seed(Tree(Some(&left)))? else {
                break;
            };
            kept.extend((self.each)(at, item));
        }
        Ok(kept)
    }
}
