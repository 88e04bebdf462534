//! Files in the directory of debts that are not debts stop no verb, and `verify` names them. Many
//! of them make no call slow.

use super::{fail_to_del, owed, run};
use crate::support::sandbox::{Sandbox, files_below};
use crate::support::stopped::has_strace;
use serde_json::Value;
use std::path::PathBuf;

type Plant<'a> = &'a dyn Fn(&PathBuf);

/// Returns the path of a debt of `c1`.
fn named(sandbox: &Sandbox) -> PathBuf {
    sandbox.path("debts").join(&files_below(&sandbox.path("debts"))[0])
}

fn problems(sandbox: &Sandbox) -> Vec<String> {
    let verified = sandbox.command(&["verify", "-o", "json"]);
    let document: Value = serde_json::from_str(&verified.stdout)
        .unwrap_or_else(|error| panic!("{error}: {verified:?}"));
    let findings = document["findings"].as_array().unwrap();
    assert_eq!(verified.status == Some(0), findings.is_empty(), "{verified:?}");
    findings.iter().map(|finding| finding["problem"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_damaged_newer_too_large_or_foreign_stops_no_verb_and_is_found() {
    let plant: &[(&str, Plant)] = &[
        ("damaged-debt", &|path| std::fs::write(path, "{").unwrap()),
        ("damaged-debt", &|path| std::fs::write(path, "").unwrap()),
        ("damaged-debt", &|path| std::fs::write(path, "[".repeat(2 * 1024 * 1024)).unwrap()),
        ("damaged-debt", &|path| std::fs::create_dir(path).unwrap()),
        ("damaged-debt", &|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
        ("damaged-debt", &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("newer-debt", &|path| std::fs::write(path, r#"{"format":2,"node":[]}"#).unwrap()),
        ("foreign-file", &|path| std::fs::write(path.with_file_name("README"), "x").unwrap()),
        ("foreign-file", &|path| std::fs::create_dir(path.with_file_name("lost+found")).unwrap()),
    ];
    for (expected, plant) in plant {
        let sandbox = Sandbox::new();
        run(&sandbox, "ADD", "c1", None).succeeded();
        fail_to_del(&sandbox, "c1", None);
        let path = named(&sandbox);
        std::fs::remove_file(&path).unwrap();
        plant(&path);
        assert_eq!(problems(&sandbox), [*expected]);
        for command in [&["list"][..], &["list", "--debts"], &["sweep", "--debts", "--yes"]] {
            sandbox.command(command).succeeded();
        }
        for (verb, container) in [("ADD", "other"), ("DEL", "other"), ("ADD", "c1"), ("DEL", "c1")]
        {
            run(&sandbox, verb, container, None).succeeded();
        }
        assert_eq!(sandbox.held().len(), 0, "{expected}");
    }
}

/// A debt belongs to one attachment and store. A copy under another name, or a changed one, frees
/// nothing.
#[test]
fn a_debt_under_another_name_frees_nothing() {
    let sandbox = Sandbox::new();
    run(&sandbox, "ADD", "c1", None).succeeded();
    fail_to_del(&sandbox, "c1", None);
    let path = named(&sandbox);
    let name = path.file_name().unwrap().to_str().unwrap();
    std::fs::rename(&path, path.with_file_name(format!("0123456789abcdef{}", &name[16..])))
        .unwrap();
    sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    run(&sandbox, "DEL", "other", None).succeeded();
    assert_eq!(sandbox.held(), ["10.1.2.1"]);
    assert_eq!(problems(&sandbox), ["damaged-debt"]);
}

/// Another node that keeps its debts in the same place settles its own.
#[test]
fn a_debt_of_another_node_is_not_touched() {
    let sandbox = Sandbox::new();
    run(&sandbox, "ADD", "c1", None).succeeded();
    fail_to_del(&sandbox, "c1", None);
    let own = std::fs::read(sandbox.path("flat.conf")).unwrap();
    sandbox.write("flat.conf", &sandbox.flat("n2"));
    sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert!(sandbox.command(&["list", "--debts"]).succeeded().stdout.is_empty());
    assert_eq!((owed(&sandbox).len(), problems(&sandbox).len()), (1, 0));
    std::fs::write(sandbox.path("flat.conf"), own).unwrap();
    sandbox.command(&["sweep", "--debts", "--yes"]).succeeded();
    assert_eq!((owed(&sandbox).len(), sandbox.held().len()), (0, 0));
}

#[test]
fn a_thousand_debts_make_no_call_slow() {
    let (sandbox, Some(living)) = (Sandbox::new(), super::living()) else { return };
    if !has_strace() {
        return skipped!("strace is missing");
    }
    run(&sandbox, "ADD", "c1", Some(&living)).succeeded();
    fail_to_del(&sandbox, "c1", Some(&living));
    let path = named(&sandbox);
    let text = std::fs::read_to_string(&path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    for number in 0..1000 {
        let copy = path.with_file_name(format!("{number:016x}{}", &name[16..]));
        std::fs::write(copy, text.replace("c1", &format!("c{number}"))).unwrap();
    }
    let trace = sandbox.path("trace");
    let wrapper = ["strace", "-f", "-qq", "-e", "trace=openat", "-o", trace.to_str().unwrap()];
    super::call(&sandbox, "ADD", "other", None).run_under(&wrapper).succeeded();
    let trace = std::fs::read_to_string(&trace).unwrap();
    let opened = trace.lines().filter(|line| line.contains(&name[16..])).count();
    assert!(opened <= 40, "{opened}");
}

#[test]
fn where_nothing_was_ever_owed_a_call_looks_once() {
    if !has_strace() {
        return skipped!("strace is missing");
    }
    let sandbox = Sandbox::new();
    for verb in ["ADD", "ADD", "DEL", "DEL"] {
        let trace = sandbox.path("trace");
        let wrapper = ["strace", "-f", "-qq", "-o", trace.to_str().unwrap()];
        super::call(&sandbox, verb, "c1", None).run_under(&wrapper).succeeded();
        let trace = std::fs::read_to_string(&trace).unwrap();
        let looks: Vec<&str> = trace.lines().filter(|line| line.contains("/debts\"")).collect();
        assert!(looks.len() == 1 && looks[0].contains("ENOENT"), "{verb}: {looks:?}");
    }
}

#[test]
fn where_nothing_can_be_noted_the_error_says_so() {
    let sandbox = Sandbox::new();
    run(&sandbox, "ADD", "c1", None).succeeded();
    sandbox.write("debts", "no directory");
    let failed = fail_to_del(&sandbox, "c1", None);
    assert!(failed.details().contains("this node cannot note a debt for the DEL"), "{failed:?}");
    // If the path is not a directory, there are no debts. If it cannot be read, that is an error.
    assert!(
        sandbox.command(&["list", "--debts", "-o", "json"]).succeeded().stdout.starts_with("[]")
    );
    std::fs::remove_file(sandbox.path("debts")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("debts"), sandbox.path("debts")).unwrap();
    let unknown = sandbox.command(&["list", "--debts", "-o", "json"]);
    assert!(
        unknown.status == Some(1) && unknown.stderr.contains("cannot read the debts of this node"),
        "{unknown:?}"
    );
    sandbox.command(&["list"]).succeeded();
    run(&sandbox, "DEL", "c1", None).succeeded();
    assert_eq!(sandbox.held().len(), 0);
}
