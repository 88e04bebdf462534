//! Measures hereabouts-controller and the in-cluster provider of Cluster API: both answer the same
//! claims, in turn, each on a new API server. `scripts/bench --claims` builds the required programs
//! and runs this one.
//!
//! The API server and etcd are real and run on the same machine as the controllers. Therefore,
//! compare only the columns with each other.
//!
//! - [`options`]: the command line
//! - [`race`]: one controller, from its first claim to its last
//! - [`report`]: the table
//! - [`full`]: the memory in a cluster that holds much, instead
//! - [`server`], [`counters`], [`machine`], [`times`], [`at_once`]: as for the other programs

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, reads clocks, waits, and shows no number with more than four digits"
)]

#[path = "rig/at_once.rs"]
mod at_once;
#[allow(dead_code, reason = "the other program uses more of it")]
#[path = "cluster/counters.rs"]
mod counters;
#[path = "claims/full.rs"]
mod full;
#[allow(dead_code, reason = "the other programs use more of it")]
#[path = "rig/machine.rs"]
mod machine;
#[path = "claims/options.rs"]
mod options;
#[path = "claims/race.rs"]
mod race;
#[path = "claims/report.rs"]
mod report;
#[allow(dead_code, reason = "the other program uses more of it")]
#[path = "cluster/server.rs"]
mod server;
#[allow(dead_code, reason = "the other programs use more of it")]
#[path = "rig/times.rs"]
mod times;

use anyhow::{Context, Result};
use clap::Parser;
use options::Options;
use race::{Race, Which};
use report::Report;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

/// The directory below `--dir` that contains all created files.
const WORKPLACE: &str = "hereabouts-bench-claims";

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.dir)?;
    machine::refuse_memory(&options.dir)?;
    let workplace = options.dir.canonicalize()?.join(WORKPLACE);
    fs::create_dir(&workplace).with_context(|| {
        format!("cannot make {}: is another run in progress?", workplace.display())
    })?;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let mut report = Report {
        machine: format!(
            "{}, {}",
            now.split('T').next().unwrap_or_default(),
            machine::describe(&workplace)?
        ),
        load: fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        runs: Vec::new(),
    };
    if options.full {
        let text = format!(
            "{}\n{}; load before: {}\n",
            full::measure(options, &workplace)?,
            report.machine,
            report.load
        );
        return finish(options, &workplace, &text);
    }
    for run in 0..options.runs {
        for which in [Which::Hereabouts, Which::Provider] {
            eprintln!("bench: run {} of {}: {}", run + 1, options.runs, which.name());
            // Many more claims only once: they take the provider many minutes.
            let held = if run == 0 { options.held } else { 0 };
            let ended = Race { options, which, workplace: &workplace }.run(held)?;
            report.runs.push((which, ended));
        }
    }
    finish(options, &workplace, &report.markdown())
}

fn finish(options: &Options, workplace: &Path, text: &str) -> Result<()> {
    print!("{text}");
    if let Some(out) = &options.out {
        fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))?;
    }
    fs::remove_dir_all(workplace)?;
    Ok(())
}
