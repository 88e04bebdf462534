//! Two nodes: two mounts of one shared filesystem, each with its own flat file.
//! `HEREABOUTS_SHARED_MOUNTS` names the mounts, `a:b`.

use crate::support::sandbox::{Call, Ended, Sandbox, configuration, forget_stores_below};
use serde_json::Value;
use std::path::PathBuf;

/// 62 addresses, lowest first: both nodes take what the other has just freed.
pub(super) const RANGE: &str = r#""range":"10.1.0.0/26""#;

/// The directory in which a machine notes the stores that it uses.
const NOTES: &str = "/var/lib/cni/hereabouts";

/// The locks that are made useless: flock then succeeds without locking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locks {
    /// None.
    Real,
    /// Those on the shared filesystem. The machine's own locks still exclude other calls of the
    /// same node.
    SharedUseless,
    /// All, the machine's own too.
    AllUseless,
}

/// A store on two mounts.
pub(super) struct Nodes {
    pub(super) sandbox: Sandbox,
    stores: [PathBuf; 2],
}

#[allow(
    clippy::disallowed_methods,
    reason = "a script starts these tests and says where the mounts are"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The two mounts, `/a` and `/b`.
pub(super) fn mounts() -> [PathBuf; 2] {
    let value = variable("HEREABOUTS_SHARED_MOUNTS")
        .expect("HEREABOUTS_SHARED_MOUNTS=<mount>:<mount>, as scripts/test-shared-fs sets it");
    let (a, b) = value.split_once(':').expect("HEREABOUTS_SHARED_MOUNTS names two mounts");
    [PathBuf::from(a), PathBuf::from(b)]
}

/// Returns a function that cuts the power of the server's disk, if this is possible. Its argument
/// is `settle`, `copy` or `restart`.
pub(super) fn power() -> Option<impl Fn(&str)> {
    let script = variable("HEREABOUTS_SHARED_POWER")?;
    Some(move |word: &str| {
        let ended = std::process::Command::new(&script).args(["--power", word]).output().unwrap();
        assert!(ended.status.success(), "{word}: {}", String::from_utf8_lossy(&ended.stderr));
    })
}

/// Returns the verdict of `store test` in `docs/filesystems.md` for this filesystem.
pub(super) fn expected() -> String {
    variable("HEREABOUTS_SHARED_EXPECTED")
        .expect("HEREABOUTS_SHARED_EXPECTED=<verdict>, as scripts/test-shared-fs sets it")
}

/// Returns whether the mounts move open files before another file takes their name.
pub(super) fn moves_open_files() -> bool {
    variable("HEREABOUTS_SHARED_MOVES_OPEN_FILES").is_some()
}

/// Checks that ADD and STATUS refuse a store there, with an error that names the way out.
pub(super) fn is_refused(directory: &std::path::Path) {
    let sandbox = Sandbox::new();
    sandbox.write(
        "flat.conf",
        &serde_json::json!({"datastore": "file", "data_dir": directory, "node_name": "n1"})
            .to_string(),
    );
    for (verb, code) in [("ADD", 7), ("STATUS", 50)] {
        let mut call = sandbox.call("DEL");
        let refused = call.set("CNI_COMMAND", verb).stdin(configuration(RANGE)).run();
        assert_eq!(
            (refused.code(), refused.details().contains("single_node_store")),
            (code, true),
            "{refused:?}"
        );
    }
}

/// Returns the factor by which the calls of a short run are multiplied.
pub(super) fn scale() -> usize {
    if variable("HEREABOUTS_SHARED_LONG").is_some() { 10 } else { 1 }
}

/// Returns a directory that no other test uses, on each mount.
pub(super) fn fresh() -> [PathBuf; 2] {
    // Nor any earlier run: this machine notes the store that it has used in each directory.
    let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let name = format!("store-{}", unique.trim());
    mounts().map(|mount| mount.join(&name))
}

impl Nodes {
    /// Returns a new store on the two mounts, for the nodes `n0` and `n1`.
    pub(super) fn new() -> Self {
        let nodes = Self { sandbox: Sandbox::new(), stores: fresh() };
        std::fs::create_dir_all(NOTES).unwrap();
        std::fs::create_dir(nodes.notes()).unwrap();
        nodes.sandbox.command(&["store", "init", nodes.stores[0].to_str().unwrap()]).succeeded();
        for (node, store) in nodes.stores.iter().enumerate() {
            let flat = serde_json::json!({"datastore": "file", "data_dir": store, "node_name": format!("n{node}")});
            nodes.sandbox.write(&format!("n{node}.conf"), &flat.to_string());
        }
        // One after the other: if two clients create a directory at once, as happens if locks do
        // not lock, GlusterFS may show it as missing for a moment. The call then fails, and its
        // repeat succeeds.
        for (node, verb) in [(0, "ADD"), (1, "ADD"), (0, "DEL"), (1, "DEL")] {
            nodes.call(node, verb, "first").run().succeeded();
        }
        nodes
    }

    /// Returns a call on a node. The namespace is invented, so the record counts as not alive.
    pub(super) fn call(&self, node: usize, verb: &str, container: &str) -> Call {
        let mut call = self.sandbox.call(verb);
        call.set("HEREABOUTS_CONFIG", self.sandbox.path(&format!("n{node}.conf")))
            .set("CNI_CONTAINERID", container);
        // strace searches for the program that it starts.
        call.set("PATH", "/usr/bin:/bin");
        call.stdin(configuration(RANGE));
        self.on_its_machine(node, &mut call);
        call
    }

    /// Separates the notes of the two machines.
    fn on_its_machine(&self, node: usize, call: &mut Call) {
        if 0 < node {
            call.seeing(NOTES, &self.notes());
        }
    }

    fn notes(&self) -> PathBuf {
        self.sandbox.path("notes-of-n1")
    }

    /// Returns a GC on a node, with only these containers in its list.
    pub(super) fn gc(&self, node: usize, valid: &[String]) -> Call {
        let valid: Vec<Value> = valid
            .iter()
            .map(|container| serde_json::json!({"containerID": container, "ifname": "net1"}))
            .collect();
        let mut call = self.call(node, "GC", "");
        call.unset("CNI_CONTAINERID").unset("CNI_NETNS").unset("CNI_IFNAME");
        call.stdin(configuration(RANGE).replacen(
            '{',
            &format!(r#"{{"cni.dev/valid-attachments":{},"#, Value::Array(valid)),
            1,
        ));
        call
    }

    /// Returns the words before a node's processes.
    pub(super) fn front(&self, node: usize, locks: Locks) -> Vec<String> {
        let mut words: Vec<String> =
            "strace -f --seccomp-bpf -qq -o /dev/null -e trace=flock -e inject=flock:retval=0"
                .split(' ')
                .map(str::to_owned)
                .collect();
        match locks {
            Locks::Real => words.clear(),
            Locks::SharedUseless => {
                for path in ["lock", "scopes/@/looking"] {
                    words.extend([
                        "-P".to_owned(),
                        self.stores[node].join(path).display().to_string(),
                    ]);
                }
            }
            Locks::AllUseless => {}
        }
        words
    }

    /// Runs an operator's command on a node.
    pub(super) fn command(&self, node: usize, args: &[&str]) -> Ended {
        let mut call = Call::bare();
        call.set("HEREABOUTS_CONFIG", self.sandbox.path(&format!("n{node}.conf")));
        call.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.on_its_machine(node, &mut call);
        call.run()
    }

    /// Returns all records as a node sees them.
    pub(super) fn list(&self, node: usize) -> Vec<Value> {
        let ended = self.command(node, &["list", "-o", "json"]);
        assert_eq!(ended.status, Some(0), "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// Returns "address node container" of all records, in order.
    pub(super) fn held(&self, node: usize) -> Vec<String> {
        let text = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
        let mut held: Vec<String> = self
            .list(node)
            .iter()
            .map(|record| {
                format!(
                    "{} {} {}",
                    text(record, "address"),
                    text(record, "node"),
                    text(record, "container")
                )
            })
            .collect();
        held.sort();
        held
    }

    /// Returns the files of the index and of `@tmp`, as a node sees them.
    pub(super) fn orphan(&self, node: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut directories = vec![self.stores[node].join("nodes")];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if !path.ends_with("@machine-id") {
                    found
                        .push(path.strip_prefix(&self.stores[node]).unwrap().display().to_string());
                }
            }
        }
        found
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.stores[0]);
        self.stores.iter().for_each(|store| forget_stores_below(store));
    }
}

/// Random numbers that a seed reproduces: splitmix64.
pub(super) struct Draws(u64);

impl Draws {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).expect("below a usize")
    }
}
