//! The Lease of the controller, as the place of first sights.

use super::first_sights::{self, Change, FirstSights, Place};
use super::lease::NAME;
use super::requests::{Answered, Failure, Requests};
use crate::ipam::off_node::Moment;
use k8s_openapi::api::coordination::v1::Lease;

/// How often a write of the Lease is tried that another writer was quicker than.
const ATTEMPTS: u32 = 3;

/// The Lease.
#[derive(Debug)]
pub struct SightsLease {
    /// Its namespace.
    namespace: String,
    /// The annotation.
    place: Place,
}

/// What the first sights were before a write, and what they are now.
#[derive(Debug)]
pub struct Written {
    /// Before.
    pub before: FirstSights,
    /// Now.
    pub after: FirstSights,
}

impl SightsLease {
    /// Returns the place of some first sights. `namespace` is that of the Lease.
    #[must_use]
    pub const fn new(namespace: String, place: Place) -> Self {
        Self { namespace, place }
    }

    /// Returns how many nodes there may be at most.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.place.most
    }

    /// Reads the first sights.
    ///
    /// # Errors
    /// Any failure.
    pub async fn read(&self, requests: &Requests) -> Answered<FirstSights> {
        let lease = requests.get(&requests.leases_of(&self.namespace), NAME).await?;
        self.sights(lease.as_ref())
    }

    fn sights(&self, lease: Option<&Lease>) -> Answered<FirstSights> {
        first_sights::read(lease, self.place.key).map_err(|error| Failure::Unknown {
            action: "read",
            subject: format!("the annotation {} of the lease {NAME}", self.place.key),
            reason: error.to_string(),
        })
    }

    /// Returns this moment in the clocks of the API server.
    ///
    /// # Errors
    /// Any failure.
    pub async fn moment(&self, requests: &Requests) -> Answered<Moment> {
        let second = requests.second(&self.namespace).await?;
        Ok(Moment { second, revision: requests.revision().await? })
    }

    /// Writes changes into the Lease as it is now.
    ///
    /// # Errors
    /// Any failure. Nothing is written then.
    pub async fn write(
        &self,
        requests: &Requests,
        changes: &[(String, Change)],
    ) -> Answered<Written> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let own = requests.get(&requests.leases_of(&self.namespace), NAME).await?;
            let before = self.sights(own.as_ref())?;
            let mut after = before.clone();
            for (node, change) in changes {
                first_sights::apply(&mut after, self.place.most, node, change);
            }
            if after == before {
                return Ok(Written { before, after });
            }
            let mut lease = own.unwrap_or_default();
            lease.metadata.name = Some(NAME.to_owned());
            first_sights::write(&mut lease, self.place.key, &after);
            match requests.write_lease(&self.namespace, &lease).await {
                Ok(_) => return Ok(Written { before, after }),
                // The leader has renewed the Lease.
                Err(Failure::Changed | Failure::Exists | Failure::Gone) if attempts < ATTEMPTS => {}
                Err(failure) => return Err(failure),
            }
        }
    }
}
