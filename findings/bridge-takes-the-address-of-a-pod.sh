#!/usr/bin/env bash
#
# A bridge with `isGateway` (containernetworking/plugins v1.9.1) whose IPAM plugin
# answers without a gateway takes the first address of the subnet for the bridge
# itself, also when that very address was just given to the pod. ADD and CHECK
# succeed with two interfaces of one address.
#
# Seen, for an IPAM plugin that gives 10.1.0.1/24:
#   the result: {"address":"10.1.0.1/24","gateway":"10.1.0.1"}
#   the bridge: inet 10.1.0.1/24
#   the pod:    inet 10.1.0.1/24
#
# Needs root, bridge and veth in the kernel, Go, iproute2 and jq. Leaves nothing
# behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
go install github.com/containernetworking/plugins/plugins/main/bridge@v1.9.1

cat >"$work/bin/first" <<'END'
#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.1/24"}]}'
END
chmod +x "$work/bin/first"

cat >"$work/play" <<'END'
set -eu
mount -t tmpfs none /run
mkdir /run/netns
ip netns add pod
export CNI_PATH=$1/bin CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/pod
conf='{"cniVersion":"1.1.0","name":"n","type":"bridge","bridge":"br0","isGateway":true,"ipam":{"type":"first"}}'
CNI_COMMAND=ADD "$1/bin/bridge" <<<"$conf" >"$1/result"
echo "result: $(jq -c '.ips[] | {address, gateway}' "$1/result")"
echo "bridge: $(ip -4 -o address show br0 | awk '{print $4}')"
echo "pod: $(ip -n pod -4 -o address show eth0 | awk '{print $4}')"
CNI_COMMAND=CHECK "$1/bin/bridge" <<<"$(jq -c --slurpfile result "$1/result" '. + {prevResult: $result[0]}' <<<"$conf")"
echo "CHECK: $?"
END

found=$(unshare --mount --net bash "$work/play" "$work")
echo "$found"
expected='result: {"address":"10.1.0.1/24","gateway":"10.1.0.1"}
bridge: 10.1.0.1/24
pod: 10.1.0.1/24
CHECK: 0'
[[ $found == "$expected" ]] || { echo "it behaves otherwise now" >&2 && exit 1; }
