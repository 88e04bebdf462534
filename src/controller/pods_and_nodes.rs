//! Watches pods and nodes, and looks for leak candidates among what is held.
//!
//! Claims do not depend on pods and nodes. If these cannot be read, leak candidates are unknown, and
//! pools with addresses of `podCIDRs`.

use super::events::Regarding;
use super::leaks::{LOOK, Leak};
use super::recovery;
use super::slim::{Fields, Slim, resource};
use super::state::Name;
use super::watches::text_of;
use super::work::Controller;
use crate::store::kube::objects::evidence::{NodeObject, PodObject};
use crate::store::kube::objects::ip_allocation as allocation;
use futures::TryStreamExt;
use k8s::ResourceExt;
use k8s::api::Api;
use k8s::runtime::watcher::Event;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The time between two looks before everything has been read.
const UNTIL_KNOWN: Duration = Duration::from_secs(1);
/// How many objects one answer to a list has at most. With 100 KB per object, which is much, this
/// is 5 MB.
const PAGE: u32 = 50;

/// Watches pods and nodes and looks for leak candidates, without end.
pub async fn run(controller: Rc<Controller>) {
    let one = &controller;
    futures::join!(watch::<PodObject>(one), watch::<NodeObject>(one), look(one));
}

async fn look(controller: &Controller) {
    loop {
        sleep(if controller.leaks.is_known() { LOOK } else { UNTIL_KNOWN }).await;
        let now = Instant::now();
        controller.leaks.look(&controller.state.borrow(), now);
        let new = controller.leaks.confirm(&controller.requests, now).await;
        // All replicas look, and one of them tells.
        if controller.leads() {
            for leak in &new {
                tell(controller, leak).await;
            }
        }
    }
}

/// Sends an event about the IPAllocation of a leak candidate.
pub async fn tell(controller: &Controller, leak: &Leak) {
    let version = format!("{}/{}", allocation::GROUP, allocation::VERSION);
    let name = Name { namespace: "".into(), name: Rc::clone(&leak.name) };
    let regarding = Regarding::object(version, allocation::KIND, &name, &leak.uid);
    let note = format!("{}. Nothing is freed: \"hereabouts leaks\" says what to do", leak.text());
    controller.send_event(&regarding, true, "CheckHolder", "LeakCandidate", &note).await;
}

async fn watch<T: Fields>(controller: &Controller) {
    let api: Api<Slim<T>> = controller.requests.all(&resource::<T>());
    let start = || recovery::watching(&api, PAGE);
    let mut events = start();
    let mut seen = HashSet::new();
    let mut said = String::new();
    let mut again = controller.again.subscribe();
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            _ = again.changed() => {
                events = start();
                continue;
            }
        };
        let leaks = &controller.leaks;
        let note = |slim: &Slim<T>| {
            leaks.change(|cluster| slim.object.put(cluster));
            controller.apply(|state| slim.object.note(state));
        };
        match event {
            Ok(Some(Event::Init)) => seen.clear(),
            Ok(Some(Event::InitApply(slim))) => {
                seen.insert((slim.namespace().unwrap_or_default(), slim.name_any()));
                note(&slim);
            }
            Ok(Some(Event::InitDone)) => {
                controller.apply(|state| T::forget_others(state, &seen));
                controller.apply(T::are_read);
                leaks.change(|cluster| T::retain(cluster, &std::mem::take(&mut seen)));
                leaks.has_read(T::KIND);
                said.clear();
            }
            Ok(Some(Event::Apply(slim))) => note(&slim),
            Ok(Some(Event::Delete(slim))) => {
                controller.apply(|state| T::forget(state, &slim.name_any()));
                leaks.change(|cluster| {
                    T::remove(cluster, &slim.namespace().unwrap_or_default(), &slim.name_any());
                });
            }
            Ok(None) => return,
            Err(error) => {
                controller.apply(T::are_read);
                let text = text_of(&error);
                // Once, and not at each attempt.
                if said != text {
                    tracing::warn!("cannot watch {} for leak candidates: {text}", T::PLURAL);
                    said = text;
                }
            }
        }
    }
}
