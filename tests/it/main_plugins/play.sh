#!/usr/bin/env bash
#
# One attachment of a main plugin, in network, mount and process namespaces that
# end with this script. Prints what happens; the test judges it.
#
# Usage: play.sh TOOLS HEREABOUTS WORK STEPS
# WORK holds net.d/test.conflist and flat.conf. STEPS are commands for bash.

set -uo pipefail
tools=$1 hereabouts=$2 work=$3 steps=$4

# libcni's cache and the named namespaces are this world's own.
mount -t tmpfs none /var/lib
mount -t tmpfs none /run
ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth0 up
ip link set eth1 up
ip link add dev0 type veth peer name dev1
ip link set dev1 up
ip netns add pod

export CNI_PATH=$work/bin:$tools NETCONFPATH=$work/net.d HEREABOUTS_CONFIG=$work/flat.conf
cni() { CNI_IFNAME=net1 "$tools/cnitool" "$1" test /run/netns/pod; }
held() { "$hereabouts" list -o json 2>/dev/null | jq -r '.[].address'; }
pod() { ip -n pod "$@"; }

eval "$steps"
