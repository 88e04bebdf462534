//! Deadlines, and the only retry loop: tries again what may pass, with
//! jittered backoff, until the deadline. "Taken" is news, not a failure, and
//! never comes here.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The clock of deadlines and pauses. The machine's, unless a test brings its
/// own for one thread.
pub trait Clock {
    /// What time it is.
    fn now(&self) -> Instant;
    /// Returns after this time.
    fn sleep(&self, pause: Duration);
    /// A number that spreads the pauses of several waiters.
    fn draw(&self) -> u64;
}

thread_local! {
    static CLOCK: RefCell<Option<Rc<dyn Clock>>> = const { RefCell::new(None) };
}

/// Runs `work` with another clock. This thread alone uses it.
pub fn with_clock<T>(clock: Rc<dyn Clock>, work: impl FnOnce() -> T) -> T {
    struct Restored(Option<Rc<dyn Clock>>);
    impl Drop for Restored {
        fn drop(&mut self) {
            CLOCK.replace(self.0.take());
        }
    }
    let _restored = Restored(CLOCK.replace(Some(clock)));
    work()
}

fn clock() -> Option<Rc<dyn Clock>> {
    CLOCK.with_borrow(Clone::clone)
}

#[allow(clippy::disallowed_methods, reason = "this is the module of clocks and sleeps")]
fn now() -> Instant {
    clock().map_or_else(Instant::now, |clock| clock.now())
}

#[allow(clippy::disallowed_methods, reason = "this is the module of clocks and sleeps")]
fn sleep(pause: Duration) {
    match clock() {
        Some(clock) => clock.sleep(pause),
        None => std::thread::sleep(pause),
    }
}

/// A point in time after which a verb gives up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Instant,
    limit: Duration,
}

impl Deadline {
    /// A deadline `limit` from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self { end: now() + limit, limit }
    }

    /// The time left; zero when it has passed.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(now())
    }

    /// The time there was at first, for messages.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

/// How pauses between attempts grow.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    first: Duration,
    longest: Duration,
}

impl Pace {
    /// For what passes in a moment on this machine: a lock, a cached name.
    pub const LOCAL: Self = Self { first: Duration::from_millis(1), longest: Duration::from_millis(50) };
    /// For a server that may be overloaded, or starting.
    pub const SERVER: Self = Self { first: Duration::from_millis(20), longest: Duration::from_secs(2) };
}

/// How an attempt ended that did not fail.
pub enum Attempt<T> {
    /// With a value.
    Done(T),
    /// Again, after the usual pause or this one, whichever is longer.
    Again(Duration),
}

/// [`until_paced`] at the pace of this machine.
///
/// # Errors
/// The first error of `attempt`.
pub fn until<T, E>(deadline: &Deadline, mut attempt: impl FnMut() -> Result<Option<T>, E>) -> Result<Option<T>, E> {
    until_paced(deadline, Pace::LOCAL, || Ok(attempt()?.map_or(Attempt::Again(Duration::ZERO), Attempt::Done)))
}

/// Calls `attempt` until it gives a value, it fails, or the deadline passes
/// (`None`). Each pause is twice as long as the one before, up to the longest,
/// and drawn between half and all of that so that waiters do not march in step.
///
/// # Errors
/// The first error of `attempt`.
pub fn until_paced<T, E>(deadline: &Deadline, pace: Pace, mut attempt: impl FnMut() -> Result<Attempt<T>, E>) -> Result<Option<T>, E> {
    let mut pause = pace.first;
    loop {
        let asked = match attempt()? {
            Attempt::Done(value) => return Ok(Some(value)),
            Attempt::Again(asked) => asked,
        };
        let left = deadline.left();
        if left.is_zero() {
            return Ok(None);
        }
        // Never less than what the server asked for; those it told the same are
        // spread over what comes after.
        sleep((asked + jittered(pause)).min(left));
        pause = (pause * 2).min(pace.longest);
    }
}

/// Pauses once, between half and all of `pause`, and not beyond the deadline.
pub fn pause(deadline: &Deadline, pause: Duration) {
    sleep(jittered(pause).min(deadline.left()));
}

/// Between half and all of `pause`. The hasher's random keys are seed enough.
#[must_use]
pub fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let draw = clock().map_or_else(|| RandomState::new().hash_one(pause), |clock| clock.draw()) % 512;
    pause / 2 + pause.mul_f64(draw as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_the_loop_and_a_deadline_does_too() {
        let mut tries = 0;
        let deadline = Deadline::after(Duration::from_secs(5));
        let value: Result<_, ()> = until(&deadline, || {
            tries += 1;
            Ok((tries == 3).then_some(tries))
        });
        assert_eq!(value, Ok(Some(3)));
        let never: Result<Option<()>, ()> = until(&Deadline::after(Duration::from_millis(5)), || Ok(None));
        assert_eq!(never, Ok(None));
        assert_eq!(until(&deadline, || Err::<Option<()>, _>("x")), Err("x"));
    }

    #[test]
    fn pauses_lie_between_half_and_all() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_millis(40));
            assert!(Duration::from_millis(20) <= pause && pause <= Duration::from_millis(40));
        }
    }
}
