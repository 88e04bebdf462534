//! Runs calls as threads of which exactly one runs at a time, and decides at every step which one.
//! A plan names the steps before which the thread is switched. Locks and time belong to the
//! scheduler: a thread that waits for a lock or sleeps does not run, and the clock jumps when
//! nothing else can run. The same plan gives the same run.
//!
//! It knows no store: a step is a function on the world, and says what it touches.

use super::world::{Event, World};
use crate::support::cached::Draw;
use hereabouts::retry::Clock;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A call with more steps than this never ends.
const MOST_STEPS: usize = 20_000;

/// What happens before a call's step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// It is stopped, and this call runs.
    Call(usize),
    /// It is stopped with its locks until the others have ended.
    Stopped,
    /// The same, and then it is killed.
    Frozen,
    /// It is killed: its locks are released, and the others continue.
    Killed,
}

/// A switch before the step `at` of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Switch {
    pub(super) thread: usize,
    pub(super) at: usize,
    pub(super) to: To,
}

/// The thread that begins, and the switches in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) first: usize,
    pub(super) switches: Vec<Switch>,
    /// In addition, before each step the turn may go to any other call, with a chance of one in
    /// `RARELY`, as this seed draws it.
    pub(super) seed: Option<u64>,
}

/// See [`Plan`].
const RARELY: usize = 6;

/// What a step reads and writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Touches(Vec<(u64, bool)>);

impl Touches {
    pub(super) fn read(&mut self, place: impl Hash) {
        self.0.push((hash(place), false));
    }

    pub(super) fn write(&mut self, place: impl Hash) {
        self.0.push((hash(place), true));
    }

    /// Returns whether it changes anything.
    pub(super) fn changes(&self) -> bool {
        self.0.iter().any(|(_, writes)| *writes)
    }

    /// Returns whether the order of the two steps may matter.
    pub(super) fn conflict(&self, other: &Self) -> bool {
        self.0.iter().any(|(place, writes)| {
            other.0.iter().any(|(known, also)| place == known && (*writes || *also))
        })
    }
}

fn hash(place: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    place.hash(&mut hasher);
    hasher.finish()
}

/// One step of a run. A try at a lock that made its thread wait has no number.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) thread: usize,
    pub(super) number: Option<usize>,
    pub(super) touches: Touches,
    /// For a run that is printed.
    pub(super) label: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Thread {
    Ready,
    Waiting { lock: String, until: Duration },
    Asleep { until: Duration },
    Frozen,
    Ended,
}

/// What a killed thread unwinds with.
struct Killed;

pub(super) struct State {
    pub(super) world: World,
    plan: Plan,
    next: usize,
    current: usize,
    threads: Vec<Thread>,
    steps: Vec<usize>,
    /// To be killed when nothing else runs.
    doomed: Vec<bool>,
    killed: Vec<bool>,
    locks: BTreeMap<String, usize>,
    now: Duration,
    trace: Vec<Step>,
    shown: bool,
    draw: Draw,
    /// The step before which was drawn.
    drawn: Option<(usize, usize)>,
    /// Whether a planned switch could not be made.
    void: bool,
    faults: Vec<String>,
}

/// See the module.
pub(super) struct Scheduler {
    state: Mutex<State>,
    turn: Condvar,
    epoch: Instant,
}

/// The end of a run.
pub(super) struct Run {
    pub(super) world: World,
    pub(super) trace: Vec<Step>,
    pub(super) void: bool,
    /// Deadlocks, panics, calls that do not end.
    pub(super) faults: Vec<String>,
}

/// One call, as it runs on its thread.
pub(super) type Job<'j> = Box<dyn FnOnce(&Arc<Scheduler>, usize) + Send + 'j>;

/// Runs calls by a plan. With one call this is an ordinary run.
pub(super) fn run(world: World, plan: &Plan, jobs: Vec<Job<'_>>, shown: bool) -> Run {
    let count = jobs.len();
    let state = State {
        world,
        plan: plan.clone(),
        next: 0,
        current: plan.first,
        threads: vec![Thread::Ready; count],
        steps: vec![0; count],
        doomed: vec![false; count],
        killed: vec![false; count],
        locks: BTreeMap::new(),
        now: Duration::ZERO,
        trace: Vec::new(),
        shown,
        draw: Draw(plan.seed.unwrap_or(0)),
        drawn: None,
        void: false,
        faults: Vec::new(),
    };
    #[allow(clippy::disallowed_methods, reason = "where the clock of the run begins")]
    let epoch = Instant::now();
    let scheduler = Arc::new(Scheduler { state: Mutex::new(state), turn: Condvar::new(), epoch });
    std::thread::scope(|scope| {
        let mut jobs = jobs.into_iter().enumerate();
        let here = jobs.next();
        for (thread, job) in jobs {
            let scheduler = Arc::clone(&scheduler);
            scope.spawn(move || scheduler.carry_out(thread, job));
        }
        if let Some((thread, job)) = here {
            scheduler.carry_out(thread, job);
        }
    });
    let mut state = scheduler.lock_state();
    let world = std::mem::take(&mut state.world);
    let trace = std::mem::take(&mut state.trace);
    let faults = std::mem::take(&mut state.faults);
    let void = state.void || state.next < state.plan.switches.len();
    Run { world, trace, void, faults }
}

impl State {
    /// Chooses who runs when the running thread cannot.
    fn choose(&mut self) {
        if let Some(ready) = self.threads.iter().position(|thread| *thread == Thread::Ready) {
            self.current = ready;
            return;
        }
        let ends = self.threads.iter().enumerate().filter_map(|(thread, state)| match state {
            Thread::Waiting { until, .. } | Thread::Asleep { until } => Some((*until, thread)),
            Thread::Ready | Thread::Frozen | Thread::Ended => None,
        });
        if let Some((until, thread)) = ends.min() {
            let sleeper = self
                .threads
                .iter()
                .any(|thread| matches!(thread, Thread::Asleep { .. } | Thread::Frozen));
            if let (Thread::Waiting { lock, .. }, false) = (&self.threads[thread], sleeper) {
                let holder = self.locks.get(lock);
                self.faults.push(format!(
                    "deadlock: call {thread} waits for {lock}, held by {holder:?}, and nothing runs"
                ));
            }
            self.now = self.now.max(until);
            self.threads[thread] = Thread::Ready;
            self.current = thread;
            return;
        }
        if let Some(frozen) = self.threads.iter().position(|thread| *thread == Thread::Frozen) {
            self.threads[frozen] = Thread::Ready;
            self.current = frozen;
            if self.doomed[frozen] {
                self.kill(frozen);
            }
        }
    }

    fn kill(&mut self, thread: usize) {
        self.killed[thread] = true;
        self.world.is_theirs_killed |= self.world.running.remove(&thread) == Some(true);
        self.world.events.push(Event::Killed(thread));
    }

    /// Makes a planned switch.
    fn switch(&mut self, from: usize, to: To) {
        let to = match to {
            To::Call(to) => to,
            To::Stopped | To::Frozen => {
                self.threads[from] = Thread::Frozen;
                self.doomed[from] = to == To::Frozen;
                return self.choose();
            }
            To::Killed => return self.kill(from),
        };
        match self.threads[to] {
            Thread::Ready => self.current = to,
            Thread::Asleep { until } => {
                self.now = self.now.max(until);
                self.threads[to] = Thread::Ready;
                self.current = to;
            }
            _ => self.void = true,
        }
    }

    /// Makes a drawn switch, once before each step.
    fn switch_drawn(&mut self, from: usize) {
        let step = (from, self.steps[from]);
        if self.plan.seed.is_none() || self.drawn == Some(step) {
            return;
        }
        self.drawn = Some(step);
        let ready: Vec<usize> = (0..self.threads.len())
            .filter(|other| *other != from && self.threads[*other] == Thread::Ready)
            .collect();
        if !ready.is_empty() && self.draw.below(RARELY) == 0 {
            self.current = ready[self.draw.below(ready.len())];
        }
    }
}

impl Scheduler {
    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn carry_out(self: &Arc<Self>, thread: usize, job: Job<'_>) {
        let ended = catch_unwind(AssertUnwindSafe(|| job(self, thread)));
        let mut state = self.lock_state();
        if let Err(panic) = ended
            && !panic.is::<Killed>()
        {
            let words = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            state.faults.push(format!("call {thread} panicked: {}", words.unwrap_or_default()));
        }
        // As the kernel does for a process that is gone.
        state.locks.retain(|_, holder| *holder != thread);
        for other in &mut state.threads {
            if matches!(other, Thread::Waiting { .. }) {
                *other = Thread::Ready;
            }
        }
        state.threads[thread] = Thread::Ended;
        state.choose();
        drop(state);
        self.turn.notify_all();
    }

    /// Waits until it is this thread's turn. A planned switch may take the turn.
    fn wait_for_turn(&self, thread: usize, planned: bool) -> MutexGuard<'_, State> {
        let mut state = self.lock_state();
        loop {
            if state.current == thread {
                if state.killed[thread] {
                    drop(state);
                    resume_unwind(Box::new(Killed));
                }
                if planned {
                    state.switch_drawn(thread);
                    if state.current != thread {
                        self.turn.notify_all();
                        continue;
                    }
                }
                let due = state.plan.switches.get(state.next).copied();
                match due.filter(|switch| {
                    planned && switch.thread == thread && switch.at == state.steps[thread]
                }) {
                    None => return state,
                    Some(switch) => {
                        state.next += 1;
                        state.switch(thread, switch.to);
                        self.turn.notify_all();
                    }
                }
                continue;
            }
            state = self.turn.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Waits until another thread, or the clock, lets this one continue.
    fn stand_aside(&self, mut state: MutexGuard<'_, State>, thread: usize, how: Thread) {
        state.threads[thread] = how;
        state.choose();
        drop(state);
        self.turn.notify_all();
        drop(self.wait_for_turn(thread, false));
    }

    /// Does one step, when it is this thread's turn.
    pub(super) fn step<T>(
        &self,
        thread: usize,
        label: impl FnOnce() -> String,
        work: impl FnOnce(&mut World, &mut Touches) -> T,
    ) -> T {
        let mut state = self.wait_for_turn(thread, true);
        let mut touches = Touches::default();
        let value = work(&mut state.world, &mut touches);
        self.record(&mut state, thread, touches, label);
        value
    }

    fn record(
        &self,
        state: &mut State,
        thread: usize,
        touches: Touches,
        label: impl FnOnce() -> String,
    ) {
        let number = Some(state.steps[thread]);
        let label = if state.shown { label() } else { String::new() };
        state.trace.push(Step { thread, number, touches, label });
        state.steps[thread] += 1;
        state.now += Duration::from_micros(1);
        assert!(state.steps[thread] < MOST_STEPS, "a call does not end");
    }

    /// Takes a lock, and does `work` with it. Returns whether it was free in time.
    pub(super) fn lock(
        &self,
        thread: usize,
        lock: &str,
        patience: Duration,
        work: impl FnOnce(&mut World, &mut Touches),
    ) -> bool {
        let mut until = None;
        loop {
            let mut state = self.wait_for_turn(thread, until.is_none());
            let mut touches = Touches::default();
            if !state.locks.contains_key(lock) {
                touches.write(lock);
                state.locks.insert(lock.to_owned(), thread);
                work(&mut state.world, &mut touches);
                self.record(&mut state, thread, touches, || format!("lock {lock}"));
                return true;
            }
            touches.read(lock);
            let end = *until.get_or_insert(state.now + patience);
            if end <= state.now {
                self.record(&mut state, thread, touches, || format!("lock {lock}: busy"));
                return false;
            }
            let label = if state.shown { format!("wait for {lock}") } else { String::new() };
            state.trace.push(Step { thread, number: None, touches, label });
            self.stand_aside(state, thread, Thread::Waiting { lock: lock.to_owned(), until: end });
        }
    }

    pub(super) fn unlock(&self, thread: usize, lock: &str) {
        // A killed call releases it without a step.
        if std::thread::panicking() {
            return;
        }
        let mut state = self.wait_for_turn(thread, true);
        state.locks.remove(lock);
        for other in &mut state.threads {
            if matches!(other, Thread::Waiting { lock: wanted, .. } if wanted == lock) {
                *other = Thread::Ready;
            }
        }
        let mut touches = Touches::default();
        touches.write(lock);
        self.record(&mut state, thread, touches, || format!("unlock {lock}"));
    }

    /// Returns the time since the run began. Each read returns another time.
    pub(super) fn now(&self) -> Duration {
        let mut state = self.lock_state();
        state.now += Duration::from_micros(1);
        state.now
    }
}

/// The scheduler's clock, for one thread.
pub(super) struct ThreadClock(pub(super) Arc<Scheduler>, pub(super) usize);

impl Clock for ThreadClock {
    fn now(&self) -> Instant {
        self.0.epoch + self.0.now()
    }

    fn sleep(&self, pause: Duration) {
        let state = self.0.wait_for_turn(self.1, true);
        let until = state.now + pause;
        self.0.stand_aside(state, self.1, Thread::Asleep { until });
    }

    fn draw(&self) -> u64 {
        0
    }
}
