//! What an operator can do about an error of a store: advice, apart from the message.

use super::StoreError;
use nix::errno::Errno;
use std::io;

/// Returns the advice for an error; `None` where a later try may help, or where the
/// message says all.
pub(super) fn of(error: &StoreError) -> Option<String> {
    let fixed = match error {
        StoreError::Io { source, .. } => of_system(source)?,
        StoreError::Busy { .. } | StoreError::OutOfTime { .. } => "set a longer limit in deadlines",
        StoreError::OldView { .. } => "lower the entry timeout of the mount",
        StoreError::NoLocks { .. } | StoreError::NoHardLinks { .. } => {
            "put data_dir on another filesystem"
        }
        StoreError::Unfit { .. } => {
            "put data_dir on another filesystem, or set single_node_store in the flat file if only this node uses the directory"
        }
        StoreError::Damaged { .. } => {
            "\"hereabouts verify\" shows its address, and \"hereabouts release\" releases it"
        }
        StoreError::BadFormat { .. } => {
            "while no pod starts or ends, remove the file, then run \"hereabouts store init DIR\""
        }
        StoreError::Newer { .. } => "install a newer hereabouts",
        StoreError::NewerState { .. } => {
            "install the newer hereabouts again; or remove that directory while no pod starts or ends, \
             but then \"repair\" cannot recreate lost records of running pods"
        }
        StoreError::Unshowable { .. } => {
            "give the network a range that Whereabouts can note, or wait until \"hereabouts move status\" says that the move has finished; if it has ended, and Whereabouts serves all nodes, \"kubectl delete move whereabouts\""
        }
        StoreError::Foreign { .. } => "use an empty directory or an existing store",
        StoreError::FoldsCase { .. } => {
            "put data_dir on another filesystem; on ext4, another directory without the attribute F is enough"
        }
        StoreError::Denied { .. } => {
            "use a token of a pod on that node, or one that is bound to its Node; \
             to change another node's records, pass --kubeconfig FILE with an administrator's kubeconfig"
        }
        StoreError::Refused { status: 401, .. } => {
            "renew the token or certificate of the kubeconfig"
        }
        StoreError::Refused { status: 403, reason, .. }
            if reason.contains(".whereabouts.cni.cncf.io is forbidden") =>
        {
            "apply deploy/moving, or set moving=true of the chart: it grants the rights that nodes need during a move; if the move has ended, and Whereabouts serves all nodes, \"kubectl delete move whereabouts\""
        }
        StoreError::Refused { status: 403, reason, .. } if !reason.contains("is being deleted") => {
            "apply deploy/node/rbac.yaml: it grants the rights that the plugin needs"
        }
        StoreError::MoveSetBack { .. } => {
            "\"kubectl delete move whereabouts --ignore-not-found\", then \"hereabouts move start\": a new Move counts on every node"
        }
        StoreError::NoResource { resource, .. }
            if resource.ends_with(".whereabouts.cni.cncf.io") =>
        {
            "the cluster moves from Whereabouts, whose resources must be there until the move has finished; if it has ended, and Whereabouts is gone, \"kubectl delete move whereabouts\""
        }
        StoreError::NoResource { .. } => "\"kubectl apply -k deploy/crd\" installs it",
        other => return of_value(other),
    };
    Some(fixed.to_owned())
}

/// Returns the advice for an error whose advice contains a value.
fn of_value(error: &StoreError) -> Option<String> {
    match error {
        StoreError::SliceInUse { address, .. } => Some(format!(
            "\"hereabouts show {address}\" names the holder; wait until no pod holds an address there, or give the pool another range; if the scope is on another wire, add it to slices.allowOverlapWith of the pool"
        )),
        StoreError::SlicesOverlap { other_pool, .. } => Some(format!(
            "give one of the pools another range; if the pools are on different wires, add {other_pool} to slices.allowOverlapWith of the pool"
        )),
        StoreError::SliceOfAnother { node, .. } => Some(format!(
            "only pods on {node} get it; use another address, or a pool without slices"
        )),
        StoreError::SliceLost { .. } => {
            Some("delete the pod: its replacement gets another address".to_owned())
        }
        StoreError::OtherGeometry { object, .. } => Some(format!(
            "give the pool its earlier ranges and sizes again; when no node owns a slice of it any more, \"kubectl delete {object}\" lets it be cut again"
        )),
        StoreError::OtherCut { node, .. } => Some(format!(
            "give the network its earlier node_slice_size again, or wait until {node} gives the slice back, when no pod holds an address of it"
        )),
        StoreError::RestoredLately { .. } => Some(
            "the runtime tries again; nodes with a free address in a slice of theirs go on"
                .to_owned(),
        ),
        StoreError::DamagedObject { name, .. } => {
            Some(format!("\"kubectl delete {name}\" releases its address"))
        }
        StoreError::NotOurs { node, .. } => {
            Some(format!("if that node is off, pass --node {node}"))
        }
        StoreError::SecondMachine { node, .. } => Some(format!(
            "give each node its own node_name in the flat file; after a reinstall, \"hereabouts release --node {node}\" forgets the old machine"
        )),
        StoreError::Renamed { earlier, .. } => Some(format!(
            "set node_name in the flat file back to {earlier}; if nothing runs under that name any more, \
             \"hereabouts release --node {earlier}\" releases what it held"
        )),
        StoreError::NotMounted { hint, .. } => Some(hint.clone()),
        StoreError::Unnamed { path } => Some(format!(
            "set data_dir and store_id in each node's flat file; \"hereabouts store init {}\" prints the id",
            path.display()
        )),
        StoreError::Absent { path, by_add } => {
            let add = if *by_add { "the first ADD or " } else { "" };
            Some(format!("{add}\"hereabouts store init {}\" creates one", path.display()))
        }
        _ => None,
    }
}

/// Returns the advice for a failed system call on a file of the store.
fn of_system(error: &io::Error) -> Option<&'static str> {
    match Errno::from_raw(error.raw_os_error()?) {
        Errno::ENOSPC => Some("free space on the filesystem"),
        Errno::EDQUOT => Some("raise the quota, or free space"),
        Errno::EROFS => Some("remount the filesystem writable"),
        Errno::EACCES | Errno::EPERM => Some("run the plugin as the owner of the directory"),
        Errno::ENOTDIR => Some(
            "put a directory in its place; below the data directory, a symbolic link is not followed",
        ),
        Errno::ELOOP => Some("remove the symbolic link"),
        Errno::EXDEV => Some(
            "put the data directory on one filesystem, one subvolume of btrfs or one branch of a union",
        ),
        _ => None,
    }
}
