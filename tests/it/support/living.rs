//! A living sandbox: a process in its own network namespace. The namespace ends when this value is
//! dropped.

use hereabouts::retry::Deadline;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A living sandbox, see the module.
pub(crate) struct Living(Child);

impl Living {
    /// Returns `None` without root.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let child = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .ok()?;
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", child.id());
        let deadline = Deadline::after(Duration::from_secs(60));
        while std::fs::read_link(&path).is_ok_and(|link| link == own) {
            assert!(!deadline.left().is_zero(), "no namespace came");
            std::thread::yield_now();
        }
        Some(Self(child))
    }

    /// Returns the path that a runtime passes as `CNI_NETNS`.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
