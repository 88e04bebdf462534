#!/usr/bin/env bash
#
# A node and the DaemonSet's pod on it, as far as the kernel is concerned: the
# node is a process and a mount namespace, with directories of its own in the
# place of /opt, /etc/cni, /var/lib/cni and /run; the pod is another mount
# namespace with nothing in it but the executable, /proc, the volumes and the
# token. What the pod is to be comes from its manifest, by the caller.
#
# Usage: unshare --pid --fork --mount-proc --kill-child pod.sh node DISK
#            lives as long as its standard input is open
#        nsenter ... pod.sh pod ROOT EXECUTABLE CAPABILITIES COMMAND...
#            in the environment: TOKEN, the directory with token and CA;
#            VARIABLES, the container's environment; VOLUMES, a word
#            "path on the node:path in the container:type" each

set -euo pipefail
# The sbin directories are not on everybody's PATH.
export PATH=$PATH:/usr/sbin:/sbin

node() {
    local disk=$1
    mount --make-rprivate /
    mkdir -p "$disk"/{opt/cni/bin,etc-cni,var-lib-cni}
    mount -t tmpfs none /run
    mkdir /run/netns
    mkdir -p /etc/cni /var/lib/cni
    mount --bind "$disk/opt" /opt
    mount --bind "$disk/etc-cni" /etc/cni
    mount --bind "$disk/var-lib-cni" /var/lib/cni
    echo ready
    read -r || true
}

pod() {
    local root=$1 executable=$2 capabilities=$3 volume from to type
    shift 3
    mount -t tmpfs none "$root"
    mkdir -p "$root"/{bin,dev,proc,var/run/secrets/kubernetes.io/serviceaccount}
    cp "$executable" "$root/bin/hereabouts"
    mount -t proc none "$root/proc"
    # Every runtime gives its containers this one.
    touch "$root/dev/null" && mount --bind /dev/null "$root/dev/null"
    mount --bind "$TOKEN" "$root/var/run/secrets/kubernetes.io/serviceaccount"
    for volume in $VOLUMES; do
        IFS=: read -r from to type <<<"$volume"
        [[ $type != DirectoryOrCreate ]] || mkdir -p "$from"
        mkdir -p "$root/$to"
        mount --bind "$from" "$root/$to"
    done
    mount -o remount,ro "$root"
    enter "$capabilities" chroot "$root" "$@"
}

# With exactly these capabilities, and an environment without ours.
enter() {
    local capabilities=$1
    shift
    # shellcheck disable=SC2086
    exec setpriv --bounding-set "-all$capabilities" --inh-caps=-all env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin $VARIABLES "$@"
}

"$@"
