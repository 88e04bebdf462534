//! `import host-local`: records what host-local has given on this node.
//!
//! host-local has a directory for each network. In it, the name of a file is the address, and the
//! content is the container ID and the interface, in two lines. Everything else about an attachment
//! is in the result that its runtime keeps.

use super::cached::{self, Cached};
use super::new_networks::NewNetworks;
use super::report::{self, Outcome, Row};
use super::sandboxes::{Recorder, Wanted};
use crate::addr::parse_address;
use crate::cli::args::import::ImportHostLocalArgs;
use crate::cli::{HintedError, locate};
use crate::environment::Environment;
use crate::ipam::Here;
use crate::json::Json;
use crate::plugin::host_local::{HostLocal, Note};
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The directory of host-local if its configuration names none.
const DEFAULT: &str = "/var/lib/cni/networks";

/// A file of host-local.
struct Noted {
    note: Note,
    path: PathBuf,
    written: Option<SystemTime>,
}

/// The files, by network and address.
type AllNoted = BTreeMap<(String, IpAddr), Noted>;

pub(super) fn import(environment: &Environment, args: &ImportHostLocalArgs) -> anyhow::Result<()> {
    let ImportHostLocalArgs { dir, import: args } = args;
    let located = locate::locate(environment, &args.store)?;
    let node = located.own_node()?;
    let networks = NewNetworks::read(&args.network, located.flat.as_ref())?;
    let mut unreadable = Vec::new();
    let mut noted = read_all(dir, &mut unreadable)?;
    let mut recorder = Recorder::open(&located, &node, &networks, args.dry_run)?;
    cached::each(&args.cache_dir, &mut |cached| {
        let Some(configuration) = of_host_local(cached, dir) else { return Ok(()) };
        for given in &cached.addresses {
            forget(&mut noted, cached, given.address);
        }
        let place = dir.join(cached.network.as_str());
        recorder.record(&Wanted {
            cached,
            configuration,
            addresses: &cached.addresses,
            source: &|address| place.join(address.to_string()).display().to_string(),
        })
    })?;
    let mut rows = recorder.finish()?;
    rows.append(&mut unreadable);
    let started = located.machine.started();
    for ((network, address), noted) in noted {
        rows.push(Row {
            address: address.to_string(),
            scope: String::new(),
            network: Some(network),
            pod: None,
            container: Some(noted.note.container.clone()),
            interface: noted.note.ifname.clone(),
            node: Some(node.to_string()),
            source: noted.path.display().to_string(),
            outcome: without_sandbox(&noted, started, &args.cache_dir),
            notes: Vec::new(),
            record: None,
        });
    }
    rows.sort_by_cached_key(|row| (row.scope.clone(), parse_address(&row.address).ok()));
    report::print(&rows, args.output, args.dry_run)
}

/// Reads the files of host-local. One that cannot be read becomes a row.
fn read_all(directory: &Path, rows: &mut Vec<Row>) -> anyhow::Result<AllNoted> {
    if !directory.is_dir() {
        let message = format!("there is no directory {}", directory.display());
        let hint = "pass the dataDir of the networks, if they have one";
        return Err(HintedError::new(message, hint).into());
    }
    let failed = |directory: &Path| format!("cannot list {}", directory.display());
    let mut all = AllNoted::new();
    for entry in std::fs::read_dir(directory).with_context(|| failed(directory))? {
        let network = entry.with_context(|| failed(directory))?.path();
        if !network.is_dir() {
            continue;
        }
        let network_name = last_name(&network);
        let files = HostLocal::at(network.clone());
        for name in files.names().with_context(|| failed(&network))? {
            let path = network.join(&name);
            let noted = parse_address(&name)
                .map_err(|_| "its name is not an address".to_owned())
                .and_then(|address| Ok(files.note(address)?.map(|note| (address, note))));
            match noted {
                Ok(Some((address, note))) => {
                    let written = path.metadata().and_then(|metadata| metadata.modified()).ok();
                    let noted = Noted { note, path, written };
                    all.insert((network_name.clone(), address), noted);
                }
                // The attachment has ended since the directory was listed.
                Ok(None) => {}
                Err(reason) => rows.push(unreadable(&network_name, &name, &path, &reason)),
            }
        }
    }
    Ok(all)
}

fn last_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn unreadable(network: &str, name: &str, path: &Path, reason: &str) -> Row {
    Row {
        address: name.to_owned(),
        scope: String::new(),
        network: Some(network.to_owned()),
        pod: None,
        container: None,
        interface: None,
        node: None,
        source: path.display().to_string(),
        outcome: Outcome::Left {
            reason: format!("this is not a file of host-local: {reason}"),
            hint: format!("if no pod has the address, delete {}", path.display()),
        },
        notes: Vec::new(),
        record: None,
    }
}

/// Returns the plugin configuration of an attachment to which host-local has given addresses in
/// this directory.
fn of_host_local<'c>(cached: &'c Cached, directory: &Path) -> Option<&'c Json> {
    cached.configurations.iter().find(|configuration| {
        let Some(ipam) = configuration.find("ipam") else { return false };
        let text =
            |key: &str| ipam.find(key).and_then(Json::as_str).filter(|text| !text.is_empty());
        text("type") == Some("host-local")
            && is_same(Path::new(text("dataDir").unwrap_or(DEFAULT)), directory)
    })
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || one.canonicalize().ok().is_some_and(|one| other.canonicalize().ok() == Some(one))
}

/// Removes the file of an address that a runtime's result has, too.
fn forget(all: &mut AllNoted, cached: &Cached, address: IpAddr) {
    let key = (cached.network.to_string(), address);
    let is_of = |noted: &Noted| noted.note.is_of(cached.container.as_str(), cached.ifname.as_str());
    if all.get(&key).is_some_and(is_of) {
        all.remove(&key);
    }
}

/// Returns what becomes of an address of which no runtime knows.
fn without_sandbox(noted: &Noted, started: Option<SystemTime>, searched: &[PathBuf]) -> Outcome {
    let is_earlier = noted.written.zip(started).is_some_and(|(written, started)| written < started);
    if is_earlier {
        return Outcome::Gone("it is from before the last boot".to_owned());
    }
    let searched: Vec<String> = searched.iter().map(|path| path.display().to_string()).collect();
    Outcome::Left {
        reason: format!(
            "no result below {} has it for container {}",
            searched.join(" and "),
            noted.note.container
        ),
        hint: format!(
            "pass the cache directory of the runtime with --cache-dir; if the container does not run, delete {}",
            noted.path.display()
        ),
    }
}
