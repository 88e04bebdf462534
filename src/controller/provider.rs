//! Finds out whether the provider of Cluster API still runs, which answers claims of the same pools.
//!
//! The two must not answer at the same time: the provider looks for a free address only in its own
//! cache, so both may give the same one. The provider's manifests let it hold a Lease of a fixed
//! name, in the namespace that it was installed in. A Lease that changes is held by a process that
//! runs. Whether it changes is measured with this process's own clock.

use super::requests::Failure;
use super::state::Provider;
use super::work::Controller;
use k8s_openapi::api::coordination::v1::Lease;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The name of the provider's Lease (`LeaderElectionID` in its main.go, v1.1.0).
pub const LEASE: &str = "7bb7acb4.ipam.cluster.x-k8s.io";
/// How often its Leases are read.
const LOOK: Duration = Duration::from_secs(5);
/// How long a Lease may say that it is valid without a change.
const LONGEST: Duration = Duration::from_secs(60);

/// What was seen of the Leases, by namespace.
#[derive(Debug, Default)]
pub struct Sightings {
    seen: HashMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    revision: String,
    since: Instant,
    has_changed: bool,
}

impl Sightings {
    /// Notes the Leases as they are now, and returns what they say.
    pub fn note(&mut self, leases: &[Lease], now: Instant) -> Provider {
        let namespace = |lease: &Lease| lease.metadata.namespace.clone().unwrap_or_default();
        self.seen.retain(|known, _| leases.iter().any(|lease| namespace(lease) == *known));
        let mut provider = Provider::Away;
        for lease in leases {
            let revision = lease.metadata.resource_version.clone().unwrap_or_default();
            let seen = self.seen.entry(namespace(lease)).or_insert_with(|| Seen {
                revision: revision.clone(),
                since: now,
                has_changed: false,
            });
            if seen.revision != revision {
                *seen = Seen { revision, since: now, has_changed: true };
            }
            let spec = lease.spec.clone().unwrap_or_default();
            let holder = spec.holder_identity.unwrap_or_default();
            let seconds = spec.lease_duration_seconds.and_then(|number| number.try_into().ok());
            let valid = seconds.map_or(LONGEST, Duration::from_secs).min(LONGEST) + LOOK;
            if holder.is_empty() || valid <= now.saturating_duration_since(seen.since) {
                continue;
            }
            if seen.has_changed {
                return Provider::Serves(format!(
                    "{holder} renews the Lease {}/{LEASE}",
                    namespace(lease)
                ));
            }
            provider = Provider::InDoubt;
        }
        provider
    }
}

impl Controller {
    /// Looks for the provider, without end. While it serves, no claim of its pools is answered.
    pub(super) async fn look_for_provider(self: Rc<Self>) {
        let (mut sightings, mut said) = (Sightings::default(), String::new());
        loop {
            let found = match self.requests.leases(LEASE).await {
                Ok(leases) => Some(sightings.note(&leases, Instant::now())),
                Err(failure) => {
                    let text = failure.to_string();
                    if said != text {
                        tracing::warn!("whether the provider of Cluster API runs: {text}");
                        said = text;
                    }
                    // Without the right to look there is nothing to wait for.
                    matches!(failure, Failure::Refused { .. }).then_some(Provider::Away)
                }
            };
            if let Some(found) = found {
                self.note_provider(found).await;
            }
            sleep(LOOK).await;
        }
    }

    async fn note_provider(&self, found: Provider) {
        let before = self.state.borrow().provider.clone();
        if before == found {
            return;
        }
        match &found {
            Provider::Serves(text) => tracing::error!(
                "the provider of Cluster API runs, too: {text}. Claims of its pools are not answered here. Scale its Deployment to zero"
            ),
            Provider::InDoubt => {
                tracing::info!("the Lease {LEASE} has a holder: waiting to see whether it runs");
            }
            Provider::Away => {
                // Its last answers may not have been told yet.
                if let Err(failure) = self.read_answers().await {
                    tracing::warn!("cannot begin to answer claims: {failure}");
                    return;
                }
                if matches!(before, Provider::Serves(_)) {
                    tracing::info!("the provider of Cluster API has ended: claims are answered");
                }
            }
        }
        self.metrics.other_provider(matches!(found, Provider::Serves(_)));
        let is_away = found == Provider::Away;
        self.state.borrow_mut().provider = found;
        if is_away {
            let all = self.state.borrow().everything();
            self.add(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lease(namespace: &str, revision: &str, holder: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"name": LEASE, "namespace": namespace, "resourceVersion": revision},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
        }))
        .unwrap()
    }

    #[test]
    fn a_lease_that_changes_has_a_holder_that_runs() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut sightings = Sightings::default();
        assert_eq!(sightings.note(&[], at(0)), Provider::Away);
        assert_eq!(sightings.note(&[lease("caip", "5", "")], at(5)), Provider::Away, "released");
        // An old Lease: nobody renews it.
        assert_eq!(sightings.note(&[lease("old", "7", "a")], at(10)), Provider::InDoubt);
        assert_eq!(sightings.note(&[lease("old", "7", "a")], at(29)), Provider::InDoubt);
        assert_eq!(sightings.note(&[lease("old", "7", "a")], at(30)), Provider::Away);
        // Another one beside it lives.
        let both = |revision| [lease("old", "7", "a"), lease("caip", revision, "pod_1")];
        assert_eq!(sightings.note(&both("8"), at(40)), Provider::InDoubt);
        let serves = Provider::Serves(format!("pod_1 renews the Lease caip/{LEASE}"));
        assert_eq!(sightings.note(&both("9"), at(45)), serves);
        assert_eq!(sightings.note(&both("9"), at(64)), serves);
        assert_eq!(sightings.note(&both("9"), at(65)), Provider::Away);
        assert_eq!(sightings.note(&both("10"), at(70)), serves, "it is back");
    }

    #[test]
    fn a_lease_that_says_to_be_valid_for_ever_is_not_believed() {
        let begun = Instant::now();
        let mut odd = lease("caip", "5", "a");
        odd.spec.as_mut().unwrap().lease_duration_seconds = Some(i32::MAX);
        let mut sightings = Sightings::default();
        assert_eq!(sightings.note(std::slice::from_ref(&odd), begun), Provider::InDoubt);
        let later = begun + LONGEST + LOOK;
        assert_eq!(sightings.note(std::slice::from_ref(&odd), later), Provider::Away);
        odd.spec.as_mut().unwrap().lease_duration_seconds = Some(-1);
        assert_eq!(sightings.note(&[odd], later), Provider::Away);
    }
}
