#!/usr/bin/env bash
#
# Multus (v4.3.0) hands the runtime's CNI_ARGS on with every K8S_ key twice: its
# own five first, an unknown one with an empty value, then the runtime's again,
# in an order that is drawn for each call. IgnoreUnknown comes as "true" and as
# "1". A plugin that refuses a repeated key, or takes the first uid for the pod's,
# is wrong under it.
#
# Seen: what the delegate is called with, sorted
#   IgnoreUnknown=1
#   IgnoreUnknown=true
#   K8S_POD_INFRA_CONTAINER_ID=
#   K8S_POD_NAME=p
#   K8S_POD_NAME=p
#   K8S_POD_NAMESPACE=d
#   K8S_POD_NAMESPACE=d
#   K8S_POD_UID=
#
# Needs Go and root (a network namespace). Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
netns=finding$$
trap 'ip netns delete "$netns" 2>/dev/null || true; chmod -R u+w "$work"; rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/module"
printf 'module finding\ngo 1.24\nrequire gopkg.in/k8snetworkplumbingwg/multus-cni.v4 v4.3.0\n' >"$work/module/go.mod"
(cd "$work/module" && GOFLAGS=-mod=mod CGO_ENABLED=0 GOMODCACHE=$work/modules \
    go build -o "$work/bin/multus" gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/multus) 2>/dev/null

# A delegate that notes what it is called with.
cat >"$work/bin/recorder" <<END
#!/bin/sh
cat >/dev/null
echo "\$CNI_ARGS" >>"$work/calls"
echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}]}'
END
chmod +x "$work/bin/recorder"

ip netns add "$netns"
CNI_PATH=$work/bin CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/$netns \
    CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=d;K8S_POD_NAME=p" "$work/bin/multus" >/dev/null <<END
{"cniVersion":"1.0.0","name":"m","type":"multus","cniDir":"$work/cache","binDir":"$work/bin","confDir":"$work",
 "delegates":[{"cniVersion":"1.0.0","name":"first","type":"recorder"}]}
END

found=$(head -n 1 "$work/calls" | tr ';' '\n' | sort)
echo "what the delegate is called with, sorted"
echo "$found"
[[ $found == $'IgnoreUnknown=1\nIgnoreUnknown=true\nK8S_POD_INFRA_CONTAINER_ID=\nK8S_POD_NAME=p\nK8S_POD_NAME=p\nK8S_POD_NAMESPACE=d\nK8S_POD_NAMESPACE=d\nK8S_POD_UID=' ]] ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
