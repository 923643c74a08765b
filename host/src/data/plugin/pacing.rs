//! How large the next batch is: as large as pays, and no larger than what, by all that was measured, takes a quarter of the
//! deadline. Pure: time and outcome are told to it.

use std::time::Duration;

use crate::data::event::Event;

/// More does not make an event cheaper.
const EVENTS_MAX: usize = 256;
/// Before anything was measured.
const EVENTS_FIRST: usize = 16;
/// More does not fit the caches, nor a small guest's memory.
const BYTES_MAX: usize = 1 << 20;
/// What an event weighs beside its bytes.
const WEIGHT_OF_EVENT: usize = 128;

/// What is known of a plugin's pace.
#[derive(Debug)]
pub(super) struct Pacing {
    target: Duration,
    bytes_max: usize,
    events_max: usize,
    /// Nanoseconds for one unit of weight, by a running mean; `None` before the first batch.
    pace: Option<f64>,
}

impl Pacing {
    /// Nothing is known yet of a plugin that has a deadline for one event and a memory of so many bytes.
    pub(super) fn new(deadline: Duration, memory_bytes: usize) -> Self {
        Self {
            target: deadline / 4,
            // A guest holds a batch about twice, and its outputs once more.
            bytes_max: BYTES_MAX.min(memory_bytes / 16).max(1),
            events_max: EVENTS_MAX,
            pace: None,
        }
    }

    /// How many of the events make the next batch: at least one, and of one partition.
    pub(super) fn cut(&self, events: &[Event<'_>]) -> usize {
        let Some(first) = events.first() else { return 0 };
        let events_max = if self.pace.is_some() { self.events_max } else { self.events_max.min(EVENTS_FIRST) };
        let weight_max = self.pace.map_or(usize::MAX, |pace| (self.target.as_nanos() as f64 / pace) as usize);
        let (mut weight, mut bytes) = (0, 0);
        let fits = events.iter().take(events_max).take_while(|event| {
            let size = size(event);
            bytes += size;
            weight += size + WEIGHT_OF_EVENT;
            bytes <= self.bytes_max
                && weight <= weight_max
                && event.partition == first.partition
                && (std::ptr::eq(event.topic, first.topic) || event.topic == first.topic)
        });
        fits.count().max(1)
    }

    /// A batch went well and took so long.
    pub(super) fn took(&mut self, events: &[Event<'_>], time: Duration) {
        let weight = events.iter().map(|event| size(event) + WEIGHT_OF_EVENT).sum::<usize>().max(1);
        let pace = time.as_nanos() as f64 / weight as f64;
        self.pace = Some(self.pace.map_or(pace, |before| before + (pace - before) / 4.0).max(0.001));
        if events.len() >= self.events_max {
            self.events_max = (self.events_max + self.events_max / 4 + 1).min(EVENTS_MAX);
        }
    }

    /// A batch of so many events went wrong as a whole: its events run one by one, and later ones are smaller.
    pub(super) fn overran(&mut self, events: usize) {
        self.events_max = (events / 2).max(1);
    }
}

/// Bytes of an event that the guest gets. Headers are not walked for this: their number stands for them.
fn size(event: &Event<'_>) -> usize {
    event.key.map_or(0, <[u8]>::len) + event.value.map_or(0, <[u8]>::len) + event.headers.len() * 48
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::event::Headers;

    fn events(count: usize, bytes: &'static [u8]) -> Vec<Event<'static>> {
        let event = |index| Event {
            topic: "t",
            partition: 0,
            offset: index as i64,
            timestamp: 0,
            key: None,
            value: Some(bytes),
            headers: Headers::Empty,
        };
        (0..count).map(event).collect()
    }

    #[test]
    fn starts_small_and_grows_by_what_is_measured() {
        let mut pacing = Pacing::new(Duration::from_millis(100), 64 << 20);
        let events = events(1000, &[0; 72]);
        assert_eq!(pacing.cut(&events), EVENTS_FIRST);
        pacing.took(&events[..16], Duration::from_micros(16));
        assert_eq!(pacing.cut(&events), EVENTS_MAX);
        // A millisecond an event: 25 of them fill a quarter of the deadline.
        let mut slow = Pacing::new(Duration::from_millis(100), 64 << 20);
        slow.took(&events[..16], Duration::from_millis(16));
        assert_eq!(slow.cut(&events), 25);
        // Slower than the deadline: one by one.
        slow.took(&events[..1], Duration::from_secs(10));
        assert_eq!(slow.cut(&events), 1);
    }

    #[test]
    fn an_overrun_halves_and_success_grows_again() {
        let mut pacing = Pacing::new(Duration::from_millis(100), 64 << 20);
        let events = events(1000, b"");
        pacing.took(&events[..16], Duration::from_micros(1));
        pacing.overran(256);
        assert_eq!(pacing.cut(&events), 128);
        pacing.took(&events[..128], Duration::from_micros(1));
        assert_eq!(pacing.cut(&events), 161);
        pacing.overran(1);
        assert_eq!(pacing.cut(&events), 1);
        pacing.took(&events[..1], Duration::from_micros(1));
        assert_eq!(pacing.cut(&events), 2);
    }

    #[test]
    fn bounded_in_bytes_and_by_partition() {
        let mut pacing = Pacing::new(Duration::from_secs(100), 16 << 20);
        let mut large = events(1000, &[0; 400 << 10]);
        pacing.took(&large[..1], Duration::from_nanos(1));
        assert_eq!(pacing.cut(&large), 2);
        assert_eq!(Pacing::new(Duration::from_secs(1), 1 << 20).cut(&large), 1, "one too large goes alone");
        large[1].partition = 1;
        assert_eq!(pacing.cut(&large), 1);
        assert_eq!(pacing.cut(&[]), 0);
    }
}
