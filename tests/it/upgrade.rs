//! An upgrade with living pods: the records are those of the previous version, whose only evidence
//! is the boot id, and inode and device of the namespace. No living sandbox is taken for dead, and
//! dead ones are freed.

#[cfg(feature = "kube")]
mod kube;

use crate::support::living::Living;
use crate::support::sandbox::{Call, Sandbox, configuration, files_below};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

const RANGE: &str = r#""range":"10.1.2.0/24""#;

/// A node on either store.
trait World {
    fn sandbox(&self) -> &Sandbox;
    /// Returns a call for a container. Its pod has the container's name up to the first `_`.
    fn call(&self, verb: &str, container: &str) -> Call;
    /// Returns a GC whose list is empty.
    fn gc(&self) -> Call;
    /// Returns the containers that hold something.
    fn holders(&self) -> BTreeSet<String>;
    /// Rewrites everything as the previous version wrote it.
    fn set_back(&self);
}

struct Files(Sandbox);

impl World for Files {
    fn sandbox(&self) -> &Sandbox {
        &self.0
    }

    fn call(&self, verb: &str, container: &str) -> Call {
        let pod = format!(
            "K8S_POD_NAMESPACE=default;K8S_POD_NAME={}",
            container.split('_').next().unwrap()
        );
        let mut call = self.0.call(verb);
        call.set("CNI_CONTAINERID", container).set("CNI_ARGS", pod).stdin(configuration(RANGE));
        call
    }

    fn gc(&self) -> Call {
        let valid = r#"{"cni.dev/valid-attachments":[],"#;
        self.0.call("GC").stdin(configuration(RANGE).replacen('{', valid, 1)).clone()
    }

    fn holders(&self) -> BTreeSet<String> {
        self.0
            .list()
            .iter()
            .map(|record| record["container"].as_str().unwrap().to_owned())
            .collect()
    }

    fn set_back(&self) {
        for path in
            files_below(&self.0.store()).iter().filter(|path| path.starts_with("scopes/@/10."))
        {
            let path = self.0.store().join(path);
            let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert!(record.as_object_mut().unwrap().remove("view").is_some(), "{record}");
            // In place: the entries of the index are links to it.
            std::fs::write(path, record.to_string()).unwrap();
        }
    }
}

/// Sandboxes below a directory of the node, by name. Each is a file on which a namespace is
/// mounted, and a process in it.
struct Pods {
    run: PathBuf,
    living: Vec<Living>,
}

impl Pods {
    /// Returns `None` without root.
    fn new(sandbox: &Sandbox) -> Option<Self> {
        let run = sandbox.path("run");
        std::fs::create_dir(&run).unwrap();
        Some(Self { run, living: (0..6).map(|_| Living::new()).collect::<Option<_>>()? })
    }

    fn file(&self, name: &str) -> String {
        self.run.join(name).display().to_string()
    }

    fn mount(&self, number: usize, name: &str) -> String {
        let file = self.file(name);
        std::fs::write(&file, "").unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["--bind", &self.living[number].path(), &file])
            .status()
            .unwrap();
        assert!(mounted.success());
        file
    }

    fn unmount(&self, name: &str) {
        let unmounted = std::process::Command::new("umount").arg(self.file(name)).status().unwrap();
        assert!(unmounted.success());
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.run).into_iter().flatten().flatten() {
            let _ = std::process::Command::new("umount")
                .arg(entry.path())
                .stderr(std::process::Stdio::null())
                .status();
        }
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn check_upgrade(world: &dyn World) {
    let Some(mut pods) = Pods::new(world.sandbox()) else { return skipped!("no root") };
    let add =
        |container: &str, netns: &str| world.call("ADD", container).set("CNI_NETNS", netns).run();
    let mut previous = None;
    for (number, name) in ["living", "elsewhere", "removed", "left"].into_iter().enumerate() {
        let added = add(name, &pods.mount(number, name));
        previous.get_or_insert(added.succeeded().clone());
    }
    add("process", &pods.living[4].path()).succeeded();
    add("ended", &pods.living[5].path()).succeeded();
    world.set_back();
    // After the upgrade: first the calls that free, then all others.
    let frees = |world: &dyn World| {
        world.gc().run().succeeded();
        world.sandbox().command(&["sweep", "--yes"]).succeeded();
    };
    frees(world);
    assert_eq!(world.holders().len(), 6, "all of them live");
    pods.unmount("removed");
    std::fs::remove_file(pods.file("removed")).unwrap();
    pods.unmount("left");
    drop(pods.living.pop());
    frees(world);
    // A plain file proves nothing: the record does not say from where the ADD saw it.
    assert_eq!(world.holders(), set(&["living", "elsewhere", "left", "process"]));
    // From a container with another /run and with its own processes.
    let script = r#"mount -t tmpfs t "$0" && exec "$@""#;
    let run = pods.run.display().to_string();
    let container =
        ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "sh", "-c", script, &run];
    world.sandbox().command(&["sweep", "--yes"]).succeeded();
    for call in [world.gc(), world.sandbox().command_call(&["sweep", "--yes"])] {
        call.run_under(&container).succeeded();
    }
    assert_eq!(world.holders(), set(&["living", "elsewhere", "left", "process"]));
    // A repeat answers the same, and CHECK agrees.
    let (previous, netns) = (previous.unwrap(), pods.file("living"));
    assert_eq!(add("living", &netns).addresses(), previous.addresses());
    let mut check = world.call("CHECK", "living");
    let text = String::from_utf8(check.stdin.clone()).unwrap();
    check.set("CNI_NETNS", &*netns).stdin(text.replacen(
        '{',
        &format!(r#"{{"prevResult":{},"#, previous.stdout.trim()),
        1,
    ));
    check.run().succeeded();
    // The pod's next sandbox gets the address of the one that is gone.
    drop(pods.living.pop());
    let moved = add("process_2", &pods.mount(2, "process_2"));
    assert!(!world.holders().contains("process"), "{moved:?}");
    for container in ["living", "elsewhere", "left", "process_2"] {
        world.call("DEL", container).run().succeeded();
    }
    assert_eq!(world.holders(), set(&[]));
    let verified = world.sandbox().command(&["verify"]);
    assert!(!verified.stdout.contains("damaged"), "{verified:?}");
}

#[test]
fn in_files_none_of_the_living_is_taken_for_dead_and_the_dead_are_freed() {
    let sandbox = Sandbox::new();
    if sandbox.cluster.is_none() {
        check_upgrade(&Files(sandbox));
    }
}

/// Another boot: records of the earlier version whose namespaces are seen are kept, and all others
/// are freed.
#[test]
fn after_a_boot_what_the_version_before_gave_is_freed() {
    let sandbox = Sandbox::new();
    if sandbox.cluster.is_some() {
        return;
    }
    let world = Files(sandbox);
    world.call("ADD", "c1").run().succeeded();
    for path in files_below(&world.0.store()).iter().filter(|path| path.starts_with("scopes/@/10."))
    {
        let path = world.0.store().join(path);
        let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["boot_id"] = "11111111-2222-4333-8444-555555555555".into();
        record["since"] = "2001-01-01T00:00:00.000000Z".into();
        record.as_object_mut().unwrap().remove("view");
        std::fs::write(path, record.to_string()).unwrap();
    }
    world.0.command(&["sweep", "--yes"]).succeeded();
    assert_eq!(world.holders(), set(&[]));
}
