//! The report: the results, and the targets.

use crate::alone::Alone;
use crate::chart::{Chart, Series};
use crate::counters::{Cost, Held};
use crate::feature::Feature;
use crate::plugin::Which;
use crate::slices::Seen;
use crate::storm::Storm;
use crate::times::Times;
use std::fmt::Write;
use std::time::Duration;

/// All results.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) load: String,
    pub(crate) flush: Times,
    pub(crate) ours: Option<Size>,
    pub(crate) theirs: Option<Size>,
    pub(crate) alone: Vec<Alone>,
    pub(crate) crowds: Vec<Crowd>,
    pub(crate) nodes: Vec<Nodes>,
    pub(crate) exact: Vec<Exact>,
    /// Only hereabouts, with no entries and with very many.
    pub(crate) large: Option<[Alone; 2]>,
    pub(crate) growth: Option<Growth>,
    pub(crate) feature: Option<Feature>,
    pub(crate) slices: Option<Seen>,
}

/// The size and the version of an executable.
pub(crate) struct Size {
    pub(crate) version: String,
    pub(crate) binary_bytes: u64,
    pub(crate) peak_kib: u64,
}

/// Many calls at once: ADDs and then DELs.
#[derive(Default)]
pub(crate) struct Crowd {
    pub(crate) entries: usize,
    pub(crate) at_once: usize,
    pub(crate) ours: (Storm, Storm),
    pub(crate) theirs: Option<(Storm, Storm)>,
}

/// Many nodes at once: ADDs until the range is half full, ADDs until it is full, and all DELs.
pub(crate) struct Nodes {
    pub(crate) which: Which,
    pub(crate) nodes: usize,
    pub(crate) first: Storm,
    pub(crate) second: Option<Storm>,
    pub(crate) del: Storm,
}

/// As many pods as addresses, then more pods, then the DELs of all.
pub(crate) struct Exact {
    pub(crate) which: Which,
    pub(crate) filling: Storm,
    pub(crate) full: Storm,
    pub(crate) emptying: Option<Storm>,
}

/// The cost of an increasing number of objects.
pub(crate) struct Growth {
    pub(crate) objects: usize,
    pub(crate) before: Held,
    pub(crate) after: Held,
    pub(crate) took: Duration,
    pub(crate) creating: Cost,
    pub(crate) lists: usize,
    /// The LISTs by a label that no object has.
    pub(crate) of_nothing: (Duration, Cost),
    /// The LIST of all names.
    pub(crate) of_names: (Duration, Cost),
}

/// The colors of the lines in the charts.
const COLORS: [(Which, &str); 2] = [(Which::Theirs, "#bc4c00"), (Which::Ours, "#0969da")];

impl Report {
    pub(crate) fn alone_at(&self, entries: usize) -> Option<&Alone> {
        self.alone.iter().find(|alone| alone.entries == entries)
    }

    /// Returns the largest number of entries at which both plugins were measured.
    fn filled(&self) -> usize {
        self.alone
            .iter()
            .filter(|alone| 0 < alone.theirs.add.len())
            .map(|alone| alone.entries)
            .max()
            .unwrap_or(0)
    }

    fn crowd(&self, entries: usize, at_once: usize) -> Option<&Crowd> {
        self.crowds.iter().find(|crowd| crowd.entries == entries && crowd.at_once == at_once)
    }

    fn exact_of(&self, which: Which) -> Option<&Exact> {
        self.exact.iter().find(|exact| exact.which == which)
    }

    fn nodes_of(&self, which: Which) -> Option<&Nodes> {
        self.nodes.iter().find(|nodes| nodes.which == which)
    }

    /// Writes the targets, and whether they are reached.
    pub(crate) fn write_targets(&self, text: &mut String) {
        *text +=
            "| to reach, beside Whereabouts in the same run | measured | |\n| --- | --- | --- |\n";
        for (target, value, unit, bar) in self.targets() {
            let reached = match (value, bar) {
                (Some(value), Bar::AtLeast(bar)) if bar <= value => "reached",
                (Some(value), Bar::AtMost(bar)) if value <= bar => "reached",
                (Some(value), _) if !value.is_nan() => "not reached",
                _ => "-",
            };
            let value = value
                .filter(|value| !value.is_nan())
                .map_or("not measured".to_owned(), |value| format!("{}{unit}", short(value)));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {target} | {value} | {reached} |");
        }
    }

    fn targets(&self) -> Vec<Target> {
        let mut rows = self.slices.as_ref().map(Seen::targets).unwrap_or_default();
        if !self.alone.is_empty() {
            rows.extend(self.targets_of_objects());
        }
        rows
    }

    fn targets_of_objects(&self) -> Vec<Target> {
        let mut rows = Vec::new();
        let filled = self.filled();
        for (entries, bar) in [(0, 8.0), (filled, 100.0)] {
            let faster = self
                .alone_at(entries)
                .map(|alone| alone.theirs.add.median() / alone.ours.add.median());
            rows.push((
                format!("ADD alone, {entries} entries: {bar} times as fast"),
                faster,
                " times",
                Bar::AtLeast(bar),
            ));
        }
        let faster = self.crowd(0, 1).and_then(|crowd| {
            Some(crowd.theirs.as_ref()?.0.times.median() / crowd.ours.0.times.median())
        });
        rows.push((
            "the same at 0, one ADD right after the other".to_owned(),
            faster,
            " times",
            Bar::AtLeast(8.0),
        ));
        for (entries, bar) in [(0, 20.0), (filled, 200.0)] {
            let more = self
                .crowd(entries, 50)
                .and_then(|crowd| Some(crowd.ours.0.rate() / crowd.theirs.as_ref()?.0.rate()));
            rows.push((
                format!("50 at once, {entries} entries: {bar} times the ADDs a second"),
                more,
                " times",
                Bar::AtLeast(bar),
            ));
        }
        let (ours, theirs) = (self.exact_of(Which::Ours), self.exact_of(Which::Theirs));
        let pods = ours.map_or(0, |exact| exact.filling.calls);
        let faster = ours.zip(theirs).map(|(ours, theirs)| {
            theirs.filling.took.as_secs_f64() / ours.filling.took.as_secs_f64()
        });
        rows.push((
            format!("{pods} pods for {pods} addresses: 15 times as fast"),
            faster,
            " times",
            Bar::AtLeast(15.0),
        ));
        rows.push((
            "the same: ADDs that failed".to_owned(),
            ours.map(|ours| ours.filling.failed as f64),
            "",
            Bar::AtMost(0.0),
        ));
        let alone = self.crowd(0, 1).map(|crowd| &crowd.ours);
        let each = |storm: &Storm| storm.cost.all as f64 / storm.calls as f64;
        rows.push((
            "requests of an ADD alone: 1".to_owned(),
            alone.map(|(add, _)| each(add)),
            "",
            Bar::AtMost(1.0),
        ));
        rows.push((
            "requests of a DEL alone: 1".to_owned(),
            alone.map(|(_, del)| each(del)),
            "",
            Bar::AtMost(1.0),
        ));
        let nodes = self.nodes_of(Which::Ours);
        rows.push((
            "requests of an ADD, 20 nodes at once, range less than half full: 1.2".to_owned(),
            nodes.map(|nodes| each(&nodes.first)),
            "",
            Bar::AtMost(1.2),
        ));
        let most = self.large.as_ref().map_or(50_000, |[_, most]| most.entries);
        let growth =
            self.large.as_ref().map(|[none, most]| most.ours.add.median() / none.ours.add.median());
        rows.push((
            format!("ADD at {most} entries: 1.2 times that at 0"),
            growth,
            " times",
            Bar::AtMost(1.2),
        ));
        rows.push((
            "peak memory: 10 MB".to_owned(),
            self.ours.as_ref().map(|ours| mega(ours.peak_kib * 1024)),
            " MB",
            Bar::AtMost(10.0),
        ));
        rows.push((
            "executable: 8 MB".to_owned(),
            self.ours.as_ref().map(|ours| mega(ours.binary_bytes)),
            " MB",
            Bar::AtMost(8.0),
        ));
        let slower = self.feature.as_ref().map(|feature| feature.slower[0]);
        rows.push((
            "the file store's ADD with this store in the executable: 0.1 ms slower".to_owned(),
            slower,
            " ms",
            Bar::AtMost(0.1),
        ));
        rows
    }

    /// Returns the charts for which there are results, with their file names.
    pub(crate) fn charts(&self) -> Vec<(&'static str, String)> {
        let by_entries = |which| {
            let point = |alone: &Alone| {
                let times = if which == Which::Ours { &alone.ours.add } else { &alone.theirs.add };
                (0 < times.len()).then(|| (alone.entries as f64, times.median()))
            };
            let large = self.large.as_ref().map(|[_, most]| most);
            self.alone.iter().chain(large).filter_map(point).collect::<Vec<_>>()
        };
        let by_crowd = |which| {
            let point = |crowd: &Crowd| {
                let storm =
                    if which == Which::Ours { &crowd.ours.0 } else { &crowd.theirs.as_ref()?.0 };
                (crowd.entries == 0).then(|| (crowd.at_once as f64, storm.rate()))
            };
            self.crowds.iter().filter_map(point).collect::<Vec<_>>()
        };
        let series = |points: &dyn Fn(Which) -> Vec<(f64, f64)>| {
            let line = |(which, color): (Which, _)| Series {
                name: which.name(),
                color,
                points: points(which),
            };
            COLORS
                .map(line)
                .into_iter()
                .filter(|series| 1 < series.points.len())
                .collect::<Vec<_>>()
        };
        let entries = Chart {
            title: "Time of one ADD in the Kubernetes store",
            x_label: "entries in the pool, logarithmic",
            y_label: "milliseconds (median), logarithmic",
            is_y_logarithmic: true,
            series: series(&by_entries),
        };
        let crowd = Chart {
            title: "ADDs a second in the Kubernetes store, empty range",
            x_label: "ADDs at once, logarithmic",
            y_label: "ADDs a second, logarithmic",
            is_y_logarithmic: true,
            series: series(&by_crowd),
        };
        let all =
            [("kubernetes-add-by-entries.svg", entries), ("kubernetes-adds-by-crowd.svg", crowd)];
        all.into_iter()
            .filter(|(_, chart)| !chart.series.is_empty())
            .map(|(name, chart)| (name, chart.svg()))
            .collect()
    }
}

/// A target: what it is, the measured value, its unit and the bound.
pub(crate) type Target = (String, Option<f64>, &'static str, Bar);

/// The bound of a target.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

/// Formats a number with three significant digits, or with all digits before the decimal point.
pub(crate) fn short(value: f64) -> String {
    let digits = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    format!("{value:.digits$}")
}

pub(crate) fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
