//! Events: what turned, told once. `kubectl describe` shows them with the object.

use super::conditions::{READY, Told};
use super::pool::PoolId;
use super::state::Name;
use super::work::{Controller, now};
use k8s::api::ObjectMeta;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use std::time::SystemTime;

/// The name of the controller in its events.
const REPORTER: &str = "hereabouts-controller";
/// The longest text of an event that the API server accepts.
const LONGEST: usize = 1024;
/// How much of an object's name an event's own name has.
const KEPT: usize = 200;

/// The object that an event is about.
#[derive(Debug, Clone)]
pub struct Regarding(ObjectReference);

impl Regarding {
    /// Returns a pool.
    #[must_use]
    pub fn pool(id: &PoolId, uid: &str) -> Self {
        let version = format!("{}/{}", id.kind.group(), id.kind.version());
        Self::object(version, id.kind.name(), &Name::of_pool(id), uid)
    }

    /// Returns an object. Its namespace may be empty.
    #[must_use]
    pub fn object(version: String, kind: &str, name: &Name, uid: &str) -> Self {
        Self(ObjectReference {
            api_version: Some(version),
            kind: Some(kind.to_owned()),
            namespace: Some(name.namespace.to_string()).filter(|text| !text.is_empty()),
            name: Some(name.name.to_string()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        })
    }

    /// Returns the namespace of events about the object. The API server wants those about objects
    /// without a namespace in `default`.
    fn namespace(&self) -> &str {
        self.0.namespace.as_deref().unwrap_or("default")
    }
}

impl Controller {
    /// Sends an event about a condition that turned. It is not repeated if that fails: the condition
    /// says the same.
    pub(super) async fn tell(&self, regarding: &Regarding, told: &Told) {
        let action = format!("Check{}", told.kind);
        let reason = match (told.kind, told.is_usual()) {
            (READY, _) | ("Full", false) => told.reason.to_owned(),
            (kind, true) => format!("Not{kind}"),
            (kind, false) => kind.to_owned(),
        };
        self.send_event(regarding, told.is_warning(), &action, &reason, &told.message).await;
    }

    /// Sends an event, or counts it if it was sent a short time ago.
    pub(super) async fn send_event(
        &self,
        regarding: &Regarding,
        is_warning: bool,
        action: &str,
        reason: &str,
        note: &str,
    ) {
        let note = shortened(note);
        let uid = regarding.0.uid.clone().unwrap_or_default();
        let key = (uid, reason.to_owned(), note.clone());
        let known = self.sent.borrow_mut().again(&key);
        let time = micro_time(now());
        let sent = match known {
            Some((name, count)) => {
                let series = EventSeries { count, last_observed_time: time };
                let patch = json!({"series": series});
                let api = self.requests.events(regarding.namespace());
                self.requests.patch(&api, "events", &name, &patch).await
            }
            None => {
                let event = Event {
                    metadata: ObjectMeta {
                        name: Some(name_of(regarding, &time)),
                        namespace: Some(regarding.namespace().to_owned()),
                        ..ObjectMeta::default()
                    },
                    action: Some(action.to_owned()),
                    reason: Some(reason.to_owned()),
                    note: Some(note),
                    type_: Some(if is_warning { "Warning" } else { "Normal" }.to_owned()),
                    event_time: Some(time),
                    regarding: Some(regarding.0.clone()),
                    reporting_controller: Some(REPORTER.to_owned()),
                    reporting_instance: Some(self.host.clone()),
                    ..Event::default()
                };
                self.requests.send_event(&event).await
            }
        };
        match sent {
            Ok(event) => {
                self.sent.borrow_mut().note(key, event.metadata.name.unwrap_or_default());
            }
            Err(failure) => {
                self.sent.borrow_mut().forget(&key);
                tracing::warn!("cannot send the event {reason}: {failure}");
            }
        }
    }
}

/// Returns a name that no other event has: the object's, and the time.
fn name_of(regarding: &Regarding, time: &MicroTime) -> String {
    let name: String = regarding.0.name.iter().flat_map(|name| name.chars()).take(KEPT).collect();
    format!("{}.{:x}", name.trim_end_matches(['.', '-']), time.0.as_nanosecond())
}

fn micro_time(now: SystemTime) -> MicroTime {
    MicroTime(Timestamp::try_from(now).unwrap_or_default())
}

/// Returns as much of a text as an event may have.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
