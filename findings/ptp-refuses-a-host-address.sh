#!/usr/bin/env bash
#
# ptp (containernetworking/plugins v1.9.1) cannot set up an IPv4 address with the
# prefix length 32: ADD fails after the IPAM plugin has given the address. The same
# with an IPv6 address of the prefix length 128 works.
#
# Seen, each with a gateway:
#   10.1.0.5/32: ... failed to delete route ...: no such process
#   fd00::5/128: an answer with the address
#
# Needs root, veth in the kernel, Go, iproute2 and jq. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
go install github.com/containernetworking/plugins/plugins/main/ptp@v1.9.1

cat >"$work/bin/one" <<'END'
#!/bin/sh
address=$(jq -r .ipam.address)
[ "$CNI_COMMAND" != ADD ] ||
    printf '{"cniVersion":"1.1.0","ips":[{"address":"%s","gateway":"%s"}]}\n' "$address" "${address%5/*}1"
END
chmod +x "$work/bin/one"

cat >"$work/play" <<'END'
set -eu
mount -t tmpfs none /run
mkdir /run/netns
export CNI_COMMAND=ADD CNI_PATH=$1/bin CNI_IFNAME=eth0
for address in 10.1.0.5/32 fd00::5/128; do
    pod=pod${address#*/}
    ip netns add "$pod"
    export CNI_CONTAINERID=$pod CNI_NETNS=/run/netns/$pod
    "$1/bin/ptp" <<<'{"cniVersion":"1.1.0","name":"n","type":"ptp","ipam":{"type":"one","address":"'"$address"'"}}' >"$1/result" || true
    echo "$address: $(jq -r '.msg // (.ips[0].address + " is set")' "$1/result")"
done
END

found=$(unshare --mount --net bash "$work/play" "$work")
echo "$found"
[[ $(wc -l <<<"$found") == 2 ]] && grep -q '^10.1.0.5/32: .*no such process' <<<"$found" &&
    grep -q '^fd00::5/128: fd00::5/128 is set$' <<<"$found" ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
