// The webhooks of Cluster API that look at IPAddresses and IPAddressClaims, without the
// rest of its manager. Cluster API's own code, on the address that is given; the caller
// tells the API server of it. KUBECONFIG names the API server.
package main

import (
	"flag"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	"sigs.k8s.io/cluster-api/exp/ipam/webhooks"
	ctrl "sigs.k8s.io/controller-runtime"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

func main() {
	port := flag.Int("port", 0, "the port, on 127.0.0.1")
	certificates := flag.String("cert-dir", "", "the directory with tls.crt and tls.key")
	flag.Parse()
	if err := serve(*port, *certificates); err != nil {
		fmt.Fprintln(os.Stderr, "webhooks:", err)
		os.Exit(1)
	}
}

func serve(port int, certificates string) error {
	ctrl.SetLogger(klog.Background())
	scheme := runtime.NewScheme()
	if err := ipamv1.AddToScheme(scheme); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		WebhookServer: webhook.NewServer(webhook.Options{
			Host: "127.0.0.1", Port: port, CertDir: certificates,
		}),
	})
	if err != nil {
		return err
	}
	addresses := webhooks.IPAddress{Client: manager.GetAPIReader()}
	if err := addresses.SetupWebhookWithManager(manager); err != nil {
		return err
	}
	if err := (&webhooks.IPAddressClaim{}).SetupWebhookWithManager(manager); err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
