#!/usr/bin/env bash
#
# One attachment through the real cnitool, in network, mount and process
# namespaces that end with this script.
#
# Usage: drive.sh TOOLS HEREABOUTS WORK VERSION
# WORK holds net.d/test.conflist and flat.conf.

set -euo pipefail
tools=$1 hereabouts=$2 work=$3 version=$4

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# libcni's cache and the named namespaces are this world's own.
mount -t tmpfs none /var/lib
mount -t tmpfs none /run
ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth0 up
ip link set eth1 up
ip netns add pod

export CNI_PATH=$work/bin:$tools NETCONFPATH=$work/net.d HEREABOUTS_CONFIG=$work/flat.conf
cni() { "$tools/cnitool" "$@" test /run/netns/pod; }
held() { "$hereabouts" list -o json 2>/dev/null | jq -r '.[].address'; }

cni add >"$work/result" || fail "ADD: $(cat "$work/result")"
on_interface=$(ip -n pod -j address show eth0 | jq -r '.[0].addr_info[] | select(.family == "inet") | "\(.local)/\(.prefixlen)"')
[[ $on_interface == 10.88.0.2/24 ]] || fail "the interface has: $on_interface"
[[ $(held) == 10.88.0.2 ]] || fail "held after ADD: $(held)"
grep -q 10.88.0.2/24 "$work/result" || fail "the result: $(cat "$work/result")"

case $version in
    0.4.0 | 1.0.0 | 1.1.0) cni check || fail CHECK ;;
esac
if [[ $version == 1.1.0 ]]; then
    cni status || fail STATUS
    # The main plugins do not pass GC on: it is called directly. The pod lives
    # and is kept; when its namespace is gone it is freed.
    gc() {
        jq -c '.plugins[0] + {cniVersion, name, "cni.dev/valid-attachments": []}' "$work/net.d/test.conflist" |
            CNI_COMMAND=GC "$hereabouts"
    }
    gc || fail GC
    [[ $(held) == 10.88.0.2 ]] || fail "GC took a living pod's address"
fi
cni del || fail DEL
[[ -z $(held) ]] || fail "held after DEL: $(held)"

if [[ $version == 1.1.0 ]]; then
    cni add >/dev/null || fail "second ADD"
    ip netns delete pod
    gc || fail "second GC"
    [[ -z $(held) ]] || fail "held after GC: $(held)"
fi
