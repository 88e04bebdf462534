//! Deadlines, clocks, and the retry loop: repeats an attempt with jittered pauses until the
//! deadline.
//!
//! An address that is already taken is a result, not a failure, and is not retried here.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The clock for deadlines and pauses. The default is the machine's clock. A test can set its own
/// for one thread.
pub trait Clock {
    /// Returns the current time.
    fn now(&self) -> Instant;
    /// Returns after this time.
    fn sleep(&self, pause: Duration);
    /// Returns a random number that spreads the pauses of several waiters.
    fn draw(&self) -> u64;
}

thread_local! {
    static CLOCK: RefCell<Option<Rc<dyn Clock>>> = const { RefCell::new(None) };
}

/// Runs `work` with another clock. Only this thread uses it.
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

#[allow(clippy::disallowed_methods, reason = "this module implements clocks and sleeps")]
fn now() -> Instant {
    clock().map_or_else(Instant::now, |clock| clock.now())
}

#[allow(clippy::disallowed_methods, reason = "this module implements clocks and sleeps")]
fn sleep(pause: Duration) {
    match clock() {
        Some(clock) => clock.sleep(pause),
        None => std::thread::sleep(pause),
    }
}

/// The maximum distance of a deadline. The range of the clock is limited, and a sum beyond it would
/// panic.
const FURTHEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The time at which a verb gives up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    end: Instant,
    limit: Duration,
}

impl Deadline {
    /// Returns a deadline `limit` from now. Any `limit` is allowed.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self { end: now() + limit.min(FURTHEST), limit }
    }

    /// Returns the earlier one of this deadline and one `limit` from now.
    #[must_use]
    pub fn or_after(self, limit: Duration) -> Self {
        let sooner = Self::after(limit);
        if sooner.end < self.end { sooner } else { self }
    }

    /// Returns the time left, or zero if the deadline has passed.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(now())
    }

    /// Returns the original time limit, for messages.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

/// A measurement of elapsed time.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Default for Stopwatch {
    /// Starts now.
    fn default() -> Self {
        Self(now())
    }
}

impl Stopwatch {
    /// Returns the time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        now().saturating_duration_since(self.0)
    }
}

/// The growth of the pauses between attempts.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    first: Duration,
    longest: Duration,
}

impl Pace {
    /// For a condition that ends soon on this machine, such as a lock or a cached name.
    pub const LOCAL: Self =
        Self { first: Duration::from_millis(1), longest: Duration::from_millis(50) };
    /// For a server that may be overloaded or starting.
    pub const SERVER: Self =
        Self { first: Duration::from_millis(20), longest: Duration::from_secs(2) };
    /// For a Lease that each holder keeps for some requests.
    pub const LEASE: Self =
        Self { first: Duration::from_millis(10), longest: Duration::from_millis(100) };
}

/// The result of an attempt that did not fail.
pub enum Attempt<T> {
    /// The attempt returned a value.
    Done(T),
    /// Retry after the usual pause or after this one, whichever is longer.
    Again(Duration),
}

/// Runs [`until_paced`] with [`Pace::LOCAL`].
///
/// # Errors
/// The first error of `attempt`.
pub fn until<T, E>(
    deadline: &Deadline,
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    until_paced(deadline, Pace::LOCAL, || {
        Ok(attempt()?.map_or(Attempt::Again(Duration::ZERO), Attempt::Done))
    })
}

/// Calls `attempt` until it returns a value or fails, or until the deadline passes (`None`).
///
/// Each pause is twice as long as the previous one, up to the longest. It is chosen at random
/// between half and all of that, so that waiters do not retry at the same time.
///
/// # Errors
/// The first error of `attempt`.
pub fn until_paced<T, E>(
    deadline: &Deadline,
    pace: Pace,
    mut attempt: impl FnMut() -> Result<Attempt<T>, E>,
) -> Result<Option<T>, E> {
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

/// Returns the pause before the next attempt.
///
/// It is at least as long as the server asked for, plus a random time, which spreads the callers
/// that got the same answer. But at most half of the remaining time is spent on such a wait. An
/// overloaded server asks for up to 32 s, which is more than most deadlines allow: a caller that
/// waited so long would make only one attempt.
fn next_pause(asked: Duration, pause: Duration, left: Duration) -> Duration {
    let own = jittered(pause);
    asked.saturating_add(own).min(jittered(left / 2).max(own)).min(left)
}

/// Pauses once for half to all of `pause`, but not beyond the deadline.
pub fn pause(deadline: &Deadline, pause: Duration) {
    sleep(jittered(pause).min(deadline.left()));
}

/// Returns a random time between half and all of `pause`. The random keys of the standard library's
/// hasher are good enough for it.
#[must_use]
pub fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let draw =
        clock().map_or_else(|| RandomState::new().hash_one(pause), |clock| clock.draw()) % 512;
    (pause / 2).saturating_add(pause.mul_f64(draw as f64 / 1024.0))
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
        let never: Result<Option<()>, ()> =
            until(&Deadline::after(Duration::from_millis(5)), || Ok(None));
        assert_eq!(never, Ok(None));
        assert_eq!(until(&deadline, || Err::<Option<()>, _>("x")), Err("x"));
    }

    #[test]
    fn no_duration_is_too_long() {
        let longest = Duration::MAX;
        assert_eq!(Deadline::after(longest).limit(), longest);
        assert!(Duration::from_secs(3600) < Deadline::after(longest).left());
        assert!(longest / 2 <= jittered(longest));
        for (asked, pause) in
            [(longest, longest), (longest, Duration::ZERO), (Duration::ZERO, longest)]
        {
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
        // If the server does not ask for a pause, the usual pause is used.
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
