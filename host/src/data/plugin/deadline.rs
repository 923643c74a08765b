//! How long a guest may take: its own CPU time, what it waited for by its own will, and a bound on everything else.
//!
//! The epoch is only the occasion to look. What counts is the CPU clock of the thread, so that a host that is stopped,
//! throttled or crowded out fails no event. Ten times the deadline, and no less than a second, in ticks of the host's own ticker
//! (which stops with the host) is where patience ends: that is the host's failure, and the event is tried again.

use std::time::Duration;

use cpu_time::ThreadTime;

/// How often the epoch advances while a guest runs.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// How many deadlines a guest that does not get its CPU may take on the ticker's clock.
const PATIENCE: u64 = 10;

/// How long patience lasts at least: ten times a deadline of 5 ms is over as soon as a busy host swaps. It holds no shard up that
/// could do anything else: a guest that waits by its own will uses its deadline up, only one that gets no CPU is waited for.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// What one line of log gives back, so that a flood of them is cut, not punished.
const CREDIT_PER_LINE: Duration = Duration::from_micros(3);

/// What all lines of a call give back: a million of them pass, an endless loop that logs ends.
const CREDIT_MAX: Duration = Duration::from_secs(3);

/// The time of one call.
#[derive(Debug, Default)]
pub(super) struct Budget {
    limit: Duration,
    started: Duration,
    waited: Duration,
    credit: Duration,
    ticks_used: u64,
}

impl Budget {
    /// Begins now, on this thread.
    pub(super) fn start(limit: Duration) -> Self {
        Self { limit, started: thread_cpu_time(), waited: Duration::ZERO, credit: Duration::ZERO, ticks_used: 0 }
    }

    /// What it began with.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// CPU time and waiting since the start.
    pub(super) fn spent(&self) -> Duration {
        thread_cpu_time().saturating_sub(self.started) + self.waited
    }

    /// What is left of the deadline.
    pub(super) fn left(&self) -> Duration {
        (self.limit + self.credit).saturating_sub(self.spent())
    }

    /// Whether it was the guest that took its time. Not, where it ended: patience did.
    pub(super) fn is_used_up(&self) -> bool {
        self.left().is_zero()
    }

    /// How long the guest was looked at, by the ticker: no longer than it took.
    pub(super) fn looked_at(&self) -> Duration {
        TICK * u32::try_from(self.ticks_used).unwrap_or(u32::MAX)
    }

    /// Counts a wait that the guest asked for, by its length, not by the clock: a host that was stopped meanwhile
    /// didn't let the guest wait any longer.
    pub(super) fn wait(&mut self, duration: Duration) {
        self.waited += duration;
    }

    /// Gives back what a line of log costs.
    pub(super) fn forgive_line(&mut self) {
        self.credit = (self.credit + CREDIT_PER_LINE).min(CREDIT_MAX);
    }

    /// In how many ticks to look at the clock for the first time.
    pub(super) fn first_look(&mut self) -> u64 {
        let first = ticks(self.limit);
        self.ticks_used += first;
        first
    }

    /// In how many ticks to look at the clock again, or `None` once the time is over.
    pub(super) fn next_look(&mut self) -> Option<u64> {
        let left = self.left();
        let patience = (ticks(self.limit + self.credit) * PATIENCE).max(ticks(PATIENCE_MIN));
        let ticks_left = patience.saturating_sub(self.ticks_used);
        if left.is_zero() || ticks_left == 0 {
            return None;
        }
        let next = ticks(left).min(ticks_left);
        self.ticks_used += next;
        Some(next)
    }
}

/// The ticks that surely hold a duration; never none.
fn ticks(duration: Duration) -> u64 {
    (duration.as_nanos().div_ceil(TICK.as_nanos()) as u64).max(1)
}

/// CPU time of this thread so far. The clock is a system call (about 0.2 µs): once a batch, never once an event.
pub(super) fn thread_cpu_time() -> Duration {
    ThreadTime::now().as_duration()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_counts_and_lines_are_forgiven() {
        let mut budget = Budget::start(Duration::from_secs(100));
        budget.wait(Duration::from_secs(60));
        assert!(budget.left() <= Duration::from_secs(40));
        budget.wait(Duration::from_secs(60));
        assert_eq!(budget.left(), Duration::ZERO);
        assert_eq!(budget.next_look(), None);
        (0..100).for_each(|_| budget.forgive_line());
        assert_eq!(budget.left(), Duration::ZERO, "300 µs of lines don't give back 40 s");
    }

    #[test]
    fn credit_and_patience_end() {
        let mut budget = Budget::start(Duration::from_millis(1));
        (0..10_000_000).for_each(|_| budget.forgive_line());
        assert!(budget.left() > Duration::from_secs(1) && budget.left() <= Duration::from_millis(3001));

        // No CPU is used, as if the host gave the thread none: the looks run out nevertheless.
        let mut budget = Budget::start(Duration::from_secs(1000));
        let looks = budget.first_look() + std::iter::from_fn(|| budget.next_look()).sum::<u64>();
        assert_eq!(looks, ticks(Duration::from_secs(1000)) * PATIENCE);
    }

    #[test]
    fn patience_outlasts_small_deadlines_and_blames_the_host() {
        let mut budget = Budget::start(Duration::from_millis(5));
        let looks = budget.first_look() + std::iter::from_fn(|| budget.next_look()).sum::<u64>();
        assert_eq!(looks, ticks(PATIENCE_MIN));
        assert_eq!((budget.looked_at(), budget.is_used_up()), (PATIENCE_MIN, false));
        budget.wait(Duration::from_millis(5));
        assert!(budget.is_used_up(), "what the guest waits for by its will is its own");
    }

    #[test]
    fn ticks_round_up() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(Duration::from_millis(1)), 1);
        assert_eq!(ticks(Duration::from_millis(100)), 20);
        assert_eq!(ticks(Duration::from_millis(101)), 21);
    }
}
