#!/usr/bin/env bash
#
# A node of the world of world.sh: network and mount namespaces of its own, and
# a directory in the place of its disk. It lives as long as its standard input
# is open; its pods' namespaces go with it, its disk stays.
#
# Usage: nsenter ... unshare --net --mount node.sh DISK
# DISK holds etc-cni, var-lib-cni and boot_id. Says its process id, by which
# the world gives it an interface.

set -euo pipefail
disk=$1

mount -t tmpfs none /run/netns
mount --bind "$disk/etc-cni" /etc/cni
mount --bind "$disk/var-lib-cni" /var/lib/cni
# Another boot has another id: that is how a reboot is seen.
mount --bind "$disk/boot_id" /proc/sys/kernel/random/boot_id
ip link set lo up

echo $$
read -r || true
