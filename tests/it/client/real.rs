//! The client against a real API server: by token, by client certificate, and
//! with a token that is renewed between two calls.

use super::server::{GET, PATIENCE};
use crate::support::cluster::Cluster;
use crate::support::sandbox::Sandbox;
use hereabouts::api_client::client::Client;
use hereabouts::api_client::http::{Method, Request};
use hereabouts::environment::ProxyVariables;

fn cluster() -> Option<&'static Cluster> {
    Cluster::shared().map_err(|reason| skipped!("{reason}")).ok()
}

fn status(client: &Client, path: &str) -> u16 {
    client.call(&Request { path, ..GET }, PATIENCE).unwrap().status
}

#[test]
fn each_kubeconfig_is_understood_as_kubectl_understands_it() {
    let Some(cluster) = cluster() else { return };
    for (user, pods) in [("admin", 200), ("admin-certificate", 200), ("nobody", 403)] {
        let client =
            Client::open(&cluster.kubeconfig_of(user), &ProxyVariables::default()).unwrap();
        let answer = client.call(&GET, PATIENCE).unwrap();
        assert!(String::from_utf8(answer.body).unwrap().contains("gitVersion"), "{user}");
        assert_eq!(status(&client, "/api/v1/pods"), pods, "{user}");
    }
}

#[test]
fn a_token_that_is_renewed_between_two_calls_is_used_at_once() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new();
    let view = |path: &str| {
        cluster.text(&["config", "view", "--raw", "-o", &format!("jsonpath={{{path}}}")])
    };
    let (server, authority) = (
        view(".clusters[0].cluster.server"),
        view(".clusters[0].cluster.certificate-authority-data"),
    );
    let cluster_of = match authority.is_empty() {
        true => format!(
            "server: '{server}', certificate-authority: '{}'",
            view(".clusters[0].cluster.certificate-authority")
        ),
        false => format!("server: '{server}', certificate-authority-data: {authority}"),
    };
    let kubeconfig = super::server::kubeconfig(&sandbox, &cluster_of, "tokenFile: token");
    let client = Client::open(&kubeconfig, &ProxyVariables::default()).unwrap();
    sandbox.write("token", "one-that-is-not-valid-any-more\n");
    assert_eq!(status(&client, "/api/v1/pods"), 401);
    sandbox.write("token", &view(".users[0].user.token"));
    assert_eq!(status(&client, "/api/v1/pods"), 200);
}

#[test]
fn an_object_is_made_taken_and_unmade() {
    let Some(cluster) = cluster() else { return };
    let client = Client::open(&cluster.kubeconfig(), &ProxyVariables::default()).unwrap();
    let namespaces = "/api/v1/namespaces";
    let body =
        br#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"made-by-the-client"}}"#;
    let post = Request {
        method: Method::Post,
        path: namespaces,
        content: Some(("application/json", body)),
        ..GET
    };
    let delete =
        Request { method: Method::Delete, path: "/api/v1/namespaces/made-by-the-client", ..GET };
    for (request, expected) in [(post, 201), (post, 409), (delete, 200)] {
        assert_eq!(client.call(&request, PATIENCE).unwrap().status, expected, "{request:?}");
    }
}
