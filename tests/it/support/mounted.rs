//! A small filesystem for one test, in its own mount namespace: it ends with the process that holds
//! it, however the test ends.

use super::sandbox::{Call, Ended, Sandbox, configuration, files_below, make_store};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Returns a script that mounts a tmpfs on a directory whose device number nobody else takes when
/// it is free. The kernel gives the lowest free number, so it is the last one of many that become
/// free together.
pub(crate) fn tmpfs_of_a_high_device(directory: &str) -> String {
    format!("for _ in $(seq 100); do mount -t tmpfs t {directory} || exit 1; done")
}

/// A tmpfs at `disk` in a sandbox, with the store in `disk/store`.
pub(crate) struct Mounted {
    pub(crate) sandbox: Sandbox,
    holder: Child,
}

impl Mounted {
    /// Mounts it. Returns an error with the reason if this machine does not allow it.
    pub(crate) fn new(options: &str) -> Result<Self, String> {
        let sandbox = Sandbox::new();
        let disk = sandbox.path("disk");
        std::fs::create_dir(&disk).unwrap();
        let flat = sandbox
            .flat("n1")
            .replace(sandbox.store().to_str().unwrap(), disk.join("store").to_str().unwrap());
        sandbox.write("flat.conf", &flat);
        let script = r#"mount -t tmpfs -o "$0" none "$1" && echo held && read x"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, options]).arg(&disk);
        let mut holder = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        if holder.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).is_err() {
            let output = holder.wait_with_output().unwrap();
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let mounted = Self { sandbox, holder };
        make_store(&mounted.path("store"));
        Ok(mounted)
    }

    fn entering(&self) -> [String; 4] {
        ["nsenter", "--mount", "--target", &self.holder.id().to_string()].map(str::to_owned)
    }

    /// Makes a call in the namespace where the filesystem is.
    pub(crate) fn run(&self, call: &Call) -> Ended {
        let words = self.entering();
        call.run_under(&words.each_ref().map(String::as_str))
    }

    pub(crate) fn verb(&self, verb: &str, container: &str, ipam: &str) -> Ended {
        self.run(
            self.sandbox.call(verb).set("CNI_CONTAINERID", container).stdin(configuration(ipam)),
        )
    }

    /// Returns who holds what, as `list` prints it.
    pub(crate) fn list(&self) -> String {
        let mut call = Call::bare();
        call.set("HEREABOUTS_CONFIG", self.sandbox.path("flat.conf").to_str().unwrap());
        call.args = ["list", "-o", "json"].map(str::to_owned).to_vec();
        self.run(&call).stdout
    }

    /// Returns a path in the filesystem, for the test to use.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let inside =
            format!("/proc/{}/root{}", self.holder.id(), self.sandbox.path("disk").display());
        PathBuf::from(inside).join(name)
    }

    /// Returns every file of the store.
    pub(crate) fn files(&self) -> Vec<String> {
        files_below(&self.path("store"))
    }

    pub(crate) fn remount(&self, options: &str) {
        let [program, words @ ..] = self.entering();
        let mut command = Command::new(program);
        command
            .args(words)
            .args(["mount", "-o", &format!("remount,{options}")])
            .arg(self.sandbox.path("disk"));
        assert!(command.status().unwrap().success());
    }

    /// Fills it with files of this many bytes, and removes `spare` of them again.
    pub(crate) fn fill(&self, bytes: usize, spare: usize) {
        let ballast = self.path("ballast");
        // The files of an earlier call are removed first.
        self.make_room();
        std::fs::create_dir(&ballast).unwrap();
        let full = (0usize..)
            .find(|n| std::fs::write(ballast.join(n.to_string()), vec![b'x'; bytes]).is_err())
            .unwrap();
        // The last file may exist without its bytes.
        let _ = std::fs::remove_file(ballast.join(full.to_string()));
        for n in full.saturating_sub(spare)..full {
            std::fs::remove_file(ballast.join(n.to_string())).unwrap();
        }
    }

    pub(crate) fn make_room(&self) {
        let _ = std::fs::remove_dir_all(self.path("ballast"));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
