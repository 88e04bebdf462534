//! Memory of hereabouts-controller in a cluster that holds much: addresses of pods, pods, leak
//! candidates and pools at the same time, while somebody opens its page and Prometheus asks.

use crate::at_once::at_once;
use crate::options::Options;
use crate::race::{peak, wait};
use crate::report::megabytes;
use crate::server::{Admin, Server};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ALLOCATIONS: &str = "/apis/hereabouts.dev/v1alpha1/ipallocations";
const POOLS: &str = "/apis/hereabouts.dev/v1alpha1/ippools";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// How many addresses are held, how many pods there are, and how many pools the addresses have.
const HELD: usize = 10_000;
const LIVING: usize = 1_000;
const OWN_POOLS: usize = 40;
/// How many pools there are in the end.
const MANY_POOLS: usize = 10_000;
/// How often the page and the metrics are read.
const READS: usize = 20;

/// A controller, with its port. It ends with this value.
struct Running(Child, SocketAddr);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures it on an API server of its own. Returns a table in Markdown.
///
/// # Errors
/// The controller ends, or does not count what there is.
pub(crate) fn measure(options: &Options, workplace: &Path) -> Result<String> {
    let server = Server::start(options, workplace.join("cluster"))?;
    let table = on(options, workplace, &server);
    server.end()?;
    table
}

fn on(options: &Options, workplace: &Path, server: &Server) -> Result<String> {
    let resources = options.resources.as_os_str();
    server.apply(&["--server-side".as_ref(), "--recursive".as_ref(), "-f".as_ref(), resources])?;
    let admin = server.admin()?;
    admin
        .create(
            "/api/v1/namespaces/default/serviceaccounts",
            &json!({"metadata": {"name": "default"}}),
        )
        .or_else(|_| admin.text("/api/v1/namespaces/default/serviceaccounts/default").map(drop))?;
    let node = node(&admin)?;
    server.create_all(POOLS, 0..OWN_POOLS, &|number| Ok(pool(number)))?;
    server.create_all(PODS, 0..LIVING, &|number| Ok(pod(number)))?;
    let pods: Value = serde_json::from_str(&admin.text(PODS)?)?;
    let pods: Vec<(String, String)> =
        pods["items"].as_array().context("no items")?.iter().map(named).collect();
    server
        .create_all(ALLOCATIONS, 0..HELD, &|index| Ok(allocation(index, &node, pods.get(index))))?;

    let running = start(options, workplace, server)?;
    let mut text = String::from("| | memory, MB | peak memory, MB |\n| --- | ---: | ---: |\n");
    let mut note = |what: &str| -> Result<()> {
        let (now, most) = (resident(&running)?, peak(running.0.id())?);
        let _ = writeln!(text, "| {what} | {:.1} | {:.1} |", megabytes(now), megabytes(most));
        Ok(())
    };
    wait(|| Ok(metric(&running, "hereabouts_controller_synced")? == 1.0))?;
    note("everything is read")?;
    // All but the addresses of pods that are there, after two minutes.
    wait(|| {
        let gone = metric(&running, r#"hereabouts_leak_candidates{evidence="pod-gone"}"#)?;
        Ok(gone == (HELD - LIVING) as f64)
    })?;
    note("the leak candidates are confirmed")?;
    let pages =
        ["/", "/pool/IPPool/pool-00000", "/leaks", "/overlaps", "/search?q=10.0", "/search?q=web"];
    for _ in 0..READS {
        at_once(pages.len(), |index| get(running.1, pages[index]).map(drop))?;
        get(running.1, "/metrics")?;
    }
    note("each page was opened 20 times")?;
    let few = times(&running)?;
    server.create_all(POOLS, OWN_POOLS..MANY_POOLS, &|number| Ok(pool(number)))?;
    wait(|| Ok(count(&running, "hereabouts_pool_addresses{")? == MANY_POOLS))?;
    note("10,000 pools")?;
    let many = times(&running)?;
    for _ in 0..READS {
        at_once(pages.len(), |index| get(running.1, pages[index]).map(drop))?;
    }
    note("each page was opened again")?;
    for (pools, (median, most, size)) in [(OWN_POOLS, few), (MANY_POOLS, many)] {
        let _ = writeln!(
            text,
            "\n`/metrics` with {pools} pools: median {:.1} ms, at most {:.1} ms, {} KB",
            median.as_secs_f64() * 1e3,
            most.as_secs_f64() * 1e3,
            size / 1000,
        );
    }
    Ok(text)
}

/// Creates the node. Returns its uid.
fn node(admin: &Admin) -> Result<String> {
    let object = json!({
        "metadata": {"name": "n1"},
        "status": {"nodeInfo": {
            "bootID": "boot-1", "machineID": "", "systemUUID": "", "kernelVersion": "", "osImage": "",
            "containerRuntimeVersion": "", "kubeletVersion": "", "kubeProxyVersion": "",
            "operatingSystem": "", "architecture": "",
        }},
    });
    admin.create("/api/v1/nodes", &object)?;
    let node: Value = serde_json::from_str(&admin.text("/api/v1/nodes/n1")?)?;
    Ok(node["metadata"]["uid"].as_str().context("no uid")?.to_owned())
}

fn named(pod: &Value) -> (String, String) {
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    (text("name"), text("uid"))
}

/// Returns a pool of 256 addresses.
fn pool(index: usize) -> Value {
    json!({
        "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPPool",
        "metadata": {"name": format!("pool-{index:05}")},
        "spec": {"subnets": [{"subnet": format!("10.{}.{}.0/24", index >> 8, index & 255)}]},
    })
}

/// Returns a pod as the API server has them: most of it is of no interest here.
fn pod(index: usize) -> Value {
    let status = json!([
        {"name": "cbr0", "interface": "eth0", "ips": ["10.244.0.5"], "default": true, "dns": {}},
        {"name": "default/net", "interface": "net1", "ips": [address(index)], "mac": "02:00:00:00:00:01", "dns": {}},
    ]);
    let environment: Vec<Value> = (0..20)
        .map(|number| json!({"name": format!("VARIABLE_{number}"), "value": "x".repeat(60)}))
        .collect();
    json!({
        "metadata": {
            "name": format!("web-{index:05}-{}", "0a1b2c3d4e"), "labels": {"app": "web"},
            "annotations": {"k8s.v1.cni.cncf.io/networks": "net", "k8s.v1.cni.cncf.io/network-status": status.to_string()},
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "example.org/web:1", "env": environment}]},
    })
}

fn address(index: usize) -> String {
    // Without the last ones of each subnet.
    format!("10.0.{}.{}", index / 250, 1 + index % 250)
}

fn allocation(index: usize, node: &str, pod: Option<&(String, String)>) -> Value {
    let gone =
        (format!("gone-{index:05}-0a1b2c3d4e"), format!("00000000-0000-4000-8000-{index:012}"));
    let (name, uid) = pod.unwrap_or(&gone);
    let address = address(index);
    json!({
        "apiVersion": "hereabouts.dev/v1alpha1", "kind": "IPAllocation",
        "metadata": {"name": format!("pool-pool-{:05}.{address}", index / 250)},
        "spec": {
            "address": address, "prefix": 24, "scope": format!("pool-pool-{:05}", index / 250),
            "network": "net", "interface": "net1", "containerID": format!("{index:064x}"),
            "node": "n1", "nodeUID": node, "bootID": "boot-1",
            "podRef": {"namespace": "default", "name": name, "uid": uid},
            "since": "2026-11-21T03:53:21Z", "source": "dynamic", "part": 0, "of": 1,
        },
    })
}

fn start(options: &Options, workplace: &Path, server: &Server) -> Result<Running> {
    let log = workplace.join("full.log");
    let child = Command::new(&options.controller)
        .arg("--listen=127.0.0.1:0")
        .env("KUBECONFIG", server.kubeconfig())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()
        .context("cannot start the controller")?;
    let mut running = Running(child, SocketAddr::from(([127, 0, 0, 1], 0)));
    wait(|| {
        let text = std::fs::read_to_string(&log)?;
        let listens = text
            .split_once(" listens on ")
            .and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
        if let Some(address) = listens {
            running.1 = address;
        }
        Ok(listens.is_some())
    })?;
    Ok(running)
}

/// Reads a page of the controller.
fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address)?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    // At most two pages are rendered at the same time.
    ensure!(
        text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.1 503"),
        "{path}: {}",
        text.lines().next().unwrap_or_default()
    );
    Ok(text)
}

fn metric(running: &Running, name: &str) -> Result<f64> {
    let text = get(running.1, "/metrics")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.map_or(-1.0, |value| value.trim().parse().unwrap_or(-1.0)))
}

fn count(running: &Running, start: &str) -> Result<usize> {
    Ok(get(running.1, "/metrics")?.lines().filter(|line| line.starts_with(start)).count())
}

/// Returns the median and the longest time of an answer with the metrics, and its size.
fn times(running: &Running) -> Result<(Duration, Duration, usize)> {
    let mut all = Vec::new();
    let mut size = 0;
    for _ in 0..READS {
        let start = Instant::now();
        size = get(running.1, "/metrics")?.len();
        all.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    all.sort();
    Ok((all[READS / 2], all[READS - 1], size))
}

/// Returns the memory of the controller at this moment, in KiB.
fn resident(running: &Running) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.0.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let text = line.context("no VmRSS in /proc/PID/status")?;
    Ok(text.trim().trim_end_matches("kB").trim().parse()?)
}
