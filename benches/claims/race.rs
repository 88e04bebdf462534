//! One controller, from its first claim to its last, on an API server of its own.

use crate::counters::{Cost, Counters, Idle};
use crate::options::Options;
use crate::server::{Admin, Server};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const IPAM: &str = "/apis/ipam.cluster.x-k8s.io";
const CLAIMS: &str = "v1beta2/namespaces/default/ipaddressclaims";
const ANSWERS: &str = "v1beta2/namespaces/default/ipaddresses";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long all claims may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Hereabouts,
    Provider,
}

impl Which {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hereabouts => "hereabouts-controller",
            Self::Provider => "provider",
        }
    }
}

/// One controller and its claims.
pub(crate) struct Race<'r> {
    pub(crate) options: &'r Options,
    pub(crate) which: Which,
    pub(crate) workplace: &'r Path,
}

/// The result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// From the first claim until the last one has its address.
    pub(crate) took: Duration,
    /// The writes for each claim: its finalizer, the address, the status and so on.
    pub(crate) writes: f64,
    /// The writes of pools in all.
    pub(crate) pool_writes: u64,
    /// The peak memory in KiB.
    pub(crate) peak: u64,
    /// The same after many more claims.
    pub(crate) held_peak: Option<u64>,
    /// Small objects that this API server created in a second, before.
    pub(crate) plain: f64,
}

/// A controller. It ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Race<'_> {
    /// Runs it. `held` is the number of claims for the second measurement of memory, or 0.
    ///
    /// # Errors
    /// The controller ends, answers not all claims, or gives an address twice.
    pub(crate) fn run(&self, held: usize) -> Result<Ended> {
        let server = Server::start(self.options, self.workplace.join("cluster"))?;
        let ended = self.on(&server, held);
        server.end()?;
        ended
    }

    fn on(&self, server: &Server, held: usize) -> Result<Ended> {
        let resources = self.options.resources.as_os_str();
        server.apply(&[
            "--server-side".as_ref(),
            "--recursive".as_ref(),
            "-f".as_ref(),
            resources,
        ])?;
        let plain = |index: usize| json!({"metadata": {"name": format!("plain-{index}")}, "data": {"a": "b"}});
        let took =
            server.create_all(CONFIG_MAPS, 0..self.options.claims, &|number| Ok(plain(number)))?;
        let plain = self.options.claims as f64 / took.as_secs_f64();

        let admin = server.admin()?;
        let pools = format!("{IPAM}/v1alpha2/namespaces/default/inclusterippools");
        wait(|| {
            Ok(admin.status(hereabouts::api_client::http::Method::Get, &pools, None)?.0 == 200)
        })?;
        let running = self.start(server)?;
        admin.create(
            &pools,
            &json!({
                "apiVersion": "ipam.cluster.x-k8s.io/v1alpha2", "kind": "InClusterIPPool",
                "metadata": {"name": "pool"},
                "spec": {"addresses": ["10.0.0.0/16"], "prefix": 16, "gateway": "10.0.0.1"},
            }),
        )?;
        // Its first answer shows that it has read everything.
        self.answer(server, &admin, 0..1)?;

        let claims = self.options.claims;
        let before = Counters::read(server)?;
        let took = self.answer(server, &admin, 1..claims + 1)?;
        // Numbers of pools may follow.
        std::thread::sleep(Duration::from_secs(2));
        let cost = before.cost(server, Idle::default())?;
        check(&admin, claims + 1)?;
        let peak = peak(running.0.id())?;
        let held_peak = if claims + 1 < held {
            self.answer(server, &admin, claims + 1..held)?;
            check(&admin, held)?;
            Some(self::peak(running.0.id())?)
        } else {
            None
        };
        Ok(Ended {
            took,
            writes: writes(&cost, claims) as f64 / claims as f64,
            pool_writes: WRITES.iter().map(|verb| cost.of(verb, "inclusterippools")).sum(),
            peak,
            held_peak,
            plain,
        })
    }

    fn start(&self, server: &Server) -> Result<Running> {
        let mut command = match self.which {
            Which::Hereabouts => {
                let mut command = Command::new(&self.options.controller);
                command.arg("--listen=127.0.0.1:0");
                command
            }
            Which::Provider => {
                let mut command = Command::new(&self.options.provider);
                command.args(["--webhook-port=0", "--health-probe-bind-address=127.0.0.1:0"]);
                command.args(["--diagnostics-address=127.0.0.1:0", "--insecure-diagnostics"]);
                command
            }
        };
        command.env("KUBECONFIG", server.kubeconfig()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(self.workplace.join(format!("{}.log", self.which.name())))?);
        let child =
            command.spawn().with_context(|| format!("cannot start {}", self.which.name()))?;
        Ok(Running(child))
    }

    /// Makes claims and waits until each of them has an address.
    fn answer(&self, server: &Server, admin: &Admin, numbers: Range<usize>) -> Result<Duration> {
        let claim = |index: usize| {
            json!({
                "apiVersion": "ipam.cluster.x-k8s.io/v1beta2", "kind": "IPAddressClaim",
                "metadata": {"name": format!("c-{index}")},
                "spec": {"poolRef": {
                    "apiGroup": "ipam.cluster.x-k8s.io", "kind": "InClusterIPPool", "name": "pool",
                }},
            })
        };
        let (start, all) = (Instant::now(), numbers.end);
        server.create_all(&format!("{IPAM}/{CLAIMS}"), numbers, &|number| Ok(claim(number)))?;
        // From the cache of the API server, which costs it little.
        let path = format!("{IPAM}/{CLAIMS}?resourceVersion=0");
        wait(|| {
            let list: Value = serde_json::from_str(&admin.text(&path)?)?;
            let is_answered = |claim: &&Value| claim.pointer("/status/addressRef/name").is_some();
            let items = list["items"].as_array().context("a list without items")?;
            Ok(items.iter().filter(is_answered).count() == all)
        })
        .with_context(|| format!("{}: not all claims are answered", self.which.name()))?;
        Ok(start.elapsed())
    }
}

const WRITES: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];

/// Returns the writes of a controller, without those that made the claims.
fn writes(cost: &Cost, claims: usize) -> u64 {
    let resources = ["ipaddressclaims", "ipaddresses", "ipallocations"];
    let all: u64 = resources
        .iter()
        .flat_map(|resource| WRITES.iter().map(|verb| cost.of(verb, resource)))
        .sum();
    all.saturating_sub(claims as u64)
}

/// Checks that each claim has an address, and no two the same.
fn check(admin: &Admin, expected: usize) -> Result<()> {
    let list: Value = serde_json::from_str(&admin.text(&format!("{IPAM}/{ANSWERS}"))?)?;
    let items = list["items"].as_array().context("a list without items")?;
    let addresses: BTreeSet<_> =
        items.iter().filter_map(|answer| answer.pointer("/spec/address")?.as_str()).collect();
    ensure!(
        (items.len(), addresses.len()) == (expected, expected),
        "expected {expected} addresses, found {} IPAddresses with {} addresses",
        items.len(),
        addresses.len()
    );
    Ok(())
}

pub(crate) fn wait(mut is_done: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    loop {
        let asked = Instant::now();
        if is_done()? {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        // A list of all claims takes the time of both cores from what is measured.
        std::thread::sleep((asked.elapsed() * 4).max(Duration::from_millis(100)));
    }
}

/// Returns the peak memory of a process in KiB.
pub(crate) fn peak(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))
        .context("the controller has ended; see its log")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let text = line.context("no VmHWM in /proc/PID/status")?;
    Ok(text.trim().trim_end_matches("kB").trim().parse()?)
}
