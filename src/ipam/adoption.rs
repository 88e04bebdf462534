//! What hereabouts-controller does about an IPAddress of Cluster API that it did not write: one of an
//! earlier provider, of `clusterctl move`, or of a backup. It holds the address, so that the address
//! is never given again, unless somebody else holds it.
//!
//! The controller and `hereabouts pool adopt` use the same function.

use super::IPAM_CLAIM;
use super::leak::Holder;

/// Who holds an address, by the IPAllocation.
#[derive(Debug)]
pub enum Recorded<'r> {
    /// A claim, or an IPAddress without a claim.
    Claim {
        /// The kind.
        kind: &'r str,
        /// The namespace.
        namespace: &'r str,
        /// The name.
        name: &'r str,
    },
    /// An interface of a pod.
    Attachment(&'r Holder),
}

impl Recorded<'_> {
    /// Returns who it is, for people.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Claim { kind, namespace, name } => format!("{kind} {namespace}/{name}"),
            Self::Attachment(holder) => holder.told(),
        }
    }
}

/// What becomes of the address of an IPAddress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// It is held for it.
    Held,
    /// Nobody holds it: it is held from now on.
    New,
    /// Somebody else holds it, and both stay.
    Conflict,
}

impl Adoption {
    /// Decides about the IPAddress of this namespace and name. `recorded` holds its address. The claim
    /// of an IPAddress has the same name.
    #[must_use]
    pub fn of(namespace: &str, name: &str, recorded: Option<&Recorded<'_>>) -> Self {
        match recorded {
            None => Self::New,
            Some(Recorded::Claim { kind, namespace: theirs, name: other })
                if *kind != IPAM_CLAIM && (*theirs, *other) == (namespace, name) =>
            {
                Self::Held
            }
            Some(_) => Self::Conflict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_claim_of_an_ip_address_holds_for_it() {
        let of = |kind: &str, namespace: &str, name: &str| {
            Adoption::of("a", "m", Some(&Recorded::Claim { kind, namespace, name }))
        };
        assert_eq!(of("IPAddressClaim", "a", "m"), Adoption::Held);
        assert_eq!(of("IPAddress", "a", "m"), Adoption::Held);
        assert_eq!(of("IPAddressClaim", "b", "m"), Adoption::Conflict);
        assert_eq!(of("IPAddressClaim", "a", "n"), Adoption::Conflict);
        assert_eq!(of("IPAMClaim", "a", "m"), Adoption::Conflict, "the claim of a pod");
        assert_eq!(Adoption::of("a", "m", None), Adoption::New);
    }
}
