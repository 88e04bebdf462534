//! Why a verb failed, and the only mapping of these failures to CNI codes.

use crate::cni::{CniError, Code};
use crate::config::{ConfigError, Problem};
use crate::ipam::{ClaimAllocation, ClaimProblem, HeldAddress, PlanError, RequestError};
use crate::store::StoreError;
use std::net::IpAddr;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No range may give the requested address.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A repeated ADD asks for other addresses.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `CNI_NETNS` is the plugin's own namespace.
    #[error("CNI_NETNS: expected the namespace of a sandbox, found the plugin's own: {0}")]
    OwnNetns(String),
    /// The calling process has exited.
    #[error("the calling process has exited, so nothing was allocated for it")]
    CallerGone,
    /// The result would have more addresses of a family than the configuration's version allows.
    #[error(
        "cniVersion: expected 0.3.0 or later, found {version}: the configuration gives more than one {family} address"
    )]
    OnePerFamily {
        /// The version.
        version: &'static str,
        /// The family that would have more.
        family: crate::addr::Family,
    },
    /// No candidate is free.
    #[error("every address of {0} is held or excluded")]
    Exhausted(String),
    /// No candidate is free in the slices of this node, and it gets no further one.
    #[error("this node has no free address of {ranges}: {reason}")]
    NoSlice {
        /// The ranges.
        ranges: String,
        /// Why it gets no further slice.
        reason: String,
    },
    /// No candidate is free, and some are in use outside of the store.
    #[error(
        "every address of {ranges} is held, excluded or set aside as in use: {passed_over} set aside"
    )]
    InUse {
        /// The ranges.
        ranges: String,
        /// The number of addresses that this node or another host has.
        passed_over: usize,
    },
    /// The requested or static address is one of this node.
    #[error(
        "the {what} address is an address of this node, on its interface {interface}: {address}"
    )]
    Own {
        /// "requested" or "static".
        what: &'static str,
        /// The address.
        address: IpAddr,
        /// The name of the interface.
        interface: String,
    },
    /// Another host of the network has the requested or static address.
    #[error("the {what} address is in use by the host with the MAC address {mac}: {address}")]
    Answered {
        /// "requested" or "static".
        what: &'static str,
        /// The address.
        address: IpAddr,
        /// The MAC address of the host.
        mac: String,
    },
    /// A pod that host-local has served has the requested or static address.
    #[error("the {what} address was given by host-local to container {container}: {address}")]
    GivenByHostLocal {
        /// "requested" or "static".
        what: &'static str,
        /// The address.
        address: IpAddr,
        /// The container.
        container: String,
    },
    /// What host-local has given cannot be read.
    #[error("cannot read what host-local has given: {0}")]
    HostLocal(String),
    /// The other hosts of the network cannot be asked.
    #[error("cannot probe from interface {interface}: {reason}")]
    NoProbe {
        /// The name of the interface.
        interface: String,
        /// Why not.
        reason: String,
    },
    /// The requested or static address belongs to another attachment, or to a claim.
    #[error("the {what} address {address} is {}", holder_in_words(.holder.as_deref()))]
    Held {
        /// "requested", "static" or "reserved".
        what: &'static str,
        /// The address.
        address: IpAddr,
        /// The holder, if one was found.
        holder: Option<Box<HeldAddress>>,
    },
    /// The pod does not get the addresses of its IPAMClaim.
    #[error("{claim}: {problem}")]
    OfClaim {
        /// The claim.
        claim: String,
        /// What is wrong.
        problem: ClaimProblem,
    },
    /// CHECK: no address is recorded, or fewer than ADD gave.
    #[error("recorded addresses of {attachment}: expected {expected}, found {found}")]
    NotRecorded {
        /// The number of addresses that the ADD gave.
        expected: String,
        /// The number of addresses that are recorded.
        found: usize,
        /// The attachment.
        attachment: String,
    },
    /// CHECK: prevResult has another value.
    #[error("prevResult: expected the recorded address {recorded}, found {previous}")]
    Differs {
        /// The value in the store.
        recorded: String,
        /// The value in prevResult.
        previous: String,
    },
    /// STATUS: the store would not serve an ADD.
    #[error("{reason}")]
    NotReady {
        /// Why not.
        reason: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A file that is needed cannot be read.
    #[error("cannot read {path}: {reason}")]
    Machine {
        /// The file that cannot be read.
        path: String,
        /// The reason.
        reason: String,
    },
    /// An ADD failed half way, and what it had taken could not be given back.
    #[error("{failure}; releasing what had been allocated also failed: {undo}")]
    NotUndone {
        /// Why the ADD failed.
        failure: Box<Self>,
        /// Why it could not be undone.
        undo: Box<Self>,
    },
    /// Something could not be freed. This is noted on this node, or could not be noted either.
    #[error("{failure}; {}", told(unnoted.as_deref()))]
    Owed {
        /// Why it could not be freed.
        failure: Box<StoreError>,
        /// Why it could not be noted.
        unnoted: Option<String>,
    },
    /// An ADD finds an unsettled debt of an earlier DEL of its attachment.
    #[error("the debt of an earlier DEL of this attachment cannot be settled: {path}: {reason}")]
    Unsettled {
        /// The path of the debt.
        path: String,
        /// Why the debt is not settled.
        reason: String,
    },
    /// Several records could not be freed.
    #[error("{failed} of {all} stale records could not be released, the first: {first}")]
    Partly {
        /// The number of failures.
        failed: usize,
        /// The number of stale records.
        all: usize,
        /// The first failure.
        first: Box<Self>,
    },
}

impl From<crate::config::Mistakes> for Failure {
    fn from(mistakes: crate::config::Mistakes) -> Self {
        Self::Config(mistakes.into())
    }
}

/// Returns who holds an address, and where.
fn holder_in_words(holder: Option<&HeldAddress>) -> String {
    let Some(holder) = holder else {
        return "held by another attachment, or is a gateway in its scope".to_owned();
    };
    let text = format!("held by {}", holder.holder());
    match holder {
        HeldAddress::Attachment(_) => text,
        HeldAddress::Claim(held) => {
            let since = humantime::format_rfc3339_seconds(held.since);
            let pool = held.pool.as_ref().map_or_else(String::new, |pool| format!(" of {pool}"));
            format!("{text}{pool} since {since}")
        }
    }
}

/// Returns how the address of a claim becomes free.
#[must_use]
pub fn how_a_claim_ends(held: &ClaimAllocation) -> String {
    format!(
        "delete {} when nothing uses the address; hereabouts-controller then releases it",
        held.claim
    )
}

impl Failure {
    /// Returns whether the ADD failed because no address was free.
    pub(super) const fn is_full(&self) -> bool {
        matches!(self, Self::Exhausted(_) | Self::NoSlice { .. } | Self::InUse { .. })
    }

    /// Returns whether the reason may be a pool that has changed since it was read.
    pub(super) const fn may_be_of_an_old_pool(&self) -> bool {
        self.is_full()
            || matches!(
                self,
                Self::Config(_)
                    | Self::Request(_)
                    | Self::Plan(_)
                    | Self::Held { .. }
                    | Self::OnePerFamily { .. }
            )
    }

    /// Adds the holder of the address to a failure that is about one address.
    pub(super) fn held_by(self, holder: Option<HeldAddress>) -> Self {
        match self {
            Self::Held { what, address, holder: None } => {
                Self::Held { what, address, holder: holder.map(Box::new) }
            }
            other => other,
        }
    }

    /// Adds why the node gets no further slice, if that is the reason.
    pub(super) fn without_slice(self, reason: Option<String>) -> Self {
        match (self, reason) {
            (Self::Exhausted(ranges), Some(reason)) => Self::NoSlice { ranges, reason },
            (other, _) => other,
        }
    }

    /// Returns advice, if there is any.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint.clone(),
            Self::Request(error) => error.hint().map(str::to_owned),
            Self::Plan(PlanError::HoldsOthers { .. }) => Some("DEL releases them".to_owned()),
            Self::Store(error) => error.hint(),
            Self::InUse { .. } => Some(
                "\"hereabouts list\" shows who holds them, and which ones are set aside".to_owned(),
            ),
            Self::Own { .. } => Some(
                "use another address, or allow it with own_addresses in the node's flat file"
                    .to_owned(),
            ),
            Self::Answered { .. } => {
                Some("use another address, or take the address from that host".to_owned())
            }
            Self::GivenByHostLocal { .. } => Some(
                "use another address; \"hereabouts import host-local\" shows which pod has it".to_owned(),
            ),
            Self::HostLocal(_) => {
                Some("correct host_local_dir in the node's flat file, or remove it".to_owned())
            }
            Self::NoProbe { .. } => Some(
                "probe needs an Ethernet interface of the node that is up: correct \"master\" or \"bridge\", or remove probe"
                    .to_owned(),
            ),
            Self::Exhausted(_) => Some("\"hereabouts list\" shows who holds them".to_owned()),
            Self::NoSlice { .. } => Some("\"hereabouts slices list\" shows the owners".to_owned()),
            Self::Held { holder: Some(held), .. } => Some(match held.as_ref() {
                HeldAddress::Attachment(held) => {
                    let node = &held.record.attachment.node;
                    format!(
                        "its DEL or \"hereabouts sweep\" on node {node} frees it; if that node is off for good, \"hereabouts release --node {node}\" does"
                    )
                }
                HeldAddress::Claim(held) => how_a_claim_ends(held),
            }),
            Self::Held { address, holder: None, .. } => {
                Some(format!("\"hereabouts show {address}\" shows its holder"))
            }
            Self::OfClaim { problem, .. } => problem.hint().map(str::to_owned),
            Self::NotReady { hint, .. } => hint.clone(),
            Self::NotUndone { .. } => {
                Some("a repeated ADD completes the allocation, and DEL releases it".to_owned())
            }
            Self::Owed { failure, unnoted: None } => failure.hint(),
            Self::Owed { failure, unnoted: Some(_) } => {
                let inner = failure.hint().map_or_else(String::new, |hint| format!("{hint}; "));
                Some(format!("{inner}the addresses stay held until another DEL or a sweep"))
            }
            Self::Partly { first, .. } => first.hint(),
            Self::OwnNetns(_)
            | Self::CallerGone
            | Self::OnePerFamily { .. }
            | Self::NotRecorded { .. }
            | Self::Differs { .. }
            | Self::Machine { .. }
            | Self::Unsettled { .. } => None,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Config(error) => match error.problem {
                Problem::Unsupported => Code::Unsupported,
                Problem::Args => Code::Environment,
                Problem::Read => Code::Io,
                Problem::Shape => Code::Decode,
                Problem::Meaning => Code::Config,
            },
            Self::Request(error) => match error {
                RequestError::Outside { .. }
                | RequestError::NoPrefix { .. }
                | RequestError::Reserved { .. }
                | RequestError::Barred { .. }
                | RequestError::BarredStatic { .. }
                | RequestError::TooManyRequested { .. } => Code::Requested,
                RequestError::Prefix { .. } | RequestError::TooMany { .. } => Code::Config,
            },
            Self::Plan(PlanError::HoldsOthers { .. }) => Code::Requested,
            Self::Store(error) => store_code(error),
            Self::Owed { failure, .. } => store_code(failure),
            Self::Unsettled { .. } => Code::TryAgain,
            Self::OwnNetns(_) => Code::Netns,
            Self::CallerGone => Code::Io,
            Self::OnePerFamily { .. } => Code::Config,
            Self::Exhausted(_) | Self::NoSlice { .. } | Self::InUse { .. } => Code::Exhausted,
            Self::Held { .. }
            | Self::Own { .. }
            | Self::Answered { .. }
            | Self::GivenByHostLocal { .. } => Code::Requested,
            Self::HostLocal(_) => Code::Io,
            Self::OfClaim { problem, .. } => match problem {
                ClaimProblem::NoClaims => Code::Config,
                ClaimProblem::NoPod => Code::Environment,
                ClaimProblem::UnknownPod(_)
                | ClaimProblem::Absent
                | ClaimProblem::AddressEnding(_)
                | ClaimProblem::Freed(_) => Code::TryAgain,
                ClaimProblem::Ending
                | ClaimProblem::OtherNetwork { .. }
                | ClaimProblem::OtherMachine { .. }
                | ClaimProblem::InUse(_)
                | ClaimProblem::HoldsOthers { .. } => Code::Requested,
            },
            Self::NotRecorded { .. } => Code::NotRecorded,
            Self::Differs { .. } => Code::Differs,
            Self::NotReady { .. } => Code::NotAvailable,
            Self::Machine { .. } | Self::NoProbe { .. } => Code::Io,
            Self::NotUndone { failure, .. } | Self::Partly { first: failure, .. } => failure.code(),
        }
    }
}

fn told(unnoted: Option<&str>) -> String {
    match unnoted {
        None => "this node noted a debt: it completes the DEL when the sandbox is gone".to_owned(),
        Some(reason) => format!("this node cannot note a debt for the DEL: {reason}"),
    }
}

fn store_code(error: &StoreError) -> Code {
    match error {
        StoreError::Io { .. }
        | StoreError::NoLocks { .. }
        | StoreError::NoHardLinks { .. }
        | StoreError::Absent { .. }
        | StoreError::NotMounted { .. } => Code::Io,
        StoreError::Busy { .. }
        | StoreError::AttachmentBusy { .. }
        | StoreError::OutOfTime { .. }
        | StoreError::Changed
        | StoreError::OldView { .. }
        | StoreError::RestoredLately { .. }
        | StoreError::MoveSetBack { .. }
        | StoreError::Unreachable { .. } => Code::TryAgain,
        StoreError::SliceInUse { .. }
        | StoreError::SlicesOverlap { .. }
        | StoreError::SliceOfAnother { .. }
        | StoreError::SliceLost { .. } => Code::Requested,
        StoreError::Refused { .. } | StoreError::Denied { .. } | StoreError::NoResource { .. } => {
            Code::Api
        }
        StoreError::Damaged { .. }
        | StoreError::DamagedObject { .. }
        | StoreError::BadFormat { .. }
        | StoreError::NotOurs { .. }
        | StoreError::Newer { .. }
        | StoreError::NewerState { .. } => Code::Stored,
        StoreError::Unnamed { .. }
        | StoreError::Foreign { .. }
        | StoreError::FoldsCase { .. }
        | StoreError::Unfit { .. }
        | StoreError::SecondMachine { .. }
        | StoreError::Renamed { .. }
        | StoreError::OtherGeometry { .. }
        | StoreError::OtherCut { .. }
        | StoreError::Unshowable { .. }
        | StoreError::Kubeconfig { .. } => Code::Config,
    }
}

impl From<Failure> for CniError {
    fn from(failure: Failure) -> Self {
        let code = failure.code();
        let text = failure.to_string();
        // The spec asks for the key and its value in the message of code 2.
        let error = match code {
            Code::Unsupported => {
                Self::with_message(code, format!("{}: {text}", code.message()), text)
            }
            _ => Self::new(code, text),
        };
        error.with_hint(failure.hint())
    }
}
