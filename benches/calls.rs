//! Measures hereabouts and host-local side by side, call by call, and prints tables of the results.
//! `scripts/bench` builds the required programs and runs this one.
//!
//! Every call is a new process with its configuration on standard input, and its answer is checked.
//! The calls of programs that are compared are interleaved. No number is an average over several
//! machines, and a number means nothing without the line about the machine above it.
//!
//! - [`options`]: the command line
//! - [`process`], [`times`]: one process and its time, and many times
//! - [`call`]: the plugins
//! - [`measure`]: calls, interleaved
//! - [`crowd`], [`at_once`]: many calls at once
//! - [`collect`]: GC in a large store
//! - [`load`], [`tree`]: fill the stores
//! - [`machine`], [`flushes`]: the machine, and the flushes of its disk
//! - [`report`], [`chart`]: the tables and the charts
//! - [`profile`], [`purpose`], [`strace`]: the time of one call by parts

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, reads clocks, and shows no number with more than four digits"
)]

#[path = "rig/at_once.rs"]
mod at_once;
#[path = "calls/call.rs"]
mod call;
#[path = "rig/chart.rs"]
mod chart;
#[path = "calls/collect.rs"]
mod collect;
#[path = "calls/crowd.rs"]
mod crowd;
#[path = "calls/flushes.rs"]
mod flushes;
#[path = "calls/load.rs"]
mod load;
#[path = "rig/machine.rs"]
mod machine;
#[path = "calls/measure.rs"]
mod measure;
#[path = "calls/options.rs"]
mod options;
#[path = "rig/process.rs"]
mod process;
#[path = "calls/profile.rs"]
mod profile;
#[path = "calls/purpose.rs"]
mod purpose;
#[path = "calls/report.rs"]
mod report;
#[path = "calls/strace.rs"]
mod strace;
#[allow(dead_code, reason = "the other program uses more of it")]
#[path = "rig/times.rs"]
mod times;
#[path = "calls/tree.rs"]
mod tree;

use anyhow::{Context, Result, bail, ensure};
use call::Plugin;
use clap::Parser;
use measure::{Contender, Work};
use options::Options;
use report::{
    Cell, DUAL, FILLED, FLOOR, Facts, NOTHING, ONE, OURS, OURS_AT_254, Report, SIXTEEN, SWEPT,
    Sweep, THEIRS,
};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use times::Times;

const NETWORK: &str = "bench";
const NODE: &str = "bench";
const RECORDED_BY_OTHERS: &str = "other";
const RANGE: &str = "10.0.0.0/8";
/// The directory below `--dir` that contains all created files.
const WORKPLACE: &str = "hereabouts-bench";

/// Returns the container ID of a loaded record. It is as long as a runtime's.
fn loaded_container(number: u32) -> String {
    format!("{:064x}", 0x10ad_0000_0000_u64 + u64::from(number))
}

fn main() -> ExitCode {
    match measure_all(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure_all(options: &Options) -> Result<()> {
    if let Some(count) = options.load {
        // If the driver is killed, the loader must not continue: then nothing would remove its
        // store.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        return load::load(&options.dir, NETWORK, &options.load_node, options.load_from..count);
    }
    ensure!(
        options.hereabouts.is_some() || options.host_local.is_some(),
        "nothing to measure: give --hereabouts or --host-local"
    );
    fs::create_dir_all(&options.dir)
        .with_context(|| format!("cannot make {}", options.dir.display()))?;
    machine::refuse_memory(&options.dir)?;

    let workplace = options.dir.canonicalize()?.join(WORKPLACE);
    fs::create_dir(&workplace).with_context(|| {
        format!(
            "cannot make {}: another run, or what one left behind: remove it",
            workplace.display()
        )
    })?;
    let bench = Bench { options, workplace: workplace.clone() };
    let done = if options.profile {
        bench.profile()
    } else {
        bench.run().map(|report| (report.markdown(), report.charts()))
    };
    // Write the results first, because the removal of the stores takes long.
    let written = done.and_then(|(text, charts)| write_out(options, &text, &charts));
    say("removing the stores");
    fs::remove_dir_all(&workplace)?;
    written
}

/// Prints the tables, and writes the requested files.
fn write_out(options: &Options, text: &str, charts: &[(&str, String)]) -> Result<()> {
    print!("{text}");
    let write = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(out) = &options.out {
        write(out, text)?;
    }
    if let Some(directory) = &options.charts {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        for (name, svg) in charts {
            write(&directory.join(name), svg)?;
        }
    }
    Ok(())
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}

struct Bench<'o> {
    options: &'o Options,
    workplace: PathBuf,
}

impl Bench<'_> {
    fn run(&self) -> Result<Report> {
        let flush = machine::flush_cost(&self.workplace)?;
        let counts =
            [0, 254, 65_000, 1_000_000].into_iter().filter(|records| *records <= self.options.most);
        let cells = counts.map(|records| self.cell(records)).collect::<Result<Vec<Cell>>>()?;
        // Read this before the crowd, whose threads enlarge this process.
        let own_peak_kib = machine::own_peak()?;
        let several = self.several()?;
        let (ours, theirs) = self.facts()?;
        let ceiling = self
            .options
            .floor
            .as_ref()
            .map(|program| crowd::ceiling(&program.canonicalize()?, 30))
            .transpose()?;
        let sweep = self.sweep()?;
        let collections = self.collections()?;
        Ok(Report {
            collections,
            ceiling,
            machine: self.machine()?,
            flush,
            own_peak_kib,
            cells,
            several,
            ours,
            theirs,
            sweep,
        })
    }

    /// Describes the machine and the date of the figures.
    fn machine(&self) -> Result<String> {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let date = now.split('T').next().unwrap_or_default();
        Ok(format!("{date}, {}", machine::describe(&self.workplace)?))
    }

    /// Measures which parts of a call take how long, at 254 records.
    fn profile(&self) -> Result<(String, Vec<(&'static str, String)>)> {
        let (Some(plugin), Some(nothing)) = (self.ours(254)?, &self.options.floor) else {
            bail!("--profile needs both programs")
        };
        nix::unistd::sync();
        say("tracing ADD and DEL at 254 records");
        let store = self.store(OURS, 254);
        let subject = profile::Subject {
            plugin: &plugin,
            store: &store,
            nothing: &nothing.canonicalize()?,
            scratch: self.workplace.join("strace.txt"),
        };
        let profiles = profile::profile(&subject, self.options.runs as usize)?;
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}; {}.\n\nAll on one core, at 254 records.\n",
            self.machine()?,
            machine::version(&plugin.program)?
        );
        for profile in profiles {
            text += &profile.markdown();
        }
        Ok((text, Vec::new()))
    }

    /// Measures GC in a large store of hereabouts.
    fn collections(&self) -> Result<Option<Times>> {
        let (Some(program), 1..) = (&self.options.hereabouts, self.options.collections) else {
            return Ok(None);
        };
        say("measuring GC of a few records of many");
        collect::collect(
            &program.canonicalize()?,
            &self.store(OURS, collect::RECORDS),
            self.options.collections,
        )
        .map(Some)
    }

    /// Measures one store with an increasing number of writers.
    fn sweep(&self) -> Result<Vec<Sweep>> {
        let time = Duration::from_millis(self.options.sweep);
        if time.is_zero() {
            return Ok(Vec::new());
        }
        let (ours, theirs) = (self.ours(SWEPT)?, self.theirs(SWEPT)?);
        let nothing =
            self.options.floor.as_ref().map(|program| program.canonicalize()).transpose()?;
        let mut all = [NOTHING, OURS, THEIRS].map(|name| Sweep { name, points: Vec::new() });
        for writers in [1, 2, 4, 8, 16, 32, 64] {
            say(&format!("measuring {writers} writers"));
            let mut rates = [Vec::new(), Vec::new(), Vec::new()];
            // The programs take turns, and the median of three rates is used.
            for _ in 0..3 {
                let round = [
                    nothing.as_ref().map(|program| crowd::idle(program, writers as usize, time)),
                    ours.as_ref().map(|plugin| crowd::in_turn(plugin, writers as usize, time)),
                    theirs.as_ref().map(|plugin| crowd::in_turn(plugin, writers as usize, time)),
                ];
                for (rates, rate) in rates.iter_mut().zip(round) {
                    rates.extend(rate.transpose()?);
                }
            }
            for (sweep, rates) in all.iter_mut().zip(rates) {
                sweep.points.extend(report::middle(&rates).map(|rate| (writers, rate)));
            }
        }
        Ok(all.into_iter().filter(|sweep| !sweep.points.is_empty()).collect())
    }

    fn store(&self, name: &str, records: u32) -> PathBuf {
        self.workplace.join(format!("{name}-{records}"))
    }

    /// Measures all programs at one number of records. At 1000000, host-local is left out, and the
    /// store of 254 records takes part again. The times are compared with those of that store, so
    /// both must be measured in the same minutes.
    fn cell(&self, records: u32) -> Result<Cell> {
        let runs = self.options.runs as usize;
        let mut contenders = Vec::new();
        if let Some(plugin) = self.ours(records)? {
            contenders.push(Contender::new(OURS, Work::Pair(plugin), runs));
        }
        if records == 1_000_000 {
            if let Some(plugin) = self.ours(254)? {
                contenders.push(Contender::new(OURS_AT_254, Work::Pair(plugin), runs));
            }
        } else if let Some(plugin) = self.theirs(records)? {
            let mut contender = Contender::new(THEIRS, Work::Pair(plugin), runs);
            if records == 65_000 {
                contender.runs = runs.min(self.options.slow_runs as usize);
                contender.is_slow = true;
            }
            contenders.push(contender);
        }
        if let Some(program) = self.options.floor.as_ref().filter(|_| records == 0) {
            let directory = self.workplace.join("floor");
            fs::create_dir(&directory)?;
            let program = program.canonicalize()?;
            contenders.push(Contender::new(
                FLOOR,
                Work::Floor { program: program.clone(), directory },
                runs,
            ));
            contenders.push(Contender::new(NOTHING, Work::Nothing(program), runs));
        }
        // Data that is left to write after filling the stores must not slow the measurement.
        nix::unistd::sync();
        say(&format!("measuring at {records} records"));
        measure::interleave(&mut contenders)?;
        Ok(Cell { records, contenders })
    }

    /// Measures ADDs of one address, of one per family, and of sixteen, in turn on one store.
    fn several(&self) -> Result<Vec<Contender>> {
        let Some(program) = &self.options.hereabouts else { return Ok(Vec::new()) };
        let store = self.store("several", 0);
        fs::create_dir(&store)?;
        let program = program.canonicalize()?;
        let sixteen: Vec<String> = (0..16).map(|number| format!("10.{number}.0.0/16")).collect();
        let dual = [RANGE.to_owned(), "2001:db8::/64".to_owned()];
        let mut contenders = Vec::new();
        for (name, ranges) in [(ONE, &dual[..1]), (DUAL, &dual[..]), (SIXTEEN, &sixteen[..])] {
            let plugin = Plugin::hereabouts_of(&program, &store, ranges)?;
            contenders.push(Contender::new(name, Work::Pair(plugin), self.options.runs as usize));
        }
        say("measuring one address, two and sixteen");
        measure::interleave(&mut contenders)?;
        Ok(contenders)
    }

    fn ours(&self, records: u32) -> Result<Option<Plugin>> {
        let Some(program) = &self.options.hereabouts else { return Ok(None) };
        let store = self.store(OURS, records);
        if !store.exists() {
            fs::create_dir(&store)?;
            say(&format!("filling a store of hereabouts with {records} records"));
            collect::fill(&store.join("data"), NODE, 0..records)?;
        }
        Plugin::hereabouts(&program.canonicalize()?, &store).map(Some)
    }

    fn theirs(&self, records: u32) -> Result<Option<Plugin>> {
        let Some(program) = &self.options.host_local else { return Ok(None) };
        let store = self.store(THEIRS, records);
        if !store.exists() {
            fs::create_dir(&store)?;
            say(&format!("filling a store of host-local with {records} records"));
            tree::load(&store.join("data"), records)?;
        }
        Ok(Some(Plugin::host_local(&program.canonicalize()?, &store)))
    }

    /// Measures the facts about the plugins other than the times of single calls. Uses the empty
    /// stores.
    fn facts(&self) -> Result<(Option<Facts>, Option<Facts>)> {
        let (ours, theirs) = (self.ours(0)?, self.theirs(0)?);
        let mut facts = [ours.as_ref(), theirs.as_ref()]
            .map(|plugin| plugin.map(|plugin| (plugin, Facts::default())));
        for (plugin, facts) in facts.iter_mut().flatten() {
            facts.binary_bytes = fs::metadata(&plugin.program)?.len();
            facts.version = machine::version(&plugin.program)?;
            facts.syncs = measure::syncs(plugin, &self.workplace)?;
            facts.flushes = measure::flushes(plugin, &self.workplace)?;
            if facts.syncs.is_none() {
                say("SKIPPED counting syncs: strace is missing or may not trace");
            }
        }
        say("measuring 32 processes at once");
        // The plugins alternate, with an odd number of rounds, so that there is a median.
        for _ in 0..5 {
            for (plugin, facts) in facts.iter_mut().flatten() {
                facts.in_turn.push(crowd::crowd(plugin, 1, 8)?);
            }
        }
        for _ in 0..self.options.fills {
            for (plugin, facts) in facts.iter_mut().flatten() {
                facts.filling.push(crowd::crowd(plugin, FILLED / measure::CONTAINERS, 1)?);
            }
        }
        let [ours, theirs] = facts.map(|pair| pair.map(|(_, facts)| facts));
        Ok((ours, theirs))
    }
}
