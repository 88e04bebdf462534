//! The import of a sandbox that another plugin has served, beside the calls of its runtime and of
//! other pods. Its caller was told the address before the import, and relies on it until a DEL.

use super::calls::{Answered, Around, Call, Kind, What};
use super::promise::{alone, then};
use super::scheduler::To;
use super::world::{Event, Holder, Shown, World};
use super::{Setting, Sum, never, prepared};
use hereabouts::cli::import::hold::{Given, Interface, Outcome, hold};
use hereabouts::ipam::{Attachment, ContainerId, IfName, NetworkName, Scope};
use hereabouts::plugin::Surroundings;
use hereabouts::retry::Deadline;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// The sandbox.
const THEIRS: &str = "w1";
const IMPORT: Call = Call::new(What::Import(THEIRS));
const DEL: Call = Call::new(What::Del(THEIRS));

const fn add(container: &'static str) -> Call {
    Call::new(What::Add(container, 1))
}

/// Returns its address. Three addresses below it are held, and one is free.
fn address() -> IpAddr {
    "10.0.0.5".parse().unwrap()
}

fn holder() -> Holder {
    ("n1", THEIRS.to_owned())
}

/// Imports the sandbox, as `import host-local` does, and `import whereabouts` on a node.
pub(super) fn import(around: &Around, container: &str) -> Answered {
    let host = around.host(around.call.node);
    let machine = around.machine().map_err(|failure| (1, format!("{failure:?}")))?;
    let attachment = Attachment {
        node: host.node.clone(),
        network: NetworkName::parse("net1").unwrap(),
        container: ContainerId::parse(container).unwrap(),
        ifname: IfName::parse("net1").unwrap(),
    };
    let seen = around.see(&machine, Some(Path::new("/var/run/netns/no-such-namespace")));
    let scope = Scope::default();
    let interface = Interface {
        scope: &scope,
        record: machine.record(attachment, seen),
        addresses: &[Given { address: address(), prefix: 29, gateway: None }],
    };
    let holder: Holder = (around.call.node, container.to_owned());
    // The runtime keeps its result until a DEL has succeeded.
    let still_runs = || {
        around.scheduler.step(
            around.thread,
            || format!("looks whether {holder:?} runs"),
            |world, touches| {
                touches.read(("holder", &holder));
                !is_ended(world, &holder)
            },
        )
    };
    let deadline = Deadline::after(Duration::from_secs(20));
    let outcomes = hold(around.store(host).as_ref(), &interface, &still_runs, deadline)
        .map_err(|error| (11, error.to_string()))?;
    match &outcomes[..] {
        [Outcome::Left { reason, .. }] => Err((1, reason.clone())),
        [_] => Ok(()),
        others => Err((999, format!("{others:?}"))),
    }
}

fn is_ended(world: &World, holder: &Holder) -> bool {
    world.events.iter().any(|event| matches!(event, Event::Ended(_, ended) if ended == holder))
}

/// Returns the world in which the other plugin has given the address.
fn beginning(setting: &Setting) -> World {
    told(prepared(setting))
}

fn told(mut world: World) -> World {
    let told = Shown { holder: holder(), address: address(), record: None };
    world.events.push(Event::Told(vec![told]));
    world
}

/// The calls that run together with the import. Those that end the sandbox give its address to the
/// second of two others.
const BESIDE: &[Call] = &[
    IMPORT,
    DEL,
    add("c1"),
    add("c1").lost(),
    Call::new(What::Gc),
    Call::new(What::Sweep),
    Call::new(What::Repair),
    Call::new(What::Release(THEIRS)),
    Call::new(What::Serial(&[DEL, add("c1"), add("c2")])),
    Call::new(What::Serial(&[DEL, add("c1"), add("c2").on("n2")])),
    Call::new(What::Serial(&[IMPORT, DEL, add("c1"), add("c2")])),
];

fn beside(kind: Kind) {
    let mut sum = Sum::new(kind, "imports");
    let world = beginning(&sum.setting);
    for other in BESIDE {
        for calls in [[IMPORT, *other], [*other, IMPORT]] {
            sum.add(&world, &calls, never, &mut |explorer| explorer.explore(0, 2));
        }
    }
    sum.end();
}

/// What a killed import has left is completed by the next one, and nobody else gets the address until
/// the sandbox has ended.
fn killed(kind: Kind) {
    let mut sum = Sum::new(kind, "killed imports");
    // Until an import is done, nobody knows the address.
    let world = prepared(&sum.setting);
    let mut left = Vec::new();
    let twice = Call::new(What::Serial(&[IMPORT, IMPORT]));
    sum.add(&world, &[twice], never, &mut |explorer| left = explorer.end_everywhere(To::Killed));
    assert!(5 < left.len(), "{}", left.len());
    for world in left {
        let world = told(then(&sum.setting, world, &[IMPORT]));
        let others = [add("c1"), add("c2")];
        sum.add(&world, &others, never, &mut |explorer| explorer.explore(0, 0));
        let ended = then(&sum.setting, world, &[DEL, add("c1"), add("c2")]);
        let record = ended.record_at(address());
        assert!(record.is_some());
        assert_eq!(then(&sum.setting, ended, &[IMPORT]).record_at(address()), record);
    }
    sum.end();
}

/// The import leaves no record of a sandbox that has ended, and takes no address from its holder.
fn too_late(kind: Kind) {
    let mut sum = Sum::new(kind, "late imports");
    let setting = &sum.setting;
    let ended = then(setting, beginning(setting), &[DEL, IMPORT]);
    assert_eq!(ended.record_at(address()), None);
    let given = then(setting, prepared(setting), &[add("c1"), add("c2")]);
    let record = given.record_at(address());
    assert!(record.is_some());
    let (given, answered) = alone(setting, given, IMPORT);
    let words = answered.unwrap_err().1;
    assert!(words.contains("held by") && words.contains("c2"), "{words}");
    assert_eq!(given.record_at(address()), record);
    sum.add(&given, &[DEL], never, &mut |explorer| explorer.explore(0, 0));
    sum.end();
}

on_each_store! {
    an_import_beside_each_call_on_local_files, an_import_beside_each_call_on_shared_files,
        an_import_beside_each_call_on_kubernetes: beside;
    a_killed_import_on_local_files, a_killed_import_on_shared_files, a_killed_import_on_kubernetes:
        killed;
    a_late_import_on_local_files, a_late_import_on_shared_files, a_late_import_on_kubernetes:
        too_late;
}
