//! A clone of a machine's image frees nothing that the original's pods hold. It has the machine id
//! and another boot id, and does not see the namespaces.

#[cfg(feature = "kube")]
mod kube;

use super::{BOOT_ID, RANGE, add, after, sweep};
use crate::support::living::Living;
use crate::support::sandbox::{Call, Sandbox, configuration};

const ORIGINAL: &str = "11111111-1111-4111-8111-111111111111";
const CLONE: &str = "22222222-2222-4222-8222-222222222222";

/// The file with the id of the hardware.
const DMI: &str = "/sys/class/dmi/id/product_uuid";
const DEVICE_TREE: &str = "/sys/firmware/devicetree/base/serial-number";

/// Makes a call on a machine with this boot id, and with this hardware id if one is given.
fn on(sandbox: &Sandbox, boot: &str, hardware: Option<&str>, call: Call) -> Call {
    on_hardware(sandbox, boot, DMI, hardware, call)
}

fn on_hardware(
    sandbox: &Sandbox,
    boot: &str,
    place: &str,
    hardware: Option<&str>,
    mut call: Call,
) -> Call {
    call.seeing(BOOT_ID, &sandbox.write(boot, &format!("{boot}\n")));
    let Some(id) = hardware else { return call };
    let above = std::path::Path::new(place).parent().unwrap().display();
    let hide = "for place in /sys/class /sys/firmware /sys/hypervisor; do [ ! -d $place ] || mount -t tmpfs t $place; done";
    after(call, &format!("{hide}; mkdir -p {above} && printf '{id}\\0\n' > {place}"))
}

/// Makes a call on the clone: another /run, other processes.
fn on_clone(sandbox: &Sandbox, mut call: Call) -> Call {
    call.through(&["unshare", "--pid", "--mount", "--fork", "--mount-proc"]);
    let hide = format!("mount -t tmpfs t {}", sandbox.path("run").display());
    on(sandbox, CLONE, None, after(call, &hide))
}

fn gc(sandbox: &Sandbox) -> Call {
    sandbox
        .call("GC")
        .stdin(configuration(RANGE).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1))
        .clone()
}

#[test]
fn a_clone_frees_nothing_of_the_originals_pods() {
    let Some(living) = Living::new() else {
        return skipped!("no root");
    };
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("run")).unwrap();
    let file = sandbox.write("run/pod", "");
    let mount = format!("mount --bind {} {}", living.path(), file.display());
    let full = configuration(r#""range":"10.1.2.0/30""#);
    let by_file = after(add(&sandbox, file.to_str().unwrap()).stdin(&full).clone(), &mount);
    let by_process =
        add(&sandbox, &living.path()).set("CNI_CONTAINERID", "c2").stdin(&full).clone();
    for call in [by_file, by_process] {
        on(&sandbox, ORIGINAL, None, call).run().succeeded();
    }
    for call in [gc(&sandbox), sweep(&sandbox), sandbox.command_call(&["repair", "--yes"])] {
        on_clone(&sandbox, call).run().succeeded();
    }
    // Nothing is free: without the check, records of an earlier boot would be freed now.
    let pod = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;K8S_POD_UID=u";
    let asked = add(&sandbox, "/var/run/netns/x")
        .set("CNI_CONTAINERID", "c3")
        .set("CNI_ARGS", pod)
        .stdin(&full)
        .clone();
    assert_eq!(on_clone(&sandbox, asked).run().code(), 100);
    assert_eq!(sandbox.held(), ["10.1.2.1", "10.1.2.2"]);
    // A restart of the original: its sandboxes are gone from their places.
    drop(living);
    std::fs::remove_file(file).unwrap();
    on(&sandbox, CLONE, None, sweep(&sandbox)).run().succeeded();
    assert!(sandbox.held().is_empty());
}

/// A namespace that is gone from its place may be gone because of a boot, or because this is a
/// clone.
#[test]
fn hardware_with_another_id_is_a_clone_and_without_one_or_with_a_dummy_says_nothing() {
    if Living::new().is_none() {
        return skipped!("no root");
    }
    let sandbox = Sandbox::new();
    let held_at = |place: &str, before: Option<&str>, now: Option<&str>| {
        let file = sandbox.write("pod", "");
        on_hardware(&sandbox, ORIGINAL, place, before, add(&sandbox, file.to_str().unwrap()))
            .run()
            .succeeded();
        std::fs::remove_file(file).unwrap();
        on_hardware(&sandbox, CLONE, place, now, sweep(&sandbox)).run().succeeded();
        let held = sandbox.held().len();
        let del = sandbox.call("DEL").stdin(configuration(RANGE)).clone();
        on_hardware(&sandbox, CLONE, place, before, del).run().succeeded();
        held
    };
    let held_after = |before: Option<&str>, now: Option<&str>| held_at(DMI, before, now);
    let (one, other) =
        ("5b9dd3a4-0a8e-4a35-9b0a-1f4c3c9e7d11", "c0ffee00-17b3-4f0e-8f57-0a5d7a1be0f2");
    assert_eq!(held_after(Some(one), Some(other)), 1, "a clone");
    assert_eq!(
        held_after(Some(one), Some(&one.to_uppercase())),
        0,
        "the same machine after a boot"
    );
    if std::path::Path::new("/sys/firmware").is_dir() {
        assert_eq!(
            held_at(DEVICE_TREE, Some("10000000a1b2c3d4"), Some("10000000a1b2c3d5")),
            1,
            "a clone of a board without DMI"
        );
        assert_eq!(
            held_at(DEVICE_TREE, Some("10000000a1b2c3d4"), Some("0000000000000000")),
            0,
            "a board that has none"
        );
    }
    for dummy in [
        "03000200-0400-0500-0006-000700080009",
        "00000000-0000-0000-0000-000000000000",
        "Not Settable",
        "",
    ] {
        assert_eq!(held_after(Some(dummy), Some(other)), 0, "{dummy}");
        assert_eq!(held_after(Some(one), Some(dummy)), 0, "{dummy}");
    }
}

/// The runtime of a clone ends the sandboxes that are in the image.
#[test]
fn a_del_on_other_hardware_frees_nothing_and_that_of_the_original_does() {
    if Living::new().is_none() {
        return skipped!("no root");
    }
    let sandbox = Sandbox::new();
    let [one, other] =
        ["5b9dd3a4-0a8e-4a35-9b0a-1f4c3c9e7d11", "c0ffee00-17b3-4f0e-8f57-0a5d7a1be0f2"].map(Some);
    on(&sandbox, ORIGINAL, one, add(&sandbox, "/var/run/netns/x")).run().succeeded();
    let del = || sandbox.call("DEL").stdin(configuration(RANGE)).clone();
    on(&sandbox, CLONE, other, del()).run().succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    on(&sandbox, CLONE, one, del()).run().succeeded();
    assert!(sandbox.held().is_empty(), "the original after a boot");
}

/// Two machines without an id of their own are not taken for each other.
#[test]
fn a_machine_id_that_is_absent_or_a_dummy_says_nothing() {
    if Living::new().is_none() {
        return skipped!("no root");
    }
    for dummy in ["", "uninitialized\n", "00000000000000000000000000000000\n"] {
        let sandbox = Sandbox::new();
        let id = sandbox.write("id", dummy);
        let call = |verb: &str, seen: bool| {
            let mut call = sandbox.call(verb).stdin(configuration(RANGE)).clone();
            if seen {
                call.seeing("/etc/machine-id", &id);
            }
            call
        };
        call("ADD", true).run().succeeded();
        assert!(!sandbox.store().join("nodes/n1/@machine-id").exists(), "{dummy}");
        call("DEL", false).run().succeeded();
        assert!(sandbox.held().is_empty());
    }
}
