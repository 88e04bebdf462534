#!/usr/bin/env bash
#
# macvlan (containernetworking/plugins v1.9.1) throws the `dns` of its IPAM
# plugin away, ptp keeps it: the same IPAM configuration with `resolvConf` or
# `dns` gives a pod name servers behind one main plugin and none behind another,
# without a word.
#
# Seen: name servers in the result
#   macvlan: []
#   ptp: ["10.1.0.53"]
#
# Needs root, macvlan and veth in the kernel, Go, iproute2 and jq. Leaves
# nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOBIN=$work/bin GOFLAGS=-mod=mod CGO_ENABLED=0
for plugin in macvlan ptp; do
    go install "github.com/containernetworking/plugins/plugins/main/$plugin@v1.9.1"
done

cat >"$work/bin/named" <<'END'
#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" != ADD ] ||
    echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1"}],"dns":{"nameservers":["10.1.0.53"]}}'
END
chmod +x "$work/bin/named"

cat >"$work/play" <<'END'
set -eu
mount -t tmpfs none /run
mkdir /run/netns
ip link add master0 type bridge
ip link set master0 up
export CNI_PATH=$1/bin CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_COMMAND=ADD
for plugin in macvlan ptp; do
    ip netns add "$plugin"
    conf='{"cniVersion":"1.0.0","name":"n","type":"'$plugin'","master":"master0","mode":"bridge","ipam":{"type":"named"}}'
    echo "$plugin: $(CNI_NETNS=/run/netns/$plugin "$1/bin/$plugin" <<<"$conf" | jq -c '.dns.nameservers // []')"
done
END

found=$(unshare --mount --net bash "$work/play" "$work")
echo "name servers in the result"
echo "$found"
[[ $found == $'macvlan: []\nptp: ["10.1.0.53"]' ]] ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
