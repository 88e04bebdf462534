//! Which pool an ADD takes its addresses from: the first that is for its node and pod, can serve
//! all of them, and has room. A repeated ADD stays with the pool that it has.

use super::Ready;
use super::failure::Failure;
use super::given::Given;
use super::pools::{Pools, Served};
use super::request::Request;
use crate::cni::Version;
use crate::config::{FlatFile, Network};
use crate::ipam::{Attachment, PodRef};
use crate::retry::Deadline;
use crate::store::pools::Read;
use crate::store::{Access, StoreError};

/// An ADD of a network that names pools.
pub(super) struct PoolChoice<'a> {
    pub(super) ready: &'a Ready,
    pub(super) network: &'a Network,
    pub(super) flat: Option<&'a FlatFile>,
    pub(super) pod: Option<&'a PodRef>,
    pub(super) attachment: &'a Attachment,
    pub(super) version: Version,
    pub(super) deadline: Deadline,
}

/// Gives the addresses of a request.
pub(super) type Give<'a> = &'a dyn Fn(&Request) -> Result<Given, Failure>;

impl PoolChoice<'_> {
    /// Gives all addresses from one pool. If a copy of a pool is the reason why it cannot, it looks
    /// at the present pools.
    ///
    /// # Errors
    /// The reason why the last pool cannot serve the ADD.
    pub(super) fn give(&self, give: Give<'_>) -> Result<(Request, Given), Failure> {
        let served = self.served(Read::Copies)?;
        let copied = served.copied;
        match self.give_from(served, give) {
            Err(failure) if copied && failure.may_be_of_an_old_pool() => {
                self.give_from(self.served(Read::Present)?, give)
            }
            given => given,
        }
    }

    fn served(&self, read: Read) -> Result<Served, Failure> {
        let pools = Pools {
            flat: self.flat,
            settings: &self.ready.settings,
            store: self.ready.store.as_ref(),
            read,
            deadline: self.deadline,
        };
        pools.serve(self.network, self.pod)
    }

    fn give_from(&self, served: Served, give: Give<'_>) -> Result<(Request, Given), Failure> {
        let networks = served.networks()?;
        let mut requests = Request::of_pools(networks, self.version)?;
        self.keep_pool(&mut requests)?;
        let mut requests = requests.into_iter().peekable();
        loop {
            // There is at least one request.
            let Some(request) = requests.next() else { return Err(StoreError::Changed.into()) };
            match give(&request) {
                Ok(given) => return Ok((request, given)),
                Err(failure) if failure.is_full() && requests.peek().is_some() => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Leaves only the pool from which the attachment has addresses, if there is one: a repeated
    /// ADD, and one that completes what an earlier call began, stay with it.
    fn keep_pool(&self, requests: &mut Vec<Request>) -> Result<(), Failure> {
        if requests.len() < 2 {
            return Ok(());
        }
        let session = self.ready.store.open(Access::Read, self.deadline)?;
        let held = session.holdings(self.attachment)?.held;
        let has = |request: &Request| held.iter().any(|held| request.may_get(held));
        if requests.iter().any(has) {
            requests.retain(has);
        }
        Ok(())
    }
}
