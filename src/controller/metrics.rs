//! The metrics of the controller. Some are counted when something happens. The others are read from
//! [`Observed`] when Prometheus asks, so that they cannot differ from it.
//!
//! docs/metrics.md explains each metric; a test compares the two.

use super::overview::Observed;
use super::pool_metrics;
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// The type of the text that [`Metrics::text`] returns, for the header `Content-Type`.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The bounds of the histograms, in seconds. A usual write takes between 5 and 50 milliseconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The results of a write:
/// - `done`: the API server has written it
/// - `conflict`: the object has changed, or exists. This is usual if two replicas do the same
/// - `gone`: the object does not exist
/// - `refused`: the API server does not allow the write
/// - `unknown`: there was no clear answer. The write may have been carried out
pub const WRITE_OUTCOMES: [&str; 5] = ["done", "conflict", "gone", "refused", "unknown"];

/// The results of a look at one object:
/// - `done`: nothing is left to do
/// - `waiting`: something else must happen first, for example an address must become free
/// - `failed`: a request failed. The controller tries again
pub const RECONCILE_OUTCOMES: [&str; 3] = ["done", "waiting", "failed"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    resource: String,
    verb: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Written {
    resource: String,
    verb: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    kind: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Leak {
    evidence: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Release {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics. Share them by `Rc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    writes: Family<Written, Counter>,
    write_durations: Durations<Write>,
    reconciles: Family<Reconciled, Counter>,
    reconcile_durations: Durations<Kind>,
    leaks: Family<Leak, Gauge>,
    released: Family<Release, Counter>,
    unreleased: Family<Release, Gauge>,
    leader: Gauge,
    synced: Gauge,
    adopted: Counter,
    other_provider: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates the metrics, with nothing counted.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("hereabouts");
        let metrics = Self {
            writes: Family::default(),
            write_durations: Family::new_with_constructor(histogram),
            reconciles: Family::default(),
            reconcile_durations: Family::new_with_constructor(histogram),
            leaks: Family::default(),
            released: Family::default(),
            unreleased: Family::default(),
            leader: Gauge::default(),
            synced: Gauge::default(),
            adopted: Counter::default(),
            other_provider: Gauge::default(),
            registry: Registry::default(),
        };
        // The encoder adds a full stop to each help, and _total to each counter.
        let m = &metrics;
        let r = &mut registry;
        r.register(
            "leak_candidates",
            "Addresses whose holders are probably gone, by the evidence",
            m.leaks.clone(),
        );
        r.register(
            "released_addresses",
            "Addresses of nodes that are off which the controller has freed, by the reason",
            m.released.clone(),
        );
        r.register(
            "unreleased_addresses",
            "Addresses of nodes that are off which the controller could not free, by the reason",
            m.unreleased.clone(),
        );
        r.register(
            "controller_writes",
            "Write requests to the API server, by their outcome",
            m.writes.clone(),
        );
        r.register(
            "controller_write_duration_seconds",
            "Time until the API server answered a write request",
            m.write_durations.clone(),
        );
        r.register(
            "controller_reconciles",
            "Objects that the controller looked at, by the outcome",
            m.reconciles.clone(),
        );
        r.register(
            "controller_reconcile_duration_seconds",
            "Time to look at one object, with its requests",
            m.reconcile_durations.clone(),
        );
        r.register("controller_is_leader", "1 if this replica writes, else 0", m.leader.clone());
        r.register(
            "controller_synced",
            "1 if the controller has read all objects once, else 0",
            m.synced.clone(),
        );
        r.register(
            "addresses_adopted",
            "IPAddresses of others whose address the controller has put under an IPAllocation",
            m.adopted.clone(),
        );
        r.register(
            "other_provider",
            "1 if the provider of Cluster API runs, too, so that claims of its pools wait, else 0",
            m.other_provider.clone(),
        );
        let build = Family::<Version, Gauge>::default();
        build.get_or_create(&Version { version: env!("CARGO_PKG_VERSION") }).set(1);
        r.register("build_info", "Always 1; the label is the version of the controller", build);
        Self { registry, ..metrics }
    }

    /// Counts a write and the time until its answer. `resource` is the plural name, with a
    /// subresource after a slash; `verb` is the verb of a role; `outcome` is one of
    /// [`WRITE_OUTCOMES`].
    pub fn write(&self, resource: &str, verb: &str, outcome: &str, duration: Duration) {
        let labels = |outcome: &str| Written {
            resource: resource.to_owned(),
            verb: verb.to_owned(),
            outcome: outcome.to_owned(),
        };
        // A counter that first appears with the value 1 has not increased, for Prometheus.
        for outcome in WRITE_OUTCOMES {
            drop(self.writes.get_or_create(&labels(outcome)));
        }
        self.writes.get_or_create(&labels(outcome)).inc();
        let labels = Write { resource: resource.to_owned(), verb: verb.to_owned() };
        self.write_durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Counts a look at an object of this kind, and the time that it took. `outcome` is one of
    /// [`RECONCILE_OUTCOMES`].
    pub fn reconcile(&self, kind: &str, outcome: &str, duration: Duration) {
        let labels =
            |outcome: &str| Reconciled { kind: kind.to_owned(), outcome: outcome.to_owned() };
        for outcome in RECONCILE_OUTCOMES {
            drop(self.reconciles.get_or_create(&labels(outcome)));
        }
        self.reconciles.get_or_create(&labels(outcome)).inc();
        let labels = Kind { kind: kind.to_owned() };
        self.reconcile_durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Counts an address of a node that is off, which was freed for this reason.
    pub fn released(&self, reason: &'static str) {
        self.released.get_or_create(&Release { reason }).inc();
    }

    /// Notes how many addresses of nodes that are off stay held, for this reason. None has been freed
    /// before the first call.
    pub fn unreleased(&self, reason: &'static str, count: u64) {
        drop(self.released.get_or_create(&Release { reason }));
        let gauge = self.unreleased.get_or_create(&Release { reason });
        gauge.set(count.try_into().unwrap_or(i64::MAX));
    }

    /// Counts an answer of another writer whose address is now held for it.
    pub fn adopted(&self) {
        self.adopted.inc();
    }

    /// Notes whether the provider of Cluster API runs, too.
    pub fn other_provider(&self, runs: bool) {
        self.other_provider.set(runs.into());
    }

    /// Returns all metrics in Prometheus' text format. `leading` is whether this replica writes.
    pub fn text(&self, observed: &dyn Observed, leading: bool) -> String {
        self.leader.set(leading.into());
        self.synced.set(observed.is_synced().into());
        self.leaks.clear();
        for (evidence, count) in observed.leaks() {
            self.leaks.get_or_create(&Leak { evidence }).set(count.try_into().unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        pool_metrics::write(&mut text, &observed.pools());
        // Only a writer can fail, and a String does not.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::overview::{PoolNumbers, SliceNumbers};

    struct Seen(Vec<PoolNumbers>);

    impl Observed for Seen {
        fn is_synced(&self) -> bool {
            true
        }
        fn pools(&self) -> Vec<PoolNumbers> {
            self.0.clone()
        }
        fn leaks(&self) -> Vec<(&'static str, u64)> {
            vec![("pod-gone", 2), ("node-gone", 0)]
        }
    }

    fn pool(name: &str, total: u128, trouble: Option<&str>) -> PoolNumbers {
        PoolNumbers {
            kind: "InClusterIPPool",
            namespace: "machines".to_owned(),
            name: name.to_owned(),
            scope: "s".to_owned(),
            total,
            held: 3,
            free: total - 2,
            out_of_range: 1,
            has_slices: false,
            slices: None,
            waiting: 4,
            trouble: trouble.map(str::to_owned),
        }
    }

    #[test]
    fn pools_are_what_was_observed_last() {
        let metrics = Metrics::new();
        let text = metrics.text(&Seen(vec![pool("a", 10, None), pool("b", 1 << 64, None)]), true);
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line}: {text}");
        let labels =
            |pool| format!(r#"{{kind="InClusterIPPool",pool_namespace="machines",pool="{pool}"}}"#);
        has(&format!("hereabouts_pool_addresses{} 10", labels("a")));
        has(&format!("hereabouts_pool_addresses{} 18446744073709551616", labels("b")));
        has(&format!("hereabouts_pool_addresses_held{} 3", labels("a")));
        has(&format!("hereabouts_pool_addresses_free{} 8", labels("a")));
        has(&format!("hereabouts_pool_addresses_out_of_range{} 1", labels("a")));
        has(&format!("hereabouts_pool_ready{} 1", labels("a")));
        has(&format!("hereabouts_claims_waiting{} 4", labels("a")));
        has(r#"hereabouts_leak_candidates{evidence="pod-gone"} 2"#);
        has(r#"hereabouts_leak_candidates{evidence="node-gone"} 0"#);
        has("hereabouts_controller_is_leader 1");
        has("hereabouts_controller_synced 1");

        let later = metrics.text(&Seen(vec![pool("b", 20, Some("overlaps"))]), false);
        assert!(!later.contains(r#"pool="a""#), "{later}");
        assert!(later.contains(&format!("hereabouts_pool_ready{} 0\n", labels("b"))), "{later}");
        assert!(later.contains("hereabouts_controller_is_leader 0\n"), "{later}");
    }

    #[test]
    fn what_is_not_freed_any_more_is_not_counted() {
        let metrics = Metrics::new();
        let text = || metrics.text(&Seen(Vec::new()), true);
        metrics.unreleased("out-of-service", 3);
        let freed = r#"hereabouts_released_addresses_total{reason="out-of-service"}"#;
        let kept = r#"hereabouts_unreleased_addresses{reason="out-of-service"}"#;
        assert!(
            text().contains(&format!("{freed} 0\n")) && text().contains(&format!("{kept} 3\n"))
        );
        metrics.released("out-of-service");
        metrics.unreleased("out-of-service", 0);
        assert!(
            text().contains(&format!("{freed} 1\n")) && text().contains(&format!("{kept} 0\n"))
        );
    }

    #[test]
    fn each_outcome_is_there_from_the_first_write_on() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(20);
        metrics.write("ipaddresses", "create", "conflict", took);
        metrics.reconcile("IPAddressClaim", "waiting", took);
        let text = metrics.text(&Seen(Vec::new()), false);
        for line in [
            r#"hereabouts_controller_writes_total{resource="ipaddresses",verb="create",outcome="conflict"} 1"#,
            r#"hereabouts_controller_writes_total{resource="ipaddresses",verb="create",outcome="refused"} 0"#,
            r#"hereabouts_controller_write_duration_seconds_bucket{resource="ipaddresses",verb="create",le="0.025"} 1"#,
            r#"hereabouts_controller_reconciles_total{kind="IPAddressClaim",outcome="waiting"} 1"#,
            r#"hereabouts_controller_reconciles_total{kind="IPAddressClaim",outcome="failed"} 0"#,
            r#"hereabouts_controller_reconcile_duration_seconds_count{kind="IPAddressClaim"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn the_document_has_a_row_for_each_metric() {
        let metrics = Metrics::new();
        metrics.write("ipaddresses", "create", "done", Duration::ZERO);
        metrics.reconcile("IPAddressClaim", "done", Duration::ZERO);
        metrics.unreleased("out-of-service", 0);
        let slices = Some(SliceNumbers::default());
        let sliced = PoolNumbers { has_slices: true, slices, ..pool("b", 10, None) };
        let text = metrics.text(&Seen(vec![pool("a", 10, None), sliced]), false);
        let mut served: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(|rest| rest.replacen(' ', "` | ", 1))
            .collect();
        let document = include_str!("../../docs/metrics.md");
        let mut rows: Vec<String> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `hereabouts_"))
            .map(|row| {
                format!("hereabouts_{}", row.split(" | ").take(2).collect::<Vec<_>>().join(" | "))
            })
            .collect();
        served.sort();
        rows.sort();
        assert_eq!(served, rows);
    }
}
