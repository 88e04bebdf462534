//! Many processes at once: how many operations a second.

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

/// Addresses that are held at this moment, as the answers say.
#[derive(Default)]
struct Held(Mutex<HashSet<String>>);

impl Held {
    /// ADD; its answer must be an address that nobody holds.
    fn add(&self, plugin: &Plugin, container: &str) -> Result<String> {
        let (_, address) = plugin.call(Verb::Add, container)?;
        ensure!(self.lock()?.insert(address.clone()), "two attachments hold {address}");
        Ok(address)
    }

    fn del(&self, plugin: &Plugin, container: &str, address: &str) -> Result<()> {
        // Before the call: from its middle on, another may have it.
        self.lock()?.remove(address);
        plugin.call(Verb::Del, container).map(|_| ())
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'_, HashSet<String>>> {
        self.0.lock().map_err(|_poisoned| anyhow!("another worker panicked"))
    }
}

/// Operations a second of [`CONTAINERS`] processes at all times. Each of so
/// many workers makes `adds` ADDs and then frees them, `times` over: 1 keeps
/// the store nearly empty, more fill it and empty it again.
///
/// # Errors
/// A call failed, or two attachments held one address at once.
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

/// Processes a second that do nothing, as many at once: no plugin can be
/// faster, for this is the kernel's and the driver's work alone.
///
/// # Errors
/// One failed.
pub(crate) fn ceiling(program: &Path, each: usize) -> Result<f64> {
    let took = at_once(CONTAINERS, |_| {
        for _ in 0..each {
            run(&mut Command::new(program), &[])?;
        }
        Ok(())
    })?;
    Ok((each * CONTAINERS) as f64 / took.as_secs_f64())
}

/// Operations a second of so many writers, each of which ADDs and DELs in turn
/// until the time is over.
///
/// # Errors
/// A call failed, or two attachments held one address at once.
pub(crate) fn in_turn(plugin: &Plugin, writers: usize, time: Duration) -> Result<f64> {
    let held = Held::default();
    until(writers, time, |worker| {
        let container = container(worker);
        let address = held.add(plugin, &container)?;
        held.del(plugin, &container, &address)?;
        Ok(2)
    })
}

/// The same of processes that do nothing.
///
/// # Errors
/// One failed.
pub(crate) fn idle(program: &Path, writers: usize, time: Duration) -> Result<f64> {
    until(writers, time, |_| run(&mut Command::new(program), &[]).map(|_| 1))
}

/// Repeats the work of each worker for a while; its number of operations a
/// second. What has begun when the time is over is finished and counted.
fn until(workers: usize, time: Duration, work: impl Fn(usize) -> Result<u32> + Sync) -> Result<f64> {
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
