//! The behaviors that every store has: each is one test per store. A new store is complete when it
//! passes them. The store in memory passes them too, so that results of tests with it are valid.

use hereabouts::addr::{AddrSet, Subnet};
#[cfg(feature = "kube")]
use hereabouts::environment::ProxyVariables;
use hereabouts::ipam::{
    Allocation, Attachment, Candidates, ContainerId, IfName, NetworkName, NodeName, Part, PodRef,
    Record, Scope, Slot, Source,
};
use hereabouts::plugin::add::allocate;
use hereabouts::plugin::ask::Ask;
use hereabouts::retry::Deadline;
use hereabouts::store::file::FileStore;
use hereabouts::store::memory::MemoryStore;
use hereabouts::store::node_identity::NodeIdentity;
use hereabouts::store::{Access, Claim, Filter, Rehome, Release, Session, Store};
use std::time::Duration;

pub(crate) fn host(node: &str) -> NodeIdentity {
    NodeIdentity {
        node: NodeName::parse(node).unwrap(),
        machine_id: Some(format!("machine of {node}")),
        boot_id: "today".to_owned(),
    }
}

pub(crate) fn attachment(node: &str, container: &str) -> Attachment {
    Attachment {
        node: NodeName::parse(node).unwrap(),
        network: NetworkName::parse("net1").unwrap(),
        container: ContainerId::parse(container).unwrap(),
        ifname: IfName::parse("eth0").unwrap(),
    }
}

pub(crate) fn record(node: &str, container: &str, pod: Option<&str>) -> Record {
    Record {
        attachment: attachment(node, container),
        pod: pod.map(|name| PodRef {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: None,
        }),
        netns: None,
        view: None,
        boot_id: "today".to_owned(),
        since: std::time::UNIX_EPOCH,
        source: Source::Dynamic,
        part: Part { index: 0, of: 1 },
        prefix: 29,
        gateway: None,
    }
}

pub(crate) fn candidates(subnet: &str) -> AddrSet {
    AddrSet::from_range(&Subnet::parse(subnet).unwrap().usable())
}

pub(crate) fn open(store: &dyn Store) -> Box<dyn Session + '_> {
    store.open(Access::Allocate, Deadline::after(Duration::from_secs(120))).unwrap()
}

pub(crate) fn claim(
    session: &mut dyn Session,
    subnet: &str,
    record: &Record,
) -> Option<Allocation> {
    match session.claim(&Scope::default(), &candidates(subnet), record).unwrap() {
        Claim::Claimed(allocation) => Some(allocation),
        Claim::Full => None,
    }
}

fn text(allocation: Option<Allocation>) -> String {
    allocation.map_or_else(|| "full".to_owned(), |allocation| allocation.address.to_string())
}

/// Makes each behavior a function, an entry of [`LIST`], and a test on every store.
macro_rules! behaviors {
    ($($(#[$doc:meta])* fn $name:ident($store:ident) $body:block)*) => {
        $($(#[$doc])* fn $name($store: &dyn Store) $body)*

        pub(crate) const LIST: &[Behavior] = &[$((stringify!($name), $name)),*];

        mod in_memory {
            $(#[test] fn $name() { super::in_memory(super::$name) })*
        }
        mod in_files {
            $(#[test] fn $name() { super::in_files(super::$name) })*
        }
        mod in_files_on_a_disk_in_memory {
            $(#[test] fn $name() { super::on_a_disk_in_memory(super::$name) })*
        }
    };
}

/// A behavior that every store has, and its name.
pub(crate) type Behavior = (&'static str, fn(&dyn Store));

behaviors! {
    fn the_lowest_free_address_comes_first_a_freed_one_again(store) {
        let mut session = open(store);
        let first = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", None)).unwrap();
        assert_eq!(first.address.to_string(), "10.0.0.1");
        assert_eq!(text(claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c2", None))), "10.0.0.2");
        assert_eq!(session.release(&first).unwrap(), Release::Done);
        assert_eq!(text(claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c3", None))), "10.0.0.1");
    }

    fn a_full_range_is_full_until_one_is_freed(store) {
        let mut session = open(store);
        let held: Vec<_> = (1..=6).map(|n| claim(session.as_mut(), "10.0.0.0/29", &record("n1", &format!("c{n}"), None)).unwrap()).collect();
        assert!(claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c7", None)).is_none());
        assert!(!store.has_room(&Scope::default(), &candidates("10.0.0.0/29")).unwrap());
        session.release(&held[3]).unwrap();
        assert!(store.has_room(&Scope::default(), &candidates("10.0.0.0/29")).unwrap());
        assert_eq!(text(claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c8", None))), "10.0.0.4");
    }

    fn an_empty_set_of_candidates_is_full(store) {
        let mut empty = candidates("10.0.0.0/29");
        empty.remove(&Subnet::parse("10.0.0.0/8").unwrap().whole());
        let claimed = open(store).claim(&Scope::default(), &empty, &record("n1", "c1", None)).unwrap();
        assert!(matches!(claimed, Claim::Full));
    }

    fn a_range_of_one_address_is_given_once_and_has_no_room_then(store) {
        let mut session = open(store);
        let part = |index| Record { part: Part { index, of: 2 }, ..record("n1", "c1", None) };
        let first = claim(session.as_mut(), "10.0.0.7/32", &part(0)).unwrap();
        assert!(!store.has_room(&Scope::default(), &candidates("10.0.0.7/32")).unwrap());
        assert!(claim(session.as_mut(), "10.0.0.7/32", &part(1)).is_none());
        assert_eq!(session.holdings(&attachment("n1", "c1")).unwrap().held, [first]);
    }

    fn scopes_hold_the_same_address_apart(store) {
        let mut session = open(store);
        for scope in ["", "blue", "a/b", ".."] {
            let scope = Scope::parse(scope).unwrap();
            let claimed = session.claim(&scope, &candidates("10.0.0.0/29"), &record("n1", "c1", None)).unwrap();
            assert!(matches!(claimed, Claim::Claimed(a) if a.address.to_string() == "10.0.0.1"));
        }
    }

    fn holdings_are_those_of_the_whole_attachment(store) {
        let mut session = open(store);
        let held = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", None)).unwrap();
        assert_eq!(session.holdings(&attachment("n1", "c1")).unwrap().held, [held]);
        assert!(session.holdings(&attachment("n1", "c2")).unwrap().held.is_empty());
        assert!(session.holdings(&attachment("n2", "c1")).unwrap().held.is_empty());
    }

    fn a_release_of_what_another_holds_by_now_is_refused(store) {
        let mut session = open(store);
        let old = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", None)).unwrap();
        session.release(&old).unwrap();
        claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c2", None)).unwrap();
        assert_eq!(session.release(&old).unwrap(), Release::NotYours);
        assert_eq!(session.holdings(&attachment("n1", "c2")).unwrap().held.len(), 1);
    }

    fn a_release_is_refused_to_another_node(store) {
        let mut session = open(store);
        let mut held = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", None)).unwrap();
        held.record.attachment = attachment("n2", "c1");
        assert_eq!(session.release(&held).unwrap(), Release::NotYours);
        assert_eq!(session.holdings(&attachment("n1", "c1")).unwrap().held.len(), 1);
    }

    fn a_second_release_finds_nothing_of_ours(store) {
        let mut session = open(store);
        let held = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", None)).unwrap();
        assert_eq!(session.release(&held).unwrap(), Release::Done);
        assert_eq!(session.release(&held).unwrap(), Release::NotYours);
    }

    fn a_re_homed_address_has_the_new_holder_alone(store) {
        let mut session = open(store);
        let old = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", Some("web"))).unwrap();
        let moved = session.rehome(&old, &record("n1", "c2", Some("web"))).unwrap();
        assert!(matches!(moved, Rehome::Done(a) if a.address == old.address));
        assert!(session.holdings(&attachment("n1", "c1")).unwrap().held.is_empty());
        assert_eq!(session.holdings(&attachment("n1", "c2")).unwrap().held.len(), 1);
        assert_eq!(session.release(&old).unwrap(), Release::NotYours);
        assert!(matches!(session.rehome(&old, &record("n1", "c3", Some("web"))).unwrap(), Rehome::Changed));
    }

    fn a_move_that_comes_too_late_leaves_the_new_holder_what_it_holds(store) {
        let mut session = open(store);
        let old = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", Some("web"))).unwrap();
        session.rehome(&old, &record("n1", "c2", Some("web"))).unwrap();
        let again = Record { boot_id: "tomorrow".to_owned(), ..record("n1", "c2", Some("web")) };
        assert!(matches!(session.rehome(&old, &again).unwrap(), Rehome::Changed));
        let held = session.holdings(&attachment("n1", "c2")).unwrap().held;
        assert_eq!(held.len(), 1);
        assert_eq!(session.release(&held[0]).unwrap(), Release::Done);
    }

    fn an_attachment_can_be_re_homed_to_itself(store) {
        let mut session = open(store);
        let old = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", Some("web"))).unwrap();
        let to = Record { boot_id: "tomorrow".to_owned(), ..old.record.clone() };
        assert!(matches!(session.rehome(&old, &to).unwrap(), Rehome::Done(_)));
        let held = session.holdings(&attachment("n1", "c1")).unwrap().held;
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].record.boot_id, "tomorrow");
        // Found by the sequences of fuzz.rs: it was listed twice by node and twice by pod, because
        // the index keeps the old entry below the new one.
        let of_node = Filter { node: NodeName::parse("n1").ok(), ..Filter::default() };
        assert_eq!(store.list(&of_node).unwrap().count(), 1);
        let pod = old.record.pod.as_ref().unwrap();
        assert_eq!(session.holdings_of_pod(&old.record.attachment.network, pod, &old.record.attachment.ifname).unwrap().len(), 1);
        assert_eq!(session.release(&held[0]).unwrap(), Release::Done);
        assert!(session.holdings(&attachment("n1", "c1")).unwrap().held.is_empty());
    }

    // An index that fills its first gap put the new entry there, and removed it again.
    fn an_attachment_that_has_freed_its_first_address_can_be_re_homed_to_itself(store) {
        let mut session = open(store);
        let first = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", Some("web"))).unwrap();
        let second = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", Some("web"))).unwrap();
        let third = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", Some("web"))).unwrap();
        assert_eq!(session.release(&first).unwrap(), Release::Done);
        let to = Record { boot_id: "tomorrow".to_owned(), ..second.record.clone() };
        assert!(matches!(session.rehome(&second, &to).unwrap(), Rehome::Done(_)));
        let mut held = session.holdings(&attachment("n1", "c1")).unwrap().held;
        held.sort_by_key(|allocation| allocation.address);
        assert_eq!(held.iter().map(|a| a.address).collect::<Vec<_>>(), [second.address, third.address]);
        for held in held.iter().rev() {
            assert_eq!(session.release(held).unwrap(), Release::Done);
        }
        assert!(session.holdings(&attachment("n1", "c1")).unwrap().held.is_empty());
    }

    fn holdings_of_a_pod_are_those_of_its_name_whoever_the_container_is(store) {
        let mut session = open(store);
        claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", Some("web"))).unwrap();
        claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c2", Some("web"))).unwrap();
        claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c3", Some("db"))).unwrap();
        let network = NetworkName::parse("net1").unwrap();
        let of = |name: &str| {
            let pod = PodRef { namespace: "default".to_owned(), name: name.to_owned(), uid: None };
            session.holdings_of_pod(&network, &pod, &IfName::parse("eth0").unwrap()).unwrap().len()
        };
        assert_eq!((of("web"), of("db"), of("none")), (2, 1, 0));
    }

    fn several_addresses_of_one_attachment_are_kept_in_order_and_freed_one_by_one(store) {
        let mut session = open(store);
        for index in 0..3 {
            let part = Record { part: Part { index, of: 3 }, ..record("n1", "c1", None) };
            claim(session.as_mut(), "10.0.0.0/29", &part).unwrap();
        }
        for left in (0..3).rev() {
            let held = session.holdings(&attachment("n1", "c1")).unwrap().held;
            assert_eq!(held.iter().map(|a| a.record.part.index).collect::<Vec<_>>(), (0..=left).collect::<Vec<_>>());
            assert_eq!(session.release(&held[usize::from(left)]).unwrap(), Release::Done);
        }
        assert!(session.holdings(&attachment("n1", "c1")).unwrap().held.is_empty());
    }

    fn the_first_of_several_may_be_freed_first(store) {
        let mut session = open(store);
        for index in 0..3 {
            let part = Record { part: Part { index, of: 3 }, ..record("n1", "c1", None) };
            claim(session.as_mut(), "10.0.0.0/29", &part).unwrap();
        }
        for _ in 0..3 {
            let held = session.holdings(&attachment("n1", "c1")).unwrap().held;
            assert_eq!(session.release(&held[0]).unwrap(), Release::Done);
        }
        assert!(session.holdings(&attachment("n1", "c1")).unwrap().held.is_empty());
    }

    fn a_listing_holds_everything_and_what_a_filter_means(store) {
        let mut session = open(store);
        claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", None)).unwrap();
        claim(session.as_mut(), "2001:db8::/120", &record("n1", "c2", None)).unwrap();
        drop(session);
        let count = |filter: Filter| store.list(&filter).unwrap().map(Result::unwrap).count();
        assert_eq!(count(Filter::default()), 2);
        assert_eq!(count(Filter { node: NodeName::parse("n1").ok(), ..Filter::default() }), 2);
        assert_eq!(count(Filter { node: NodeName::parse("n2").ok(), ..Filter::default() }), 0);
        let network = |name: &str| Filter { node: NodeName::parse("n1").ok(), network: NetworkName::parse(name).ok(), ..Filter::default() };
        assert_eq!((count(network("net1")), count(network("net2"))), (2, 0));
        assert_eq!(count(Filter { scope: Scope::parse("blue").ok(), ..Filter::default() }), 0);
    }

    fn confirming_what_is_held_changes_nothing(store) {
        let mut session = open(store);
        let held = claim(session.as_mut(), "10.0.0.0/29", &record("n1", "c1", None)).unwrap();
        session.confirm(&held).unwrap();
        assert_eq!(session.holdings(&attachment("n1", "c1")).unwrap().held, [held]);
    }

    fn claims_go_past_the_end_of_a_shard_and_fill_holes_first(store) {
        let mut session = open(store);
        let mut held = Vec::new();
        for n in 0..600 {
            held.push(claim(session.as_mut(), "10.0.0.0/22", &record("n1", &format!("c{n}"), None)).unwrap());
        }
        assert_eq!(held[599].address.to_string(), "10.0.2.88");
        for hole in [100, 300] {
            session.release(&held[hole]).unwrap();
        }
        assert_eq!(text(claim(session.as_mut(), "10.0.0.0/22", &record("n1", "x", None))), "10.0.0.101");
        assert_eq!(text(claim(session.as_mut(), "10.0.0.0/22", &record("n1", "y", None))), "10.0.1.45");
        assert_eq!(text(claim(session.as_mut(), "10.0.0.0/22", &record("n1", "z", None))), "10.0.2.89");
    }

    fn an_undo_of_an_add_frees_its_own_record_and_no_later_one_of_its_attachment(store) {
        let first = record("n1", "c1", None);
        let candidates = Candidates { addresses: candidates("10.0.0.0/29"), prefix: 29, gateway: None };
        let slots = [Slot { part: first.part, source: Source::Dynamic, candidates: vec![candidates], fallback: Default::default() }];
        let (scope, limit) = (Scope::default(), Deadline::after(Duration::from_secs(20)));
        let (is_alive, caller_gone) = (|_: &Record| true, || false);
        let ask = Ask {
            scope: &scope,
            slots: &slots,
            record: &first,
            may_allocate: &|| Ok(()),
            is_alive: &is_alive,
            caller_gone: &caller_gone,
            account: None,
            freed: None,
            elsewhere: None,
            confirm: None,
            sticky: false,
        };
        let given = allocate(store, &ask, limit, Duration::from_secs(20)).unwrap();
        let mut session = open(store);
        session.release(&given.held[0]).unwrap();
        let later = Record { since: first.since + Duration::from_secs(1), ..first.clone() };
        assert_eq!(text(claim(session.as_mut(), "10.0.0.0/29", &later)), "10.0.0.1");
        drop(session);
        given.undo(store, limit).unwrap();
        let standing = open(store).holdings(&first.attachment).unwrap().held;
        assert_eq!(standing.iter().map(|allocation| allocation.record.since).collect::<Vec<_>>(), [later.since]);
    }
}

fn in_memory(behavior: fn(&dyn Store)) {
    behavior(&MemoryStore::new(NodeName::parse("n1").unwrap()));
}

fn in_files(behavior: fn(&dyn Store)) {
    let sandbox = crate::support::sandbox::Sandbox::new();
    behavior(&FileStore::new(sandbox.store(), host("n1")));
}

/// Faults and power losses are tested on a disk in memory, so it must behave like the real one.
fn on_a_disk_in_memory(behavior: fn(&dyn Store)) {
    let disk = crate::support::cached::CachedDisk::new(crate::support::cached::Image::new(), 1_000);
    behavior(&FileStore::on(disk, host("n1")));
}

/// On the real API server. All objects are removed in between.
#[cfg(feature = "kube")]
#[test]
fn the_kubernetes_store_passes_the_list() {
    use hereabouts::api_client::client::Client;
    use hereabouts::ipam::AllocationOrder;
    use hereabouts::store::kube::KubeStore;
    let cluster =
        match crate::support::cluster::Cluster::own(crate::support::cluster::Options::default()) {
            Ok(cluster) => cluster,
            Err(reason) => return skipped!("{reason}"),
        };
    for (name, behavior) in LIST {
        println!("{name}");
        let sandbox = crate::support::sandbox::Sandbox::new();
        let client = Client::open(&cluster.kubeconfig(), &ProxyVariables::default()).unwrap();
        behavior(&KubeStore::new(client, &sandbox.store(), host("n1"), AllocationOrder::Auto));
        cluster.text(&["delete", "--raw", "/apis/hereabouts.dev/v1alpha1/ipallocations"]);
    }
}

#[test]
fn the_file_store_leaves_no_file_when_all_is_freed() {
    let sandbox = crate::support::sandbox::Sandbox::new();
    let store = FileStore::new(sandbox.store(), host("n1"));
    let mut session = open(&store);
    let held: Vec<_> = (0..40)
        .map(|n| {
            claim(
                session.as_mut(),
                "10.0.0.0/24",
                &record("n1", &format!("c{n}"), Some(&format!("p{}", n % 7))),
            )
            .unwrap()
        })
        .collect();
    for allocation in held {
        session.release(&allocation).unwrap();
    }
    drop(session);
    assert_eq!(sandbox.files(), ["format", "nodes/n1/@machine-id"]);
}
