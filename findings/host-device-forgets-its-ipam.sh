#!/usr/bin/env bash
#
# DEL of host-device (containernetworking/plugins v1.9.1) does not call its IPAM
# plugin once the namespace is gone: with an empty CNI_NETNS it succeeds without a
# call, and with the path of a namespace that is gone it fails without one. What the
# IPAM plugin has given to such a pod is never given back. macvlan calls it in both
# cases.
#
# Seen:
#   empty: host-device exit 0, IPAM calls: 0; macvlan exit 0, IPAM calls: 1
#   gone:  host-device exit 1, IPAM calls: 0; macvlan exit 0, IPAM calls: 1
#
# Needs Go. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
go install github.com/containernetworking/plugins/plugins/main/host-device@v1.9.1
go install github.com/containernetworking/plugins/plugins/main/macvlan@v1.9.1

cat >"$work/bin/counting" <<END
#!/bin/sh
cat >/dev/null
echo "\$CNI_COMMAND" >>"$work/calls"
END
chmod +x "$work/bin/counting"

# Prints how a DEL with this CNI_NETNS ended, and how often the IPAM plugin was called.
del() {
    local status=0
    : >"$work/calls"
    CNI_COMMAND=DEL CNI_PATH=$work/bin CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=$2 \
        "$work/bin/$1" >/dev/null \
        <<<'{"cniVersion":"1.0.0","name":"n","type":"'"$1"'","device":"eth9","ipam":{"type":"counting"}}' || status=$?
    echo "$1 exit $status, IPAM calls: $(wc -l <"$work/calls")"
}

found="empty: $(del host-device ""); $(del macvlan "")
gone: $(del host-device "$work/gone"); $(del macvlan "$work/gone")"
echo "$found"
expected='empty: host-device exit 0, IPAM calls: 0; macvlan exit 0, IPAM calls: 1
gone: host-device exit 1, IPAM calls: 0; macvlan exit 0, IPAM calls: 1'
[[ $found == "$expected" ]] || { echo "it behaves otherwise now" >&2 && exit 1; }
