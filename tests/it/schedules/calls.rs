//! The calls that are interleaved, each run as the executable runs it: the verbs through the
//! dispatcher and the plugin, the commands through their effect on a store. Their surroundings are
//! in memory.

use super::disk::ScheduledDisk;
use super::moves::operator;
use super::scheduler::{Scheduler, ThreadClock};
use super::server::ScheduledServer;
use super::world::{Event, Holder, Shown};
use crate::support::sandbox::Sandbox;
use hereabouts::cli::{release, repair, sweep};
use hereabouts::cni::{Outcome, Ports, dispatch};
use hereabouts::config::Settings;
use hereabouts::environment::{Environment, ProxyVariables};
#[cfg(feature = "kube")]
use hereabouts::ipam::AllocationOrder;
use hereabouts::ipam::{Life, NodeName, Record, View};
use hereabouts::plugin::call_summary::Report;
use hereabouts::plugin::debts::Debts;
use hereabouts::plugin::failure::Failure;
use hereabouts::plugin::machine::Machine;
use hereabouts::plugin::sweep::Sweep;
use hereabouts::plugin::{Ipam, Ready, Sighting, Surroundings};
use hereabouts::retry::{Deadline, with_clock};
use hereabouts::store::file::FileStore;
use hereabouts::store::kube::KubeStore;
use hereabouts::store::node_identity::NodeIdentity;
use hereabouts::store::sliced::SlicedStore;
use hereabouts::store::upkeep::{Extent, Upkeep};
use hereabouts::store::{Filter, Store, StoreError};
use std::cell::Cell;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, UNIX_EPOCH};

/// The kind of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Files on one machine.
    Local,
    /// Files that machines share.
    Shared,
    /// Objects of the API.
    Kubernetes,
    /// Blocks of a pool, which nodes own by objects of the API, and files in them.
    Sliced,
}

impl Kind {
    const fn has_server(self) -> bool {
        matches!(self, Self::Kubernetes | Self::Sliced)
    }
}

/// The kind of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// An ADD for a container, with this many addresses, one per family. Its pod is the part after
    /// `-` in the container's name.
    Add(&'static str, u8),
    Del(&'static str),
    /// A DEL that can only lock its attachment: it leaves a debt, and is an error.
    Owe(&'static str),
    /// The same while the API server is away: it is answered with success.
    Promise(&'static str),
    /// The part of a sweep that settles debts.
    Settle,
    /// A GC with an empty list.
    Gc,
    Sweep,
    /// A release of what a container holds.
    Release(&'static str),
    /// A release for a node, from another machine.
    ReleaseNode(&'static str),
    Repair,
    /// The look of the DaemonSet at the node's slices.
    Sync,
    /// An operator releases the slices of a node, from another machine.
    ReleaseSlices(&'static str),
    /// An operator removes the released slices of a node, from another machine.
    RemoveSlices(&'static str),
    /// The import of a sandbox that another plugin has served.
    Import(&'static str),
    /// Not a call: a request to the API server that was thought lost arrives.
    Courier,
    /// An ADD of Whereabouts.
    TheirAdd(&'static str),
    /// A DEL of Whereabouts.
    TheirDel(&'static str),
    /// A command of an operator who moves the cluster.
    Operate(operator::Step),
    /// The looks of the DaemonSet at the Move, until it has answered this generation.
    Answer(u64),
    /// Waits until the operator is done.
    Await,
    /// These calls, one after the other.
    Serial(&'static [Call]),
}

/// What happens to one request to the API server, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum BadRequest {
    /// It is carried out, and its answer is lost.
    Answered(usize),
    /// It is held up, and carried out when the courier delivers it.
    HeldUp(usize),
}

/// When the caller of an ADD exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Gone {
    Never,
    /// When the answer is written.
    AtTheAnswer,
    /// From this check on, counted from 0.
    From(u8),
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) what: What,
    pub(super) node: &'static str,
    /// Whether and when its caller exits.
    pub(super) gone: Gone,
    /// The flush of the store that fails, counted from 0.
    pub(super) bad_flush: Option<usize>,
    pub(super) bad_request: Option<BadRequest>,
    /// Sandboxes whose container's name begins like this are gone.
    pub(super) dead: &'static str,
    pub(super) boot: &'static str,
    /// The number of seconds by which its clock is ahead of the others.
    pub(super) later: u64,
}

impl Call {
    pub(super) const fn new(what: What) -> Self {
        Self {
            what,
            node: "n1",
            gone: Gone::Never,
            bad_flush: None,
            bad_request: None,
            dead: "dead",
            boot: "today",
            later: 0,
        }
    }

    pub(super) const fn on(self, node: &'static str) -> Self {
        Self { node, ..self }
    }

    /// Makes its caller exit before the answer.
    pub(super) const fn lost(self) -> Self {
        Self { gone: Gone::AtTheAnswer, ..self }
    }

    /// Makes its caller exit at the n-th check.
    pub(super) const fn orphan(self, look: u8) -> Self {
        Self { gone: Gone::From(look), ..self }
    }

    /// Makes it a call from before the last boot.
    pub(super) const fn before_the_boot(self) -> Self {
        Self { boot: "yesterday", ..self }
    }

    pub(super) const fn bad_flush(self, after: usize) -> Self {
        Self { bad_flush: Some(after), ..self }
    }

    pub(super) const fn bad_request(self, bad: BadRequest) -> Self {
        Self { bad_request: Some(bad), ..self }
    }

    /// Returns whether its surroundings may make it fail, or no process waits for its answer.
    pub(super) const fn may_fail(&self) -> bool {
        !matches!(self.gone, Gone::Never) || self.bad_flush.is_some()
    }

    pub(super) fn holder(&self) -> Option<Holder> {
        match self.what {
            What::Add(container, _)
            | What::Del(container)
            | What::Owe(container)
            | What::Promise(container)
            | What::TheirAdd(container)
            | What::TheirDel(container)
            | What::Import(container)
            | What::Release(container) => Some((self.node, container.to_owned())),
            _ => None,
        }
    }
}

/// The store, and the other files that calls read.
pub(super) struct Setting {
    pub(super) kind: Kind,
    /// The flat file of each node.
    flats: Vec<(&'static str, PathBuf)>,
    /// Whether the cluster was restored, so that a slice may name another node than its pods.
    pub(super) is_restored: bool,
    /// Whether the cluster moves from Whereabouts.
    pub(super) is_moving: bool,
    _sandbox: Sandbox,
}

pub(super) const NODES: &[&str] = &["n1", "n2"];

impl Setting {
    pub(super) fn new(kind: Kind) -> Self {
        let sandbox = Sandbox::new();
        let store = if kind.has_server() { "kubernetes" } else { "file" };
        let flats = NODES.iter().map(|node| {
            let directory = sandbox.path("unused");
            let text = format!(
                r#"{{"datastore":"{store}","data_dir":"{}","node_name":"{node}"}}"#,
                directory.display()
            );
            (*node, sandbox.write(&format!("flat-{node}"), &text))
        });
        let flats = flats.collect();
        Self { kind, flats, is_restored: false, is_moving: false, _sandbox: sandbox }
    }
}

/// The surroundings of one call.
pub(super) struct Around {
    kind: Kind,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) thread: usize,
    pub(super) call: Call,
    flushes: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Around {
    pub(super) fn new(kind: Kind, scheduler: &Arc<Scheduler>, thread: usize, call: Call) -> Self {
        Self {
            kind,
            scheduler: Arc::clone(scheduler),
            thread,
            call,
            flushes: Arc::default(),
            requests: Arc::default(),
        }
    }

    pub(super) fn host(&self, node: &str) -> NodeIdentity {
        NodeIdentity {
            node: NodeName::parse(node).unwrap(),
            machine_id: Some(format!("machine of {}", self.call.node)),
            boot_id: self.call.boot.to_owned(),
        }
    }

    pub(super) fn disk(&self, disk: &str) -> ScheduledDisk {
        ScheduledDisk {
            scheduler: Arc::clone(&self.scheduler),
            thread: self.thread,
            disk: disk.to_owned(),
            machine: self.call.node.to_owned(),
            local: self.kind != Kind::Shared,
            bad_flush: self
                .call
                .bad_flush
                .filter(|_| disk == "store")
                .map(|bad| (bad, Arc::clone(&self.flushes))),
            later: Duration::from_secs(self.call.later),
        }
    }

    fn files(&self, host: NodeIdentity) -> FileStore<ScheduledDisk> {
        FileStore::on(self.disk("store"), host)
    }

    #[cfg(feature = "kube")]
    pub(super) fn objects(&self, host: NodeIdentity) -> KubeStore {
        let bad = self.call.bad_request.map(|bad| (bad, Arc::clone(&self.requests)));
        let server =
            ScheduledServer { scheduler: Arc::clone(&self.scheduler), thread: self.thread, bad };
        KubeStore::on(
            Box::new(server),
            Box::new(self.disk(&format!("state of {}", self.call.node))),
            host,
            AllocationOrder::Lowest,
        )
    }

    fn sliced(&self, host: NodeIdentity) -> SlicedStore<ScheduledDisk> {
        let files =
            FileStore::on(self.disk(&format!("slices of {}", self.call.node)), host.clone());
        SlicedStore::new(self.objects(host), files)
    }

    fn sliced_from_elsewhere(&self, host: NodeIdentity) -> SlicedStore<ScheduledDisk> {
        let files = FileStore::on(self.disk("nowhere"), host.clone());
        SlicedStore::new(self.objects(host).for_dead_node(), files).without_files()
    }

    /// Returns the store as the plugin opens it.
    pub(super) fn store(&self, host: NodeIdentity) -> Box<dyn Store> {
        match self.kind {
            Kind::Kubernetes => Box::new(self.objects(host)),
            Kind::Sliced => Box::new(self.sliced(host)),
            Kind::Local | Kind::Shared => Box::new(self.files(host)),
        }
    }

    /// Returns where this node notes its debts.
    pub(super) fn ledger(&self) -> Debts {
        Debts::on(Box::new(self.disk(&format!("debts of {}", self.call.node))))
    }

    /// Returns the store as a command opens it; from another machine for a node that is off.
    fn upkeep(&self, node: &str, elsewhere: bool) -> Box<dyn Upkeep> {
        let host = self.host(node);
        if self.kind == Kind::Sliced {
            return Box::new(match elsewhere {
                true => self.sliced_from_elsewhere(host),
                false => self.sliced(host),
            });
        }
        if self.kind.has_server() {
            let store = self.objects(host);
            return if elsewhere { Box::new(store.for_dead_node()) } else { Box::new(store) };
        }
        let store = self.files(host);
        if elsewhere { Box::new(store.for_dead_node()) } else { Box::new(store) }
    }

    pub(super) fn is_there(&self, held: &Record) -> bool {
        held.boot_id == self.call.boot
            && !held.attachment.container.as_str().starts_with(self.call.dead)
    }

    fn life(&self, held: &Record) -> Life {
        if self.is_there(held) { Life::Alive } else { Life::Dead }
    }

    pub(super) fn say(&self, event: &Event) {
        let holders: Vec<Holder> = match event {
            Event::Ending(_, holder) | Event::Ended(_, holder) | Event::Broken(_, holder) => {
                vec![holder.clone()]
            }
            Event::Told(shown) | Event::Shown(shown) => {
                shown.iter().map(|shown| shown.holder.clone()).collect()
            }
            Event::GivenUp(_) | Event::Killed(_) => Vec::new(),
        };
        self.scheduler.step(
            self.thread,
            || format!("{event:?}"),
            |world, touches| {
                for holder in &holders {
                    touches.write(("holder", holder));
                }
                let mut event = event.clone();
                if let Event::Told(told) = &mut event {
                    told.iter_mut().for_each(|told| told.record = world.record_at(told.address));
                }
                world.events.push(event);
            },
        );
    }
}

impl Surroundings for Around {
    fn machine(&self) -> Result<Machine, Failure> {
        Ok(Machine::new(
            self.call.boot.to_owned(),
            Some(format!("machine of {}", self.call.node)),
            UNIX_EPOCH,
        ))
    }

    fn open_store(
        &self,
        _: &Settings,
        host: NodeIdentity,
        _: &ProxyVariables,
    ) -> Result<Box<dyn Store>, StoreError> {
        let store = self.store(host);
        Ok(match self.call.what {
            What::Owe(_) => super::debts::away(store, false),
            What::Promise(_) => super::debts::away(store, true),
            _ => store,
        })
    }

    /// The real one reads the clock.
    fn see(&self, machine: &Machine, netns: Option<&Path>) -> Sighting {
        Sighting { view: View::default(), ..machine.see(netns) }
    }

    fn debts(&self, _: &Settings) -> Debts {
        self.ledger()
    }

    fn answered(&self, ready: Ready) {
        ready.settle_debts();
    }

    fn life(&self, _: &Machine, held: &Record) -> Life {
        self.life(held)
    }
}

/// The answer of a call: the error's code and text.
pub(super) type Answered = Result<(), (u64, String)>;

/// Runs a call on a thread of the scheduler.
pub(super) fn perform(
    setting: &Setting,
    scheduler: &Arc<Scheduler>,
    thread: usize,
    call: Call,
) -> Answered {
    let around = Rc::new(Around::new(setting.kind, scheduler, thread, call));
    let clock = Rc::new(ThreadClock(Arc::clone(scheduler), thread));
    let running = setting.is_moving.then(|| super::moves::Running::new(&around)).flatten();
    let done = with_clock(clock, || match call.what {
        What::Add(..) | What::Del(_) | What::Owe(_) | What::Promise(_) | What::Gc => {
            verb(setting, &around)
        }
        What::Settle => operated(super::debts::settle(&around)),
        What::Sweep => operated(sweep_all(&around)),
        What::Release(container) => operated(release_all(&around, Some(container), call.node)),
        What::ReleaseNode(node) => operated(release_all(&around, None, node)),
        What::Repair => operated(repair_all(&around)),
        What::Sync => operated(sync_slices(&around)),
        What::ReleaseSlices(node) => operated(release_slices(&around, node)),
        What::RemoveSlices(node) => operated(remove_slices(&around, node)),
        What::Import(container) => super::imports::import(&around, container),
        What::Courier => {
            super::server::deliver(scheduler, thread);
            Ok(())
        }
        What::TheirAdd(_)
        | What::TheirDel(_)
        | What::Operate(_)
        | What::Answer(_)
        | What::Await => super::moves::perform(&around),
        What::Serial(calls) => {
            calls.iter().try_for_each(|call| perform(setting, scheduler, thread, *call))
        }
    });
    running.into_iter().for_each(super::moves::Running::end);
    done
}

fn operated(done: anyhow::Result<()>) -> Answered {
    done.map_err(|error| (1, format!("{error:#}")))
}

/// The pool of the sliced kind: four slices of eight addresses.
pub(super) fn pool() -> serde_json::Value {
    serde_json::json!({"ranges": [{"ipv4": "10.0.0.0/27"}], "slices": {"ipv4": {"perNodeMaskSize": 29}}})
}

fn configuration(kind: Kind, ranges: u8) -> String {
    if kind == Kind::Sliced {
        return r#"{"cniVersion":"1.1.0","name":"net1","type":"macvlan","cni.dev/valid-attachments":[],"ipam":{"type":"hereabouts","pool":"p"}}"#.to_owned();
    }
    let ranges: Vec<String> = ["10.0.0.0/29", "fd00::/125"]
        .iter()
        .take(ranges.into())
        .map(|range| format!(r#"{{"range":"{range}"}}"#))
        .collect();
    format!(
        r#"{{"cniVersion":"1.1.0","name":"net1","type":"macvlan","cni.dev/valid-attachments":[],"ipam":{{"type":"hereabouts","ipRanges":[{}]}}}}"#,
        ranges.join(",")
    )
}

fn verb(setting: &Setting, around: &Rc<Around>) -> Answered {
    let call = around.call;
    let (name, container, ranges) = match call.what {
        What::Add(container, ranges) => ("ADD", container, ranges),
        What::Del(container) | What::Owe(container) | What::Promise(container) => {
            ("DEL", container, 1)
        }
        _ => ("GC", "", 1),
    };
    let pod = container.split_once('-').map(|(_, pod)| pod);
    let lookup = |variable: &str| -> Option<OsString> {
        match variable {
            "CNI_COMMAND" => Some(name.into()),
            "CNI_CONTAINERID" => Some(container.into()),
            "CNI_NETNS" => Some("/var/run/netns/no-such-namespace".into()),
            "CNI_IFNAME" => Some("net1".into()),
            "CNI_PATH" => Some("/opt/cni/bin".into()),
            "CNI_ARGS" => {
                pod.map(|pod| format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}").into())
            }
            "HEREABOUTS_CONFIG" => setting
                .flats
                .iter()
                .find(|(node, _)| *node == call.node)
                .map(|(_, path)| path.into()),
            _ => None,
        }
    };
    let looks = Cell::new(0);
    let orphaned = || {
        looks.set(looks.get() + 1);
        matches!(call.gone, Gone::From(look) if look < looks.get())
    };
    let environment = Environment::read(&lookup);
    let ipam = Ipam {
        environment: &environment,
        log: &|_, _| {},
        report: Report::default(),
        orphaned: &orphaned,
        surroundings: Rc::clone(around) as Rc<dyn Surroundings>,
    };
    let holder: Holder = (call.node, container.to_owned());
    if name == "DEL" {
        around.say(&Event::Ending(around.thread, holder.clone()));
    }
    let error = Cell::new(Vec::new());
    let stdin = configuration(setting.kind, ranges);
    let ports = Ports {
        variables: &environment.call,
        stdin: &mut stdin.as_bytes(),
        stdin_ready: &|| true,
        deliver: &|bytes| {
            let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
            if name != "ADD" || document["ips"].is_null() {
                error.set(bytes.to_vec());
                return Ok(());
            }
            if call.gone == Gone::AtTheAnswer {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            // A pipe accepts what no process reads: the next check finds that the caller has
            // exited.
            if matches!(call.gone, Gone::From(look) if look <= looks.get()) {
                return Ok(());
            }
            let told = told(&document).into_iter().map(|address| Shown {
                holder: holder.clone(),
                address,
                record: None,
            });
            around.say(&Event::Told(told.collect()));
            Ok(())
        },
        undeliverable: &|| None,
        orphaned: &orphaned,
    };
    match dispatch(&ipam, ports) {
        Outcome::Done => {
            if name == "DEL" {
                around.say(&Event::Ended(around.thread, holder));
            }
            Ok(())
        }
        Outcome::Failed(_) => {
            if name == "DEL" && call.bad_flush.is_some() {
                around.say(&Event::Broken(around.thread, holder));
            }
            let document: serde_json::Value =
                serde_json::from_slice(&error.take()).unwrap_or_default();
            Err((document["code"].as_u64().unwrap_or(999), document.to_string()))
        }
    }
}

fn told(document: &serde_json::Value) -> Vec<IpAddr> {
    let addresses = document["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
    let address = |ip: &serde_json::Value| ip["address"].as_str()?.split_once('/')?.0.parse().ok();
    addresses.iter().filter_map(address).collect()
}

/// Does the work of `hereabouts sweep --yes`.
fn sweep_all(around: &Around) -> anyhow::Result<()> {
    let node = NodeName::parse(around.call.node).unwrap();
    let store = around.upkeep(around.call.node, false);
    let is_alive = |held: &Record| around.life(held);
    let all =
        Sweep { node: &node, network: None, spared: None, dry_run: false, is_alive: &is_alive };
    let (stale, orphans) = sweep::find(store.as_ref(), &all)?;
    sweep::carry_out(store.as_ref(), &stale, &orphans, &is_alive, &mut |_, _| Ok(()))?;
    store.tidy(Deadline::after(Duration::from_secs(20)))?;
    Ok(())
}

/// Does the work of `hereabouts release --container ID --yes`, or `release --node NAME --yes`.
fn release_all(around: &Around, container: Option<&str>, node: &'static str) -> anyhow::Result<()> {
    let elsewhere = container.is_none();
    let filter = Filter { node: Some(NodeName::parse(node).unwrap()), ..Filter::default() };
    let found = release::find(around.upkeep(around.call.node, true).as_ref(), &filter, container)?;
    let store = around.upkeep(node, elsewhere);
    release::await_calls(store.as_ref(), &found)?;
    let shown = found.allocations.iter().map(|allocation| Shown {
        holder: (node, allocation.record.attachment.container.to_string()),
        address: allocation.address,
        record: allocation.version.as_ref().map(|version| version.uid.clone()),
    });
    around.say(&if elsewhere { Event::GivenUp(node) } else { Event::Shown(shown.collect()) });
    let is_empty = found.allocations.is_empty();
    release::carry_out(store.as_ref(), &found, &mut |_, _| Ok(()))?;
    if elsewhere {
        release::forget_node(store.as_ref(), is_empty, &|held| around.life(held))?;
    }
    Ok(())
}

/// Does the work of `hereabouts slices sync`.
fn sync_slices(around: &Around) -> anyhow::Result<()> {
    let store = around.upkeep(around.call.node, false);
    store.slices().unwrap().sync(&|_| true, &Deadline::after(Duration::from_secs(20)))?;
    Ok(())
}

/// Does what `hereabouts release --node NAME --yes` does with the slices of the node.
fn release_slices(around: &Around, node: &str) -> anyhow::Result<()> {
    let store = around.upkeep(node, true);
    let deadline = Deadline::after(Duration::from_secs(20));
    store.slices().unwrap().release(&NodeName::parse(node).unwrap(), &deadline)?;
    Ok(())
}

/// Does the work of `hereabouts slices remove NAME`, for all slices of a node.
fn remove_slices(around: &Around, node: &str) -> anyhow::Result<()> {
    let store = around.upkeep(node, true);
    let (slices, name) = (store.slices().unwrap(), NodeName::parse(node).unwrap());
    let deadline = Deadline::after(Duration::from_secs(20));
    for slice in slices.all(Some(&name), &deadline)? {
        slices.remove(&slice.name, &deadline)?;
    }
    Ok(())
}

/// Does the work of `hereabouts repair --yes`.
fn repair_all(around: &Around) -> anyhow::Result<()> {
    let store = around.upkeep(around.call.node, false);
    let is_alive = |held: &Record| around.life(held);
    let verified =
        match store.verify(Extent::Own, &is_alive, Deadline::after(Duration::from_secs(30))) {
            Err(StoreError::Absent { .. }) => return Ok(()),
            verified => verified?,
        };
    let repairable: Vec<_> = verified
        .findings
        .into_iter()
        .filter(|finding| finding.is_repairable && finding.is_ours)
        .collect();
    repair::carry_out(store.as_ref(), &repairable, &is_alive, &mut |_, _| Ok(())).map(drop)
}

/// Returns the records and the problems of the store, as a reader sees them.
pub(super) fn look(
    setting: &Setting,
    scheduler: &Arc<Scheduler>,
    thread: usize,
    call: Call,
) -> anyhow::Result<Looked> {
    let around = Around::new(setting.kind, scheduler, thread, call);
    with_clock(Rc::new(ThreadClock(Arc::clone(scheduler), thread)), || {
        let mut looked = Looked::default();
        let mut add = |around: &Around, elsewhere: bool| -> anyhow::Result<()> {
            match around.upkeep(around.call.node, elsewhere).list(&Filter::default()) {
                Ok(listing) => {
                    for record in listing {
                        let record = record?;
                        let attachment = &record.record.attachment;
                        looked.held.push((
                            record.address,
                            attachment.node.to_string(),
                            attachment.container.to_string(),
                        ));
                    }
                    Ok(())
                }
                Err(StoreError::Absent { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        if setting.kind == Kind::Sliced {
            // Each node knows only what is in its own slices.
            for node in NODES {
                add(&Around::new(setting.kind, scheduler, thread, call.on(node)), false)?;
            }
        } else {
            add(&around, true)?;
        }
        let is_alive = |held: &Record| around.life(held);
        // The index by pod is a hint: a sweep corrects its problems.
        match around.upkeep(call.node, false).verify(
            Extent::Own,
            &is_alive,
            Deadline::after(Duration::from_secs(30)),
        ) {
            Ok(verified) => {
                let found = verified
                    .findings
                    .iter()
                    .map(|finding| format!("{} {}", finding.problem, finding.path.display()));
                looked.wrong = found.filter(|finding| !finding.contains("@pods/")).collect();
            }
            Err(StoreError::Absent { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(looked)
    })
}

/// See [`look`].
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Address, node and container of each record.
    pub(super) held: Vec<(IpAddr, String, String)>,
    /// What `verify` finds.
    pub(super) wrong: Vec<String>,
}
