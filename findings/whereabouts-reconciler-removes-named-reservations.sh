#!/usr/bin/env bash
#
# The reconciler of Whereabouts v0.9.4 removes the reservation of every running pod whose
# network has a `network_name`. The reservation is what keeps an address from being given
# a second time out of another range that overlaps. The name of such a reservation is the
# name of the network, "-" and the address; the reconciler replaces each "-" by ":" and
# compares the result with the addresses of the pod, so that it never finds one
# (pkg/reconciler/iploop.go, findClusterWideIPReservations). The entry in the pool stays.
#
# The test: pod a has an address of the network "blue", range 10.213.0.0/16; pod b, the
# control, has one of a network without a name. Both run, and show their addresses. A
# small program calls Whereabouts' own functions, with the fake clientset of Whereabouts,
# in memory, as in its own tests. After the reconciler, pod c starts in the network
# "blue" with the range 10.213.0.0/24: before, it gets another address than a, after the
# reconciler the same.
#
# Seen:
#   ADD a: 10.213.0.1/16
#   ADD b: 10.214.0.1/16
#   reservations: 10.214.0.1 blue-10.213.0.1
#   ADD c: 10.213.0.2/24
#   DEL c
#   after the reconciler: 10.214.0.1
#   ADD c: 10.213.0.1/24
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
// Starts pods with Whereabouts' own functions, runs its reconciler, and prints the reservations.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/k8snetworkplumbingwg/whereabouts/pkg/api/whereabouts.cni.cncf.io/v1alpha1"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/config"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/generated/clientset/versioned/fake"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/reconciler"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/storage/kubernetes"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/types"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fakekubernetes "k8s.io/client-go/kubernetes/fake"
)

const namespace = "kube-system"

type network struct{ name, subnet string }

var networks = map[string]network{
	"a": {"blue", "10.213.0.0/16"}, "b": {"", "10.214.0.0/16"}, "c": {"blue", "10.213.0.0/24"},
}

func main() {
	var pools []runtime.Object
	for _, network := range networks {
		id := kubernetes.PoolIdentifier{IpRange: network.subnet, NetworkName: network.name}
		// The fake clientset sets no resourceVersion, and Whereabouts' patches test it.
		pools = append(pools, &v1alpha1.IPPool{
			ObjectMeta: metav1.ObjectMeta{Name: kubernetes.IPPoolName(id), Namespace: namespace, ResourceVersion: "1"},
			Spec:       v1alpha1.IPPoolSpec{Range: network.subnet, Allocations: map[string]v1alpha1.IPAllocation{}},
		})
	}
	theirs, pods := fake.NewSimpleClientset(pools...), fakekubernetes.NewSimpleClientset()
	client := kubernetes.NewKubernetesClient(theirs, pods)

	for _, name := range []string{"a", "b"} {
		address := call(client, types.Allocate, name)
		fmt.Printf("ADD %s: %s\n", name, address)
		status := fmt.Sprintf(`[{"name":"default/net","interface":"net1","ips":["%s"],"dns":{}}]`,
			strings.Split(address, "/")[0])
		pod := &core.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default",
				Annotations: map[string]string{"k8s.v1.cni.cncf.io/network-status": status}},
			Status: core.PodStatus{Phase: core.PodRunning},
		}
		_, err := pods.CoreV1().Pods("default").Create(context.Background(), pod, metav1.CreateOptions{})
		check(err)
	}
	fmt.Println("reservations:", reservations(theirs))
	fmt.Printf("ADD c: %s\n", call(client, types.Allocate, "c"))
	call(client, types.Deallocate, "c")
	fmt.Println("DEL c")

	looper, err := reconciler.NewReconcileLooperWithClient(client)
	check(err)
	_, err = looper.ReconcileIPPools()
	check(err)
	check(looper.ReconcileOverlappingIPAddresses())
	fmt.Println("after the reconciler:", reservations(theirs))
	fmt.Printf("ADD c: %s\n", call(client, types.Allocate, "c"))
}

func reservations(client *fake.Clientset) string {
	list, err := client.WhereaboutsV1alpha1().OverlappingRangeIPReservations(namespace).List(context.Background(), metav1.ListOptions{})
	check(err)
	var names []string
	for _, item := range list.Items {
		names = append(names, item.Name)
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

// Returns the address of an ADD.
func call(client *kubernetes.Client, mode int, pod string) string {
	network := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net","type":"macvlan","ipam":{"type":"whereabouts",
		"range":"%s","network_name":"%s","configuration_path":"%s","kubernetes":{"kubeconfig":"unused"}}}`,
		networks[pod].subnet, networks[pod].name, os.Args[1])
	settings, _, err := config.LoadIPAMConfig([]byte(network), "K8S_POD_NAMESPACE=default;K8S_POD_NAME="+pod)
	check(err)
	ipam := &kubernetes.KubernetesIPAM{
		Client: *client, Config: *settings, Namespace: namespace, ContainerID: "sandbox-" + pod, IfName: "net1",
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
[[ $(<"$work/found") == "ADD a: 10.213.0.1/16
ADD b: 10.214.0.1/16
reservations: 10.214.0.1 blue-10.213.0.1
ADD c: 10.213.0.2/24
DEL c
after the reconciler: 10.214.0.1
ADD c: 10.213.0.1/24" ]] || { echo "it behaves otherwise now" >&2 && exit 1; }
