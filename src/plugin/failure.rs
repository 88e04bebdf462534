//! Why a verb failed, and the only mapping of it to CNI codes.

use crate::cni::{CniError, Code};
use crate::config::{ConfigError, Problem};
use crate::ipam::{PlanError, RequestError};
use crate::store::StoreError;
use std::net::IpAddr;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The requested address is in no range that may give it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A repeat asks for other addresses.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The store cannot do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `CNI_NETNS` is our own.
    #[error("CNI_NETNS: expected the namespace of a sandbox, not the plugin's own: {0}")]
    OwnNetns(String),
    /// The process that called has gone.
    #[error("the process that called has gone, nothing was allocated for it")]
    CallerGone,
    /// More addresses of a family than the configuration's version can say.
    #[error("cniVersion: version {version} has room for one {family} address, this configuration gives more, use 0.3.0 or later")]
    OnePerFamily {
        /// The version.
        version: &'static str,
        /// Of which there would be more.
        family: crate::addr::Family,
    },
    /// No candidate is free.
    #[error("every address of {0} is held or excluded, \"hereabouts list\" shows by whom")]
    Exhausted(String),
    /// The requested or static address is another's.
    #[error(
        "another attachment holds the {what} address, \"hereabouts show {address}\" says which, \
         or a network of the same scope has it as its gateway: {address}"
    )]
    Held {
        /// "requested" or "static".
        what: &'static str,
        /// The address.
        address: IpAddr,
    },
    /// CHECK: nothing is recorded, or less than ADD gave.
    #[error("expected {expected} recorded addresses, found {found}: {attachment}")]
    NotRecorded {
        /// How many the ADD gave.
        expected: String,
        /// How many stand.
        found: usize,
        /// Whose.
        attachment: String,
    },
    /// CHECK: prevResult says another.
    #[error("prevResult: expected the recorded address {recorded}: {previous}")]
    Differs {
        /// In the store.
        recorded: String,
        /// In prevResult.
        previous: String,
    },
    /// STATUS: the store would not serve an ADD.
    #[error("{0}")]
    NotReady(String),
    /// The machine does not show what is needed.
    #[error("cannot read {path}: {reason}")]
    Machine {
        /// A file of the kernel.
        path: String,
        /// Why.
        reason: String,
    },
    /// An ADD failed half way and what it had taken could not be given back.
    #[error("{failure}, and giving back what was taken failed too, a repeated ADD completes it and DEL frees it: {undo}")]
    NotUndone {
        /// Why it failed.
        failure: Box<Self>,
        /// Why it could not be undone.
        undo: Box<Self>,
    },
    /// What could not be freed is noted on this node, or not even that.
    #[error("{failure}, {}", told(unnoted.as_deref()))]
    Owed {
        /// Why it could not be freed.
        failure: Box<StoreError>,
        /// Why it could not be noted.
        unnoted: Option<String>,
    },
    /// An ADD meets what an earlier DEL of its attachment has left.
    #[error("an earlier DEL of this attachment failed, and what it left is not settled: {path}: {reason}")]
    Unpaid {
        /// The debt.
        path: String,
        /// Why it stands.
        reason: String,
    },
    /// Several records could not be freed.
    #[error("{failed} of {all} stale records could not be freed, the first: {first}")]
    Partly {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
        /// Why.
        first: Box<Self>,
    },
}

impl From<crate::config::Mistakes> for Failure {
    fn from(mistakes: crate::config::Mistakes) -> Self {
        Self::Config(mistakes.into())
    }
}

impl Failure {
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
                | RequestError::Barred { .. }
                | RequestError::BarredStatic { .. }
                | RequestError::TooManyRequested { .. } => Code::Requested,
                RequestError::Prefix { .. } | RequestError::TooMany { .. } => Code::Config,
            },
            Self::Plan(PlanError::HoldsOthers { .. }) => Code::Requested,
            Self::Store(error) => store_code(error),
            Self::Owed { failure, .. } => store_code(failure),
            Self::Unpaid { .. } => Code::TryAgain,
            Self::OwnNetns(_) => Code::Netns,
            Self::CallerGone => Code::Io,
            Self::OnePerFamily { .. } => Code::Config,
            Self::Exhausted(_) => Code::Exhausted,
            Self::Held { .. } => Code::Requested,
            Self::NotRecorded { .. } => Code::NotRecorded,
            Self::Differs { .. } => Code::Differs,
            Self::NotReady(_) => Code::NotAvailable,
            Self::Machine { .. } => Code::Io,
            Self::NotUndone { failure, .. } | Self::Partly { first: failure, .. } => failure.code(),
        }
    }
}

fn told(unnoted: Option<&str>) -> String {
    match unnoted {
        None => "this node frees what is held when the sandbox is gone".to_owned(),
        Some(reason) => format!("and this node cannot note that, what is held stays held until another DEL or a sweep: {reason}"),
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
        | StoreError::Unreachable { .. } => Code::TryAgain,
        StoreError::Refused { .. } | StoreError::Denied { .. } | StoreError::NoResource { .. } => Code::Api,
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
        | StoreError::Kubeconfig { .. } => Code::Config,
    }
}

impl From<Failure> for CniError {
    fn from(failure: Failure) -> Self {
        let code = failure.code();
        let details = failure.to_string();
        // The spec asks for the key and its value in the message of code 2.
        match code {
            Code::Unsupported => Self::with_message(code, format!("{}: {details}", code.message()), details),
            _ => Self::new(code, details),
        }
    }
}
