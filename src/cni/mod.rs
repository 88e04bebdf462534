//! The CNI protocol, complete up to specification 1.1.0: environment, stdin, versions, results and
//! errors.
//!
//! It does not know which addresses to give out, and knows nothing of stores. The trait [`Plugin`]
//! implements the verbs.

mod dispatch;
mod error;
mod invocation;
mod outline;
mod result;
mod valid_attachments;
mod verb;
mod version;

pub use dispatch::{Added, Outcome, Plugin, Ports, dispatch};
pub use error::{CniError, Code};
pub use invocation::{Call, Sandbox};
pub use result::{Dns, Ip, Route, Success};
pub use valid_attachments::Attachments;
pub use version::Version;
