//! Reads the cost of the calls for the servers: requests, processor time, memory, bytes.

use crate::server::Server;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The counters at one time.
pub(crate) struct Counters {
    at: Instant,
    /// The requests by verb and resource. They include the API server's requests to itself.
    requests: BTreeMap<(String, String), u64>,
    /// The requests that passed priority and fairness, or were rejected there. These are exactly
    /// the requests of the plugins, because the administrator is exempt.
    all: u64,
    turned_away: u64,
    apiserver: Duration,
    etcd: Duration,
}

/// The difference between two times.
#[derive(Debug, Default, Clone)]
pub(crate) struct Cost {
    pub(crate) all: u64,
    pub(crate) turned_away: u64,
    pub(crate) requests: BTreeMap<(String, String), u64>,
    /// The processor time in milliseconds, without the time that the servers take when idle.
    pub(crate) apiserver: f64,
    pub(crate) etcd: f64,
}

/// The processor time that the servers take when idle, in milliseconds per second.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Idle {
    apiserver: f64,
    etcd: f64,
}

impl Counters {
    /// Reads the counters. The processor times come last, so that they do not include the cost of
    /// reading.
    ///
    /// # Errors
    /// Fails if a server does not report a counter.
    pub(crate) fn read(server: &Server) -> Result<Self> {
        let mut counters = Self::of_requests(&server.admin()?.text("/metrics")?);
        counters.read_times(server)?;
        Ok(counters)
    }

    fn read_times(&mut self, server: &Server) -> Result<()> {
        self.apiserver = processor_time(server.process("apiserver")?)?;
        self.etcd = processor_time(server.process("etcd")?)?;
        self.at = Instant::now();
        Ok(())
    }

    fn of_requests(metrics: &str) -> Self {
        let mut counters = Self {
            at: Instant::now(),
            requests: BTreeMap::new(),
            all: 0,
            turned_away: 0,
            apiserver: Duration::ZERO,
            etcd: Duration::ZERO,
        };
        for line in metrics.lines() {
            let Some((name, labels, value)) = sample(line) else { continue };
            let label = |key: &str| {
                labels
                    .split(',')
                    .find_map(|pair| pair.strip_prefix(key)?.strip_prefix("=\"")?.strip_suffix('"'))
            };
            let count: u64 = value.parse().unwrap_or(0);
            match name {
                "apiserver_request_total" => {
                    let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else {
                        continue;
                    };
                    *counters
                        .requests
                        .entry((verb.to_owned(), resource.to_owned()))
                        .or_default() += count;
                }
                "apiserver_flowcontrol_dispatched_requests_total"
                    if label("flow_schema") != Some("exempt") =>
                {
                    counters.all += count
                }
                "apiserver_flowcontrol_rejected_requests_total" => counters.turned_away += count,
                _ => {}
            }
        }
        counters
    }

    /// Returns the cost since these counters.
    ///
    /// # Errors
    /// Fails if a server does not report a counter.
    pub(crate) fn cost(&self, server: &Server, idle: Idle) -> Result<Cost> {
        // Read the times first: the metrics cost the server as much as many calls.
        let mut times = Self::of_requests("");
        times.read_times(server)?;
        let now = Self {
            at: times.at,
            apiserver: times.apiserver,
            etcd: times.etcd,
            ..Self::of_requests(&server.admin()?.text("/metrics")?)
        };
        let seconds = (now.at - self.at).as_secs_f64();
        let processor = |now: Duration, then: Duration, idle: f64| {
            ((now - then).as_secs_f64() * 1e3 - idle * seconds).max(0.0)
        };
        let since = |(key, count): (&(String, String), &u64)| {
            let more = count - self.requests.get(key).unwrap_or(&0).min(count);
            (0 < more).then(|| (key.clone(), more))
        };
        Ok(Cost {
            all: now.all - self.all,
            turned_away: now.turned_away - self.turned_away,
            requests: now.requests.iter().filter_map(since).collect(),
            apiserver: processor(now.apiserver, self.apiserver, idle.apiserver),
            etcd: processor(now.etcd, self.etcd, idle.etcd),
        })
    }
}

impl Cost {
    /// Returns the number of requests of one kind.
    pub(crate) fn of(&self, verb: &str, resource: &str) -> u64 {
        self.requests.get(&(verb.to_owned(), resource.to_owned())).copied().unwrap_or(0)
    }
}

impl Idle {
    /// Measures servers that are idle.
    ///
    /// # Errors
    /// Fails if a server does not report a counter.
    pub(crate) fn watch(server: &Server, time: Duration) -> Result<Self> {
        let before = Counters::read(server)?;
        std::thread::sleep(time);
        let cost = before.cost(server, Self::default())?;
        let seconds = before.at.elapsed().as_secs_f64();
        Ok(Self { apiserver: cost.apiserver / seconds, etcd: cost.etcd / seconds })
    }
}

/// Splits a line of metrics into name, labels and value.
fn sample(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    Some((name, labels, value))
}

/// Returns the user and system time of a process: fields 14 and 15 of proc_pid_stat(5).
fn processor_time(process: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no name in /proc/PID/stat")?;
    let ticks: u64 =
        fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    // 100 ticks per second on every architecture.
    Ok(Duration::from_millis(ticks * 10))
}

/// The amount of data in the servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// The bytes in use in etcd's file.
    pub(crate) etcd: f64,
    /// The bytes in use in the API server's heap after a garbage collection.
    pub(crate) heap: f64,
    /// The bytes of its resident set after that.
    pub(crate) resident: f64,
    /// The bytes of etcd's resident set.
    pub(crate) etcd_resident: f64,
}

impl Held {
    /// Reads the values from the servers.
    ///
    /// # Errors
    /// Fails if a server does not report a value.
    pub(crate) fn read(server: &Server) -> Result<Self> {
        let admin = server.admin()?;
        // This request collects garbage first. Its output is ignored.
        for _ in 0..2 {
            admin.status(
                hereabouts::api_client::http::Method::Get,
                "/debug/pprof/heap?gc=1",
                None,
            )?;
        }
        let metrics = admin.text("/metrics")?;
        let etcd = plain_text(server.etcd_port()?, "/metrics")?;
        Ok(Self {
            etcd: gauge(&etcd, "etcd_mvcc_db_total_size_in_use_in_bytes")?,
            heap: gauge(&metrics, "go_memstats_heap_alloc_bytes")?,
            resident: gauge(&metrics, "process_resident_memory_bytes")?,
            etcd_resident: gauge(&etcd, "process_resident_memory_bytes")?,
        })
    }
}

fn gauge(metrics: &str, name: &str) -> Result<f64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("the server does not say {name}"))?.parse()?)
}

/// Sends an HTTP/1.0 request, which is enough for etcd's metrics.
fn plain_text(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_metrics_is_taken_apart() {
        assert_eq!(
            sample("a_total{verb=\"GET\",le=\"}\"} 12"),
            Some(("a_total", "verb=\"GET\",le=\"}\"", "12"))
        );
        assert_eq!(sample("# HELP a_total of all"), None);
        assert!((gauge("ab 3\na 1.5e+3\n", "a").unwrap() - 1500.0).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_taken_processor_time() {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {}
        assert!(processor_time(std::process::id()).unwrap() >= Duration::from_millis(20));
    }
}
