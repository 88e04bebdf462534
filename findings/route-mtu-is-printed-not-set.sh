#!/usr/bin/env bash
#
# A route's `mtu` and `advmss`, which CNI 1.1.0 has, are printed in the result
# of macvlan (containernetworking/plugins v1.9.1) and never set in the pod;
# `priority` of the same route is. CHECK is content.
#
# Seen: the result has
#   {"dst":"10.2.0.0/16","gw":"10.1.0.1","mtu":1300,"advmss":1200,"priority":77}
# and the pod
#   10.2.0.0/16 via 10.1.0.1 dev eth0 metric 77
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
    echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.5/24"}],"routes":[{"dst":"10.2.0.0/16","gw":"10.1.0.1","mtu":1300,"advmss":1200,"priority":77}]}'
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
jq -c '.routes[]' "$1/result"
ip -n pod route show 10.2.0.0/16
CNI_COMMAND=CHECK "$1/bin/macvlan" <<<"$(jq -c --slurpfile result "$1/result" '. + {prevResult: $result[0]}' <<<"$conf")"
echo "CHECK: $?"
END

found=$(unshare --mount --net bash "$work/play" "$work")
echo "$found"
[[ $(wc -l <<<"$found") == 3 ]] &&
    jq -e 'select(.mtu == 1300 and .advmss == 1200)' <<<"${found%%$'\n'*}" >/dev/null &&
    grep -qE '^10\.2\.0\.0/16 via 10\.1\.0\.1 dev eth0 metric 77 *$' <<<"$found" &&
    grep -q 'CHECK: 0' <<<"$found" ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
