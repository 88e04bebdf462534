//! Which of several replicas writes: the one that holds a Lease.
//!
//! Another replica takes the Lease over when its record has not changed for the whole duration. It
//! measures this with its own clock from the moment at which it saw the last change, so it compares
//! no times of two machines. Each change names the resourceVersion that was read, so of two
//! replicas that take over, one is refused.
//!
//! A process that was stopped and continues still believes for a moment that it holds the Lease.
//! Therefore the Lease only saves work, and every write must be safe without it.

use super::client::explained;
use anyhow::anyhow;
use k8s::api::PostParams;
use k8s::{Api, Client};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// The name of the Lease.
pub const NAME: &str = "hereabouts-controller";

/// How long another replica's record may say that it is valid.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a replica that ends tries to release the Lease.
const RELEASE: Duration = Duration::from_secs(2);

/// The times of a Lease.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How long the record must be unchanged before another replica takes over.
    pub duration: Duration,
    /// The holder gives up if it has not renewed the Lease for this time. It must be shorter than
    /// `duration`.
    pub renew_deadline: Duration,
    /// The time between two attempts.
    pub retry: Duration,
}

impl Default for Times {
    /// Returns the times that Kubernetes' own components use.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Takes the Lease as soon as that is possible, keeps it, and says in `leading` whether it is held.
/// Returns when `stopping` is true: it has then released the Lease, and another replica takes it at
/// its next attempt. `identity` must differ from that of every other process.
///
/// # Errors
/// The Lease is lost. `leading` is false then, but a write may still be under way.
pub async fn hold(
    client: Client,
    namespace: &str,
    identity: &str,
    times: Times,
    leading: watch::Sender<bool>,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let replica = Replica { api: Api::namespaced(client, namespace), identity, times };
    let ended = tokio::select! {
        // This drops a request that is under way. It may still be carried out: release reads again.
        _ = stopping.wait_for(|stopping| *stopping) => Ok(()),
        lost = replica.lead(&leading) => Err(lost),
    };
    leading.send_replace(false);
    if ended.is_ok() {
        replica.release().await;
    }
    ended
}

struct Replica<'r> {
    api: Api<Lease>,
    identity: &'r str,
    times: Times,
}

/// A Lease that this replica holds.
struct Held {
    lease: Lease,
    /// When the last change that succeeded was sent. The record is not older than this.
    renewed: Instant,
}

impl Replica<'_> {
    /// Takes the Lease and keeps it. Returns why it is lost.
    async fn lead(&self, leading: &watch::Sender<bool>) -> anyhow::Error {
        let held = self.take().await;
        tracing::info!("{} leads: it holds the lease {NAME}", self.identity);
        leading.send_replace(true);
        self.keep(held).await
    }

    /// Returns when this replica has the Lease.
    async fn take(&self) -> Held {
        let mut seen = None;
        let mut said = String::new();
        loop {
            match self.try_to_take(&mut seen).await {
                Ok(Some(held)) => return held,
                Ok(None) => said.clear(),
                Err(error) => {
                    // Once, and not at each attempt.
                    let text = format!("{error:#}");
                    if said != text {
                        tracing::warn!("cannot take the lease {NAME}: {text}");
                        said = text;
                    }
                }
            }
            // Replicas that started together do not ask together.
            let part = RandomState::new().hash_one(0) % 200;
            sleep(self.times.retry * (800 + part as u32) / 1000).await;
        }
    }

    /// Returns `None` if another replica holds the Lease.
    async fn try_to_take(&self, seen: &mut Option<Seen>) -> anyhow::Result<Option<Held>> {
        let read = self.read().await?;
        if let Some(lease) = &read {
            let spec = lease.spec.clone().unwrap_or_default();
            if !is_free(&spec, self.identity, seen, self.times.duration, Instant::now()) {
                return Ok(None);
            }
        }
        self.put(read).await
    }

    /// Renews the Lease. Returns why it is lost.
    async fn keep(&self, mut held: Held) -> anyhow::Error {
        let mut trouble = anyhow!("the API server did not answer");
        loop {
            let deadline = held.renewed + self.times.renew_deadline;
            sleep_until(deadline.min(Instant::now() + self.times.retry)).await;
            match timeout_at(deadline, self.renew(&held.lease)).await {
                Ok(Ok(Some(renewed))) => held = renewed,
                Ok(Ok(None)) => return anyhow!("lost the lease {NAME}: another replica holds it"),
                Ok(Err(error)) => {
                    tracing::warn!("cannot renew the lease {NAME}: {error:#}");
                    trouble = error;
                }
                Err(_) => {}
            }
            if held.renewed + self.times.renew_deadline <= Instant::now() {
                return trouble.context(format!(
                    "lost the lease {NAME}: not renewed for {} s",
                    self.times.renew_deadline.as_secs()
                ));
            }
        }
    }

    /// Returns `None` if another replica holds the Lease.
    async fn renew(&self, lease: &Lease) -> anyhow::Result<Option<Held>> {
        if let Some(held) = self.put(Some(lease.clone())).await? {
            return Ok(Some(held));
        }
        // The record has changed. Someone may have edited or deleted it, or an earlier renewal was
        // carried out although its answer was lost.
        let read = self.read().await?;
        let holder = read.as_ref().and_then(holder).unwrap_or_default();
        if holder.is_empty() || holder == self.identity { self.put(read).await } else { Ok(None) }
    }

    /// Releases the Lease, if this replica holds it, so that another one need not wait until it
    /// expires.
    async fn release(&self) {
        let release = async {
            while let Some(mut lease) = self.read().await? {
                if holder(&lease) != Some(self.identity) {
                    break;
                }
                let spec = lease.spec.get_or_insert_default();
                spec.holder_identity = Some(String::new());
                spec.renew_time = Some(now());
                if self.write(lease).await?.is_some() {
                    tracing::info!("{} has released the lease {NAME}", self.identity);
                    break;
                }
            }
            anyhow::Ok(())
        };
        match timeout(RELEASE, release).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("cannot release the lease {NAME}: {error:#}"),
            Err(_) => tracing::warn!("cannot release the lease {NAME}: no answer"),
        }
    }

    async fn read(&self) -> anyhow::Result<Option<Lease>> {
        self.bounded(self.api.get_opt(NAME)).await?.map_err(|error| explained(&error))
    }

    /// Writes this replica and the time into the Lease as it was read, or creates the Lease.
    /// Returns `None` if the Lease is no longer as it was read.
    async fn put(&self, read: Option<Lease>) -> anyhow::Result<Option<Held>> {
        let mut lease = read.unwrap_or_default();
        let now = now();
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.identity) {
            spec.holder_identity = Some(self.identity.to_owned());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.renew_time = Some(now);
        spec.lease_duration_seconds = i32::try_from(self.times.duration.as_secs()).ok();
        let renewed = Instant::now();
        Ok(self.write(lease).await?.map(|lease| Held { lease, renewed }))
    }

    /// Returns `None` if the Lease is no longer as it was read.
    async fn write(&self, mut lease: Lease) -> anyhow::Result<Option<Lease>> {
        let parameters = PostParams::default();
        let written = if lease.metadata.resource_version.is_some() {
            self.bounded(self.api.replace(NAME, &parameters, &lease)).await?
        } else {
            lease.metadata.name = Some(NAME.to_owned());
            self.bounded(self.api.create(&parameters, &lease)).await?
        };
        match written {
            Ok(lease) => Ok(Some(lease)),
            Err(k8s::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(None),
            Err(error) => Err(explained(&error)),
        }
    }

    async fn bounded<T>(&self, request: impl Future<Output = T>) -> anyhow::Result<T> {
        timeout(self.times.renew_deadline / 2, request)
            .await
            .map_err(|_| anyhow!("the API server did not answer"))
    }
}

/// A record as it was last seen to change, and when that was.
struct Seen {
    spec: LeaseSpec,
    at: Instant,
}

/// Returns whether this replica may take the Lease: the record names no other replica, or it has
/// not changed for its duration.
fn is_free(
    spec: &LeaseSpec,
    identity: &str,
    seen: &mut Option<Seen>,
    duration: Duration,
    now: Instant,
) -> bool {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder.is_empty() || holder == identity {
        return true;
    }
    match seen {
        Some(seen) if seen.spec == *spec => {
            let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
            let valid = Duration::from_secs(seconds.unwrap_or(0)).min(LONGEST).max(duration);
            seen.at + valid <= now
        }
        _ => {
            *seen = Some(Seen { spec: spec.clone(), at: now });
            false
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

/// Returns the time for people and for `kubectl`. No replica compares it.
fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(holder: &str, transitions: i32, seconds: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_transitions: Some(transitions),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        }
    }

    /// Returns what a replica says about records that it sees at these seconds.
    fn verdicts(records: &[(u64, LeaseSpec)]) -> Vec<bool> {
        let start = Instant::now();
        let mut seen = None;
        records
            .iter()
            .map(|(second, spec)| {
                let now = start + Duration::from_secs(*second);
                is_free(spec, "me", &mut seen, Duration::from_secs(15), now)
            })
            .collect()
    }

    #[test]
    fn a_record_of_no_other_replica_is_free_at_once() {
        for holder in ["", "me"] {
            assert_eq!(verdicts(&[(0, record(holder, 0, 15))]), [true], "{holder}");
        }
        assert_eq!(verdicts(&[(0, LeaseSpec::default())]), [true]);
    }

    #[test]
    fn a_record_is_free_when_it_was_unchanged_for_its_duration() {
        let a = record("a", 0, 15);
        // The times in the record do not matter: the other machine's clock may be years behind.
        let mut old = a.clone();
        old.renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
        assert_eq!(
            verdicts(&[(100, old.clone()), (114, old.clone()), (115, old)]),
            [false, false, true]
        );
        let changed = record("a", 1, 15);
        assert_eq!(
            verdicts(&[
                (0, a.clone()),
                (14, changed.clone()),
                (16, changed.clone()),
                (29, changed)
            ]),
            [false, false, false, true]
        );
        // Another holder is a change, too.
        let b = record("b", 0, 15);
        assert_eq!(verdicts(&[(0, a), (15, b.clone()), (30, b)]), [false, false, true]);
    }

    #[test]
    fn a_record_may_be_valid_for_longer_but_not_forever() {
        for (seconds, free_at) in [(-1, 15), (0, 15), (1, 15), (40, 40), (i32::MAX, 60)] {
            let record = record("a", 0, seconds);
            assert_eq!(
                verdicts(&[(0, record.clone()), (free_at - 1, record.clone()), (free_at, record)]),
                [false, false, true],
                "{seconds}"
            );
        }
    }
}
