//! The table of the results.

use crate::race::{Ended, Which};
use std::fmt::Write;

/// A row: its name, its value, and the digits after the point.
type Row = (&'static str, fn(&Ended) -> Option<f64>, usize);

/// All results.
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) load: String,
    pub(crate) runs: Vec<(Which, Ended)>,
}

impl Report {
    /// Returns a table in Markdown. Each number is the median of the runs.
    pub(crate) fn markdown(&self) -> String {
        let rows: [Row; 6] = [
            ("until all claims have an address, s", |ended| Some(ended.took.as_secs_f64()), 1),
            ("writes for each claim", |ended| Some(ended.writes), 2),
            ("writes of the pool, in all", |ended| Some(ended.pool_writes as f64), 0),
            ("peak memory, MB", |ended| Some(megabytes(ended.peak)), 1),
            ("peak memory with many claims, MB", |ended| ended.held_peak.map(megabytes), 1),
            ("creations a second of small objects, before", |ended| Some(ended.plain), 0),
        ];
        let mut text = String::from(
            "| | hereabouts-controller | provider | ratio |\n| --- | ---: | ---: | ---: |\n",
        );
        for (name, value, digits) in rows {
            let of = |which| median(self.of(which).filter_map(value).collect());
            let (Some(ours), Some(theirs)) = (of(Which::Hereabouts), of(Which::Provider)) else {
                continue;
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {name} | {ours:.digits$} | {theirs:.digits$} | {:.1} |",
                theirs / ours.max(f64::MIN_POSITIVE)
            );
        }
        let _ = writeln!(
            text,
            "\n{}; load before: {}; runs of each: {}",
            self.machine,
            self.load,
            self.of(Which::Provider).count()
        );
        text
    }

    fn of(&self, which: Which) -> impl Iterator<Item = &Ended> {
        self.runs.iter().filter(move |(of, _)| *of == which).map(|(_, ended)| ended)
    }
}

pub(crate) fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_table_has_medians_and_leaves_out_what_was_not_measured() {
        let ended = |seconds, held_peak| Ended {
            took: Duration::from_secs(seconds),
            writes: 4.0,
            pool_writes: 40,
            peak: 10_000,
            held_peak,
            plain: 500.0,
        };
        let mut report = Report {
            machine: "m".to_owned(),
            load: "0".to_owned(),
            runs: [5, 10, 6]
                .into_iter()
                .flat_map(|ours| {
                    [
                        (Which::Hereabouts, ended(ours, None)),
                        (Which::Provider, ended(ours * 4, None)),
                    ]
                })
                .collect(),
        };
        let text = report.markdown();
        assert!(
            text.contains("| until all claims have an address, s | 6.0 | 24.0 | 4.0 |"),
            "{text}"
        );
        assert!(text.contains("runs of each: 3"), "{text}");
        assert!(!text.contains("with many claims"), "{text}");
        for (_, ended) in &mut report.runs {
            ended.held_peak = Some(20_000);
        }
        let text = report.markdown();
        assert!(
            text.contains("| peak memory with many claims, MB | 20.5 | 20.5 | 1.0 |"),
            "{text}"
        );
    }
}
