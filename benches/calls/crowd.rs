//! Measures many processes at once, in operations per second.

use crate::at_once::at_once;
use crate::call::Plugin;
use crate::measure::{CONTAINERS, container};
use crate::process::{Verb, run};
use anyhow::{Result, anyhow, ensure};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The addresses that are held at the moment, according to the answers.
#[derive(Default)]
struct Held(Mutex<HashSet<String>>);

impl Held {
    /// Runs an ADD. Its answer must be an address that is not held.
    fn add(&self, plugin: &Plugin, container: &str) -> Result<String> {
        let (_, address) = plugin.call(Verb::Add, container)?;
        ensure!(self.lock()?.insert(address.clone()), "two attachments hold {address}");
        Ok(address)
    }

    fn del(&self, plugin: &Plugin, container: &str, address: &str) -> Result<()> {
        // Removed before the call: from the middle of the call on, another process may get the
        // address.
        self.lock()?.remove(address);
        plugin.call(Verb::Del, container).map(|_| ())
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'_, HashSet<String>>> {
        self.0.lock().map_err(|_poisoned| anyhow!("another worker panicked"))
    }
}

/// Returns the operations per second with [`CONTAINERS`] processes at all times. Each worker makes
/// `adds` ADDs and then frees their addresses, and repeats this `times` times. With 1 ADD the store
/// is nearly empty all the time. With more ADDs it is filled and emptied again.
///
/// # Errors
/// Fails if a call fails, or if two attachments hold the same address at the same time.
pub(crate) fn crowd(plugin: &Plugin, adds: usize, times: usize) -> Result<f64> {
    let held = Held::default();
    let took = at_once(CONTAINERS, |worker| {
        for _ in 0..times {
            let mut own = Vec::new();
            for number in 0..adds {
                let container = container(number * CONTAINERS + worker);
                let address = held.add(plugin, &container)?;
                own.push((container, address));
            }
            for (container, address) in own {
                held.del(plugin, &container, &address)?;
            }
        }
        Ok(())
    })?;
    Ok((2 * adds * times * CONTAINERS) as f64 / took.as_secs_f64())
}

/// Returns how many processes that do nothing run per second, with the same number of workers. No
/// plugin can be faster, because this is only the work of the kernel and the driver.
///
/// # Errors
/// Fails if a process fails.
pub(crate) fn ceiling(program: &Path, each: usize) -> Result<f64> {
    let took = at_once(CONTAINERS, |_| {
        for _ in 0..each {
            run(&mut Command::new(program), &[])?;
        }
        Ok(())
    })?;
    Ok((each * CONTAINERS) as f64 / took.as_secs_f64())
}

/// Returns the operations per second of a number of writers. Each alternates ADD and DEL until the
/// time is over.
///
/// # Errors
/// Fails if a call fails, or if two attachments hold the same address at the same time.
pub(crate) fn in_turn(plugin: &Plugin, writers: usize, time: Duration) -> Result<f64> {
    let held = Held::default();
    until(writers, time, |worker| {
        let container = container(worker);
        let address = held.add(plugin, &container)?;
        held.del(plugin, &container, &address)?;
        Ok(2)
    })
}

/// Returns the same rate for processes that do nothing.
///
/// # Errors
/// Fails if a process fails.
pub(crate) fn idle(program: &Path, writers: usize, time: Duration) -> Result<f64> {
    until(writers, time, |_| run(&mut Command::new(program), &[]).map(|_| 1))
}

/// Repeats the work of each worker for a while, and returns the operations per second. Work that
/// has begun when the time is over is finished and counted.
fn until(
    workers: usize,
    time: Duration,
    work: impl Fn(usize) -> Result<u32> + Sync,
) -> Result<f64> {
    let done = Mutex::new(0);
    let took = at_once(workers, |worker| {
        let start = Instant::now();
        let mut own = 0;
        while start.elapsed() < time {
            own += work(worker)?;
        }
        *done.lock().map_err(|_poisoned| anyhow!("another worker panicked"))? += own;
        Ok(())
    })?;
    let done = done.into_inner().map_err(|_poisoned| anyhow!("a worker panicked"))?;
    Ok(f64::from(done) / took.as_secs_f64())
}
