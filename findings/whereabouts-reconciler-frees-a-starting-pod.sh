#!/usr/bin/env bash
#
# The reconciler of Whereabouts v0.9.4 frees the address of a pod that takes longer than two
# seconds to start. Multus writes the addresses of a pod into its annotation when all its
# interfaces are done. Until then, the reconciler reads the pod three times, with pauses of
# 250 ms, and then takes the address for unused (pkg/reconciler/iploop.go, isOrphanedIP).
# It removes the entry in the pool and the reservation.
# A second interface, or the wait for Whereabouts' own Lease, which all calls of a cluster
# share, takes longer than that. Another pod gets the address.
#
# The test: pod a has got its first address, and its next interface takes four seconds: it
# is Pending, and has no annotation. Pod b, the control, runs and shows its address. A
# small program calls Whereabouts' own functions, with the fake clientset of Whereabouts,
# in memory, as in its own tests. The reconciler runs, pod a shows its address, and pod c
# starts.
#
# Seen:
#   ADD a: 10.213.0.1/16
#   ADD b: 10.213.0.2/16
#   freed by the reconciler: [10.213.0.1]
#   ADD c: 10.213.0.1/16
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
// Starts pods with Whereabouts' own functions, and runs its reconciler meanwhile.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/k8snetworkplumbingwg/whereabouts/pkg/api/whereabouts.cni.cncf.io/v1alpha1"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/config"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/generated/clientset/versioned/fake"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/reconciler"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/storage/kubernetes"
	"github.com/k8snetworkplumbingwg/whereabouts/pkg/types"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	fakekubernetes "k8s.io/client-go/kubernetes/fake"
)

const namespace = "kube-system"

const subnet = "10.213.0.0/16"

func main() {
	// The fake clientset sets no resourceVersion, and Whereabouts' patches test it.
	pool := &v1alpha1.IPPool{
		ObjectMeta: metav1.ObjectMeta{
			Name:      kubernetes.IPPoolName(kubernetes.PoolIdentifier{IpRange: subnet}),
			Namespace: namespace, ResourceVersion: "1",
		},
		Spec: v1alpha1.IPPoolSpec{Range: subnet, Allocations: map[string]v1alpha1.IPAllocation{}},
	}
	pods := fakekubernetes.NewSimpleClientset()
	client := kubernetes.NewKubernetesClient(fake.NewSimpleClientset(pool), pods)

	for _, name := range []string{"a", "b"} {
		pod := &core.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
			Status:     core.PodStatus{Phase: core.PodPending},
		}
		_, err := pods.CoreV1().Pods("default").Create(context.Background(), pod, metav1.CreateOptions{})
		check(err)
	}
	first := add(client, "a")
	show(pods, "b", add(client, "b"))

	done := make(chan struct{})
	go func() {
		time.Sleep(4 * time.Second)
		show(pods, "a", first)
		close(done)
	}()
	looper, err := reconciler.NewReconcileLooperWithClient(client)
	check(err)
	freed, err := looper.ReconcileIPPools()
	check(err)
	check(looper.ReconcileOverlappingIPAddresses())
	fmt.Println("freed by the reconciler:", freed)
	<-done
	add(client, "c")
}

// Does what Multus does when all interfaces of a pod are done, and the kubelet after it.
func show(pods *fakekubernetes.Clientset, name, address string) {
	pod, err := pods.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	check(err)
	status := fmt.Sprintf(`[{"name":"default/net","interface":"net1","ips":["%s"],"dns":{}}]`, strings.Split(address, "/")[0])
	pod.Annotations = map[string]string{"k8s.v1.cni.cncf.io/network-status": status}
	pod.Status.Phase = core.PodRunning
	_, err = pods.CoreV1().Pods("default").Update(context.Background(), pod, metav1.UpdateOptions{})
	check(err)
}

func add(client *kubernetes.Client, pod string) string {
	address := call(client, types.Allocate, pod)
	fmt.Printf("ADD %s: %s\n", pod, address)
	return address
}

// Returns the address of an ADD.
func call(client *kubernetes.Client, mode int, pod string) string {
	network := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net","type":"macvlan","ipam":{"type":"whereabouts",
		"range":"%s","configuration_path":"%s","kubernetes":{"kubeconfig":"unused"}}}`, subnet, os.Args[1])
	settings, _, err := config.LoadIPAMConfig([]byte(network), "K8S_POD_NAMESPACE=default;K8S_POD_NAME="+pod)
	check(err)
	ipam := &kubernetes.KubernetesIPAM{
		Client: *client, Config: *settings, Namespace: namespace, ContainerID: "sandbox-" + pod, IfName: "net1",
	}
	ctx, cancel := context.WithTimeout(context.Background(), types.AddTimeLimit)
	defer cancel()
	ips, err := kubernetes.IPManagement(ctx, mode, *settings, ipam)
	check(err)
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
ADD b: 10.213.0.2/16
freed by the reconciler: [10.213.0.1]
ADD c: 10.213.0.1/16" ]] || { echo "it behaves otherwise now" >&2 && exit 1; }
