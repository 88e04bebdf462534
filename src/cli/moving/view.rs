//! What the cluster says about a move: its state, the nodes, the records, and what of Whereabouts runs.

use super::api::Api;
use crate::cli::cluster_lists::{ALLOCATIONS, Cluster, List, NODES, PODS};
use crate::store::kube::objects::ip_allocation::Namespace;
use crate::store::kube::objects::move_object::{MoveObject, NodeAnswer};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The path of the Move.
pub(super) const MOVE: &str = "/apis/hereabouts.dev/v1alpha1/moves/whereabouts";
/// The programs of Whereabouts that remove entries which it thinks nobody uses.
const CLEANERS: [&str; 2] = ["ip-control-loop", "ip-reconciler"];

const CRON_JOBS: List = List {
    what: "cronjobs.batch",
    right: "cronjobs in all namespaces",
    absent: "check that the kubeconfig names a Kubernetes API server",
    path: "/apis/batch/v1/cronjobs",
    query: "?limit=100",
    accept: "application/json",
};

const DEPLOYMENTS: List = List {
    what: "deployments.apps",
    right: "deployments in all namespaces",
    absent: "check that the kubeconfig names a Kubernetes API server",
    path: "/apis/apps/v1/deployments",
    query: "?limit=100",
    accept: "application/json",
};

/// See the module.
pub(super) struct View {
    pub(super) object: Option<MoveObject>,
    /// By name: those that have records or answers, or pods of Whereabouts or hereabouts.
    pub(super) nodes: BTreeMap<String, NodeView>,
    /// What cleans up for Whereabouts, in words, and how to stop it.
    pub(super) cleaners: BTreeSet<(String, String)>,
    /// The records of nodes and claims, by uid.
    pub(super) records: BTreeMap<String, HeldRecord>,
}

/// What a record says.
pub(super) struct HeldRecord {
    pub(super) scope: String,
    pub(super) address: String,
    /// The claim that holds the address, in words.
    pub(super) claim: Option<String>,
}

/// A node.
#[derive(Debug, Default)]
pub(super) struct NodeView {
    pub(super) answer: Option<NodeAnswer>,
    pub(super) records: usize,
    /// Those that were imported from elsewhere, and that the node has not completed.
    pub(super) not_completed: usize,
    /// Whether a Node object has this name.
    pub(super) exists: bool,
    /// Whether a pod of a DaemonSet of hereabouts is on it.
    pub(super) has_daemon: bool,
}

#[derive(Deserialize)]
struct Record {
    metadata: Metadata,
    #[serde(default)]
    spec: RecordSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RecordSpec {
    node: String,
    scope: String,
    address: String,
    claim: Option<Claim>,
    netns: Option<Namespace>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claim {
    kind: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    owner_references: Vec<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct Workload {
    metadata: Metadata,
    #[serde(default)]
    spec: WorkloadSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadSpec {
    node_name: String,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    suspend: bool,
    replicas: Option<u64>,
    template: Option<Template>,
    job_template: Option<JobTemplate>,
}

#[derive(Deserialize)]
struct JobTemplate {
    #[serde(default)]
    spec: JobSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JobSpec {
    template: Option<Template>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    spec: PodSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
}

impl Container {
    fn names(&self, programs: &[&str]) -> bool {
        let words = self.command.iter().flatten().chain(self.args.iter().flatten());
        words.into_iter().any(|word| programs.iter().any(|program| word.contains(program)))
    }
}

fn any_names(containers: &[Container], more: &[Container], programs: &[&str]) -> bool {
    containers.iter().chain(more).any(|container| container.names(programs))
}

/// Reads the Move.
///
/// # Errors
/// It cannot be read, or another version wrote it.
pub(super) fn read_move(api: &Api) -> anyhow::Result<Option<MoveObject>> {
    Ok(api.get(MOVE)?.map(serde_json::from_value).transpose()?)
}

impl View {
    /// Reads everything.
    ///
    /// # Errors
    /// Something could not be read completely.
    pub(super) fn read(api: &Api, lists: &Cluster) -> anyhow::Result<Self> {
        let object = read_move(api)?;
        let mut view = Self {
            object,
            nodes: BTreeMap::new(),
            cleaners: BTreeSet::new(),
            records: BTreeMap::new(),
        };
        let answers = view.object.iter().flat_map(|object| object.status.nodes.clone());
        for (node, answer) in answers.collect::<Vec<_>>() {
            view.nodes.entry(node).or_default().answer = Some(answer);
        }
        lists.list_if_known(&ALLOCATIONS, &mut |item| view.add_record(item))?;
        lists.list(&PODS, &mut |item| view.add_pod(item))?;
        lists.list_if_known(&CRON_JOBS, &mut |item| view.add_cron_job(item))?;
        lists.list_if_known(&DEPLOYMENTS, &mut |item| view.add_deployment(item))?;
        lists.list(&NODES, &mut |item| view.add_node(item))?;
        // An answer of a node that is gone, and that has no records, says nothing.
        view.nodes.retain(|_, node| node.exists || 0 < node.records);
        Ok(view)
    }

    fn add_record(&mut self, item: &str) -> anyhow::Result<()> {
        let record: Record = ALLOCATIONS.parse(item)?;
        let claim = record.spec.claim;
        let held = HeldRecord {
            scope: record.spec.scope,
            address: record.spec.address,
            claim: claim.map(|claim| format!("{} {}/{}", claim.kind, claim.namespace, claim.name)),
        };
        self.records.insert(record.metadata.uid, held);
        if record.spec.node.is_empty() {
            return Ok(());
        }
        let node = self.nodes.entry(record.spec.node).or_default();
        node.records = node.records.saturating_add(1);
        if record.spec.netns.as_ref().is_some_and(Namespace::is_unseen) {
            node.not_completed = node.not_completed.saturating_add(1);
        }
        Ok(())
    }

    fn add_node(&mut self, item: &str) -> anyhow::Result<()> {
        let node: Workload = NODES.parse(item)?;
        if let Some(node) = self.nodes.get_mut(&node.metadata.name) {
            node.exists = true;
        }
        Ok(())
    }

    fn add_pod(&mut self, item: &str) -> anyhow::Result<()> {
        let Workload { metadata, spec } = &PODS.parse(item)?;
        let of_daemon = metadata.owner_references.iter().find(|owner| owner.kind == "DaemonSet");
        let runs = |programs| any_names(&spec.containers, &spec.init_containers, programs);
        if runs(&CLEANERS) {
            let Metadata { namespace, name, .. } = metadata;
            let found = match of_daemon {
                Some(owner) => (
                    format!("DaemonSet {namespace}/{}", owner.name),
                    format!(
                        "let it run \"sleep infinity\" in place of ip-control-loop: kubectl --namespace {namespace} edit daemonset/{}",
                        owner.name
                    ),
                ),
                None => (
                    format!("pod {namespace}/{name}"),
                    format!(
                        "kubectl --namespace {namespace} delete pod/{name}, and what starts it"
                    ),
                ),
            };
            self.cleaners.insert(found);
        }
        if of_daemon.is_some() && !spec.node_name.is_empty() {
            let is_ours = spec
                .containers
                .iter()
                .any(|container| container.names(&["hereabouts"]) && container.names(&["install"]));
            let is_theirs = of_daemon.is_some_and(|owner| owner.name.contains("whereabouts"));
            if is_ours || is_theirs || runs(&["whereabouts"]) {
                self.nodes.entry(spec.node_name.clone()).or_default().has_daemon |= is_ours;
            }
        }
        Ok(())
    }

    fn add_cron_job(&mut self, item: &str) -> anyhow::Result<()> {
        let job: Workload = CRON_JOBS.parse(item)?;
        let template = job.spec.job_template.as_ref().and_then(|job| job.spec.template.as_ref());
        if let Some(template) = template
            && !job.spec.suspend
            && any_names(&template.spec.containers, &template.spec.init_containers, &CLEANERS)
        {
            let Metadata { namespace, name, .. } = &job.metadata;
            self.cleaners.insert((
                format!("CronJob {namespace}/{name}"),
                format!("kubectl --namespace {namespace} delete cronjob/{name}"),
            ));
        }
        Ok(())
    }

    fn add_deployment(&mut self, item: &str) -> anyhow::Result<()> {
        let deployment: Workload = DEPLOYMENTS.parse(item)?;
        let Metadata { namespace, name, .. } = &deployment.metadata;
        let template = deployment.spec.template.as_ref().map(|template| &template.spec);
        let runs = template
            .is_some_and(|spec| any_names(&spec.containers, &spec.init_containers, &CLEANERS));
        if (name == "whereabouts-reconciler" || runs) && deployment.spec.replicas != Some(0) {
            self.cleaners.insert((
                format!("Deployment {namespace}/{name}"),
                format!("kubectl --namespace {namespace} scale deployment/{name} --replicas=0"),
            ));
        }
        Ok(())
    }
}
