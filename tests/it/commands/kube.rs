//! The commands on the Kubernetes store: page by page, from a workstation, for a node that is off,
//! and after the definition was deleted. There is one cluster, used by one test at a time. Each
//! test begins with an empty store.

/// Addresses that claims hold.
mod claims;
/// What `verify` finds and `repair` repairs.
mod damages;
/// Records in doubt.
mod doubt;
/// The full output of all commands.
mod outputs;

use super::POD;
use crate::conformance::{claim, host, open, record};
use crate::support::cluster::{Cluster, Options};
use crate::support::living::Living;
use crate::support::sandbox::{Call, Ended, Sandbox, configuration, files_below};
use hereabouts::api_client::client::Client;
use hereabouts::environment::ProxyVariables;
use hereabouts::ipam::{Allocation, AllocationOrder};
use hereabouts::retry::Deadline;
use hereabouts::store::kube::KubeStore;
use hereabouts::store::{Access, Filter, Release, Store};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::Duration;

const RANGE: &str = r#""range":"10.1.2.0/24""#;
const ALL: &str = "/apis/hereabouts.dev/v1alpha1/ipallocations";

const THREE: &[&str] = &["10.1.2.1", "10.1.2.2", "10.1.2.9"];

/// `c1` holds 10.1.2.1 for the pod web-0 and is alive, `c2` holds 10.1.2.2 and is gone, both on
/// node n1. `c3` on node n2 holds 10.1.2.9.
struct Scene {
    cluster: &'static Cluster,
    sandbox: Sandbox,
    living: Living,
    _turn: MutexGuard<'static, ()>,
}

/// Returns an empty store, and the lock that one test at a time holds.
fn empty() -> Option<(&'static Cluster, Sandbox, MutexGuard<'static, ()>)> {
    static OWN: LazyLock<Result<Cluster, String>> =
        LazyLock::new(|| Cluster::own(Options::default()));
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match OWN.as_ref() {
        Ok(cluster) => Some((cluster, Sandbox::on(cluster), turn)),
        Err(reason) => {
            skipped!("{reason}");
            None
        }
    }
}

impl Scene {
    fn new() -> Option<Self> {
        let (cluster, sandbox, turn) = empty()?;
        let Some(living) = Living::new() else {
            skipped!("not root");
            return None;
        };
        let scene = Self { cluster, sandbox, living, _turn: turn };
        scene.alive("c1").set("CNI_ARGS", POD).run().succeeded();
        scene.sandbox.add("c2", RANGE).succeeded();
        scene.on_n2("c3", "10.1.2.9").succeeded();
        Some(scene)
    }

    /// Returns an ADD for a living sandbox.
    fn alive(&self, container: &str) -> Call {
        let mut call = self.sandbox.call("ADD");
        call.set("CNI_CONTAINERID", container)
            .set("CNI_NETNS", self.living.path())
            .stdin(configuration(RANGE));
        call
    }

    /// Makes an ADD of another node that requests an address.
    fn on_n2(&self, container: &str, address: &str) -> Ended {
        self.sandbox.write("n2.conf", &self.sandbox.flat("n2"));
        let mut call = self.sandbox.call("ADD");
        call.set("CNI_CONTAINERID", container)
            .set("HEREABOUTS_CONFIG", self.sandbox.path("n2.conf"));
        call.set("CNI_ARGS", format!("IP={address};K8S_POD_NAMESPACE=default;K8S_POD_NAME=other-0"))
            .stdin(configuration(RANGE))
            .run()
    }

    fn state(&self) -> PathBuf {
        self.sandbox.store().join("kubernetes/n1")
    }

    /// Returns the file of n1's node state for the attachment that has this address.
    fn entry(&self, address: &str) -> PathBuf {
        let directory = self.state().join("attachments");
        let mut files = fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path());
        files
            .find(|file| fs::read_to_string(file).unwrap().contains(&format!("\"{address}\"")))
            .unwrap()
    }

    fn change_entry(&self, address: &str, change: impl FnOnce(&mut Value)) {
        let entry = self.entry(address);
        let mut objects: Value = serde_json::from_slice(&fs::read(&entry).unwrap()).unwrap();
        change(&mut objects[0]);
        fs::write(entry, objects.to_string()).unwrap();
    }

    /// Changes the state as if the attachment had ended before the server handled its creation.
    fn make_late(&self, address: &str) {
        let entry = self.entry(address);
        let mut objects: Value = serde_json::from_slice(&fs::read(&entry).unwrap()).unwrap();
        forget_version(&mut objects[0]);
        let tombstones = json!([{"since": 1, "looked": 1, "object": objects[0]}]);
        fs::write(self.state().join("tombstones"), tombstones.to_string()).unwrap();
        fs::remove_file(entry).unwrap();
    }

    fn delete(&self, address: &str) {
        self.cluster.text(&["delete", "ipa", address]);
    }

    fn patch(&self, address: &str, patch: &Value) {
        self.cluster.text(&["patch", "ipa", address, "--type=merge", "-p", &patch.to_string()]);
    }

    /// Returns problem and path of all findings. The file of an attachment has no hash.
    fn findings(&self) -> Vec<(String, String)> {
        let ended = self.sandbox.command(&["verify", "-o", "json"]);
        let document = ended.document();
        let found = document["findings"].as_array().unwrap();
        assert_eq!(ended.status, Some(i32::from(!found.is_empty())), "{ended:?}");
        assert_eq!(document["store"], self.cluster.server());
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let short = |path: String| {
            if path.starts_with("attachments/") { "attachments/HASH".to_owned() } else { path }
        };
        found
            .iter()
            .map(|finding| (text(finding, "problem"), short(text(finding, "path"))))
            .collect()
    }

    /// Returns every object with its version, and every file of the state.
    fn all(&self) -> (String, Vec<String>) {
        let columns = "custom-columns=NAME:.metadata.name,UID:.metadata.uid,VERSION:.metadata.resourceVersion";
        let mut files = files_below(&self.state());
        files.retain(|file| !file.starts_with("locks/"));
        (self.cluster.text(&["get", "ipa", "-o", columns]), files)
    }
}

fn forget_version(object: &mut Value) {
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.remove("uid");
    metadata.remove("resourceVersion");
}

/// What `repair` does after the definition was deleted: it recreates records of living sandboxes,
/// names addresses that were given to others in the meantime, and forgets dead sandboxes.
#[test]
fn after_the_resource_was_deleted_repair_makes_again_what_lives() {
    let Some(scene) = Scene::new() else { return };
    scene
        .alive("c4")
        .set("CNI_ARGS", "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-1")
        .run()
        .succeeded();
    let before: Value =
        serde_json::from_str(&scene.cluster.text(&["get", "ipa", "10.1.2.1", "-o", "json"]))
            .unwrap();
    let crd = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crd");
    scene.cluster.text(&["delete", "-k", crd]);
    for command in [
        &["list"][..],
        &["verify"],
        &["repair", "--yes"],
        &["sweep", "--yes"],
        &["release", "--node", "n2", "--yes"],
    ] {
        let ended = scene.sandbox.command(command);
        assert!(
            ended.status == Some(1) && ended.stderr.contains("kubectl apply -k deploy/crd"),
            "{command:?} {ended:?}"
        );
    }
    scene.cluster.text(&["apply", "-k", crd]);
    scene.cluster.text(&[
        "wait",
        "--for=condition=Established",
        "crd/ipallocations.hereabouts.dev",
        "--timeout=60s",
    ]);
    scene.on_n2("c5", "10.1.2.3").succeeded();

    let asked = scene.sandbox.command(&["repair"]);
    assert!(asked.status == Some(2) && asked.stderr.contains("pass --yes to repair"), "{asked:?}");
    let repaired = scene.sandbox.command(&["repair", "--yes"]);
    assert!(
        repaired.succeeded().stdout.contains("recreated ipallocations/10.1.2.1\n"),
        "{repaired:?}"
    );
    let named = repaired.stderr.lines().find(|line| line.contains("10.1.2.3")).unwrap();
    assert!(
        named.contains("pod default/web-1") && named.contains("now held by pod default/other-0"),
        "{named}"
    );
    assert_eq!(scene.sandbox.held(), ["10.1.2.1", "10.1.2.3"]);
    let after: Value =
        serde_json::from_str(&scene.cluster.text(&["get", "ipa", "10.1.2.1", "-o", "json"]))
            .unwrap();
    assert_eq!(
        (&after["spec"], &after["metadata"]["labels"]),
        (&before["spec"], &before["metadata"]["labels"])
    );
    // The pod that lost its address ends, and frees nothing of the other pod.
    for container in ["c1", "c2", "c4"] {
        scene.sandbox.del(container, RANGE).succeeded();
    }
    assert_eq!(scene.sandbox.held(), ["10.1.2.3"]);
    assert_eq!(scene.findings(), []);
}

#[test]
fn sweep_frees_what_is_gone_and_nothing_of_a_second_machine() {
    let Some(scene) = Scene::new() else { return };
    scene.sandbox.add("c4", RANGE).succeeded();
    scene.patch("10.1.2.3", &json!({"spec": {"machine": "another"}}));
    scene.sandbox.add("c5", RANGE).succeeded();
    scene.delete("10.1.2.4");
    scene.alive("c6").run().succeeded();
    scene.make_late("10.1.2.5");
    let before = scene.all();
    let shown = scene.sandbox.command(&["sweep", "--dry-run"]);
    let lines: Vec<&str> = shown.succeeded().stdout.lines().map(str::trim).collect();
    assert!(lines.len() == 3 && lines[0].starts_with("10.1.2.2 "), "{shown:?}");
    assert!(
        lines[1] == "ipallocations/10.1.2.5: late-record" && lines[2].ends_with(": dangling-entry"),
        "{shown:?}"
    );
    assert!(shown.stderr.contains("another machine uses the node name n1"), "{shown:?}");
    assert_eq!(scene.all(), before);
    let swept = scene.sandbox.command(&["sweep", "--yes"]);
    assert_eq!(
        (swept.status, swept.stdout.as_str()),
        (Some(0), "released 10.1.2.2\n"),
        "{swept:?}"
    );
    assert_eq!(scene.sandbox.held(), ["10.1.2.1", "10.1.2.3", "10.1.2.9"]);
    let again = scene.sandbox.command(&["sweep", "--yes"]);
    assert!(again.status == Some(0) && again.stderr.contains("nothing to sweep"), "{again:?}");
}

/// Frees what was shown, and not what it has become since.
#[test]
fn the_record_of_a_dead_node_is_freed_as_it_was_shown() {
    let Some(scene) = Scene::new() else { return };
    let store = store(scene.cluster, &scene.sandbox, "n2").for_dead_node();
    let shown = || {
        store
            .list(&Filter { address: "10.1.2.9".parse().ok(), ..Filter::default() })
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
    };
    let release = |allocation: &Allocation| {
        let mut session =
            store.open(Access::Release, Deadline::after(Duration::from_secs(20))).unwrap();
        session.release_unchanged(allocation).unwrap()
    };
    let before = shown();
    scene.patch("10.1.2.9", &json!({"spec": {"bootID": "a later one"}}));
    assert_eq!(release(&before), Release::NotYours);
    assert_eq!(scene.sandbox.held(), THREE);
    assert_eq!(release(&shown()), Release::Done);
    assert_eq!(scene.sandbox.held(), ["10.1.2.1", "10.1.2.2"]);
}

/// Runs a command with a kubeconfig and nothing else: no node, no flat file.
fn from_workstation(scene: &Scene, args: &[&str]) -> Ended {
    let mut call = Call::bare();
    call.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    call.args.extend(["--kubeconfig".to_owned(), scene.cluster.kubeconfig().display().to_string()]);
    call.run()
}

#[test]
fn from_a_workstation_one_reads_and_releases_what_a_dead_node_held() {
    let Some(scene) = Scene::new() else { return };
    let (store, kubeconfig) = (scene.cluster.server(), scene.cluster.kubeconfig());
    for args in [
        &["list"][..],
        &["list", "-o", "json"],
        &["show", "10.1.2.1"],
        &["list", "--pod", "default/other-0"],
    ] {
        let (here, there) = (scene.sandbox.command(args), from_workstation(&scene, args));
        assert_eq!(
            there.stderr,
            format!("store: {store} ({})\n", kubeconfig.display()),
            "{args:?}"
        );
        let alive = |text: &str| {
            text.lines()
                .filter(|line| !line.starts_with("Alive:"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (there.status, alive(&there.stdout)),
            (Some(0), alive(&here.succeeded().stdout)),
            "{args:?}"
        );
    }
    let verified = from_workstation(&scene, &["verify"]);
    assert!(
        verified.succeeded().stdout.contains("3 records and 0 index entries")
            && verified.stderr.contains("only the objects were checked"),
        "{verified:?}"
    );
    for refused in [
        &["sweep", "--yes"][..],
        &["repair", "--yes"],
        &["release", "--pod", "default/other-0", "--yes"],
    ] {
        let ended = from_workstation(&scene, refused);
        assert!(ended.status == Some(1) && ended.stdout.is_empty(), "{ended:?}");
        assert!(
            ended.stderr.contains("without --kubeconfig")
                || ended.stderr.contains("pass --node n2"),
            "{ended:?}"
        );
    }
    let asked = from_workstation(&scene, &["release", "--node", "n2"]);
    assert!(
        asked.status == Some(2) && asked.stderr.contains("warning: node n2 must be off"),
        "{asked:?}"
    );
    let released = from_workstation(&scene, &["release", "--node", "n2", "--yes"]);
    assert_eq!(
        (released.status, released.stdout.as_str()),
        (Some(0), "released 10.1.2.9\n"),
        "{released:?}"
    );
    let again = from_workstation(&scene, &["release", "--node", "n2", "--yes"]);
    assert!(
        again.status == Some(0) && again.stderr.contains("node n2 holds no addresses;"),
        "{again:?}"
    );
    // The store does not know which nodes exist.
    let slip = from_workstation(&scene, &["release", "--node", "n22", "--yes"]);
    assert!(
        slip.status == Some(0) && slip.stderr.contains("node n22 holds no addresses;"),
        "{slip:?}"
    );
    let release = ["release", "--pod", "default/web-0", "--node", "n1", "--yes"];
    // Its namespace exists on this machine, by chance.
    let refused = from_workstation(&scene, &release);
    assert!(refused.status == Some(1) && refused.stderr.contains("pass --force"), "{refused:?}");
    from_workstation(&scene, &[&release[..], &["--force"]].concat()).succeeded();
    assert_eq!(scene.sandbox.held(), ["10.1.2.2"]);
    // The holder's own DEL finds that out by itself.
    scene.sandbox.del("c1", RANGE).succeeded();
    let other = from_workstation(&scene, &["list", "--data-dir", "/tmp"]);
    assert_eq!(other.status, Some(2), "{other:?}");
}

/// A store that cannot be read does not count as empty.
#[test]
fn a_store_that_refuses_holds_no_answer() {
    let Some(scene) = Scene::new() else { return };
    let nobody = scene.cluster.kubeconfig_of("nobody");
    let network = scene.sandbox.write("net.json", &configuration(RANGE));
    let usage = ["usage", network.to_str().unwrap()];
    for args in [
        &["list"][..],
        &["list", "-o", "json"],
        &["show", "10.1.2.1"],
        &usage,
        &["verify"],
        &["release", "--node", "n2", "--yes"],
    ] {
        let mut call = Call::bare();
        call.args = args
            .iter()
            .chain(&["--kubeconfig", nobody.to_str().unwrap()])
            .map(|arg| (*arg).to_owned())
            .collect();
        let ended = call.run();
        assert!(
            ended.status == Some(1)
                && ended.stderr.contains("lacks the right to list ipallocations"),
            "{args:?} {ended:?}"
        );
        assert_eq!(ended.stdout, "", "{args:?}");
    }
    let missing = scene.sandbox.write(
        "missing.conf",
        r#"{"datastore":"kubernetes","kubernetes":{"kubeconfig":"/nowhere/x"}}"#,
    );
    let mut call = Call::bare();
    call.set("HEREABOUTS_CONFIG", missing).args = vec!["list".to_owned()];
    let ended = call.run();
    assert!(ended.status == Some(1) && ended.stderr.contains("/nowhere/x"), "{ended:?}");
}

#[test]
fn config_check_names_the_store_and_whether_its_kubeconfig_can_be_used() {
    let Some(scene) = Scene::new() else { return };
    let network = scene.sandbox.write("net.json", &configuration(RANGE));
    let checked = scene.sandbox.command(&["config", "check", network.to_str().unwrap()]);
    let kubeconfig = scene.cluster.kubeconfig();
    assert!(
        checked
            .succeeded()
            .stdout
            .contains(&format!("  store: Kubernetes ({})\n", kubeconfig.display())),
        "{checked:?}"
    );
    assert!(
        checked.stdout.contains(&format!("  API server: {}\n", scene.cluster.server())),
        "{checked:?}"
    );
    let missing = scene.sandbox.write(
        "missing.conf",
        r#"{"datastore":"kubernetes","kubernetes":{"kubeconfig":"/nowhere/x"}}"#,
    );
    let mut call = scene.sandbox.command_call(&["config", "check", network.to_str().unwrap()]);
    let checked = call.set("HEREABOUTS_CONFIG", missing).run();
    assert!(
        checked
            .succeeded()
            .stdout
            .contains("  note: the kubeconfig cannot be used on this machine: "),
        "{checked:?}"
    );
}

/// Returns the store of a node whose state is in this sandbox only.
fn store(cluster: &Cluster, sandbox: &Sandbox, node: &str) -> KubeStore {
    let client = Client::open(&cluster.kubeconfig(), &ProxyVariables::default()).unwrap();
    KubeStore::new(client, &sandbox.path("elsewhere"), host(node), AllocationOrder::Auto)
}

/// Returns the number of lists of the resource that the API server has served.
fn lists(cluster: &Cluster) -> f64 {
    let metrics = cluster.text(&["get", "--raw", "/metrics"]);
    let lists = metrics.lines().filter(|line| {
        let mut words = [r#"resource="ipallocations""#, r#"verb="LIST""#].into_iter();
        line.starts_with("apiserver_request_total{") && words.all(|word| line.contains(word))
    });
    lists.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn more_than_a_page_is_listed_in_order_and_counted() {
    let Some((cluster, sandbox, _turn)) = empty() else { return };
    let store = store(cluster, &sandbox, "n3");
    for number in 0..600 {
        claim(open(&store).as_mut(), "10.0.0.0/22", &record("n3", &format!("c{number}"), None))
            .unwrap();
    }
    let before = lists(cluster);
    let listed = sandbox.command(&["list"]);
    let addresses: Vec<std::net::Ipv4Addr> = listed
        .succeeded()
        .stdout
        .lines()
        .skip(1)
        .map(|line| line.split('/').next().unwrap().parse().unwrap())
        .collect();
    assert!((lists(cluster) - before - 2.0).abs() < 0.5);
    assert_eq!(addresses.len(), 600);
    assert!(addresses.is_sorted());
    assert_eq!(sandbox.held().len(), 600);
    let network = sandbox.write("net.json", &configuration(r#""range":"10.0.0.0/22""#));
    let usage = sandbox.command(&["usage", network.to_str().unwrap(), "-o", "json"]);
    assert_eq!(usage.succeeded().document()[0]["held"], 600);
    let verified = sandbox.command(&["verify"]);
    assert!(verified.succeeded().stdout.contains("600 records"), "{verified:?}");
    let released = sandbox.command(&["release", "--node", "n3", "--yes"]);
    assert_eq!(released.succeeded().stdout.lines().count(), 600);
    assert_eq!(
        cluster.text(&["get", "--raw", &format!("{ALL}?limit=1")]).matches("10.0.").count(),
        0
    );
}
