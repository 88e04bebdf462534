//! `install --watch`: renews and restores files, shares a node with another install during a
//! rollout, and ends when it is asked to.

use super::node::{Node, Watching, identity};
use nix::sys::signal::Signal;

#[test]
fn token_and_ca_are_renewed_when_the_pods_change() {
    let node = Node::new();
    let mut watching = node.watch(&["install", "--watch"]);
    watching.until("the first kubeconfig", || node.token() == "first");
    for token in ["second", "third"] {
        node.rotate(token);
        watching.until(token, || node.token() == token);
        let text = std::fs::read_to_string(node.kubeconfig()).unwrap();
        use base64::Engine;
        let ca = base64::engine::general_purpose::STANDARD
            .encode(format!("-----BEGIN CERTIFICATE-----\n{token}\n"));
        assert!(text.contains(&ca), "token and CA of two moments: {text}");
    }
    // A half-written volume: the old token stays, and this is printed once.
    std::fs::remove_file(node.path("pod/token")).unwrap();
    watching.until("the complaint", || node.said().contains("cannot read"));
    std::os::unix::fs::symlink("..data/token", node.path("pod/token")).unwrap();
    watching.until("the recovery", || node.said().contains("recovered"));
    assert_eq!(node.token(), "third");
    assert_eq!(node.said().matches("cannot read").count(), 1, "{}", node.said());
}

#[test]
fn what_somebody_removed_or_changed_is_put_back() {
    let node = Node::new();
    let mut watching = node.watch(&["install", "--watch", "--whereabouts"]);
    watching.until("all files", || node.files().len() == 4);
    for file in node.files() {
        std::fs::remove_file(node.path(&file)).unwrap();
        watching.until(&file, || node.path(&file).exists());
    }
    std::fs::rename(node.path("net.d"), node.path("elsewhere")).unwrap();
    watching.until("the directory", || node.files().len() == 4);
    std::fs::write(node.path("bin/whereabouts"), "another").unwrap();
    watching
        .until("its own executable", || node.path("bin/whereabouts").metadata().unwrap().len() > 7);
}

#[test]
fn asked_to_end_it_ends_and_leaves_what_it_wrote() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let node = Node::new();
        let mut watching = node.watch(&["install", "--watch"]);
        watching.until("all files", || node.files().len() == 3);
        assert_eq!(watching.end(signal), Some(0));
        assert_eq!(node.files().len(), 3);
    }
}

/// The first process of a container has only its own signal handlers.
#[test]
fn as_the_first_process_of_a_container_it_ends_too() {
    let node = Node::new();
    let mut call = node.staying(&["install", "--watch"]);
    call.through(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let Ok(output) = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .output()
    else {
        return skipped!("no unshare");
    };
    if !output.status.success() {
        return skipped!("no namespaces here");
    }
    let mut watching = Watching::start(&call, &node.path("said"));
    // unshare itself is not an install, but the process that it starts is.
    let children = format!("/proc/{0}/task/{0}/children", watching.id());
    let first = || std::fs::read_to_string(&children).unwrap().trim().parse::<i32>().ok();
    watching.until("all files", || node.files().len() == 3);
    let process = nix::unistd::Pid::from_raw(first().unwrap());
    nix::sys::signal::kill(process, Signal::SIGTERM).unwrap();
    assert_eq!(watching.ended(), Some(0));
}

#[test]
fn two_installs_of_a_rollout_do_not_undo_each_other() {
    let node = Node::new();
    let mut old = node.watch(&["install", "--watch", "--whereabouts"]);
    old.until("the old one's files", || node.files().len() == 4);

    // The new install has other settings and its own token.
    std::fs::create_dir(node.path("new")).unwrap();
    std::fs::write(node.path("new/token"), "of-the-new-one").unwrap();
    let mut call =
        node.staying(&["install", "--watch", "--settings", r#"{"log_file":"/var/log/h.log"}"#]);
    call.args.retain(|arg| !arg.starts_with("--token-file"));
    call.args.push(format!("--token-file={}", node.path("new/token").display()));
    let mut new = Watching::start(&call, &node.path("new/said"));
    let has_new_flat_file =
        || std::fs::read_to_string(node.flat()).is_ok_and(|text| text.contains("log_file"));
    new.until("the new one's files", || node.token() == "of-the-new-one" && has_new_flat_file());

    // The old install checks, restores what is missing, and does not change the rest.
    let flat = identity(&node.flat());
    std::fs::remove_file(node.path("bin/whereabouts")).unwrap();
    old.until("what only the old one places", || node.path("bin/whereabouts").exists());
    assert_eq!((node.token().as_str(), identity(&node.flat())), ("of-the-new-one", flat));

    // The rollout is undone: the new install ends, and the old one's token is used again.
    assert_eq!(new.end(Signal::SIGTERM), Some(0));
    old.until("the old one's files", || node.token() == "first" && !has_new_flat_file());
}

/// Cause: `--check` compared with what an install with the options of the probe would write, and a
/// probe has none: with `settings` no pod of the DaemonSet became ready.
#[test]
fn a_probe_asks_the_install_that_runs_whatever_its_options() {
    let node = Node::new();
    let settings = r#"{"log_file":"/var/log/h.log"}"#;
    let mut watching = node.watch(&["install", "--watch", "--whereabouts", "--settings", settings]);
    watching.until("all files", || node.files().len() == 4);
    let check = ["install", "--check", "--offline"];
    watching.until("its word", || node.run(&check).status == Some(0));

    // The failure is in its own words.
    std::fs::remove_file(node.path("pod/token")).unwrap();
    watching.until("its complaint", || node.run(&check).status == Some(1));
    let ended = node.run(&check);
    assert!(
        ended.stderr.contains("the running install reports: cannot read")
            && ended.stderr.contains("pod/token"),
        "{ended:?}"
    );
    std::os::unix::fs::symlink("..data/token", node.path("pod/token")).unwrap();
    watching.until("its recovery", || node.run(&check).status == Some(0));

    // Its published state ends with it. Then the options of the check count, and a difference is
    // named.
    assert_eq!(watching.end(Signal::SIGTERM), Some(0));
    let ended = node.run(&check);
    let words = r#"differs from what install would write with these options: log_file is "\"/var/log/h.log\"", not nothing"#;
    assert!(ended.status == Some(1) && ended.stderr.contains(words), "{ended:?}");
    node.run(&["install", "--check", "--offline", "--settings", settings]).succeeded();
}

/// Cause: an old pod was ready only with its own version of a file that the new pod had written. So
/// the DaemonSet's controller ended the old pod before the new one was ready.
#[test]
fn an_old_install_stays_well_whatever_a_newer_one_has_written() {
    let node = Node::new();
    let in_a_mount_namespace_of_its_own = |settings: &str, said: &str| {
        let mut call = node.staying(&["install", "--watch", "--settings", settings]);
        call.through(&["unshare", "--mount"]);
        Watching::start(&call, &node.path(said))
    };
    let has =
        |word: &str| std::fs::read_to_string(node.flat()).is_ok_and(|text| text.contains(word));
    let mut old = in_a_mount_namespace_of_its_own(r#"{"log_level":"error"}"#, "old");
    old.until("its files", || has("error"));
    let check = |id: u32| {
        let mut call = node.call(&["install", "--check", "--offline"]);
        call.through(&["nsenter", "--target", &id.to_string(), "--mount"]).run()
    };
    let of_old = old.id();
    old.until("its word", || check(of_old).status == Some(0));

    let mut new = in_a_mount_namespace_of_its_own(r#"{"log_level":"debug"}"#, "new");
    new.until("its files", || has("debug"));
    let of_new = new.id();
    new.until("its word", || check(of_new).status == Some(0));
    assert_eq!(check(of_old).status, Some(0), "{:?}", check(of_old));
}

/// A signal that the caller ignores stays ignored, unless it is blocked.
#[test]
fn asked_to_end_it_ends_though_its_caller_ignores_that() {
    let node = Node::new();
    let mut call = node.staying(&["install", "--watch"]);
    call.through(&["env", "--ignore-signal=TERM", "--ignore-signal=CHLD"]);
    let mut watching = Watching::start(&call, &node.path("said"));
    watching.until("all files", || node.files().len() == 3);
    assert_eq!(watching.end(Signal::SIGTERM), Some(0));
}

#[test]
fn no_time_between_two_sweeps_is_too_long() {
    let node = Node::new();
    let mut watching = node.watch(&["install", "--watch", "--sweep-every=18446744073709551615s"]);
    watching.until("all files", || node.files().len() == 3);
    assert_eq!(watching.end(Signal::SIGTERM), Some(0));
}
