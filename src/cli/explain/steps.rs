//! What `explain` found about a network: the steps of an ADD, as text and as JSON.

use crate::addr::{Blocks, Range};
use crate::cli::output;
use crate::config::{FlatFile, Network, Settings, StoreKind};
use crate::ipam::{Allocation, AllocationOrder, ConfiguredRange, NodeName, PodRef, Source};
use crate::plugin::failure::Failure;
use crate::plugin::trial::Tried;
use serde_json::{Value, json};

/// The maximum number of ranges in a line.
const MOST: usize = 5;

/// The steps of an ADD for one network.
pub(super) struct Steps {
    network: String,
    flat: Option<String>,
    store: String,
    node: String,
    labels: String,
    pod: Option<String>,
    /// The pools that the network names, in its order.
    pub(super) pools: Vec<PoolStep>,
    /// The scope of the addresses, if the network can be parsed.
    scope: Option<String>,
    /// The ranges of the network, or of the pool that serves it.
    ranges: Vec<RangeStep>,
    /// The reserved addresses of the pod.
    own: Vec<std::net::IpAddr>,
    is_sticky: bool,
    /// Whether the ADD would ask other hosts.
    pub(super) is_probed: bool,
    /// Whether nodes avoid each other, so that the ADD may take another address.
    is_spread: bool,
    /// The answer of the ADD.
    pub(super) answer: Result<Tried, Failure>,
}

/// What an ADD finds out about a pool.
pub(super) struct PoolStep {
    pub(super) name: String,
    pub(super) is_chosen: bool,
    /// Why an ADD with this pool alone would fail.
    pub(super) failure: Option<Failure>,
}

/// A range, and what is not given from it to any pod.
struct RangeStep {
    range: String,
    kept: Vec<(&'static str, String)>,
}

impl Steps {
    pub(super) fn new(
        network: String,
        flat: Option<&FlatFile>,
        settings: &Settings,
        (node, pod): (&NodeName, &Option<PodRef>),
        answer: Result<Tried, Failure>,
    ) -> Self {
        let is_file = settings.store.kind == StoreKind::File;
        let store = match &settings.store.kind {
            StoreKind::File => settings.store.data_dir.display().to_string(),
            #[cfg(feature = "kube")]
            StoreKind::Kubernetes { kubeconfig } => {
                format!("Kubernetes ({})", kubeconfig.display())
            }
        };
        let labels = settings.node_labels.iter().map(|(key, value)| format!("{key}={value}"));
        Self {
            network,
            flat: flat.map(|flat| flat.path().display().to_string()),
            store,
            node: node.to_string(),
            labels: labels.collect::<Vec<_>>().join(", "),
            pod: pod.as_ref().map(ToString::to_string),
            pools: Vec::new(),
            scope: None,
            ranges: Vec::new(),
            own: Vec::new(),
            is_sticky: false,
            is_probed: false,
            is_spread: !is_file && settings.order != AllocationOrder::Lowest,
            answer,
        }
    }

    /// Notes the ranges of a network, and what its ADD does not give to any pod.
    pub(super) fn describe(&mut self, network: &Network) {
        self.scope = Some(network.scope.name().unwrap_or("(unnamed)").to_owned());
        self.ranges = network.ranges().map(RangeStep::of).collect();
        self.own.clone_from(&network.reservations.own);
        self.is_sticky = network.sticky;
    }

    /// Returns why the ADD takes this address.
    fn reason(&self, tried: &Tried, held: &Allocation) -> String {
        let pod = self.pod.as_deref().unwrap_or("-");
        let of_dead = tried.taken.freed.iter().find(|freed| freed.address == held.address);
        match held.record.source {
            Source::Static if self.own.contains(&held.address) => format!("reserved for pod {pod}"),
            Source::Static => "static address of the network".to_owned(),
            Source::Requested => "requested".to_owned(),
            Source::Dynamic if tried.taken.moved.contains(&held.address) => {
                "held by an earlier sandbox of the pod that has ended".to_owned()
            }
            Source::Dynamic if of_dead.is_some() => {
                "no address is free; its holder on this node has ended".to_owned()
            }
            Source::Dynamic if self.is_sticky && tried.is_remembered && self.pod.is_some() => {
                "the first free address that an ADD tries now; the store remembers what the pod had"
                    .to_owned()
            }
            Source::Dynamic if self.is_spread => {
                "the first free address; this node may take another one, because nodes avoid each other".to_owned()
            }
            // Addresses that were freed a moment ago or that are set aside come later.
            Source::Dynamic => "the first free address that an ADD tries now".to_owned(),
        }
    }

    /// Returns the steps for people.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![
            ("flat file", self.flat.clone().unwrap_or_else(|| "none".to_owned())),
            ("store", self.store.clone()),
            (
                "node",
                match self.labels.is_empty() {
                    true => self.node.clone(),
                    false => format!("{} (labels {})", self.node, self.labels),
                },
            ),
            ("pod", self.pod.clone().unwrap_or_else(|| "none".to_owned())),
        ];
        lines.extend(self.pools.iter().map(|pool| ("pool", pool.text())));
        lines.extend(self.scope.iter().map(|scope| ("scope", scope.clone())));
        for range in &self.ranges {
            lines.push(("range", range.range.clone()));
            lines.extend(range.kept.iter().map(|(why, what)| (*why, what.clone())));
        }
        if self.is_probed {
            lines.push(("not asked", "whether another host uses the address (probe)".to_owned()));
        }
        match &self.answer {
            Ok(tried) => lines.extend(self.result(tried)),
            Err(_) => lines.push(("result", "an ADD would fail".to_owned())),
        }
        let mut text = format!("network {}\n", output::printable(&self.network));
        for (what, of) in lines {
            text.push_str(&format!("  {what}: {}\n", output::printable(&of)));
        }
        text
    }

    fn result(&self, tried: &Tried) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        for held in &tried.held {
            let gateway = held
                .record
                .gateway
                .map_or_else(|| "no gateway".to_owned(), |gateway| format!("gateway {gateway}"));
            let reason = self.reason(tried, held);
            lines.push((
                "address",
                format!("{}/{}, {gateway} ({reason})", held.address, held.record.prefix),
            ));
        }
        let routes = tried.success.routes.iter();
        lines.extend(routes.map(|route| {
            let gw = route.gw.map_or_else(String::new, |gw| format!(" via {gw}"));
            ("route", format!("{}{gw}", route.dst))
        }));
        lines.push(("result", "an ADD would succeed; nothing was allocated".to_owned()));
        lines
    }

    /// Returns the steps for programs. The keys are documented and stable.
    pub(super) fn json(&self) -> Value {
        let address = |tried: &Tried, held: &Allocation| {
            json!({
                "address": held.address,
                "prefix": held.record.prefix,
                "gateway": held.record.gateway,
                "scope": held.scope.name(),
                "source": output::source(held.record.source),
                "reason": self.reason(tried, held),
            })
        };
        let tried = self.answer.as_ref();
        let addresses = tried.map_or_else(
            |_| Vec::new(),
            |tried| tried.held.iter().map(|held| address(tried, held)).collect(),
        );
        let routes = tried.map_or_else(
            |_| Vec::new(),
            |tried| {
                let routes = tried.success.routes.iter();
                routes.map(|route| json!({"dst": route.dst, "gw": route.gw})).collect()
            },
        );
        let range = |step: &RangeStep| {
            let kept = step.kept.iter().map(|(why, what)| json!({"why": why, "addresses": what}));
            json!({"range": step.range, "kept": kept.collect::<Vec<_>>()})
        };
        json!({
            "network": self.network,
            "flatFile": self.flat,
            "store": self.store,
            "node": self.node,
            "pod": self.pod,
            "pools": self.pools.iter().map(PoolStep::json).collect::<Vec<_>>(),
            "ranges": self.ranges.iter().map(range).collect::<Vec<_>>(),
            "addresses": addresses,
            "routes": routes,
            "error": tried.err().map(|failure| json!({"message": failure.to_string(), "hint": failure.hint()})),
        })
    }
}

impl PoolStep {
    fn text(&self) -> String {
        match &self.failure {
            _ if self.is_chosen => format!("{} (chosen)", self.name),
            None => format!("{} (not needed)", self.name),
            Some(failure) => format!("{} (passed over: {failure})", self.name),
        }
    }

    fn json(&self) -> Value {
        let failure = self.failure.as_ref().map(ToString::to_string);
        json!({"name": self.name, "chosen": self.is_chosen, "failure": failure})
    }
}

impl RangeStep {
    fn of(range: &ConfiguredRange) -> Self {
        let [of_all, own] = &range.excluded;
        let excluded: Blocks = of_all.ranges().chain(own.ranges()).collect();
        let mut kept = Vec::new();
        for (why, blocks) in [
            ("gateway", range.gateways.as_ref()),
            ("not given", &excluded),
            ("only for certain pods, or on request", range.reserved.as_ref()),
        ] {
            let inside: Vec<Range> =
                blocks.ranges().filter_map(|block| block.intersection(&range.bounds)).collect();
            if !inside.is_empty() {
                let mut names: Vec<String> =
                    inside.iter().take(MOST).map(output::addresses).collect();
                if MOST < inside.len() {
                    names.push(format!("{} more", inside.len() - MOST));
                }
                kept.push((why, names.join(", ")));
            }
        }
        Self { range: format!("{} in {}", range.bounds, range.subnet), kept }
    }
}
