#!/usr/bin/env bash
#
# The first process of a world for nodes: network, mount and process namespaces
# of its own with a bridge in them. It lives as long as its standard input is
# open; the kernel ends everything else with it.
#
# Usage: unshare --net --mount --pid --fork --kill-child --mount-proc world.sh
# Says "ready" when it is.

set -euo pipefail

# What CNI writes to, empty and this world's own. /etc as it is, but for
# /etc/cni: to mount there would need the machine to have it.
mount -t tmpfs none /run
mkdir /run/netns /run/etc
mount --bind /etc /run/etc
mount -t tmpfs none /etc
find /run/etc -mindepth 1 -maxdepth 1 ! -name cni -exec ln -s -t /etc {} +
mkdir /etc/cni
mount -t tmpfs none /var/lib
mkdir /var/lib/cni

ip link set lo up
ip link add br0 type bridge
ip link set br0 up

echo ready
read -r || true
