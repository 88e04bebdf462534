#!/usr/bin/env bash
#
# macvlan (containernetworking/plugins v1.9.1) sets a route of a family in which the
# pod has no address, if the route has no gateway: ADD and CHECK succeed, and no
# packet of the pod can use the route. With a gateway, ADD fails.
#
# Seen, for the address 10.1.0.5/24 and the route fd09::/64:
#   fd09::/64 metric 1024
#   CHECK: 0
#
# Needs root, macvlan in the kernel, Go, iproute2 and jq. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
go install github.com/containernetworking/plugins/plugins/main/macvlan@v1.9.1

cat >"$work/bin/routed" <<'END'
#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" != ADD ] ||
    echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.5/24"}],"routes":[{"dst":"fd09::/64"}]}'
END
chmod +x "$work/bin/routed"

cat >"$work/play" <<'END'
set -eu
mount -t tmpfs none /run
mkdir /run/netns
ip link add master0 type bridge
ip link set master0 up
ip netns add pod
export CNI_PATH=$1/bin CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/pod
conf='{"cniVersion":"1.1.0","name":"n","type":"macvlan","master":"master0","mode":"bridge","ipam":{"type":"routed"}}'
CNI_COMMAND=ADD "$1/bin/macvlan" <<<"$conf" >"$1/result"
ip -n pod -6 route show fd09::/64 dev eth0
echo "addresses: $(ip -n pod -6 -o address show eth0 scope global | wc -l)"
CNI_COMMAND=CHECK "$1/bin/macvlan" <<<"$(jq -c --slurpfile result "$1/result" '. + {prevResult: $result[0]}' <<<"$conf")"
echo "CHECK: $?"
END

found=$(unshare --mount --net bash "$work/play" "$work")
echo "$found"
[[ $(wc -l <<<"$found") == 3 ]] && grep -q '^fd09::/64 ' <<<"$found" &&
    grep -q '^addresses: 0$' <<<"$found" && grep -q '^CHECK: 0$' <<<"$found" ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
