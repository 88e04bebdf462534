#!/usr/bin/env bash
#
# Two default routes with different gateways in one IPAM answer, through macvlan
# (containernetworking/plugins v1.9.1), mean another thing in each family. IPv4:
# each route goes in front of the one before, so that the gateway that is listed
# last is used and the first one never. IPv6: the kernel makes one route of them
# that shares the traffic among both gateways. CHECK passes for both.
#
# Seen:
#   IPv4: uses 10.1.0.2, CHECK 0
#   IPv6: one route by fd00::1 and fd00::2, CHECK 0
#
# Needs root, macvlan in the kernel, Go, iproute2 and jq. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
go install github.com/containernetworking/plugins/plugins/main/macvlan@v1.9.1

cat >"$work/bin/two" <<'END'
#!/bin/sh
# Answers ADD for the family that the configuration asks for.
family=$(jq -r .ipam.family)
[ "$CNI_COMMAND" = ADD ] || exit 0
if [ "$family" = 4 ]; then
    address=10.1.0.5/24 any=0.0.0.0/0 one=10.1.0.1 two=10.1.0.2
else
    address=fd00::5/64 any=::/0 one=fd00::1 two=fd00::2
fi
echo '{"cniVersion":"1.0.0","ips":[{"address":"'$address'"}],
    "routes":[{"dst":"'$any'","gw":"'$one'"},{"dst":"'$any'","gw":"'$two'"}]}'
END
chmod +x "$work/bin/two"

cat >"$work/play" <<'END'
set -eu
mount -t tmpfs none /run
mkdir /run/netns
ip link add master0 type bridge
ip link set master0 up
export CNI_PATH=$1/bin CNI_IFNAME=eth0
for family in 4 6; do
    export CNI_CONTAINERID=c$family CNI_NETNS=/run/netns/n$family
    ip netns add "n$family"
    conf='{"cniVersion":"1.0.0","name":"n","type":"macvlan","master":"master0","mode":"bridge","ipam":{"type":"two","family":"'$family'"}}'
    result=$(CNI_COMMAND=ADD "$1/bin/macvlan" <<<"$conf")
    check=0
    CNI_COMMAND=CHECK "$1/bin/macvlan" >/dev/null 2>&1 <<<"$(jq -c --argjson result "$result" '.prevResult = $result' <<<"$conf")" || check=$?
    if [ $family = 4 ]; then
        echo "IPv4: uses $(ip -n n4 -4 -j route get 192.0.2.1 | jq -r '.[0].gateway'), CHECK $check"
    else
        echo "IPv6: one route by $(ip -n n6 -6 -j route show default | jq -r '.[0].nexthops | map(.gateway) | join(" and ")'), CHECK $check"
    fi
done
END

found=$(unshare --mount --net bash "$work/play" "$work")
echo "$found"
[[ $found == $'IPv4: uses 10.1.0.2, CHECK 0\nIPv6: one route by fd00::1 and fd00::2, CHECK 0' ]] ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
