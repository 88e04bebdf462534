//! Measures single calls of several programs in turn.
//!
//! The programs that are compared are interleaved, because the speed of a machine drifts over
//! minutes by more than some of the ratios. A DEL follows each measured ADD, so the store has the
//! same number of records all the time.

use crate::call::Plugin;
use crate::flushes::{self, flush_counter};
use crate::process::{Verb, run};
use crate::times::Times;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The number of attachments that take turns, and the number of processes that run at once in
/// [`crate::crowd::crowd`]. It is small and constant, so that the calls before the measurement
/// create all directories that are ever used.
pub(crate) const CONTAINERS: usize = 32;

/// Returns a container ID like a runtime's: 64 hexadecimal digits.
pub(crate) fn container(index: usize) -> String {
    format!("{:064x}", 0xc0de_0000_0000_u64 + index as u64)
}

/// The work of one turn.
pub(crate) enum Work {
    /// An ADD and then a DEL.
    Pair(Plugin),
    /// The floor program, in this directory.
    Floor { program: PathBuf, directory: PathBuf },
    /// A process that ends immediately.
    Nothing(PathBuf),
}

/// One of the compared programs, and its results.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    /// The number of turns. A slow program has the fewest, one per round.
    pub(crate) runs: usize,
    pub(crate) is_slow: bool,
    pub(crate) add: Times,
    pub(crate) del: Times,
    pub(crate) peak_kib: u64,
    turns: usize,
}

impl Contender {
    pub(crate) fn new(name: &'static str, work: Work, runs: usize) -> Self {
        Self {
            name,
            work,
            runs,
            is_slow: false,
            add: Times::default(),
            del: Times::default(),
            peak_kib: 0,
            turns: 0,
        }
    }

    fn turn(&mut self, measured: bool) -> Result<()> {
        let container = container(self.turns % CONTAINERS);
        self.turns += 1;
        match &self.work {
            Work::Pair(plugin) => {
                for verb in [Verb::Add, Verb::Del] {
                    let (ended, _) = plugin
                        .call(verb, &container)
                        .with_context(|| format!("{} {}", self.name, verb.name()))?;
                    if measured {
                        let times = if verb == Verb::Add { &mut self.add } else { &mut self.del };
                        times.push(ended.took);
                        self.peak_kib = self.peak_kib.max(ended.peak_kib);
                    }
                }
            }
            Work::Floor { program, directory } => {
                let ended = run(Command::new(program).arg(directory).arg(&container), &[])?;
                std::fs::remove_file(directory.join(&container))
                    .context("the floor left no record")?;
                if measured {
                    self.add.push(ended.took);
                }
            }
            Work::Nothing(program) => {
                let ended = run(&mut Command::new(program), &[])?;
                if measured {
                    self.add.push(ended.took);
                }
            }
        }
        Ok(())
    }
}

/// Lets the contenders take turns. The few turns of a slow one are spread over the time.
///
/// # Errors
/// Fails if a call fails or returns a wrong answer.
pub(crate) fn interleave(contenders: &mut [Contender]) -> Result<()> {
    let rounds = contenders.iter().map(|contender| contender.runs).min().unwrap_or(0);
    warm(contenders, |_| true)?;
    for round in 0..rounds {
        // After a call that reads tens of thousands of files, the machine is slow for about 30 ms.
        // The next contender must not pay for that.
        for contender in contenders.iter_mut().filter(|contender| contender.is_slow) {
            contender.turn(true)?;
        }
        if contenders.iter().any(|contender| contender.is_slow) {
            warm(contenders, |contender| !contender.is_slow)?;
        }
        // The contenders alternate within a round, too: A B A B, not A A B B.
        let due = |contender: &Contender| {
            contender.runs * (round + 1) / rounds - contender.runs * round / rounds
        };
        for turn in 0..contenders.iter().map(due).max().unwrap_or(0) {
            for contender in contenders
                .iter_mut()
                .filter(|contender| !contender.is_slow && turn < due(contender))
            {
                contender.turn(true)?;
            }
        }
    }
    Ok(())
}

/// Runs turns that do not count, at least one for each container.
fn warm(contenders: &mut [Contender], which: fn(&Contender) -> bool) -> Result<()> {
    for contender in contenders.iter_mut().filter(|contender| which(contender)) {
        for _ in 0..if contender.is_slow { 1 } else { CONTAINERS } {
            contender.turn(false)?;
        }
    }
    Ok(())
}

/// Returns how many flushes an ADD and a DEL request from the kernel, in a store whose directories
/// exist. Returns `None` if strace is missing or may not trace.
///
/// # Errors
/// Fails if the call also fails without strace.
pub(crate) fn syncs(plugin: &Plugin, scratch: &Path) -> Result<Option<(u64, u64)>> {
    let container = container(0);
    plugin.call(Verb::Add, &container)?;
    plugin.call(Verb::Del, &container)?;
    let mut counts = Vec::new();
    for verb in [Verb::Add, Verb::Del] {
        let summary = scratch.join("strace.txt");
        let mut front: Vec<OsString> =
            ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs", "-o"]
                .map(OsString::from)
                .into();
        front.push(summary.clone().into());
        let mut command = plugin.command(&front, verb, &container);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if run(&mut command, plugin.input.as_bytes()).is_err() {
            // The call may have stopped in the middle. Restore the store.
            plugin.call(Verb::Del, &container)?;
            return Ok(None);
        }
        counts.push(calls_in(&std::fs::read_to_string(&summary)?)?);
    }
    match counts.as_slice() {
        [add, del] => Ok(Some((*add, *del))),
        _ => bail!("two verbs, not {}", counts.len()),
    }
}

/// Returns how many flushes an ADD and a DEL request from the disk, according to the kernel's
/// count. This is the minimum of many calls, because other programs may use the disk too. Returns
/// `None` if the kernel does not count flushes.
///
/// # Errors
/// Fails if a call fails.
pub(crate) fn flushes(plugin: &Plugin, scratch: &Path) -> Result<Option<(u64, u64)>> {
    let Some(counter) = flush_counter(scratch) else { return Ok(None) };
    let mut counts = [Vec::new(), Vec::new()];
    for turn in 0..2 * CONTAINERS {
        for (verb, counts) in [Verb::Add, Verb::Del].into_iter().zip(&mut counts) {
            let before = flushes::flushes(&counter);
            plugin.call(verb, &container(turn % CONTAINERS))?;
            let after = flushes::flushes(&counter);
            if CONTAINERS <= turn {
                counts.push(after.unwrap_or(0).saturating_sub(before.unwrap_or(0)));
            }
        }
    }
    let [add, del] = counts.map(|counts| counts.into_iter().min().unwrap_or(0));
    Ok(Some((add, del)))
}

/// Returns the sum of the `calls` column, which is the fourth one, above the line of the total.
fn calls_in(summary: &str) -> Result<u64> {
    let mut sum = 0;
    for line in summary.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let ([share, _, _, calls, ..], Some(name)) = (fields.as_slice(), fields.last())
            && share.parse::<f64>().is_ok()
            && *name != "total"
        {
            sum += calls.parse::<u64>().with_context(|| format!("strace said: {line}"))?;
        }
    }
    Ok(sum)
}
