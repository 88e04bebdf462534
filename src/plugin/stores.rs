//! Opens the store that the settings name.

use super::evidence::life_here;
use crate::config::{DATA_DIR, Settings, StoreKind};
use crate::environment::ProxyVariables;
use crate::ipam::NodeName;
use crate::store::disk::RealDisk;
use crate::store::file::{FileStore, Named, Notes, Terms};
use crate::store::node_identity::NodeIdentity;
#[cfg(feature = "kube")]
use crate::store::sliced::{self, SlicedStore};
use crate::store::upkeep::Upkeep;
use crate::store::{Store, StoreError};
use std::rc::Rc;

/// The directory in which this node notes which file stores it uses. It is outside of the stores.
const NOTES: &str = "/var/lib/cni/hereabouts/stores";

/// Returns what this node has noted about the file stores that it uses.
#[must_use]
pub fn notes() -> Notes {
    Notes::new(NOTES.into())
}

/// Returns a file store that an explicit command is to create.
#[must_use]
pub fn to_make(directory: &std::path::Path, maker: NodeName) -> FileStore<RealDisk> {
    let host = NodeIdentity { node: maker, machine_id: None, boot_id: String::new() };
    FileStore::new(directory.to_owned(), host).under(Terms {
        named: Named::ByDefault,
        id: None,
        notes: notes(),
        own: vec![DATA_DIR.into()],
        alone: false,
        before_shared: nothing(),
    })
}

/// Returns an action that does nothing, for a caller without a time limit.
#[must_use]
pub fn nothing() -> Rc<dyn Fn()> {
    Rc::new(|| {})
}

/// Returns the file store that the settings name.
fn files(
    settings: &Settings,
    host: NodeIdentity,
    before_shared: Rc<dyn Fn()>,
) -> FileStore<RealDisk> {
    let store = &settings.store;
    let named = match (store.by_flat_file, store.is_default_directory()) {
        (true, _) => Named::ByFlatFile,
        (false, true) => Named::ByDefault,
        (false, false) => Named::ByNetwork,
    };
    FileStore::new(store.data_dir.clone(), host)
        .under(Terms {
            named,
            id: store.id.clone(),
            notes: notes(),
            own: store.own.clone(),
            alone: store.single_node,
            before_shared,
        })
        .classifying_with(life_here)
}

/// Opens the store that the settings name. For a file store this costs nothing; `before_shared` is
/// called before the use of a filesystem whose server may never answer. For the Kubernetes store
/// this reads the kubeconfig and makes no connection.
///
/// # Errors
/// The kubeconfig cannot be used.
#[cfg_attr(
    not(feature = "kube"),
    allow(unused_variables, reason = "only the Kubernetes store needs them")
)]
pub fn open(
    settings: &Settings,
    host: NodeIdentity,
    before_shared: Rc<dyn Fn()>,
    proxy: &ProxyVariables,
) -> Result<Box<dyn Store>, StoreError> {
    match &settings.store.kind {
        StoreKind::File => Ok(Box::new(files(settings, host, before_shared))),
        #[cfg(feature = "kube")]
        StoreKind::Kubernetes { kubeconfig } => {
            let files = of_slices(settings, host.clone());
            let kube = kubernetes(settings, kubeconfig, host, proxy)?;
            Ok(Box::new(SlicedStore::new(kube, files)))
        }
    }
}

/// The node for which an operator uses a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBehalf {
    /// This node.
    OfThisNode,
    /// Another node, or none.
    OfAnother,
    /// A node that is off for good and is to be forgotten.
    OfOneThatIsOff,
    /// No node: the store is one that this machine may not belong to.
    OfNone,
}

/// Opens the store for an operator.
///
/// # Errors
/// The kubeconfig cannot be used.
#[cfg_attr(
    not(feature = "kube"),
    allow(unused_variables, reason = "only the Kubernetes store needs them")
)]
pub fn open_to_keep(
    settings: &Settings,
    host: NodeIdentity,
    on_behalf: OnBehalf,
    proxy: &ProxyVariables,
) -> Result<Box<dyn Upkeep>, StoreError> {
    match &settings.store.kind {
        StoreKind::File => {
            let store = files(settings, host, nothing());
            Ok(Box::new(match on_behalf {
                OnBehalf::OfThisNode => store,
                OnBehalf::OfAnother | OnBehalf::OfNone => store.for_another_node(),
                OnBehalf::OfOneThatIsOff => store.for_dead_node(),
            }))
        }
        #[cfg(feature = "kube")]
        StoreKind::Kubernetes { kubeconfig } => {
            let files = of_slices(settings, host.clone());
            let kube = kubernetes(settings, kubeconfig, host, proxy)?;
            Ok(Box::new(match on_behalf {
                OnBehalf::OfThisNode => SlicedStore::new(kube, files),
                OnBehalf::OfAnother => {
                    SlicedStore::new(kube.for_dead_node(), files.for_another_node())
                }
                OnBehalf::OfOneThatIsOff | OnBehalf::OfNone => {
                    SlicedStore::new(kube.for_dead_node(), files.for_another_node()).without_files()
                }
            }))
        }
    }
}

/// Returns the file store with the addresses of the node's slices. It is on the node's own disk.
#[cfg(feature = "kube")]
fn of_slices(settings: &Settings, host: NodeIdentity) -> FileStore<RealDisk> {
    FileStore::new(settings.store.data_dir.join(sliced::DIRECTORY), host)
        .classifying_with(life_here)
}

/// Opens the store in the Kubernetes API.
///
/// # Errors
/// The kubeconfig cannot be used.
#[cfg(feature = "kube")]
pub fn kubernetes(
    settings: &Settings,
    kubeconfig: &std::path::Path,
    host: NodeIdentity,
    proxy: &ProxyVariables,
) -> Result<crate::store::kube::KubeStore, StoreError> {
    use crate::store::kube::KubeStore;
    let client = client(kubeconfig, proxy)?;
    let node = host.node.clone();
    let uid = client.node_of_token().filter(|(name, _)| name == node.as_str()).map(|(_, uid)| uid);
    Ok(KubeStore::new(client, &settings.store.data_dir, host, settings.order)
        .classifying_with(life_here)
        .with_node_uid(uid))
}

/// Returns the URL of the API server that a kubeconfig leads to. Makes no connection.
///
/// # Errors
/// The kubeconfig cannot be used.
#[cfg(feature = "kube")]
pub fn server(kubeconfig: &std::path::Path, proxy: &ProxyVariables) -> Result<String, StoreError> {
    Ok(client(kubeconfig, proxy)?.server())
}

#[cfg(feature = "kube")]
fn client(
    kubeconfig: &std::path::Path,
    proxy: &ProxyVariables,
) -> Result<crate::api_client::client::Client, StoreError> {
    crate::api_client::client::Client::open(kubeconfig, proxy)
        .map_err(|error| StoreError::Kubeconfig { reason: error.to_string() })
}

/// Returns the name and the uid of the Node that a token is bound to.
#[cfg(feature = "kube")]
#[must_use]
pub fn node_of_token(token: &str) -> Option<(String, String)> {
    crate::store::kube::node_of_token(token)
}

/// Returns the same for the token in a kubeconfig. Makes no connection.
#[cfg(feature = "kube")]
#[must_use]
pub fn node_of_kubeconfig(
    kubeconfig: &std::path::Path,
    proxy: &ProxyVariables,
) -> Option<(String, String)> {
    client(kubeconfig, proxy).ok()?.node_of_token()
}
