//! Filesystems on which machines cannot share a store: an allocation is refused with a clear error
//! because of their type, and releasing and listing still work. `scripts/test-shared-fs` tests the
//! real ones.

use crate::conformance::{LIST, candidates, host, record};
use crate::support::disk::{Faults, FaultyDisk};
use crate::support::fuse::{Fuse, OPEN, OPENDIR};
use crate::support::overlay::Overlay;
use crate::support::sandbox::{Ended, Sandbox, configuration};
use hereabouts::ipam::Scope;
use hereabouts::retry::Deadline;
use hereabouts::store::file::FileStore;
use hereabouts::store::file::upkeep::finding::Problem;
use hereabouts::store::{Access, Claim, Store, StoreError};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const RANGE: &str = r#""range":"10.9.0.0/24""#;
const ID: &str = "0123456789abcdef0123456789abcdef";

fn status(overlay: &Overlay) -> Ended {
    overlay.run(overlay.sandbox.call("STATUS").stdin(configuration(RANGE)))
}

/// Writes a flat file that names a store, and whether only this node uses it.
fn flat(overlay: &Overlay, is_alone: bool) {
    let mut flat: serde_json::Value = serde_json::from_str(&overlay.sandbox.flat("n1")).unwrap();
    flat["single_node_store"] = is_alone.into();
    overlay.sandbox.write("flat.conf", &flat.to_string());
}

fn gc(overlay: &Overlay) -> Ended {
    let gc = r#"{"cniVersion":"1.1.0","name":"net1","type":"macvlan","ipam":{"type":"hereabouts"},"cni.dev/valid-attachments":[]}"#;
    overlay.run(overlay.sandbox.call("GC").stdin(gc))
}

/// Cause: every FUSE filesystem counts as "shared", which says nothing about its guarantees.
/// Effect: on SeaweedFS, 244 addresses had two holders within a minute. Fix: filesystems that are
/// known to fail are refused by their type in the table of mounts.
#[test]
fn a_filesystem_that_can_never_be_shared_is_refused_by_its_type() {
    for (kind, words) in [
        ("fuse.seaweedfs", "same name at once"),
        ("fuse.mergerfs", "each of its branches"),
        ("fuse.rclone", "hard links"),
    ] {
        let server = Fuse {
            files: vec![("format", format!("{{\"format\":1,\"id\":\"{ID}\"}}\n"))],
            ..Fuse::default()
        };
        let Some(overlay) = server.mount(kind) else {
            return skipped!("no FUSE, or not root");
        };
        let refused = overlay.run(&overlay.verb("ADD", "c1", RANGE));
        assert_eq!(
            (refused.code(), refused.details().contains(words)),
            (7, true),
            "{kind} {refused:?}"
        );
        assert!(refused.details().contains("single_node_store"), "{refused:?}");
        let refused = status(&overlay);
        assert_eq!(
            (refused.code(), refused.details().contains(words)),
            (50, true),
            "{kind} {refused:?}"
        );
        overlay.command(&["list"]).succeeded();
        // The flat file says that no other machine uses the store: only missing features of the
        // filesystem stop it now.
        flat(&overlay, true);
        let tried = overlay.run(&overlay.verb("ADD", "c1", RANGE));
        assert!(tried.code() == 5 && !tried.details().contains(words), "{tried:?}");
    }
}

/// Cause: an overlay with the option `volatile` ignores every flush. Effect: a power loss lost what
/// was printed. Fix: it is refused, unless the flat file says that only this node uses the store:
/// its pods end with it.
#[test]
fn a_volatile_overlay_is_refused_and_keeps_no_call_from_freeing() {
    let Some(overlay) = Overlay::with_options(",volatile") else {
        return skipped!("no overlay");
    };
    let warned = overlay.command(&["store", "init", overlay.sandbox.store().to_str().unwrap()]);
    assert!(warned.succeeded().stderr.contains("volatile"), "{warned:?}");
    let refused = overlay.run(&overlay.verb("ADD", "c1", RANGE));
    assert_eq!((refused.code(), refused.details().contains("volatile")), (7, true), "{refused:?}");
    assert_eq!(status(&overlay).code(), 50);
    flat(&overlay, true);
    overlay.run(&overlay.verb("ADD", "c1", RANGE)).succeeded();
    status(&overlay).succeeded();
    // The setting is removed again: what is held can be listed and freed.
    flat(&overlay, false);
    assert_eq!(overlay.run(&overlay.verb("ADD", "c2", RANGE)).code(), 7);
    let check = configuration(RANGE).replacen(
        '{',
        r#"{"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.9.0.1/24"}]},"#,
        1,
    );
    overlay.run(overlay.verb("CHECK", "c1", RANGE).stdin(check)).succeeded();
    overlay.run(&overlay.verb("DEL", "c1", RANGE)).succeeded();
    gc(&overlay).succeeded();
    overlay.command(&["verify"]).succeeded();
}

/// Cause: STATUS creates no link. Effect: it was ready, while every ADD failed with EXDEV.
#[test]
fn a_store_on_two_filesystems_is_not_ready() {
    let Some(overlay) = Overlay::new() else {
        return skipped!("no overlay");
    };
    overlay.init();
    status(&overlay).succeeded();
    let nodes = overlay.sandbox.store().join("nodes");
    let [inside, namespace] = overlay.inside();
    let mounted = std::process::Command::new(inside)
        .args([&namespace, "mount", "-t", "tmpfs", "t"])
        .arg(&nodes)
        .status();
    assert!(mounted.unwrap().success());
    let refused = status(&overlay);
    assert!(
        refused.code() == 50
            && refused.details().contains("EXDEV")
            && refused.details().contains("btrfs"),
        "{refused:?}"
    );
    assert_eq!(overlay.run(&overlay.verb("ADD", "c1", RANGE)).code(), 5);
}

/// sshfs: no names of one file show one inode, and "taken" is EPERM.
fn like_sshfs(sandbox: &Sandbox) -> FileStore<FaultyDisk> {
    let faults = Faults {
        inode_by_name: true,
        one_link: true,
        taken_errno: Some(nix::libc::EPERM),
        shared: true,
        ..Faults::default()
    };
    FileStore::on(FaultyDisk::new(sandbox.store(), faults), host("n1"))
}

/// Cause: SFTP has one error code for everything, and each name shows its own inode. Effect: of two
/// ADDs at once one failed with "permission denied", and `verify` called every record a copy. Fix:
/// after an error the name is examined, and a file counts as a copy only if two new names show one
/// inode.
#[test]
fn every_behavior_holds_where_taken_is_called_not_permitted() {
    for (name, behavior) in LIST {
        println!("{name}");
        let faults =
            Faults { taken_errno: Some(nix::libc::EPERM), shared: true, ..Faults::default() };
        behavior(&FileStore::on(FaultyDisk::new(Sandbox::new().store(), faults), host("n1")));
    }
}

/// Cause: an ADD remembered the inode that its index entry showed. Effect: its undo took the record
/// at the name for another one, and left it. Fix: the inode of the name counts.
#[test]
fn every_behavior_holds_where_names_do_not_show_of_which_file_they_are() {
    for (name, behavior) in LIST {
        println!("{name}");
        behavior(&like_sshfs(&Sandbox::new()));
    }
}

#[test]
fn a_store_whose_names_show_two_inodes_is_not_damaged_and_a_copied_one_is() {
    let sandbox = Sandbox::new();
    let deadline = || Deadline::after(Duration::from_secs(20));
    let store = like_sshfs(&sandbox);
    for container in ["c1", "c2", "c3"] {
        let mut session = store.open(Access::Allocate, deadline()).unwrap();
        let claimed = session
            .claim(
                &Scope::parse("s").unwrap(),
                &candidates("10.0.0.0/29"),
                &record("n1", container, None),
            )
            .unwrap();
        assert!(matches!(claimed, Claim::Claimed(_)));
    }
    let verified = store.verify(deadline()).unwrap();
    assert_eq!((verified.records, verified.findings), (3, Vec::new()));
    let copied = sandbox.path("copied");
    let status = std::process::Command::new("cp")
        .args(["-r", "--no-preserve=links"])
        .args([&sandbox.store(), &copied])
        .status();
    assert!(status.unwrap().success());
    let faults = Faults { shared: true, ..Faults::default() };
    let verified =
        FileStore::on(FaultyDisk::new(copied, faults), host("n1")).verify(deadline()).unwrap();
    assert_eq!(
        verified.findings.iter().filter(|finding| finding.problem == Problem::Split).count(),
        3,
        "{verified:?}"
    );
    assert!(
        sandbox.files().iter().all(|file| !file.contains(".hereabouts-")),
        "{:?}",
        sandbox.files()
    );
}

/// Cause: rclone answers EIO to every link. Effect: the operator looks for a broken disk.
#[test]
fn a_filesystem_without_hard_links_is_called_so_whatever_its_error() {
    let sandbox = Sandbox::new();
    for errno in [nix::libc::EIO, nix::libc::EOPNOTSUPP, nix::libc::EPERM] {
        let faults = Faults { no_links: Some(errno), ..Faults::default() };
        let store = FileStore::on(FaultyDisk::new(sandbox.store(), faults), host("n1"));
        let refused = store
            .open(Access::Allocate, Deadline::after(Duration::from_secs(20)))
            .map(|_| ())
            .unwrap_err();
        assert!(
            matches!(refused, StoreError::NoHardLinks { .. })
                && refused.to_string().contains("does not support hard links"),
            "{refused}"
        );
        assert!(!sandbox.store().join("format").exists());
        assert!(
            sandbox.files().iter().all(|file| !file.contains(".hereabouts-")),
            "{:?}",
            sandbox.files()
        );
    }
}

/// Cause: a call cannot check its deadline while an open(2) waits for a server. Effect: 19 ADDs
/// hung for 307 s, until they were killed. Fix: another thread answers when the deadline has
/// passed, and ends the process.
#[test]
fn a_call_ends_at_its_deadline_where_an_open_never_does() {
    for silent in [OPENDIR, OPEN] {
        let server = Fuse {
            files: vec![("format", format!("{{\"format\":1,\"id\":\"{ID}\"}}\n"))],
            silent: vec![silent],
        };
        let Some(overlay) = server.mount("fuse.x") else {
            return skipped!("no FUSE, or not root");
        };
        let mut flat: serde_json::Value =
            serde_json::from_str(&overlay.sandbox.flat("n1")).unwrap();
        flat["store_id"] = ID.into();
        overlay.sandbox.write("flat.conf", &flat.to_string());
        for verb in ["ADD", "DEL"] {
            let mut call = overlay.verb(
                verb,
                "c1",
                &format!(r#"{RANGE},"deadlines":{{"add":"500ms","del":"500ms"}}"#),
            );
            let ended = overlay.run(call.through(&["timeout", "--signal=KILL", "60"]));
            assert_eq!(
                (ended.code(), ended.details().contains("did not answer within 500ms")),
                (11, true),
                "{verb} {silent} {ended:?}"
            );
        }
    }
}

/// Another machine takes the lowest address, and creates its directories, just before any step of
/// an ADD: one of the two gets EPERM for a name that is taken.
#[test]
fn a_name_that_another_machine_takes_at_any_step_is_taken_whatever_the_error() {
    let deadline = || Deadline::after(Duration::from_secs(20));
    let claim = move |store: &FileStore<FaultyDisk>, scope: &str, node: &str| {
        let mut session = store.open(Access::Allocate, deadline())?;
        let claimed = session.claim(
            &Scope::parse(scope).unwrap(),
            &candidates("10.0.0.0/29"),
            &record(node, "c", None),
        )?;
        let Claim::Claimed(allocation) = claimed else { panic!("no room") };
        Ok::<_, StoreError>(allocation.address)
    };
    let plain = Faults { shared: true, no_shared_locks: true, ..Faults::default() };
    let mut told = 0;
    for step in 0.. {
        let sandbox = Sandbox::new();
        let other = FileStore::on(FaultyDisk::new(sandbox.store(), plain), host("n2"));
        claim(&other, "elsewhere", "n2").unwrap();
        let faults =
            Faults { taken_errno: Some(nix::libc::EPERM), interrupted_at: Some(step), ..plain };
        let mine = FileStore::on(FaultyDisk::new(sandbox.store(), faults), host("n1"));
        let taken = Rc::new(Cell::new(None));
        let meanwhile = Rc::clone(&taken);
        mine.disk()
            .meanwhile
            .set(Some(Box::new(move || meanwhile.set(claim(&other, "s", "n2").ok()))));
        let given = claim(&mine, "s", "n1").unwrap_or_else(|error| panic!("step {step}: {error}"));
        let Some(theirs) = taken.get() else { break };
        assert_ne!(given, theirs, "step {step}");
        told += usize::from(given.to_string() == "10.0.0.2");
    }
    assert!(10 < told, "{told}");
}
