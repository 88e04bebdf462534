//! The report as Markdown: the measured numbers, and whether each target is met.

use crate::chart::{Chart, Series};
use crate::collect::{RECORDS, STALE};
use crate::measure::Contender;
use crate::process::Verb;
use crate::times::Times;
use std::fmt::Write;

/// The names of the contenders.
pub(crate) const OURS: &str = "hereabouts";
pub(crate) const OURS_AT_254: &str = "hereabouts at 254";
pub(crate) const THEIRS: &str = "host-local";
pub(crate) const FLOOR: &str = "floor";
pub(crate) const NOTHING: &str = "a process that does nothing";
/// The contenders on one store, by what an ADD asks for.
pub(crate) const ONE: &str = "one address";
pub(crate) const DUAL: &str = "dual stack";
pub(crate) const SIXTEEN: &str = "16 addresses";

/// The colors of the lines in the charts.
const COLORS: [(&str, &str); 3] = [(OURS, "#0969da"), (THEIRS, "#bc4c00"), (NOTHING, "#57606a")];

/// The number of records to which 32 workers fill the store before they empty it again.
pub(crate) const FILLED: usize = 3_200;

/// The contenders at one number of records, measured together.
pub(crate) struct Cell {
    pub(crate) records: u32,
    pub(crate) contenders: Vec<Contender>,
}

/// The facts about one plugin other than its times. `None` means not measured.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) version: String,
    pub(crate) binary_bytes: u64,
    pub(crate) syncs: Option<(u64, u64)>,
    /// The flushes that reach the disk, for one ADD and one DEL.
    pub(crate) flushes: Option<(u64, u64)>,
    /// The rate of 32 processes at once, ADD and DEL in turn. One number per round.
    pub(crate) in_turn: Vec<f64>,
    /// The rate of 32 processes at once, from 0 to [`FILLED`] records and back. One number per
    /// round.
    pub(crate) filling: Vec<f64>,
}

/// All results.
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) flush: Times,
    pub(crate) own_peak_kib: u64,
    /// The number of processes that do nothing per second, 32 at once.
    pub(crate) ceiling: Option<f64>,
    pub(crate) cells: Vec<Cell>,
    /// [`ONE`], [`DUAL`] and [`SIXTEEN`].
    pub(crate) several: Vec<Contender>,
    pub(crate) ours: Option<Facts>,
    pub(crate) theirs: Option<Facts>,
    pub(crate) sweep: Vec<Sweep>,
    /// The times of GC in a large store.
    pub(crate) collections: Option<Times>,
}

/// The operations per second of one program, by the number of writers.
pub(crate) struct Sweep {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(u32, f64)>,
}

/// The number of records in the store that the writers share.
pub(crate) const SWEPT: u32 = 254;

/// The time of a flush on the slower disk for which times are computed, in milliseconds.
const SLOW_FLUSH: f64 = 5.0;

fn times(contender: &Contender, verb: Verb) -> &Times {
    match verb {
        Verb::Add => &contender.add,
        Verb::Del => &contender.del,
    }
}

/// Returns the median of an odd number of values.
pub(crate) fn middle(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

impl Report {
    fn median(&self, records: u32, name: &str, verb: Verb) -> Option<f64> {
        let cell = self.cells.iter().find(|cell| cell.records == records)?;
        let contender = cell.contenders.iter().find(|contender| contender.name == name)?;
        (0 < times(contender, verb).len()).then(|| times(contender, verb).median())
    }

    fn peak_kib(&self, name: &str) -> Option<u64> {
        let all = self.cells.iter().flat_map(|cell| &cell.contenders);
        all.filter(|contender| contender.name == name).map(|contender| contender.peak_kib).max()
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let versions: Vec<&str> = [&self.ours, &self.theirs]
            .into_iter()
            .flatten()
            .map(|facts| facts.version.as_str())
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}; {}.", self.machine, versions.join(", "));
        let _ = writeln!(
            text,
            "A flush (4 KiB written in place, fdatasync) costs {:.2} ms here (median; p99 {:.2} ms).\n",
            self.flush.median(),
            self.flush.p99()
        );
        self.write_targets(&mut text);
        self.write_times(&mut text);
        self.write_several(&mut text);
        self.write_facts(&mut text);
        self.write_sweep(&mut text);
        self.write_computed(&mut text);
        text
    }

    /// Returns the charts for which there are results, with their file names.
    pub(crate) fn charts(&self) -> Vec<(&'static str, String)> {
        let color =
            |name| COLORS.iter().find(|(of, _)| *of == name).map_or("#57606a", |(_, color)| *color);
        let mut charts = Vec::new();
        let line = |name| {
            let point = |cell: &Cell| {
                Some((f64::from(cell.records), self.median(cell.records, name, Verb::Add)?))
            };
            Series {
                name,
                color: color(name),
                points: self.cells.iter().filter_map(point).collect(),
            }
        };
        let series: Vec<Series> =
            [THEIRS, OURS].map(line).into_iter().filter(|series| 1 < series.points.len()).collect();
        if !series.is_empty() {
            let (title, x_label) = ("Time of one ADD", "records held, logarithmic");
            let chart = Chart {
                title,
                x_label,
                y_label: "milliseconds (median), logarithmic",
                is_y_logarithmic: true,
                series,
            };
            charts.push(("add-by-records.svg", chart.svg()));
        }
        let series: Vec<Series> =
            self.sweep.iter().map(|sweep| sweep.series(color(sweep.name))).collect();
        if !series.is_empty() {
            let title = format!("ADD and DEL in turn, at {SWEPT} records");
            let (x_label, y_label) = ("writers at once, logarithmic", "operations a second");
            let chart = Chart { title: &title, x_label, y_label, is_y_logarithmic: false, series };
            charts.push(("operations-by-writers.svg", chart.svg()));
        }
        charts
    }

    fn write_targets(&self, text: &mut String) {
        *text += "| target | measured | met |\n| --- | --- | --- |\n";
        let mut row =
            |target: &str, measured: Option<f64>, unit: &str, met: &dyn Fn(f64) -> bool| {
                let answer = measured.map_or(("not measured".to_owned(), "-"), |value| {
                    (format!("{value:.2}{unit}"), if met(value) { "yes" } else { "no" })
                });
                let _ = writeln!(text, "| {target} | {} | {} |", answer.0, answer.1);
            };
        let faster = |records, verb| {
            Some(self.median(records, THEIRS, verb)? / self.median(records, OURS, verb)?)
        };
        for (records, least) in [(0, 2.5), (254, 4.0), (65_000, 300.0)] {
            for verb in [Verb::Add, Verb::Del] {
                let target = format!(
                    "{} at {records} records: at least {least} times as fast as host-local",
                    verb.name()
                );
                row(&target, faster(records, verb), " times", &|value| least <= value);
            }
        }
        let crowds = |rounds: fn(&Facts) -> &Vec<f64>| {
            let middle = |facts: &Option<Facts>| middle(rounds(facts.as_ref()?));
            Some(middle(&self.ours)? / middle(&self.theirs)?)
        };
        let crowd = "32 processes at once: at least 8 times the operations a second of host-local";
        row(
            &format!("{crowd}, ADD and DEL in turn"),
            crowds(|facts| &facts.in_turn),
            " times",
            &|value| 8.0 <= value,
        );
        let filling = format!("{crowd}, from 0 to {FILLED} records and back");
        row(&filling, crowds(|facts| &facts.filling), " times", &|value| 8.0 <= value);
        for verb in [Verb::Add, Verb::Del] {
            let target =
                format!("{} at 1000000 records: at most 1.3 times the time at 254", verb.name());
            let growth =
                self.median(1_000_000, OURS, verb).zip(self.median(1_000_000, OURS_AT_254, verb));
            row(&target, growth.map(|(many, few)| many / few), " times", &|value| value <= 1.3);
        }
        let target = format!("GC of {STALE} stale records out of {RECORDS}: at most 2 s");
        row(&target, self.collections.as_ref().map(|times| times.median() / 1e3), " s", &|value| {
            value <= 2.0
        });
        for (name, most) in [(DUAL, 1.25), (SIXTEEN, 16.0)] {
            for verb in [Verb::Add, Verb::Del] {
                let target = format!("{} of {name}: at most {most} times one address", verb.name());
                row(&target, self.against_one(name, verb), " times", &|value| value <= most);
            }
        }
        let memory = self.peak_kib(OURS).map(|kib| kib as f64 / 1024.0);
        row("peak memory of a call: at most 4 MB", memory, " MB", &|value| value <= 4.0);
        let binary = self.ours.as_ref().map(|facts| facts.binary_bytes as f64 / 1024.0 / 1024.0);
        row("binary, with both stores in it: at most 8 MB", binary, " MB", &|value| value <= 8.0);
        let floor = self
            .median(0, OURS, Verb::Add)
            .zip(self.median(0, FLOOR, Verb::Add))
            .map(|(add, floor)| add / floor);
        row("ADD at 0 records: at most 2 times the floor", floor, " times", &|value| value <= 2.0);
    }

    fn write_times(&self, text: &mut String) {
        *text += "\n| records | who | ADD median / p99 ms | DEL median / p99 ms | pairs |\n| --- | --- | --- | --- | --- |\n";
        for cell in &self.cells {
            for contender in &cell.contenders {
                let pair = |times: &Times| match times.len() {
                    0 => "-".to_owned(),
                    _ => format!("{:.2} / {:.2}", times.median(), times.p99()),
                };
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} |",
                    cell.records,
                    contender.name,
                    pair(&contender.add),
                    pair(&contender.del),
                    contender.add.len()
                );
            }
        }
        *text += "\nThe lines of one number of records were measured together, turn by turn. With fewer than 100 pairs\n\
                  the p99 is the longest. What follows a call of host-local at 65000 is not counted for 32 turns: such\n\
                  a call leaves the machine slow for a while. The floor makes one record durable and does nothing else.\n";
    }

    /// Returns the time for this number of addresses divided by the time for one address, from the
    /// same run.
    fn against_one(&self, name: &str, verb: Verb) -> Option<f64> {
        let median = |name| {
            self.several
                .iter()
                .find(|contender| contender.name == name)
                .map(|of| times(of, verb).median())
        };
        Some(median(name)? / median(ONE)?)
    }

    fn write_several(&self, text: &mut String) {
        if self.several.is_empty() {
            return;
        }
        *text += "\n| an ADD of | ADD median / p99 ms | DEL median / p99 ms | against one address, ADD / DEL | pairs |\n\
                  | --- | --- | --- | --- | --- |\n";
        for contender in &self.several {
            let pair = |times: &Times| format!("{:.2} / {:.2}", times.median(), times.p99());
            let ratio = |verb| self.against_one(contender.name, verb).unwrap_or(0.0);
            let (add, del) = (pair(&contender.add), pair(&contender.del));
            let (more, less) = (ratio(Verb::Add), ratio(Verb::Del));
            let _ = writeln!(
                text,
                "| {} | {add} | {del} | {more:.2} / {less:.2} | {} |",
                contender.name,
                contender.add.len()
            );
        }
    }

    fn write_facts(&self, text: &mut String) {
        *text += "\n| | syncs ADD / DEL | operations a second, 32 at once in turn / filling | peak memory MB | binary MB |\n\
                  | --- | --- | --- | --- | --- |\n";
        for (name, facts) in [(OURS, &self.ours), (THEIRS, &self.theirs)] {
            let Some(facts) = facts else { continue };
            let syncs = facts
                .syncs
                .map_or("not measured".to_owned(), |(add, del)| format!("{add} / {del}"));
            let crowd = |rounds: &[f64]| {
                middle(rounds).map_or("not measured".to_owned(), |value| format!("{value:.0}"))
            };
            let crowd = format!("{} / {}", crowd(&facts.in_turn), crowd(&facts.filling));
            let peak = self.peak_kib(name).unwrap_or(0);
            // The kernel reports the larger one of the plugin's and the driver's peak.
            let bound = if peak <= self.own_peak_kib { "at most " } else { "" };
            let (peak, binary) =
                (peak as f64 / 1024.0, facts.binary_bytes as f64 / 1024.0 / 1024.0);
            let _ =
                writeln!(text, "| {name} | {syncs} | {crowd} | {bound}{peak:.1} | {binary:.1} |");
        }
        if let Some(ceiling) = self.ceiling {
            let _ = writeln!(
                text,
                "\n32 at once, processes that do nothing start and end {ceiling:.0} times a second here: no plugin can be faster."
            );
        }
    }

    fn write_sweep(&self, text: &mut String) {
        let Some(first) = self.sweep.first() else { return };
        let _ = writeln!(
            text,
            "\nOperations a second of so many writers, each of which ADDs and DELs in turn, at {SWEPT} records:\n"
        );
        let writers: Vec<String> =
            first.points.iter().map(|(writers, _)| writers.to_string()).collect();
        let _ = writeln!(
            text,
            "| writers | {} |\n| --- |{}",
            writers.join(" | "),
            " --- |".repeat(writers.len())
        );
        for sweep in &self.sweep {
            let values: Vec<String> =
                sweep.points.iter().map(|(_, value)| format!("{value:.0}")).collect();
            let _ = writeln!(text, "| {} | {} |", sweep.name, values.join(" | "));
        }
    }

    /// Writes the times computed for a slower disk, from the number of flushes alone.
    fn write_computed(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\nComputed, not measured: a disk whose flush takes {SLOW_FLUSH} ms. The times above, less the flushes at {:.2} ms each,\n\
             and with as many at {SLOW_FLUSH} ms.\n\n\
             | records | who | flushes ADD / DEL | ADD ms, computed | DEL ms, computed |\n| --- | --- | --- | --- | --- |",
            self.flush.median()
        );
        for cell in &self.cells {
            for (name, facts) in [(OURS, &self.ours), (THEIRS, &self.theirs)] {
                // If the kernel does not count flushes, each sync counts as one.
                let Some((add, del)) =
                    facts.as_ref().and_then(|facts| facts.flushes.or(facts.syncs))
                else {
                    continue;
                };
                let slow = |verb, flushes: u64| {
                    let median = self.median(cell.records, name, verb)?;
                    Some(format!(
                        "{:.1}",
                        median + flushes as f64 * (SLOW_FLUSH - self.flush.median())
                    ))
                };
                if let Some((add_ms, del_ms)) = slow(Verb::Add, add).zip(slow(Verb::Del, del)) {
                    let _ = writeln!(
                        text,
                        "| {} | {name} | {add} / {del} | {add_ms} | {del_ms} |",
                        cell.records
                    );
                }
            }
        }
    }
}

impl Sweep {
    fn series(&self, color: &'static str) -> Series {
        Series {
            name: self.name,
            color,
            points: self
                .points
                .iter()
                .map(|(writers, value)| (f64::from(*writers), *value))
                .collect(),
        }
    }
}
