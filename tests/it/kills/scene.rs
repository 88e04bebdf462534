//! The scenes: a store with bystanders, one call on it, and what its container holds after success.
//! The kills and the errors both use them.

use crate::support::checker::{Found, Printed, check};
use crate::support::sandbox::{Call, Ended, Sandbox, configuration};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One address.
const ONE: &str = r#""range":"10.1.2.0/24""#;
/// Two, both or none.
const TWO: &str = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"10.1.3.0/24"}]"#;

/// One call on one store.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    ipam: &'static str,
    /// ADDs that were answered before. Containers named `b...` are bystanders.
    before: &'static [&'static str],
    /// What has changed in the call's pod since then.
    new: New,
    pub(super) verb: &'static str,
    /// What `c` holds afterwards.
    pub(super) after: &'static [&'static str],
}

/// What has changed since the earlier ADDs. Their namespaces are invented, so they count as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum New {
    Nothing,
    /// The sandbox: `old` belonged to the same pod.
    Sandbox,
    /// The namespace of the same sandbox: now it is a living one.
    Namespace,
}

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "ADD, no store yet",
        ipam: ONE,
        before: &[],
        new: New::Nothing,
        verb: "ADD",
        after: &["10.1.2.1"],
    },
    Scene {
        name: "ADD",
        ipam: ONE,
        before: &["b1", "b2"],
        new: New::Nothing,
        verb: "ADD",
        after: &["10.1.2.3"],
    },
    Scene {
        name: "ADD of two",
        ipam: TWO,
        before: &["b1"],
        new: New::Nothing,
        verb: "ADD",
        after: &["10.1.2.2", "10.1.3.2"],
    },
    Scene {
        name: "repeated ADD",
        ipam: ONE,
        before: &["b1", "c"],
        new: New::Nothing,
        verb: "ADD",
        after: &["10.1.2.2"],
    },
    Scene {
        name: "repeated ADD of two",
        ipam: TWO,
        before: &["c", "b1"],
        new: New::Nothing,
        verb: "ADD",
        after: &["10.1.2.1", "10.1.3.1"],
    },
    Scene {
        name: "re-homing ADD",
        ipam: ONE,
        before: &["b1", "old"],
        new: New::Sandbox,
        verb: "ADD",
        after: &["10.1.2.2"],
    },
    Scene {
        name: "re-homing ADD of two",
        ipam: TWO,
        before: &["b1", "old"],
        new: New::Sandbox,
        verb: "ADD",
        after: &["10.1.2.2", "10.1.3.2"],
    },
    Scene {
        name: "repeated ADD, re-homed to itself",
        ipam: ONE,
        before: &["b1", "c"],
        new: New::Namespace,
        verb: "ADD",
        after: &["10.1.2.2"],
    },
    Scene {
        name: "DEL",
        ipam: ONE,
        before: &["b1", "c"],
        new: New::Nothing,
        verb: "DEL",
        after: &[],
    },
    Scene {
        name: "DEL of two",
        ipam: TWO,
        before: &["c", "b1"],
        new: New::Nothing,
        verb: "DEL",
        after: &[],
    },
    Scene {
        name: "DEL of nothing",
        ipam: ONE,
        before: &["b1"],
        new: New::Nothing,
        verb: "DEL",
        after: &[],
    },
    Scene {
        name: "GC",
        ipam: ONE,
        before: &["c", "b1", "dead"],
        new: New::Nothing,
        verb: "GC",
        after: &[],
    },
];

impl Scene {
    /// Returns a store on which the call can be made.
    pub(super) fn prepare(&self) -> Sandbox {
        let sandbox = fresh();
        for container in self.before {
            self.of("ADD", &sandbox, container).run().succeeded();
        }
        sandbox
    }

    /// Returns the call.
    pub(super) fn call(&self, sandbox: &Sandbox) -> Call {
        let mut call = self.of(self.verb, sandbox, "c");
        if self.new == New::Namespace {
            call.set("CNI_NETNS", "/proc/self/ns/net").set("CNI_NETNS_OVERRIDE", "true");
        }
        call
    }

    /// Returns any call on behalf of a container, in the scene's configuration. GC lists only the
    /// bystanders as valid.
    pub(super) fn of(&self, verb: &str, sandbox: &Sandbox, container: &str) -> Call {
        let listed: Vec<String> = self
            .bystanders()
            .iter()
            .map(|name| format!(r#"{{"containerID":"{name}","ifname":"net1"}}"#))
            .collect();
        let mut stdin = configuration(self.ipam);
        if verb == "GC" {
            stdin = stdin.replacen(
                '{',
                &format!(r#"{{"cni.dev/valid-attachments":[{}],"#, listed.join(",")),
                1,
            );
        }
        let pod =
            if self.new == New::Sandbox && !container.starts_with('b') { "web" } else { container };
        let mut call = sandbox.call(verb);
        call.set("CNI_CONTAINERID", container)
            .set("CNI_ARGS", format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"))
            .stdin(stdin);
        call
    }

    fn bystanders(&self) -> Vec<&'static str> {
        self.before.iter().copied().filter(|name| name.starts_with('b')).collect()
    }

    /// Returns what was printed and stays promised, whatever happens to the call. A DEL or a GC
    /// ends the promise when it starts, and so does the ADD of a new sandbox of the pod.
    pub(super) fn promised(&self) -> Printed {
        let ranges = if self.ipam == TWO { 2..4 } else { 2..3 };
        let kept = |name: &str| name.starts_with('b') || (self.verb == "ADD" && name == "c");
        let numbered = self.before.iter().zip(1..).filter(|(name, _)| kept(name));
        let addresses = |n: u32| {
            ranges.clone().map(|range| format!("10.1.{range}.{n}").parse().unwrap()).collect()
        };
        numbered.map(|(name, n)| ((*name).to_owned(), addresses(n))).collect()
    }

    /// Returns the same without what `c` was promised.
    pub(super) fn promised_to_bystanders(&self) -> Printed {
        self.promised().into_iter().filter(|(name, _)| name.starts_with('b')).collect()
    }

    /// Returns the same with what the call prints when it succeeds.
    pub(super) fn promised_after(&self) -> Printed {
        let mut printed = self.promised();
        if self.verb == "ADD" {
            printed.insert(
                "c".to_owned(),
                self.after.iter().map(|address| address.parse().unwrap()).collect(),
            );
        }
        printed
    }

    /// Returns whether the call may have moved or created what was found, before or after: records
    /// of these containers only.
    pub(super) fn is_expected(&self, found: &Found) -> bool {
        let after: BTreeSet<IpAddr> =
            self.after.iter().map(|address| address.parse().unwrap()).collect();
        found.leaked.iter().all(|(container, address)| match (self.verb, container.as_str()) {
            ("ADD", "c") => after.contains(address),
            ("ADD", "old") => self.new == New::Sandbox && after.contains(address),
            ("DEL", "c") | ("GC", "c" | "dead") => true,
            _ => false,
        })
    }

    /// Repeats the call and compares the store with its success. Then makes a DEL, after which no
    /// entry of the container is left, and a GC, after which only the bystanders hold something.
    /// Returns whether an address stayed with the dead sandbox: the index by pod, which leads to
    /// it, is a hint and may have lost its first entry.
    pub(super) fn repair(&self, sandbox: &Sandbox) -> bool {
        let again = self.call(sandbox).run();
        again.succeeded();
        let mut promised = self.promised_after();
        let addresses = printed(&again).unwrap_or_default();
        let moved = self.verb != "ADD" || promised["c"] == addresses;
        assert!(moved || self.new == New::Sandbox, "{}: {addresses:?}", self.name);
        if !moved {
            promised.insert("c".to_owned(), addresses);
        }
        let found = check(&sandbox.store(), &promised);
        let behind = found.leaked.iter().all(|(container, _)| container == "old" && !moved);
        assert!(behind, "{}: a repeat leaves {found:?}", self.name);
        self.of("DEL", sandbox, "c").run().succeeded();
        let entries: Vec<String> =
            sandbox.files().into_iter().filter(|path| path.contains("/c@")).collect();
        assert!(entries.is_empty(), "{}: {entries:?}", self.name);
        self.collect(sandbox);
        !moved
    }

    /// Makes a GC, after which only the bystanders hold something.
    pub(super) fn collect(&self, sandbox: &Sandbox) {
        if self.new == New::Namespace {
            // GC frees nothing of a living sandbox.
            self.of("DEL", sandbox, "c").run().succeeded();
        }
        self.of("GC", sandbox, "").unset("CNI_CONTAINERID").run().succeeded();
        let found = check(&sandbox.store(), &self.promised_to_bystanders());
        assert!(found.leaked.is_empty(), "{}: GC leaves {found:?}", self.name);
    }
}

/// Returns a directory in memory, if the machine has one: the system calls are the same, and
/// thousands of syncs cost nothing.
pub(super) fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn fresh() -> Sandbox {
    Sandbox::below(&memory())
}

/// Returns the sandbox with a copy of its store.
pub(super) fn copy(sandbox: &Sandbox) -> Sandbox {
    let twin = fresh();
    if sandbox.store().exists() {
        copy_into(&sandbox.store(), &twin.store(), &mut BTreeMap::new());
    }
    twin
}

/// Copies a directory. Names of one file stay names of one file: `copies` has the first copy of
/// each.
fn copy_into(from: &Path, to: &Path, copies: &mut BTreeMap<u64, PathBuf>) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, from.metadata().unwrap().permissions()).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy_into(&source, &target, copies);
        } else if let Some(first) = copies.get(&entry.ino()) {
            std::fs::hard_link(first, &target).unwrap();
        } else {
            assert!(entry.file_type().unwrap().is_file(), "{source:?}");
            std::fs::copy(&source, &target).unwrap();
            copies.insert(entry.ino(), target);
        }
    }
}

/// Everything that a later call depends on: for each name below the sandbox its mode, its content,
/// and the first name of the same file. If two sandboxes are equal in this and in what is promised,
/// later calls do the same in both.
pub(super) type State = Vec<(PathBuf, u32, Vec<u8>, PathBuf)>;

/// Returns this state.
pub(super) fn state(sandbox: &Sandbox) -> State {
    let (mut found, mut first) = (State::new(), BTreeMap::new());
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let entries = sandbox.root.join(&directory).read_dir().unwrap();
        let mut names: Vec<PathBuf> =
            entries.map(|entry| directory.join(entry.unwrap().file_name())).collect();
        names.sort();
        // The configuration names the sandbox, and no call reads the trace.
        for name in names
            .into_iter()
            .filter(|name| !["flat.conf", "trace"].map(Path::new).contains(&name.as_path()))
        {
            let path = sandbox.root.join(&name);
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_file() {
                timeless(std::fs::read(&path).unwrap())
            } else {
                Vec::new()
            };
            if metadata.is_dir() {
                directories.push(name.clone());
            }
            // A temporary file has the name of a process that is dead.
            let name = if directory.ends_with("@tmp") { directory.join("#") } else { name };
            let same = first.entry(metadata.ino()).or_insert_with(|| name.clone()).clone();
            found.push((name, metadata.mode(), content, same));
        }
    }
    found
}

/// Returns a record without its time: no call depends on which of a run's own records is older by a
/// few milliseconds.
fn timeless(content: Vec<u8>) -> Vec<u8> {
    let Ok(mut record) = serde_json::from_slice::<serde_json::Value>(&content) else {
        return content;
    };
    for moment in ["/since", "/uptime", "/view/mounts/uptime"] {
        if let Some(value) = record.pointer_mut(moment) {
            *value = serde_json::Value::Null;
        }
    }
    record.to_string().into_bytes()
}

/// Returns what an ADD printed, if it printed everything.
pub(super) fn printed(ended: &Ended) -> Option<Vec<IpAddr>> {
    if ended.stdout.is_empty() {
        return None;
    }
    let ips = ended.document()["ips"].as_array().cloned()?;
    Some(
        ips.iter()
            .map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap())
            .collect(),
    )
}
