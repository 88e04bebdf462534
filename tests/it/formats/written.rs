//! Today's records and notes have no key that is not kept in `tests/data`, and what is kept there
//! can be read forever. `tests/data/written-2026-11-27` has the keys that came after
//! `store-format-1`. New keys go into a new directory. `kube_faults::kept_state` does the same for
//! node state and objects.

use super::tree::{As, Tree};
use super::{LISTED, call, holders, rows, write_store};
use crate::support::sandbox::Sandbox;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/written-2026-11-27")
}

/// Returns `key.key` of everything in the JSON files of a tree.
fn keys(tree: &Tree) -> BTreeSet<String> {
    fn into(value: &Value, above: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                found.insert(format!("{above}.{key}"));
                into(value, &format!("{above}.{key}"), found);
            }),
            Value::Array(items) => items.iter().for_each(|item| into(item, above, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    for value in tree.files.values().filter_map(|text| serde_json::from_str(text).ok()) {
        into(&value, "", &mut found);
    }
    found
}

#[test]
fn a_store_of_today_has_no_key_that_is_not_kept() {
    let sandbox = Sandbox::new();
    write_store(&sandbox);
    let written = Tree::read(&sandbox.store());
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/written-today-files");
    written.keep(&out);
    let (today, before) = (keys(&written), keys(&Tree::kept(&kept())));
    let new: Vec<&String> = today.difference(&before).collect();
    assert!(new.is_empty(), "{new:?} are not kept, {} has them", out.display());
}

#[test]
fn a_store_that_was_written_with_these_keys_is_listed_and_freed() {
    for how in [As::Written, As::Copied] {
        let sandbox = Sandbox::new();
        let mut tree = Tree::kept(&kept());
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        tree.files.retain(|path, _| !path.ends_with("@machine-id") || !machine.is_empty());
        tree.map(
            |path, text| {
                if path.ends_with("@machine-id") { machine.clone() } else { text.to_owned() }
            },
        );
        tree.lay_out(&sandbox.store(), how);
        assert_eq!(rows(&sandbox, &[]), LISTED, "{how:?}");
        for (container, pod, ipam, _) in holders() {
            call(&sandbox, "DEL", &container, pod, ipam).run().succeeded();
        }
        assert_eq!(rows(&sandbox, &[]), ["10.1.2.5/24 null - c9 n2 dynamic"], "{how:?}");
    }
}
