//! What happens after the API server was away, or was set back: restored from a backup.
//!
//! Pauses after failures are short or end when the API server answers again. Otherwise a claim would
//! wait for a minute although everything works.

use super::work::Controller;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s::Resource;
use k8s::api::Api;
use k8s::runtime::WatchStreamExt;
use k8s::runtime::utils::Backoff;
use k8s::runtime::watcher::{self, Event, watcher};
use std::fmt::Debug;
use std::time::Duration;
use tokio::time::Instant;

/// How often the revision of the API server is compared with the one before.
const LOOK_BACK: Duration = Duration::from_secs(10);
/// The same while it does not answer.
const LOOK_BACK_SOON: Duration = Duration::from_secs(2);
/// How often everything is read from the beginning. If the API server was set back and has since
/// caught up, a watch goes on without a word, and has missed something.
const READ_AGAIN: Duration = Duration::from_secs(1800);
/// The pause after the first failure of a watch, and the longest one. There are a dozen watches, and
/// a request that fails is small.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long after a failure the next one counts as the first.
const QUIET: Duration = Duration::from_secs(60);

/// The pauses of a watch that fails again and again. Those of the client grow to a minute, and the
/// first attempt afterwards may only tell that the watch has to begin again.
#[derive(Debug, Default)]
struct Pauses {
    /// The last pause, and when it began.
    last: Option<(Duration, Instant)>,
}

impl Pauses {
    fn next_at(&mut self, now: Instant) -> Duration {
        let last = self.last.filter(|(_, begun)| now.saturating_duration_since(*begun) < QUIET);
        let next = last.map_or(FIRST_PAUSE, |(last, _)| last.saturating_mul(2).min(LONGEST_PAUSE));
        self.last = Some((next, now));
        next
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.next_at(Instant::now()))
    }
}

impl Backoff for Pauses {
    /// Does nothing. The client calls this also before it lists, which may fail.
    fn reset(&mut self) {}
}

/// Lists objects and then tells of every change, without end. `page` is the number of objects that
/// one answer to a list has at most.
pub(super) fn watching<K>(
    api: &Api<K>,
    page: u32,
) -> BoxStream<'static, Result<Event<K>, watcher::Error>>
where
    K: Resource + Clone + Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().page_size(page);
    watcher(api.clone(), config).backoff(Pauses::default()).boxed()
}

/// Looks whether the API server is there, and whether it was set back.
///
/// When it answers again, what failed is tried at once. Everything is read from the beginning from
/// time to time, and at once if the API server was set back. A watch does not tell that. It starts
/// from a later state than the server has, and stays silent until the server has reached it.
pub(super) async fn run(controller: &Controller) {
    let mut since = Instant::now();
    let mut is_away = false;
    loop {
        tokio::time::sleep(if is_away { LOOK_BACK_SOON } else { LOOK_BACK }).await;
        // What a watch tells during the request may be newer than its answer.
        let before = controller.highest.get();
        // Without any answer, there is nothing to compare.
        let Ok(now) = controller.requests.revision().await else {
            is_away = true;
            continue;
        };
        if std::mem::take(&mut is_away) {
            controller.try_again();
        }
        let is_set_back = now < before;
        let seen = controller.highest.get();
        controller.highest.set(if is_set_back { now } else { now.max(seen) });
        if is_set_back {
            tracing::error!("the API server was set back: everything is read again");
        }
        if is_set_back || READ_AGAIN < since.elapsed() {
            since = Instant::now();
            // An old claim beside new answers would be answered again.
            controller.state.borrow_mut().read_again();
            controller.again.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_of_an_api_server_that_is_away_for_long_asks_every_few_seconds() {
        let mut pauses = Pauses::default();
        let mut now = Instant::now();
        let mut fail = |later| {
            now += later;
            let pause = pauses.next_at(now);
            // Each attempt takes a moment.
            now += pause + Duration::from_millis(10);
            pause
        };
        let first: Vec<Duration> = (0..5).map(|_| fail(Duration::ZERO)).collect();
        assert_eq!(first, [500, 1000, 2000, 4000, 5000].map(Duration::from_millis));
        assert_eq!((0..1000).map(|_| fail(Duration::ZERO)).max(), Some(LONGEST_PAUSE));
        assert_eq!(fail(QUIET), FIRST_PAUSE);
    }
}
