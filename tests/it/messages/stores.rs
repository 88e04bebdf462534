//! Every `StoreError`.

use super::{assert_all, document, variants};
use hereabouts::cni::CniError;
use hereabouts::plugin::failure::Failure;
use hereabouts::store::StoreError as E;
use hereabouts::store::file::probe::ProbeError;
use std::path::PathBuf;

const ROOT: &str = "/var/lib/cni/hereabouts";
const SERVER: &str = "https://192.0.2.1:6443";

fn root() -> PathBuf {
    ROOT.into()
}

fn record() -> PathBuf {
    root().join("scopes/@/10.1.2.0_24/10.1.2.1")
}

fn waited() -> String {
    "30s".to_owned()
}

/// Returns the errors on a machine and its disks.
fn of_files() -> Vec<E> {
    let denied = std::io::Error::from_raw_os_error(13);
    vec![
        E::Io {
            action: "write",
            path: record(),
            reason: "permission denied".to_owned(),
            source: denied,
        },
        E::Busy {
            path: root(),
            waited: waited(),
            holder: "held by process 12 (hereabouts)".to_owned(),
        },
        E::AttachmentBusy {
            attachment: "container c1, interface net1, network net1".to_owned(),
            waited: waited(),
            holder: "process 12 (hereabouts)".to_owned(),
        },
        E::OutOfTime { limit: waited(), done: 1, all: 2 },
        E::Changed,
        E::OldView { path: root().join("scopes/@"), waited: waited() },
        E::NoLocks { path: root().join("lock"), reason: "operation not supported".to_owned() },
        E::NoHardLinks { path: root(), reason: "operation not supported".to_owned() },
        E::Unfit { path: root(), reason: "SMB gives a name twice".to_owned() },
        E::Damaged { path: record(), reason: "expected value at line 1 column 1".to_owned() },
        E::BadFormat {
            path: root().join("format"),
            reason: "expected a format number, found none".to_owned(),
        },
        E::NotOurs { path: record(), node: "n2".to_owned() },
        E::Newer { path: root(), found: 2, known: 1 },
        E::Foreign { path: root(), found: "the file notes.txt".to_owned() },
        E::FoldsCase { path: root() },
        E::SecondMachine {
            node: "n1".to_owned(),
            path: root().join("nodes/n1/@machine-id"),
            theirs: "0123".to_owned(),
            ours: "4567".to_owned(),
        },
        E::Renamed {
            attachment: "container c1, interface net1, network net1".to_owned(),
            node: "n2".to_owned(),
            earlier: "n1".to_owned(),
        },
        E::NotMounted {
            path: root(),
            reason: "expected 0123, found no store".to_owned(),
            hint: "mount it".to_owned(),
        },
        E::Unnamed { path: root() },
        E::Absent { path: root(), by_add: true },
        E::Absent { path: root(), by_add: false },
    ]
}

/// Returns the errors of the Kubernetes API.
fn of_objects() -> Vec<E> {
    let pool = || "blue".to_owned();
    let (server, call) = (|| SERVER.to_owned(), || "create ipallocations/10.1.2.1".to_owned());
    vec![
        E::DamagedObject {
            name: "ipallocations/10.1.2.1".to_owned(),
            reason: "spec.address: expected an address: 7".to_owned(),
        },
        E::NewerState { path: root().join("kubernetes/n1"), found: 2, known: 1 },
        E::Unreachable {
            server: server(),
            call: call(),
            waited: waited(),
            reason: "connection refused".to_owned(),
            is_away: true,
        },
        E::Refused { server: server(), call: call(), status: 403, reason: "forbidden".to_owned() },
        E::Refused {
            server: server(),
            call: "list ippools.whereabouts.cni.cncf.io".to_owned(),
            status: 403,
            reason: "ippools.whereabouts.cni.cncf.io is forbidden: User \"n\" cannot list it"
                .to_owned(),
        },
        E::Denied { server: server(), call: call(), reason: "the token names no node".to_owned() },
        E::NoResource { server: server(), resource: "ipallocations.hereabouts.dev".to_owned() },
        E::Kubeconfig {
            reason: "kubeconfig /etc/k: current-context: no context has the name \"x\"".to_owned(),
        },
        E::Unshowable {
            what: "the address fd00::8000:0:0:0".to_owned(),
            reason: "the IPPool kube-system/fd00---64 of Whereabouts cannot note it: Whereabouts cannot read an offset of 2^63 or more".to_owned(),
        },
        E::SliceInUse {
            pool: pool(),
            block: "10.1.2.0/24".to_owned(),
            holder: "pod default/web holds 10.1.2.7 in the scope green".to_owned(),
            address: "10.1.2.7".parse().unwrap(),
        },
        E::SlicesOverlap {
            pool: pool(),
            block: "10.1.2.0/24".to_owned(),
            owner: "the node n2 owns 10.1.0.0/16".to_owned(),
            other_pool: "red".to_owned(),
        },
        E::SliceOfAnother { address: "10.1.2.7".parse().unwrap(), node: "n2".to_owned() },
        E::SliceLost { address: "10.1.2.7".parse().unwrap(), pool: pool() },
        E::OtherGeometry {
            pool: pool(),
            object: "ipslicegeometries/pool-blue-0123456789abcdef".to_owned(),
            wanted: "slices of /24 in 10.0.0.0/16".to_owned(),
            found: "slices of /26 in 10.0.0.0/16".to_owned(),
        },
        E::OtherCut {
            network: "10.0.0.0/16:blue".to_owned(),
            wanted: "slices of /24 in 10.0.0.0/16".to_owned(),
            block: "10.0.3.64/26".to_owned(),
            node: "n2".to_owned(),
        },
        E::RestoredLately { left: "4m 10s".to_owned() },
        E::MoveSetBack {
            reason: "this node has seen the Move of 2026-11-30T10:00:00Z in generation 3 (finished), and the API server has the Move of 2026-11-30T10:00:00Z in generation 1 (shared)".to_owned(),
        },
    ]
}

#[test]
fn every_store_error_reads_so() {
    let (variants, name_of) = variants!(E: Io Busy AttachmentBusy OutOfTime Changed OldView NoLocks NoHardLinks Unfit Damaged
        DamagedObject BadFormat NotOurs Newer NewerState Foreign FoldsCase SecondMachine Renamed Unreachable Refused Denied NoResource
        Kubeconfig Unshowable NotMounted Unnamed SliceInUse SlicesOverlap SliceOfAnother SliceLost OtherGeometry OtherCut RestoredLately MoveSetBack Absent);
    let text = |error: E| (name_of(&error), document(&CniError::from(Failure::from(error))));
    let cases: Vec<_> = of_files().into_iter().chain(of_objects()).map(text).collect();
    assert_all("store", variants, &cases);
}

#[test]
fn every_error_of_the_filesystem_test_reads_so() {
    let (variants, name_of) = variants!(ProbeError: Store Silent PartnerFailed);
    let partner = || "other (process 7)".to_owned();
    let cases = [
        ProbeError::Store(E::Changed),
        ProbeError::Silent { partner: partner(), step: "turns".to_owned(), waited: waited() },
        ProbeError::PartnerFailed {
            partner: partner(),
            reason: "cannot write x: no space left on device".to_owned(),
        },
    ];
    assert_all("probe", variants, &cases.map(|error| (name_of(&error), error.to_string())));
}
