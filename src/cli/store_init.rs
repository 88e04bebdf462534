//! `store init` and `store forget`: a store that machines share is made by an
//! explicit act and known by its id from then on.

use super::{InitArgs, PlaceArgs, output};
use crate::ipam::NodeName;
use crate::plugin::stores;
use crate::store::disk::Kind;
use anyhow::Context;

pub(super) fn init(args: &InitArgs) -> anyhow::Result<()> {
    let directory = std::path::absolute(&args.dir)?;
    let maker = NodeName::parse("unnamed").map_err(|_| anyhow::anyhow!("no node name"))?;
    let store = stores::to_make(&directory, maker);
    let (id, made) =
        store.init(args.id.as_deref(), !args.first).with_context(|| format!("cannot make a store at {}", directory.display()))?;
    let shown = output::plain(&directory.to_string_lossy());
    output::say(&format!("{} {shown}", if made { "made a store at" } else { "a store stands already at" }));
    if made && !store.is_shared()? {
        output::say("it is on a disk of this machine: where machines are to share it, is the filesystem mounted?");
    }
    match store.kind()? {
        Kind::Unknown => {}
        Kind::Unfit(reason) => {
            output::say(&format!("machines cannot share it, and no ADD will use it unless single_node_store is set: {reason}"))
        }
        Kind::Needs(setting) => {
            output::say(&format!("what it answers survives a power loss of its server with one setting alone: {setting}"))
        }
    }
    let flat = serde_json::json!({"datastore": "file", "data_dir": directory, "store_id": id});
    output::say(&format!("to name it in each node's flat file, beside node_name: {flat}"));
    output::print(&format!("{id}\n"))
}

pub(super) fn forget(args: &PlaceArgs) -> anyhow::Result<()> {
    let directory = std::path::absolute(&args.dir)?;
    let forgotten = stores::notes().forget(&directory)?;
    let shown = output::plain(&directory.to_string_lossy());
    output::say(&if forgotten {
        format!("this node has forgotten which store it used at {shown}")
    } else {
        format!("this node has no note of a store at {shown}")
    });
    Ok(())
}
