#!/usr/bin/env bash
#
# macvlan (containernetworking/plugins v1.9.1) leaves a pod's interface up, with
# its address, when the DEL of the IPAM plugin fails: the pod goes on answering
# from an address while its DEL is an error. So an IPAM plugin whose DEL failed
# must not free the address later on its own, as long as the namespace is there.
#
# Seen: DEL exits 1 with the error of the IPAM plugin, and
#   eth0  UP  10.1.0.5/24
#
# Needs root, macvlan in the kernel, Go and iproute2. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
go install github.com/containernetworking/plugins/plugins/main/macvlan@v1.9.1

# An IPAM plugin whose store is busy when it is asked to free.
cat >"$work/bin/busy" <<'END'
#!/bin/sh
cat >/dev/null
case $CNI_COMMAND in
    ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24"}]}' ;;
    DEL)
        echo '{"cniVersion":"1.0.0","code":11,"msg":"store busy"}'
        exit 1
        ;;
esac
END
chmod +x "$work/bin/busy"

cat >"$work/play" <<'END'
set -eu
mount -t tmpfs none /run
mkdir /run/netns
ip link add master0 type bridge
ip link set master0 up
ip netns add pod
export CNI_PATH=$1/bin CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/pod
conf='{"cniVersion":"1.0.0","name":"n","type":"macvlan","master":"master0","mode":"bridge","ipam":{"type":"busy"}}'
CNI_COMMAND=ADD "$1/bin/macvlan" <<<"$conf" >/dev/null
status=0
CNI_COMMAND=DEL "$1/bin/macvlan" <<<"$conf" >"$1/answer" || status=$?
echo "exit status of DEL: $status"
ip -n pod -br address show dev eth0
END

found=$(unshare --mount --net bash "$work/play" "$work")
echo "$found"
cat "$work/answer"
grep -q 'exit status of DEL: 1' <<<"$found" &&
    grep -qE '^eth0@\S+ +UP +10\.1\.0\.5/24' <<<"$found" &&
    grep -q 'store busy' "$work/answer" ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
