//! The image of `deploy/Containerfile`: built as the document says, and its content. pod.rs runs
//! what is in it.

use super::chart::kustomized;
use crate::support::sandbox::{Ended, HEREABOUTS, Sandbox};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Returns a command that builds images in a store of its own.
fn buildah(sandbox: &Sandbox, args: &[&str]) -> std::io::Result<Ended> {
    let mut command = Command::new("buildah");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--storage-driver", "vfs"]);
    command
        .arg("--root")
        .arg(sandbox.path("images"))
        .arg("--runroot")
        .arg(sandbox.path("images-run"));
    command.args(args).output().map(Ended::from)
}

fn below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(below(&path));
        }
    }
    found
}

#[test]
fn the_image_holds_the_executable_and_starts_what_the_daemon_set_does() {
    let sandbox = Sandbox::new();
    if let Err(error) = buildah(&sandbox, &["--version"]) {
        return skipped!("buildah: {error}");
    }
    let objects = match kustomized("node") {
        Ok(objects) => objects,
        Err(reason) => return skipped!("{reason}"),
    };
    let bin = sandbox.path("context/target/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::copy(HEREABOUTS, bin.join("hereabouts")).unwrap();
    // The controller is not built with this feature set. Its place in the image is what counts.
    std::fs::copy(HEREABOUTS, bin.join("hereabouts-controller")).unwrap();
    let context = sandbox.path("context").display().to_string();
    let build = [
        "build",
        "--isolation",
        "chroot",
        "--file",
        "deploy/Containerfile",
        "--tag",
        "hereabouts:test",
        &context,
    ];
    buildah(&sandbox, &build).unwrap().succeeded();

    let image = "localhost/hereabouts:test";
    let inspected = buildah(&sandbox, &["inspect", "--type", "image", image]).unwrap().document();
    let settings = &inspected["OCIv1"]["config"];
    let words = |list: &Value| -> Vec<String> { serde_json::from_value(list.clone()).unwrap() };
    let starts = [words(&settings["Entrypoint"]), words(&settings["Cmd"])].concat();
    let daemon_set = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    let container = &daemon_set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["command"], json!(starts));
    assert_eq!(settings["Env"], json!(["PATH=/bin"]));

    let made = buildah(&sandbox, &["from", "--pull-never", image]).unwrap();
    made.succeeded();
    let mounted = buildah(&sandbox, &["mount", made.stdout.trim()]).unwrap();
    mounted.succeeded();
    let root = mounted.stdout.trim();
    let mut files = below(Path::new(root));
    files.sort();
    let expected = ["/bin", "/bin/hereabouts", "/hereabouts-controller"];
    assert_eq!(files, expected.map(|path| format!("{root}{path}")));
    // Nothing else is in it: the executable needs no library.
    let started = Ended::from(
        Command::new("chroot").args([root, "/bin/hereabouts", "--version"]).output().unwrap(),
    );
    assert_eq!(started.succeeded().stdout, concat!("hereabouts ", env!("CARGO_PKG_VERSION"), "\n"));
}
