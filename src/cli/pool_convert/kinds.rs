//! The kinds of pools that can be converted.

use super::manifest::Converted;
use super::source::{Result, Source};
use super::{cluster_cidr, in_cluster, load_balancer, nvidia, pod_cidr, spider, whereabouts};

/// Converts an object.
pub(super) type Convert = fn(&mut Source<'_>) -> Result<Converted>;

/// Kinds that are read in the same way.
struct Kind {
    groups: &'static [&'static str],
    names: &'static [&'static str],
    convert: Convert,
}

const KINDS: &[Kind] = &[
    Kind {
        groups: &["ipam.cluster.x-k8s.io"],
        names: &["InClusterIPPool", "GlobalInClusterIPPool"],
        convert: in_cluster::convert,
    },
    Kind {
        groups: &["baremetal.cluster.gke.io", "networking.gke.io"],
        names: &["ClusterCIDRConfig"],
        convert: cluster_cidr::config,
    },
    Kind {
        groups: &["networking.k8s.io", "networking.x-k8s.io"],
        names: &["ClusterCIDR"],
        convert: cluster_cidr::convert,
    },
    Kind { groups: &["whereabouts.cni.cncf.io"], names: &["IPPool"], convert: whereabouts::pool },
    Kind {
        groups: &["whereabouts.cni.cncf.io"],
        names: &["NodeSlicePool"],
        convert: whereabouts::slices,
    },
    Kind { groups: &["nv-ipam.nvidia.com"], names: &["IPPool"], convert: nvidia::pool },
    Kind { groups: &["nv-ipam.nvidia.com"], names: &["CIDRPool"], convert: nvidia::cidr_pool },
    Kind {
        groups: &["spiderpool.spidernet.io"],
        names: &["SpiderIPPool"],
        convert: spider::convert,
    },
    Kind {
        groups: &["crd.projectcalico.org", "projectcalico.org"],
        names: &["IPPool"],
        convert: pod_cidr::calico,
    },
    Kind { groups: &["cilium.io"], names: &["CiliumPodIPPool"], convert: pod_cidr::cilium },
    Kind { groups: &["metallb.io"], names: &["IPAddressPool"], convert: load_balancer::metallb },
    Kind {
        groups: &["cilium.io"],
        names: &["CiliumLoadBalancerIPPool"],
        convert: load_balancer::cilium,
    },
];

/// Returns how the objects of a kind are converted.
pub(super) fn of(group: &str, kind: &str) -> Option<Convert> {
    KINDS
        .iter()
        .find(|known| known.names.contains(&kind) && known.groups.contains(&group))
        .map(|known| known.convert)
}
