//! Data of a later version: a whole store is refused, and one record costs one address. Every verb
//! and command says what to install, and changes nothing.

use super::tree::{As, Tree};
use super::{RANGE, call, open_kept, rows};
use crate::support::sandbox::{Ended, Sandbox, configuration};

const FORMAT: &str = "format 2, but this version reads only up to 1";

const INSTALL: &str = "install a newer hereabouts";

fn says_what_to_install(text: &str) -> bool {
    text.contains(FORMAT) && text.contains(INSTALL)
}

const VERBS: &[&str] = &["ADD", "DEL", "CHECK", "GC", "STATUS"];

/// Commands on the store, and how each ends if one record is of a later version. A new command
/// needs a row here.
const COMMANDS: &[(&[&str], i32)] = &[
    (&["list"], 1),
    (&["list", "--node", "n1"], 1),
    (&["show", "10.1.2.3"], 1),
    (&["usage", "$FILE"], 0),
    (&["release", "10.1.2.3", "--yes"], 1),
    // The container's other address is freed.
    (&["release", "--container", "c2", "--yes"], 0),
    (&["verify"], 1),
    (&["repair", "--yes"], 0),
    (&["sweep", "--dry-run"], 0),
];

/// Returns everything that CHECK and GC need in addition to the range.
fn stdin() -> String {
    let more = r#"{"cni.dev/valid-attachments":[],
        "prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.3/24"},{"address":"2001:db8::1/64"}]},"#;
    configuration(RANGE).replacen('{', more, 1)
}

fn verb(sandbox: &Sandbox, verb: &str, container: &str) -> Ended {
    call(sandbox, verb, container, "", RANGE).stdin(stdin()).run()
}

fn command(sandbox: &Sandbox, args: &[&str]) -> Ended {
    let file = sandbox.write("net.conf", &configuration(RANGE)).to_str().unwrap().to_owned();
    let args: Vec<&str> =
        args.iter().map(|arg| if *arg == "$FILE" { &*file } else { arg }).collect();
    sandbox.command(&args)
}

#[test]
fn a_newer_store_is_refused_by_every_verb_and_command() {
    let sandbox = open_kept(As::Written);
    std::fs::write(
        sandbox.store().join("format"),
        "{\"format\":2,\"id\":{\"of\":\"another shape\"}}\n",
    )
    .unwrap();
    let before = Tree::read(&sandbox.store());
    for name in VERBS {
        let ended = verb(&sandbox, name, "c2");
        // STATUS has its own codes: no ADD would be served.
        assert_eq!(ended.code(), if *name == "STATUS" { 50 } else { 104 }, "{name}: {ended:?}");
        // A DEL also says what happens to its debt.
        assert!(ended.details().contains(&format!("store has {FORMAT}")), "{name}: {ended:?}");
    }
    for (args, _) in COMMANDS {
        let ended = command(&sandbox, args);
        assert_eq!((ended.status, &*ended.stdout), (Some(1), ""), "{args:?}: {ended:?}");
        assert!(says_what_to_install(&ended.stderr), "{args:?}: {ended:?}");
    }
    assert_eq!(Tree::read(&sandbox.store()), before, "something was written");
}

/// Returns the kept store in which the first record of c2 is of a later version.
fn with_newer_record(how: As, text: &str) -> Sandbox {
    let sandbox = open_kept(how);
    for name in ["scopes/@/10.1.2.0_24/10.1.2.3", "nodes/n1/net1/c2@net1.0"] {
        std::fs::write(sandbox.store().join(name), text).unwrap();
    }
    let flat =
        sandbox.flat("n1").replacen('{', &format!("{{\"log_file\":{:?},", sandbox.path("log")), 1);
    sandbox.write("flat.conf", &flat);
    sandbox
}

/// Returns a record of another shape, and one of today's shape with one more key.
fn records() -> [String; 2] {
    let today =
        std::fs::read_to_string(super::directory().join("store/scopes/@/10.1.2.0_24/10.1.2.3"))
            .unwrap();
    ["{\"format\":2,\"lease\":[10,1,2,3]}\n".to_owned(), today.replacen('{', "{\"format\":2,", 1)]
}

#[test]
fn a_newer_record_costs_its_address_and_no_other() {
    for how in [As::Written, As::Copied] {
        for text in records() {
            let sandbox = with_newer_record(how, &text);
            for name in ["ADD", "CHECK"] {
                let ended = verb(&sandbox, name, "c2");
                assert_eq!(ended.code(), 104, "{name}: {ended:?}");
                assert!(says_what_to_install(&ended.details()), "{name}: {ended:?}");
            }
            verb(&sandbox, "STATUS", "").succeeded();
            assert_eq!(verb(&sandbox, "ADD", "c20").addresses(), ["10.1.2.6"]);
            for (args, status) in COMMANDS {
                let ended = command(&sandbox, args);
                let said = format!("{}{}", ended.stdout, ended.stderr);
                assert!(
                    ended.status == Some(*status) && says_what_to_install(&said),
                    "{args:?}: {ended:?}"
                );
                assert!(!said.contains("damaged"), "{args:?}: {ended:?}");
            }
            for name in ["DEL", "GC"] {
                let _ = std::fs::remove_file(sandbox.path("log"));
                verb(&sandbox, name, "c2").succeeded();
                let log = std::fs::read_to_string(sandbox.path("log")).unwrap();
                assert!(says_what_to_install(&log), "{name}: {log}");
            }
            // GC freed everything that belongs to this node and is dead, except this one.
            let listed = sandbox.command(&["list", "-o", "json"]);
            assert_eq!(listed.document().as_array().unwrap().len(), 1, "{listed:?}");
            let names = ["scopes/@/10.1.2.0_24/10.1.2.3", "nodes/n1/net1/c2@net1.0"];
            for name in names {
                assert_eq!(
                    std::fs::read_to_string(sandbox.store().join(name)).unwrap(),
                    text,
                    "{how:?} {name}"
                );
            }
            // When the record of the newer version is gone, everything works.
            names.iter().for_each(|name| std::fs::remove_file(sandbox.store().join(name)).unwrap());
            assert_eq!(rows(&sandbox, &[]), ["10.1.2.5/24 null - c9 n2 dynamic"]);
        }
    }
}
