#!/usr/bin/env bash
#
# sbr (containernetworking/plugins v1.9.1) moves the routes of an interface into a
# table of its own. A route through a link-local gateway, which is how IPv6 routers
# announce themselves, is deleted from the main table and copied nowhere: the pod
# loses it, and ADD succeeds.
#
# Seen, for fd00::5/64 with the routes fd08::/64 via fd00::1 and fd09::/64 via
# fe80::1: the first is in table 100, the second in no table.
#
# Needs root, macvlan in the kernel, Go, iproute2 and jq. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
go install github.com/containernetworking/plugins/plugins/main/macvlan@v1.9.1
go install github.com/containernetworking/plugins/plugins/meta/sbr@v1.9.1

cat >"$work/bin/routed" <<'END'
#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" != ADD ] ||
    echo '{"cniVersion":"1.1.0","ips":[{"address":"fd00::5/64"}],"routes":[{"dst":"fd08::/64","gw":"fd00::1"},{"dst":"fd09::/64","gw":"fe80::1"}]}'
END
chmod +x "$work/bin/routed"

cat >"$work/play" <<'END'
set -eu
mount -t tmpfs none /run
mkdir /run/netns
ip link add master0 type bridge
ip link set master0 up
ip netns add pod
export CNI_COMMAND=ADD CNI_PATH=$1/bin CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/pod
conf='{"cniVersion":"1.1.0","name":"n","type":"macvlan","master":"master0","mode":"bridge","ipam":{"type":"routed"}}'
"$1/bin/macvlan" <<<"$conf" >"$1/result"
before() { echo "before sbr: $1 $(ip -n pod -6 route show table main "$1" | wc -l)"; }
after() { echo "after sbr: $1 $(ip -n pod -6 route show table all "$1" | wc -l)"; }
before fd08::/64
before fd09::/64
"$1/bin/sbr" <<<"$(jq -c --slurpfile result "$1/result" -n '{cniVersion: "1.1.0", name: "n", type: "sbr", prevResult: $result[0]}')" >/dev/null 2>&1
after fd08::/64
after fd09::/64
END

found=$(unshare --mount --net bash "$work/play" "$work")
echo "$found"
expected='before sbr: fd08::/64 1
before sbr: fd09::/64 1
after sbr: fd08::/64 1
after sbr: fd09::/64 0'
[[ $found == "$expected" ]] || { echo "it behaves otherwise now" >&2 && exit 1; }
