//! The CNI protocol, complete to spec 1.1.0: the environment, stdin, versions,
//! results and errors. Knows nothing of addresses to give or of stores: what a
//! verb does is behind the trait [`Plugin`].

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
