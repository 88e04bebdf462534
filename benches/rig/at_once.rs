//! Workers that begin together.

use anyhow::{Result, anyhow};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Starts the workers together, and returns the time until all are done.
///
/// # Errors
/// The first error of a worker.
pub(crate) fn at_once(
    workers: usize,
    work: impl Fn(usize) -> Result<()> + Sync,
) -> Result<Duration> {
    let ready = Barrier::new(workers + 1);
    std::thread::scope(|scope| {
        let (work, ready) = (&work, &ready);
        let start_worker = |worker| {
            scope.spawn(move || {
                ready.wait();
                work(worker)
            })
        };
        let workers: Vec<_> = (0..workers).map(start_worker).collect();
        ready.wait();
        let start = Instant::now();
        for worker in workers {
            worker.join().map_err(|_panic| anyhow!("a worker panicked"))??;
        }
        Ok(start.elapsed())
    })
}
