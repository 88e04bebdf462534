//! The cases of pools with slices, on a cluster of their own: one call at a time beside the file
//! store, single objects and Whereabouts; 20 nodes at once; the requests for a slice; bytes; and an
//! API server that is away.

use crate::alone::Pairs;
use crate::at_once::at_once;
use crate::cases::{Bench, NODES, Stage};
use crate::counters::{Cost, Counters};
use crate::plugin::{Node, Range, container};
use crate::prefill;
use crate::process::Verb;
use crate::say;
use crate::server::{OUR_OBJECTS, POOLS, SLICES, Server};
use crate::storm::{Holders, Storm};
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// The amount of work.
pub(crate) struct Amounts {
    /// The rounds of one pair of each kind, at 0 addresses.
    pub(crate) pairs: usize,
    /// The pairs of Whereabouts, at 0 addresses and at `held`.
    pub(crate) their_pairs: [usize; 2],
    /// The number of addresses that are held in the second half.
    pub(crate) held: usize,
    /// The pods of each node in the burst.
    pub(crate) pods: usize,
    /// The ADDs of Whereabouts in the burst.
    pub(crate) theirs: usize,
    /// The pairs while the API server is away.
    pub(crate) away: usize,
}

/// All results.
pub(crate) struct Seen {
    pub(crate) alone: [Alone; 2],
    pub(crate) sliced: Burst,
    /// The same burst on nodes that own no slice before.
    pub(crate) claiming: Burst,
    pub(crate) single: Burst,
    pub(crate) theirs: Option<Storm>,
    pub(crate) requests: Requests,
    pub(crate) bytes: Bytes,
    pub(crate) away: Away,
}

/// One call at a time, in turn.
#[derive(Default)]
pub(crate) struct Alone {
    pub(crate) held: usize,
    pub(crate) sliced: Pairs,
    pub(crate) files: Pairs,
    pub(crate) single: Pairs,
    pub(crate) theirs: Pairs,
}

/// The same number of pods on each of 20 nodes.
pub(crate) struct Burst {
    pub(crate) add: Storm,
    /// What the nodes' looks after the burst cost, which the DaemonSet makes each minute.
    pub(crate) sync: Cost,
    /// The same right after that, with nothing to publish.
    pub(crate) quiet: Cost,
    pub(crate) del: Storm,
}

/// The requests of the plugins.
#[derive(Default)]
pub(crate) struct Requests {
    /// The claim of a further slice, one node alone.
    pub(crate) claim: f64,
    /// The same on 20 nodes at once in one pool.
    pub(crate) contended: f64,
    /// The first ADD of a node in a pool, with its first slice.
    pub(crate) first: f64,
    /// A slice that a look gives back.
    pub(crate) give_back: f64,
    /// The first ADD after a reboot on a node with one slice: the requests for the slice, and all.
    /// None without the rights to show a call another boot.
    pub(crate) boot: Option<(f64, f64)>,
    /// 100 pairs of ADD and DEL in a slice.
    pub(crate) pairs: f64,
}

/// The bytes of the JSON that etcd keeps for an address.
pub(crate) struct Bytes {
    pub(crate) held: usize,
    pub(crate) slices: usize,
    pub(crate) sliced: f64,
    pub(crate) single: f64,
}

/// Calls while the API server is away.
pub(crate) struct Away {
    pub(crate) pairs: usize,
    pub(crate) failed: usize,
    /// The code of an ADD that needs another slice, while the API server is away.
    pub(crate) needs_slice: String,
}

/// The nodes of the four, in one order everywhere.
struct Four {
    sliced: Node,
    files: Node,
    single: Node,
    theirs: Option<Node>,
}

impl Bench<'_> {
    /// Measures slices. Returns with the API server away.
    ///
    /// # Errors
    /// Fails if a call fails that must not.
    pub(crate) fn slices(&self, stage: &Stage) -> Result<Seen> {
        let amounts = &self.amounts.slices;
        let server = &stage.server;
        let four = self.four(stage)?;
        say("slices: one call at a time");
        let empty = four.alone(0, amounts.pairs, amounts.their_pairs[0])?;

        let burst = Range::of_pool("burst", "172.17.0.0/16");
        make_pool(server, &burst, 24)?;
        let nodes = self.nodes(stage, &stage.ours, NODES, &burst)?;
        let sliced = self.burst(stage, "in slices", &nodes)?;
        let range = Range::large(200);
        let nodes = self.nodes(stage, &stage.ours, NODES, &range)?;
        let single = self.burst(stage, "single objects", &nodes)?;
        let range = Range::of_pool("claiming", "172.18.0.0/16");
        make_pool(server, &range, 26)?;
        let nodes = self.unused(stage, &range)?;
        let claiming = self.burst(stage, "nodes without a slice", &nodes)?;
        let theirs = match &stage.theirs {
            Some(subject) => {
                say(&format!("{NODES} nodes at once: Whereabouts"));
                let nodes = self.nodes(stage, subject, NODES, &Range::large(201))?;
                let holders = Holders::default();
                let add = stage.storm(&nodes, Verb::Add, 0..amounts.theirs, NODES, &holders)?;
                prefill::forget_theirs(server)?;
                Some(add)
            }
            None => None,
        };
        let requests = self.requests(stage)?;
        let bytes = self.bytes(stage)?;

        say(&format!("slices: {} held addresses", amounts.held));
        let nodes = self.nodes(stage, &stage.ours, NODES, &four_range())?;
        let fill = 1000..1000 + amounts.held;
        let filled = stage.storm(&nodes, Verb::Add, fill, 4, &Holders::default())?;
        ensure!(filled.failed == 0, "{}", filled.said.unwrap_or_default());
        prefill::ours(server, "huge", 0..amounts.held)?;
        if stage.theirs.is_some() {
            prefill::theirs(server, 0..amounts.held)?;
        }
        let full = four.alone(amounts.held, amounts.pairs, amounts.their_pairs[1])?;
        let away = self.away(stage, &four.sliced)?;
        let alone = [empty, full];
        Ok(Seen { alone, sliced, claiming, single, theirs, requests, bytes, away })
    }

    fn four(&self, stage: &Stage) -> Result<Four> {
        make_pool(&stage.server, &four_range(), 24)?;
        let files = self.workplace.join("slices").join("files");
        let theirs = stage.theirs.as_ref();
        Ok(Four {
            sliced: self.node(stage, &stage.ours, "alone", &four_range())?,
            files: Node::files(&stage.ours.program, &files, &Range::huge())?,
            single: self.node(stage, &stage.ours, "alone", &Range::huge())?,
            theirs: theirs
                .map(|theirs| self.node(stage, theirs, "alone", &Range::huge()))
                .transpose()?,
        })
    }

    /// Returns nodes that have not made a call yet.
    fn unused(&self, stage: &Stage, range: &Range) -> Result<Vec<Node>> {
        let node = |number| self.node(stage, &stage.ours, &format!("node-{number}"), range);
        (0..NODES).map(node).collect()
    }

    fn burst(&self, stage: &Stage, what: &str, nodes: &[Node]) -> Result<Burst> {
        say(&format!("{NODES} nodes at once: {what}"));
        let pods = 0..NODES * self.amounts.slices.pods;
        let holders = Holders::default();
        let add = stage.storm(nodes, Verb::Add, pods.clone(), NODES, &holders)?;
        let looks = || -> Result<Cost> {
            let before = Counters::read(&stage.server)?;
            nodes.iter().try_for_each(sync)?;
            before.cost(&stage.server, stage.idle)
        };
        let (sync, quiet) = (looks()?, looks()?);
        let del = stage.storm(nodes, Verb::Del, pods, NODES, &holders)?;
        Ok(Burst { add, sync, quiet, del })
    }

    /// Counts requests in pools with slices of 14 addresses and fewer.
    fn requests(&self, stage: &Stage) -> Result<Requests> {
        say("slices: requests");
        let range = Range::of_pool("counted", "172.19.0.0/16");
        make_pool(&stage.server, &range, 28)?;
        let nodes = self.unused(stage, &range)?;
        let count = |work: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
            let before = Counters::read(&stage.server)?;
            work()?;
            Ok(before.cost(&stage.server, stage.idle)?.all as f64)
        };
        let one = nodes.first().context("no node")?;
        let add = |node: &Node, index| node.must(Verb::Add, &container(index)).map(|_| ());
        let mut seen = Requests { first: count(&mut || add(one, 0))?, ..Requests::default() };
        // The other nodes fill their first slice; a slice at the edge of the range has 15.
        for index in 1..15 {
            add(one, index)?;
        }
        seen.claim = count(&mut || (15..17).try_for_each(|index| add(one, index)))?;
        seen.pairs = count(&mut || {
            (100..200).try_for_each(|index| {
                add(one, index)?;
                one.must(Verb::Del, &container(index)).map(|_| ())
            })
        })?;
        // Both slices are empty then, and the next look keeps one of them.
        (0..17).try_for_each(|index| one.must(Verb::Del, &container(index)).map(|_| ()))?;
        let before = Counters::read(&stage.server)?;
        sync(one)?;
        seen.give_back = before.cost(&stage.server, stage.idle)?.of("DELETE", "ipslices") as f64;
        for node in nodes.iter().skip(1) {
            (0..16).try_for_each(|index| add(node, index))?;
        }
        let next = |worker: usize| match nodes.get(worker + 1) {
            Some(node) => add(node, 16),
            None => Ok(()),
        };
        seen.contended = count(&mut || at_once(NODES - 1, next).map(|_| ()))? / (NODES - 1) as f64;
        if let Some(mut call) = in_another_boot(&self.workplace, one) {
            let before = Counters::read(&stage.server)?;
            succeeded(&mut call, &one.input)?;
            let cost = before.cost(&stage.server, stage.idle)?;
            seen.boot = Some((cost.of("PATCH", "ipslices") as f64, cost.all as f64));
        }
        Ok(seen)
    }

    /// Compares what is stored when 20 addresses are held in each slice of 32.
    fn bytes(&self, stage: &Stage) -> Result<Bytes> {
        say("slices: bytes");
        let range = Range::of_pool("bytes", "172.20.0.0/16");
        make_pool(&stage.server, &range, 27)?;
        let nodes = self.unused(stage, &range)?;
        let held = NODES * 20;
        let filled = stage.storm(&nodes, Verb::Add, 0..held, 4, &Holders::default())?;
        ensure!(filled.failed == 0, "{}", filled.said.unwrap_or_default());
        nodes.iter().try_for_each(sync)?;
        let admin = stage.server.admin()?;
        let size = |path: &str, mine: &str| -> Result<(usize, usize)> {
            let list: serde_json::Value = serde_json::from_str(&admin.text(path)?)?;
            let items = list.get("items").and_then(|items| items.as_array());
            let texts = items.into_iter().flatten().map(|item| item.to_string());
            let texts: Vec<String> = texts.filter(|text| text.contains(mine)).collect();
            Ok((texts.len(), texts.iter().map(String::len).sum()))
        };
        let (slices, bytes) = size(SLICES, "\"pool\":\"bytes\"")?;
        let single = Range::large(202);
        let nodes = self.nodes(stage, &stage.ours, 1, &single)?;
        stage.storm(&nodes, Verb::Add, 0..held, 4, &Holders::default())?;
        let (objects, single) = size(OUR_OBJECTS, &single.network)?;
        ensure!(objects == held, "{objects} objects for {held} addresses");
        let each = |bytes| bytes as f64 / held as f64;
        Ok(Bytes { held, slices, sliced: each(bytes), single: each(single) })
    }

    /// Stops the API server, and goes on.
    fn away(&self, stage: &Stage, node: &Node) -> Result<Away> {
        let pairs = self.amounts.slices.away;
        say(&format!("slices: {pairs} pairs without the API server"));
        let process = stage.server.process("apiserver")?.to_string();
        ensure!(Command::new("kill").args(["-9", &process]).status()?.success(), "no API server");
        let mut failed = 0;
        for index in 0..pairs {
            for verb in [Verb::Add, Verb::Del] {
                failed += usize::from(
                    node.call(verb, &container(index))
                        .map_or(true, |called| called.outcome.is_err()),
                );
            }
        }
        let needs = Range::of_pool("claiming", "172.18.0.0/16");
        let needs = self.node(stage, &stage.ours, "needs-a-slice", &needs)?;
        let needs_slice = match needs.call(Verb::Add, &container(0))?.outcome {
            Ok(address) => format!("it got {address}"),
            Err(error) => code_in(&error.to_string()),
        };
        Ok(Away { pairs, failed, needs_slice })
    }
}

impl Four {
    /// Lets all take turns. The few calls of the slow one are spread over the time.
    fn alone(&self, held: usize, pairs: usize, their_pairs: usize) -> Result<Alone> {
        let mut seen = Alone { held, ..Alone::default() };
        let mut warm = Pairs::default();
        for index in 0..5 {
            for node in [&self.sliced, &self.files, &self.single] {
                warm.take(node, index)?;
            }
        }
        let rounds = if self.theirs.is_some() { their_pairs } else { 1 };
        for round in 0..rounds {
            if let Some(theirs) = &self.theirs {
                seen.theirs.take(theirs, round)?;
                // The next program must not pay for work that the slow one left to the machine.
                warm.take(&self.files, round)?;
            }
            for index in pairs * round / rounds..pairs * (round + 1) / rounds {
                seen.files.take(&self.files, index)?;
                seen.sliced.take(&self.sliced, index)?;
                seen.single.take(&self.single, index)?;
            }
        }
        Ok(seen)
    }
}

fn four_range() -> Range {
    Range::of_pool("alone", "172.16.0.0/16")
}

/// Creates a pool with slices of this prefix length.
fn make_pool(server: &Server, range: &Range, prefix: u8) -> Result<()> {
    let pool = serde_json::json!({
        "apiVersion": "hereabouts.dev/v1alpha1",
        "kind": "IPPool",
        "metadata": { "name": range.network },
        "spec": {
            "ranges": [{ "ipv4": range.subnet }],
            "slices": { "ipv4": { "perNodeMaskSize": prefix }, "maxPerNode": 64 },
        },
    });
    server.admin()?.create(POOLS, &pool)
}

/// Makes the look that the DaemonSet makes each minute.
fn sync(node: &Node) -> Result<()> {
    let mut command = node.operator(&["slices", "sync"]);
    succeeded(&mut command, "")
}

fn succeeded(command: &mut Command, input: &str) -> Result<()> {
    let ended = crate::process::finish(command, input.as_bytes())?;
    let said = String::from_utf8_lossy(&ended.stdout);
    ensure!(ended.status == 0, "{command:?}: {said}");
    Ok(())
}

/// Returns an ADD whose kernel seems to have booted again, if this process may make mounts.
fn in_another_boot(workplace: &std::path::Path, node: &Node) -> Option<Command> {
    let boot = workplace.join("boot");
    std::fs::write(&boot, "33333333-3333-4333-8333-333333333333\n").ok()?;
    let call = node.command(Verb::Add, &container(300));
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$1\" \"$2\" && exec \"$3\"", "-"]);
    command.arg(&boot).arg("/proc/sys/kernel/random/boot_id").arg(&node.program);
    command.envs(call.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let mut probe = Command::new("unshare");
    let may = probe.args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    may.then_some(command)
}

/// Returns the code in the text of an error that quotes a CNI error.
fn code_in(said: &str) -> String {
    let code = said.split("\"code\":").nth(1).unwrap_or_default().trim_start();
    let digits: String = code.chars().take_while(char::is_ascii_digit).collect();
    if digits.is_empty() { said.to_owned() } else { format!("code {digits}") }
}
