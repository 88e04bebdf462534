//! The plugin: brings protocol, configuration, allocation and store together, with one verb per
//! file. `failure` has the only mapping of errors to CNI codes; `machine` and `evidence` examine
//! the machine.

pub mod add;
mod allocating;
pub mod ask;
pub mod call_summary;
mod check;
mod claim;
pub mod debts;
pub mod del;
pub mod elsewhere;
pub mod evidence;
pub mod failure;
mod gc;
mod given;
pub mod host_local;
mod ipam_claim;
mod left_by_the_dead;
pub(crate) mod limit_check;
pub mod log;
pub mod machine;
mod mount;
mod named_file;
mod note_lines;
mod pool_choice;
pub(crate) mod pools;
mod preferred;
pub mod recently_freed;
mod request;
pub mod set_aside;
mod silent_filesystem;
mod status;
pub mod stores;
pub mod sweep;
pub(crate) mod trial;
mod trial_store;
mod unmounted;

use crate::cni::{Added, Attachments, Call, CniError, Ip, Plugin, Sandbox};
use crate::config::{CniArgs, ConfigError, FlatFile, LogSettings, Merged, Settings};
use crate::environment::{Environment, NodeVariables, ProxyVariables, text};
use crate::ipam::{self, Attachment, Life, NetworkName, NodeName, Record};
use crate::retry::Deadline;
use crate::store::node_identity::NodeIdentity;
use crate::store::{Store, StoreError};
use crate::wire::OwnAddresses;
use call_summary::Report;
use debts::{Account, Debts};
pub use evidence::Sighting;
use failure::Failure;
use host_local::HostLocal;
use log::Subject;
use machine::Machine;
use recently_freed::Freed;
use set_aside::SetAside;
pub use silent_filesystem::Late;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// The plugin of one process.
pub struct Ipam<'a> {
    /// The environment variables.
    pub environment: &'a Environment,
    /// Returns whether the calling process has exited.
    pub orphaned: &'a dyn Fn() -> bool,
    /// Starts the log as soon as the configuration names its file.
    pub log: &'a dyn Fn(&LogSettings, &dyn Fn() -> Subject),
    /// What the call has done, for the last line of the log.
    pub report: Report,
    /// What the call finds around it.
    pub surroundings: Rc<dyn Surroundings>,
}

/// Returns which interface of this node has an address, if one has it.
pub type OwnInterface = dyn Fn(IpAddr) -> Option<String>;

/// What a call finds around it: this machine, its stores and its sandboxes. The default methods
/// use the real ones. A test supplies its own.
pub trait Surroundings {
    /// Returns what identifies this machine and its boot.
    ///
    /// # Errors
    /// The kernel does not show it.
    fn machine(&self) -> Result<Machine, Failure> {
        Machine::read()
    }

    /// Finds and parses the node's flat file.
    ///
    /// # Errors
    /// See [`machine::flat_file`].
    fn flat_file(
        &self,
        variables: &NodeVariables,
        configuration_path: Option<&str>,
    ) -> Result<Option<FlatFile>, ConfigError> {
        machine::flat_file(variables, configuration_path)
    }

    /// Opens the store that the settings name.
    ///
    /// # Errors
    /// See [`stores::open`].
    fn open_store(
        &self,
        settings: &Settings,
        host: NodeIdentity,
        proxy: &ProxyVariables,
    ) -> Result<Box<dyn Store>, StoreError> {
        stores::open(settings, host, self.before_shared(), proxy)
    }

    /// Returns what to do before the use of a filesystem whose server may never answer.
    fn before_shared(&self) -> Rc<dyn Fn()> {
        stores::nothing()
    }

    /// Sets when the call is late, counted from `before_shared`, and what it answers then.
    fn is_late_after(&self, late: Late) {
        drop(late);
    }

    /// Returns whether the sandbox of a record of this machine still exists.
    fn life(&self, machine: &Machine, held: &Record) -> Life {
        ipam::classify_record(held, machine)
    }

    /// Examines the path of a sandbox's namespace.
    fn see(&self, machine: &Machine, netns: Option<&Path>) -> Sighting {
        machine.see(netns)
    }

    /// Returns a function that tells which interface of this node has an address.
    fn own_addresses(&self) -> Box<OwnInterface> {
        let own = OwnAddresses::default();
        Box::new(move |address| {
            own.interface_of(address).unwrap_or_else(|error| {
                tracing::warn!(%address, %error, "whether the address is this node's own cannot be told");
                None
            })
        })
    }

    /// Returns whether the call is only tried: it changes no note of this node and asks no other
    /// host.
    fn is_trial(&self) -> bool {
        false
    }

    /// Returns the debts of this node.
    fn debts(&self, settings: &Settings) -> Debts {
        Debts::new(settings.debts_dir.clone())
    }

    /// Receives a call that has done its work, with its store still open.
    fn answered(&self, ready: Ready) {
        drop(ready);
    }
}

/// The machine that this process runs on.
pub struct ThisMachine {
    answered: RefCell<Option<Ready>>,
    late: Rc<Cell<Option<Late>>>,
    end_when_late: fn(Late),
}

impl Surroundings for ThisMachine {
    fn before_shared(&self) -> Rc<dyn Fn()> {
        let (late, end) = (Rc::clone(&self.late), self.end_when_late);
        Rc::new(move || {
            if let Some(late) = late.take() {
                end(late);
            }
        })
    }

    fn is_late_after(&self, late: Late) {
        self.late.set(Some(late));
    }

    fn answered(&self, ready: Ready) {
        self.answered.replace(Some(ready));
    }
}

impl ThisMachine {
    /// Returns the surroundings of a real call. `end_when_late` ends the process with that answer
    /// when its time is over, unless the call has answered before.
    #[must_use]
    pub fn new(end_when_late: fn(Late)) -> Self {
        Self { answered: RefCell::default(), late: Rc::default(), end_when_late }
    }

    /// Settles debts after the answer, in the store that the call has used, if there are any. `end`
    /// ensures that this takes no longer than the time that it is given. If it returns false, it
    /// cannot ensure this, and the debts are left to another call.
    pub fn settle_debts(&self, end: &dyn Fn(Duration) -> bool) {
        let Some(ready) = self.answered.take() else {
            return;
        };
        let owed = ready.debts.of_store(&ready.settings.store);
        if !owed.is_empty() && end(debts::OF_A_CALL) {
            ready.debts.settle_after(&ready, owed, Deadline::after(debts::OF_A_CALL));
        }
    }
}

/// Everything that a verb needs except the store.
pub struct CallContext {
    pub(crate) settings: Settings,
    pub(crate) node: NodeName,
    pub(crate) machine: Machine,
    debts: Rc<Debts>,
    surroundings: Rc<dyn Surroundings>,
}

impl CallContext {
    /// Opens the store.
    pub(crate) fn open(&self, proxy: &ProxyVariables) -> Result<Box<dyn Store>, StoreError> {
        let machine = &self.machine;
        let host = NodeIdentity {
            node: self.node.clone(),
            machine_id: machine.machine_id.clone(),
            boot_id: machine.boot_id.clone(),
        };
        self.surroundings.open_store(&self.settings, host, proxy)
    }

    /// Returns what a record says about a sandbox, without its address and pod.
    fn record(&self, attachment: Attachment, sandbox: &Sandbox) -> Record {
        self.machine
            .record(attachment, self.surroundings.see(&self.machine, sandbox.netns.as_deref()))
    }

    /// Returns the notes of what this node's pods have recently given back.
    pub(crate) fn freed(&self) -> Freed {
        Freed::new(&self.settings.debts_dir, &self.node, self.machine.now)
            .resting(self.settings.reuse_after)
    }

    /// Returns the files of host-local for a network, if the node still has pods of host-local.
    pub(crate) fn host_local(&self, network: &NetworkName) -> Option<HostLocal> {
        let directory = self.settings.host_local_dir.as_deref()?;
        Some(HostLocal::of(directory, network))
    }

    /// Returns the notes of the addresses that are in use outside of the store.
    pub(crate) fn set_aside(&self) -> SetAside {
        let notes = SetAside::new(&self.settings.debts_dir, &self.node, self.machine.now);
        if self.surroundings.is_trial() { notes.frozen() } else { notes }
    }

    /// Returns the account of what this node owes for an attachment in this store.
    pub(crate) fn account(&self, attachment: Attachment) -> Account {
        Account::new(Rc::clone(&self.debts), &self.settings.store, attachment)
    }

    /// Returns the holder that a call is about.
    pub(crate) fn attachment(&self, call: &Call, sandbox: &Sandbox) -> Attachment {
        Attachment {
            node: self.node.clone(),
            network: call.network.clone(),
            container: sandbox.container.clone(),
            ifname: sandbox.ifname.clone(),
        }
    }
}

/// Everything that a verb needs.
pub struct Ready {
    context: CallContext,
    pub(crate) store: Box<dyn Store>,
}

impl std::ops::Deref for Ready {
    type Target = CallContext;

    fn deref(&self) -> &CallContext {
        &self.context
    }
}

impl Ready {
    /// Returns whether the sandbox of one of this node's records exists.
    pub(crate) fn life(&self, held: &Record) -> Life {
        self.surroundings.life(&self.machine, held)
    }

    /// Settles debts in this store, for a moment. The caller must not hold a lock.
    pub fn settle_debts(&self) {
        self.debts.settle_after(
            self,
            self.debts.of_store(&self.settings.store),
            Deadline::after(debts::OF_A_CALL),
        );
    }

    /// Settles what is owed for an attachment of which something was freed.
    pub(crate) fn settle_debt(&self, attachment: &Attachment, deadline: Deadline) {
        let is_dead = |held: &Record| self.life(held).is_dead();
        self.debts.settle_of(
            attachment,
            &self.settings.store,
            self.store.as_ref(),
            &is_dead,
            deadline,
        );
    }

    /// Reports that the work of the call is done.
    pub(crate) fn answered(self) {
        let surroundings = Rc::clone(&self.surroundings);
        surroundings.answered(self);
    }
}

impl Ipam<'_> {
    /// Finds the flat file for a configuration.
    pub(crate) fn flat_file(&self, call: &Call) -> Result<Option<FlatFile>, ConfigError> {
        let path = Merged::configuration_path(&call.configuration);
        self.surroundings.flat_file(&self.environment.node, path)
    }

    /// Determines store, node and machine, and starts the log.
    pub(crate) fn ready(
        &self,
        call: &Call,
        merged: &Merged<'_>,
        flat: Option<&FlatFile>,
    ) -> Result<Ready, Failure> {
        let context =
            self.context(call, flat, &|must_name_store| Settings::parse(merged, must_name_store))?;
        let store = context.open(&self.environment.proxy)?;
        Ok(Ready { context, store })
    }

    /// Does the same for a verb that frees, with as few reasons to fail as possible.
    pub(crate) fn ready_to_release(
        &self,
        call: &Call,
        merged: &Merged<'_>,
        flat: Option<&FlatFile>,
    ) -> Result<Ready, Failure> {
        let context = self.context_to_release(call, merged, flat)?;
        let store = context.open(&self.environment.proxy)?;
        Ok(Ready { context, store })
    }

    /// Does the same without the store.
    pub(crate) fn context_to_release(
        &self,
        call: &Call,
        merged: &Merged<'_>,
        flat: Option<&FlatFile>,
    ) -> Result<CallContext, Failure> {
        self.context(call, flat, &|must_name_store| {
            Settings::parse_to_release(merged, must_name_store)
        })
    }

    /// Reads the settings, starts the log, and finds the machine and the node.
    fn context(
        &self,
        call: &Call,
        flat: Option<&FlatFile>,
        settings: &dyn Fn(bool) -> Result<Settings, ConfigError>,
    ) -> Result<CallContext, Failure> {
        let whereabouts =
            call.configuration.find("ipam").and_then(|ipam| ipam.find("type")?.as_str())
                == Some("whereabouts");
        let settings = settings(whereabouts || CniArgs::name_a_pod(&call.args))?;
        (self.log)(&settings.log, &|| self.subject(call));
        self.surroundings.is_late_after(Late::of(
            &text(&self.environment.call.command).unwrap_or_default(),
            call,
            &settings,
        ));
        let machine = self.surroundings.machine()?;
        let node = machine::node_name(&self.environment.node, &settings, flat)?;
        let debts = self.surroundings.debts(&settings);
        let debts = Rc::new(if self.surroundings.is_trial() { debts.frozen() } else { debts });
        Ok(CallContext {
            settings,
            node,
            machine,
            debts,
            surroundings: Rc::clone(&self.surroundings),
        })
    }
}

impl Ipam<'_> {
    /// Returns what the call is about. The variables were checked before the call began.
    fn subject(&self, call: &Call) -> Subject {
        Subject {
            verb: text(&self.environment.call.command).unwrap_or_default(),
            // A DEL ignores errors in the arguments.
            pod: CniArgs::parse(&call.args).ok().and_then(|args| args.pod),
            sandbox: text(&self.environment.call.container_id)
                .zip(text(&self.environment.call.ifname)),
            network: call.network.to_string(),
        }
    }
}

impl Plugin for Ipam<'_> {
    fn add<'p>(&'p self, call: &Call, sandbox: &Sandbox) -> Result<Box<dyn Added + 'p>, CniError> {
        let allocated = add::add(self, call, sandbox)?;
        Ok(Box::new(allocated))
    }

    fn del(&self, call: &Call, sandbox: &Sandbox) -> Result<(), CniError> {
        Ok(del::del(self, call, sandbox)?)
    }

    fn check(&self, call: &Call, sandbox: &Sandbox, previous: &[Ip]) -> Result<(), CniError> {
        Ok(check::check(self, call, sandbox, previous)?)
    }

    fn gc(&self, call: &Call, valid: &Attachments) -> Result<(), CniError> {
        Ok(gc::gc(self, call, valid)?)
    }

    fn status(&self, call: &Call) -> Result<(), CniError> {
        Ok(status::status(self, call)?)
    }
}
