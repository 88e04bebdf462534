//! Real disks that are full, read-only, damaged or in the wrong place, and files that somebody
//! planted or changed. Each error names the path and what to do. One damaged record costs one
//! address. Failing steps are in `every_step`, and what `verify` reports is in `verify`.

use crate::support::mounted::Mounted;
use crate::support::sandbox::Ended;

/// The lock.
mod locks;
mod nested;
/// The place of the store, and links that are planted in it.
mod places;
/// Damaged records.
mod records;

const RANGE: &str = r#""range":"10.1.2.0/24""#;
/// Room for a store and a few records, in pages and in inodes.
const FEW_BYTES: &str = "size=96k,mode=700";
const FEW_INODES: &str = "size=4m,nr_inodes=48,mode=700";

/// A small filesystem, or the reason why there is none.
fn mounted(options: &str) -> Option<Mounted> {
    match Mounted::new(options) {
        Ok(mounted) => Some(mounted),
        Err(reason) => {
            skipped!("needs root for a mount: {reason}");
            None
        }
    }
}

fn check_says(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.status, Some(1), "{ended:?}");
    for word in words {
        assert!(ended.details().contains(word), "{word}: {ended:?}");
    }
    for words in ["not found", "no such file or directory"] {
        assert!(
            !ended.stdout.to_lowercase().contains(words),
            "runtimes take these words for success: {ended:?}"
        );
    }
}

/// The error of an ADD on a full disk: which file, why, and what to do.
const FULL: [&str; 3] = ["/disk/store/", "full (bytes or inodes)", "free space"];

/// Runs one ADD where `spare` more files fit. It succeeds, or leaves the store as it was.
fn check_add_beside(disk: &Mounted, bytes: usize, spare: usize) -> bool {
    disk.verb("ADD", "c1", RANGE).succeeded();
    disk.fill(bytes, spare);
    let (held, files) = (disk.list(), disk.files());
    let added = disk.verb("ADD", "c2", RANGE);
    let done = added.status == Some(0);
    if !done {
        check_says(&added, &FULL);
        assert_eq!(disk.list(), held, "{spare}: held as before");
    }
    // A repeat returns the address that is held. DEL repairs and frees.
    assert_eq!(disk.verb("ADD", "c1", RANGE).addresses(), ["10.1.2.1"], "{spare}");
    disk.verb("DEL", "c2", RANGE).succeeded();
    assert_eq!((disk.list(), disk.files()), (held, files), "{spare}: nothing left over");
    disk.fill(bytes, 0);
    disk.verb("DEL", "c1", RANGE).succeeded();
    assert_eq!(disk.list().trim(), "[]");
    disk.make_room();
    assert_eq!(
        disk.verb("ADD", "c3", RANGE).addresses(),
        ["10.1.2.1"],
        "{spare}: with room it goes on"
    );
    disk.verb("DEL", "c3", RANGE).succeeded();
    done
}

fn check_full(options: &str, bytes: usize) {
    let Some(disk) = mounted(options) else { return };
    let done: Vec<bool> = (0..6).map(|spare| check_add_beside(&disk, bytes, spare)).collect();
    println!("ADD with room for 0 to 5 files: {done:?}");
    assert!(!done[0] && done[5], "both happened: {done:?}");
}

#[test]
fn on_a_disk_without_bytes_an_add_fails_as_if_it_had_not_been_and_a_del_is_done() {
    check_full(FEW_BYTES, 4096);
}

#[test]
fn on_a_disk_without_inodes_an_add_fails_as_if_it_had_not_been_and_a_del_is_done() {
    check_full(FEW_INODES, 0);
}

/// The first ADD creates directories, the format and the note about the machine.
#[test]
fn a_store_that_cannot_be_made_for_want_of_room_is_made_when_there_is_some() {
    for (options, bytes) in [(FEW_BYTES, 4096), (FEW_INODES, 0)] {
        let Some(disk) = mounted(options) else { return };
        // Where a network names the directory, an ADD creates the store.
        std::fs::remove_dir_all(disk.path("store")).unwrap();
        let sandbox = &disk.sandbox;
        sandbox.write(
            "flat.conf",
            &serde_json::json!({"node_name": "n1", "allowed_paths": [sandbox.root]}).to_string(),
        );
        let ipam = format!(r#"{RANGE},"data_dir":"{}""#, sandbox.path("disk/store").display());
        let mut failed = 0;
        for spare in 0..24 {
            disk.fill(bytes, spare);
            let added = disk.verb("ADD", "c1", &ipam);
            if added.status == Some(0) {
                break;
            }
            failed += 1;
            check_says(&added, &FULL[1..]);
            assert!(added.details().contains("/disk/store"), "{added:?}");
            if spare == 0 {
                check_says(&disk.verb("STATUS", "c1", &ipam), &FULL[1..]);
            }
            disk.verb("DEL", "c1", &ipam).succeeded();
        }
        println!("{options}: {failed} first ADDs failed");
        assert!((2..24).contains(&failed));
        disk.make_room();
        assert_eq!(disk.verb("ADD", "c1", &ipam).addresses(), ["10.1.2.1"]);
        assert_eq!(disk.verb("ADD", "c2", &ipam).addresses(), ["10.1.2.2"]);
    }
}

/// Hints cannot be written: no verb fails because of that, and none is misled later.
#[test]
fn on_a_full_disk_a_full_range_is_exhausted_and_what_a_del_frees_is_given_again() {
    let two_shards = r#""range":"10.1.0.0/16","range_start":"10.1.2.254","range_end":"10.1.3.2""#;
    let Some(disk) = mounted("size=512k,mode=700") else { return };
    for n in 0..5 {
        // The third ADD finds the first shard full, and writes the hint.
        disk.verb("ADD", &format!("c{n}"), two_shards).succeeded();
    }
    assert!(disk.files().contains(&"scopes/@/full".to_owned()));
    let held = disk.list();
    disk.fill(4096, 0);
    assert_eq!(
        disk.verb("ADD", "more", two_shards).code(),
        100,
        "said without a hint that can be written"
    );
    disk.verb("DEL", "c0", two_shards).succeeded();
    disk.make_room();
    assert_eq!(disk.verb("ADD", "c0", two_shards).addresses(), ["10.1.2.254"]);
    assert_eq!(disk.verb("ADD", "more", two_shards).code(), 100);
    assert_eq!(disk.list().matches("address\"").count(), held.matches("address\"").count());
}

#[test]
fn on_a_read_only_disk_what_would_write_says_so_and_all_else_works() {
    let Some(disk) = mounted(FEW_BYTES) else { return };
    disk.verb("ADD", "c1", RANGE).succeeded();
    let (held, files) = (disk.list(), disk.files());
    disk.remount("ro");
    let says_so = |verb, container| {
        check_says(
            &disk.verb(verb, container, RANGE),
            &["/disk/store", "read-only", "remount the filesystem"],
        )
    };
    says_so("ADD", "c2");
    says_so("STATUS", "c1");
    assert_eq!(disk.verb("ADD", "c1", RANGE).addresses(), ["10.1.2.1"]);
    disk.verb("DEL", "c2", RANGE).succeeded();
    assert_eq!((disk.list(), disk.files()), (held, files.clone()));
    // What the DEL cannot free becomes a debt.
    says_so("DEL", "c1");
    assert_eq!(disk.files(), files);
    disk.remount("rw");
    assert_eq!(disk.verb("ADD", "c2", RANGE).addresses(), ["10.1.2.2"]);
    disk.verb("DEL", "c1", RANGE).succeeded();
}
