//! What a process inherits: limits, descriptors, signals, umask, working directory, environment.
//! The caller chooses them. None of them may end a call without an answer, let it run forever, or
//! leave an address that no caller was told.

use crate::support::sandbox::{Call, Ended, Sandbox, configuration};
use crate::support::stopped::has_strace;
use hereabouts::retry::{Deadline, until};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

const IPAM: &str = r#""range":"10.1.2.0/24","deadlines":{"add":"5s","del":"2s"}"#;

fn call(sandbox: &Sandbox, verb: &str, container: &str) -> Call {
    sandbox.call(verb).set("CNI_CONTAINERID", container).stdin(configuration(IPAM)).clone()
}

/// Returns whether the call was not killed and printed a document: a result or an error.
fn is_answered(ended: &Ended) -> bool {
    match ended.status {
        Some(0) => true,
        Some(1) => ended.document()["code"].is_u64() && ended.document()["code"] != 999,
        _ => false,
    }
}

/// Runs an ADD and a DEL in this environment. A failure has a clear error, and a call without those
/// limits corrects everything.
fn check(sandbox: &Sandbox, caller: &[&str]) {
    let added = call(sandbox, "ADD", "c1").through(caller).run();
    assert!(is_answered(&added), "{caller:?} {added:?}");
    let told = if added.status == Some(0) { added.addresses() } else { Vec::new() };
    assert_eq!(sandbox.held(), told, "{caller:?} {added:?}");
    let again = call(sandbox, "ADD", "c1").run();
    assert_eq!(again.addresses(), ["10.1.2.1"], "{caller:?}");
    let deleted = call(sandbox, "DEL", "c1").through(caller).run();
    assert!(is_answered(&deleted), "{caller:?} {deleted:?}");
    if deleted.status == Some(0) {
        assert!(sandbox.held().is_empty(), "{caller:?} {deleted:?}");
    }
    call(sandbox, "DEL", "c1").run().succeeded();
    assert!(sandbox.held().is_empty(), "{caller:?}");
}

/// Cause: a write beyond the limit on file sizes ends the process by a signal. Effect: no document,
/// and no undo. Fix: the signal is ignored, and the write fails.
#[test]
fn a_small_limit_on_files_is_an_error_in_words() {
    let sandbox = Sandbox::new();
    for bytes in [0, 1, 100, 300, 1000] {
        check(&sandbox, &["prlimit", &format!("--fsize={bytes}:{bytes}")]);
    }
    let refused = call(&sandbox, "ADD", "c1").through(&["prlimit", "--fsize=0:0"]).run();
    assert_eq!((refused.code(), refused.details().contains("EFBIG")), (5, true), "{refused:?}");
}

#[test]
fn few_descriptors_are_an_error_in_words() {
    let sandbox = Sandbox::new();
    for count in 3..=16 {
        check(&sandbox, &["prlimit", &format!("--nofile={count}:{count}")]);
    }
}

#[test]
fn no_mask_of_permissions_opens_the_store_to_others_or_shuts_it_to_us() {
    let sandbox = Sandbox::new();
    std::fs::remove_dir_all(sandbox.store()).ok();
    for mask in ["0", "0777"] {
        check(&sandbox, &["sh", "-c", &format!("umask {mask}; exec \"$0\" \"$@\"")]);
    }
    call(&sandbox, "ADD", "c1")
        .through(&["sh", "-c", "umask 0; exec \"$0\" \"$@\""])
        .run()
        .succeeded();
    let roots = [sandbox.store(), sandbox.path("debts")];
    for (root, file) in roots.iter().flat_map(|root| {
        crate::support::sandbox::files_below(root).into_iter().map(move |file| (root, file))
    }) {
        let mode = root.join(&file).metadata().unwrap().mode();
        // The sandbox writes the note about the store.
        assert!(mode & 0o022 == 0 || file == "format", "{file}: {mode:o}");
    }
}

#[test]
fn closed_descriptors_a_directory_that_is_gone_and_other_signals_change_nothing() {
    let sandbox = Sandbox::new();
    let callers: [&[&str]; 6] = [
        &["sh", "-c", "exec \"$0\" \"$@\" 2>&-"],
        &["sh", "-c", "d=$(mktemp -d) && cd \"$d\" && rmdir \"$d\" && exec \"$0\" \"$@\""],
        &["env", "--ignore-signal"],
        &["env", "--block-signal"],
        &[
            "env",
            "LC_ALL=tr_TR.UTF-8",
            "LANG=xx",
            "TZ=:/nowhere",
            "RUST_BACKTRACE=full",
            "TMPDIR=/nonexistent",
        ],
        &[
            "prlimit",
            "--stack=262144:262144",
            "--memlock=0:0",
            "--msgqueue=0:0",
            "--sigpending=0:0",
        ],
    ];
    for caller in callers {
        check(&sandbox, caller);
        let added = call(&sandbox, "ADD", "c1").through(caller).run();
        assert_eq!(added.addresses(), ["10.1.2.1"], "{caller:?}");
        call(&sandbox, "DEL", "c1").through(caller).run().succeeded();
    }
    // A closed stdin counts as empty.
    let closed = call(&sandbox, "ADD", "c1").through(&["sh", "-c", "exec \"$0\" \"$@\" <&-"]).run();
    assert_eq!(closed.code(), 6, "{closed:?}");
    assert!(sandbox.held().is_empty());
}

/// As large as the kernel allows.
#[test]
fn a_large_environment_is_read_as_any_other() {
    let sandbox = Sandbox::new();
    let mut add = call(&sandbox, "ADD", "c1");
    for n in 0..500 {
        add.set(&format!("VARIABLE_{n}"), "x".repeat(1000));
    }
    let pairs: String = (0..6000).map(|n| format!("KEY{n}=value;")).collect();
    add.set(
        "CNI_ARGS",
        format!("IgnoreUnknown=1;{pairs}K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"),
    );
    assert_eq!(add.run().addresses(), ["10.1.2.1"]);
    assert_eq!(sandbox.list()[0]["pod"]["name"], "web", "{:?}", sandbox.list());
    add.set("CNI_COMMAND", "DEL").run().succeeded();
    assert!(sandbox.held().is_empty());
}

/// A caller that opens stdin and writes nothing, or never closes it, has 60 s. Each wait passes the
/// rest of this time to the kernel.
///
/// Cause: when that time was over, stdin was read anyway. Effect: a call that never ended. Fix:
/// stdin is read only when it has data.
#[test]
fn a_stdin_that_does_not_end_is_waited_for_with_a_limit() {
    if !has_strace() {
        return skipped!("no strace");
    }
    let sandbox = Sandbox::new();
    let trace = sandbox.path("trace");
    let mut child = call(&sandbox, "ADD", "c1")
        .command_under(&[
            "strace",
            "-o",
            trace.to_str().unwrap(),
            "-e",
            "trace=poll,read",
            "-e",
            "inject=poll:retval=0:when=2",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let wait_for_polls = |count: usize| {
        let found = until::<_, ()>(&Deadline::after(Duration::from_secs(50)), || {
            let text = std::fs::read_to_string(&trace).unwrap_or_default();
            let polls: Vec<u32> = text
                .lines()
                .filter_map(|line| {
                    line.split_once("poll([{fd=0, events=POLLIN}], 1, ")?
                        .1
                        .split(')')
                        .next()?
                        .parse()
                        .ok()
                })
                .collect();
            Ok((count <= polls.len()).then_some(polls))
        });
        found.unwrap().expect("it waits for stdin by poll")
    };
    // At least two polls, because the first one may be that of std at the start of the process.
    assert!(wait_for_polls(2).iter().all(|limit| *limit <= 60_000));
    // Single bytes do not extend the wait.
    std::io::Write::write_all(&mut stdin, b" ").unwrap();
    let limits = wait_for_polls(3);
    assert!(limits.windows(2).all(|pair| pair[1] <= pair[0]), "{limits:?}");
    std::io::Write::write_all(&mut stdin, configuration(IPAM).as_bytes()).unwrap();
    drop(stdin);
    assert_eq!(Ended::from(child.wait_with_output().unwrap()).addresses(), ["10.1.2.1"]);
}

/// Cause: a write to a full pipe waits for its reader. Effect: a call that failed never ended if no
/// process reads stderr. Fix: a message to stderr is written at once or not at all.
#[test]
fn a_stderr_that_nobody_reads_keeps_no_call() {
    let sandbox = Sandbox::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let room = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETPIPE_SZ).unwrap();
    std::io::Write::write_all(
        &mut writer.try_clone().unwrap(),
        &vec![b' '; usize::try_from(room).unwrap()],
    )
    .unwrap();
    let stdin =
        std::fs::File::open(sandbox.write("conf", &configuration(r#""range":"10.1.2.0/33""#)))
            .unwrap();
    let mut child = call(&sandbox, "ADD", "c1")
        .command()
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(writer)
        .spawn()
        .unwrap();
    let ended = until(&Deadline::after(Duration::from_secs(60)), || child.try_wait());
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    drop(reader);
    assert!(ended.unwrap().is_some(), "it waits for a reader");
    assert_eq!(Ended::from(output).code(), 7);
}

/// Cause: a call that settles debts after its answer starts a thread that ends it in time. If no
/// more processes are allowed, this was a panic. Effect: an answered ADD ended with an error and a
/// second document. Fix: in that case nothing is settled.
#[test]
fn where_no_thread_can_be_started_debts_are_left_to_another_call() {
    let sandbox = Sandbox::new();
    if !has_strace() || sandbox.cluster.is_some() {
        return skipped!("no strace, or another store");
    }
    call(&sandbox, "ADD", "owing").run().succeeded();
    let lock = std::fs::File::open(sandbox.store()).unwrap();
    lock.lock().unwrap();
    let failed = sandbox
        .call("DEL")
        .set("CNI_CONTAINERID", "owing")
        .stdin(configuration(r#""range":"10.1.2.0/24","deadlines":{"del":"50ms"}"#))
        .run();
    assert_eq!(failed.code(), 11);
    drop(lock);
    let debts = || crate::support::sandbox::files_below(&sandbox.path("debts")).len();
    assert_eq!(debts(), 1);
    let none = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=clone,clone3",
        "-e",
        "inject=clone,clone3:error=EAGAIN",
    ];
    let added = call(&sandbox, "ADD", "c1").through(&none).run();
    assert_eq!(added.addresses(), ["10.1.2.2"], "{added:?}");
    assert_eq!(debts(), 1, "no thread was refused");
    let settled = until::<_, ()>(&Deadline::after(Duration::from_secs(60)), || {
        call(&sandbox, "ADD", "c1").run().succeeded();
        Ok((debts() == 0).then_some(()))
    });
    assert!(settled.unwrap().is_some());
    assert_eq!(sandbox.list().len(), 1, "{}", json!(sandbox.list()));
}
