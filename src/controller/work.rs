//! The queue of work, and who does it when.
//!
//! Each piece of work is done by one task at a time. If something changes meanwhile, it is looked
//! at again afterwards. Work that fails is repeated after a while that grows.

use super::leaks::Leaks;
use super::metrics::Metrics;
use super::overview::{Observed, PoolNumbers};
use super::pool::PoolId;
use super::requests::{Failure, Requests};
use super::sent_events::SentEvents;
use super::state::{State, Work};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How many pieces of work are done at the same time.
const AT_ONCE: usize = 48;
/// Of so many pieces of work, one is a pool, however many others wait.
const TURN_OF_POOLS: usize = 4;
/// The pause after the first failure, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often everything is looked at, even if nothing seems to have changed.
const REVIEW: Duration = Duration::from_secs(300);

/// When a piece of work must be looked at again, if nothing changes.
pub type Again = Option<Duration>;

/// Everything that the tasks share.
pub struct Controller {
    /// The requests.
    pub requests: Requests,
    /// What is known of the cluster.
    pub state: Rc<RefCell<State>>,
    /// The metrics.
    pub(super) metrics: Rc<Metrics>,
    /// What is known for leak candidates.
    pub leaks: Rc<Leaks>,
    leading: watch::Receiver<bool>,
    pending: RefCell<Pending>,
    running: RefCell<HashMap<Work, bool>>,
    failures: RefCell<HashMap<Work, u32>>,
    changed: Notify,
    /// The highest revision of the API server that was seen.
    pub highest: Cell<u64>,
    /// Tells the watches to read everything from the beginning.
    pub again: watch::Sender<()>,
    /// The events of the last minutes.
    pub sent: RefCell<SentEvents>,
    /// The pools whose numbers will be looked at soon.
    pub planned: RefCell<HashSet<Rc<PoolId>>>,
    /// The host, which is the pod, for events.
    pub host: String,
    /// Whether the answers of others have been adopted since this replica leads.
    pub has_begun: Cell<bool>,
}

/// Work that waits. Each piece is there once.
#[derive(Default)]
struct Pending {
    /// Everything but pools.
    order: VecDeque<Work>,
    /// Looks at pools. Thousands of them must not keep a claim waiting.
    pools: VecDeque<Work>,
    known: HashSet<Work>,
    taken: usize,
}

impl Pending {
    fn add(&mut self, work: Work) {
        if self.known.insert(work.clone()) {
            match work {
                Work::Pool(_) => self.pools.push_back(work),
                Work::Claim(_) | Work::Allocation(_) | Work::Adoption(_) | Work::IpamClaim(_) => {
                    self.order.push_back(work);
                }
            }
        }
    }

    /// Takes the next piece: usually not a pool, if there is another one.
    fn take(&mut self) -> Option<Work> {
        self.taken = self.taken.wrapping_add(1);
        let work = match self.taken.is_multiple_of(TURN_OF_POOLS) {
            true => self.pools.pop_front().or_else(|| self.order.pop_front()),
            false => self.order.pop_front().or_else(|| self.pools.pop_front()),
        }?;
        self.known.remove(&work);
        Some(work)
    }
}

impl Controller {
    /// Returns a controller that knows nothing yet.
    #[must_use]
    pub fn new(
        requests: Requests,
        state: Rc<RefCell<State>>,
        metrics: Rc<Metrics>,
        leading: watch::Receiver<bool>,
    ) -> Self {
        Self {
            requests,
            state,
            leaks: Rc::default(),
            metrics,
            leading,
            pending: RefCell::default(),
            running: RefCell::default(),
            failures: RefCell::default(),
            changed: Notify::new(),
            highest: Cell::new(0),
            again: watch::Sender::new(()),
            sent: RefCell::default(),
            planned: RefCell::default(),
            host: host(),
            has_begun: Cell::new(false),
        }
    }

    /// Returns whether this replica writes.
    #[must_use]
    pub fn leads(&self) -> bool {
        *self.leading.borrow()
    }

    /// Adds work. What is in the queue already stays where it is.
    pub fn add(&self, work: impl IntoIterator<Item = Work>) {
        let mut pending = self.pending.borrow_mut();
        for work in work {
            pending.add(work);
        }
        self.changed.notify_one();
    }

    /// Tries at once what waits because it failed: the API server was away, and answers again.
    pub(super) fn try_again(&self) {
        let failed: Vec<Work> = self.failures.borrow_mut().drain().map(|(work, _)| work).collect();
        self.add(failed);
    }

    /// Notes the revision of an object that a watch told of.
    pub fn saw(&self, metadata: &k8s::api::ObjectMeta) {
        let revision = metadata.resource_version.as_deref().and_then(|text| text.parse().ok());
        self.highest.set(self.highest.get().max(revision.unwrap_or_default()));
    }

    /// Does the work, without end, while this replica leads.
    pub async fn run(self: Rc<Self>) {
        let mut leading = self.leading.clone();
        let mut review = tokio::time::interval(REVIEW);
        loop {
            if !*leading.borrow_and_update() {
                self.has_begun.set(false);
                if leading.changed().await.is_err() {
                    return;
                }
                continue;
            }
            if self.state.borrow().is_synced() {
                if !self.has_begun.get() && !self.begin().await {
                    tokio::time::sleep(FIRST_PAUSE).await;
                    continue;
                }
                self.start_all();
            }
            tokio::select! {
                () = self.changed.notified() => {}
                _ = leading.changed() => {}
                _ = review.tick() => self.add(self.state.borrow().everything()),
            }
        }
    }

    /// Reads the answers as they are now, so that none of them is given again.
    async fn begin(&self) -> bool {
        match self.read_answers().await {
            Ok(()) => {
                self.has_begun.set(true);
                self.add(self.state.borrow().everything());
                true
            }
            Err(failure) => {
                tracing::warn!("cannot begin: {failure}");
                false
            }
        }
    }

    fn start_all(self: &Rc<Self>) {
        while self.running.borrow().len() < AT_ONCE {
            let next = self.pending.borrow_mut().take();
            let Some(work) = next else { break };
            if let Some(again) = self.running.borrow_mut().get_mut(&work) {
                *again = true;
                continue;
            }
            self.running.borrow_mut().insert(work.clone(), false);
            tokio::task::spawn_local(Rc::clone(self).do_one(work));
        }
    }

    async fn do_one(self: Rc<Self>, work: Work) {
        let begun = Instant::now();
        let outcome = match &work {
            Work::Claim(name) => self.see_to_claim(name).await,
            Work::Pool(id) => self.see_to_pool(id).await,
            Work::Allocation(name) => self.see_to_allocation(name).await,
            Work::Adoption(name) => self.adopt(name).await,
            Work::IpamClaim(name) => self.see_to_ipam_claim(name).await,
        };
        let counted = match &outcome {
            Ok(None) => "done",
            Ok(Some(_)) => "waiting",
            Err(_) => "failed",
        };
        self.metrics.reconcile(work.kind(), counted, begun.elapsed());
        let is_changed = self.running.borrow_mut().remove(&work).unwrap_or_default();
        match outcome {
            Ok(again) => {
                self.failures.borrow_mut().remove(&work);
                if is_changed {
                    self.add([work]);
                } else if let Some(pause) = again {
                    self.add_after(work, pause);
                }
            }
            Err(failure) => {
                let pause = self.pause_after_failure(&work);
                tracing::warn!("{work:?}: {failure}");
                self.add_after(work, pause);
            }
        }
        self.changed.notify_one();
    }

    fn pause_after_failure(&self, work: &Work) -> Duration {
        let mut failures = self.failures.borrow_mut();
        let count = failures.entry(work.clone()).or_default();
        let pause = FIRST_PAUSE.saturating_mul(1 << (*count).min(16)).min(LONGEST_PAUSE);
        *count += 1;
        pause
    }

    fn add_after(self: &Rc<Self>, work: Work, pause: Duration) {
        let this = Rc::clone(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep_until(Instant::now() + pause).await;
            this.add([work]);
        });
    }
}

impl Observed for Controller {
    fn is_synced(&self) -> bool {
        self.state.borrow().is_synced()
    }

    fn pools(&self) -> Vec<PoolNumbers> {
        self.state.borrow().pool_numbers()
    }

    fn leaks(&self) -> Vec<(&'static str, u64)> {
        let counts = self.leaks.counts(Instant::now()).unwrap_or_default();
        counts.into_iter().map(|(evidence, count)| (evidence.word(), count)).collect()
    }
}

/// Returns the time of the day.
#[allow(clippy::disallowed_methods, reason = "no test of the controller sets the time")]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    // The API server wants one in each event.
    Some(name.to_string_lossy().into_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or("-".to_owned())
}

/// How a piece of work ended.
pub type Outcome = Result<Again, Failure>;
