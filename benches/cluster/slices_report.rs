//! The report about pools with slices: targets and tables.

use crate::alone::Pairs;
use crate::cases::NODES;
use crate::plugin::Which;
use crate::report::{Bar, Target, short};
use crate::slices::{Alone, Burst, Seen};
use crate::storm::Storm;
use crate::tables::row;
use crate::times::Times;
use std::fmt::Write;

impl Seen {
    /// Returns the storms in which no call may fail.
    pub(crate) fn must_succeed(&self) -> Vec<&Storm> {
        let bursts = [&self.sliced, &self.claiming, &self.single];
        bursts.into_iter().flat_map(|burst| [&burst.add, &burst.del]).collect()
    }

    pub(crate) fn targets(&self) -> Vec<Target> {
        let [empty, full] = &self.alone;
        let faster = |alone: &Alone| alone.theirs.add.median() / alone.sliced.add.median();
        let rate = self.sliced.add.rate();
        let theirs = self.theirs.as_ref().map(|theirs| rate / theirs.rate());
        let row = |what: String, value, unit, bar| (what, Some(value), unit, bar);
        vec![
            row(
                "ADD alone in a slice: 1.3 times the time of the file store".to_owned(),
                empty.sliced.add.median() / empty.files.add.median(),
                " times",
                Bar::AtMost(1.3),
            ),
            row(
                "ADD alone in a slice: 30 times as fast as Whereabouts".to_owned(),
                faster(empty),
                " times",
                Bar::AtLeast(30.0),
            ),
            row(
                format!("the same with {} held addresses: 400 times", full.held),
                faster(full),
                " times",
                Bar::AtLeast(400.0),
            ),
            (
                "20 nodes at once in slices: 60 times the ADDs a second of Whereabouts".to_owned(),
                theirs,
                " times",
                Bar::AtLeast(60.0),
            ),
            row(
                "the same: 2.5 times the ADDs a second of single objects".to_owned(),
                rate / self.single.add.rate(),
                " times",
                Bar::AtLeast(2.5),
            ),
            row(
                "requests for a further slice: 2".to_owned(),
                self.requests.claim,
                "",
                Bar::AtMost(2.0),
            ),
            row(
                "requests for a slice that is given back: 2".to_owned(),
                self.requests.give_back,
                "",
                Bar::AtMost(2.0),
            ),
            (
                "requests for a slice in a new boot: 1".to_owned(),
                self.requests.boot.map(|(of_slice, _)| of_slice),
                "",
                Bar::AtMost(1.0),
            ),
            row(
                "requests of 100 pairs of ADD and DEL in a slice: 0".to_owned(),
                self.requests.pairs,
                "",
                Bar::AtMost(0.0),
            ),
            row(
                format!(
                    "API server and etcd: processor time of an ADD, {} pods on each of 20 nodes, 1/20 of single objects",
                    self.sliced.add.calls / NODES
                ),
                processor(&self.sliced) / processor(&self.single),
                "",
                Bar::AtMost(0.05),
            ),
            row(
                "the same on nodes that claim a slice first".to_owned(),
                processor(&self.claiming) / processor(&self.single),
                "",
                Bar::AtMost(0.05),
            ),
            row(
                "bytes for a held address: 1/8 of single objects".to_owned(),
                self.bytes.sliced / self.bytes.single,
                "",
                Bar::AtMost(0.125),
            ),
            row(
                format!("failures of {} pairs without the API server: 0", self.away.pairs),
                self.away.failed as f64,
                "",
                Bar::AtMost(0.0),
            ),
        ]
    }

    pub(crate) fn write(&self, text: &mut String) {
        self.write_alone(text);
        self.write_bursts(text);
        let requests = &self.requests;
        let boot = requests.boot.map_or("not measured".to_owned(), |(_, all)| short(all));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\nRequests, counted by the API server:\n\n\
             | what | requests |\n| --- | --- |\n\
             | first ADD of a node in a pool, with its first slice | {} |\n\
             | ADD that claims a further slice | {} |\n\
             | the same on 19 nodes at once in one pool, each | {} |\n\
             | a slice that a look gives back | {} |\n\
             | first ADD after a reboot, a node with one slice | {boot} |\n\
             | 100 pairs of ADD and DEL in a slice | {} |",
            short(requests.first),
            short(requests.claim),
            short(requests.contended),
            short(requests.give_back),
            short(requests.pairs),
        );
        let bytes = &self.bytes;
        let _ = writeln!(
            text,
            "\n{} held addresses in {} slices of 32: {} bytes of JSON each, in single objects {}.\n\n\
             Without the API server: {} of {} pairs in a slice failed; an ADD that needs a slice: {}.",
            bytes.held,
            bytes.slices,
            short(bytes.sliced),
            short(bytes.single),
            self.away.failed,
            self.away.pairs,
            self.away.needs_slice,
        );
    }

    fn write_alone(&self, text: &mut String) {
        *text += "\nPools with slices: one call at a time, in turn.\n\n\
                  | held | who | ADD median / p99 ms | DEL median / p99 ms | pairs |\n\
                  | --- | --- | --- | --- | --- |\n";
        let both = |times: &Times| format!("{} / {}", short(times.median()), short(times.p99()));
        for alone in &self.alone {
            let all = [
                ("in a slice", &alone.sliced),
                ("file store", &alone.files),
                ("single objects", &alone.single),
                (Which::Theirs.name(), &alone.theirs),
            ];
            for (who, Pairs { add, del }) in all.into_iter().filter(|(_, of)| 0 < of.add.len()) {
                let _ = writeln!(
                    text,
                    "| {} | {who} | {} | {} | {} |",
                    alone.held,
                    both(add),
                    both(del),
                    add.len()
                );
            }
        }
    }

    fn write_bursts(&self, text: &mut String) {
        *text += "\n20 nodes, one call at a time on each. Processor time is that of the API server / etcd for one ADD, with\n\
                  what the look of each node afterwards costs.\n\n\
                  | who | what | calls | calls a second | median / worst ms | failed | requests | ms of processor time |\n\
                  | --- | --- | --- | --- | --- | --- | --- | --- |\n";
        let all = [
            ("in slices", &self.sliced),
            ("in slices that the nodes claim first", &self.claiming),
            ("single objects", &self.single),
        ];
        let mut write = |who: &str, what: &str, storm: &Storm, cost: String| {
            let _ =
                writeln!(text, "| {who} | {what} | {} | {} | {cost} |", row(storm), storm.cost.all);
        };
        for (who, burst) in all {
            let calls = burst.add.calls as f64;
            let cost = format!(
                "{} / {}",
                short((burst.add.cost.apiserver + burst.sync.apiserver) / calls),
                short((burst.add.cost.etcd + burst.sync.etcd) / calls)
            );
            write(who, "ADD", &burst.add, cost);
            write(who, "DEL", &burst.del, "-".to_owned());
        }
        if let Some(theirs) = &self.theirs {
            write(Which::Theirs.name(), "ADD", theirs, "-".to_owned());
        }
        let looks =
            [("with what it publishes", &self.sliced.sync), ("without", &self.sliced.quiet)];
        for (what, look) in looks {
            let nodes = NODES as f64;
            let _ = writeln!(
                text,
                "\nThe look of a node, {what}: {} requests, {} / {} ms of processor time.",
                short(look.all as f64 / nodes),
                short(look.apiserver / nodes),
                short(look.etcd / nodes)
            );
        }
    }
}

/// Returns the processor time of both servers for one ADD, with the look of each node.
fn processor(burst: &Burst) -> f64 {
    let costs = [&burst.add.cost, &burst.sync];
    costs.iter().map(|cost| cost.apiserver + cost.etcd).sum::<f64>() / burst.add.calls as f64
}
