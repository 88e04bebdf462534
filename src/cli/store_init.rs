//! `store init` and `store forget`: create and forget file stores. A store that machines share is
//! created by an explicit command, and from then on it is known by its ID.

use super::{InitArgs, PlaceArgs, output};
use crate::ipam::NodeName;
use crate::plugin::stores;
use crate::store::disk::Kind;
use anyhow::Context;

pub(super) fn init(args: &InitArgs) -> anyhow::Result<()> {
    let directory = std::path::absolute(&args.dir)?;
    let maker = NodeName::parse("unnamed").map_err(|_| anyhow::anyhow!("no node name"))?;
    let store = stores::to_make(&directory, maker);
    let (id, made) = store
        .init(args.id.as_deref(), !args.first)
        .with_context(|| format!("cannot create a store at {}", directory.display()))?;
    let shown = output::printable(&directory.to_string_lossy());
    output::say(&format!(
        "{} {shown}",
        if made { "created a store at" } else { "a store already exists at" }
    ));
    if made && !store.is_shared()? {
        output::say(
            "note: the directory is on a local disk; for a store that machines share, mount the shared filesystem first",
        );
    }
    match store.kind()? {
        Kind::Unknown => {}
        Kind::Unfit(reason) => output::say(&format!(
            "warning: machines cannot share this store, and ADD uses it only with single_node_store: {reason}"
        )),
        Kind::Needs(setting) => {
            output::say(&format!("note: a power loss of the server can lose records: {setting}"))
        }
    }
    let flat = serde_json::json!({"datastore": "file", "data_dir": directory, "store_id": id});
    output::say(&format!("add to each node's flat file, beside node_name: {flat}"));
    output::print(&format!("{id}\n"))
}

pub(super) fn forget(args: &PlaceArgs) -> anyhow::Result<()> {
    let directory = std::path::absolute(&args.dir)?;
    let forgotten = stores::notes().forget(&directory)?;
    let shown = output::printable(&directory.to_string_lossy());
    output::say(&if forgotten {
        format!("this node has forgotten the store that it used at {shown}")
    } else {
        format!("this node has not recorded a store at {shown}")
    });
    Ok(())
}
