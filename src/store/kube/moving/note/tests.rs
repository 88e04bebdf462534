//! Tests of every rule of the note, with a server and a node on a real disk.

use super::*;
use crate::api_client::client::{CallError, Server};
use crate::api_client::http::{Answer, Method, Request};
use crate::ipam::{AllocationOrder, NodeName};
use crate::store::disk::RealDisk;
use crate::store::node_identity::NodeIdentity;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

/// What the API server has.
#[derive(Default)]
struct Cluster {
    /// The Move; null if there is none.
    object: RefCell<Value>,
    /// The status of each answer about it, if it is not the object's.
    status: Cell<Option<u16>>,
    /// How often it was asked for the Move.
    asked: Cell<usize>,
    /// What happens while it is asked.
    meanwhile: RefCell<Option<Box<dyn FnOnce()>>>,
}

struct OneServer(Rc<Cluster>);

impl Server for OneServer {
    fn cluster(&self) -> &str {
        "c"
    }
    fn url(&self) -> String {
        "https://server".to_owned()
    }
    fn call(&self, request: &Request<'_>, _: Duration) -> Result<Answer, CallError> {
        assert!(matches!(request.method, Method::Get), "{}", request.path);
        let answer = |status, body: &Value| Answer {
            status,
            retry_after: None,
            body: body.to_string().into_bytes(),
        };
        if !request.path.contains("/moves/") {
            return Ok(answer(200, &json!({"metadata": {"resourceVersion": "1"}, "items": []})));
        }
        self.0.asked.set(self.0.asked.get() + 1);
        let object = self.0.object.borrow().clone();
        if let Some(meanwhile) = self.0.meanwhile.take() {
            meanwhile();
        }
        let details = json!({"kind": "Status", "details": {"name": "whereabouts"}});
        Ok(match (self.0.status.get(), &object) {
            (Some(0), _) => {
                return Err(CallError::NotSent { reason: "refused".to_owned(), may_pass: false });
            }
            (Some(404), _) => answer(404, &json!({"kind": "Status"})),
            (Some(status), _) => answer(status, &json!({"kind": "Status", "message": "no"})),
            (None, Value::Null) => answer(404, &details),
            (None, object) => answer(200, object),
        })
    }
}

/// A node with its disk, which is removed in the end.
struct Node {
    root: PathBuf,
    cluster: Rc<Cluster>,
}

impl Drop for Node {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

fn remove(directory: &Path) {
    let _ = std::process::Command::new("rm").arg("-rf").arg(directory).status();
}

const BOOT: &str = "11111111-1111-1111-1111-111111111111";

impl Node {
    fn new(test: &str) -> Self {
        let root = std::env::temp_dir().join(format!("hereabouts-{test}-{}", std::process::id()));
        remove(&root);
        Self { root, cluster: Rc::default() }
    }

    fn store(&self) -> KubeStore {
        let host = NodeIdentity {
            node: NodeName::parse("n1").unwrap(),
            machine_id: None,
            boot_id: BOOT.to_owned(),
        };
        let disk = Box::new(RealDisk::new(self.root.clone()));
        KubeStore::on(
            Box::new(OneServer(Rc::clone(&self.cluster))),
            disk,
            host,
            AllocationOrder::Auto,
        )
    }

    /// Sets the object of the cluster: when it was created, its generation and its state.
    fn set(&self, created: &str, generation: u64, state: &str) {
        let metadata = json!({"name": "whereabouts", "uid": format!("u-{created}"), "creationTimestamp": created});
        let spec = json!({"state": state, "generation": generation, "since": created});
        self.cluster.object.replace(json!({"metadata": metadata, "spec": spec}));
    }

    fn add(&self) -> Result<Option<MoveState>, String> {
        self.store().move_state(&soon()).map_err(|error| error.to_string())
    }

    fn del(&self) -> Result<Option<MoveState>, String> {
        self.store().noted_move_state(&soon()).map_err(|error| error.to_string())
    }

    /// Changes the time of the note.
    fn look_was(&self, change: impl FnOnce(&mut Moment)) {
        let store = self.store();
        store.make_complete(&soon()).unwrap();
        let mut note = store.state.note_of_move().unwrap().unwrap();
        change(&mut note.looked);
        store.state.write_durably(Path::new(MOVE), &note).unwrap();
    }

    /// Returns how often the API server is asked for the Move meanwhile.
    fn asked(&self, during: impl FnOnce()) -> usize {
        let before = self.cluster.asked.get();
        during();
        self.cluster.asked.get() - before
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(2))
}

const MONDAY: &str = "2026-11-30T10:00:00Z";
const TUESDAY: &str = "2026-12-01T10:00:00Z";
/// The API server does not answer.
const AWAY: Option<u16> = Some(0);

#[test]
fn without_a_move_the_server_is_asked_once_a_minute() {
    let node = Node::new("note-none");
    assert_eq!(node.asked(|| assert_eq!(node.add(), Ok(None))), 1);
    assert_eq!(node.asked(|| assert_eq!(node.add(), Ok(None))), 0);
    node.set(MONDAY, 1, "shared");
    assert_eq!(node.add(), Ok(None), "the note is fresh");
    node.look_was(|looked| looked.at -= 59_000);
    assert_eq!(node.add(), Ok(None));
    node.look_was(|looked| looked.at -= 2_000);
    assert_eq!(node.add(), Ok(Some(MoveState::Shared)));
}

#[test]
fn a_note_of_another_boot_or_of_the_future_is_old() {
    let node = Node::new("note-boot");
    node.set(MONDAY, 3, "finished");
    node.add().unwrap();
    assert_eq!(node.asked(|| drop(node.add())), 0);
    node.look_was(|looked| looked.boot = "another".to_owned());
    assert_eq!(node.asked(|| drop(node.add())), 1);
    node.look_was(|looked| looked.at += 60_000);
    assert_eq!(node.asked(|| drop(node.add())), 1);
}

#[test]
fn while_addresses_are_shown_each_add_asks_and_no_del() {
    for state in ["shared", "closing", "opening", "ended"] {
        let node = Node::new(&format!("note-shows-{state}"));
        node.set(MONDAY, 2, state);
        assert_eq!(node.asked(|| assert!(node.add().is_ok())), 1);
        assert_eq!(node.asked(|| assert!(node.add().is_ok())), 1);
        let shown = node.add();
        assert_eq!(node.asked(|| assert_eq!(node.del(), shown)), 0);
        node.cluster.status.set(AWAY);
        let error = node.add().unwrap_err();
        assert!(error.contains("did not serve"), "{error}");
        assert_eq!(node.del(), shown);
    }
}

#[test]
fn without_a_note_the_server_must_answer() {
    let node = Node::new("note-away");
    node.cluster.status.set(AWAY);
    assert!(node.add().unwrap_err().contains("did not serve"));
    assert!(node.del().unwrap_err().contains("did not serve"));
    node.cluster.status.set(Some(403));
    assert!(node.add().unwrap_err().contains("lacks the right to get moves.hereabouts.dev"));
    node.cluster.status.set(None);
    assert_eq!(node.asked(|| assert_eq!(node.del(), Ok(None))), 1);
    node.look_was(|looked| looked.at -= 61_000);
    for status in [AWAY, Some(500)] {
        node.cluster.status.set(status);
        assert!(0 < node.asked(|| assert_eq!(node.add(), Ok(None))), "{status:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_leaves_a_finished_move_finished() {
    let node = Node::new("note-finished");
    node.set(MONDAY, 3, "finished");
    node.add().unwrap();
    node.look_was(|looked| looked.at -= 61_000);
    node.cluster.status.set(AWAY);
    assert_eq!(node.add(), Ok(Some(MoveState::Finished)));
    node.cluster.status.set(None);
    node.set(MONDAY, 4, "opening");
    assert_eq!(node.add(), Ok(Some(MoveState::Opening)), "the failed question is no look");
}

#[test]
fn a_cluster_without_the_resource_has_no_move() {
    let node = Node::new("note-no-crd");
    node.cluster.status.set(Some(404));
    assert_eq!(node.add(), Ok(None));
    node.cluster.status.set(None);
    node.set(MONDAY, 1, "shared");
    node.look_was(|looked| looked.at -= 61_000);
    assert_eq!(node.add(), Ok(Some(MoveState::Shared)));
    node.cluster.status.set(Some(404));
    assert!(node.add().unwrap_err().contains("set back"));
}

#[test]
fn an_older_generation_or_an_older_object_is_refused() {
    let node = Node::new("note-older");
    node.set(TUESDAY, 3, "closing");
    node.add().unwrap();
    for (created, generation, state) in
        [(TUESDAY, 2, "closing"), (MONDAY, 3, "shared"), (MONDAY, 9, "closing")]
    {
        node.set(created, generation, state);
        let error = node.add().unwrap_err();
        let found = format!("the API server has the Move of {created} in generation {generation}");
        assert!(error.starts_with("the cluster was set back: this node has seen"), "{error}");
        assert!(error.contains(&found), "{error}");
        assert_eq!(node.del(), Ok(Some(MoveState::Closing)));
    }
    node.set(TUESDAY, 4, "finished");
    assert_eq!(node.add(), Ok(Some(MoveState::Finished)));
    node.set(TUESDAY, 3, "closing");
    node.look_was(|looked| looked.at -= 61_000);
    assert!(node.add().unwrap_err().contains("set back"), "also where the note needs no answer");
}

#[test]
fn another_object_counts_if_it_is_newer() {
    let node = Node::new("note-newer");
    node.set(MONDAY, 7, "shared");
    node.add().unwrap();
    node.set(TUESDAY, 1, "shared");
    assert_eq!(node.add(), Ok(Some(MoveState::Shared)));
    node.set(MONDAY, 8, "closing");
    assert!(node.add().is_err());
}

#[test]
fn an_object_that_is_gone_is_refused_while_addresses_are_shown() {
    for state in ["shared", "closing", "opening"] {
        let node = Node::new(&format!("note-gone-{state}"));
        node.set(MONDAY, 2, state);
        node.add().unwrap();
        node.cluster.object.take();
        let error = node.add().unwrap_err();
        assert!(
            error.contains("set back") && error.ends_with("the API server has none"),
            "{error}"
        );
        assert!(node.add().is_err(), "again");
        assert!(node.store().look_at_move(&soon()).is_err());
    }
    let node = Node::new("note-gone-finished");
    node.set(MONDAY, 3, "finished");
    node.add().unwrap();
    node.cluster.object.take();
    node.look_was(|looked| looked.at -= 61_000);
    assert_eq!(node.add(), Ok(Some(MoveState::Finished)));
    node.set(MONDAY, 2, "closing");
    node.look_was(|looked| looked.at -= 61_000);
    assert!(node.add().unwrap_err().contains("set back"), "what was noted stays noted");
}

#[test]
fn when_the_move_has_ended_its_deletion_ends_the_writing_for_whereabouts() {
    let node = Node::new("note-gone-ended");
    node.set(MONDAY, 3, "ended");
    assert_eq!(node.add(), Ok(Some(MoveState::Ended)));
    node.cluster.object.take();
    assert_eq!(node.add(), Ok(None));
    assert_eq!(node.asked(|| drop(node.add())), 0, "it asks no more for a minute");
}

#[test]
fn an_answer_that_was_overtaken_shows_no_restored_cluster() {
    let node = Rc::new(Node::new("note-overtaken"));
    node.set(MONDAY, 2, "closing");
    node.add().unwrap();
    let other = Rc::clone(&node);
    let meanwhile = move || {
        other.set(MONDAY, 4, "shared");
        other.add().unwrap();
    };
    node.set(MONDAY, 3, "shared");
    node.cluster.meanwhile.replace(Some(Box::new(meanwhile)));
    assert_eq!(node.add(), Ok(Some(MoveState::Shared)));
    node.set(MONDAY, 3, "shared");
    assert!(node.add().unwrap_err().contains("generation 4"), "the newer note stays");
}

#[test]
fn a_look_says_whether_to_look_often() {
    let node = Node::new("note-look");
    let look = || {
        let (object, often) = node.store().look_at_move(&soon()).unwrap();
        (object.map(|object| object.spec.generation), often)
    };
    assert_eq!(look(), (None, false));
    node.set(MONDAY, 1, "shared");
    assert_eq!((look(), look()), ((Some(1), true), (Some(1), true)));
    node.set(MONDAY, 3, "finished");
    assert_eq!((look(), look()), ((Some(3), true), (Some(3), false)));
    assert_eq!(node.asked(|| assert_eq!(node.add(), Ok(Some(MoveState::Finished)))), 0);
}

#[test]
fn a_node_that_is_off_has_no_note() {
    let node = Node::new("note-dead");
    node.set(MONDAY, 1, "shared");
    let store = node.store().for_dead_node();
    assert_eq!(store.move_state(&soon()).unwrap(), Some(MoveState::Shared));
    assert_eq!(store.noted_move_state(&soon()).unwrap(), Some(MoveState::Shared));
    assert!(!node.root.exists());
}

#[test]
fn a_damaged_note_counts_as_lost() {
    let node = Node::new("note-damaged");
    node.set(MONDAY, 1, "shared");
    node.add().unwrap();
    let store = node.store();
    store.make_complete(&soon()).unwrap();
    store.state.replace(Path::new(MOVE), b"{").unwrap();
    assert_eq!(node.asked(|| assert_eq!(node.add(), Ok(Some(MoveState::Shared)))), 1);
}
