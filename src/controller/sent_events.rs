//! The events of the last minutes, so that what repeats is counted and not sent again.

use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long an event counts further occurrences, as the clients of Kubernetes do it.
const SERIES: Duration = Duration::from_secs(360);

/// What makes two events the same: the uid of the object, the reason and the text. The API server
/// lets nobody change these.
pub type Key = (String, String, String);

/// The events of the last minutes.
#[derive(Debug, Default)]
pub struct SentEvents(HashMap<Key, Series>);

/// An event that was sent.
#[derive(Debug)]
struct Series {
    name: String,
    count: i32,
    last: Instant,
}

impl SentEvents {
    /// Counts an event that was sent before. Returns its name and how often it has occurred. `None`
    /// if it is new.
    pub fn again(&mut self, key: &Key) -> Option<(String, i32)> {
        self.0.retain(|_, series| series.last.elapsed() < SERIES);
        let series = self.0.get_mut(key)?;
        series.count = series.count.saturating_add(1);
        series.last = Instant::now();
        Some((series.name.clone(), series.count))
    }

    /// Notes an event that was sent.
    pub fn note(&mut self, key: Key, name: String) {
        let first = Series { name, count: 1, last: Instant::now() };
        self.0.entry(key).or_insert(first);
    }

    /// Forgets an event, so that the next one of its kind is new.
    pub fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }
}
