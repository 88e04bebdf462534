//! The metrics of pools, as text. There are at most six for each pool, and four more for one with
//! slices. In a registry they would be as many objects, which are made again for each request: that
//! takes several times as long.

use super::overview::{PoolNumbers, SliceNumbers};
use std::fmt::Write;

/// What is written of one pool, if it is known.
type Value = fn(&PoolNumbers) -> Option<u128>;

/// Name, help and value of each metric.
const METRICS: [(&str, &str, Value); 6] = [
    ("hereabouts_pool_addresses", "Addresses that the pool can give, held or free.", |pool| {
        Some(pool.total)
    }),
    ("hereabouts_pool_addresses_held", "Addresses of the pool that are held.", |pool| {
        (!pool.has_slices || pool.slices.is_some()).then_some(pool.held)
    }),
    (
        "hereabouts_pool_addresses_free",
        "Addresses that the pool can give and that are not held.",
        |pool| (!pool.has_slices).then_some(pool.free),
    ),
    (
        "hereabouts_pool_addresses_out_of_range",
        "Addresses that claims got from the pool and that are no longer in it.",
        |pool| (!pool.has_slices).then_some(pool.out_of_range),
    ),
    ("hereabouts_pool_ready", "1 if claims get addresses from the pool, else 0.", |pool| {
        Some(pool.trouble.is_none().into())
    }),
    ("hereabouts_claims_waiting", "Claims of the pool that have no address.", |pool| {
        Some(pool.waiting.into())
    }),
];

/// Name and help of the metric of slices.
const SLICES: (&str, &str) = ("hereabouts_pool_slices", "Slices of the pool, by state.");

/// Name and help of the metric of those of which nothing is known.
const UNPUBLISHED: (&str, &str) = (
    "hereabouts_pool_slices_unpublished",
    "Slices that are not free and whose nodes do not publish how many of their addresses are held.",
);

/// How many slices are in a state.
type Count = fn(&SliceNumbers) -> u32;

/// The states of slices.
const STATES: [(&str, Count); 3] = [
    ("owned", |slices| slices.owned),
    ("released", |slices| slices.released),
    ("free", SliceNumbers::free),
];

/// Writes the metrics of pools in Prometheus' text format.
pub fn write(text: &mut String, pools: &[PoolNumbers]) {
    let labels: Vec<String> = pools.iter().map(labels).collect();
    if labels.is_empty() {
        return;
    }
    let length: usize = labels.iter().map(|labels| labels.len() + 50).sum();
    text.reserve(length * METRICS.len());
    for (name, help, value) in METRICS {
        // A write to a String cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for (pool, labels) in pools.iter().zip(&labels) {
            if let Some(value) = value(pool) {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
    }
    write_slices(text, pools, &labels);
}

fn write_slices(text: &mut String, pools: &[PoolNumbers], labels: &[String]) {
    let known: Vec<(SliceNumbers, &String)> = pools
        .iter()
        .zip(labels)
        .filter_map(|(pool, labels)| Some((pool.slices?, labels)))
        .collect();
    if known.is_empty() {
        return;
    }
    let (name, help) = SLICES;
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    for (slices, labels) in &known {
        let labels = labels.trim_end_matches('}');
        for (state, count) in STATES {
            let _ = writeln!(text, r#"{name}{labels},state="{state}"}} {}"#, count(slices));
        }
    }
    let (name, help) = UNPUBLISHED;
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    for (slices, labels) in &known {
        let _ = writeln!(text, "{name}{labels} {}", slices.unpublished);
    }
}

/// Returns the words that name a pool. The label is not `namespace`, because Prometheus writes the
/// namespace of the controller's pod there.
fn labels(pool: &PoolNumbers) -> String {
    let PoolNumbers { kind, namespace, name, .. } = pool;
    let (namespace, name) = (escaped(namespace), escaped(name));
    format!(r#"{{kind="{kind}",pool_namespace="{namespace}",pool="{name}"}}"#)
}

/// Returns a text as the value of a label. The API server lets no name have such characters.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_each_metric_once_and_no_pool_has_none() {
        let pool = PoolNumbers {
            kind: "IPPool",
            namespace: String::new(),
            name: "a\"b\\c\n".to_owned(),
            scope: "s".to_owned(),
            total: 1 << 127,
            held: 3,
            free: 7,
            out_of_range: 1,
            has_slices: false,
            slices: None,
            waiting: 4,
            trouble: Some("overlaps".to_owned()),
        };
        let mut text = String::new();
        write(&mut text, &[]);
        assert_eq!(text, "");
        write(&mut text, std::slice::from_ref(&pool));
        let labels = r#"{kind="IPPool",pool_namespace="",pool="a\"b\\c\n"}"#;
        let values: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once(labels))
            .map(|(_, value)| value)
            .collect();
        let total = " 170141183460469231731687303715884105728";
        assert_eq!(values, [total, " 3", " 7", " 1", " 0", " 4"]);
        assert_eq!(text.lines().count(), 3 * METRICS.len());
        let slices = SliceNumbers { total: 9, owned: 2, released: 1, unpublished: 1, held: 3 };
        let sliced = PoolNumbers { has_slices: true, slices: Some(slices), ..pool };
        let mut text = String::new();
        write(&mut text, &[sliced]);
        for (state, count) in [("owned", 2), ("released", 1), ("free", 6)] {
            let labels = labels.trim_end_matches('}');
            let line = format!("hereabouts_pool_slices{labels},state=\"{state}\"}} {count}");
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        for line in ["addresses_held", "slices_unpublished"].iter().zip([3, 1]) {
            let line = format!("hereabouts_pool_{}{labels} {}", line.0, line.1);
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        // An address is free for the node of its slice only.
        assert!(!text.contains("addresses_free{"), "{text}");
    }
}
