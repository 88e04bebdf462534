//! A filesystem that takes names which differ in capital letters alone for one:
//! refused where something would be allocated, and nothing of it counts as damage.

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

/// Cause: the scopes `Blue` and `blue` shared a directory. Effect: `verify` said of
/// the records of one of them to release them. Fix: no store is made there, in one
/// that stands no name with capital letters is begun, and DEL goes on.
#[test]
fn no_store_is_made_where_capital_letters_are_no_difference() {
    let sandbox = Sandbox::new();
    let refused = claim(&store(&sandbox, true), "blue", "c1");
    assert!(matches!(refused, Err(StoreError::FoldsCase { .. })), "{refused:?}");
    assert!(!sandbox.store().join("format").exists());
    assert!(refused.is_err_and(|error| error.to_string().contains("ignores case")));
    // One that an earlier version made.
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

/// NTFS, as its driver lets one mount it: it has hard links and folds case.
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
