//! Chooses the schedules of calls: those with this many planned switches that differ in more than
//! the order of independent steps, and drawn ones.
//!
//! A switch before a step that commutes with all steps of the other call until that step is the
//! same schedule as the switch one step later. And a call that gets the turn back after a step that
//! commutes with what follows could have had it back before. Both are left out.

use super::calls::{Answered, Call, Setting, perform};
use super::promise::{Known, check};
use super::scheduler::{Job, Plan, Run, Step, Switch, To, run};
use super::world::{Event, Shown, World};
use crate::support::cached::Draw;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

/// The number of runs.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Count {
    pub(super) schedules: usize,
    /// Schedules that are equal to one that was run.
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
    known: &'e mut Known,
    /// Whether nothing is left out.
    whole: bool,
    /// What was left, and how the calls were answered, if this is kept for a comparison.
    pub(super) outcomes: Option<BTreeSet<String>>,
}

/// The approximate number of steps of a call.
const LONGEST: usize = 50;

/// Returns whether a call may end with this code and text.
pub(super) type Allowed = fn(&Call, &(u64, String)) -> bool;

impl<'e> Explorer<'e> {
    pub(super) fn new(
        setting: &'e Setting,
        known: &'e mut Known,
        world: &'e World,
        calls: &'e [Call],
        allowed: Allowed,
    ) -> Self {
        Self {
            setting,
            world,
            calls,
            allowed,
            count: Count::default(),
            faults: Vec::new(),
            good: BTreeSet::new(),
            known,
            whole: false,
            outcomes: None,
        }
    }

    /// Keeps the results of each run. With `whole` nothing is left out.
    pub(super) fn compared(self, whole: bool) -> Self {
        Self { whole, outcomes: Some(BTreeSet::new()), ..self }
    }

    fn run(&self, plan: &Plan, shown: bool) -> (Run, Vec<Answered>) {
        let answers: Vec<Mutex<Answered>> = self.calls.iter().map(|_| Mutex::new(Ok(()))).collect();
        let setting = self.setting;
        let jobs = self.calls.iter().zip(&answers).map(|(call, answer)| {
            let job: Job<'_> = Box::new(move |scheduler, thread| {
                *answer.lock().unwrap() = perform(setting, scheduler, thread, *call)
            });
            job
        });
        let run = run(self.world.clone(), plan, jobs.collect(), shown);
        (run, answers.into_iter().map(|answer| answer.into_inner().unwrap()).collect())
    }

    /// Runs a plan and checks what it left.
    pub(super) fn try_plan(&mut self, plan: &Plan) -> Run {
        let (run, answers) = self.run(plan, false);
        self.count.schedules += 1;
        if let Some(outcomes) = &mut self.outcomes {
            outcomes.insert(outcome(&run, &answers));
        }
        let failed = self.calls.iter().zip(&answers).find_map(|(call, answer)| {
            let error = answer.as_ref().err()?;
            (!call.may_fail() && !(self.allowed)(call, error))
                .then(|| format!("{call:?} failed: {error:?}"))
        });
        let mut hasher = DefaultHasher::new();
        (run.world.state(), &run.world.events).hash(&mut hasher);
        let left = hasher.finish();
        let checked = match failed {
            Some(failed) => Err(failed),
            None if run.faults.is_empty() && self.good.contains(&left) => Ok(()),
            None => check(self.setting, self.known, &run, self.calls),
        };
        if let Err(fault) = checked {
            let shown = self.run(plan, true).0;
            self.faults.push(format!(
                "{:?}\n{plan:?}\n{fault}\n{}\n{:#?}",
                self.calls,
                tell(&shown.trace),
                shown.world.events
            ));
        } else if self.good.insert(left) {
            self.count.worlds += 1;
        }
        run
    }

    /// Runs all schedules with this many switches that begin with one call.
    pub(super) fn explore(&mut self, first: usize, most: usize) {
        let plan = Plan { first, ..Plan::default() };
        let run = self.try_plan(&plan);
        self.deepen(&plan, &run, 0, most);
    }

    /// Runs the schedules with one switch more, after those of the plan.
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
                if other == step.thread
                    || !trace[at + 1..].iter().any(|later| later.thread == other)
                {
                    continue;
                }
                // A third switch is run only where the calls conflict.
                let meets = plan.switches.len() < 2
                    || trace.iter().any(|met| {
                        met.thread != step.thread && met.touches.conflict(&step.touches)
                    });
                let is_same = !meets
                    || had_it_before(plan, trace, begin, at, other)
                    || behind.is_same(trace, at, other);
                if is_same && !self.whole {
                    self.count.same += 1;
                    continue;
                }
                let mut next = plan.clone();
                next.switches.push(Switch { thread: step.thread, at: number, to: To::Call(other) });
                let run = self.try_plan(&next);
                behind.note(
                    step.thread,
                    other,
                    (!run.void).then(|| stretch(&run.trace, at, step.thread)),
                );
                if !run.void {
                    self.deepen(&next, &run, at, most);
                }
            }
        }
    }

    /// Kills the first call, or stops it permanently, before each of its steps that changes
    /// something. The others run then. (Before any other step, the effect is that of the next one.)
    /// Returns what each run has left.
    pub(super) fn end_everywhere(&mut self, to: To) -> Vec<World> {
        let run = self.run(&Plan::default(), false).0;
        let changes = |step: &&Step| step.thread == 0 && step.touches.changes();
        let ends = run.trace.iter().filter(changes).filter_map(|step| step.number);
        ends.map(|at| {
            self.try_plan(&Plan { switches: vec![Switch { thread: 0, at, to }], ..Plan::default() })
                .world
        })
        .collect()
    }

    /// Stops the first call before each of its steps until the others have ended, even if they end
    /// by their deadlines. Then it continues.
    pub(super) fn stop_everywhere(&mut self) {
        let run = self.run(&Plan::default(), false).0;
        let mut behind: Vec<Step> = Vec::new();
        for step in run.trace.iter().filter(|step| step.thread == 0).rev() {
            let Some(number) = step.number else { continue };
            if commutes(step, &behind) && !behind.is_empty() {
                self.count.same += 1;
                continue;
            }
            let stopped = self.try_plan(&Plan {
                switches: vec![Switch { thread: 0, at: number, to: To::Stopped }],
                ..Plan::default()
            });
            behind = stopped.trace.into_iter().filter(|step| step.thread != 0).collect();
        }
    }

    /// Runs a schedule that a seed draws. Every second one kills a call at one of its first steps.
    pub(super) fn draw(&mut self, seed: u64) {
        let first = usize::try_from(seed).unwrap_or(0) % self.calls.len();
        let mut draw = Draw(seed);
        let killed = Switch {
            thread: draw.below(self.calls.len()),
            at: draw.below(LONGEST),
            to: To::Killed,
        };
        let switches = if seed.is_multiple_of(2) { vec![killed] } else { Vec::new() };
        self.try_plan(&Plan { first, switches, seed: Some(seed) });
    }
}

/// Returns what a run has left and answered, as text. Numbers of records are replaced if files were
/// created in another order.
fn outcome(run: &Run, answers: &[Answered]) -> String {
    let without_records = |event: &Event| match event {
        Event::Told(shown) => {
            Event::Told(shown.iter().map(|shown| Shown { record: None, ..shown.clone() }).collect())
        }
        Event::Shown(shown) => Event::Shown(
            shown.iter().map(|shown| Shown { record: None, ..shown.clone() }).collect(),
        ),
        event => event.clone(),
    };
    let mut events: Vec<String> =
        run.world.events.iter().map(|event| format!("{:?}", without_records(event))).collect();
    events.sort();
    format!("{}\n{}\n{answers:?}\n{:?}", run.world.tell(), events.join("\n"), run.faults)
}

/// Returns whether the step that the last switch delayed commutes with all steps of others until it
/// comes, so that the switch was the same one step later.
fn had_it_before(plan: &Plan, trace: &[Step], begin: usize, at: usize, other: usize) -> bool {
    let Some(last) = plan.switches.last() else {
        return false;
    };
    let Some(comes) = trace[begin..]
        .iter()
        .position(|step| step.thread == last.thread)
        .map(|after| begin + after)
    else {
        return false;
    };
    let until = if comes < at { comes } else { at };
    (comes < at || other == last.thread)
        && commutes(&trace[comes], &trace[begin..until])
        && wakes_nobody(&trace[comes], &trace[..until])
}

/// The steps of the others between a switch and the first step of the stopped call, if the switch
/// came one step later. The key is the call and the call that gets the turn.
#[derive(Default)]
struct Behind(BTreeMap<(usize, usize), Vec<Step>>);

impl Behind {
    /// Notes the steps after a step of a run, from the end of the run on: if the call lost the turn
    /// right after it without a switch, these are the steps behind it.
    fn arrive(&mut self, trace: &[Step], at: usize) {
        let thread = trace[at].thread;
        let Some(next) = trace.get(at + 1).filter(|next| next.thread != thread) else {
            return;
        };
        self.0.retain(|(from, _), _| *from != thread);
        self.0.insert((thread, next.thread), stretch(trace, at + 1, thread));
    }

    /// Notes the steps of a switch that was tried, or that it was not possible.
    fn note(&mut self, thread: usize, other: usize, steps: Option<Vec<Step>>) {
        match steps {
            Some(steps) => drop(self.0.insert((thread, other), steps)),
            None => drop(self.0.remove(&(thread, other))),
        }
    }

    /// Returns whether a switch before a step is the same as one after it.
    fn is_same(&self, trace: &[Step], at: usize, other: usize) -> bool {
        let step = &trace[at];
        self.0.get(&(step.thread, other)).is_some_and(|steps| commutes(step, steps))
            && wakes_nobody(step, &trace[..at])
    }
}

/// Returns the steps of others from a place on, until a call continues.
fn stretch(trace: &[Step], from: usize, thread: usize) -> Vec<Step> {
    trace[from..].iter().take_while(|step| step.thread != thread).cloned().collect()
}

fn commutes(step: &Step, others: &[Step]) -> bool {
    !others.iter().any(|other| other.touches.conflict(&step.touches))
}

/// Returns whether no call waits for what a step releases. Otherwise, another call would run next.
fn wakes_nobody(step: &Step, before: &[Step]) -> bool {
    !before.iter().any(|other| {
        other.thread != step.thread
            && other.number.is_none()
            && other.touches.conflict(&step.touches)
    })
}

fn tell(trace: &[Step]) -> String {
    let lines: Vec<String> = trace
        .iter()
        .map(|step| {
            format!("{}{:>4} {}", "    ".repeat(step.thread), step.number.unwrap_or(0), step.label)
        })
        .collect();
    lines.join("\n")
}
