//! A data directory that is not a directory or is not ours, and links planted below it.

use super::{RANGE, check_says};
use crate::support::sandbox::{Call, Ended, Sandbox, configuration, files_below};
use hereabouts::store::disk::{Disk, Patience, RealDisk};
use nix::errno::Errno;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn gc(sandbox: &Sandbox) -> Call {
    sandbox
        .call("GC")
        .stdin(configuration(RANGE).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1))
        .clone()
}

fn all_verbs(sandbox: &Sandbox) -> Vec<Ended> {
    vec![
        sandbox.add("c1", RANGE),
        sandbox.del("c1", RANGE),
        gc(sandbox).run(),
        sandbox.call("STATUS").stdin(configuration(RANGE)).run(),
    ]
}

#[test]
fn a_data_directory_that_is_none_is_named_with_what_to_do() {
    let sandbox = Sandbox::new();
    let store = sandbox.store();
    std::fs::write(&store, "somebody's notes").unwrap();
    for ended in all_verbs(&sandbox) {
        check_says(
            &ended,
            &[store.to_str().unwrap(), "is not a directory", "put a directory in its place"],
        );
    }
    assert_eq!(std::fs::read_to_string(&store).unwrap(), "somebody's notes");
    std::fs::remove_file(&store).unwrap();
    symlink(sandbox.path("not-mounted"), &store).unwrap();
    for ended in &all_verbs(&sandbox)[..3] {
        check_says(
            ended,
            &[
                store.to_str().unwrap(),
                "a symbolic link to a directory that is missing or not mounted",
            ],
        );
    }
    assert!(!sandbox.path("not-mounted").exists());
    std::fs::create_dir(sandbox.path("not-mounted")).unwrap();
    sandbox.add("c1", RANGE).succeeded();
}

#[test]
fn a_data_directory_of_somebody_else_is_refused_to_who_may_not_write_it() {
    if !nix::unistd::geteuid().is_root() {
        skipped!("needs root");
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    let held = sandbox.held();
    for verb in ["ADD", "DEL"] {
        let mut call = sandbox.call(verb);
        call.through(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        let ended = call.set("CNI_CONTAINERID", "c1").stdin(configuration(RANGE)).run();
        check_says(
            &ended,
            &[
                sandbox.store().to_str().unwrap(),
                "permission denied",
                "as the owner of the directory",
            ],
        );
    }
    assert_eq!(sandbox.held(), held);
    // Root may use it. What root creates there, only root can read.
    std::os::unix::fs::chown(sandbox.store(), Some(65534), Some(65534)).unwrap();
    assert_eq!(sandbox.add("c2", RANGE).addresses(), ["10.1.2.2"]);
    let record = std::fs::metadata(sandbox.store().join("scopes/@/10.1.2.0_24/10.1.2.2")).unwrap();
    assert_eq!((record.uid(), record.permissions().mode() & 0o777), (0, 0o600));
}

/// Each part below the data directory, which is moved away and replaced by a link; and whether it
/// is a directory.
const PARTS: &[(&str, bool)] = &[
    ("scopes", true),
    ("scopes/@", true),
    ("scopes/@/10.1.2.0_24", true),
    ("nodes", true),
    ("nodes/n1", true),
    ("nodes/n1/net1", true),
    ("nodes/n1/@tmp", true),
    ("format", false),
    ("nodes/n1/@machine-id", false),
    ("nodes/n1/net1/c1@net1.0", false),
    ("scopes/@/10.1.2.0_24/10.1.2.1", false),
];

#[test]
fn no_link_below_the_data_directory_is_followed() {
    for (part, is_directory) in PARTS {
        let sandbox = Sandbox::new();
        sandbox.add("c1", RANGE).succeeded();
        let (planted, elsewhere) = (sandbox.store().join(part), sandbox.path("elsewhere"));
        std::fs::rename(&planted, &elsewhere).unwrap();
        symlink(&elsewhere, &planted).unwrap();
        let before = (files_below(&elsewhere), std::fs::read(&elsewhere).ok());
        let words = if *is_directory { "not a directory" } else { "is a symbolic link" };
        let mut refused = 0;
        for ended in [sandbox.add("c9", RANGE), sandbox.add("c1", RANGE), sandbox.del("c1", RANGE)]
        {
            if ended.status != Some(0) {
                check_says(&ended, &[sandbox.store().to_str().unwrap(), words]);
                refused += 1;
            }
        }
        // Only re-homings and hints use @tmp.
        assert!(refused != 0 || part.ends_with("@tmp"), "{part}");
        assert_eq!(
            before,
            (files_below(&elsewhere), std::fs::read(&elsewhere).ok()),
            "{part}: nothing was written through the link"
        );
        // No pod can get the address of a planted record.
        std::fs::remove_file(&planted).unwrap();
        std::fs::rename(&elsewhere, &planted).unwrap();
        assert_eq!(
            sandbox.add("c1", RANGE).addresses(),
            ["10.1.2.1"],
            "{part}: put back, it is as before"
        );
    }
    println!("{} places", PARTS.len());
}

/// A link to a missing file must not create that file.
#[test]
fn a_dangling_link_in_the_place_of_a_file_makes_no_file_elsewhere() {
    for part in ["format", "nodes/n1/net1/c2@net1.0", "scopes/@/10.1.2.0_24/10.1.2.2"] {
        let sandbox = Sandbox::new();
        sandbox.add("c1", RANGE).succeeded();
        let (planted, elsewhere) = (sandbox.store().join(part), sandbox.path("elsewhere"));
        let _ = std::fs::remove_file(&planted);
        symlink(&elsewhere, &planted).unwrap();
        let ended = sandbox.add("c2", RANGE);
        assert!(!elsewhere.exists(), "{part}");
        if part.ends_with("10.1.2.2") {
            assert_eq!(ended.addresses(), ["10.1.2.3"], "it counts as taken");
        } else {
            check_says(&ended, &["is a symbolic link", "remove the symbolic link"]);
        }
    }
}

/// The lock is a file only on shared filesystems, so the test asks for it as the store would there.
#[test]
fn a_link_in_the_place_of_a_lock_file_is_not_followed() {
    let sandbox = Sandbox::new();
    let elsewhere = sandbox.path("elsewhere");
    symlink(&elsewhere, sandbox.path("lock")).unwrap();
    let disk = RealDisk::new(sandbox.root.clone());
    let refused =
        disk.lock(Path::new("lock"), Patience::Try).err().and_then(|error| error.raw_os_error());
    assert_eq!(refused, Some(Errno::ELOOP as i32));
    assert!(!elsewhere.exists(), "no file was made through it");
}
