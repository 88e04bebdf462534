//! The cases, in order: ranges that are empty at first, a range that both plugins fill more and
//! more, and a range with very many entries of hereabouts only. Each has its own cluster, as have
//! pools with slices.

use crate::alone::{Alone, alone};
use crate::counters::{Counters, Held, Idle};
use crate::feature::feature;
use crate::options::{Amounts, Options};
use crate::plugin::{Node, Range, Which, container};
use crate::prefill;
use crate::process::Verb;
use crate::report::{Crowd, Exact, Growth, Nodes, Report, Size};
use crate::say;
use crate::server::Server;
use crate::storm::{Holders, Storm, storm};
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The number of nodes in the cases with many nodes.
pub(crate) const NODES: usize = 20;

pub(crate) struct Bench<'o> {
    pub(crate) options: &'o Options,
    pub(crate) amounts: Amounts,
    pub(crate) workplace: PathBuf,
}

/// A plugin and its ServiceAccount in one cluster.
pub(crate) struct Subject {
    which: Which,
    pub(crate) program: PathBuf,
    kubeconfig: PathBuf,
}

/// A cluster with both plugins.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) idle: Idle,
    pub(crate) ours: Subject,
    pub(crate) theirs: Option<Subject>,
}

impl Bench<'_> {
    pub(crate) fn run(&self, report: &mut Report) -> Result<()> {
        let program = self.options.hereabouts.canonicalize()?;
        if let Some(without) = &self.options.without_kube {
            say("the file store, with the Kubernetes store in the executable and without it");
            report.feature = Some(feature(
                &program,
                &without.canonicalize()?,
                &self.workplace.join("files"),
                self.amounts.feature_pairs,
            )?);
        }
        let stage = self.stage("slices")?;
        let done = self.slices(&stage);
        stage.server.end()?;
        report.slices = Some(done?);
        if self.options.slices {
            return Ok(());
        }
        let stage = self.stage("empty")?;
        let done = self.empty_ranges(&stage, report);
        stage.server.end().and(done)?;
        let stage = self.stage("filled")?;
        let done = self.filled_ranges(&stage, report);
        stage.server.end().and(done)?;
        let Some(most) = self.amounts.most else { return Ok(()) };
        let stage = self.stage("large")?;
        let done = self.very_many(&stage, most, report);
        stage.server.end().and(done)
    }

    fn stage(&self, name: &str) -> Result<Stage> {
        say("starting an API server");
        let server = Server::start(self.options, self.workplace.join(name).join("cluster"))?;
        let subject = |which: Which, program: &Path, account: &str| -> Result<Subject> {
            Ok(Subject {
                which,
                program: program.canonicalize()?,
                kubeconfig: server.kubeconfig_of(account)?,
            })
        };
        let ours = subject(Which::Ours, &self.options.hereabouts, "hereabouts")?;
        let theirs = self
            .options
            .whereabouts
            .as_ref()
            .map(|program| subject(Which::Theirs, program, "whereabouts"))
            .transpose()?;
        // The server does work of its own for a while after its start.
        std::thread::sleep(Duration::from_secs(if self.options.quick { 3 } else { 20 }));
        let idle =
            Idle::watch(&server, Duration::from_secs(if self.options.quick { 3 } else { 20 }))?;
        Ok(Stage { server, idle, ours, theirs })
    }

    /// Returns nodes of a plugin for a range. Each has already made its first call.
    pub(crate) fn nodes(
        &self,
        stage: &Stage,
        subject: &Subject,
        count: usize,
        range: &Range,
    ) -> Result<Vec<Node>> {
        let nodes = (0..count)
            .map(|number| self.node(stage, subject, &format!("node-{number}"), range))
            .collect::<Result<Vec<_>>>()?;
        if subject.which == Which::Ours {
            for node in &nodes {
                node.must(Verb::Add, &container(0))?;
                node.must(Verb::Del, &container(0))?;
            }
        }
        Ok(nodes)
    }

    pub(crate) fn node(
        &self,
        stage: &Stage,
        subject: &Subject,
        name: &str,
        range: &Range,
    ) -> Result<Node> {
        let directory = stage.server.directory.with_file_name("nodes").join(&range.network);
        match subject.which {
            Which::Ours => {
                Node::hereabouts(&subject.program, &subject.kubeconfig, &directory, name, range)
            }
            Which::Theirs => {
                Node::whereabouts(&subject.program, &subject.kubeconfig, &directory, range)
            }
        }
    }

    fn empty_ranges(&self, stage: &Stage, report: &mut Report) -> Result<()> {
        report.ours = Some(self.size(stage, &stage.ours)?);
        report.theirs =
            stage.theirs.as_ref().map(|subject| self.size(stage, subject)).transpose()?;
        for (number, &(at_once, ours, theirs)) in (1..).zip(self.amounts.storms) {
            let range = Range::large(number);
            say(&format!("{at_once} at once"));
            report.crowds.push(self.crowd(stage, 0, &range, (at_once, ours, theirs))?);
        }
        report.nodes =
            stage.both().map(|subject| self.many_nodes(stage, subject)).collect::<Result<_>>()?;
        report.exact =
            stage.both().map(|subject| self.exactly(stage, subject)).collect::<Result<_>>()?;
        Ok(())
    }

    fn crowd(
        &self,
        stage: &Stage,
        entries: usize,
        range: &Range,
        amounts: (usize, usize, usize),
    ) -> Result<Crowd> {
        let (at_once, ours, theirs) = amounts;
        let mut crowd = Crowd { entries, at_once, ..Crowd::default() };
        let nodes = self.nodes(stage, &stage.ours, 1, range)?;
        crowd.ours = stage.add_and_del(&nodes, ours, at_once)?;
        if let Some(subject) = &stage.theirs {
            let nodes = self.nodes(stage, subject, 1, range)?;
            // Entries that are removed at the end anyway are not worth the time of their DELs.
            let (add, del) = if at_once == 1 {
                stage.add_and_del(&nodes, theirs, at_once)?
            } else {
                (
                    stage.storm(&nodes, Verb::Add, 0..theirs, at_once, &Holders::default())?,
                    Storm::default(),
                )
            };
            crowd.theirs = Some((add, del));
            if entries == 0 {
                prefill::forget_theirs(&stage.server)?;
            }
        }
        Ok(crowd)
    }

    fn many_nodes(&self, stage: &Stage, subject: &Subject) -> Result<Nodes> {
        say(&format!("{NODES} nodes at once: {}", subject.which.name()));
        let range = Range::exactly(100, self.amounts.exact);
        let nodes = self.nodes(stage, subject, NODES, &range)?;
        let holders = Holders::default();
        let half = if subject.which == Which::Ours {
            self.amounts.exact / 2
        } else {
            self.amounts.their_nodes
        };
        let first = stage.storm(&nodes, Verb::Add, 0..half, NODES, &holders)?;
        let mut all = half;
        let mut second = None;
        if subject.which == Which::Ours {
            all = self.amounts.exact;
            second = Some(stage.storm(&nodes, Verb::Add, half..all, NODES, &holders)?);
        }
        let del = stage.storm(&nodes, Verb::Del, 0..all, NODES, &holders)?;
        if subject.which == Which::Theirs {
            prefill::forget_theirs(&stage.server)?;
        }
        Ok(Nodes { which: subject.which, nodes: NODES, first, second, del })
    }

    fn exactly(&self, stage: &Stage, subject: &Subject) -> Result<Exact> {
        let pods = self.amounts.exact;
        say(&format!("{pods} pods for {pods} addresses, and then more: {}", subject.which.name()));
        let range = Range::exactly(104, pods);
        let nodes = self.nodes(stage, subject, NODES, &range)?;
        let holders = Holders::default();
        let filling = stage.storm(&nodes, Verb::Add, 0..pods, 50, &holders)?;
        let more = if subject.which == Which::Ours {
            self.amounts.against_full.0
        } else {
            self.amounts.against_full.1
        };
        let full = stage.storm(&nodes, Verb::Add, pods..pods + more, 50, &holders)?;
        let emptying = if subject.which == Which::Ours {
            Some(stage.storm(&nodes, Verb::Del, 0..pods, 50, &holders)?)
        } else {
            prefill::forget_theirs(&stage.server)?;
            None
        };
        Ok(Exact { which: subject.which, filling, full, emptying })
    }

    fn filled_ranges(&self, stage: &Stage, report: &mut Report) -> Result<()> {
        let range = Range::huge();
        let mut filled = 0;
        for (&entries, &their_pairs) in self.amounts.fills.iter().zip(self.amounts.their_pairs) {
            say(&format!("filling to {entries} entries"));
            prefill::ours(&stage.server, &range.network, filled..entries)?;
            if stage.theirs.is_some() && 0 < entries {
                prefill::theirs(&stage.server, filled..entries)?;
            }
            filled = entries;
            report.alone.push(self.alone(stage, entries, &range, Some(their_pairs))?);
        }
        say(&format!("many at once at {filled} entries"));
        report.crowds.push(self.crowd(stage, filled, &range, self.amounts.filled_storm)?);
        Ok(())
    }

    fn very_many(&self, stage: &Stage, most: usize, report: &mut Report) -> Result<()> {
        let range = Range::huge();
        let none = self.alone(stage, 0, &range, None)?;
        report.growth = Some(self.growth(stage, most, &range)?);
        report.large = Some([none, self.alone(stage, most, &range, None)?]);
        Ok(())
    }

    fn alone(
        &self,
        stage: &Stage,
        entries: usize,
        range: &Range,
        their_pairs: Option<usize>,
    ) -> Result<Alone> {
        say(&format!("one at a time at {entries} entries"));
        let name = format!("warm-{entries}");
        let ours = self.node(stage, &stage.ours, &name, range)?;
        let cold = (0..self.amounts.cold)
            .map(|number| self.node(stage, &stage.ours, &format!("cold-{entries}-{number}"), range))
            .collect::<Result<Vec<_>>>()?;
        let theirs = stage.theirs.as_ref().zip(their_pairs);
        let theirs = theirs
            .map(|(subject, pairs)| {
                Ok::<_, anyhow::Error>((self.node(stage, subject, &name, range)?, pairs))
            })
            .transpose()?;
        alone(
            entries,
            (&ours, self.amounts.pairs),
            theirs.as_ref().map(|(node, pairs)| (node, *pairs)),
            &cold,
        )
    }

    /// Measures the cost of more entries.
    fn growth(&self, stage: &Stage, objects: usize, range: &Range) -> Result<Growth> {
        say(&format!("filling to {objects} entries"));
        let before = Held::read(&stage.server)?;
        let counters = Counters::read(&stage.server)?;
        let took = prefill::ours(&stage.server, &range.network, 0..objects)?;
        let creating = counters.cost(&stage.server, stage.idle)?;
        let after = Held::read(&stage.server)?;
        let lists = 10;
        let counters = Counters::read(&stage.server)?;
        let of_nothing = prefill::lists_of_nothing(&stage.server, lists)?;
        let of_nothing = (of_nothing, counters.cost(&stage.server, stage.idle)?);
        let counters = Counters::read(&stage.server)?;
        let of_names = prefill::list_of_names(&stage.server)?;
        let of_names = (of_names, counters.cost(&stage.server, stage.idle)?);
        Ok(Growth { objects, before, after, took, creating, lists, of_nothing, of_names })
    }

    /// Measures the memory, the size and the version of a program.
    fn size(&self, stage: &Stage, subject: &Subject) -> Result<Size> {
        let range = Range::large(0);
        let nodes = self.nodes(stage, subject, 1, &range)?;
        let node = nodes.first().context("no node")?;
        let mut peak_kib = 0;
        for _ in 0..5 {
            for verb in [Verb::Add, Verb::Del] {
                peak_kib = peak_kib.max(self.peak(node, verb)?);
            }
        }
        if subject.which == Which::Theirs {
            prefill::forget_theirs(&stage.server)?;
        }
        let binary_bytes = std::fs::metadata(&subject.program)?.len();
        Ok(Size { version: crate::machine::version(&subject.program)?, binary_bytes, peak_kib })
    }

    /// Measures the peak memory of one call in a separate process, see `--peak`.
    fn peak(&self, node: &Node, verb: Verb) -> Result<u64> {
        let mut command = Command::new(std::env::current_exe()?);
        let call = node.command(verb, &container(1));
        command.env_clear().envs(call.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.arg("--peak").arg(&node.program);
        for (option, value) in
            [("--hereabouts", &self.options.hereabouts), ("--kubectl", &self.options.kubectl)]
        {
            command.arg(option).arg(value);
        }
        command.args(["--cluster", "-", "--deploy", "-", "--dir", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.take().context("no standard input")?.write_all(node.input.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{} could not be measured", node.which.name());
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    }
}

impl Stage {
    fn both(&self) -> impl Iterator<Item = &Subject> {
        std::iter::once(&self.ours).chain(&self.theirs)
    }

    pub(crate) fn storm(
        &self,
        nodes: &[Node],
        verb: Verb,
        containers: std::ops::Range<usize>,
        at_once: usize,
        holders: &Holders,
    ) -> Result<Storm> {
        storm((&self.server, self.idle), nodes, verb, containers, at_once, holders)
    }

    fn add_and_del(&self, nodes: &[Node], calls: usize, at_once: usize) -> Result<(Storm, Storm)> {
        let holders = Holders::default();
        let add = self.storm(nodes, Verb::Add, 0..calls, at_once, &holders)?;
        let del = self.storm(nodes, Verb::Del, 0..calls, at_once, &holders)?;
        Ok((add, del))
    }
}
