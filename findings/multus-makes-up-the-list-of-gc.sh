#!/usr/bin/env bash
#
# The list of valid attachments that a runtime gives with GC (CNI 1.1.0) does not
# reach the plugins below Multus (v4.3.0): it puts what it has cached itself in the
# place of both lists, of all networks mixed. An attachment that the runtime says is
# gone is listed as valid for as long as Multus remembers it. Before the first ADD
# on a machine GC is an error.
#
# Seen:
#   GC before the first ADD: exit 1
#   the runtime says: other eth0
#   the delegate is told: c1 eth0
#
# Needs Go, jq and root (a network namespace). Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
netns=finding$$
trap 'ip netns delete "$netns" 2>/dev/null || true; chmod -R u+w "$work"; rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/module"
printf 'module finding\ngo 1.24\nrequire gopkg.in/k8snetworkplumbingwg/multus-cni.v4 v4.3.0\n' >"$work/module/go.mod"
(cd "$work/module" && GOFLAGS=-mod=mod CGO_ENABLED=0 GOMODCACHE=$work/modules \
    go build -o "$work/bin/multus" gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/multus) 2>/dev/null

# A delegate that notes what it is given.
cat >"$work/bin/recorder" <<END
#!/bin/sh
cat >"$work/\$CNI_COMMAND"
[ "\$CNI_COMMAND" != ADD ] || echo '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0"}]}'
END
chmod +x "$work/bin/recorder"

call() {
    CNI_PATH=$work/bin CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/$netns "$work/bin/multus" >/dev/null <<END
{"cniVersion":"1.1.0","name":"m","type":"multus","cniDir":"$work/cache","binDir":"$work/bin","confDir":"$work",
 "delegates":[{"cniVersion":"1.1.0","name":"first","type":"recorder"}],
 "cni.dev/valid-attachments":[{"containerID":"other","ifname":"eth0"}]}
END
}

ip netns add "$netns"
before=0
call GC || before=$?
call ADD
call GC
told=$(jq -r '."cni.dev/valid-attachments"[] | "\(.containerID) \(.ifname)"' "$work/GC")

echo "GC before the first ADD: exit $before"
echo "the runtime says: other eth0"
echo "the delegate is told: $told"
[[ $before == 1 && $told == "c1 eth0" ]] || { echo "it behaves otherwise now" >&2 && exit 1; }
