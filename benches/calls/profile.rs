//! Measures which parts of an ADD and a DEL take how long: their system calls in order, and the
//! share of each part of the work.
//!
//! strace slows every call down, so its times cannot be used directly. The cheapest call of the
//! trace is assumed to cost nothing but the tracing, and its time is subtracted from every call.
//! The report shows how well this works: it compares the sum of the parts with calls without
//! strace.

use crate::call::Plugin;
use crate::measure::{CONTAINERS, container};
use crate::process::{Verb, run};
use crate::purpose::{Part, Reader};
use crate::strace::{self, Detail, Span, Touch};
use crate::times::Times;
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs to measure, and their files.
pub(crate) struct Subject<'s> {
    pub(crate) plugin: &'s Plugin,
    /// The store of the plugin.
    pub(crate) store: &'s Path,
    /// A program that does nothing.
    pub(crate) nothing: &'s Path,
    pub(crate) scratch: PathBuf,
}

/// The results for one verb.
pub(crate) struct Profile {
    verb: Verb,
    runs: usize,
    traced_runs: usize,
    /// The time without strace. Like all other times here, it is in microseconds.
    whole: f64,
    nothing: f64,
    /// The time subtracted from each call: for the tracing inside it, and after it.
    overhead: (f64, f64),
    steps: Vec<Step>,
}

/// One system call. Its times are corrected medians over the runs.
struct Step {
    call: String,
    of: String,
    part: Part,
    purpose: &'static str,
    kernel: f64,
    /// The time from the end of the call to the next call.
    after: f64,
}

/// Traces both verbs, and measures them without strace, in turn.
///
/// # Errors
/// Fails if strace cannot be used or a call fails.
pub(crate) fn profile(subject: &Subject<'_>, runs: usize) -> Result<Vec<Profile>> {
    ensure!(
        strace::is_usable(&subject.scratch),
        "strace is missing, older than 5.10, or may not trace"
    );
    let nothing_calls = strace::touches(&traced(subject, Detail::Paths, None)?);
    let (mut whole, mut nothing) = ([Times::default(), Times::default()], Times::default());
    let mut traces: [Vec<Vec<Span>>; 2] = Default::default();
    for turn in 0..CONTAINERS + runs {
        let container = container(turn % CONTAINERS);
        let took = [Verb::Add, Verb::Del]
            .map(|verb| subject.plugin.call(verb, &container).map(|(ended, _)| ended.took));
        let mut spans = Vec::new();
        for verb in [Verb::Add, Verb::Del] {
            spans.push(strace::spans(&traced(subject, Detail::Times, Some((verb, &container)))?));
        }
        let idle = run(&mut Command::new(subject.nothing), &[])?.took;
        if turn < CONTAINERS {
            continue;
        }
        nothing.push(idle);
        for (((times, took), traces), spans) in
            whole.iter_mut().zip(took).zip(&mut traces).zip(spans)
        {
            times.push(took?);
            traces.push(spans);
        }
    }
    let mut profiles = Vec::new();
    for ((verb, whole), traces) in [Verb::Add, Verb::Del].into_iter().zip(&whole).zip(traces) {
        let touches =
            strace::touches(&traced(subject, Detail::Paths, Some((verb, &container(0))))?);
        let traces: Vec<_> =
            traces.into_iter().filter(|spans| are_alike(&touches, spans)).collect();
        // The calls of some runs differ, for example because they find a hint.
        ensure!(
            runs <= 2 * traces.len(),
            "only {} of {runs} traces of {} have the same calls",
            traces.len(),
            verb.name()
        );
        let (steps, overhead) = steps(&touches, &traces, &nothing_calls, subject)?;
        let (whole, nothing) = (whole.median() * 1e3, nothing.median() * 1e3);
        profiles.push(Profile {
            verb,
            runs,
            traced_runs: traces.len(),
            whole,
            nothing,
            overhead,
            steps,
        });
    }
    Ok(profiles)
}

/// Runs one call, or the program that does nothing, under strace.
fn traced(subject: &Subject<'_>, detail: Detail, call: Option<(Verb, &str)>) -> Result<String> {
    let front = strace::front(detail, &subject.scratch);
    let (mut command, input) = match call {
        Some((verb, container)) => {
            (subject.plugin.command(&front, verb, container), subject.plugin.input.as_str())
        }
        None => {
            let mut command = Command::new("strace");
            command.args(front.iter().skip(1)).arg(subject.nothing).env_clear();
            (command, "")
        }
    };
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    run(&mut command, input.as_bytes())?;
    fs::read_to_string(&subject.scratch).context("strace wrote nothing")
}

fn are_alike(touches: &[Touch], spans: &[Span]) -> bool {
    touches.len() == spans.len()
        && touches.iter().zip(spans).all(|(touch, span)| touch.name == span.name)
}

/// Combines the files that the calls touched with the medians of the times.
fn steps(
    touches: &[Touch],
    traces: &[Vec<Span>],
    nothing: &[Touch],
    subject: &Subject<'_>,
) -> Result<(Vec<Step>, (f64, f64))> {
    let median = |of: &dyn Fn(&[Span]) -> Option<u64>| {
        let mut all: Vec<u64> = traces.iter().filter_map(|spans| of(spans)).collect();
        all.sort_unstable();
        all.get(all.len() / 2).map_or(0.0, |nanoseconds| *nanoseconds as f64 / 1e3)
    };
    let took: Vec<f64> =
        (0..touches.len()).map(|at| median(&|spans| spans.get(at).map(|span| span.took))).collect();
    let gap = |spans: &[Span], at: usize| {
        let (this, next) = spans.get(at).zip(spans.get(at + 1))?;
        Some(next.start.saturating_sub(this.start + this.took))
    };
    let gaps: Vec<f64> = (0..touches.len()).map(|at| median(&|spans| gap(spans, at))).collect();
    // The last call has no end and no call after it.
    let least = |times: &[f64]| {
        times.iter().take(touches.len().saturating_sub(1)).copied().fold(f64::INFINITY, f64::min)
    };
    let overhead = (least(&took), least(&gaps));
    ensure!(overhead.0.is_finite(), "a trace without calls");

    // Calls that a process that does nothing also makes belong to the process.
    let same = |(ours, theirs): &(&Touch, &Touch)| ours.name == theirs.name;
    let first = touches.iter().zip(nothing).take_while(same).count();
    let behind = touches.iter().rev().zip(nothing.iter().rev()).take_while(same).count();
    let own = first..touches.len().saturating_sub(behind).max(first);

    let data = subject.store.join("data");
    let mut reader = Reader::new(&data);
    let mut steps = Vec::new();
    for (at, touch) in touches.iter().enumerate() {
        let (part, purpose) =
            if own.contains(&at) { reader.judge(touch) } else { (Part::Process, "") };
        let is_library = touch.path.contains(".so") || touch.path.contains("/ld-");
        let part = if part == Part::Process && is_library { Part::Linking } else { part };
        let last = at + 1 == touches.len();
        steps.push(Step {
            call: touch.name.clone(),
            of: shown(touch, &data, subject.store),
            part,
            purpose,
            kernel: (took[at] - overhead.0).max(0.0),
            // The time after execve does not belong to the program: strace examines the new image.
            after: if last || touch.name == "execve" {
                0.0
            } else {
                (gaps[at] - overhead.1).max(0.0)
            },
        });
    }
    // At the end, all files are closed. No later call shows that these belong to the output.
    let closing = steps
        .iter_mut()
        .take(own.end)
        .rev()
        .take_while(|step| step.call == "close" && step.part == Part::Store);
    closing.for_each(|step| step.part = Part::Output);
    Ok((steps, overhead))
}

/// Returns a path for the report: relative to the store, with short IDs.
fn shown(touch: &Touch, data: &Path, store: &Path) -> String {
    let path = Path::new(&touch.path);
    let shown = match (path.strip_prefix(data), path.strip_prefix(store)) {
        (Ok(inside), _) if inside.as_os_str().is_empty() => "the data directory".to_owned(),
        (Ok(inside), _) => inside.display().to_string(),
        (_, Ok(beside)) => format!("../{}", beside.display()),
        _ if touch.path.starts_with("pipe:") && touch.descriptor == Some(0) => "stdin".to_owned(),
        _ if touch.path.starts_with("pipe:") && touch.descriptor == Some(1) => "stdout".to_owned(),
        _ if touch.name == "execve" => String::new(),
        _ if touch.path.starts_with("/proc/") => touch
            .path
            .split('/')
            .map(|part| if is_number(part) { "self" } else { part })
            .collect::<Vec<_>>()
            .join("/"),
        _ => touch.path.clone(),
    };
    let shown =
        (0..CONTAINERS).map(container).fold(shown, |shown, id| shown.replace(&id, "<container>"));
    if touch.has_failed() { format!("{shown} (not there)") } else { shown }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Profile {
    /// Returns both tables of one verb.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        self.write_shares(&mut text);
        self.write_calls(&mut text);
        text
    }

    fn write_shares(&self, text: &mut String) {
        let verb = self.verb.name();
        let mut parts: HashMap<&str, (f64, usize)> = HashMap::new();
        for step in &self.steps {
            let (time, calls) = parts.entry(step.part.name()).or_default();
            *time += step.kernel + step.after;
            *calls += 1;
        }
        // Measured directly without strace, instead of adding up its calls.
        let process = parts.entry(Part::Process.name()).or_default();
        process.0 = self.nothing;
        let sum: f64 = parts.values().map(|(time, _)| time).sum();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "## {verb}\n\n{:.0} us from start to reaping (median of {} without strace), {} system calls.\n\n\
             | part | us | share | calls | what |\n| --- | --- | --- | --- | --- |",
            self.whole,
            self.runs,
            self.steps.len()
        );
        for part in Part::ALL {
            let (time, calls) = parts.get(part.name()).copied().unwrap_or_default();
            let words = if part == Part::Linking && calls == 0 {
                "none: the executable is static"
            } else {
                part.words()
            };
            let _ = writeln!(
                text,
                "| {} | {time:.0} | {:.1} % | {calls} | {words} |",
                part.name(),
                100.0 * time / self.whole
            );
        }
        let rest = self.whole - sum;
        let _ = writeln!(
            text,
            "| not explained | {rest:.0} | {:.1} % | | without strace, less the parts above |\n",
            100.0 * rest / self.whole
        );
        let _ = writeln!(
            text,
            "From {} traces with the same calls. Taken off each call for strace: {:.1} us inside it and {:.1} us behind it.\n",
            self.traced_runs, self.overhead.0, self.overhead.1
        );
    }

    fn write_calls(&self, text: &mut String) {
        *text += "| | call | of | us in the kernel | us until the next | part | for |\n| --- | --- | --- | --- | --- | --- | --- |\n";
        for (at, step) in self.steps.iter().enumerate() {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.1} | {:.1} | {} | {} |",
                at + 1,
                step.call,
                step.of,
                step.kernel,
                step.after,
                step.part.name(),
                step.purpose
            );
        }
        text.push('\n');
    }
}
