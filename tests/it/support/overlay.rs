//! An overlay, which counts as a filesystem that machines share, in its own mount namespace: it
//! ends with the process that holds it.

use super::sandbox::{Call, Ended, Sandbox, configuration};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A sandbox whose store is on an overlay.
pub(crate) struct Overlay {
    pub(crate) sandbox: Sandbox,
    holder: Child,
}

impl Overlay {
    /// Mounts it at the sandbox's store. Returns `None` if this machine does not allow it.
    pub(crate) fn new() -> Option<Self> {
        Self::with_options("")
    }

    /// Does the same with additional options of the overlay.
    pub(crate) fn with_options(options: &str) -> Option<Self> {
        let script = format!(
            r#"mkdir -p "$0/store" && mount -t tmpfs t /mnt && mkdir /mnt/l /mnt/u /mnt/w && \
               mount -t overlay o -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w{options} "$0/store" && echo ready && exec sleep 600"#
        );
        Self::by(&script, Stdio::null())
    }

    /// Mounts with a script at the sandbox's store, `$0/store`.
    pub(crate) fn by(script: &str, stdin: Stdio) -> Option<Self> {
        let sandbox = Sandbox::new();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--kill-child", "--fork", "sh", "-c", script]).arg(&sandbox.root);
        let mut holder =
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take()?), &mut line)
            .ok()?;
        let overlay = Self { sandbox, holder };
        (line == "ready\n").then_some(overlay)
    }

    /// Returns the words before a command that must see it.
    pub(crate) fn inside(&self) -> [String; 2] {
        let children = format!("/proc/{0}/task/{0}/children", self.holder.id());
        let child = std::fs::read_to_string(children).unwrap_or_default();
        ["nsenter".to_owned(), format!("--mount=/proc/{}/ns/mnt", child.trim())]
    }

    /// Returns a directory that exists as long as the mount.
    pub(crate) fn holder(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns", self.holder.id()))
    }

    /// Makes a call where it is mounted.
    pub(crate) fn run(&self, call: &Call) -> Ended {
        call.run_under(&self.inside().each_ref().map(String::as_str))
    }

    /// Runs an operator's command there.
    pub(crate) fn command(&self, args: &[&str]) -> Ended {
        self.run(&self.sandbox.command_call(args))
    }

    /// Creates the store there with `store init`. Returns its id.
    pub(crate) fn init(&self) -> String {
        let store = self.sandbox.store();
        self.command(&["store", "init", store.to_str().unwrap()])
            .succeeded()
            .stdout
            .trim()
            .to_owned()
    }

    /// Makes a call for a living sandbox: this process's own namespace.
    pub(crate) fn verb(&self, verb: &str, container: &str, ipam: &str) -> Call {
        // `Sandbox::call` would create a store below the mount point for an ADD.
        let mut call = self.sandbox.call("DEL");
        call.set("CNI_COMMAND", verb)
            .set("CNI_CONTAINERID", container)
            .set("CNI_NETNS", format!("/proc/{}/ns/net", std::process::id()))
            .set("CNI_NETNS_OVERRIDE", "1")
            .set(
                "CNI_ARGS",
                format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};K8S_POD_UID=u"),
            )
            .stdin(configuration(ipam));
        call
    }

    /// Returns a path below the mounted store.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let [_, namespace] = self.inside();
        let process =
            namespace.trim_start_matches("--mount=/proc/").trim_end_matches("/ns/mnt").to_owned();
        PathBuf::from(format!("/proc/{process}/root{}", self.sandbox.store().display())).join(name)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
