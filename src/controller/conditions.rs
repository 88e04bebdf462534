//! Conditions, as the API conventions of Kubernetes want them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::time::SystemTime;

/// What the condition `Ready` is to say.
#[derive(Debug, Clone, Copy)]
pub struct Told<'t> {
    /// Whether the object is ready.
    pub is_true: bool,
    /// The reason, one word.
    pub reason: &'t str,
    /// The reason for people.
    pub message: &'t str,
    /// The generation of the object that it is about.
    pub generation: i64,
}

/// The longest message that the schema of a condition allows.
const LONGEST: usize = 32_768;

/// Returns the conditions with `Ready` as told. All others stay. The time of the transition changes
/// only with the status.
#[must_use]
pub fn with(conditions: &[Condition], told: Told<'_>, now: SystemTime) -> Vec<Condition> {
    let status = if told.is_true { "True" } else { "False" };
    let before = conditions.iter().find(|condition| condition.type_ == "Ready");
    let since = before.filter(|before| before.status == status);
    let ready = Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: told.reason.to_owned(),
        message: told.message.chars().take(LONGEST).collect(),
        observed_generation: Some(told.generation),
        last_transition_time: since
            .map_or_else(|| time(now), |before| before.last_transition_time.clone()),
    };
    let others = conditions.iter().filter(|condition| condition.type_ != "Ready").cloned();
    others.chain([ready]).collect()
}

/// Returns a time in whole seconds, as the API server keeps it.
fn time(now: SystemTime) -> Time {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = i64::try_from(seconds).unwrap_or_default();
    Time(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap_or_default())
}
