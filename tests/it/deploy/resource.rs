//! The custom resources' manifests: deploy/crd has what the structs of
//! `store::kube::objects` and `store::kube::sticky` define. After a change of the
//! structs, UPDATE_EXPECT=1 writes it again.

use expect_test::expect_file;
use hereabouts::store::kube::objects::{
    claim_object, ip_allocation, ip_allocation_status, ip_pool, ip_pool_status, ip_slice,
    ip_slice_status, move_object, slice_geometry,
};
use hereabouts::store::kube::sticky;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

#[test]
fn the_manifests_are_what_the_structs_say() {
    let said = |kind: &str| {
        format!(
            "# Made from src/store/kube/{kind}.rs by tests/it/deploy/resource.rs: change it there.\n"
        )
    };
    for (source, manifest) in [
        ("objects/ip_allocation", allocations()),
        ("objects/ip_pool", pools()),
        ("objects/ip_slice", slices()),
        ("objects/slice_geometry", geometries()),
        ("objects/move_object", moves()),
        ("sticky", sticky_addresses()),
    ] {
        let text = format!("{}{}", said(source), yaml(&manifest, 0));
        // Helm reads them from no other place.
        for folder in ["deploy/crd", "deploy/chart/crds"] {
            let name = manifest["metadata"]["name"].as_str().unwrap();
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            expect_file![path.join(folder).join(format!("{name}.yaml"))].assert_eq(&text);
        }
    }
}

/// A key that the schema does not have is lost on its way to the plugin.
#[test]
fn the_document_has_a_row_for_every_key_of_a_pool() {
    let pools = pools();
    let spec = &pools["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let names = |schema: &Value| -> Vec<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let mut keys: Vec<String> = names(spec);
    let subnet = names(&spec["properties"]["subnets"]["items"]);
    keys.extend(subnet.iter().map(|key| format!("subnets[].{key}")));
    let range = names(&spec["properties"]["ranges"]["items"]);
    keys.extend(range.iter().map(|key| format!("ranges[].{key}")));
    let slices = &spec["properties"]["slices"];
    keys.extend(names(slices).iter().map(|key| match &slices["properties"][key]["properties"] {
        Value::Object(_) => format!("slices.{key}.perNodeMaskSize"),
        _ => format!("slices.{key}"),
    }));
    keys.retain(|key| key != "slices");
    keys.retain(|key| key != "nodeSelector");
    keys.push("nodeSelector.matchLabels".to_owned());
    let text = std::fs::read_to_string("docs/pools.md").unwrap();
    let table = text.split_once("## The keys").unwrap().1.split_once("\n## ").unwrap().0;
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    let mut rows: Vec<String> = table.lines().filter_map(row).collect();
    keys.sort();
    rows.sort();
    assert_eq!(keys, rows);
}

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({"name": name, "type": kind, "jsonPath": path})
}

/// A column that only `kubectl get -o wide` shows.
fn wide(name: &str, path: &str) -> Value {
    json!({"name": name, "type": "string", "jsonPath": path, "priority": 1})
}

fn allocations() -> Value {
    let columns = [
        column("Address", "string", ".spec.address"),
        column("Network", "string", ".spec.network"),
        column("Namespace", "string", ".spec.podRef.namespace"),
        column("Pod", "string", ".spec.podRef.name"),
        column("Interface", "string", ".spec.interface"),
        column("Node", "string", ".spec.node"),
        column("Age", "date", ".metadata.creationTimestamp"),
        wide("Scope", ".spec.scope"),
        wide("Container", ".spec.containerID"),
        wide("Source", ".spec.source"),
        wide("Claim", ".spec.claim.name"),
        wide("Pool", ".spec.pool.name"),
    ];
    let held = "One address, held by one interface of one pod's sandbox, or by a claim. Its creation is what decides who holds the address.";
    let mut schema = schema::<ip_allocation::Spec>(held);
    add_claims(&mut schema["properties"]["spec"]);
    schema["properties"]["status"] = part_schema::<ip_allocation_status::Status>(Unknown::Dropped);
    let mut manifest =
        manifest(ip_allocation::PLURAL, ip_allocation::KIND, &["ipa"], &columns, &schema);
    // A status of its own: the API server compares only the writes of it with the Nodes.
    manifest["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    manifest
}

/// Adds the keys of claims. What only one of the kinds of holder requires is then required by a
/// rule.
fn add_claims(spec: &mut Value) {
    let claims = named_schema::<claim_object::Spec>("", Unknown::Kept)["properties"]["spec"].take();
    let keys = spec["properties"].as_object_mut().unwrap();
    for (key, schema) in claims["properties"].as_object().unwrap() {
        assert_eq!(keys.insert(key.clone(), schema.clone()), None, "{key} is in both");
    }
    spec["required"] = json!(["address", "prefix", "since", "source"]);
    let rules = spec["x-kubernetes-validations"].as_array_mut().unwrap();
    rules.extend(claims["x-kubernetes-validations"].as_array().unwrap().iter().cloned());
}

fn sticky_addresses() -> Value {
    let columns = sticky::COLUMNS.map(|(name, path)| column(name, "string", path));
    let remembered = "One address, and the pod of a StatefulSet that gets it again. It decides nothing: who holds the address says its IPAllocation.";
    manifest(sticky::PLURAL, sticky::KIND, &[], &columns, &schema::<sticky::Spec>(remembered))
}

fn slices() -> Value {
    let shown = ip_slice::COLUMNS.map(|(name, path)| {
        column(name, if path.ends_with("count") { "integer" } else { "string" }, path)
    });
    let age = column("Age", "date", ".metadata.creationTimestamp");
    let columns: Vec<Value> = shown.into_iter().chain([age]).collect();
    let owned = "One block of a pool with slices, and the node that owns it. Its creation is what decides which node owns the block.";
    let mut schema = named_schema::<ip_slice::Spec>(owned, Unknown::Kept);
    schema["x-kubernetes-validations"] = json!([{
        "rule": "!has(self.spec.ipv4) || self.metadata.name.endsWith('.' + self.spec.ipv4.substring(0, self.spec.ipv4.indexOf('/')))",
        "message": "the name ends in the first address of the block",
    }]);
    // What only a newer plugin publishes is lost, and decides nothing.
    schema["properties"]["status"] = part_schema::<ip_slice_status::Status>(Unknown::Dropped);
    let mut manifest = manifest(ip_slice::PLURAL, ip_slice::KIND, &[], &columns, &schema);
    manifest["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    manifest
}

fn geometries() -> Value {
    let columns = slice_geometry::COLUMNS.map(|(name, path)| {
        column(name, if path.ends_with("Size") { "integer" } else { "string" }, path)
    });
    let cut = "How a pool is cut into slices. It outlives the pool as long as a node owns a slice.";
    let schema = named_schema::<slice_geometry::Spec>(cut, Unknown::Kept);
    manifest(slice_geometry::PLURAL, slice_geometry::KIND, &[], &columns, &schema)
}

fn moves() -> Value {
    let columns = move_object::COLUMNS.map(|(name, path)| {
        column(name, if name == "Generation" { "integer" } else { "string" }, path)
    });
    let moved = "How far the move of the cluster from Whereabouts to hereabouts is. There is one, named whereabouts.";
    let mut schema = named_schema::<move_object::Spec>(moved, Unknown::Kept);
    schema["x-kubernetes-validations"] = json!([{
        "rule": format!("self.metadata.name == '{}'", move_object::NAME),
        "message": format!("metadata.name must be {}", move_object::NAME),
    }]);
    schema["properties"]["status"] = part_schema::<move_object::Status>(Unknown::Dropped);
    let mut manifest = manifest(move_object::PLURAL, move_object::KIND, &[], &columns, &schema);
    manifest["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    manifest
}

fn pools() -> Value {
    let shown = ip_pool::COLUMNS.map(|(name, path)| column(name, "string", path));
    let age = column("Age", "date", ".metadata.creationTimestamp");
    let wide = ip_pool::WIDE_COLUMNS.map(|(name, path)| wide(name, path));
    let columns: Vec<Value> = shown.into_iter().chain([age]).chain(wide).collect();
    let named = "A named set of addresses that several networks share.";
    // Unknown keys are not kept: a key with a slip in it is an error for kubectl.
    let mut schema = named_schema::<ip_pool::Spec>(named, Unknown::Dropped);
    schema["properties"]["status"] = part_schema::<ip_pool_status::Status>(Unknown::Dropped);
    let mut manifest =
        manifest(ip_pool::PLURAL, ip_pool::KIND, &[ip_pool::SHORT], &columns, &schema);
    manifest["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    // clusterctl knows the kind, and moves a pool whose label asks for it.
    manifest["metadata"]["labels"] = json!({"clusterctl.cluster.x-k8s.io": ""});
    manifest
}

fn manifest(plural: &str, kind: &str, short: &[&str], columns: &[Value], schema: &Value) -> Value {
    let mut manifest = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{}", ip_allocation::GROUP)},
        "spec": {
            "group": ip_allocation::GROUP,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": kind.to_ascii_lowercase(),
            },
            "scope": "Cluster",
            "versions": [{
                "name": ip_allocation::VERSION,
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    });
    if !short.is_empty() {
        manifest["spec"]["names"]["shortNames"] = json!(short);
    }
    manifest
}

/// The name contains scope and address, so that no two objects hold one address. A scope that is
/// not a DNS label is in the name with a hash, which the API server cannot compute.
const NAME_RULES: [(&str, &str); 2] = [
    (
        "self.spec.address.contains(':') \
         ? self.metadata.name.matches('(^|[.])([0-9a-f]{4}-){7}[0-9a-f]{4}$') \
         && ip(self.metadata.name.substring(self.metadata.name.size() - 39).replace('-', ':')) == ip(self.spec.address) \
         : self.metadata.name == self.spec.address || self.metadata.name.endsWith('.' + self.spec.address)",
        "metadata.name must end in spec.address, IPv6 written out with - for :",
    ),
    (
        "!has(self.spec.scope) \
         ? self.metadata.name.size() == (self.spec.address.contains(':') ? 39 : self.spec.address.size()) \
         : self.metadata.name.indexOf('.') + 1 + (self.spec.address.contains(':') ? 39 : self.spec.address.size()) \
         == self.metadata.name.size() \
         && (self.spec.scope.matches('^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$') \
         ? self.metadata.name.startsWith(self.spec.scope + '.') \
         : self.metadata.name.matches('^([a-z0-9-]+-)?[0-9a-f]{16}[.]'))",
        "metadata.name must begin with spec.scope, and with nothing else where there is none",
    ),
];

fn schema<T: JsonSchema>(description: &str) -> Value {
    let mut schema = named_schema::<T>(description, Unknown::Kept);
    let rules: Vec<Value> = NAME_RULES
        .iter()
        .map(|(rule, message)| json!({"rule": rule, "message": message}))
        .collect();
    schema["x-kubernetes-validations"] = json!(rules);
    schema
}

/// What the API server does with keys that the schema does not have.
#[derive(Clone, Copy, PartialEq)]
enum Unknown {
    /// It keeps them, because a newer plugin may run before the newer manifest is applied.
    Kept,
    /// It drops them.
    Dropped,
}

fn named_schema<T: JsonSchema>(description: &str, unknown: Unknown) -> Value {
    let spec = part_schema::<T>(unknown);
    json!({
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
        },
    })
}

/// Returns the schema of a part of an object.
fn part_schema<T: JsonSchema>(unknown: Unknown) -> Value {
    let mut schema = SchemaSettings::openapi3()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    make_structural(&mut schema, unknown);
    schema
}

/// Limits a schema to what the API server accepts: formats that it knows, no references, no choice
/// of types.
fn make_structural(schema: &mut Value, unknown: Unknown) {
    let Value::Object(keys) = schema else { return };
    for key in ["$schema", "title", "nullable", "default"] {
        keys.remove(key);
    }
    if let Some(Value::String(format)) = keys.get("format") {
        match format.as_str() {
            "uint8" | "uint16" => keys.insert("format".to_owned(), json!("int32")),
            "int64" => None,
            "uint32" | "uint64" => keys.insert("format".to_owned(), json!("int64")),
            "ip" => keys.remove("format"),
            "date-time" => None,
            other => panic!("no such format in the API server: {other}"),
        };
    }
    // An optional choice of words: the choice, or null.
    if let Some(Value::Array(optional)) = keys.remove("anyOf") {
        for (key, value) in optional[0].as_object().unwrap() {
            keys.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if let Some(Value::Array(choices)) = keys.remove("oneOf") {
        let mut allowed: Vec<Value> = Vec::new();
        for choice in &choices {
            allowed.extend(choice["enum"].as_array().unwrap().clone());
        }
        keys.insert("type".to_owned(), json!("string"));
        keys.insert("enum".to_owned(), allowed.into());
    }
    if unknown == Unknown::Kept && keys.get("type") == Some(&json!("object")) {
        keys.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    }
    if let Some(Value::Object(properties)) = keys.get_mut("properties") {
        properties.values_mut().for_each(|schema| make_structural(schema, unknown));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = keys.get_mut(key).filter(|inner| inner.is_object()) {
            make_structural(inner, unknown);
        }
    }
}

/// Returns a value as YAML for people, indented by depth.
fn yaml(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(keys) if !keys.is_empty() => entries(keys, &indent, depth),
        Value::Array(items) if !items.is_empty() => {
            items.iter().map(|item| listed(item, &indent, depth)).collect()
        }
        scalar => format!("{indent}{}\n", plain(scalar)),
    }
}

fn entries(keys: &Map<String, Value>, indent: &str, depth: usize) -> String {
    let entry = |(key, value): (&String, &Value)| match value {
        Value::Object(inner) if !inner.is_empty() => {
            format!("{indent}{key}:\n{}", yaml(value, depth + 1))
        }
        Value::Array(inner) if !inner.is_empty() => {
            format!("{indent}{key}:\n{}", yaml(value, depth + 1))
        }
        scalar => format!("{indent}{key}: {}\n", plain(scalar)),
    };
    keys.iter().map(entry).collect()
}

fn listed(item: &Value, indent: &str, depth: usize) -> String {
    let text = yaml(item, depth + 1);
    format!("{indent}- {}", &text[indent.len() + 2..])
}

/// JSON scalars are YAML scalars; a word needs no quotes.
fn plain(scalar: &Value) -> String {
    match scalar.as_str() {
        Some(word) if word.starts_with(|c: char| c.is_ascii_alphabetic()) && is_word(word) => {
            word.to_owned()
        }
        _ => scalar.to_string(),
    }
}

fn is_word(text: &str) -> bool {
    !["true", "false", "null", "yes", "no", "on", "off"].contains(&text)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "./-".contains(c))
}
