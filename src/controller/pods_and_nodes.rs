//! Watches pods and nodes, and looks for leak candidates among what is held.
//!
//! Claims do not depend on pods and nodes. If these cannot be read, only leak candidates are unknown.

use super::leaks::LOOK;
use super::slim::{Fields, Slim, resource};
use super::watches::text_of;
use super::work::Controller;
use crate::store::kube::objects::evidence::{NodeObject, PodObject};
use futures::{StreamExt, TryStreamExt};
use k8s::ResourceExt;
use k8s::api::Api;
use k8s::runtime::WatchStreamExt;
use k8s::runtime::watcher::{self, Event, watcher};
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
        controller.leaks.confirm(&controller.requests, now).await;
    }
}

async fn watch<T: Fields>(controller: &Controller) {
    let api: Api<Slim<T>> = controller.requests.all(&resource::<T>());
    let config = watcher::Config::default().page_size(PAGE);
    let start = || watcher(api.clone(), config.clone()).default_backoff().boxed();
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
        match event {
            Ok(Some(Event::Init)) => seen.clear(),
            Ok(Some(Event::InitApply(slim))) => {
                seen.insert((slim.namespace().unwrap_or_default(), slim.name_any()));
                leaks.change(|cluster| slim.object.put(cluster));
            }
            Ok(Some(Event::InitDone)) => {
                leaks.change(|cluster| T::retain(cluster, &std::mem::take(&mut seen)));
                leaks.has_read(T::KIND);
                said.clear();
            }
            Ok(Some(Event::Apply(slim))) => leaks.change(|cluster| slim.object.put(cluster)),
            Ok(Some(Event::Delete(slim))) => leaks.change(|cluster| {
                T::remove(cluster, &slim.namespace().unwrap_or_default(), &slim.name_any());
            }),
            Ok(None) => return,
            Err(error) => {
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
