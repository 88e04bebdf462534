//! A container without the host's processes runs the plugin and is replaced while its pods live.
//! Another container is a node, and its pods end with it.

use super::{add, after, sweep, words};
use crate::support::living::Living;
use crate::support::mounted::tmpfs_of_a_high_device;
use crate::support::sandbox::{Call, Sandbox, configuration};

/// Its own PID and mount namespaces, on the same /run and the same store.
const CONTAINER: &[&str] =
    &["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"];
const RANGE: &str = super::RANGE;

fn gc(sandbox: &Sandbox) -> Call {
    let text = configuration(RANGE).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1);
    sandbox.call("GC").stdin(text).clone()
}

/// Makes a call in a container. The script runs first, where the node's processes are visible.
fn inside(call: Call, script: &str) -> Call {
    after(call, &format!("set -e; {script}")).through(CONTAINER).clone()
}

/// Like the pod of Multus' thick plugin: the runtime's /run is the host's.
#[test]
fn a_container_that_runs_the_plugin_is_replaced_while_its_pods_live() {
    let Some(living) = Living::new() else {
        return skipped!("no root");
    };
    let sandbox = Sandbox::new();
    let file = sandbox.write("pod", "");
    let mount = format!("mount --bind {} {}", living.path(), file.display());
    let in_container = |call: Call, before: &str| inside(call, before).run().succeeded().clone();
    let first = in_container(add(&sandbox, file.to_str().unwrap()), &mount);
    assert_eq!(first.addresses(), ["10.1.2.1"]);
    // The next container has another first process and another mount namespace. It sees the mount,
    // or does not see it.
    for before in ["true", &*mount] {
        in_container(gc(&sandbox), before);
        in_container(sweep(&sandbox), before);
        assert_eq!(sandbox.held(), ["10.1.2.1"], "{before}");
    }
    let verified = in_container(sandbox.command_call(&["verify"]), "true");
    assert!(verified.stdout.contains("1 x in doubt"), "what is in doubt is named: {verified:?}");
    // A repeat answers, and a DEL frees.
    assert_eq!(
        in_container(add(&sandbox, file.to_str().unwrap()), &mount).addresses(),
        ["10.1.2.1"]
    );
    in_container(sandbox.call("DEL").stdin(configuration(RANGE)).clone(), "true");
    assert!(sandbox.held().is_empty());
}

/// The same with the node's own /proc, as nerdctl and cri-dockerd name sandboxes.
#[test]
fn a_process_is_not_gone_because_a_containers_own_proc_lacks_it() {
    let Some(living) = Living::new() else {
        return skipped!("no root");
    };
    let sandbox = Sandbox::new();
    add(&sandbox, &living.path()).run().succeeded();
    for mut call in [gc(&sandbox), sweep(&sandbox)] {
        call.through(CONTAINER).run().succeeded();
    }
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    drop(living);
    sweep(&sandbox).run().succeeded();
    assert!(sandbox.held().is_empty());
}

/// Like the nodes of kind and k3d: the same kernel and boot id, a new /run on a new tmpfs.
#[test]
fn a_node_that_is_a_container_restarts_and_what_its_pods_held_is_free() {
    let Some(living) = Living::new() else {
        return skipped!("no root");
    };
    let sandbox = Sandbox::new();
    let (run, file) = (sandbox.path("run"), sandbox.path("run/netns/p"));
    std::fs::create_dir(&run).unwrap();
    let directory = run.display().to_string();
    let pod = format!(
        "{}; mkdir {directory}/netns && touch {file} && mount --bind {} {file}",
        tmpfs_of_a_high_device(&directory),
        living.path(),
        file = file.display(),
    );
    // Its GC, before it ends, frees nothing.
    let added = format!(
        "{} {}",
        CONTAINER.join(" "),
        words(&sandbox, &add(&sandbox, file.to_str().unwrap()))
    );
    inside(gc(&sandbox), &format!("{pod} && {added}")).run().succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    let again = format!("mount -t tmpfs run {directory} && mkdir {directory}/netns");
    inside(gc(&sandbox), &again).run().succeeded();
    assert!(sandbox.held().is_empty(), "{:?}", sandbox.command(&["verify"]));
}
