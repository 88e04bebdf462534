//! Which pool an ADD takes its addresses from: the first that is for its node and pod, can serve
//! all of them, and has room. A repeated ADD stays with the pool that it has.

use super::Ready;
use super::failure::Failure;
use super::given::Given;
use super::pools::{Pools, Served};
use super::request::Request;
use crate::cni::Version;
use crate::config::{CniArgs, FlatFile, Network};
use crate::ipam::{self, Allocation, Attachment, ClaimAllocation};
use crate::retry::Deadline;
use crate::store::pools::Read;
use crate::store::{Access, StoreError};

/// An ADD of a network that names pools.
pub(super) struct PoolChoice<'a> {
    pub(super) ready: &'a Ready,
    pub(super) network: &'a Network,
    pub(super) flat: Option<&'a FlatFile>,
    pub(super) args: &'a CniArgs,
    pub(super) attachment: &'a Attachment,
    /// What the IPAMClaim of the pod holds.
    pub(super) claimed: &'a [ClaimAllocation],
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
        let given = match self.try_with(Read::Copies, give) {
            (true, Err(failure)) if failure.may_be_of_an_old_pool() => {
                self.try_with(Read::Present, give).1
            }
            (_, given) => given,
        };
        match given {
            Err(failure @ Failure::Config(_)) => self.give_held(failure, give),
            given => given,
        }
    }

    /// Tries the pools. Returns also whether one of them was a copy.
    fn try_with(&self, read: Read, give: Give<'_>) -> (bool, Result<(Request, Given), Failure>) {
        match self.served(read) {
            Ok(served) => (served.copied, self.give_from(served, give)),
            Err(failure) => (false, Err(failure)),
        }
    }

    /// Repeats an earlier answer, although no pool serves the network any more. Fails with this
    /// failure if there is none.
    fn give_held(&self, failure: Failure, give: Give<'_>) -> Result<(Request, Given), Failure> {
        let held = self.held()?;
        let Some(first) = held.first().filter(|_| !ipam::is_half_done(&held)) else {
            return Err(failure);
        };
        let network = Network { scope: first.scope.clone(), ..self.network.clone() };
        let Ok(request) = Request::new(network, self.version) else { return Err(failure) };
        let given = give(&request)?;
        Ok((request, given))
    }

    fn served(&self, read: Read) -> Result<Served, Failure> {
        let pools = Pools {
            flat: self.flat,
            settings: &self.ready.settings,
            store: self.ready.store.as_ref(),
            read,
            deadline: self.deadline,
        };
        pools.serve(self.network, self.args)
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

    /// Leaves only the pool from which the attachment or its claim has addresses, if there is one: a
    /// repeated ADD, one that completes what an earlier call began, and a user of a claim stay with
    /// it.
    fn keep_pool(&self, requests: &mut Vec<Request>) -> Result<(), Failure> {
        if requests.len() < 2 {
            return Ok(());
        }
        let held = self.held()?;
        let of_attachment =
            |request: &Request| held.iter().any(|held| request.may_get(&held.scope, held.address));
        let of_claim = |request: &Request| {
            self.claimed.iter().any(|held| request.may_get(&held.scope, held.address))
        };
        if requests.iter().any(of_attachment) {
            requests.retain(of_attachment);
        } else if requests.iter().any(of_claim) {
            requests.retain(of_claim);
        }
        Ok(())
    }

    /// Returns what the attachment holds.
    fn held(&self) -> Result<Vec<Allocation>, Failure> {
        let session = self.ready.store.open(Access::Read, self.deadline)?;
        Ok(session.holdings(self.attachment)?.held)
    }
}
