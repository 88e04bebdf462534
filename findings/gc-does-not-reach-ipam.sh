#!/usr/bin/env bash
#
# The GC of CNI 1.1.0 does not reach an IPAM plugin: macvlan, bridge, ptp and
# host-device (containernetworking/plugins v1.9.1) answer it with success and
# call nobody, although each of them passes STATUS on. An address whose DEL was
# lost is therefore never collected by the runtime, unless the IPAM plugin
# stands in the list of plugins by itself.
#
# Seen: calls of the IPAM plugin, by main plugin
#   macvlan: STATUS
#   bridge: STATUS
#   ptp: STATUS
#   host-device: STATUS
#
# Needs Go. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
plugins=(macvlan bridge ptp host-device)
for plugin in "${plugins[@]}"; do
    go install "github.com/containernetworking/plugins/plugins/main/$plugin@v1.9.1"
done

# An IPAM plugin that notes which verbs it is called with.
cat >"$work/bin/recorder" <<END
#!/bin/sh
cat >/dev/null
echo "\$CNI_COMMAND" >>"$work/calls"
END
chmod +x "$work/bin/recorder"

found=""
for plugin in "${plugins[@]}"; do
    : >"$work/calls"
    common="\"cniVersion\":\"1.1.0\",\"name\":\"n\",\"type\":\"$plugin\",\"master\":\"lo\",\"device\":\"lo\",\"ipam\":{\"type\":\"recorder\"}"
    CNI_PATH=$work/bin CNI_COMMAND=STATUS "$work/bin/$plugin" <<<"{$common}"
    CNI_PATH=$work/bin CNI_COMMAND=GC "$work/bin/$plugin" <<<"{$common,\"cni.dev/valid-attachments\":[{\"containerID\":\"c1\",\"ifname\":\"eth0\"}]}"
    found+="$plugin: $(paste -sd ' ' "$work/calls")"$'\n'
done

echo "calls of the IPAM plugin, by main plugin"
echo "$found"
[[ $found == $'macvlan: STATUS\nbridge: STATUS\nptp: STATUS\nhost-device: STATUS\n' ]] ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
