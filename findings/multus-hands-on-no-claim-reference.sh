#!/usr/bin/env bash
#
# A pod's network selection may name an IPAMClaim (ipam-claim-reference), as the IPAM
# extensions of KubeVirt write it. Multus (v4.3.0) reads the selection and hands
# nothing of this key on to the plugin of the network, in no place: neither on stdin
# nor in the environment. What the same selection says under "cni-args" does arrive,
# in args.cni. An IPAM plugin under Multus learns of the claim only if it reads the
# pod from the API server itself.
#
# Seen: what of the selection reaches the delegate
#   args.cni = {"marker": "from-cni-args"}
#   the name of the claim occurs 0 times
#
# Needs Go, Python 3 and root (a network namespace). Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
netns=finding$$
server=
trap '[[ -z $server ]] || kill "$server"; ip netns delete "$netns" 2>/dev/null || true; chmod -R u+w "$work"; rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/module"
printf 'module finding\ngo 1.24\nrequire gopkg.in/k8snetworkplumbingwg/multus-cni.v4 v4.3.0\n' >"$work/module/go.mod"
(cd "$work/module" && GOFLAGS=-mod=mod CGO_ENABLED=0 GOMODCACHE=$work/modules \
    go build -o "$work/bin/multus" gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/multus) 2>/dev/null

# A delegate that notes its standard input and its environment.
cat >"$work/bin/recorder" <<END
#!/bin/sh
cat >"$work/stdin-\$CNI_IFNAME"
env >"$work/environment-\$CNI_IFNAME"
echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'\$CNI_IFNAME'"}]}'
END
chmod +x "$work/bin/recorder"

# The two objects that Multus asks the API server for.
cat >"$work/server.py" <<'END'
import http.server, json, sys
networks = [{"name": "n", "namespace": "d", "ipam-claim-reference": "the-claim", "cni-args": {"marker": "from-cni-args"}}]
pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d", "uid": "u",
       "annotations": {"k8s.v1.cni.cncf.io/networks": json.dumps(networks)}}, "spec": {}, "status": {}}
nad = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": {"name": "n", "namespace": "d"},
       "spec": {"config": json.dumps({"cniVersion": "1.0.0", "name": "n", "type": "recorder"})}}
class Server(http.server.BaseHTTPRequestHandler):
    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        body = json.dumps(nad if "network-attachment" in self.path else pod).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_PUT = do_PATCH = do_POST = answer
    def log_message(self, *words): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Server)
print(server.server_port, flush=True)
server.serve_forever()
END
python3 "$work/server.py" >"$work/port" &
server=$!
until [[ -s $work/port ]]; do sleep 0.1; done
cat >"$work/kubeconfig" <<END
{"apiVersion": "v1", "kind": "Config", "current-context": "c",
 "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:$(<"$work/port")"}}],
 "users": [{"name": "u", "user": {"token": "t"}}],
 "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}
END

ip netns add "$netns"
CNI_PATH=$work/bin CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/run/netns/$netns \
    CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=d;K8S_POD_NAME=p;K8S_POD_UID=u;K8S_POD_INFRA_CONTAINER_ID=c1" \
    "$work/bin/multus" >/dev/null 2>"$work/log" <<END
{"cniVersion":"1.0.0","name":"m","type":"multus","cniDir":"$work/cache","binDir":"$work/bin","confDir":"$work",
 "kubeconfig":"$work/kubeconfig","delegates":[{"cniVersion":"1.0.0","name":"first","type":"recorder"}]}
END

args=$(python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["args"]["cni"]))' <"$work/stdin-net1")
count=$(cat "$work/stdin-net1" "$work/environment-net1" | grep -c "the-claim" || true)
echo "what of the selection reaches the delegate"
echo "args.cni = $args"
echo "the name of the claim occurs $count times"
[[ $args == '{"marker": "from-cni-args"}' && $count == 0 ]] || { echo "it behaves otherwise now" >&2 && exit 1; }
