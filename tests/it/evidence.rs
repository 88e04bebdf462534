//! The evidence that a sandbox is alive or gone, with the real executable: another view of the
//! machine is doubt, and doubt keeps the address.

/// A clone of a machine's image.
mod clones;
/// A container that runs the plugin or is a node, and ends.
mod containers;
mod unclear;
/// One directory at several places, or under another boot id.
mod views;

use crate::support::living::Living;
use crate::support::sandbox::{Call, Sandbox, configuration};

const RANGE: &str = r#""range":"10.1.2.0/24""#;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn add(sandbox: &Sandbox, netns: &str) -> Call {
    sandbox.call("ADD").set("CNI_NETNS", netns).stdin(configuration(RANGE)).clone()
}

/// Runs a script in its own mount namespace before the executable.
fn after(mut call: Call, script: &str) -> Call {
    call.through(&["unshare", "--mount", "sh", "-c", &format!("{script}; exec \"$0\" \"$@\"")]);
    call
}

fn sweep(sandbox: &Sandbox) -> Call {
    sandbox.command_call(&["sweep", "--yes"])
}

/// Returns a call as words of a script. It prints to stderr.
fn words(sandbox: &Sandbox, call: &Call) -> String {
    let input = sandbox.write("input", std::str::from_utf8(&call.stdin).unwrap());
    let variables: Vec<String> = call
        .environment
        .iter()
        .map(|(name, value)| format!("{name}='{}'", value.to_str().unwrap()))
        .collect();
    format!(
        "env {} {} {} < {} >&2",
        variables.join(" "),
        crate::support::sandbox::HEREABOUTS,
        call.args.join(" "),
        input.display()
    )
}

#[test]
fn a_boot_id_of_one_mount_namespace_frees_nothing_of_the_living() {
    let Some(living) = Living::new() else {
        return skipped!("no root");
    };
    let sandbox = Sandbox::new();
    let id = sandbox.write("boot", "33333333-3333-4333-8333-333333333333\n");
    let mut call = add(&sandbox, &living.path());
    call.seeing(BOOT_ID, &id).run().succeeded();
    sweep(&sandbox).run().succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    // The same in the other direction.
    let mut call = sweep(&sandbox);
    call.seeing(BOOT_ID, &sandbox.write("other", "44444444-3333-4333-8333-333333333333\n"))
        .run()
        .succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
}

#[test]
fn another_directory_and_a_plain_file_elsewhere_free_nothing_and_at_home_they_do() {
    let Some(living) = Living::new() else {
        return skipped!("no root");
    };
    let sandbox = Sandbox::new();
    let (run, file) = (sandbox.path("run"), sandbox.path("run/pod"));
    for directory in [&run, &sandbox.path("other")] {
        std::fs::create_dir(directory).unwrap();
    }
    std::fs::write(&file, "").unwrap();
    let mount = format!("mount --bind {} {}", living.path(), file.display());
    after(add(&sandbox, file.to_str().unwrap()), &mount).run().succeeded();
    // The same path on the same device is another directory.
    let hide = format!("mount --bind {} {}", sandbox.path("other").display(), run.display());
    after(sweep(&sandbox), &hide).run().succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    // The namespace is not mounted here: ADD saw it from its own mount namespace.
    sweep(&sandbox).run().succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    // The name is gone from exactly that directory.
    std::fs::remove_file(&file).unwrap();
    sweep(&sandbox).run().succeeded();
    assert!(sandbox.held().is_empty());
}

#[test]
fn a_plain_file_that_is_left_in_the_mount_namespace_of_the_add_is_a_sandbox_that_is_gone() {
    let Some(living) = Living::new() else { return skipped!("no root") };
    let sandbox = Sandbox::new();
    let file = sandbox.write("pod", "");
    let (add, sweep) = (add(&sandbox, file.to_str().unwrap()), sweep(&sandbox));
    let run = |script: &str, call: &Call| after(call.clone(), script).run();
    // One mount namespace for both: an ADD in it, umount, sweep.
    let add = words(&sandbox, &add);
    let script = format!(
        "mount --bind {} {file} && {add} && umount {file}",
        living.path(),
        file = file.display()
    );
    run(&script, &sweep).succeeded();
    assert!(sandbox.held().is_empty());
}
