//! Conditions, as the API conventions of Kubernetes want them.

use crate::store::kube::objects::ip_pool_status::Condition;
use std::time::SystemTime;

/// The type of the condition that says whether an object can be used.
pub const READY: &str = "Ready";

/// Reasons why a claim of a machine has no address (Cluster API, contract of IPAM providers): its pool
/// is not there or cannot be used.
pub const POOL_NOT_READY: &str = "PoolNotReady";
/// Its pool has no free address.
pub const POOL_EXHAUSTED: &str = "PoolExhausted";
/// Anything else is in the way.
pub const ALLOCATION_FAILED: &str = "AllocationFailed";

/// What a condition is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The type of the condition.
    pub kind: &'static str,
    /// Whether it is true.
    pub is_true: bool,
    /// The reason, one word.
    pub reason: &'static str,
    /// The reason for people.
    pub message: String,
}

/// The longest message that the schema of a condition allows.
const LONGEST: usize = 32_768;

/// Returns the conditions as told, after those of other types. The time of the transition changes
/// only with the status. `generation` is that of the spec that they are about.
#[must_use]
pub fn merged(
    before: &[Condition],
    told: &[Told],
    generation: i64,
    now: SystemTime,
) -> Vec<Condition> {
    let others = before.iter().filter(|found| !told.iter().any(|told| told.kind == found.kind));
    let condition = |told: &Told| {
        let status = if told.is_true { "True" } else { "False" };
        let known = before.iter().find(|found| found.kind == told.kind && found.status == status);
        Condition {
            kind: told.kind.to_owned(),
            status: status.to_owned(),
            reason: told.reason.to_owned(),
            message: told.message.chars().take(LONGEST).collect(),
            observed_generation: Some(generation),
            last_transition_time: known.map_or_else(
                || humantime::format_rfc3339_seconds(now).to_string(),
                |known| known.last_transition_time.clone(),
            ),
        }
    };
    others.cloned().chain(told.iter().map(condition)).collect()
}
