//! ADD: finds out what the network gives to the pod, allocates it, and answers.

pub use super::allocating::allocate;
use super::ask::Ask;
use super::debts::Account;
use super::elsewhere::{self, Elsewhere};
use super::failure::Failure;
pub use super::given::Given;
use super::ipam_claim::{OfClaim, Times};
use super::pool_choice::PoolChoice;
use super::preferred;
use super::request::Request;
use super::{Ipam, Ready, limit_check, machine, pools};
use crate::cni::{self, Added, Call, CniError, Sandbox, Success, Version};
use crate::config::{CniArgs, FlatFile, Merged, Network};
use crate::ipam::{Allocation, Attachment, Record};
use crate::retry::Deadline;
use std::cell::RefCell;
use std::time::Duration;

/// An ADD that has allocated and whose result is not delivered yet.
pub(super) struct Allocated {
    ready: Ready,
    success: Success,
    given: Given,
    reserve: Duration,
    account: Account,
    record: Record,
}

impl Allocated {
    /// Returns the result, and what it consists of.
    pub(super) const fn parts(&self) -> (&Success, &Given) {
        (&self.success, &self.given)
    }
}

impl Added for Allocated {
    fn success(&self) -> &Success {
        &self.success
    }

    fn undo(self: Box<Self>) -> Result<(), CniError> {
        let undone = self.given.undo(self.ready.store.as_ref(), Deadline::after(self.reserve));
        Ok(undone.map_err(|error| self.given.owe(error, Some(&self.account), &self.record))?)
    }

    fn delivered(self: Box<Self>) {
        // The locks are released first: from here on, nothing is undone.
        let Self { ready, given, .. } = *self;
        drop(given);
        ready.answered();
    }
}

/// Where the addresses of an ADD come from.
enum Origin {
    /// The network's own ranges.
    Ranges(Request),
    /// The pools that the network names.
    Pools(Network),
}

impl Origin {
    const fn network(&self) -> &Network {
        match self {
            Self::Ranges(request) => &request.network,
            Self::Pools(network) => network,
        }
    }
}

pub(super) fn add(ipam: &Ipam<'_>, call: &Call, sandbox: &Sandbox) -> Result<Allocated, Failure> {
    let args = CniArgs::parse(&call.args)?.with_interface(&sandbox.ifname);
    let flat = ipam.flat_file(call)?;
    let merged = Merged::new(&call.configuration, flat.as_ref())?;
    let mut network = Network::parse(&merged, &args)?;
    let dns = dns(&mut network, flat.as_ref())?;
    // What is wrong with a network is found before a store is opened.
    let origin = match network.pools.is_empty() {
        true => Origin::Ranges(Request::new(network, call.version)?),
        false => Origin::Pools(network),
    };
    let ready = ipam.ready(call, &merged, flat.as_ref())?;
    if let Some(path) = sandbox
        .netns
        .as_ref()
        .filter(|path| !sandbox.own_netns_allowed && machine::is_own_netns(path))
    {
        return Err(Failure::OwnNetns(path.display().to_string()));
    }
    let attachment = ready.attachment(call, sandbox);
    let account = ready.account(attachment.clone());
    let record = record(&ready, attachment, sandbox, &args);
    let limit = ready.settings.deadlines.add;
    let (reserve, deadline) = (limit / 5, Deadline::after(limit - limit / 5));
    let claim = match &origin.network().ipam_claim {
        Some(asked) => OfClaim::find(ready.store.as_ref(), asked, &record, deadline)?,
        None => None,
    };
    let opened = Opened {
        ipam,
        ready: &ready,
        record: &record,
        account: &account,
        claim: claim.as_ref(),
        version: call.version,
        times: (deadline, reserve),
    };
    let give = |request: &Request| opened.give(request);
    let (request, given) = match origin {
        Origin::Ranges(request) => {
            let ranges = request.network.sets.iter().flat_map(|set| &set.ranges);
            let ranges: Vec<_> = ranges.map(|range| range.subnet).collect();
            ready.store.expect_ranges(&ranges);
            let given = give(&request)?;
            (request, given)
        }
        Origin::Pools(network) => {
            let claimed = match claim.as_ref().filter(|_| 1 < network.pools.len()) {
                Some(claim) => claim.held()?,
                None => Vec::new(),
            };
            let choice = PoolChoice {
                claimed: &claimed,
                ready: &ready,
                network: &network,
                flat: flat.as_ref(),
                args: &args,
                attachment: &record.attachment,
                version: call.version,
                deadline,
            };
            choice.give(&give)?
        }
    };
    for allocation in &given.held {
        tracing::debug!(address = %allocation.address, scope = %allocation.scope, node = %allocation.record.attachment.node, "given");
        ipam.report.names(allocation);
    }
    let success = Success {
        ips: given.held.iter().map(ip).collect(),
        routes: request.network.routes.iter().map(route).collect(),
        dns,
    };
    Ok(Allocated { ready, success, given, reserve, account, record })
}

/// An ADD whose store is open.
struct Opened<'a> {
    ipam: &'a Ipam<'a>,
    ready: &'a Ready,
    record: &'a Record,
    account: &'a Account,
    claim: Option<&'a OfClaim<'a>>,
    version: Version,
    times: Times,
}

impl Opened<'_> {
    /// Gives the addresses of one request.
    fn give(&self, request: &Request) -> Result<Given, Failure> {
        let (Request { network, slots }, ready) = (request, self.ready);
        pools::draw_from_slices(ready.store.as_ref(), network)?;
        let may_allocate = || {
            limit_check::check_name(&self.record.attachment.ifname)
                .and_then(|()| limit_check::check(network, slots))
        };
        let is_alive = |held: &Record| !ready.life(held).is_dead();
        let own = (!network.own_addresses).then(|| ready.surroundings.own_addresses());
        let probe = network.probe.as_ref().filter(|_| !ready.surroundings.is_trial());
        let elsewhere = Elsewhere {
            own: own.as_deref(),
            probe: probe.map(|probe| (probe, &elsewhere::ask_hosts as elsewhere::AskHosts<'_>)),
            host_local: ready.host_local(&self.record.attachment.network),
            notes: ready.set_aside(),
            found: RefCell::default(),
        };
        let ask = Ask {
            scope: &network.scope,
            slots,
            record: self.record,
            may_allocate: &may_allocate,
            is_alive: &is_alive,
            caller_gone: self.ipam.orphaned,
            account: Some(self.account),
            freed: Some(&ready.freed()),
            elsewhere: Some(&elsewhere),
            confirm: None,
            // An address of a claim is remembered by the claim.
            sticky: network.sticky && self.claim.is_none(),
        };
        if let Some(claim) = self.claim {
            return claim.give(&ask, request, self.version, self.times);
        }
        let (deadline, reserve) = self.times;
        let given = allocate(ready.store.as_ref(), &ask, deadline, reserve)?;
        preferred::remember(ready.store.as_ref(), &ask, &given.sticky);
        Ok(given)
    }
}

fn record(ready: &Ready, attachment: Attachment, sandbox: &Sandbox, args: &CniArgs) -> Record {
    Record { pod: args.pod.clone(), ..ready.record(attachment, sandbox) }
}

fn dns(network: &mut Network, flat: Option<&FlatFile>) -> Result<cni::Dns, Failure> {
    let mut dns = std::mem::take(&mut network.dns);
    if let Some(file) = network.resolv_conf.as_ref().filter(|_| dns.is_empty()) {
        let bytes = machine::read_resolv_conf(file, flat).map_err(|error| Failure::Machine {
            path: file.path.display().to_string(),
            reason: machine::error_text(&error),
        })?;
        dns = crate::config::Dns::from_resolv_conf(&bytes);
    }
    Ok(cni::Dns {
        nameservers: dns.nameservers,
        domain: dns.domain,
        search: dns.search,
        options: dns.options,
    })
}

fn ip(allocation: &Allocation) -> cni::Ip {
    cni::Ip {
        address: allocation.address,
        prefix: allocation.record.prefix,
        gateway: allocation.record.gateway,
    }
}

fn route(route: &crate::config::Route) -> cni::Route {
    cni::Route {
        dst: route.dst.to_string(),
        gw: route.gw,
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
    }
}
