//! The controller: it answers the claims of machines (Cluster API), and reports what the cluster
//! holds. It is on no path of an ADD or a DEL.
//!
//! One thread runs everything, so nothing here is locked. The tasks are:
//! - `watches`: reads what the API server has into `state`, and tells what changed
//! - `recovery`: whether the API server was away, or was set back
//! - `ipam_claims`: the claims of pods: their status, and what those hold that are gone
//! - `claims`: answers the claims whose pool, address or cluster has changed
//! - `provider`: whether the provider of Cluster API runs, too. Then no claim of its pools is answered
//! - `pods_and_nodes`: watches pods and nodes, and looks for leak candidates
//! - `off_nodes`, `deleted_nodes`: free addresses of nodes that are off
//! - `geometries`: deletes how a pool was cut that is gone
//! - `released_slices`: removes slices of nodes that are off
//! - `serve`: health, readiness, metrics and the page over HTTP
//! - `lease`: which of several replicas writes. This only saves work: every write is safe if
//!   another replica does the same at the same time
//!
//! ARCHITECTURE.md, "The controller", explains the order of the writes.

pub mod allocations;
pub mod census;
pub mod claim_status;
pub mod claims;
pub mod client;
pub mod conditions;
pub mod decide;
pub mod deleted_nodes;
pub mod events;
pub mod extent;
pub mod first_sights;
pub mod freeing;
pub mod geometries;
pub mod ipam_claims;
pub mod lack;
pub mod leaks;
pub mod lease;
pub mod marks;
pub mod metrics;
pub mod network_ranges;
pub mod node_lease;
pub mod numbers;
pub mod off_nodes;
mod options;
pub mod overlaps;
pub mod overview;
pub mod own_pools;
pub mod own_status;
pub mod page;
pub mod pods_and_nodes;
pub mod pool;
pub mod pool_events;
pub mod pool_metrics;
pub mod provider;
mod recovery;
pub mod released_slices;
pub mod requests;
pub mod sent_events;
pub mod serve;
pub mod shapes;
pub mod sights_lease;
pub mod slim;
pub mod state;
pub mod watches;
pub mod work;

pub use options::Options;

use anyhow::Context;
use metrics::Metrics;
use overview::Observed;
use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Runs the controller until it is told to stop.
///
/// # Errors
/// It cannot start: no API server is configured, or the port cannot be used. After the start, no
/// failure ends it, except the loss of its lease.
pub fn start(options: &Options) -> anyhow::Result<()> {
    // kube logs each failed request as an error. The code that made the request logs it, too.
    let filter = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("kube_client::client::builder", LevelFilter::OFF);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, run(options))
}

async fn run(options: &Options) -> anyhow::Result<()> {
    let stopping = stopping()?;
    let client = client::connect(options.kubeconfig.as_deref()).await?;
    let listener = serve::listen(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    // With port 0 the kernel chooses the port.
    let address = listener.local_addr().context("cannot listen")?;
    tracing::info!("hereabouts-controller {} listens on {address}", env!("CARGO_PKG_VERSION"));

    let metrics = Rc::new(Metrics::new());
    let (writes, leading) = watch::channel(!options.leader_elect);
    let (version, clusters) = versions(&client).await;
    let has_services = serves_service_cidrs(&client).await;
    let state = Rc::new(RefCell::new(state::State::new(watches::kinds(), version != "v1beta1")));
    let requests = requests::Requests::new(client.clone(), &version, Rc::clone(&metrics));
    let controller = Rc::new(work::Controller::new(
        requests,
        Rc::clone(&state),
        Rc::clone(&metrics),
        leading.clone(),
    ));
    spawn_local(released_slices::run(Rc::clone(&controller)));
    spawn_local(geometries::run(Rc::clone(&controller)));
    spawn_local(watches::run(Rc::clone(&controller), clusters, has_services));
    spawn_local(pods_and_nodes::run(Rc::clone(&controller)));
    spawn_local(off_nodes::run(Rc::clone(&controller), options.lease_namespace.clone()));
    if options.release_deleted_nodes {
        let namespace = options.lease_namespace.clone();
        spawn_local(deleted_nodes::run(Rc::clone(&controller), namespace));
    }
    if !options.beside_provider {
        controller.state.borrow_mut().provider = state::Provider::InDoubt;
        spawn_local(Rc::clone(&controller).look_for_provider());
    }
    let observed: Rc<dyn Observed> = Rc::clone(&controller) as Rc<dyn Observed>;
    let pages = page::Pages::new(state, Rc::clone(&controller.leaks));
    spawn_local(controller.run());
    let served = serve::Served { metrics, observed, leading, pages };
    let server = spawn_local(serve::serve(listener, served));

    let identity = identity()?;
    let namespace = &options.lease_namespace;
    let mut stopped = stopping.clone();
    let ended = if options.leader_elect {
        let times = lease::Times::default();
        lease::hold(client, namespace, &identity, times, writes, stopping).await
    } else {
        // An error means that no signal can arrive any more.
        let _ = stopped.wait_for(|stopping| *stopping).await;
        Ok(())
    };
    server.abort();
    if ended.is_ok() {
        tracing::info!("ends, as it was told to");
    }
    ended
}

/// Returns a value that becomes true when a signal tells the process to end.
fn stopping() -> anyhow::Result<watch::Receiver<bool>> {
    let failed = "cannot receive signals";
    let mut terminate = signal(SignalKind::terminate()).context(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).context(failed)?;
    let (stop, stopping) = watch::channel(false);
    spawn_local(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        // The value stays readable for receivers that look later.
        stop.closed().await;
    });
    Ok(stopping)
}

/// Returns a name that no other process has: the host, which is the pod, and a random number,
/// because a pod's container can start again.
fn identity() -> anyhow::Result<String> {
    let host = nix::unistd::gethostname().context("cannot read the name of the host")?;
    let random = RandomState::new().hash_one(std::process::id());
    Ok(format!("{}_{random:016x}", host.to_string_lossy()))
}

/// Returns whether the API server has ServiceCIDRs: since Kubernetes 1.33.
async fn serves_service_cidrs(client: &k8s::Client) -> bool {
    let resources = client.list_api_group_resources(&format!("{}/v1", watches::SERVICES)).await;
    resources.is_ok_and(|list| list.resources.iter().any(|found| found.kind == "ServiceCIDR"))
}

/// Returns the versions of claims and of clusters: the newest that is served.
async fn versions(client: &k8s::Client) -> (String, String) {
    let newest = async |group: &str| {
        let served = k8s::discovery::group(client, group).await.ok()?;
        let mut versions = ["v1beta2", "v1beta1"].into_iter();
        versions.find(|version| served.versions().any(|found| found == *version)).map(str::to_owned)
    };
    let (claims, clusters) = (newest(shapes::IPAM).await, newest(shapes::CORE).await);
    let default = || "v1beta2".to_owned();
    (claims.unwrap_or_else(default), clusters.unwrap_or_else(default))
}
