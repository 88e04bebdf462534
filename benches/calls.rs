//! hereabouts and host-local side by side, call by call, and the table of
//! what came out. `scripts/bench` builds what it needs and runs it.
//!
//! Every call is a new process with its configuration on standard input and
//! its answer checked. What is compared is interleaved; nothing is averaged
//! over machines; a number without the machine line above it means nothing.
//!
//! - [`call`]: one process, timed
//! - [`measure`]: many, interleaved or at once
//! - [`load`], [`tree`]: fill the stores
//! - [`machine`]: what it runs on
//! - [`report`]: the tables

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a program that measures prints, reads clocks, and shows no number with more than four digits"
)]

#[path = "calls/call.rs"]
mod call;
#[path = "calls/load.rs"]
mod load;
#[path = "calls/machine.rs"]
mod machine;
#[path = "calls/measure.rs"]
mod measure;
#[path = "calls/report.rs"]
mod report;
#[path = "calls/tree.rs"]
mod tree;

use anyhow::{Context, Result, ensure};
use call::Plugin;
use clap::Parser;
use measure::{Contender, Work};
use report::{Cell, FILLED, FLOOR, Facts, NOTHING, OURS, OURS_AT_254, Report, THEIRS};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const NETWORK: &str = "bench";
const NODE: &str = "bench";
const RANGE: &str = "10.0.0.0/8";
/// Everything that is made stands below this name in the given directory.
const WORKPLACE: &str = "hereabouts-bench";

/// What a loaded record's container is called: as long as a runtime's.
fn loaded_container(number: u32) -> String {
    format!("{:064x}", 0x10ad_0000_0000_u64 + u64::from(number))
}

/// Measure CNI calls of hereabouts and host-local side by side
#[derive(Parser)]
struct Options {
    /// The hereabouts to measure; without it host-local is measured alone
    #[arg(long)]
    hereabouts: Option<PathBuf>,
    /// The host-local to measure; without it hereabouts is measured alone
    #[arg(long)]
    host_local: Option<PathBuf>,
    /// The floor program; without it the floor is left out
    #[arg(long)]
    floor: Option<PathBuf>,
    /// Where the stores are made; must be on a disk
    #[arg(long)]
    dir: PathBuf,
    /// Pairs of ADD and DEL for each plugin and number of records
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Pairs of host-local at 65000 records, where a call takes very long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    slow_runs: u32,
    /// Rounds in which 32 processes at once fill a store to 3200 records and
    /// empty it again
    #[arg(long, default_value_t = 3)]
    fills: u32,
    /// The largest number of records to measure at
    #[arg(long, default_value_t = 1_000_000)]
    most: u32,
    /// Write the tables to this file as well
    #[arg(long)]
    out: Option<PathBuf>,
    /// Fill one store of hereabouts and end; used by the program itself, so
    /// that the memory this takes is not in the measuring process
    #[arg(long, hide = true)]
    load: Option<u32>,
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
        // Nobody removes the store behind a loader that goes on alone.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        return load::load(&options.dir, NETWORK, NODE, count);
    }
    ensure!(options.hereabouts.is_some() || options.host_local.is_some(), "nothing to measure: give --hereabouts or --host-local");
    fs::create_dir_all(&options.dir).with_context(|| format!("cannot make {}", options.dir.display()))?;
    machine::refuse_memory(&options.dir)?;

    let workplace = options.dir.canonicalize()?.join(WORKPLACE);
    fs::create_dir(&workplace)
        .with_context(|| format!("cannot make {}: another run, or what one left behind: remove it", workplace.display()))?;
    let done = Bench { options, workplace: workplace.clone() }.run();
    say("removing the stores");
    fs::remove_dir_all(&workplace)?;

    let text = done?.markdown();
    print!("{text}");
    if let Some(out) = &options.out {
        fs::write(out, &text).with_context(|| format!("cannot write {}", out.display()))?;
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
        let counts = [0, 254, 65_000, 1_000_000].into_iter().filter(|records| *records <= self.options.most);
        let cells = counts.map(|records| self.cell(records)).collect::<Result<Vec<Cell>>>()?;
        // Before the crowd, whose threads make this process larger.
        let own_peak_kib = machine::own_peak()?;
        let (ours, theirs) = self.facts()?;
        let ceiling = self.options.floor.as_ref().map(|program| measure::ceiling(&program.canonicalize()?, 30)).transpose()?;
        Ok(Report { ceiling, machine: machine::describe(&self.workplace)?, flush, own_peak_kib, cells, ours, theirs })
    }

    /// Everybody at one number of records. At 1000000 host-local is left out,
    /// and the store of 254 records takes part again: it is what the times are
    /// held against, so it must be measured in the same minutes.
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
            contenders.push(Contender::new(FLOOR, Work::Floor { program: program.clone(), directory }, runs));
            contenders.push(Contender::new(NOTHING, Work::Nothing(program), runs));
        }
        // What filling the stores left to be written is not theirs to pay.
        nix::unistd::sync();
        say(&format!("measuring at {records} records"));
        measure::interleave(&mut contenders)?;
        Ok(Cell { records, contenders })
    }

    fn ours(&self, records: u32) -> Result<Option<Plugin>> {
        let Some(program) = &self.options.hereabouts else { return Ok(None) };
        let store = self.workplace.join(format!("hereabouts-{records}"));
        if !store.exists() {
            fs::create_dir(&store)?;
            say(&format!("filling a store of hereabouts with {records} records"));
            let mut loader = Command::new(std::env::current_exe()?);
            loader.arg("--load").arg(records.to_string()).arg("--dir").arg(store.join("data"));
            ensure!(loader.status()?.success(), "the store could not be filled");
        }
        Plugin::hereabouts(&program.canonicalize()?, &store).map(Some)
    }

    fn theirs(&self, records: u32) -> Result<Option<Plugin>> {
        let Some(program) = &self.options.host_local else { return Ok(None) };
        let store = self.workplace.join(format!("host-local-{records}"));
        if !store.exists() {
            fs::create_dir(&store)?;
            say(&format!("filling a store of host-local with {records} records"));
            tree::load(&store.join("data"), records)?;
        }
        Ok(Some(Plugin::host_local(&program.canonicalize()?, &store)))
    }

    /// What is measured on the empty stores beside the time of single calls.
    fn facts(&self) -> Result<(Option<Facts>, Option<Facts>)> {
        let (ours, theirs) = (self.ours(0)?, self.theirs(0)?);
        let mut facts = [ours.as_ref(), theirs.as_ref()].map(|plugin| plugin.map(|plugin| (plugin, Facts::default())));
        for (plugin, facts) in facts.iter_mut().flatten() {
            facts.binary_bytes = fs::metadata(&plugin.program)?.len();
            facts.version = version(&plugin.program)?;
            facts.syncs = measure::syncs(plugin, &self.workplace)?;
            if facts.syncs.is_none() {
                say("SKIPPED counting syncs: strace is missing or may not trace");
            }
        }
        say("measuring 32 processes at once");
        // Alternating, and an odd number of rounds, so that one is the middle.
        for _ in 0..5 {
            for (plugin, facts) in facts.iter_mut().flatten() {
                facts.in_turn.push(measure::crowd(plugin, 1, 8)?);
            }
        }
        for _ in 0..self.options.fills {
            for (plugin, facts) in facts.iter_mut().flatten() {
                facts.filling.push(measure::crowd(plugin, FILLED / measure::CONTAINERS, 1)?);
            }
        }
        let [ours, theirs] = facts.map(|pair| pair.map(|(_, facts)| facts));
        Ok((ours, theirs))
    }
}

/// Name and version: ours says it, and Go writes that of host-local's module
/// into the executable.
fn version(program: &Path) -> Result<String> {
    const MODULE: &[u8] = b"github.com/containernetworking/plugins\tv";
    let bytes = fs::read(program)?;
    if let Some(at) = bytes.windows(MODULE.len()).position(|window| window == MODULE) {
        let digits = bytes.iter().skip(at + MODULE.len()).take_while(|byte| byte.is_ascii_graphic());
        return Ok(format!("{THEIRS} {}", String::from_utf8(digits.copied().collect())?));
    }
    let said = Command::new(program).arg("--version").env_clear().output()?.stdout;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}
