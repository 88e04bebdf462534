//! A step fails, no process reads the answer, or the store is not what it should be.

use crate::conformance::{candidates, claim, host, open, record};
use crate::support::disk::{Faults, FaultyDisk};
use crate::support::sandbox::{Call, Ended, HEREABOUTS, Sandbox, configuration};
use hereabouts::ipam::{Record, Scope};
use hereabouts::retry::{Deadline, until};
use hereabouts::store::file::FileStore;
use hereabouts::store::{Access, Claim, Filter, Store, StoreError};
use std::process::{Command, Stdio};
use std::time::Duration;

const RANGE: &str = r#""range":"10.1.2.0/24""#;

/// Runs a call under `sh -c`, so that a script can redirect its streams.
fn redirected(call: &Call, script: &str) -> Ended {
    let mut command = Command::new("sh");
    command
        .args(["-c", &script.replace("HEREABOUTS", HEREABOUTS)])
        .env_clear()
        .envs(call.environment.iter().cloned());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), configuration(RANGE).as_bytes())
        .unwrap();
    Ended::from(child.wait_with_output().unwrap())
}

#[test]
fn a_closed_or_null_stdout_is_refused_before_anything_is_allocated() {
    let sandbox = Sandbox::new();
    for script in ["exec HEREABOUTS >&-", "exec HEREABOUTS >/dev/null"] {
        let ended = redirected(&sandbox.call("ADD"), script);
        assert_eq!(ended.status, Some(1), "{script}");
        assert!(ended.stderr.contains("nothing was allocated"), "{ended:?}");
        assert!(sandbox.is_untouched());
    }
    redirected(&sandbox.call("DEL"), "exec HEREABOUTS >/dev/null").succeeded();
}

#[test]
fn a_result_that_cannot_be_written_is_taken_back() {
    let sandbox = Sandbox::new();
    let ended = redirected(&sandbox.call("ADD"), "exec HEREABOUTS >/dev/full");
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("what this call allocated was released"), "{ended:?}");
    assert!(sandbox.held().is_empty());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let file = std::fs::File::open(sandbox.write("stdin", &configuration(RANGE))).unwrap();
    let status = sandbox
        .call("ADD")
        .command()
        .stdin(file)
        .stdout(writer)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(sandbox.held().is_empty());
}

#[test]
fn a_repeated_add_that_cannot_be_written_undoes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add("abc123", RANGE).succeeded();
    assert_eq!(redirected(&sandbox.call("ADD"), "exec HEREABOUTS >/dev/full").status, Some(1));
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
}

#[test]
fn a_rehomed_address_that_cannot_be_written_is_released() {
    let sandbox = Sandbox::new();
    let args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web";
    sandbox
        .call("ADD")
        .set("CNI_CONTAINERID", "old")
        .set("CNI_ARGS", args)
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    redirected(sandbox.call("ADD").set("CNI_ARGS", args), "exec HEREABOUTS >/dev/full");
    assert!(sandbox.held().is_empty());
}

#[test]
fn a_lock_that_stays_held_is_11_and_the_message_names_path_deadline_and_holder() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    let lock = sandbox.store();
    let mut holder = hold(&lock);
    for verb in ["ADD", "DEL"] {
        let ipam = format!(r#"{RANGE},"deadlines":{{"add":"300ms","del":"300ms"}}"#);
        let ended = sandbox.call(verb).stdin(configuration(&ipam)).run();
        assert_eq!(ended.code(), 11, "{verb}");
        for word in [lock.to_str().unwrap(), "ms", "process", "deadlines"] {
            assert!(ended.details().contains(word), "{word}: {ended:?}");
        }
    }
    drop(holder.stdin.take());
    holder.wait().unwrap();
    sandbox.call("ADD").stdin(configuration(RANGE)).run().succeeded();
}

/// Starts a process that holds the lock until its stdin is closed.
fn hold(lock: &std::path::Path) -> std::process::Child {
    let mut command = Command::new("flock");
    command.args([lock.to_str().unwrap(), "sh", "-c", "echo held; read x"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 4]).unwrap();
    child
}

#[test]
fn a_waiter_gets_the_lock_as_soon_as_it_is_free() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    let lock = sandbox.store();
    let mut holder = hold(&lock);
    let stdin = std::fs::File::open(sandbox.write("stdin", &configuration(RANGE))).unwrap();
    let waiter = sandbox.call("ADD").command().stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(Ended::from(waiter.wait_with_output().unwrap()).addresses(), ["10.1.2.2"]);
}

#[test]
fn a_data_directory_that_is_none_is_a_clear_error() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.store(), "file").unwrap();
    assert_eq!(sandbox.add("c1", RANGE).code(), 5);
    std::fs::remove_file(sandbox.store()).unwrap();
    std::os::unix::fs::symlink("/nonexistent/place", sandbox.store()).unwrap();
    for ended in [sandbox.add("c1", RANGE), sandbox.del("c1", RANGE)] {
        assert_eq!(
            ended.code(),
            5,
            "a dangling link means that the store should be elsewhere: {ended:?}"
        );
    }
}

#[test]
fn the_data_directory_may_be_a_symbolic_link_but_nothing_below_it() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("real")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("real"), sandbox.store()).unwrap();
    sandbox.add("c1", RANGE).succeeded();
    let scope = sandbox.path("real/scopes/@");
    std::fs::rename(&scope, sandbox.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("elsewhere"), &scope).unwrap();
    let ended = sandbox.add("c2", RANGE);
    assert_eq!(ended.code(), 5, "{ended:?}");
    assert_eq!(
        std::fs::read_dir(sandbox.path("elsewhere/10.1.2.0_24")).unwrap().count(),
        1,
        "nothing was written through the link"
    );
}

/// The default data_dir of both stores is the same. A node that had the Kubernetes store, or has it
/// for other networks, was told that the directory is not a store.
#[test]
fn the_node_state_of_the_other_store_is_nothing_foreign() {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.store().join("kubernetes/n1/attachments")).unwrap();
    sandbox.command(&["store", "init", sandbox.store().to_str().unwrap()]).succeeded();
    sandbox.add("c1", r#""range":"10.1.2.0/24""#).succeeded();
    assert_eq!(sandbox.command(&["verify"]).status, Some(0));
}

#[test]
fn a_newer_format_is_refused_with_what_to_install() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    std::fs::write(sandbox.store().join("format"), r#"{"format":2,"id":"x"}"#).unwrap();
    for ended in [sandbox.add("c2", RANGE), sandbox.del("c1", RANGE)] {
        assert_eq!(ended.code(), 104);
        assert!(ended.details().contains("install a newer hereabouts"), "{ended:?}");
    }
}

#[test]
fn one_damaged_record_costs_one_address() {
    let sandbox = Sandbox::new();
    for n in 1..4 {
        sandbox.add(&format!("c{n}"), RANGE).succeeded();
    }
    // In place: both links belong to one file.
    std::fs::write(sandbox.store().join("scopes/@/10.1.2.0_24/10.1.2.2"), "garbage").unwrap();
    assert_eq!(sandbox.add("c2", RANGE).code(), 104);
    assert_eq!(sandbox.add("c9", RANGE).addresses(), ["10.1.2.4"], "it counts as taken");
    sandbox.del("c2", RANGE).succeeded();
    sandbox.del("c1", RANGE).succeeded();
    let ended = sandbox.command(&["list"]);
    assert_eq!(ended.status, Some(1), "a listing that misses a record says so");
    assert!(
        ended.stdout.contains("10.1.2.3") && ended.stderr.contains("10.1.2.2 is damaged"),
        "{ended:?}"
    );
    let gc = configuration(RANGE).replacen('{', r#"{"cni.dev/valid-attachments":[],"#, 1);
    sandbox.call("GC").stdin(gc).run().succeeded();
    assert!(!sandbox.command(&["list"]).stdout.contains("10.1.2.3"));
}

#[test]
fn a_copied_tree_that_split_the_links_still_works() {
    let sandbox = Sandbox::new();
    sandbox.add("c1", RANGE).succeeded();
    sandbox.add("c2", RANGE).succeeded();
    let copy = sandbox.path("copy");
    assert!(
        Command::new("cp")
            .args(["-r", "--no-preserve=links"])
            .args([sandbox.store(), copy.clone()])
            .status()
            .unwrap()
            .success()
    );
    std::fs::remove_dir_all(sandbox.store()).unwrap();
    std::fs::rename(copy, sandbox.store()).unwrap();
    assert_eq!(sandbox.add("c1", RANGE).addresses(), ["10.1.2.1"]);
    sandbox.del("c1", RANGE).succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.2"]);
    assert_eq!(sandbox.add("c3", RANGE).addresses(), ["10.1.2.1"]);
}

#[test]
fn a_half_done_add_is_completed_by_a_repeat_and_fails_check() {
    let sandbox = Sandbox::new();
    let ipam = r#""ipRanges":[{"range":"10.1.2.0/24"},{"range":"10.1.3.0/24"}]"#;
    let first = sandbox.add("abc123", ipam);
    sandbox.command(&["release", "10.1.3.1", "--yes"]).succeeded();
    let previous = format!(r#"{{"prevResult":{},"#, first.stdout.trim());
    let check = configuration(ipam).replacen('{', &previous, 1);
    assert_eq!(sandbox.call("CHECK").stdin(&check).run().code(), 102);
    assert_eq!(sandbox.add("abc123", ipam).stdout, first.stdout);
    sandbox.call("CHECK").stdin(&check).run().succeeded();
    sandbox.del("abc123", ipam).succeeded();
    assert!(sandbox.held().is_empty());
}

#[test]
fn the_store_on_a_shared_filesystem_works_without_any_lock() {
    let sandbox = Sandbox::new();
    for n in 1..20 {
        let faults = Faults { shared: true, no_locks: true, ..Faults::default() };
        let store = FileStore::on(FaultyDisk::new(sandbox.store(), faults), host("n1"));
        let given =
            claim(open(&store).as_mut(), "10.0.0.0/24", &record("n1", &format!("c{n}"), None))
                .unwrap();
        assert_eq!(given.address.to_string(), format!("10.0.0.{n}"));
    }
}

#[test]
fn records_of_an_earlier_boot_are_swept_before_exhausted_is_said() {
    let sandbox = Sandbox::new();
    let store = FileStore::new(sandbox.store(), host("n1"));
    let mut session = open(&store);
    for n in 0..6 {
        let old =
            Record { boot_id: "yesterday".to_owned(), ..record("n1", &format!("c{n}"), None) };
        claim(session.as_mut(), "10.0.0.0/29", &old).unwrap();
    }
    assert_eq!(
        claim(session.as_mut(), "10.0.0.0/29", &record("n1", "new", None))
            .unwrap()
            .address
            .to_string(),
        "10.0.0.1"
    );
}

/// An ADD after its deadline frees only as many of them as it needs.
#[test]
fn an_add_that_is_late_frees_no_more_of_an_earlier_boot_than_it_needs() {
    let sandbox = Sandbox::new();
    let store = FileStore::new(sandbox.store(), host("n1"));
    for n in 0..6 {
        let old =
            Record { boot_id: "yesterday".to_owned(), ..record("n1", &format!("c{n}"), None) };
        claim(open(&store).as_mut(), "10.0.0.0/29", &old).unwrap();
    }
    // A child of another thread that has not called exec yet holds the lock of the previous session
    // for a moment longer.
    let claimed = until(&Deadline::after(Duration::from_secs(60)), || {
        let claim_late = || {
            let mut session = store.open(Access::Allocate, Deadline::after(Duration::ZERO))?;
            let new = record("n1", "new", None);
            session.claim(&Scope::default(), &candidates("10.0.0.0/29"), &new)
        };
        match claim_late() {
            Err(StoreError::Busy { .. }) => Ok(None),
            claimed => claimed.map(Some),
        }
    });
    let claimed = claimed.unwrap().expect("the lock is free again");
    assert!(matches!(claimed, Claim::Claimed(_)), "{claimed:?}");
    let left = store
        .list(&Filter::default())
        .unwrap()
        .filter(|item| item.as_ref().unwrap().record.boot_id == "yesterday")
        .count();
    assert_eq!(left, 5);
}

/// Cause: a pipe that the caller made non-blocking answers "not yet". Effect: an ADD failed at
/// once. Fix: the plugin waits for it.
#[test]
fn a_stdin_that_does_not_block_is_waited_for() {
    use std::io::Write;
    let sandbox = Sandbox::new();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut command = sandbox.call("ADD").command();
    command.stdin(std::os::fd::OwnedFd::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    let sleeps = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['S', 'Z']))
    };
    while !sleeps() {
        std::thread::yield_now();
    }
    let written = (&ours).write_all(configuration(r#""range":"10.1.2.0/24""#).as_bytes());
    drop(ours);
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.addresses(), ["10.1.2.1"], "{written:?}");
}

/// Cause: a write to a full pipe waited for its reader, with the attachment's lock held. Effect: a
/// caller that reads nothing delayed every later call of its attachment. Fix: after 10 s the ADD is
/// undone.
#[test]
fn a_caller_that_reads_nothing_ends_the_add_and_holds_no_address() {
    let sandbox = Sandbox::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let file =
        std::fs::File::open(sandbox.write("conf", &configuration(r#""range":"10.1.2.0/24""#)))
            .unwrap();
    // Full, except for less than one result.
    let room = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETPIPE_SZ).unwrap();
    std::io::Write::write_all(
        &mut writer.try_clone().unwrap(),
        &vec![b' '; usize::try_from(room).unwrap()],
    )
    .unwrap();
    let mut child = sandbox
        .call("ADD")
        .command()
        .stdin(file)
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ended = until(&Deadline::after(Duration::from_secs(300)), || child.try_wait());
    let _ = child.kill();
    assert!(ended.unwrap().is_some_and(|status| status.code() == Some(1)), "it waits for a reader");
    drop(reader);
    assert!(sandbox.held().is_empty());
}
