//! Measures hereabouts and Whereabouts on one API server, side by side, and prints tables of the
//! results. `scripts/bench --kubernetes` builds the required programs and runs this one.
//!
//! Every call is a new process with its configuration on standard input, as a runtime starts it,
//! and its answer is checked. The API server and etcd are real and run on the same machine as the
//! calls. Therefore, compare only the rows with each other.
//!
//! - [`options`]: the command line, and the amount of work
//! - [`cases`]: the cases, in order
//! - [`server`], [`counters`]: the API server, and the cost of the calls for it
//! - [`plugin`], [`prefill`]: the plugins, and the entries that exist before a case
//! - [`alone`], [`storm`]: single calls, and many at once
//! - [`slices`], [`slices_report`]: pools with slices
//! - [`feature`]: the cost of this store for the file store
//! - [`report`], [`tables`], [`chart`]: the results
//! - [`process`], [`times`], [`at_once`], [`machine`]: as for the file store

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, reads clocks, waits, and shows no number with more than four digits"
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
#[path = "cluster/slices.rs"]
mod slices;
#[path = "cluster/slices_report.rs"]
mod slices_report;
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

/// The directory below `--dir` that contains all created files.
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

/// Runs a program with the input and environment of this process, and prints its peak memory.
fn peak(program: &Path) -> Result<()> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    println!("{}", process::run(&mut Command::new(program), &input)?.peak_kib);
    Ok(())
}

fn measure_all(options: &Options) -> Result<()> {
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
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut report = Report {
        machine: format!(
            "{}, {}",
            now.split('T').next().unwrap_or_default(),
            machine::describe(&workplace)?
        ),
        load: fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        flush: machine::flush_cost(&workplace)?,
        ..Report::default()
    };
    let bench = Bench { options, amounts: options.amounts(), workplace: workplace.clone() };
    let done = bench.run(&mut report);
    // Also write the results of a run that failed.
    write_out(options, &report)?;
    done?;
    fs::remove_dir_all(&workplace)?;
    verify(&report)
}

/// Prints the tables, and writes the requested files.
fn write_out(options: &Options, report: &Report) -> Result<()> {
    let text = report.markdown();
    print!("{text}");
    let write = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(out) = &options.out {
        write(out, &text)?;
    }
    if let Some(directory) = &options.charts {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        for (name, svg) in report.charts() {
            write(&directory.join(name), &svg)?;
        }
    }
    Ok(())
}

/// Checks that hereabouts' calls did what they must, no matter how fast they were.
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
    if let Some(slices) = &report.slices {
        good.extend(slices.must_succeed());
        ensure!(slices.away.failed == 0, "calls in slices failed without the API server");
    }
    for storm in good {
        let said = storm.said.as_deref().unwrap_or_default();
        ensure!(
            storm.failed == 0,
            "{} of {} calls failed, {} at once; the first: {said}",
            storm.failed,
            storm.calls,
            storm.at_once
        );
    }
    Ok(())
}
