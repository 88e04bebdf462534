//! `pool convert`: the pools of other programs, printed as ours. tests/data/convert has an example
//! of each kind, and beside it what is printed, which `UPDATE_EXPECT=1` renews.

use crate::support::sandbox::{Call, Ended, Sandbox, configuration};
use crate::support::transcript::assert_file;
use expect_test::{Expect, expect};
use hereabouts::config::{Pool, each_document};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/convert")
}

/// Converts files without a sandbox.
fn convert(args: &[&str], stdin: &str) -> Ended {
    let mut call = Call::bare();
    call.args = ["pool", "convert"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    call.stdin(stdin).run()
}

/// Returns the names of the pools that are printed. Each can be read.
fn pools(yaml: &str) -> Vec<String> {
    let mut names = Vec::new();
    each_document(yaml.as_bytes(), &mut |document| {
        names.push(Pool::parse(&document, "").unwrap().name);
    })
    .unwrap();
    names
}

/// Returns all that is printed: stdout, stderr after `2| `, and the exit status.
fn whole(ended: &Ended) -> String {
    let said: String = ended.stderr.lines().map(|line| format!("2| {line}\n")).collect();
    format!("{}{said}exit {}\n", ended.stdout, ended.status.unwrap())
}

/// Compares what is printed about a text on stdin.
fn printed(text: &str, expected: &Expect) {
    let ended = convert(&["-"], text);
    pools(&ended.stdout);
    expected.assert_eq(&whole(&ended));
}

/// Compares what is printed about an example, and reads it again.
fn example(name: &str) {
    let path = examples().join(format!("{name}.yaml"));
    let ended = convert(&[path.to_str().unwrap()], "");
    assert!(!pools(&ended.stdout).is_empty(), "{}", ended.stderr);
    let directory = format!("{}/", examples().display());
    assert_file(&format!("convert/{name}.txt"), &whole(&ended).replace(&directory, ""));
}

#[test]
fn pools_of_the_in_cluster_provider_are_converted() {
    example("in-cluster-v1alpha2");
}

#[test]
fn pools_of_the_first_version_of_the_in_cluster_provider_are_converted() {
    example("in-cluster-v1alpha1");
}

#[test]
fn ranges_of_gke_are_converted_unless_a_node_has_unequal_numbers_of_addresses() {
    example("cluster-cidr-config");
}

#[test]
fn ranges_of_kubernetes_are_converted() {
    example("cluster-cidr");
}

#[test]
fn pools_of_whereabouts_are_converted() {
    example("whereabouts");
}

#[test]
fn pools_of_nvidia_are_converted() {
    example("nvidia");
}

#[test]
fn pools_of_spiderpool_are_converted() {
    example("spider");
}

#[test]
fn pools_of_calico_are_converted() {
    example("calico");
}

#[test]
fn pools_of_cilium_for_pods_are_converted() {
    example("cilium-pods");
}

#[test]
fn pools_of_cilium_for_services_are_converted() {
    example("cilium-load-balancer");
}

#[test]
fn pools_of_metallb_are_converted() {
    example("metallb");
}

/// An example without a test would prove nothing.
#[test]
fn each_example_has_an_expected_output() {
    let mut names: Vec<(String, String)> = std::fs::read_dir(examples())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap())
        .collect();
    names.sort();
    for pair in names.chunks(2) {
        assert_eq!(pair.len(), 2, "{pair:?}");
        assert_eq!(pair[0].0, pair[1].0);
        assert_eq!((&*pair[0].1, &*pair[1].1), ("txt", "yaml"));
    }
}

#[test]
fn a_converted_pool_gives_the_addresses_of_its_source() {
    let sandbox = Sandbox::new();
    let path = examples().join("in-cluster-v1alpha2.yaml");
    let printed = convert(&[path.to_str().unwrap()], "").stdout;
    std::fs::create_dir_all(sandbox.path("pools")).unwrap();
    for document in printed.split("---\n") {
        sandbox.write(&format!("pools/{}.yaml", pools(document)[0]), document);
    }
    let address = |container: &str, pool: &str| {
        let mut call = sandbox.call("ADD");
        let args = format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};IgnoreUnknown=1");
        call.set("CNI_CONTAINERID", container).set("CNI_ARGS", args);
        let ended = call.stdin(configuration(&format!(r#""pool":"{pool}""#))).run();
        let result: Value = serde_json::from_str(&ended.succeeded().stdout).unwrap();
        result["ips"][0]["address"].as_str().unwrap().to_owned()
    };
    let given = ["a", "b", "c", "d", "e", "f"].map(|container| address(container, "machines"));
    // 10.10.10.7 is excluded.
    assert_eq!(given[..5], [2, 3, 4, 5, 6].map(|last| format!("10.10.10.{last}/24")));
    assert_eq!(given[5], "10.10.10.8/24");
    assert_eq!(address("g", "machines-v6"), "fd00:10::1/120");
}

const HEAD: &str = "apiVersion: ipam.cluster.x-k8s.io/v1alpha2\nkind: GlobalInClusterIPPool\n";

#[test]
fn a_list_in_json_is_converted_and_printed_as_a_list() {
    let list = r#"{"apiVersion":"ipam.cluster.x-k8s.io/v1alpha2","kind":"GlobalInClusterIPPoolList","items":[
      {"metadata":{"name":"a"},"spec":{"addresses":["10.4.0.2-10.4.0.9"],"prefix":24}},
      {"metadata":{"name":"b"},"spec":{"addresses":["10.5.0.2"],"prefix":24}}]}"#;
    let ended = convert(&["-o", "json", "-"], list);
    let printed: Value = serde_json::from_str(&ended.succeeded().stdout).unwrap();
    assert_eq!((&printed["apiVersion"], &printed["kind"]), (&"v1".into(), &"List".into()));
    let items = printed["items"].as_array().unwrap();
    let names: Vec<&Value> = items.iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    // What is printed as JSON is the same as what is printed as YAML.
    let mut documents = Vec::new();
    each_document(convert(&["-"], list).succeeded().stdout.as_bytes(), &mut |document| {
        documents.push(document);
    })
    .unwrap();
    let mut from_json = Vec::new();
    for item in items {
        each_document(item.to_string().as_bytes(), &mut |document| from_json.push(document))
            .unwrap();
    }
    assert_eq!(documents.len(), 2);
    for (yaml, json) in documents.iter().zip(&from_json) {
        assert_eq!(Pool::parse(yaml, "").unwrap(), Pool::parse(json, "").unwrap());
    }
}

#[test]
fn nothing_and_what_is_no_pool_are_refused() {
    printed(
        "",
        &expect![[r#"
            2| stdin: refused: expected a pool, found no object
            2| error: not converted: 1 object
            exit 1
        "#]],
    );
    printed(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nx: 1\n---\nkind: IPPool\nmetadata: {name: b}\n",
        &expect![[r#"
            2| stdin: ConfigMap/a: refused: expected a pool of a known kind, found ConfigMap of v1
            2| stdin: document 2: refused: expected an object with a kind
            2| stdin: IPPool/b: refused: expected a pool of a known kind, found IPPool without apiVersion
            2| error: not converted: 3 objects
            exit 1
        "#]],
    );
    printed(
        "a: [b\n",
        &expect![[r#"
        2| stdin: refused: expected YAML or JSON: did not find expected ',' or ']' (line 2, column 1)
        2| error: not converted: 1 object
        exit 1
    "#]],
    );
    printed(
        "[1, 2]",
        &expect![[r#"
        2| stdin: document 1: refused: expected an object with a kind
        2| error: not converted: 1 object
        exit 1
    "#]],
    );
    printed(
        "apiVersion: hereabouts.dev/v1alpha1\nkind: IPPool\nmetadata: {name: blue}\nspec: {subnets: [{subnet: 10.0.0.0/24}]}\n",
        &expect![[r#"
            2| stdin: IPPool/blue: refused: it is a pool of hereabouts already
            2| error: not converted: 1 object
            exit 1
        "#]],
    );
}

#[test]
fn mistakes_are_named_and_the_other_pools_are_printed() {
    let pools = [
        "metadata: {name: no-spec}",
        "metadata: {name: spec-is-a-text}\nspec: x",
        "metadata: {}\nspec: {addresses: [10.0.0.1], prefix: 24}",
        "metadata: {name: no-prefix}\nspec: {addresses: [10.0.0.1]}",
        "metadata: {name: no-address}\nspec: {addresses: [], prefix: 24}",
        "metadata: {name: wrong-values}\nspec: {addresses: [10.0.0.9-10.0.0.1, x, 7], prefix: 200, gateway: fd00::1}",
        "metadata: {name: wrong-prefix}\nspec: {addresses: [10.0.0.1], prefix: 64}",
        "metadata: {name: wrong-gateway}\nspec: {addresses: [10.0.0.1], prefix: 24, gateway: fd00::1}",
        "metadata: {name: two-subnets}\nspec: {addresses: [10.0.0.1, 10.0.1.1], prefix: 24}",
        "metadata: {name: two-families}\nspec: {addresses: [10.0.0.1, fd00::1], prefix: 24}",
        "metadata: {name: not-unicast}\nspec: {addresses: [239.0.0.1], prefix: 24}",
        "metadata: {name: right}\nspec: {addresses: [10.0.0.1], prefix: 24}",
        "metadata: {name: right}\nspec: {addresses: [10.0.1.1], prefix: 24}",
        "metadata: {name: Right_2}\nspec: {addresses: [10.0.1.1], prefix: 24, colour: red, empty: []}",
    ];
    let documents: Vec<String> = pools.iter().map(|pool| format!("{HEAD}{pool}\n")).collect();
    printed(
        &documents.join("---\n"),
        &expect![[r#"
            apiVersion: hereabouts.dev/v1alpha1
            kind: IPPool
            metadata:
              name: right
            spec:
              subnets:
              - subnet: 10.0.0.0/24
                addresses:
                - 10.0.0.1
            ---
            apiVersion: hereabouts.dev/v1alpha1
            kind: IPPool
            metadata:
              name: right-2
            spec:
              subnets:
              - subnet: 10.0.1.0/24
                addresses:
                - 10.0.1.1
            2| stdin: GlobalInClusterIPPool/no-spec: refused: spec: expected an object, found none
            2| stdin: GlobalInClusterIPPool/spec-is-a-text: refused: spec: expected an object, found "x"
            2| stdin: document 3: GlobalInClusterIPPool: refused: metadata.name: expected a name, found none
            2| stdin: GlobalInClusterIPPool/no-prefix: refused: spec: expected the key prefix, found none
            2| stdin: GlobalInClusterIPPool/no-address: refused: spec: expected the key addresses, found none
            2| stdin: GlobalInClusterIPPool/wrong-values: refused: spec.addresses[0]: expected a first and a last address of one family, the first not above the last, found "10.0.0.9-10.0.0.1"
            2| stdin: GlobalInClusterIPPool/wrong-values: refused: spec.addresses[1]: expected an IPv4 or IPv6 address, found "x"
            2| stdin: GlobalInClusterIPPool/wrong-values: refused: spec.addresses[2]: expected a string, found 7
            2| stdin: GlobalInClusterIPPool/wrong-values: refused: spec.prefix: expected a prefix length of 0 to 128, found 200
            2| stdin: GlobalInClusterIPPool/wrong-prefix: refused: spec.prefix: expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6), found 64
            2| stdin: GlobalInClusterIPPool/wrong-gateway: refused: spec.gateway: expected an IPv4 address, as the pool has, found "fd00::1"
            2| stdin: GlobalInClusterIPPool/two-subnets: refused: spec.addresses: expected addresses of one subnet, 10.0.0.0/24 with the prefix of the pool, found 10.0.1.1
            2| stdin: GlobalInClusterIPPool/two-families: refused: spec.addresses: expected addresses of one subnet, 10.0.0.0/24 with the prefix of the pool, found fd00::1
            2| stdin: GlobalInClusterIPPool/not-unicast: refused: in the converted pool: spec.subnets[0].subnet: expected unicast addresses that an interface can have, so none of 224.0.0.0/4, found "239.0.0.0/24"
            2| stdin: GlobalInClusterIPPool/right: refused: metadata.name: expected a name that no other pool has, found right, as stdin: GlobalInClusterIPPool/right has it
            2| stdin: GlobalInClusterIPPool/Right_2: spec.colour: not converted: red: the key is unknown
            2| stdin: GlobalInClusterIPPool/Right_2: note: its name becomes right-2
            2| error: not converted: 1 setting, 12 objects
            exit 1
        "#]],
    );
}

#[test]
fn the_first_version_needs_both_bounds_or_a_subnet() {
    let head = HEAD.replace("v1alpha2", "v1alpha1");
    let pools = [
        "metadata: {name: no-end}\nspec: {start: 10.0.0.1, prefix: 24}",
        "metadata: {name: no-start}\nspec: {end: 10.0.0.1, prefix: 24}",
        "metadata: {name: no-prefix}\nspec: {start: 10.0.0.1, end: 10.0.0.9}",
        "metadata: {name: wrong-order}\nspec: {start: 10.0.0.9, end: 10.0.0.1, prefix: 24}",
        "metadata: {name: wrong-subnet}\nspec: {subnet: 10.0.0.0/33}",
    ];
    let documents: Vec<String> = pools.iter().map(|pool| format!("{head}{pool}\n")).collect();
    printed(
        &documents.join("---\n"),
        &expect![[r#"
            2| stdin: GlobalInClusterIPPool/no-end: refused: spec: expected the key end, found none
            2| stdin: GlobalInClusterIPPool/no-start: refused: spec: expected the key start, found none
            2| stdin: GlobalInClusterIPPool/no-prefix: refused: spec: expected the key prefix, found none
            2| stdin: GlobalInClusterIPPool/wrong-order: refused: spec.start: expected a first and a last address of one family, the first not above the last, found "10.0.0.9"
            2| stdin: GlobalInClusterIPPool/wrong-subnet: refused: spec.subnet: expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6), found "10.0.0.0/33"
            2| error: not converted: 5 objects
            exit 1
        "#]],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_wrong_usage_and_the_others_are_converted() {
    let path = examples().join("in-cluster-v1alpha1.yaml");
    let ended = convert(&["/does/not/exist", path.to_str().unwrap()], "");
    assert_eq!(ended.status, Some(2), "{}", ended.stderr);
    assert_eq!(pools(&ended.stdout).len(), 4);
    assert!(ended.stderr.contains("cannot read /does/not/exist"), "{}", ended.stderr);
    assert_eq!(convert(&[], "").status, Some(2));
}

/// One document of a kind.
fn object(version: &str, kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

#[test]
fn mistakes_of_other_kinds_are_named() {
    let gke = "baremetal.cluster.gke.io/v1alpha1";
    let cilium = "cilium.io/v2alpha1";
    printed(
        &[
            object(gke, "ClusterCIDRConfig", "a", "{}"),
            object(gke, "ClusterCIDRConfig", "b", "{ipv4: {cidr: 10.0.0.0/16}}"),
            object(gke, "ClusterCIDRConfig", "c", "{ipv4: {cidr: 10.0.0.0/16, perNodeMaskSize: 8}}"),
            object(gke, "ClusterCIDRConfig", "d", "{ipv6: {cidr: 10.0.0.0/16, perNodeMaskSize: 24}}"),
            object("networking.k8s.io/v1alpha1", "ClusterCIDR", "e", "{ipv4: x, perNodeHostBits: 8}"),
            object("whereabouts.cni.cncf.io/v1alpha1", "IPPool", "f", "{range: 10.0.0.1}"),
            object("nv-ipam.nvidia.com/v1alpha1", "IPPool", "g", "{subnet: 10.0.0.0/24, exclusions: [{startIP: 10.0.0.9, endIP: 10.0.0.1}, {startIP: 10.0.0.1}]}"),
            object("spiderpool.spidernet.io/v2beta1", "SpiderIPPool", "h", "{subnet: 10.0.0.0/24}"),
            object("spiderpool.spidernet.io/v2beta1", "SpiderIPPool", "i", "{subnet: 10.0.0.0/24, ips: [10.0.1.1]}"),
            object("projectcalico.org/v3", "IPPool", "j", "{cidr: 10.0.0.0/16, nodeSelector: 7}"),
            object(cilium, "CiliumPodIPPool", "k", "{ipv4: {cidrs: [], maskSize: 24}}"),
            object(cilium, "CiliumPodIPPool", "l", r#"{ipv6: {cidrs: [10.0.0.0/8], maskSize: 24}}"#),
            object(cilium, "CiliumLoadBalancerIPPool", "m", "{blocks: [{cidr: 10.0.0.0/24, start: 10.0.0.1}]}"),
            object(cilium, "CiliumLoadBalancerIPPool", "nn", "{}"),
            object("metallb.io/v1beta1", "IPAddressPool", "o", "{addresses: []}"),
        ]
        .concat(),
        &expect![[r#"
            2| stdin: ClusterCIDRConfig/a: refused: spec: expected ipv4, ipv6 or both
            2| stdin: ClusterCIDRConfig/b: refused: spec.ipv4: expected the key perNodeMaskSize, found none
            2| stdin: ClusterCIDRConfig/c: refused: spec.ipv4.perNodeMaskSize: expected a prefix length that is not shorter than 10.0.0.0/16, found 8
            2| stdin: ClusterCIDRConfig/d: refused: spec.ipv6.cidr: expected an IPv6 CIDR, found 10.0.0.0/16
            2| stdin: ClusterCIDR/e: refused: spec.ipv4: expected an address with a prefix length, such as 10.0.0.0/24, found "x"
            2| stdin: IPPool/f: refused: spec.range: expected an address with a prefix length, such as 10.0.0.0/24, found "10.0.0.1"
            2| stdin: IPPool/g: refused: spec.exclusions[0]: expected a first and a last address of one family, the first not above the last, found an object
            2| stdin: IPPool/g: refused: spec.exclusions[1]: expected the key endIP, found none
            2| stdin: SpiderIPPool/h: refused: spec: expected the key ips, found none
            2| stdin: SpiderIPPool/i: refused: in the converted pool: spec.subnets[0].addresses: expected addresses inside 10.0.0.0/24, found 10.0.1.1-10.0.1.1
            2| stdin: IPPool/j: refused: spec.nodeSelector: expected a string, found 7
            2| stdin: CiliumPodIPPool/k: refused: spec: expected ipv4.cidrs, ipv6.cidrs or both
            2| stdin: CiliumPodIPPool/l: refused: spec.ipv6.cidrs: expected IPv6 CIDRs, found 10.0.0.0/8
            2| stdin: CiliumLoadBalancerIPPool/m: refused: spec.blocks[0]: expected either cidr, or start and stop
            2| stdin: CiliumLoadBalancerIPPool/nn: refused: spec: expected the key blocks, found none
            2| stdin: IPAddressPool/o: refused: spec: expected the key addresses, found none
            2| error: not converted: 15 objects
            exit 1
        "#]],
    );
}

/// The largest ranges and long lists cost little.
#[test]
fn a_hostile_input_is_cheap() {
    let many: Vec<String> =
        (0..40_000).map(|n| format!("10.{}.{}.{}", n / 4000, n / 16 % 250, n % 16 * 16)).collect();
    let labels: Vec<String> = (0..40_000).map(|n| format!("l{n}: a")).collect();
    let wide: Vec<String> = (16..=96).map(|n| format!("{n}.0.0.0/12")).collect();
    let text = [
        object("projectcalico.org/v3", "IPPool", "a", "{cidr: 0.0.0.0/0}"),
        object("projectcalico.org/v3", "IPPool", "b", "{cidr: '::/0'}"),
        object(
            "metallb.io/v1beta1",
            "IPAddressPool",
            "c",
            "{addresses: [0.0.0.0/0], avoidBuggyIPs: true}",
        ),
        object(
            "metallb.io/v1beta1",
            "IPAddressPool",
            "d",
            &format!("{{addresses: [{}], avoidBuggyIPs: true}}", wide.join(", ")),
        ),
        object(
            "metallb.io/v1beta1",
            "IPAddressPool",
            "e",
            &format!("{{addresses: [{}]}}", many[..10_000].join(", ")),
        ),
        object(
            "metallb.io/v1beta1",
            "IPAddressPool",
            "ee",
            &format!("{{addresses: [{}]}}", many.join(", ")),
        ),
        object("whereabouts.cni.cncf.io/v1alpha1", "IPPool", "f", "{range: '8000::/1'}"),
        object(
            "baremetal.cluster.gke.io/v1alpha1",
            "ClusterCIDRConfig",
            "g",
            &format!(
                "{{ipv4: {{cidr: 10.0.0.0/8, perNodeMaskSize: 24}}, nodeSelector: {{matchLabels: {{{}}}}}}}",
                labels.join(", ")
            ),
        ),
    ]
    .concat();
    // The limits of the call: 256 MB of memory, and 30 s of processor time for a slow machine.
    let mut call = Call::bare();
    call.args = ["pool", "convert", "-"].map(str::to_owned).to_vec();
    call.through(&["sh", "-c", r#"ulimit -v 262144 -t 30; exec "$0" "$@""#]);
    let ended = call.stdin(&text).run();
    let names = pools(&ended.stdout);
    assert_eq!(names, ["d", "e", "g"], "{}", ended.stderr);
    assert!(ended.stderr.contains("IPAddressPool/d: spec.avoidBuggyIPs: not converted"));
    let too_many = "IPAddressPool/ee: refused: spec: expected at most 10000 subnets, found 40000";
    assert!(ended.stderr.contains(too_many), "{}", ended.stderr);
}
