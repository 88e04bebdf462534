//! Tests what settling a debt frees, and what it leaves.

use super::settle::{PATIENCE, settle};
use super::{Account, Answer, Debt, Debts, Owed, Place, Settler, Since, note};
use crate::addr::{AddrSet, Range};
use crate::config::Settings;
use crate::ipam::{
    Allocation, Attachment, ContainerId, IfName, NetworkName, NodeName, Record, Scope,
};
use crate::plugin::evidence::{Machine, Sighting};
use crate::retry::Deadline;
use crate::store::memory::MemoryStore;
use crate::store::{Access, Claim, Store, StoreError};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

fn attachment() -> Attachment {
    Attachment {
        node: NodeName::parse("n1").unwrap(),
        network: NetworkName::parse("net1").unwrap(),
        container: ContainerId::parse("c1").unwrap(),
        ifname: IfName::parse("eth0").unwrap(),
    }
}

fn sandbox() -> Record {
    Machine::new("today".to_owned(), None, std::time::UNIX_EPOCH)
        .record(attachment(), Sighting::default())
}

fn store() -> MemoryStore {
    MemoryStore::new(NodeName::parse("n1").unwrap())
}

/// Claims the lowest free one of two addresses.
fn claim(store: &MemoryStore) -> Allocation {
    let range = Range::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()).unwrap();
    let candidates = AddrSet::from_range(&range);
    // Two records of one address differ only in what the store numbers.
    let record = Record { prefix: 24, view: None, ..sandbox() };
    let mut session = store.open(Access::Allocate, Deadline::after(PATIENCE)).unwrap();
    match session.claim(&Scope::default(), &candidates, &record).unwrap() {
        Claim::Claimed(allocation) => allocation,
        Claim::Full => panic!("full"),
    }
}

fn debt(held: Option<Vec<Allocation>>, answered: Answer, exclusive: bool) -> Debt {
    let since =
        Since { time: std::time::UNIX_EPOCH, boot_id: "today".to_owned(), uptime: Duration::ZERO };
    let store = Place { data_dir: "/x".into(), kubeconfig: None, id: None };
    Debt {
        attachment: attachment(),
        store,
        held,
        answered,
        exclusive,
        seen: sandbox(),
        reason: String::new(),
        since,
    }
}

fn settled(store: &MemoryStore, debt: &Debt, is_dead: bool) -> (bool, usize) {
    let done = settle(store, debt, &|_| is_dead, None, Deadline::after(PATIENCE)).unwrap();
    (done, store.records().len())
}

#[test]
fn a_living_sandbox_is_freed_only_where_the_runtime_was_told_that_it_ended() {
    let cases = [
        // answered, with the lock, known
        (Answer::Success, true, true, true),
        (Answer::Success, false, true, false),
        (Answer::Success, true, false, false),
        (Answer::Error, true, true, false),
        (Answer::Error, false, false, false),
    ];
    for (answered, exclusive, known, freed) in cases {
        let store = store();
        let held = claim(&store);
        let debt = debt(known.then(|| vec![held]), answered, exclusive);
        assert_eq!(
            settled(&store, &debt, false),
            (freed, usize::from(!freed)),
            "{answered:?} {exclusive} {known}"
        );
        assert_eq!(settled(&store, &debt, true), (true, 0));
    }
}

#[test]
fn another_record_of_the_same_attachment_and_address_is_not_the_one_that_is_owed() {
    let store = store();
    let owed = claim(&store);
    let debt = debt(Some(vec![owed.clone()]), Answer::Success, true);
    store.open(Access::Release, Deadline::after(PATIENCE)).unwrap().release(&owed).unwrap();
    let later = claim(&store);
    assert_eq!(later.address, owed.address);
    assert_eq!(settled(&store, &debt, false), (false, 1));
    assert_eq!(store.records(), [later]);
}

/// The debts of one attachment in a directory of one test.
struct Ledger(PathBuf);

impl Ledger {
    fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("hereabouts-debts-{test}-{}", std::process::id())))
    }

    fn account(&self) -> Account {
        let place = Place { data_dir: "/x".into(), kubeconfig: None, id: None };
        Account::new(
            Rc::new(Debts::new(self.0.clone())),
            &place.settings().unwrap().store,
            attachment(),
        )
    }

    fn leave(&self, held: Vec<Allocation>, answered: Answer) {
        let error = StoreError::Changed;
        let owed =
            Owed { error: &error, held: Some(held), exclusive: true, answered, seen: sandbox() };
        self.account().leave(owed).unwrap();
    }

    fn settle_all(&self, store: &Rc<MemoryStore>) -> usize {
        let node = NodeName::parse("n1").unwrap();
        let open = |_: &Settings| -> Result<Box<dyn Store>, StoreError> {
            Ok(Box::new(Shared(Rc::clone(store))))
        };
        let settler =
            Settler { node: &node, only: None, open: &open, is_dead: &|_| false, freed: None };
        Debts::new(self.0.clone()).settle_all(&settler, &mut |_, _| {}).unwrap();
        Debts::new(self.0.clone()).list().unwrap().len()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One store that is opened again and again.
struct Shared(Rc<MemoryStore>);

impl Store for Shared {
    fn lock_attachment(
        &self,
        attachment: &Attachment,
        access: Access,
        deadline: Deadline,
    ) -> Result<Option<Box<dyn crate::store::disk::Held>>, StoreError> {
        self.0.lock_attachment(attachment, access, deadline)
    }
    fn try_lock_attachment(
        &self,
        attachment: &Attachment,
    ) -> Result<Option<Box<dyn crate::store::disk::Held>>, StoreError> {
        self.0.try_lock_attachment(attachment)
    }
    fn noted(&self, attachment: &Attachment) -> Option<Vec<Allocation>> {
        self.0.noted(attachment)
    }
    fn open(
        &self,
        access: Access,
        deadline: Deadline,
    ) -> Result<Box<dyn crate::store::Session + '_>, StoreError> {
        self.0.open(access, deadline)
    }
    fn list(&self, filter: &crate::store::Filter) -> Result<crate::store::Listing<'_>, StoreError> {
        self.0.list(filter)
    }
    fn ready(&self) -> Result<(), StoreError> {
        self.0.ready()
    }
    fn has_room(&self, scope: &Scope, candidates: &AddrSet) -> Result<bool, StoreError> {
        self.0.has_room(scope, candidates)
    }
}

#[test]
fn a_debt_is_settled_once_and_not_while_a_call_of_its_attachment_is_under_way() {
    let (ledger, store) = (Ledger::new("once"), Rc::new(store()));
    ledger.leave(vec![claim(&store)], Answer::Success);
    let lock = store.try_lock_attachment(&attachment()).unwrap().unwrap();
    assert_eq!((ledger.settle_all(&store), store.records().len()), (1, 1));
    let place =
        Place { data_dir: "/x".into(), kubeconfig: None, id: None }.settings().unwrap().store;
    let deadline = Deadline::after(PATIENCE);
    Debts::new(ledger.0.clone()).settle_of(
        &attachment(),
        &place,
        store.as_ref(),
        &|_| false,
        deadline,
    );
    assert_eq!(store.records().len(), 1);
    drop(lock);
    assert_eq!((ledger.settle_all(&store), store.records().len()), (0, 0));
    claim(&store);
    assert_eq!((ledger.settle_all(&store), store.records().len()), (0, 1));
}

/// An ADD answers with the very record that a debt names: nothing is owed from before its answer
/// on.
#[test]
fn what_an_add_answers_with_is_owed_no_more() {
    let (ledger, store) = (Ledger::new("add"), Rc::new(store()));
    let held = claim(&store);
    ledger.leave(vec![held.clone()], Answer::Error);
    let account = ledger.account();
    let deadline = Deadline::after(PATIENCE);
    let unsettled = account.settle_first(store.as_ref(), &|_| false, None, deadline).unwrap();
    // A call that is killed here has answered nothing, and the debt remains.
    assert_eq!(ledger.settle_all(&store), 1);
    account.cancel(&unsettled.unwrap()).unwrap();
    assert_eq!((ledger.settle_all(&store), store.records()), (0, vec![held]));
    // If the runtime was told that the attachment ended, everything is given back first.
    ledger.leave(store.records(), Answer::Success);
    assert!(
        ledger
            .account()
            .settle_first(store.as_ref(), &|_| false, None, deadline)
            .unwrap()
            .is_none()
    );
    assert_eq!((ledger.settle_all(&store), store.records().len()), (0, 0));
}

#[test]
fn a_debt_is_read_back_as_it_was_written() {
    let store = store();
    for (held, answered, exclusive) in
        [(Some(vec![claim(&store)]), Answer::Success, true), (None, Answer::Error, false)]
    {
        let debt = debt(held, answered, exclusive);
        let bytes = note::encode(&debt).unwrap();
        assert_eq!(note::encode(&note::decode(&bytes).unwrap()).unwrap(), bytes);
    }
}
