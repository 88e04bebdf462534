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

/// A deadline that lies further ahead is this far ahead: the clock has an end,
/// and a sum beyond it is a panic.
const FURTHEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A point in time after which a verb gives up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Instant,
    limit: Duration,
}

impl Deadline {
    /// A deadline `limit` from now, however long that is.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self { end: now() + limit.min(FURTHEST), limit }
    }

    /// The same, or `limit` from now where that is sooner.
    #[must_use]
    pub fn or_after(self, limit: Duration) -> Self {
        let sooner = Self::after(limit);
        if sooner.end < self.end { sooner } else { self }
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

/// Tells how long something has taken so far.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Default for Stopwatch {
    /// Begins now.
    fn default() -> Self {
        Self(now())
    }
}

impl Stopwatch {
    /// Since it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        now().saturating_duration_since(self.0)
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
        sleep(next_pause(asked, pause, left));
        pause = (pause * 2).min(pace.longest);
    }
}

/// How long to wait before the next attempt. Not less than what the server asked
/// for, and those it told the same are spread over what comes after; but of the
/// time that is left at most half is given to such a wait. A server that is
/// overloaded asks for up to 32 s, which is more than most deadlines: who waited
/// so long would have made one attempt.
fn next_pause(asked: Duration, pause: Duration, left: Duration) -> Duration {
    let own = jittered(pause);
    asked.saturating_add(own).min(jittered(left / 2).max(own)).min(left)
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
    (pause / 2).saturating_add(pause.mul_f64(draw as f64 / 1024.0))
}

#[cfg(test)]
mod tests {
    use crate::retry::*;

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
    fn no_duration_is_too_long() {
        let longest = Duration::MAX;
        assert_eq!(Deadline::after(longest).limit(), longest);
        assert!(Duration::from_secs(3600) < Deadline::after(longest).left());
        assert!(longest / 2 <= jittered(longest));
        for (asked, pause) in [(longest, longest), (longest, Duration::ZERO), (Duration::ZERO, longest)] {
            assert!(next_pause(asked, pause, longest) <= longest);
            assert_eq!(next_pause(asked, pause, Duration::ZERO), Duration::ZERO);
        }
    }

    #[test]
    fn what_a_server_asks_for_is_at_most_half_of_what_is_left() {
        let [second, half, all] = [1, 15, 30].map(Duration::from_secs);
        let own = Duration::from_millis(20);
        for asked in [32, 3600].map(Duration::from_secs) {
            let waited = next_pause(asked, own, all);
            assert!(all / 4 <= waited && waited <= half, "{waited:?}");
        }
        let waited = next_pause(second, own, all);
        assert!(second < waited && waited <= second + own, "{waited:?}");
        // A server that asks for nothing is tried again at our own pace.
        assert!(next_pause(Duration::ZERO, own, all) <= own);
        assert_eq!(next_pause(second, own, Duration::from_millis(1)), Duration::from_millis(1));
    }

    #[test]
    fn pauses_lie_between_half_and_all() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_millis(40));
            assert!(Duration::from_millis(20) <= pause && pause <= Duration::from_millis(40));
        }
    }
}
