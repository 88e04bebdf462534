//! hereabouts and Whereabouts on one API server, side by side, and the tables
//! of what came out. `scripts/bench --kubernetes` builds what it needs and runs
//! it.
//!
//! Every call is a new process with its configuration on standard input and
//! its answer checked, as a runtime does it; the API server and etcd are real
//! and share the machine with the calls. Compare the rows with each other.
//!
//! - [`options`]: the command line, and how much is done
//! - [`cases`]: what is done, in order
//! - [`server`], [`counters`]: the API server, and what the calls cost it
//! - [`plugin`], [`prefill`]: the plugins; what was there before
//! - [`alone`], [`storm`]: calls one by one, and many at once
//! - [`feature`]: what this store costs the other one
//! - [`report`], [`tables`], [`chart`]: what came out
//! - [`process`], [`times`], [`at_once`], [`machine`]: as for the file store

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a program that measures prints, reads clocks, waits, and shows no number with more than four digits"
)]

#[path = "cluster/alone.rs"]
mod alone;
#[path = "rig/at_once.rs"]
mod at_once;
#[path = "cluster/cases.rs"]
mod cases;
#[path = "rig/chart.rs"]
mod chart;
#[path = "cluster/counters.rs"]
mod counters;
#[path = "cluster/feature.rs"]
mod feature;
#[allow(dead_code, reason = "the other program uses more of it")]
#[path = "rig/machine.rs"]
mod machine;
#[path = "cluster/options.rs"]
mod options;
#[path = "cluster/plugin.rs"]
mod plugin;
#[path = "cluster/prefill.rs"]
mod prefill;
#[path = "rig/process.rs"]
mod process;
#[path = "cluster/report.rs"]
mod report;
#[path = "cluster/server.rs"]
mod server;
#[path = "cluster/storm.rs"]
mod storm;
#[path = "cluster/tables.rs"]
mod tables;
#[path = "rig/times.rs"]
mod times;

use anyhow::{Context, Result, ensure};
use cases::Bench;
use clap::Parser;
use options::Options;
use plugin::Which;
use report::Report;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::SystemTime;

/// Everything that is made stands below this name in the given directory.
const WORKPLACE: &str = "hereabouts-bench-kubernetes";

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.peak {
        Some(program) => peak(program),
        None => measure_all(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}

/// Runs a program with this process' own input and environment.
fn peak(program: &Path) -> Result<()> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    println!("{}", process::run(&mut Command::new(program), &input)?.peak_kib);
    Ok(())
}

fn measure_all(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.dir).with_context(|| format!("cannot make {}", options.dir.display()))?;
    machine::refuse_memory(&options.dir)?;
    let workplace = options.dir.canonicalize()?.join(WORKPLACE);
    fs::create_dir(&workplace)
        .with_context(|| format!("cannot make {}: another run, or what one left behind: remove it", workplace.display()))?;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut report = Report {
        machine: format!("{}, {}", now.split('T').next().unwrap_or_default(), machine::describe(&workplace)?),
        load: fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        flush: machine::flush_cost(&workplace)?,
        ..Report::default()
    };
    let bench = Bench { options, amounts: options.amounts(), workplace: workplace.clone() };
    let done = bench.run(&mut report);
    // Also what a run had measured that did not come to its end.
    write_out(options, &report)?;
    done?;
    fs::remove_dir_all(&workplace)?;
    verify(&report)
}

/// Prints the tables and writes what was asked for.
fn write_out(options: &Options, report: &Report) -> Result<()> {
    let text = report.markdown();
    print!("{text}");
    let write = |path: &Path, text: &str| fs::write(path, text).with_context(|| format!("cannot write {}", path.display()));
    if let Some(out) = &options.out {
        write(out, &text)?;
    }
    if let Some(directory) = &options.charts {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        for (name, svg) in report.charts() {
            write(&directory.join(name), &svg)?;
        }
    }
    Ok(())
}

/// Calls of ours that did not do what they must, however fast.
fn verify(report: &Report) -> Result<()> {
    let mut good = Vec::new();
    for crowd in &report.crowds {
        good.extend([&crowd.ours.0, &crowd.ours.1]);
    }
    for nodes in report.nodes.iter().filter(|nodes| nodes.which == Which::Ours) {
        good.extend([&nodes.first, &nodes.del]);
        good.extend(&nodes.second);
    }
    for exact in report.exact.iter().filter(|exact| exact.which == Which::Ours) {
        good.push(&exact.filling);
        good.extend(&exact.emptying);
        ensure!(exact.full.failed == exact.full.calls, "an ADD against a full range succeeded");
    }
    for storm in good {
        let said = storm.said.as_deref().unwrap_or_default();
        ensure!(storm.failed == 0, "{} of {} calls failed, {} at once; the first: {said}", storm.failed, storm.calls, storm.at_once);
    }
    Ok(())
}
