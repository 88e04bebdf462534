//! What the calls cost the servers: requests, processor time, memory, bytes.

use crate::server::Server;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The counters at one moment.
pub(crate) struct Counters {
    at: Instant,
    /// By verb and resource; those of the API server to itself are among them.
    requests: BTreeMap<(String, String), u64>,
    /// What passed priority and fairness, or was turned away there: all of the
    /// plugins and of nobody else, for the administrator is exempt.
    all: u64,
    turned_away: u64,
    apiserver: Duration,
    etcd: Duration,
}

/// What came between two moments.
#[derive(Debug, Default, Clone)]
pub(crate) struct Cost {
    pub(crate) all: u64,
    pub(crate) turned_away: u64,
    pub(crate) requests: BTreeMap<(String, String), u64>,
    /// Milliseconds of processor time, less what the servers take when nobody
    /// asks them.
    pub(crate) apiserver: f64,
    pub(crate) etcd: f64,
}

/// What the servers take when nobody asks them: milliseconds a second.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Idle {
    apiserver: f64,
    etcd: f64,
}

impl Counters {
    /// Reads them; the processor times last, without what this costs.
    ///
    /// # Errors
    /// A server does not say.
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
        let mut counters =
            Self { at: Instant::now(), requests: BTreeMap::new(), all: 0, turned_away: 0, apiserver: Duration::ZERO, etcd: Duration::ZERO };
        for line in metrics.lines() {
            let Some((name, labels, value)) = sample(line) else { continue };
            let label = |key: &str| labels.split(',').find_map(|pair| pair.strip_prefix(key)?.strip_prefix("=\"")?.strip_suffix('"'));
            let count: u64 = value.parse().unwrap_or(0);
            match name {
                "apiserver_request_total" => {
                    let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
                    *counters.requests.entry((verb.to_owned(), resource.to_owned())).or_default() += count;
                }
                "apiserver_flowcontrol_dispatched_requests_total" if label("flow_schema") != Some("exempt") => counters.all += count,
                "apiserver_flowcontrol_rejected_requests_total" => counters.turned_away += count,
                _ => {}
            }
        }
        counters
    }

    /// What came since.
    ///
    /// # Errors
    /// A server does not say.
    pub(crate) fn cost(&self, server: &Server, idle: Idle) -> Result<Cost> {
        // The times first: the metrics cost the server as much as many calls.
        let mut times = Self::of_requests("");
        times.read_times(server)?;
        let now =
            Self { at: times.at, apiserver: times.apiserver, etcd: times.etcd, ..Self::of_requests(&server.admin()?.text("/metrics")?) };
        let seconds = (now.at - self.at).as_secs_f64();
        let processor = |now: Duration, then: Duration, idle: f64| ((now - then).as_secs_f64() * 1e3 - idle * seconds).max(0.0);
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
    /// Requests of one kind.
    pub(crate) fn of(&self, verb: &str, resource: &str) -> u64 {
        self.requests.get(&(verb.to_owned(), resource.to_owned())).copied().unwrap_or(0)
    }
}

impl Idle {
    /// Looks at servers that nobody asks.
    ///
    /// # Errors
    /// A server does not say.
    pub(crate) fn watch(server: &Server, time: Duration) -> Result<Self> {
        let before = Counters::read(server)?;
        std::thread::sleep(time);
        let cost = before.cost(server, Self::default())?;
        let seconds = before.at.elapsed().as_secs_f64();
        Ok(Self { apiserver: cost.apiserver / seconds, etcd: cost.etcd / seconds })
    }
}

/// Name, labels and value of a line of metrics.
fn sample(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    Some((name, labels, value))
}

/// User and system time, fields 14 and 15 of proc_pid_stat(5).
fn processor_time(process: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no name in /proc/PID/stat")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    // 100 a second on every architecture.
    Ok(Duration::from_millis(ticks * 10))
}

/// What the servers hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Bytes of etcd's file that hold something.
    pub(crate) etcd: f64,
    /// Bytes that the API server's heap holds after it was collected.
    pub(crate) heap: f64,
    /// Bytes of its resident set then.
    pub(crate) resident: f64,
    /// Bytes of etcd's resident set.
    pub(crate) etcd_resident: f64,
}

impl Held {
    /// Asks them.
    ///
    /// # Errors
    /// A server does not say.
    pub(crate) fn read(server: &Server) -> Result<Self> {
        let admin = server.admin()?;
        // Collects garbage first; what it prints is not looked at.
        for _ in 0..2 {
            admin.status(hereabouts::api_client::http::Method::Get, "/debug/pprof/heap?gc=1", None)?;
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

/// HTTP/1.0, because etcd's metrics need no more.
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
        assert_eq!(sample("a_total{verb=\"GET\",le=\"}\"} 12"), Some(("a_total", "verb=\"GET\",le=\"}\"", "12")));
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
