//! A filesystem on which names that differ only in capital letters are one name: new allocations
//! are refused, and nothing there counts as damaged.

use crate::conformance::{candidates, host, record};
use crate::support::disk::{Faults, FaultyDisk};
use crate::support::sandbox::Sandbox;
use hereabouts::ipam::Scope;
use hereabouts::retry::Deadline;
use hereabouts::store::file::FileStore;
use hereabouts::store::{Access, Claim, Store, StoreError};
use std::process::Command;
use std::time::Duration;

fn store(sandbox: &Sandbox, folds_case: bool) -> FileStore<FaultyDisk> {
    FileStore::on(
        FaultyDisk::new(sandbox.store(), Faults { folds_case, ..Faults::default() }),
        host("n1"),
    )
}

fn claim(store: &dyn Store, scope: &str, container: &str) -> Result<Claim, StoreError> {
    let scope = Scope::parse(scope).unwrap();
    let mut session = store.open(Access::Allocate, Deadline::after(Duration::from_secs(20)))?;
    session.claim(&scope, &candidates("10.0.0.0/29"), &record("n1", container, None))
}

/// Cause: the scopes `Blue` and `blue` shared a directory. Effect: `verify` advised to release the
/// records of one of them. Fix: no store is created there, an existing store gets no names with
/// capital letters, and DEL still works.
#[test]
fn no_store_is_made_where_capital_letters_are_no_difference() {
    let sandbox = Sandbox::new();
    let refused = claim(&store(&sandbox, true), "blue", "c1");
    assert!(matches!(refused, Err(StoreError::FoldsCase { .. })), "{refused:?}");
    assert!(!sandbox.store().join("format").exists());
    assert!(refused.is_err_and(|error| error.to_string().contains("ignores case")));
    // A store that an earlier version created.
    assert!(matches!(claim(&store(&sandbox, false), "Blue", "c1"), Ok(Claim::Claimed(_))));
    let found = store(&sandbox, true);
    assert!(matches!(claim(&found, "blue", "c2"), Ok(Claim::Claimed(_))));
    for (scope, container) in [("Blue", "c3"), ("green", "C3")] {
        assert!(
            matches!(claim(&found, scope, container), Err(StoreError::FoldsCase { .. })),
            "{scope} {container}"
        );
    }
    assert!(matches!(found.ready(), Err(StoreError::FoldsCase { .. })));
    assert!(found.open(Access::Release, Deadline::after(Duration::from_secs(20))).is_ok());
}

/// NTFS, as its driver mounts it: it has hard links and ignores case.
#[test]
fn a_real_filesystem_that_folds_case_is_refused_by_the_executable() {
    let sandbox = Sandbox::new();
    if sandbox.cluster.is_some() {
        return;
    }
    let (image, place) = (sandbox.path("image"), sandbox.path("place"));
    std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    std::fs::create_dir(&place).unwrap();
    let run = |program: &str, args: &[&std::ffi::OsStr]| {
        let done = Command::new(program).args(args).output().unwrap();
        assert!(done.status.success(), "{program}: {done:?}");
    };
    run("mkntfs", &["-q".as_ref(), "-F".as_ref(), "-Q".as_ref(), image.as_os_str()]);
    run(
        "lowntfs-3g",
        &["-o".as_ref(), "ignore_case".as_ref(), image.as_os_str(), place.as_os_str()],
    );
    let store = place.join("store");
    let refused = sandbox.command(&["store", "init", store.to_str().unwrap()]);
    let left = store.join("format").exists();
    run("umount", &[place.as_os_str()]);
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("ignores case") && !left, "{refused:?}");
}
