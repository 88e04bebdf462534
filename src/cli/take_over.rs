//! `take-over`: releases the records that an earlier machine has left under this node's name. The
//! DaemonSet runs it on its node, with the token of its own pod on stdin. Help does not show it,
//! because an operator does not need it: `release --node` is for operators.

use super::{StoreArgs, locate, output, records};
use crate::environment::Environment;
use crate::plugin::stores;
use crate::retry::Deadline;
use anyhow::{Context, bail};

pub(super) fn take_over(environment: &Environment) -> anyhow::Result<()> {
    let token = String::from_utf8(locate::read(std::path::Path::new("-"))?)
        .context("cannot read a token from stdin")?;
    let Some((name, uid)) = stores::node_of_token(token.trim()) else {
        output::say("the token does not name a Node; nothing is taken over");
        return Ok(());
    };
    let located = locate::locate(environment, &StoreArgs::default())?;
    let node = located.own_node()?;
    if name != node.as_str() {
        bail!("the token belongs to node {}, but this node is {node}", output::printable(&name));
    }
    let is_left_behind = |held: &_, word| located.is_left_behind(held, word);
    let taken = located.store_of(&node)?.take_over(
        &uid,
        &is_left_behind,
        Deadline::after(records::PATIENCE),
    )?;
    for allocation in &taken.left {
        output::say(&format!(
            "kept, because another machine may hold it: {}",
            output::holder(allocation)
        ));
    }
    if taken.freed.is_empty() {
        output::say("nothing to take over");
    }
    taken.freed.iter().try_for_each(|allocation| output::released(&allocation.address, true))
}
