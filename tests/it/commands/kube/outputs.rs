//! The full output of the commands on the Kubernetes store: tests/data/outputs has a file for each,
//! which `UPDATE_EXPECT=1` renews.

use super::{RANGE, Scene, forget_version, from_workstation};
use crate::support::sandbox::configuration;
use crate::support::transcript::Transcript;
use serde_json::json;
use std::fs;

#[test]
fn what_is_held_is_printed_so() {
    let Some(scene) = Scene::new() else { return };
    let mut seen = Transcript::new(&scene.sandbox);
    let network = scene.sandbox.write("net.json", &configuration(RANGE)).display().to_string();
    for args in [
        &["list"][..],
        &["list", "-o", "json"],
        &["list", "--node", "n2"],
        &["list", "--network", "net2"],
        &["list", "--pod", "default/web-0"],
        &["show", "10.1.2.1"],
        &["show", "10.1.2.9"],
        &["show", "10.1.2.77"],
        &["usage", &network],
        &["config", "check", &network],
    ] {
        seen.run(&scene.sandbox, args);
    }
    seen.assert("kubernetes-reading");

    let mut seen = Transcript::new(&scene.sandbox);
    let mut remote = |args: &[&str]| {
        let ended = from_workstation(&scene, args);
        seen.keep(&[args, &["--kubeconfig", "ADMIN"]].concat(), &ended);
    };
    for args in [
        &["show", "10.1.2.1"][..],
        &["verify"],
        &["repair", "--yes"],
        &["release", "--pod", "default/other-0", "--yes"],
        &["release", "--node", "n2"],
        &["release", "--node", "n2", "--yes"],
        &["release", "--node", "n2", "--yes"],
    ] {
        remote(args);
    }
    seen.run(
        &scene.sandbox,
        &["list", "--kubeconfig", scene.cluster.kubeconfig_of("nobody").to_str().unwrap()],
    );
    seen.assert("kubernetes-from-elsewhere");
}

#[test]
fn verify_sweep_and_repair_print_this() {
    let Some(scene) = Scene::new() else { return };
    let mut seen = Transcript::new(&scene.sandbox);
    seen.note("a sound store");
    seen.run(&scene.sandbox, &["verify"]);
    let next = |container: &str| scene.alive(container).run().addresses().remove(0);
    let (lost, unconfirmed, unknown, damaged) =
        (next("c11"), next("c12"), next("c13"), next("c14"));
    let (labels, second, late, given) = (next("c15"), next("c16"), next("c17"), "10.1.2.1");
    scene.delete(&lost);
    scene.change_entry(&unconfirmed, forget_version);
    fs::remove_file(scene.entry(&unknown)).unwrap();
    fs::write(scene.entry(&damaged), "[{").unwrap();
    scene.patch(&labels, &json!({"metadata": {"labels": {"hereabouts.dev/node": "x"}}}));
    scene.patch(&second, &json!({"spec": {"machine": "another"}}));
    scene.make_late(&late);
    scene.delete(given);
    scene.on_n2("c18", given).succeeded();
    // A record of a sandbox that is gone.
    scene.delete("10.1.2.2");
    fs::write(scene.state().join("@tmp/7.7"), "[{").unwrap();
    seen.note("a damaged store");
    for args in [
        &["verify"][..],
        &["verify", "-o", "json"],
        &["sweep", "--dry-run"],
        &["repair"],
        &["repair", "--yes"],
        &["sweep", "--yes"],
        &["verify"],
    ] {
        seen.run(&scene.sandbox, args);
    }
    seen.assert("kubernetes-verify");
}
