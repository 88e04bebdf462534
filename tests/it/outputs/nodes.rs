//! `config check`, and `install` and `uninstall` for a store of files.

use super::RANGE;
use crate::support::sandbox::configuration;
use crate::support::transcript::{Transcript, sandbox};

#[test]
fn config_check_prints_this() {
    let sandbox = sandbox();
    let mut seen = Transcript::new(&sandbox);
    let path = sandbox.path("net.json").display().to_string();
    let mut check = |what: &str, text: &str| {
        sandbox.write("net.json", text);
        seen.note(what);
        seen.run(&sandbox, &["config", "check", &path]);
    };
    check("one range", &configuration(RANGE));
    check(
        "all of it",
        &configuration(
            r#""ipRanges":[{"range":"10.1.2.0/24","exclude":["10.9.0.0/24"]},{"range":"fd00::/64"}],"addresses":[{"address":"10.9.9.9/24"}],
        "exclude":["10.9.9.9/32"],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1"},{"dst":"10.0.0.0/8"}],"network_name":"blue",
        "enable_overlapping_ranges":false,"log_file":"/etc/passwd""#,
        ),
    );
    check(
        "alternatives",
        &configuration(r#""ranges":[[{"subnet":"10.1.2.0/30"},{"subnet":"10.1.3.0/30"}]]"#),
    );
    check(
        "nothing is left",
        &configuration(r#""range":"10.1.2.0/30","gateway":"10.1.2.1","exclude":["10.1.2.2/32"]"#),
    );
    check("one mistake", &configuration(r#""range":"10.0.0.0/33""#));
    check(
        "several mistakes",
        &configuration(
            r#""range":"10.0.0.0/33","exclude":["x"],"routes":[{"dst":"default"}],"gatway":"10.0.0.1","log_level":"loud""#,
        ),
    );
    check("no ipam", r#"{"cniVersion":"1.1.0","name":"a","type":"macvlan"}"#);
    check(
        "no name",
        r#"{"cniVersion":"1.1.0","type":"macvlan","ipam":{"type":"whereabouts","range":"10.1.2.0/24"}}"#,
    );
    check("no JSON", "{");
    let pool = "apiVersion: hereabouts.dev/v1alpha1\nkind: IPPool\nmetadata: {name: blue}\nspec:\n  scope: wire\n  subnets:\n  - subnet: 10.10.10.0/24\n    gateway: 10.10.10.1\n    addresses: [10.10.10.2-10.10.10.100, 10.10.10.102]\n    exclude: [{addresses: 10.10.10.7, reason: a printer}]\n  - subnet: fd00:10::/64\n  namespaces: [default]\n  nodeSelector: {matchLabels: {zone: a}}\n  reservations: [{pod: default/db-0, address: 10.10.10.40}]\n";
    check("a pool", pool);
    let network = configuration(r#""pools":["blue","red"]"#);
    check("a network whose pools are not on this machine", &network);
    std::fs::create_dir(sandbox.path("pools")).unwrap();
    sandbox.write("pools/blue.yaml", pool);
    check("a network whose pool is on this node", &network);
    sandbox.write("flat.conf", "{}");
    check(
        "no store",
        r#"{"cniVersion":"1.1.0","name":"a","type":"macvlan","ipam":{"type":"whereabouts","range":"10.1.2.0/24"}}"#,
    );
    seen.run(&sandbox, &["config", "check", "/nowhere/net.json"]);
    seen.run(&sandbox, &["config", "check", &path, "--data-dir", "/x"]);
    seen.assert("config-check");
}

#[test]
fn install_and_uninstall_print_this() {
    let sandbox = sandbox();
    let mut seen = Transcript::new(&sandbox);
    let (bin, conf, store) =
        (sandbox.path("bin"), sandbox.path("net.d"), sandbox.store().display().to_string());
    let run = |seen: &mut Transcript, args: &[&str]| {
        let mut call = sandbox.command_call(args);
        call.by(&crate::install::node::EXECUTABLE);
        call.args.extend(["--mount-namespace", "/proc/self/ns/mnt"].map(str::to_owned));
        call.set("CNI_BIN_DIR", &bin).set("CNI_CONF_DIR", &conf).set("NODENAME", "n1");
        let ended = call.run();
        seen.keep(args, &ended);
    };
    let install = ["install", "--data-dir", &store];
    run(&mut seen, &install);
    std::fs::create_dir(&bin).unwrap();
    for args in [
        &["install"][..],
        &["install", "--check"],
        &install,
        &install,
        &["install", "--check"],
        &["install", "--data-dir", &store, "--settings", "{"],
        &["install", "--data-dir", &store, "--settings", r#"{"nodename":"n1"}"#],
        &["install", "--kubeconfig", "/nowhere/k", "--settings", r#"{"datastore":"file"}"#],
        &["install", "--server", "http://x"],
        &["uninstall", "--check"],
        &["uninstall"],
        &["uninstall"],
        &["uninstall", "--check"],
    ] {
        run(&mut seen, args);
    }
    seen.note("pods hold addresses");
    run(&mut seen, &install);
    let mut add = sandbox.call("ADD");
    add.set("HEREABOUTS_CONFIG", conf.join("hereabouts.d/hereabouts.conf"))
        .stdin(configuration(RANGE))
        .run()
        .succeeded();
    run(&mut seen, &["uninstall"]);
    std::fs::remove_dir_all(sandbox.store()).unwrap();
    seen.note("the store is gone");
    run(&mut seen, &["uninstall"]);
    run(&mut seen, &["uninstall", "--force"]);
    seen.assert("install");
}
