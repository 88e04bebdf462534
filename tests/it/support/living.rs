//! A sandbox that lives: a process in a network namespace of its own, which is
//! gone when this is dropped.

use hereabouts::retry::Deadline;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// See above.
pub(crate) struct Living(Child);

impl Living {
    /// `None` without root.
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

    /// What a runtime gives as `CNI_NETNS`.
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
