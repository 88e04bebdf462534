//! How a pod names its IPAMClaim (k8s.cni.cncf.io/v1alpha1): in the `cni-args` of its network
//! selection, which Multus hands on, or by the `ipam-claim-reference` of the selection, which Multus
//! does not hand on. The latter counts only in a network with `allowPersistentIPs`: there each ADD
//! reads the pod.

use super::ConfigError;
use super::field::Field;
use super::merge::Merged;

/// How the pod of an ADD names its IPAMClaim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimName {
    /// By this name, in its own namespace.
    Named(String),
    /// In the annotation of the pod, if it names one.
    InPod,
}

impl ClaimName {
    /// Returns whether a text can be the name of a claim (RFC 1123). The author of a pod chooses it.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_label = |label: &str| {
            let bytes = label.as_bytes();
            bytes.first().is_some_and(|byte| plain(*byte))
                && bytes.last().is_some_and(|byte| plain(*byte))
                && bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
        };
        text.len() <= 253 && text.split('.').all(is_label)
    }
}

/// Returns how the pod may name its claim. `None` if it names none.
pub(super) fn named(merged: &Merged<'_>) -> Result<Option<ClaimName>, ConfigError> {
    let by_args = merged.whole.find("args").and_then(|value| Field::new("args", value).find("cni"));
    if let Some(field) = by_args.and_then(|field| field.find("ipamClaim")) {
        let name = field.text()?;
        if !name.is_empty() {
            return match ClaimName::is_valid(name) {
                true => Ok(Some(ClaimName::Named(name.to_owned()))),
                false => Err(field.wrong("expected the name of an IPAMClaim")),
            };
        }
    }
    let allowed = merged.whole.find("allowPersistentIPs");
    let allowed = allowed.map(|value| Field::new("allowPersistentIPs", value));
    let is_allowed = allowed.map_or(Ok(false), |field| field.boolean())?;
    Ok(is_allowed.then_some(ClaimName::InPod))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_an_object() {
        for name in ["vm", "vm.blue", "0-a.b", &"a".repeat(253)] {
            assert!(ClaimName::is_valid(name), "{name}");
        }
        for name in
            ["", ".", "..", "a/b", "a..b", "-a", "a-", "A", "a_b", "a%2fb", &"a".repeat(254)]
        {
            assert!(!ClaimName::is_valid(name), "{name}");
        }
    }
}
