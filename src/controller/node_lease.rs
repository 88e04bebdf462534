//! Whether a kubelet is silent: its Lease in `kube-node-lease` does not change.
//!
//! The times in a Lease are those of the node's clock, which may be wrong. Two of them are only
//! compared for equality. How long a Lease has not changed is measured with this process's own clock.

use super::requests::{Answered, Requests};
use k8s_openapi::api::coordination::v1::Lease;
use std::time::Duration;
use tokio::time::Instant;

/// The namespace of the Leases of nodes.
const NAMESPACE: &str = "kube-node-lease";
/// How long a Lease is valid if it does not say so: the default of the kubelet.
const USUAL: Duration = Duration::from_secs(40);
/// How many looks must have found the same, at least.
const LOOKS: u32 = 2;
/// The longest time between two looks that counts. While the API server is away, or this process is
/// stopped, nobody can see a kubelet renew its Lease.
const GAP: Duration = Duration::from_secs(30);

/// What the last renewal of a Lease left in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Which Lease, and when it was renewed, by the clock of the node.
    pub renewed: String,
    /// How long the Lease is valid.
    pub duration: Duration,
    /// The uid of the Node that owns the Lease. The kubelet writes it.
    pub owner: Option<String>,
}

impl Heartbeat {
    /// Reads the Lease of a node. `None` if there is none.
    ///
    /// # Errors
    /// Any failure. Only the API server's word that there is no such Lease is none.
    pub async fn of(requests: &Requests, node: &str) -> Answered<Option<Self>> {
        let lease = requests.get(&requests.leases_of(NAMESPACE), node).await?;
        Ok(lease.as_ref().map(Self::from))
    }
}

impl From<&Lease> for Heartbeat {
    fn from(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let time = spec.renew_time.map_or_else(|| "-".to_owned(), |time| time.0.to_string());
        let seconds = spec.lease_duration_seconds.and_then(|number| u64::try_from(number).ok());
        let owners = lease.metadata.owner_references.iter().flatten();
        Self {
            owner: owners
                .filter(|owner| owner.kind == "Node")
                .map(|owner| owner.uid.clone())
                .next(),
            renewed: format!("{} {time}", lease.metadata.uid.as_deref().unwrap_or_default()),
            duration: seconds.filter(|number| 0 < *number).map_or(USUAL, Duration::from_secs),
        }
    }
}

/// How long something has been the same, as this process has seen it.
#[derive(Debug)]
pub struct Silence<T> {
    seen: T,
    since: Instant,
    last: Instant,
    looks: u32,
}

impl<T: PartialEq> Silence<T> {
    /// Begins with the first look.
    pub const fn new(seen: T, now: Instant) -> Self {
        Self { seen, since: now, last: now, looks: 1 }
    }

    /// Notes what a look has found. The time begins again if that is something else, or if the last
    /// look was too long ago.
    pub fn note(&mut self, seen: T, now: Instant) {
        if self.seen == seen && now.saturating_duration_since(self.last) <= GAP {
            self.looks = self.looks.saturating_add(1);
            self.last = now;
        } else {
            *self = Self::new(seen, now);
        }
    }

    /// Returns what was seen.
    pub const fn seen(&self) -> &T {
        &self.seen
    }

    /// Returns whether several looks, over at least this time, have found the same.
    pub fn lasts(&self, least: Duration, now: Instant) -> bool {
        LOOKS <= self.looks && least <= now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn heartbeat(uid: &str, spec: &Value) -> Heartbeat {
        let lease = json!({"metadata": {"uid": uid}, "spec": spec});
        Heartbeat::from(&serde_json::from_value::<Lease>(lease).unwrap())
    }

    #[test]
    fn each_renewal_is_another_heartbeat() {
        let spec = |time: &str, seconds: i64| json!({"renewTime": time, "leaseDurationSeconds": seconds, "holderIdentity": "n1"});
        let first = heartbeat("a", &spec("2026-01-01T00:00:00.000001Z", 40));
        assert_eq!(first, heartbeat("a", &spec("2026-01-01T00:00:00.000001Z", 40)));
        assert_ne!(first, heartbeat("a", &spec("2026-01-01T00:00:00.000002Z", 40)));
        // A clock that goes back.
        assert_ne!(first, heartbeat("a", &spec("2025-01-01T00:00:00.000001Z", 40)));
        assert_ne!(first, heartbeat("b", &spec("2026-01-01T00:00:00.000001Z", 40)));
        for (seconds, expected) in [(1, 1), (40, 40), (0, 40), (-5, 40)] {
            let found = heartbeat("a", &spec("2026-01-01T00:00:00.000001Z", seconds));
            assert_eq!(found.duration.as_secs(), expected);
        }
        assert_eq!(heartbeat("a", &json!({})).duration, USUAL);
    }

    #[test]
    fn silence_needs_several_looks_over_the_whole_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let least = Duration::from_secs(50);
        let mut silence = Silence::new("a", at(0));
        // One look says nothing, however old it is.
        assert!(!silence.lasts(least, at(1000)));
        silence.note("a", at(30));
        silence.note("a", at(49));
        assert!(!silence.lasts(least, at(49)));
        assert!(silence.lasts(least, at(50)));
        silence.note("b", at(51));
        assert!(!silence.lasts(least, at(300)));
        silence.note("b", at(80));
        silence.note("b", at(100));
        assert!(!silence.lasts(least, at(100)));
        assert!(silence.lasts(least, at(101)));
        // Between these two looks nobody knows.
        silence.note("b", at(131));
        assert!(!silence.lasts(least, at(200)));
        silence.note("b", at(161));
        assert!(!silence.lasts(least, at(180)));
        assert!(silence.lasts(least, at(181)));
    }
}
