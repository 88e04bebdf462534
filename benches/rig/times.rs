//! The times of many calls, and their quantiles.

use std::time::Duration;

/// The times of one kind of call.
#[derive(Debug, Default, Clone)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(50)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.quantile(99)
    }

    pub(crate) fn worst(&self) -> f64 {
        self.quantile(100)
    }

    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Returns a quantile in milliseconds, by nearest rank. With fewer than 100 times, the 99th
    /// percentile is the longest time. Returns NaN if there are no times.
    fn quantile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    }
}
