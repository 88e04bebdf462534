//! Which schedules of calls are run: those with so many planned switches that
//! differ in more than the order of steps which do not touch the same, and drawn
//! ones.
//!
//! A switch before a step that commutes with all that the other call does until
//! the step comes is the same schedule as the switch one step later; and a call
//! that is given the turn back after a step that commutes with what follows had
//! it back before. Both are left out.

use super::calls::{Answered, Call, Gone, Setting, perform};
use super::promise::check;
use super::scheduler::{Job, Plan, Run, Step, Switch, run};
use super::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

/// What was run.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Count {
    pub(super) schedules: usize,
    /// Schedules that are the same as one that was run.
    pub(super) same: usize,
    /// Different worlds that they left.
    pub(super) worlds: usize,
}

/// See the module.
pub(super) struct Explorer<'e> {
    setting: &'e Setting,
    world: &'e World,
    calls: &'e [Call],
    allowed: Allowed,
    pub(super) count: Count,
    pub(super) faults: Vec<String>,
    /// Worlds in which nothing is wrong.
    good: BTreeSet<u64>,
}

/// Whether a call may end with this code and these words.
pub(super) type Allowed = fn(&Call, &(u64, String)) -> bool;

impl<'e> Explorer<'e> {
    pub(super) fn new(setting: &'e Setting, world: &'e World, calls: &'e [Call], allowed: Allowed) -> Self {
        Self { setting, world, calls, allowed, count: Count::default(), faults: Vec::new(), good: BTreeSet::new() }
    }

    fn run(&self, plan: &Plan, shown: bool) -> (Run, Vec<Answered>) {
        let answers: Vec<Mutex<Answered>> = self.calls.iter().map(|_| Mutex::new(Ok(()))).collect();
        let setting = self.setting;
        let jobs = self.calls.iter().zip(&answers).map(|(call, answer)| {
            let job: Job<'_> = Box::new(move |scheduler, thread| *answer.lock().unwrap() = perform(setting, scheduler, thread, *call));
            job
        });
        let run = run(self.world.clone(), plan, jobs.collect(), shown);
        (run, answers.into_iter().map(|answer| answer.into_inner().unwrap()).collect())
    }

    /// Runs a plan and checks what it left.
    pub(super) fn try_plan(&mut self, plan: &Plan) -> Run {
        let (run, answers) = self.run(plan, false);
        self.count.schedules += 1;
        let failed = self.calls.iter().zip(&answers).find_map(|(call, answer)| {
            let error = answer.as_ref().err()?;
            (call.gone == Gone::Never && call.bad_flush.is_none() && !(self.allowed)(call, error))
                .then(|| format!("{call:?} failed: {error:?}"))
        });
        let mut hasher = DefaultHasher::new();
        run.world.hash(&mut hasher);
        let left = hasher.finish();
        let checked = match failed {
            Some(failed) => Err(failed),
            None if run.faults.is_empty() && self.good.contains(&left) => Ok(()),
            None => check(self.setting, &run, self.calls),
        };
        if let Err(fault) = checked {
            let shown = self.run(plan, true).0;
            self.faults.push(format!("{:?}\n{plan:?}\n{fault}\n{}\n{:#?}", self.calls, tell(&shown.trace), shown.world.events));
        } else if self.good.insert(left) {
            self.count.worlds += 1;
        }
        run
    }

    /// All schedules with so many switches that begin with one call.
    pub(super) fn explore(&mut self, first: usize, most: usize) {
        let plan = Plan { first, ..Plan::default() };
        let run = self.try_plan(&plan);
        self.deepen(&plan, &run, 0, most);
    }

    /// Schedules with one switch more, after those of the plan.
    fn deepen(&mut self, plan: &Plan, run: &Run, begin: usize, most: usize) {
        if plan.switches.len() == most || !self.faults.is_empty() {
            return;
        }
        let trace = &run.trace;
        let mut behind = Behind::default();
        for at in (begin..trace.len()).rev() {
            let step = &trace[at];
            behind.arrive(trace, at);
            let Some(number) = step.number else { continue };
            for other in 0..self.calls.len() {
                if other == step.thread || !trace[at + 1..].iter().any(|later| later.thread == other) {
                    continue;
                }
                if had_it_before(plan, trace, begin, at, other) || behind.is_same(trace, at, other) {
                    self.count.same += 1;
                    continue;
                }
                let mut next = plan.clone();
                next.switches.push(Switch { thread: step.thread, at: number, to: Some(other) });
                let run = self.try_plan(&next);
                behind.note(step.thread, other, (!run.void).then(|| stretch(&run.trace, at, step.thread)));
                if !run.void {
                    self.deepen(&next, &run, at, most);
                }
            }
        }
    }

    /// A schedule that a seed draws.
    pub(super) fn draw(&mut self, seed: u64) {
        let first = usize::try_from(seed).unwrap_or(0) % self.calls.len();
        self.try_plan(&Plan { first, switches: Vec::new(), seed: Some(seed) });
    }
}

/// Whether the step that the last switch put off commutes with all that others
/// did until it comes, so that the switch was the same one step later.
fn had_it_before(plan: &Plan, trace: &[Step], begin: usize, at: usize, other: usize) -> bool {
    let Some(last) = plan.switches.last() else {
        return false;
    };
    let Some(comes) = trace[begin..].iter().position(|step| step.thread == last.thread).map(|after| begin + after) else {
        return false;
    };
    let until = if comes < at { comes } else { at };
    (comes < at || other == last.thread) && commutes(&trace[comes], &trace[begin..until]) && wakes_nobody(&trace[comes], &trace[..until])
}

/// What the others do between a switch and the first step of the call that stood
/// still, had the switch come one step later. By the call and whom it gives the
/// turn to.
#[derive(Default)]
struct Behind(BTreeMap<(usize, usize), Vec<Step>>);

impl Behind {
    /// At a step of a run, from its end on: where the call lost the turn right
    /// after it without a switch, that is what is behind it.
    fn arrive(&mut self, trace: &[Step], at: usize) {
        let thread = trace[at].thread;
        let Some(next) = trace.get(at + 1).filter(|next| next.thread != thread) else {
            return;
        };
        self.0.retain(|(from, _), _| *from != thread);
        self.0.insert((thread, next.thread), stretch(trace, at + 1, thread));
    }

    /// Of a switch that was tried; nothing is known of one that was not possible.
    fn note(&mut self, thread: usize, other: usize, steps: Option<Vec<Step>>) {
        match steps {
            Some(steps) => drop(self.0.insert((thread, other), steps)),
            None => drop(self.0.remove(&(thread, other))),
        }
    }

    /// Whether a switch before a step is the same as one behind it.
    fn is_same(&self, trace: &[Step], at: usize, other: usize) -> bool {
        let step = &trace[at];
        self.0.get(&(step.thread, other)).is_some_and(|steps| commutes(step, steps)) && wakes_nobody(step, &trace[..at])
    }
}

/// The steps of others from a place on, until a call goes on.
fn stretch(trace: &[Step], from: usize, thread: usize) -> Vec<Step> {
    trace[from..].iter().take_while(|step| step.thread != thread).cloned().collect()
}

fn commutes(step: &Step, others: &[Step]) -> bool {
    !others.iter().any(|other| other.touches.conflict(&step.touches))
}

/// Whether nobody waits for what a step lets go: who runs next would be another.
fn wakes_nobody(step: &Step, before: &[Step]) -> bool {
    !before.iter().any(|other| other.thread != step.thread && other.number.is_none() && other.touches.conflict(&step.touches))
}

fn tell(trace: &[Step]) -> String {
    let lines: Vec<String> =
        trace.iter().map(|step| format!("{}{:>4} {}", "    ".repeat(step.thread), step.number.unwrap_or(0), step.label)).collect();
    lines.join("\n")
}
