//! host-local's store, filled as host-local 1.9.1 would have filled it.
//!
//! Its format: `<dataDir>/<network>/<address>` holds the container id, CR LF
//! and the interface name; `last_reserved_ip.0` holds the address from which
//! the next search goes on; `lock` is made by the first call.

use anyhow::{Context, Result};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// The first address that host-local gives out of [`crate::RANGE`]: the one
/// below is the gateway.
const FIRST: u32 = u32::from_be_bytes([10, 0, 0, 2]);

/// Fills a store that does not exist yet.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn load(data: &Path, count: u32) -> Result<()> {
    let network = data.join(crate::NETWORK);
    fs::create_dir_all(&network).with_context(|| format!("cannot make {}", network.display()))?;
    for number in 0..count {
        let address = Ipv4Addr::from(FIRST + number);
        fs::write(network.join(address.to_string()), format!("{}\r\nnet1", crate::loaded_container(number)))?;
    }
    if 0 < count {
        let last = Ipv4Addr::from(FIRST + count - 1);
        fs::write(network.join("last_reserved_ip.0"), last.to_string())?;
    }
    Ok(())
}
