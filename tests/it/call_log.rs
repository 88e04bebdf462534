//! The log of calls: every line can be found by the pod's name and uid, and one line per call
//! states the outcome.

use crate::support::sandbox::{Call, Sandbox, configuration};
use std::path::PathBuf;

const RANGE: &str = r#""range":"10.1.2.0/24""#;
const UID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";

/// Returns whether a line names our pod.
fn is_found(line: &str) -> bool {
    line.contains("pod=default/web-0") && line.contains(&format!("uid={UID}"))
}

struct Logged {
    sandbox: Sandbox,
    log: PathBuf,
}

impl Logged {
    fn at(level: &str) -> Self {
        let sandbox = Sandbox::new();
        let log = sandbox.path("calls.log");
        let keys = format!(r#"{{"log_file":"{}","log_level":"{level}","#, log.display());
        sandbox.write("flat.conf", &sandbox.flat("n1").replacen('{', &keys, 1));
        Self { sandbox, log }
    }

    /// Names a pod as containerd and Multus do.
    fn call(&self, verb: &str) -> Call {
        let mut call = self.sandbox.call(verb);
        call.set(
            "CNI_ARGS",
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID={UID}"
            ),
        );
        call.stdin(configuration(RANGE));
        call
    }

    /// Returns the lines that a call adds.
    fn lines_of(&self, call: &mut Call) -> Vec<String> {
        let _ = std::fs::remove_file(&self.log);
        call.run();
        std::fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// Cause: the log had neither namespace, name nor uid of the pod, and neither the outcome of a call
/// nor its code and duration.
#[test]
fn one_line_for_each_call_says_whom_it_was_about_what_came_of_it_and_when() {
    let logged = Logged::at("verbose");
    let expected = [
        ("ADD", Some((" INFO ", "addresses=10.1.2.1/24 scope=(unnamed) code=0 time="))),
        ("ADD", Some((" INFO ", "addresses=10.1.2.1/24 scope=(unnamed) code=0 time="))),
        ("DEL", Some((" INFO ", "addresses=10.1.2.1/24 scope=(unnamed) code=0 time="))),
        ("DEL", None),
    ];
    for (verb, wanted) in expected {
        let lines = logged.lines_of(&mut logged.call(verb));
        assert_eq!(lines.len(), usize::from(wanted.is_some()), "{verb}: {lines:#?}");
        let Some((level, words)) = wanted else { continue };
        let line = &lines[0];
        let about = format!("verb={verb} ");
        assert!(
            is_found(line)
                && [level, &about, words, "container=abc123 interface=net1 network="]
                    .iter()
                    .all(|part| line.contains(part)),
            "{line}"
        );
    }
    // A mistake of the runtime is logged with the pod, too.
    let mut wrong = logged.call("ADD");
    wrong
        .stdin(configuration(r#""range":"10.1.2.0/24","addresses":[{"address":"10.1.2.255/24"}]"#));
    let lines = logged.lines_of(&mut wrong);
    assert!(
        lines.iter().all(|line| is_found(line))
            && lines.last().is_some_and(|line| line.contains("code=101")),
        "{lines:#?}"
    );
}

/// Cause: /var/log/hereabouts, which the documents name, does not exist on a node before the first
/// log. Effect: each call wrote to stderr that there was no log.
#[test]
fn the_directory_of_the_log_is_made_where_it_alone_is_missing() {
    let mut logged = Logged::at("verbose");
    for (file, is_written) in [("logs/calls.log", true), ("no/such/calls.log", false)] {
        let flat = std::fs::read_to_string(logged.sandbox.path("flat.conf")).unwrap();
        let log = logged.sandbox.path(file);
        logged.sandbox.write(
            "flat.conf",
            &flat.replace(&logged.log.display().to_string(), &log.display().to_string()),
        );
        logged.log = log;
        let ended = logged.call("ADD").run();
        assert_eq!(logged.log.exists(), is_written, "{file}");
        assert_eq!(ended.succeeded().stderr.contains("cannot open"), !is_written, "{ended:?}");
    }
}

#[test]
fn what_held_nothing_and_what_only_asked_is_there_for_who_looks_closely() {
    let logged = Logged::at("debug");
    for verb in ["ADD", "DEL", "DEL"] {
        let lines = logged.lines_of(&mut logged.call(verb));
        assert!(!lines.is_empty() && lines.iter().all(|line| is_found(line)), "{verb}: {lines:#?}");
    }
    let last = |verb: &str| {
        let mut call = logged.call(verb);
        call.stdin(configuration(RANGE).replace("1.0.0", "1.1.0").replacen(
            '{',
            r#"{"cni.dev/valid-attachments":[],"#,
            1,
        ));
        logged.lines_of(&mut call).pop().unwrap_or_default()
    };
    for verb in ["DEL", "STATUS", "GC"] {
        let line = last(verb);
        let words = format!("verb={verb} ");
        assert!(
            line.contains(" DEBUG ")
                && line.contains(&words)
                && line.contains(r#"addresses="none" code=0 time="#),
            "{verb}: {line}"
        );
    }
    let quiet = Logged::at("verbose");
    quiet.call("ADD").run().succeeded();
    quiet.call("DEL").run().succeeded();
    for verb in ["STATUS", "GC"] {
        let mut call = quiet.call(verb);
        call.stdin(configuration(RANGE).replace("1.0.0", "1.1.0").replacen(
            '{',
            r#"{"cni.dev/valid-attachments":[],"#,
            1,
        ));
        assert_eq!(quiet.lines_of(&mut call), [""; 0], "{verb}");
    }
}

/// A DEL ignores arguments that it cannot parse.
#[test]
fn arguments_that_are_no_arguments_leave_the_pod_out() {
    let logged = Logged::at("debug");
    let mut call = logged.call("DEL");
    call.set("CNI_ARGS", "K8S_POD_NAME=a=b=c");
    let lines = logged.lines_of(&mut call);
    assert!(
        lines.iter().all(|line| line.contains("verb=DEL") && !line.contains("pod="))
            && !lines.is_empty(),
        "{lines:#?}"
    );
}
