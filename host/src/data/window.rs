//! How much a producer of transactions may have in flight. A broker that holds it back for its quota doesn't read what it sends
//! meanwhile; where that takes longer than requests are waited for, the transaction is given up, its events run again, and would
//! be too much again, for ever. So less is sent at once, until it gets through. It asks no clock, and knows no quota.

use std::time::{Duration, Instant};

/// How long a broker may hold the producer back: requests are waited for three times as long. For its time, and not for bytes, a
/// broker holds nobody back for longer.
const HELD_BACK_MAX: Duration = Duration::from_secs(1);
/// Nothing is begun while the producer is held back, but no longer than this: quotas change.
const HOLD_MAX: Duration = Duration::from_secs(30);
/// The least that may be in flight.
const BYTES_MIN: usize = 4 << 10;

/// What may be in flight, at most.
#[derive(Debug)]
pub(super) struct Window {
    /// While nobody holds the producer back.
    full: usize,
    bytes: usize,
    /// Until when nothing is begun.
    held_until: Option<Instant>,
}

impl Window {
    pub(super) fn new(full: usize) -> Self {
        Self { full, bytes: full, held_until: None }
    }

    /// Whether something may be begun, with so much in flight. The clock is only looked at where that matters.
    pub(super) fn is_open(&self, in_flight: usize, now: impl FnOnce() -> Instant) -> bool {
        in_flight < self.bytes && self.held_until.is_none_or(|until| now() >= until)
    }

    /// The broker has said that it holds the producer back for so long, while so much was in flight.
    pub(super) fn held_back(&mut self, time: Duration, in_flight: usize, now: Instant) {
        if time <= HELD_BACK_MAX {
            return;
        }
        let until = now + time.min(HOLD_MAX);
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
        // The time is what there was too much of, divided by the quota.
        let part = HELD_BACK_MAX.as_secs_f64() / time.as_secs_f64();
        self.bytes = ((self.bytes.min(in_flight.max(BYTES_MIN)) as f64 * part) as usize).max(BYTES_MIN);
    }

    /// A transaction got through.
    pub(super) fn committed(&mut self, now: Instant) {
        if self.held_until.is_some_and(|until| now < until) {
            return;
        }
        self.held_until = None;
        self.bytes = self.bytes.saturating_mul(2).min(self.full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = 16 << 20;

    #[test]
    fn it_narrows_by_how_long_the_producer_is_held_back_and_widens_as_transactions_get_through() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut window = Window::new(FULL);
        let opens = |window: &Window, at: Instant, bytes: usize| {
            assert!(window.is_open(bytes - 1, || at), "{window:?}");
            assert!(!window.is_open(bytes, || at), "{window:?}");
        };
        opens(&window, now, FULL);
        window.held_back(second, 400_000, now);
        opens(&window, now, FULL);
        window.held_back(4 * second, 400_000, now);
        assert!(!window.is_open(0, || now + 3 * second), "nothing while it is held back");
        opens(&window, now + 4 * second, 100_000);
        window.committed(now + second);
        opens(&window, now + 4 * second, 100_000);
        window.committed(now + 4 * second);
        opens(&window, now, 200_000);
        window.held_back(2 * second, 1_000_000, now);
        opens(&window, now + 2 * second, 100_000);
        window.held_back(1000 * second, 0, now);
        assert!(!window.is_open(0, || now + HOLD_MAX - second));
        opens(&window, now + HOLD_MAX, BYTES_MIN);
        (0..20).for_each(|_| window.committed(now + HOLD_MAX));
        opens(&window, now, FULL);
    }
}
