//! The tables of all results.

use crate::plugin::Which;
use crate::report::{Exact, Growth, Nodes, Report, mega, short};
use crate::storm::Storm;
use crate::times::Times;
use std::fmt::Write;

impl Report {
    /// Returns the whole report as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let versions: Vec<&str> = [&self.ours, &self.theirs]
            .into_iter()
            .flatten()
            .map(|size| size.version.as_str())
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}{}; kube-apiserver and etcd on the same machine.",
            self.machine,
            versions.iter().map(|version| format!("; {version}")).collect::<String>()
        );
        let _ = writeln!(
            text,
            "A flush (4 KiB written in place, fdatasync) costs {} ms here (median; p99 {} ms); load before the run: {}.\n",
            short(self.flush.median()),
            short(self.flush.p99()),
            self.load
        );
        self.write_targets(&mut text);
        if let Some(slices) = &self.slices {
            slices.write(&mut text);
        }
        if self.alone.is_empty() {
            return text;
        }
        self.write_alone(&mut text);
        self.write_crowds(&mut text);
        self.write_nodes(&mut text);
        self.write_exact(&mut text);
        self.write_costs(&mut text);
        self.write_sizes(&mut text);
        if let Some(growth) = &self.growth {
            write_growth(&mut text, growth);
        }
        text
    }

    fn write_alone(&self, text: &mut String) {
        *text += "\nOne call at a time, in turn; a first ADD is that of a node that has no state yet, and lists.\n\n\
                  | entries | who | ADD median / p99 ms | DEL median / p99 ms | pairs | first ADD median / worst ms |\n\
                  | --- | --- | --- | --- | --- | --- |\n";
        let both = |times: &Times| format!("{} / {}", short(times.median()), short(times.p99()));
        for alone in self.alone.iter().chain(self.large.iter().flatten()) {
            for (who, pairs) in [(Which::Ours, &alone.ours), (Which::Theirs, &alone.theirs)] {
                if pairs.add.len() == 0 {
                    continue;
                }
                let cold = match who {
                    Which::Ours => {
                        format!("{} / {}", short(alone.cold.median()), short(alone.cold.worst()))
                    }
                    Which::Theirs => "-".to_owned(),
                };
                let (add, del) = (both(&pairs.add), both(&pairs.del));
                let _ = writeln!(
                    text,
                    "| {} | {} | {add} | {del} | {} | {cold} |",
                    alone.entries,
                    who.name(),
                    pairs.add.len()
                );
            }
        }
        if self.large.is_some() {
            *text += "\nThe last two rows are of a cluster of their own.\n";
        }
    }

    fn write_crowds(&self, text: &mut String) {
        *text += "\nSo many ADDs at a time, all on one node, until all are done.\n\n\
                  | at once | entries | who | ADDs | ADDs a second | median / worst ms | failed | DELs a second |\n\
                  | --- | --- | --- | --- | --- | --- | --- | --- |\n";
        for crowd in &self.crowds {
            let theirs = crowd.theirs.as_ref().map(|storms| (Which::Theirs, storms));
            for (who, (add, del)) in [(Which::Ours, &crowd.ours)].into_iter().chain(theirs) {
                let dels = if del.calls == 0 { "-".to_owned() } else { short(del.rate()) };
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {dels} |",
                    crowd.at_once,
                    crowd.entries,
                    who.name(),
                    row(add)
                );
            }
        }
    }

    fn write_nodes(&self, text: &mut String) {
        let Some(Nodes { nodes, .. }) = self.nodes.first() else { return };
        let _ = writeln!(
            text,
            "\n{nodes} nodes, one call at a time on each, in one range; requests to the API server are counted by it.\n\n\
             | who | what | calls | calls a second | median / worst ms | failed | requests a call | LISTs | turned away |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        );
        for seen in &self.nodes {
            let first = if seen.which == Which::Ours { "ADD until half full" } else { "ADD" };
            let all = [
                (first, Some(&seen.first)),
                ("ADD until full", seen.second.as_ref()),
                ("DEL", Some(&seen.del)),
            ];
            for (what, storm) in all {
                let Some(storm) = storm else { continue };
                let _ = writeln!(
                    text,
                    "| {} | {what} | {} | {} |",
                    seen.which.name(),
                    row(storm),
                    requests(storm)
                );
            }
        }
    }

    fn write_exact(&self, text: &mut String) {
        let Some(Exact { filling, .. }) = self.exact.first() else { return };
        let _ = writeln!(
            text,
            "\n{0} pods for exactly {0} addresses, 50 at a time on 20 nodes, no address twice; then more pods, which must all fail.\n\n\
             | who | what | calls | calls a second | median / worst ms | failed | requests a call | LISTs | turned away | seconds |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            filling.calls
        );
        for exact in &self.exact {
            let all = [
                ("ADD", Some(&exact.filling)),
                ("ADD when full", Some(&exact.full)),
                ("DEL", exact.emptying.as_ref()),
            ];
            for (what, storm) in all {
                let Some(storm) = storm else { continue };
                let seconds = short(storm.took.as_secs_f64());
                let _ = writeln!(
                    text,
                    "| {} | {what} | {} | {} | {seconds} |",
                    exact.which.name(),
                    row(storm),
                    requests(storm)
                );
            }
        }
    }

    fn write_costs(&self, text: &mut String) {
        *text += "\nProcessor time of the servers for one call, in milliseconds, less what they take when nobody asks them.\n\n\
                  | at once | entries | who | ADD: API server / etcd | DEL: API server / etcd | requests of an ADD / a DEL |\n\
                  | --- | --- | --- | --- | --- | --- |\n";
        let cost = |storm: &Storm| match storm.calls {
            0 => "-".to_owned(),
            calls => format!(
                "{} / {}",
                short(storm.cost.apiserver / calls as f64),
                short(storm.cost.etcd / calls as f64)
            ),
        };
        let asked = |storm: &Storm| match storm.calls {
            0 => "-".to_owned(),
            calls => short(storm.cost.all as f64 / calls as f64),
        };
        for crowd in &self.crowds {
            let theirs = crowd.theirs.as_ref().map(|storms| (Which::Theirs, storms));
            for (who, (add, del)) in [(Which::Ours, &crowd.ours)].into_iter().chain(theirs) {
                let (at_once, entries, who) = (crowd.at_once, crowd.entries, who.name());
                let (requests, add, del) =
                    (format!("{} / {}", asked(add), asked(del)), cost(add), cost(del));
                let _ = writeln!(
                    text,
                    "| {at_once} | {entries} | {who} | {add} | {del} | {requests} |"
                );
            }
        }
    }

    fn write_sizes(&self, text: &mut String) {
        *text += "\n| | peak memory MB | executable MB |\n| --- | --- | --- |\n";
        for size in [&self.ours, &self.theirs].into_iter().flatten() {
            let _ = writeln!(
                text,
                "| {} | {} | {} |",
                size.version,
                short(mega(size.peak_kib * 1024)),
                short(mega(size.binary_bytes))
            );
        }
        let Some(feature) = &self.feature else { return };
        let _ = writeln!(
            text,
            "\nThe file store, {} pairs in turn with and without the Kubernetes store in the executable, medians in milliseconds:\n\n\
             | | with | without | median of the differences |\n| --- | --- | --- | --- |",
            feature.with[0].len()
        );
        for (verb, name) in ["ADD", "DEL"].into_iter().enumerate() {
            let of = |times: &[Times; 2]| times.get(verb).map_or(f64::NAN, Times::median);
            let difference = feature.slower.get(verb).copied().unwrap_or(f64::NAN);
            let _ = writeln!(
                text,
                "| {name} | {:.3} | {:.3} | {difference:.3} |",
                of(&feature.with),
                of(&feature.without)
            );
        }
    }
}

/// Returns the calls, the calls per second, the times and the failures as cells of a table.
pub(crate) fn row(storm: &Storm) -> String {
    let times = match storm.times.len() {
        0 => "-".to_owned(),
        _ => format!("{} / {}", short(storm.times.median()), short(storm.times.worst())),
    };
    let rate = if storm.times.len() == 0 {
        storm.calls as f64 / storm.took.as_secs_f64()
    } else {
        storm.rate()
    };
    format!("{} | {} | {times} | {}", storm.calls, short(rate), storm.failed)
}

/// Returns the requests per call, the LISTs, and the requests that priority and fairness rejected.
fn requests(storm: &Storm) -> String {
    let lists = ["ipallocations", "ippools"]
        .map(|resource| storm.cost.of("LIST", resource))
        .iter()
        .sum::<u64>();
    format!(
        "{} | {lists} | {}",
        short(storm.cost.all as f64 / storm.calls as f64),
        storm.cost.turned_away
    )
}

fn write_growth(text: &mut String, growth: &Growth) {
    let objects = growth.objects as f64;
    let each = |after: f64, before: f64| format!("{:.0}", (after - before) / objects);
    let (before, after) = (&growth.before, &growth.after);
    let _ = writeln!(
        text,
        "\n{} objects more, created over 8 kept connections:\n\n\
         | of one object | |\n| --- | --- |\n\
         | bytes in etcd's file | {} |\n\
         | bytes of the API server's heap, after collection | {} |\n\
         | bytes of its resident set | {} |\n\
         | bytes of etcd's resident set | {} |\n\
         | objects a second | {} |\n\
         | ms of processor time of the API server / etcd | {} / {} |",
        growth.objects,
        each(after.etcd, before.etcd),
        each(after.heap, before.heap),
        each(after.resident, before.resident),
        each(after.etcd_resident, before.etcd_resident),
        short(objects / growth.took.as_secs_f64()),
        short(growth.creating.apiserver / objects),
        short(growth.creating.etcd / objects),
    );
    let lists = growth.lists as f64;
    let (nothing, names) = (&growth.of_nothing, &growth.of_names);
    let _ = writeln!(
        text,
        "\nThen a LIST by a label that stands on no object, as a node asks first after a boot, takes {} ms, {} ms of it processor\n\
         time of the API server; a LIST of all names, page by page, {} ms, {} ms of it processor time.",
        short(nothing.0.as_secs_f64() * 1e3 / lists),
        short(nothing.1.apiserver / lists),
        short(names.0.as_secs_f64() * 1e3),
        short(names.1.apiserver)
    );
}
