//! Records the addresses of one sandbox's interface in a store, beside the calls of its runtime.

pub use super::report::Outcome;

use crate::addr::{AddrSet, Range};
use crate::ipam::{Allocation, HeldAddress, Netns, Part, Record, Scope, Source};
use crate::retry::Deadline;
use crate::store::{Access, Claim, Filter, Rehome, Session, Store, StoreError};
use std::net::IpAddr;

/// What to do about an address that two pods have.
pub(super) const APART: &str = "if these are two separate networks, give them different names in network_name, and pass the new configurations with --network; otherwise delete one of the pods";

/// What to do about an address whose imported record is of another pod.
const ENDED: &str = "that record was imported: if its pod has ended under Whereabouts, \"hereabouts import whereabouts --kubeconfig FILE\" with the rights of an administrator ends it; if both pods run, delete one of them";

/// An address as an ADD has given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// The address.
    pub address: IpAddr,
    /// The prefix length of the result.
    pub prefix: u8,
    /// The gateway of the result.
    pub gateway: Option<IpAddr>,
}

/// One interface of a sandbox.
pub struct Interface<'i> {
    /// The scope of its network.
    pub scope: &'i Scope,
    /// What each record says, without the address.
    pub record: Record,
    /// Its addresses, in the order of the ADD that gave them.
    pub addresses: &'i [Given],
}

/// Records the addresses of an interface, under the lock of its attachment, and returns what has
/// become of each. The runtime's calls of the other plugin do not take this lock: if the sandbox
/// has ended when the records are there, they are removed again. May be repeated.
///
/// # Errors
///
/// The store failed. What was recorded stays.
pub fn hold(
    store: &dyn Store,
    interface: &Interface<'_>,
    still_runs: &dyn Fn() -> bool,
    deadline: Deadline,
) -> Result<Vec<Outcome>, StoreError> {
    let Interface { scope, record, addresses } = interface;
    let attachment = &record.attachment;
    let _lock = store.lock_attachment(attachment, Access::Allocate, deadline)?;
    // Most pods of a node are known, and the API server need not be asked for each.
    let noted = store.noted(attachment).unwrap_or_default();
    if addresses.iter().all(|given| is_known(&noted, scope, given.address)) {
        return Ok(vec![Outcome::Known; addresses.len()]);
    }
    let mut session = store.open(Access::Allocate, deadline)?;
    let holdings = session.holdings(attachment)?;
    if let Some(damaged) = holdings.damaged.into_iter().next() {
        return Err(damaged);
    }
    if let Some(other) = other_than(&holdings.held, scope, addresses) {
        let outcome = holds_another(other);
        return Ok(vec![outcome; addresses.len()]);
    }
    let (mut made, mut outcomes) = (Vec::new(), Vec::new());
    for (part, given) in parts(addresses) {
        if let Some(held) = holdings.held.iter().find(|held| held.address == given.address) {
            outcomes.push(complete(session.as_mut(), held, record)?);
            continue;
        }
        let record = Record {
            part,
            prefix: given.prefix,
            gateway: given.gateway,
            source: Source::Dynamic,
            ..record.clone()
        };
        let only = AddrSet::from_range(&Range::single(given.address));
        match session.claim(scope, &only, &record)? {
            Claim::Claimed(allocation) => {
                made.push(allocation);
                outcomes.push(Outcome::New);
            }
            Claim::Full => outcomes.push(held_by(None)),
        }
    }
    if !still_runs() {
        for allocation in &made {
            session.release_unchanged(allocation)?;
        }
        let gone = Outcome::Gone("its sandbox has ended meanwhile".to_owned());
        return Ok(vec![gone; outcomes.len()]);
    }
    drop(session);
    for (outcome, given) in outcomes.iter_mut().zip(*addresses) {
        if !matches!(outcome, Outcome::Left { .. }) {
            continue;
        }
        *outcome = match holder(store, scope, given.address)? {
            // It was imported from elsewhere, and this node has not heard of it.
            Some(HeldAddress::Attachment(held)) if held.record.attachment == record.attachment => {
                let mut session = store.open(Access::Allocate, deadline)?;
                complete(session.as_mut(), &held, record)?
            }
            holder => held_by(holder.as_ref()),
        };
    }
    Ok(outcomes)
}

fn holder(
    store: &dyn Store,
    scope: &Scope,
    address: IpAddr,
) -> Result<Option<HeldAddress>, StoreError> {
    let filter = Filter { address: Some(address), scope: Some(scope.clone()), ..Filter::default() };
    store.list_held(&filter)?.next().transpose()
}

/// Writes the namespace into a record that was imported from elsewhere. Any other record stays as
/// it is.
fn complete(
    session: &mut dyn Session,
    held: &Allocation,
    record: &Record,
) -> Result<Outcome, StoreError> {
    if !is_incomplete(&held.record) {
        session.confirm(held)?;
        return Ok(Outcome::Known);
    }
    let to = Record {
        pod: record.pod.clone().or_else(|| held.record.pod.clone()),
        netns: record.netns.clone(),
        view: record.view.clone(),
        boot_id: record.boot_id.clone(),
        ..held.record.clone()
    };
    match session.rehome(held, &to)? {
        Rehome::Done(_) => Ok(Outcome::Completed),
        Rehome::Changed => Err(StoreError::Changed),
    }
}

/// Returns whether an address is among the complete records of an attachment that the store has.
fn is_known(held: &[Allocation], scope: &Scope, address: IpAddr) -> bool {
    held.iter().any(|held| {
        held.address == address
            && held.scope == *scope
            && held.version.is_some()
            && !is_incomplete(&held.record)
    })
}

/// Returns whether a record was imported from elsewhere, and its node has not completed it.
pub(super) fn is_incomplete(record: &Record) -> bool {
    record.netns.as_ref().is_some_and(Netns::is_unseen)
}

/// Numbers the addresses of an ADD.
fn parts(addresses: &[Given]) -> impl Iterator<Item = (Part, &Given)> {
    let of = u16::try_from(addresses.len()).unwrap_or(u16::MAX);
    (0..of).map(move |index| Part { index, of }).zip(addresses)
}

/// Returns what an attachment holds that is not among the addresses of its ADD, or in another scope.
fn other_than<'h>(
    held: &'h [Allocation],
    scope: &Scope,
    addresses: &[Given],
) -> Option<&'h Allocation> {
    let is_wanted = |held: &Allocation| {
        held.scope == *scope && addresses.iter().any(|given| given.address == held.address)
    };
    held.iter().find(|held| !is_wanted(held))
}

fn holds_another(held: &Allocation) -> Outcome {
    Outcome::Left {
        reason: format!("hereabouts has {} as held by this sandbox", shown(held)),
        hint: format!(
            "if the sandbox does not use it, \"hereabouts release {} --force\", and repeat the import",
            held.address
        ),
    }
}

fn shown(held: &Allocation) -> String {
    match held.scope.name() {
        Some(scope) => format!("{} in scope {scope}", held.address),
        None => held.address.to_string(),
    }
}

/// Returns that an address cannot be recorded because it has another holder.
pub(super) fn held_by(holder: Option<&HeldAddress>) -> Outcome {
    let reason = match holder {
        Some(holder) => format!("hereabouts has it as held by {}", holder.holder()),
        None => "hereabouts cannot give it: it is the gateway of another network".to_owned(),
    };
    let is_imported = holder.is_some_and(
        |holder| matches!(holder, HeldAddress::Attachment(held) if is_incomplete(&held.record)),
    );
    let hint = if is_imported { ENDED } else { APART };
    Outcome::Left { reason, hint: hint.to_owned() }
}
