//! Says that the broker holds a shard's clients back, and counts for how long. A quota is the broker's setting, and all that it does
//! to a host is to make it slow. What a producer does about it is the sink's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Flow;
use super::counts::Counts;
use crate::data::engine::Now;

/// Between two lines in the log about one client: a broker says it with each answer.
const SAY_INTERVAL: Duration = Duration::from_secs(60);

/// Which of a group's clients are held back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Throttled {
    /// The group.
    pub group: String,
    /// `consumer` or `producer`
    pub client: &'static str,
}

/// For how many milliseconds clients were held back, all shards of a host together.
pub type ThrottledTimes = Counts<Throttled>;

/// One client of a shard.
#[derive(Debug)]
struct Client {
    name: &'static str,
    total_ms: Arc<AtomicU64>,
    /// What the log doesn't know of yet.
    unsaid: Duration,
    said: Option<Now>,
}

impl Client {
    fn new(times: &ThrottledTimes, group: &str, name: &'static str) -> Self {
        let total_ms = times.number(Throttled { group: group.to_owned(), client: name });
        Self { name, total_ms, unsaid: Duration::ZERO, said: None }
    }

    /// It was held back for so long. Gives how long it was since the last time that this was said, if it is to be said now.
    fn held_back(&mut self, throttled: Duration, now: Now) -> Option<Duration> {
        if throttled.is_zero() {
            return None;
        }
        self.total_ms.fetch_add(throttled.as_millis() as u64, Ordering::Relaxed);
        self.unsaid += throttled;
        if self.said.is_some_and(|said| now < said + SAY_INTERVAL) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// The clients of a shard.
#[derive(Debug)]
pub(super) struct Throttles {
    consumer: Client,
    producer: Client,
}

impl Throttles {
    pub(super) fn new(times: &ThrottledTimes, group: &str) -> Self {
        Self { consumer: Client::new(times, group, "consumer"), producer: Client::new(times, group, "producer") }
    }
}

impl Flow {
    /// Takes note of what the broker said since the last time.
    pub(super) fn note_throttles(&mut self) {
        let now = self.now();
        let Self { name, throttles: Throttles { consumer, producer }, .. } = self;
        let times = [(consumer, self.consumer.take_throttled()), (producer, self.sink.take_throttled())];
        for (client, throttled) in times {
            if let Some(throttled) = client.held_back(throttled.total, now) {
                let (client, throttled_ms) = (client.name, throttled.as_millis() as u64);
                tracing::warn!(
                    shard = name,
                    client,
                    throttled_ms,
                    "The broker holds a client back: its quota is used up."
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_counted_and_some_of_it_is_said() {
        let times = ThrottledTimes::default();
        let mut client = Client::new(&times, "g", "consumer");
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut check =
            |throttled, now, said| assert_eq!(client.held_back(throttled, now), said, "{throttled:?} at {now:?}");
        check(Duration::ZERO, second, None);
        check(second, second, Some(second));
        check(second, 2 * second, None);
        check(second, minute, None);
        check(Duration::ZERO, 2 * minute, None);
        check(second, 2 * minute, Some(3 * second));
        check(second, 2 * minute + second, None);
        assert_eq!(times.all(), [(Throttled { group: "g".to_owned(), client: "consumer" }, 5000)]);
    }
}
