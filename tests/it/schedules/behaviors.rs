//! The behavior that the store requires of an API server, as one list: the server in memory and a
//! real kube-apiserver both pass it.

use super::scheduler::Touches;
use super::server::Objects;
use crate::conformance::record;
use crate::support::cluster::Cluster;
use crate::support::nodes::own_name;
use hereabouts::api_client::client::{Client, Server};
use hereabouts::api_client::http::{Method, Request};
use hereabouts::environment::ProxyVariables;
use hereabouts::ipam::Scope;
use hereabouts::store::kube::objects::ip_allocation::{GROUP, IpAllocation, PLURAL, VERSION};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::time::Duration;

const JSON: &str = "application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// A server, and a scope that only this test uses.
struct Tried<'t> {
    send: &'t dyn Fn(&Request<'_>) -> (u16, Value),
    scope: String,
}

impl Tried<'_> {
    fn send(
        &self,
        method: Method,
        rest: &str,
        kind: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let path = format!("/apis/{GROUP}/{VERSION}/{PLURAL}{rest}");
        let bytes = body.map(|body| body.to_string().into_bytes());
        (self.send)(&Request {
            method,
            path: &path,
            accept,
            content: bytes.as_deref().map(|bytes| (kind, bytes)),
        })
    }

    fn object(&self, address: &str) -> Value {
        let scope = Scope::parse(&self.scope).unwrap();
        json!(IpAllocation::new(
            &scope,
            address.parse().unwrap(),
            &record("n1", "c1", Some("web")),
            None
        ))
    }

    fn create(&self, object: &Value) -> (u16, Value) {
        self.send(Method::Post, "", JSON, JSON, Some(object))
    }

    fn of(&self, method: Method, object: &Value, body: Option<&Value>) -> (u16, Value) {
        let kind = if method == Method::Patch { "application/merge-patch+json" } else { JSON };
        self.send(
            method,
            &format!("/{}", object["metadata"]["name"].as_str().unwrap()),
            kind,
            JSON,
            body,
        )
    }

    fn delete(&self, object: &Value, uid: &Value, revision: &Value) -> (u16, Value) {
        let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid, "resourceVersion": revision } });
        self.of(Method::Delete, object, Some(&options))
    }

    fn list(&self, query: &str, accept: &str) -> (u16, Value) {
        let label = self.object("10.0.0.1")["metadata"]["labels"]["hereabouts.dev/scope"]
            .as_str()
            .unwrap()
            .to_owned();
        self.send(
            Method::Get,
            &format!("?labelSelector=hereabouts.dev%2Fscope%3D{label}{query}"),
            JSON,
            accept,
            None,
        )
    }
}

fn refused(answer: &(u16, Value), status: u16, reason: &str) {
    assert_eq!((answer.0, answer.1["reason"].as_str()), (status, Some(reason)), "{answer:?}");
    assert_eq!(answer.1["kind"], "Status");
}

/// Runs the whole list in order. Each entry leaves the scope empty.
fn behave(tried: &Tried<'_>) {
    let object = tried.object("10.0.0.1");
    let name = object["metadata"]["name"].as_str().unwrap();

    // The details name what is missing.
    let missing = tried.of(Method::Get, &object, None);
    refused(&missing, 404, "NotFound");
    assert_eq!(missing.1["details"]["name"], name);
    refused(&tried.delete(&object, &Value::Null, &Value::Null), 404, "NotFound");
    refused(&tried.of(Method::Patch, &object, Some(&json!({ "metadata": {} }))), 404, "NotFound");

    // A name can be created once.
    let (status, made) = tried.create(&object);
    assert_eq!(status, 201, "{made}");
    let (uid, revision) = (&made["metadata"]["uid"], &made["metadata"]["resourceVersion"]);
    assert!(uid.is_string() && revision.is_string());
    refused(&tried.create(&object), 409, "AlreadyExists");
    assert_eq!(tried.of(Method::Get, &object, None).1["spec"], made["spec"]);

    // A change in the state that was read, and in another state.
    let change = |revision: &Value, boot: &str| json!({ "metadata": { "uid": uid, "resourceVersion": revision }, "spec": { "bootID": boot, "gateway": null } });
    let (status, changed) = tried.of(Method::Patch, &object, Some(&change(revision, "tomorrow")));
    assert_eq!((status, &changed["spec"]["bootID"]), (200, &json!("tomorrow")));
    let next = &changed["metadata"]["resourceVersion"];
    assert!(next != revision && changed["metadata"]["uid"] == *uid);
    refused(&tried.of(Method::Patch, &object, Some(&change(revision, "never"))), 409, "Conflict");
    // A change that changes nothing gets no new revision.
    let (_, same) = tried.of(Method::Patch, &object, Some(&change(next, "tomorrow")));
    assert_eq!(same["metadata"]["resourceVersion"], *next);
    // Fields that never change, and who may change the others.
    let moved = json!({ "spec": { "node": "n2" } });
    refused(&tried.of(Method::Patch, &object, Some(&moved)), 422, "Invalid");
    let taken = json!({ "spec": { "containerID": "c2", "podRef": { "name": "other" } } });
    refused(&tried.of(Method::Patch, &object, Some(&taken)), 422, "Invalid");

    // A removal in another state, of another object, and in the current state.
    refused(&tried.delete(&object, uid, revision), 409, "Conflict");
    refused(
        &tried.delete(&object, &json!("00000000-0000-4000-8000-ffffffffffff"), next),
        409,
        "Conflict",
    );
    let (status, gone) = tried.delete(&object, uid, next);
    assert_eq!((status, &gone["status"]), (200, &json!("Success")), "{gone}");
    let (_, again) = tried.create(&object);
    assert_ne!(again["metadata"]["uid"], *uid);

    // An object with a finalizer is being deleted until the finalizer is removed.
    let kept = json!({ "metadata": { "finalizers": ["hereabouts.dev/test"] } });
    let (_, kept) = tried.of(Method::Patch, &object, Some(&kept));
    let (status, going) =
        tried.delete(&object, &kept["metadata"]["uid"], &kept["metadata"]["resourceVersion"]);
    assert!(status == 200 && going["metadata"]["deletionTimestamp"].is_string(), "{going}");
    refused(&tried.create(&object), 409, "AlreadyExists");
    assert_eq!(
        tried.of(Method::Patch, &object, Some(&json!({ "metadata": { "finalizers": null } }))).0,
        200
    );
    assert_eq!(tried.of(Method::Get, &object, None).0, 404);

    // Pages, and tables.
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        assert_eq!(tried.create(&tried.object(address)).0, 201);
    }
    let (status, page) = tried.list("&limit=2", JSON);
    assert_eq!((status, page["items"].as_array().map(Vec::len)), (200, Some(2)));
    let token: String = page["metadata"]["continue"]
        .as_str()
        .unwrap()
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let (_, rest) = tried.list(&format!("&limit=2&continue={token}"), JSON);
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(1));
    assert!(rest["metadata"]["continue"].as_str().unwrap_or_default().is_empty());
    let (_, table) = tried.list("&limit=500&includeObject=None", TABLE);
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!(name)));
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        assert_eq!(tried.delete(&tried.object(address), &Value::Null, &Value::Null).0, 200);
    }
    assert_eq!(tried.list("", JSON).1["items"], json!([]));
}

#[test]
fn the_server_in_memory_behaves_like_an_api_server() {
    let objects = RefCell::new(Objects::default());
    let send = |request: &Request<'_>| {
        let answer = objects.borrow_mut().serve(request, &mut Touches::default());
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    };
    behave(&Tried { send: &send, scope: "model".to_owned() });
}

#[test]
fn a_real_api_server_behaves_like_the_one_in_memory() {
    let cluster = match Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let client = Client::open(&cluster.kubeconfig(), &ProxyVariables::default()).unwrap();
    let server: &dyn Server = &client;
    let send = |request: &Request<'_>| {
        let answer = server.call(request, Duration::from_secs(20)).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    };
    behave(&Tried { send: &send, scope: own_name("behaves") });
}
