//! The ClusterRoleBindings that give Whereabouts its rights. `move finish` keeps them in the Move and
//! takes them away; `move back` creates them again.
//!
//! They are found by what they grant: the right to update Whereabouts' IPPools, for a ServiceAccount,
//! by a role that names the group of Whereabouts. Nodes of hereabouts patch them, and have no right
//! to update them.

use super::api::{Api, Written};
use crate::cli::output;
use anyhow::{Context, bail};
use serde_json::{Value, json};

const PATH: &str = "/apis/rbac.authorization.k8s.io/v1";
const GROUP: &str = "whereabouts.cni.cncf.io";

fn texts<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v str> {
    value[key].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Returns the bindings that are there.
///
/// # Errors
/// The roles cannot be read.
pub(super) fn read(api: &Api) -> anyhow::Result<Vec<Value>> {
    let list = |what: &str| {
        api.get(&format!("{PATH}/{what}"))?.with_context(|| format!("the API server has no {what}"))
    };
    let (roles, bindings) = (list("clusterroles")?, list("clusterrolebindings")?);
    let grants = |rule: &Value| {
        texts(rule, "apiGroups").any(|group| group == GROUP)
            && texts(rule, "resources").any(|resource| resource == "ippools" || resource == "*")
            && texts(rule, "verbs").any(|verb| verb == "update" || verb == "*")
    };
    let roles: Vec<&str> = items(&roles)
        .filter(|role| role["rules"].as_array().into_iter().flatten().any(grants))
        .map(name)
        .collect();
    let is_of_account = |subject: &Value| subject["kind"] == "ServiceAccount";
    let mut found: Vec<Value> = items(&bindings)
        .filter(|binding| {
            let role = binding["roleRef"]["name"].as_str().unwrap_or_default();
            roles.contains(&role)
                && binding["subjects"].as_array().into_iter().flatten().any(is_of_account)
        })
        .cloned()
        .collect();
    found.sort_by(|one, other| name(one).cmp(name(other)));
    Ok(found)
}

/// Returns the text under which a binding is kept: what is needed to create it again.
pub(super) fn kept(binding: &Value) -> String {
    let metadata = json!({
        "name": binding["metadata"]["name"], "labels": binding["metadata"]["labels"],
        "annotations": binding["metadata"]["annotations"],
    });
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata,
        "roleRef": binding["roleRef"], "subjects": binding["subjects"],
    })
    .to_string()
}

/// Returns what was kept before, and each of these bindings that was not.
pub(super) fn keep(before: &[String], found: &[Value]) -> anyhow::Result<Vec<String>> {
    let mut all = before.to_vec();
    for binding in found {
        let text = kept(binding);
        let is_same = |kept: &String| {
            serde_json::from_str::<Value>(kept).is_ok_and(|kept| name(&kept) == name(binding))
        };
        if !all.iter().any(is_same) {
            all.push(text);
        }
    }
    match all.len() {
        0..=16 => Ok(all),
        count => {
            bail!("{count} ClusterRoleBindings give the rights of Whereabouts: keep at most 16")
        }
    }
}

/// Takes a binding away, in the state that was read.
pub(super) fn remove(api: &Api, binding: &Value) -> anyhow::Result<()> {
    let path = format!("{PATH}/clusterrolebindings/{}", name(binding));
    match api.delete(&path, &binding["metadata"])? {
        Written::Done(_) => {
            output::say(&format!(
                "removed the ClusterRoleBinding {}; the Move keeps it",
                name(binding)
            ));
            Ok(())
        }
        Written::Absent => Ok(()),
        Written::Conflict => {
            bail!("the ClusterRoleBinding {} has changed: repeat the command", name(binding))
        }
    }
}

/// Creates a binding again that was kept.
pub(super) fn restore(api: &Api, text: &str) -> anyhow::Result<()> {
    let binding: Value = serde_json::from_str(text)?;
    match api.create(&format!("{PATH}/clusterrolebindings"), &binding)? {
        Written::Done(_) => {
            output::say(&format!("created the ClusterRoleBinding {} again", name(&binding)));
            Ok(())
        }
        Written::Conflict => Ok(()),
        Written::Absent => bail!("the API server has no clusterrolebindings"),
    }
}
