//! YAML as kubectl reads it: both produce the same objects, and both refuse the same texts.

use crate::support::cluster::Cluster;
use hereabouts::json::Json;
use hereabouts::yaml::Documents;
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;

const HEAD: &str = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n  name: a\nspec:\n";

/// Texts that may be below `spec:`.
const FORMS: &[&str] = &[
    // Quoted scalars over several lines, with the last line at or left of the key.
    "  config: '{\n    \"a\": 1,\n    \"b\": 2\n  }'\n",
    "  config: '{\n    \"a\": 1,\n    \"b\": 2\n}'\n",
    "  config: '{\n\t\"a\": 1,\n\t\t\"b\": 2\n\t}'\n",
    "  config: '{ \"a\": 1,\n\n\n  \"b\": ''x'' }'\n",
    "  config: \"{\n    \\\"a\\\": 1,\n\t\\\"b\\\": \\\n  2\n}\"\n",
    "  config: \"\\x41\\u00e9\\U0001F600\\n\\t\\e\\_\\\\\"\n",
    "  config:\n    '{\n\"a\": 1}'\n",
    // Blocks.
    "  config: |\n    {\n      \"a\": 1\n    }\n",
    "  config: |-\n    {\"a\": 1}\n\n",
    "  config: |+\n    {\"a\": 1}\n\n",
    "  config: >\n    {\"a\": 1,\n    \"b\": 2}\n",
    "  config: >-\n    a\n      b\n    c\n\n    d\n",
    "  config: |2\n    x\n   y\n",
    "  config: | # a comment\n    # text\n    x\n",
    "  config: |\n\n   x\n",
    // Plain scalars.
    "  config: a\n    b\n    c\n",
    "  config: it's # a comment\n",
    "  config: a#b: c\n",
    "  a: on\n  b: y\n  c: No\n  d: 010\n  e: 1_000\n  f: 0o7\n  g: 1:20\n  h: ~\n  i: 2001-01-01\n",
    "  1: x\n  true: y\n  1.5: z\n  0x10: w\n  off: v\n  1e3: u\n",
    "  k: 0x1F\n  l: 1e3\n  m: 0b11\n  n1: +5\n  o: .5\n  p: 1.\n  q: 09\n  r: 99999999999999999999\n  s: -0x1f\n  t: 1e400\n  u: TRUE\n  v: tRUE\n  w: 1_0.5\n  z: =\n",
    "  a: .inf\n",
    "  null: x\n",
    // Collections, anchors, tags.
    "  a: [1, 'b', {c: d, e: [f,]},]\n  g:\n  - h\n  -  - i\n     - j\n",
    "  a: &x {b: 1, c: 2}\n  d: *x\n  e:\n    <<: *x\n    c: 3\n",
    "  a: 1\n  <<: {a: 2, b: 3}\n  b: 4\n",
    "  a: &x [*x]\n",
    "  a: *x\n",
    "  a: 1\n  b: 2\n  a: 3\n",
    "  l: !!str 5\n  m: !foo 5\n  o: ! 5\n  p: !!int '5'\n  q: !!float 1\n",
    "  a: [!b,c]\n",
    "  ? a\n  : 1\n  ? [b]\n  : 2\n",
    "  a: {b: 1, c}\n",
    // Mistakes.
    "\tconfig: x\n",
    "  config: 'x\n",
    "  a: 1\n b: 2\n",
    "  a: b: c\n",
    "  a: @b\n",
    "  a: `b\n",
    "  a: [b\n  c]\n",
    "  a:\n    - b\n   - c\n",
    "  a: \"\\q\"\n",
    "  a: %b\n",
    "  a: x\ty\n  b:\tz\n",
    "  a:\n  \tb: 1\n",
    "  a: [\n\tb,\n\tc\n\t]\n",
    "  a: -\n  b: - c\n",
    "  a: '\u{1}'\n",
    "  a: \u{e9}\u{1f600}\n",
];

/// Returns what kubectl makes of a text: an object for each document, or nothing.
fn by_kubectl(cluster: &Cluster, text: &str) -> Option<Vec<Value>> {
    let mut command =
        cluster.kubectl_command(&["label", "--local", "-f", "-", "x=y", "-o", "json"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let objects = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    output.status.success().then(|| objects.map(Result::unwrap).collect())
}

/// Returns the same from this crate, with the label that kubectl was told to add.
fn by_us(text: &str) -> Option<Vec<Value>> {
    let documents: Result<Vec<Json>, _> = Documents::new(text, 10_000).collect();
    let labelled = |document: Json| {
        let mut value = value(&document);
        value["metadata"]["labels"]["x"] = "y".into();
        value
    };
    Some(
        documents
            .ok()?
            .into_iter()
            .filter(|document| *document != Json::Null)
            .map(labelled)
            .collect(),
    )
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => (*value).into(),
        // kubectl prints 1000.0 as 1000.
        Json::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                format!("{float}").parse::<i64>().unwrap().into()
            }
            _ => Value::Number(number.clone()),
        },
        Json::String(text) => text.clone().into(),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(entries) => {
            Value::Object(entries.iter().map(|(key, held)| (key.clone(), value(held))).collect())
        }
    }
}

#[test]
fn whatever_kubectl_reads_is_read_and_nothing_else() {
    let cluster = match Cluster::shared() {
        Ok(cluster) => cluster,
        Err(reason) => return skipped!("{reason}"),
    };
    let mut texts: Vec<String> = FORMS.iter().map(|form| format!("{HEAD}{form}")).collect();
    texts.push(format!("{HEAD}  a: 1\n--- # two\n{HEAD}  b: 1\n---\n# nothing\n---\n"));
    texts.push(format!("\u{feff}---\n{HEAD}  a: 1\n").replace('\n', "\r\n"));
    let mut different = Vec::new();
    for text in &texts {
        let (theirs, ours) = (by_kubectl(cluster, text), by_us(text));
        if theirs != ours {
            different.push(format!("{text}\nkubectl: {theirs:?}\nhere: {ours:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
    let read = texts.iter().filter(|text| by_us(text).is_some()).count();
    assert!(25 < read && read + 10 < texts.len(), "{read}");
}
