#!/usr/bin/env bash
#
# host-local (containernetworking/plugins v1.9.1) accepts the broadcast address of
# the subnet as rangeStart, without a rangeEnd. The first container gets the
# broadcast address, and the next ones get addresses of other subnets.
#
# Seen, with the subnet 10.1.0.0/24 and rangeStart 10.1.0.255:
#   c1: 10.1.0.255/24
#   c2: 10.1.1.0/24
#   c3: 10.1.1.1/24
#
# Needs Go and jq. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
go install github.com/containernetworking/plugins/plugins/ipam/host-local@v1.9.1

config=$(jq -n --arg dir "$work/data" '{
    cniVersion: "1.1.0", name: "n", type: "macvlan",
    ipam: {type: "host-local", dataDir: $dir, subnet: "10.1.0.0/24", rangeStart: "10.1.0.255"}
}')
export CNI_COMMAND=ADD CNI_PATH=$GOBIN CNI_IFNAME=eth0 CNI_NETNS=/run/netns/none
found=$(for container in c1 c2 c3; do
    CNI_CONTAINERID=$container "$GOBIN/host-local" <<<"$config" | jq -r "\"$container: \" + .ips[0].address"
done)
echo "$found"
[[ $found == "c1: 10.1.0.255/24
c2: 10.1.1.0/24
c3: 10.1.1.1/24" ]] || { echo "it behaves otherwise now" >&2 && exit 1; }
