//! Files that a network configuration names: logs, a second flat file, a
//! resolv.conf. Its author is not root.

use crate::support::sandbox::{Call, Sandbox, configuration};
use std::path::Path;

const RANGE: &str = r#""range":"10.9.0.0/24""#;

fn needs_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped!("needs root for directories of its own");
    }
    root
}

fn add(sandbox: &Sandbox, container: &str, ipam: &str) -> Call {
    let mut call = sandbox.call("ADD");
    call.set("CNI_CONTAINERID", container).stdin(configuration(ipam));
    call
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A network configuration could append lines to any file below /var/log.
#[test]
fn a_network_configurations_log_goes_only_to_a_file_that_hereabouts_made() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("log/hereabouts/sub")).unwrap();
    let foreign = ["auth.log", "hereabouts/theirs.log", "hereabouts/sub/theirs.log"];
    for name in foreign {
        sandbox.write(&format!("log/{name}"), "Listening\n");
    }
    std::os::unix::fs::symlink("../auth.log", sandbox.path("log/hereabouts/link.log")).unwrap();
    std::os::unix::fs::symlink("..", sandbox.path("log/hereabouts/up")).unwrap();
    nix::unistd::mkfifo(&sandbox.path("log/hereabouts/fifo"), nix::sys::stat::Mode::S_IRWXU)
        .unwrap();
    let with = |container: &str, file: &str| {
        let mut call = add(&sandbox, container, &format!(r#"{RANGE},"log_file":"{file}""#));
        call.seeing("/var/log", &sandbox.path("log"));
        call.run()
    };
    let refused = foreign.into_iter().chain([
        "hereabouts/link.log",
        "hereabouts/up/new.log",
        "hereabouts/fifo",
        "hereabouts",
        "hereabouts/a\\nb",
        "new.log",
    ]);
    for (at, name) in refused.enumerate() {
        let ended = with(&format!("c{at}"), &format!("/var/log/{name}"));
        // Only a file that cannot be opened is reported in each call.
        let may_be_named = name.starts_with("hereabouts/") && !name.contains('\\');
        assert_eq!(
            ended.succeeded().stderr.lines().count(),
            usize::from(may_be_named),
            "{name}: {ended:?}"
        );
    }
    for name in foreign {
        assert_eq!(read(&sandbox.path(&format!("log/{name}"))), "Listening\n", "{name}");
    }
    assert!(!sandbox.path("log/new.log").exists());
    for container in ["first", "second"] {
        assert_eq!(with(container, "/var/log/hereabouts/ours.log").succeeded().stderr, "");
    }
    let ours = read(&sandbox.path("log/hereabouts/ours.log"));
    assert!(ours.contains("first") && ours.contains("second"), "{ours}");

    // The directory is created if it is missing.
    std::fs::remove_dir_all(sandbox.path("log/hereabouts")).unwrap();
    assert_eq!(with("third", "/var/log/hereabouts/ours.log").succeeded().stderr, "");
    assert!(read(&sandbox.path("log/hereabouts/ours.log")).contains("third"));

    // The same below allowed_paths, where a store may be.
    let flat = sandbox.flat("n1").replacen(
        '{',
        &format!(r#"{{"allowed_paths":["{}"],"#, sandbox.root.display()),
        1,
    );
    sandbox.write("flat.conf", &flat);
    let format = read(&sandbox.path("store/format"));
    with("fourth", sandbox.path("store/format").to_str().unwrap()).succeeded();
    assert_eq!(read(&sandbox.path("store/format")), format);
    with("fifth", sandbox.path("allowed.log").to_str().unwrap()).succeeded();
    assert!(read(&sandbox.path("allowed.log")).contains("fifth"));
}

#[test]
fn values_in_a_log_are_escaped() {
    let sandbox = Sandbox::new();
    let log = sandbox.path("own.log");
    sandbox.write(
        "flat.conf",
        &sandbox.flat("n1").replacen('{', &format!(r#"{{"log_file":"{}","#, log.display()), 1),
    );
    sandbox
        .add("c1", &format!(r#"{RANGE},"network_name":"x sshd[7]: Failed password\u202e""#))
        .succeeded();
    sandbox.add("c2", &format!(r#"{RANGE},"network_name":"x\nforged line\u001b[2J""#)).code();
    let text = read(&log);
    assert!(
        text.lines().all(|line| line.starts_with("20")) && !text.contains(['\u{1b}', '\u{202e}']),
        "{text}"
    );
    assert!(text.contains(r#"scope="x sshd[7]: Failed password"#), "{text}");
}

/// Opening a watchdog starts it.
#[test]
fn what_is_no_regular_file_is_never_opened() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let keys = ["configuration_path", "resolvConf", "log_file"];
    for (at, (key, path)) in keys
        .iter()
        .flat_map(|key| [(key, "/dev/ptmx".to_owned()), (key, fifo.display().to_string())])
        .enumerate()
    {
        let call = add(&sandbox, &format!("c{at}"), &format!(r#"{RANGE},"{key}":"{path}""#));
        let ended = call.run_under(&["strace", "-f", "-e", "trace=open,openat"]);
        for line in ended
            .stderr
            .lines()
            .filter(|line| line.contains("/ptmx") || line.contains("/fifo"))
            .filter(|line| line.contains("open"))
        {
            assert!(line.contains("O_PATH"), "{line}");
        }
        let opened_again =
            ended.stderr.lines().filter(|line| line.contains("/proc/self/fd/")).count();
        assert!(opened_again <= 1 + 2, "{ended:?}");
    }
    // The operator's own file is checked before it is opened, too.
    let mut call = add(&sandbox, "own", RANGE);
    call.set("HEREABOUTS_CONFIG", "/dev/ptmx");
    let ended = call.run();
    assert_eq!(
        (ended.code(), ended.details().contains("not a regular file")),
        (5, true),
        "{ended:?}"
    );
}

#[test]
fn a_second_flat_file_is_never_read_from_proc_or_sysfs() {
    let sandbox = Sandbox::new();
    let link = sandbox.path("link");
    std::os::unix::fs::symlink(
        format!("/proc/self/root{}", sandbox.path("planted.conf").display()),
        &link,
    )
    .unwrap();
    sandbox.write("planted.conf", r#"{"range":"10.7.0.0/24"}"#);
    for (path, kind) in [
        (link.to_str().unwrap(), "proc"),
        ("/proc/self/mountinfo", "proc"),
        ("/sys/kernel/notes", "sysfs"),
    ] {
        let ended = sandbox.add("c1", &format!(r#"{RANGE},"configuration_path":"{path}""#));
        assert_eq!(
            (ended.code(), ended.details().contains(&format!("is on {kind}"))),
            (5, true),
            "{ended:?}"
        );
    }
    let plain = sandbox.path("planted.conf");
    assert_eq!(
        sandbox.add("c1", &format!(r#""configuration_path":"{}""#, plain.display())).addresses(),
        ["10.7.0.1"]
    );
}

/// Cause: an error quotes what is wrong. Effect: a network configuration names a file of root as
/// its flat file, and shows its content in the pod's events. Fix: for such a file, an error shows
/// only the kind of a value.
#[test]
fn what_stands_in_a_file_that_a_network_named_is_not_shown() {
    let sandbox = Sandbox::new();
    let contents = [
        r#"{"range":"hunter2"}"#,
        r#"{"ranges":["hunter2"]}"#,
        r#"{"rang":"hunter2"}"#,
        r#"{"routes":[{"dst":"hunter2"}],"range":"10.7.0.0/24"}"#,
        r#"{"deadlines":{"hunter2":"hunter2"},"range":"10.7.0.0/24"}"#,
        r#"{"addresses":[{"addres":"hunter2"}]}"#,
        r#"{"hunter2":1,"hunter2":2}"#,
        "hunter2",
    ];
    for content in contents {
        let planted = sandbox.write("planted.conf", content);
        let ended = sandbox.add("c1", &format!(r#""configuration_path":"{}""#, planted.display()));
        assert!(!format!("{ended:?}").contains("hunter2"), "{content}: {ended:?}");
        assert!(ended.details().contains("planted.conf"), "{content}: {ended:?}");
    }
    // Values of the network configuration and of the node's own file are shown.
    assert!(sandbox.add("c1", r#""range":"hunter2""#).details().contains("hunter2"));
    sandbox.write("flat.conf", &sandbox.flat("n1").replacen('{', r#"{"sticky":"hunter2","#, 1));
    assert!(sandbox.add("c1", RANGE).details().contains("hunter2"));
}

#[test]
fn resolv_conf_is_below_etc_or_run_systemd() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("etc")).unwrap();
    let elsewhere = sandbox.write("elsewhere", "nameserver 192.0.2.53\n");
    sandbox.write("etc/plain", "nameserver 192.0.2.54\n");
    for name in ["resolv.conf", "link"] {
        std::os::unix::fs::symlink(&elsewhere, sandbox.path(&format!("etc/{name}"))).unwrap();
    }
    let named = |container: &str, path: &str| {
        let mut call = add(&sandbox, container, &format!(r#"{RANGE},"resolvConf":"{path}""#));
        call.seeing("/etc", &sandbox.path("etc"));
        call.run()
    };
    for path in [elsewhere.to_str().unwrap(), "/etc/../etc/plain", "etc/plain", "/etc"] {
        assert_eq!(named("c1", path).code(), 7, "{path}");
    }
    let led = named("c1", "/etc/link");
    assert_eq!((led.code(), led.details().contains("it leads to")), (5, true), "{led:?}");
    assert_eq!(named("c1", "/etc/plain").document()["dns"]["nameservers"][0], "192.0.2.54");
    assert_eq!(named("c2", "/etc/resolv.conf").document()["dns"]["nameservers"][0], "192.0.2.53");
    let flat = sandbox.flat("n1").replacen(
        '{',
        &format!(r#"{{"resolvConf":"{}","#, elsewhere.display()),
        1,
    );
    sandbox.write("flat.conf", &flat);
    assert_eq!(sandbox.add("c3", RANGE).document()["dns"]["nameservers"][0], "192.0.2.53");
}

/// A FUSE filesystem whose daemon answers nothing, not even its first message: a process that uses
/// it waits until it is killed.
const SILENT: &str = r#"exec 9<>/dev/fuse && mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 none "$0" &&
    exec timeout -s KILL 300 "$@""#;

/// Cause: a call opened a file on a pod's own FUSE filesystem. Effect: the call never ended. Fix:
/// the mount is checked before any request to the filesystem.
#[test]
fn a_filesystem_whose_daemon_never_answers_is_not_asked() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    for directory in ["fuse", "etc/fuse", "log/hereabouts/fuse", "log/plain"] {
        std::fs::create_dir_all(sandbox.path(directory)).unwrap();
    }
    let seen =
        |container: &str, key: &str, file: &str, over: Option<(&str, &str)>, mounted: &str| {
            let mut call = add(&sandbox, container, &format!(r#"{RANGE},"{key}":"{file}""#));
            if let Some((path, content)) = over {
                call.seeing(path, &sandbox.path(content));
            }
            call.through(&["unshare", "--mount", "sh", "-c", SILENT, mounted]).run()
        };
    let fuse = sandbox.path("fuse").display().to_string();
    std::os::unix::fs::symlink(format!("{fuse}/file"), sandbox.path("link")).unwrap();
    for file in [format!("{fuse}/file"), fuse.clone(), sandbox.path("link").display().to_string()] {
        let ended = seen("c1", "configuration_path", &file, None, &fuse);
        assert_eq!((ended.code(), ended.details().contains("is on fuse")), (5, true), "{ended:?}");
    }
    let ended =
        seen("c1", "resolvConf", "/etc/fuse/resolv.conf", Some(("/etc", "etc")), "/etc/fuse");
    assert_eq!((ended.code(), ended.details().contains("is on fuse")), (5, true), "{ended:?}");
    for (at, mounted) in ["/var/log/hereabouts", "/var/log/hereabouts/fuse"].into_iter().enumerate()
    {
        let ended = seen(
            &format!("log{at}"),
            "log_file",
            "/var/log/hereabouts/fuse/x.log",
            Some(("/var/log", "log")),
            mounted,
        );
        assert!(ended.succeeded().stderr.contains("is on fuse"), "{ended:?}");
    }
}
