#!/usr/bin/env bash
#
# Whereabouts v0.9.4 gives two interfaces of one pod the same address, if their
# networks have ranges that overlap, although `enable_overlapping_ranges` has its
# default, true. Its README says that this setting does not allow an address "to be
# re-assigned across two different ranges which overlap". The reason: an address that
# is reserved by the same pod counts as free. Only the name of the pod is compared,
# not the interface (pkg/storage/kubernetes/ipam.go, IPManagementKubernetesUpdate).
# The two interfaces share one reservation. The DEL of one interface removes it, so
# that another pod gets the address that the other interface still has.
#
# The test: two networks, 10.213.0.0/16 on net1 and 10.213.0.0/24 on net2. A small
# program calls Whereabouts' own functions: LoadIPAMConfig reads the networks,
# IPManagement carries out each ADD and DEL. The objects are in the fake clientset of
# Whereabouts, in memory, as in its own tests. Pod b is the control: it does not get
# the address that pod a has in the other range.
#
# Seen:
#   ADD a net1: 10.213.0.1/16
#   ADD b net2: 10.213.0.2/24
#   ADD a net2: 10.213.0.1/24
#   DEL a net1
#   ADD c net1: 10.213.0.1/16
#
# Needs Go. Builds for some minutes. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOMODCACHE=$work/modules GOCACHE=$work/cache GOFLAGS="${GOFLAGS-} -mod=mod" CGO_ENABLED=0
mkdir "$work/module"
cd "$work/module"

cat >go.mod <<'END'
module finding
go 1.26.0
require github.com/k8snetworkplumbingwg/whereabouts v0.9.4
END
cat >main.go <<'END'
// Carries out ADDs and DELs of pods with Whereabouts' own functions, and prints the addresses.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/k8snetworkplumbingwg/whereabouts/pkg/api/whereabouts.cni.cncf.io/v1alpha1"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/config"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/generated/clientset/versioned/fake"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/storage/kubernetes"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/types"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fakekubernetes "k8s.io/client-go/kubernetes/fake"
)

const namespace = "kube-system"

var ranges = map[string]string{"net1": "10.213.0.0/16", "net2": "10.213.0.0/24"}

func main() {
	var pools []runtime.Object
	for _, subnet := range ranges {
		// The fake clientset sets no resourceVersion, and Whereabouts' patches test it.
		pools = append(pools, &v1alpha1.IPPool{
			ObjectMeta: metav1.ObjectMeta{
				Name:      kubernetes.IPPoolName(kubernetes.PoolIdentifier{IpRange: subnet}),
				Namespace: namespace, ResourceVersion: "1",
			},
			Spec: v1alpha1.IPPoolSpec{Range: subnet, Allocations: map[string]v1alpha1.IPAllocation{}},
		})
	}
	client := kubernetes.NewKubernetesClient(fake.NewSimpleClientset(pools...), fakekubernetes.NewSimpleClientset())

	add(client, "a", "net1")
	add(client, "b", "net2")
	add(client, "a", "net2")
	call(client, types.Deallocate, "a", "net1")
	fmt.Println("DEL a net1")
	add(client, "c", "net1")
}

func add(client *kubernetes.Client, pod, ifName string) {
	fmt.Printf("ADD %s %s: %s\n", pod, ifName, call(client, types.Allocate, pod, ifName))
}

// Returns the address of an ADD.
func call(client *kubernetes.Client, mode int, pod, ifName string) string {
	network := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"%s","type":"macvlan","ipam":{"type":"whereabouts",
		"range":"%s","configuration_path":"%s","kubernetes":{"kubeconfig":"unused"}}}`, ifName, ranges[ifName], os.Args[1])
	settings, _, err := config.LoadIPAMConfig([]byte(network), "K8S_POD_NAMESPACE=default;K8S_POD_NAME="+pod)
	check(err)
	ipam := &kubernetes.KubernetesIPAM{
		Client: *client, Config: *settings, Namespace: namespace, ContainerID: "sandbox-" + pod, IfName: ifName,
	}
	ctx, cancel := context.WithTimeout(context.Background(), types.AddTimeLimit)
	defer cancel()
	ips, err := kubernetes.IPManagement(ctx, mode, *settings, ipam)
	check(err)
	if mode == types.Deallocate {
		return ""
	}
	return ips[0].String()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
END

# The flat file of a node, without settings.
echo '{}' >"$work/whereabouts.conf"
{ go build -o finding . && ./finding "$work/whereabouts.conf"; } >"$work/found" 2>"$work/messages" ||
    { cat "$work/messages" >&2 && exit 1; }

go list -m github.com/k8snetworkplumbingwg/whereabouts
cat "$work/found"
[[ $(<"$work/found") == "ADD a net1: 10.213.0.1/16
ADD b net2: 10.213.0.2/24
ADD a net2: 10.213.0.1/24
DEL a net1
ADD c net1: 10.213.0.1/16" ]] || { echo "it behaves otherwise now" >&2 && exit 1; }
