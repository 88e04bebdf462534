//! One directory in several mounts of one mount namespace, two boot ids that both come from mounted
//! files, two procfs of one device: each is another view, and so is doubt.

use super::{BOOT_ID, add, after, sweep, words};
use crate::support::living::Living;
use crate::support::sandbox::Sandbox;

/// Makes an ADD and a sweep in one mount namespace. `between` changes the file at the path while
/// the sandbox lives. `before_add` runs before the ADD.
fn check_in_one_namespace(path: &str, before_add: &str, between: &str, kept: bool) {
    let Some(living) = Living::new() else { return skipped!("no root") };
    let sandbox = Sandbox::new();
    let root = sandbox.root.display();
    let script = format!(
        "cd {root} && mkdir run other && touch run/p other/p plain && ln -s run/p link && mount --bind {} run/p && {before_add} {} && {between}",
        living.path(),
        words(&sandbox, &add(&sandbox, sandbox.path(path).to_str().unwrap())),
    );
    after(sweep(&sandbox), &script).run().succeeded();
    assert_eq!(sandbox.held().len(), usize::from(kept), "{between}");
}

#[test]
fn a_directory_that_is_bound_over_itself_without_what_is_mounted_in_it_is_doubt() {
    check_in_one_namespace("run/p", "", "mount --bind run run", true);
}

/// As with Multus, whose pod has the host's root at /hostroot.
#[test]
fn what_an_add_saw_below_another_root_is_not_gone_because_this_root_lacks_the_mount() {
    let root = "mkdir root && mount --rbind / root && mount --make-rprivate / && mount --make-rprivate root && umount run/p && chroot root";
    check_in_one_namespace("run/p", root, "true", true);
}

#[test]
fn a_plain_file_that_is_bound_over_the_namespace_is_doubt() {
    check_in_one_namespace("run/p", "", "mount --bind plain run/p", true);
}

#[test]
fn a_link_that_leads_elsewhere_is_doubt() {
    check_in_one_namespace("link", "", "ln -sfn other/p link", true);
}

/// The opposite case: here the sandbox is gone.
#[test]
fn a_mount_that_is_gone_from_its_own_directory_is_a_sandbox_that_is_gone() {
    check_in_one_namespace("run/p", "", "umount run/p", false);
}

/// As with clones and with containers that have their own boot id.
#[test]
fn of_two_boot_ids_that_are_both_mounted_files_another_view_is_doubt_and_a_name_that_is_gone_is_not()
 {
    let Some(living) = Living::new() else {
        return skipped!("no root");
    };
    let sandbox = Sandbox::new();
    let (run, file) = (sandbox.path("run"), sandbox.path("run/p"));
    std::fs::create_dir(&run).unwrap();
    std::fs::write(&file, "").unwrap();
    let [one, other] = [1, 2].map(|n| {
        sandbox.write(
            &n.to_string(),
            &format!("{n}{n}{n}{n}{n}{n}{n}{n}-3333-4333-8333-333333333333\n"),
        )
    });
    let mount = format!("mount --bind {} {}", living.path(), file.display());
    after(add(&sandbox, file.to_str().unwrap()).seeing(BOOT_ID, &one).clone(), &mount)
        .run()
        .succeeded();
    let mut swept = sweep(&sandbox);
    swept.seeing(BOOT_ID, &other);
    // A separate /run, and the same /run without the mount.
    after(swept.clone(), &format!("mount -t tmpfs t {}", run.display())).run().succeeded();
    swept.run().succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    std::fs::remove_file(&file).unwrap();
    swept.run().succeeded();
    assert!(sandbox.held().is_empty());
}

/// The kernel uses the device of an unmounted procfs for the next one.
#[test]
fn another_procfs_of_the_same_device_shows_nothing_of_a_process_of_the_first() {
    if Living::new().is_none() {
        return skipped!("no root");
    }
    let sandbox = Sandbox::new();
    let [go, gone] = ["go", "gone"].map(|name| {
        let path = sandbox.path(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path.display().to_string()
    });
    // Its sandbox is process 2 of a PID namespace, which outlives its procfs.
    let script = format!(
        "unshare --net sleep 600 & while [ \"$(readlink /proc/2/ns/net)\" = \"$(readlink /proc/1/ns/net)\" ]; do :; done; {} && umount -l /proc && echo > {gone} && read line < {go}",
        words(&sandbox, &add(&sandbox, "/proc/2/ns/net")),
    );
    let namespaces = ["--pid", "--mount", "--fork", "--kill-child", "--mount-proc"];
    let mut holder = std::process::Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", &script])
        .spawn()
        .unwrap();
    std::fs::read_to_string(&gone).unwrap();
    // There is no process 2.
    let swept = sweep(&sandbox).run_under(&[&["unshare"][..], &namespaces].concat());
    std::fs::write(&go, "\n").unwrap();
    holder.wait().unwrap();
    assert!(swept.succeeded().stdout.is_empty(), "{swept:?}");
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
}
