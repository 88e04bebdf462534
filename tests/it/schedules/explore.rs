//! Which schedules of calls are run: those with so many planned switches that
//! differ in more than the order of steps which do not touch the same.
//!
//! A switch before a step that commutes with all that the other call does until
//! the step comes is the same schedule as the switch one step later; and a call
//! that is given the turn back after a step that commutes with what follows had
//! it back before. Both are left out.

use super::calls::{Answered, Call, Setting, perform};
use super::promise::check;
use super::scheduler::{Job, Plan, Run, Step, Switch, run};
use super::world::World;
use std::sync::Mutex;

/// What was run.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Count {
    pub(super) schedules: usize,
    /// Schedules that are the same as one that was run.
    pub(super) same: usize,
}

/// See the module.
pub(super) struct Explorer<'e> {
    pub(super) setting: &'e Setting,
    pub(super) world: &'e World,
    pub(super) calls: &'e [Call],
    /// Planned switches.
    pub(super) most: usize,
    pub(super) allowed: fn(&[Call], &Call, &(u64, String)) -> bool,
    pub(super) count: Count,
    pub(super) faults: Vec<String>,
}

impl Explorer<'_> {
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
            (!call.gone && call.bad_flush.is_none() && !(self.allowed)(self.calls, call, error))
                .then(|| format!("{call:?} failed: {error:?}"))
        });
        let checked = failed.map_or_else(|| check(self.setting, &run, self.calls), Err);
        if let Err(fault) = checked {
            let shown = self.run(plan, true).0;
            self.faults.push(format!("{:?}\n{plan:?}\n{fault}\n{}\n{:#?}", self.calls, tell(&shown.trace), shown.world.events));
        }
        run
    }

    /// All schedules that begin with one call.
    pub(super) fn explore(&mut self, first: usize) {
        let plan = Plan { first, switches: Vec::new() };
        let run = self.try_plan(&plan);
        self.deepen(&plan, &run, 0);
    }

    /// Schedules with one switch more, after those of the plan.
    fn deepen(&mut self, plan: &Plan, run: &Run, begin: usize) {
        if plan.switches.len() == self.most || !self.faults.is_empty() {
            return;
        }
        let trace = &run.trace;
        // The step that the last switch put off.
        let put_off = plan.switches.last().and_then(|last| trace[begin..].iter().find(|step| step.thread == last.thread)).cloned();
        // What was run for the switch behind this one.
        let mut later: Vec<Step> = trace.clone();
        for at in (begin..trace.len()).rev() {
            let step = &trace[at];
            let Some(number) = step.number else { continue };
            for other in 0..self.calls.len() {
                if other == step.thread || !trace[at + 1..].iter().any(|later| later.thread == other) {
                    continue;
                }
                let switch = Switch { thread: step.thread, at: number, to: Some(other) };
                let mut switches = plan.switches.clone();
                switches.push(switch);
                let next = Plan { first: plan.first, switches };
                if let Some(put_off) = &put_off
                    && self.calls.len() == 2
                    && other != step.thread
                    && !trace[begin..at].iter().any(|step| step.thread != put_off.thread && step.touches.conflict(&put_off.touches))
                {
                    self.count.same += 1;
                    continue;
                }
                // All that the other does until this call goes on.
                let same = self.calls.len() == 2
                    && !later[at + 1..]
                        .iter()
                        .take_while(|later| later.thread != step.thread)
                        .any(|later| later.touches.conflict(&step.touches));
                if same {
                    self.count.same += 1;
                    continue;
                }
                let run = self.try_plan(&next);
                if run.void {
                    continue;
                }
                self.deepen(&next, &run, at);
                later.clone_from(&run.trace);
            }
        }
    }
}

fn tell(trace: &[Step]) -> String {
    let lines: Vec<String> =
        trace.iter().map(|step| format!("{}{:>4} {}", "    ".repeat(step.thread), step.number.unwrap_or(0), step.label)).collect();
    lines.join("\n")
}
