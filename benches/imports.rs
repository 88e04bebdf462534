//! Measures `hereabouts import whereabouts` in a cluster whose pods have their addresses from
//! Whereabouts: a dry run, the import, and the import again. `scripts/bench --import` builds the
//! required programs and runs this one.
//!
//! The API server and etcd are real and run on the same machine. All nodes, pods and addresses are
//! objects alone: the import from a workstation looks at nothing else.
//!
//! - [`options`]: the command line
//! - [`cluster_of_whereabouts`]: the objects
//! - [`server`], [`machine`], [`process`], [`times`], [`at_once`]: as for the other programs

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, reads clocks, waits, and shows no number with more than four digits"
)]

#[path = "rig/at_once.rs"]
mod at_once;
#[path = "imports/cluster_of_whereabouts.rs"]
mod cluster_of_whereabouts;
#[allow(dead_code, reason = "the other programs use more of it")]
#[path = "rig/machine.rs"]
mod machine;
#[path = "imports/options.rs"]
mod options;
#[allow(dead_code, reason = "the other programs use more of it")]
#[path = "rig/process.rs"]
mod process;
#[allow(dead_code, reason = "the other programs use more of it")]
#[path = "cluster/server.rs"]
mod server;
#[allow(dead_code, reason = "the other programs use more of it")]
#[path = "rig/times.rs"]
mod times;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use options::Options;
use server::Server;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

/// The directory below `--dir` that contains all created files.
const WORKPLACE: &str = "hereabouts-bench-import";

/// A call, the time that it may take, and the words of its last line after the number of addresses.
const CALLS: &[(&str, &[&str], Duration, &str)] = &[
    ("a dry run", &["--dry-run"], Duration::from_secs(10), "would be recorded"),
    ("the import", &[], Duration::from_mins(1), "recorded now"),
    ("the import again", &[], Duration::from_mins(1), "recorded before"),
];
const MEMORY_MIB: f64 = 64.0;

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
    let machine = format!(
        "{}, {}",
        now.split('T').next().unwrap_or_default(),
        machine::describe(&workplace)?
    );
    let load =
        fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned();
    let server = Server::start(options, workplace.join("cluster"))?;
    let table = on(options, &server);
    server.end()?;
    let text = format!("{}\n{machine}; load before: {load}\n", table?);
    print!("{text}");
    if let Some(out) = &options.out {
        fs::write(out, &text).with_context(|| format!("cannot write {}", out.display()))?;
    }
    fs::remove_dir_all(&workplace)?;
    Ok(())
}

fn on(options: &Options, server: &Server) -> Result<String> {
    eprintln!("bench: making {} pods", options.held);
    cluster_of_whereabouts::fill(options, server)?;
    let mut text = format!(
        "| {} addresses in {} pools | s | target | peak memory, MiB | target |\n\
         | --- | ---: | ---: | ---: | ---: |\n",
        options.held, options.pools
    );
    for (name, words, most, counted) in CALLS {
        eprintln!("bench: {name}");
        let (took, peak) = import(options, &server.kubeconfig(), words, counted)?;
        let _ = writeln!(
            text,
            "| {name} | {:.1} | {} | {peak:.1} | {MEMORY_MIB} |",
            took.as_secs_f64(),
            most.as_secs(),
        );
    }
    Ok(text)
}

/// Returns the time and the peak memory in MiB of one call that leaves nothing out.
fn import(
    options: &Options,
    kubeconfig: &Path,
    words: &[&str],
    counted: &str,
) -> Result<(Duration, f64)> {
    let mut command = Command::new(&options.hereabouts);
    command.args(["import", "whereabouts", "--kubeconfig"]).arg(kubeconfig).args(words);
    let ended = process::run(&mut command, b"")?;
    let told = String::from_utf8_lossy(&ended.stdout);
    let last = told.lines().last().unwrap_or_default();
    ensure!(last.contains(&format!(" {} {counted}", options.held)), "unexpected result: {last}");
    Ok((ended.took, ended.peak_kib as f64 / 1024.0))
}
