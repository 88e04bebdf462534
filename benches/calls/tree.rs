//! Fills a store of host-local as host-local 1.9.1 would fill it.
//!
//! Its format: `<dataDir>/<network>/<address>` contains the container ID, CR LF and the interface
//! name. `last_reserved_ip.0` contains the address after which the next search begins. The first
//! call creates `lock`.

use anyhow::{Context, Result};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// The first address of [`crate::RANGE`] that host-local gives out. The address below it is the
/// gateway.
const FIRST: u32 = u32::from_be_bytes([10, 0, 0, 2]);

/// Fills a store that does not exist yet.
///
/// # Errors
/// Fails if a file cannot be written.
pub(crate) fn load(data: &Path, count: u32) -> Result<()> {
    let network = data.join(crate::NETWORK);
    fs::create_dir_all(&network).with_context(|| format!("cannot make {}", network.display()))?;
    for number in 0..count {
        let address = Ipv4Addr::from(FIRST + number);
        fs::write(
            network.join(address.to_string()),
            format!("{}\r\nnet1", crate::loaded_container(number)),
        )?;
    }
    if 0 < count {
        let last = Ipv4Addr::from(FIRST + count - 1);
        fs::write(network.join("last_reserved_ip.0"), last.to_string())?;
    }
    Ok(())
}
