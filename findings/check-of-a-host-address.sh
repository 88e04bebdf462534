#!/usr/bin/env bash
#
# An IPv4 address of one host (/32) with its gateway in an on-link route, the
# usual way to give pods addresses that are routed one by one: macvlan
# (containernetworking/plugins v1.9.1) sets it up, traffic has its routes, and
# CHECK of the very same result fails for ever, because it looks for a subnet
# route that a /32 never has.
#
# Seen:
#   ADD 0, routes 2, CHECK 1: Failed to find Gateway <nil> for interface eth0
#
# Needs root, macvlan in the kernel, Go, iproute2 and jq. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
go install github.com/containernetworking/plugins/plugins/main/macvlan@v1.9.1

cat >"$work/bin/host" <<'END'
#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" != ADD ] ||
    echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/32"}],
        "routes":[{"dst":"169.254.1.1/32","scope":253},{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]}'
END
chmod +x "$work/bin/host"

cat >"$work/play" <<'END'
set -eu
mount -t tmpfs none /run
mkdir /run/netns
ip link add master0 type bridge
ip link set master0 up
ip netns add n
export CNI_PATH=$1/bin CNI_IFNAME=eth0 CNI_CONTAINERID=c CNI_NETNS=/run/netns/n
conf='{"cniVersion":"1.0.0","name":"n","type":"macvlan","master":"master0","mode":"bridge","ipam":{"type":"host"}}'
add=0 check=0
result=$(CNI_COMMAND=ADD "$1/bin/macvlan" <<<"$conf") || add=$?
said=$(CNI_COMMAND=CHECK "$1/bin/macvlan" 2>/dev/null <<<"$(jq -c --argjson result "$result" '.prevResult = $result' <<<"$conf")") || check=$?
echo "ADD $add, routes $(ip -n n -4 -j route | jq length), CHECK $check: $(jq -r .msg <<<"$said")"
END

found=$(unshare --mount --net bash "$work/play" "$work")
echo "$found"
[[ $found == "ADD 0, routes 2, CHECK 1: Failed to find Gateway <nil> for interface eth0" ]] ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
