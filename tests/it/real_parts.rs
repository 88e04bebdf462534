//! Real components: cnitool and the real main plugins in their own network namespaces, the examples
//! as Multus passes them on, and the demo.

mod cnitool;
pub(crate) mod demo;
pub(crate) mod examples;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Returns the folder of cnitool and the main plugins, which `scripts/tools` builds if they are
/// missing, or why this machine does not have them.
pub(crate) fn tools() -> Result<PathBuf, String> {
    static TOOLS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let find = || {
        if !nix::unistd::geteuid().is_root() {
            return Err("needs root".to_owned());
        }
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(root.join("scripts/tools"))
            .arg("base")
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(root.join("target/tools/bin"))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    TOOLS.get_or_init(find).clone()
}

/// Returns whether the kernel has a device type.
pub(crate) fn kernel_has(kind: &str) -> bool {
    let script = format!(
        "ip link add up0 type veth peer name up1 && ip link add link up0 probe0 type {kind}"
    );
    Command::new("unshare")
        .args(["--net", "sh", "-c", &script])
        .output()
        .is_ok_and(|output| output.status.success())
}
