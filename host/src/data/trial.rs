//! A version on trial beside the live one: what all shards count of it, and what follows from the counts. Knows neither events
//! nor plugins; whoever ends a trial, or makes the version live, does so by what [`judge`] says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::model::{Rollout, RolloutMode};

/// Samples that are kept of one trial.
const SAMPLES_MAX: usize = 8;
/// Bytes of a sample's reason: a plugin's own words are among them.
const REASON_BYTES_MAX: usize = 300;
/// Events before a mean says something of a version's latency: the first ones pay for cold caches.
const LATENCY_EVENTS_MIN: u64 = 50;
/// Standard deviations by which a share has to lie above its bound before the end, so that bad luck ends no trial.
const DEVIATIONS: f64 = 4.0;
/// The share of events that may take longer than the latency that is tolerated: an event in a hundred finds the processor's
/// caches cold, or the plugin's runtime collecting its garbage.
const SLOW_MAX: f64 = 0.01;
/// Of slow events also at the end, as a trial times no more than some.
const SLOW_DEVIATIONS: f64 = 2.0;

/// What is counted of one candidate, by all shards.
#[derive(Debug)]
pub struct Trial {
    rollout: Rollout,
    started: Instant,
    events: AtomicU64,
    failures: AtomicU64,
    differences: AtomicU64,
    time_ns: AtomicU64,
    call_ns_max: AtomicU64,
    timed: AtomicU64,
    slow: AtomicU64,
    live_events: AtomicU64,
    live_time_ns: AtomicU64,
    samples: Mutex<Vec<Sample>>,
}

/// An event that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// `TOPIC/PARTITION/OFFSET`
    pub origin: String,
    /// What went wrong with it.
    pub reason: String,
}

/// What was counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that the candidate answered, and that count.
    pub events: u64,
    /// Those that it failed, where the live version is not known to fail them as well.
    pub failures: u64,
    /// In the shadow, those that it answered in another way than the live version.
    pub differences: u64,
    /// What the candidate took of the shards' time: its CPU time, and what it waited for.
    pub time: Duration,
    /// The longest of its calls, by the mean time of an event in it.
    pub call_max: Duration,
    /// Events that it answered alone, so that it is known how long each took.
    pub timed: u64,
    /// Those of them that took longer than the latency that is tolerated.
    pub slow: u64,
    /// What the live version answered meanwhile, events that were called again included.
    pub live_events: u64,
    /// What the live version took.
    pub live_time: Duration,
}

impl Counts {
    /// What one event took of the candidate, in the mean.
    pub fn latency(&self) -> Duration {
        Duration::from_nanos((self.time.as_nanos() as u64).checked_div(self.events).unwrap_or(0))
    }

    /// What one event took of the live version, in the mean.
    pub fn live_latency(&self) -> Duration {
        Duration::from_nanos((self.live_time.as_nanos() as u64).checked_div(self.live_events).unwrap_or(0))
    }
}

/// What the shard saw of some events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// As in [`Counts`].
    pub events: u64,
    /// As in [`Counts`].
    pub failures: u64,
    /// As in [`Counts`].
    pub differences: u64,
}

/// What the shards' time went into.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// All of it.
    pub time: Duration,
    /// For so many events.
    pub events: u64,
    /// As in [`Counts`].
    pub timed: u64,
    /// As in [`Counts`].
    pub slow: u64,
}

/// A bound of a trial, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// `errors_max`
    Errors,
    /// `latency_max`
    Latency,
    /// `differences_max`
    Differences,
}

impl Bound {
    /// The key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors_max",
            Self::Latency => "latency_max",
            Self::Differences => "differences_max",
        }
    }
}

/// What is to become of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Too little is known.
    Continue,
    /// The candidate is to be the live version.
    Promote,
    /// The trial is to end, and the live version to stay.
    Abort {
        /// Which bound was exceeded.
        bound: Bound,
        /// By what.
        reason: String,
    },
}

impl Trial {
    /// A trial that begins now.
    pub fn new(rollout: Rollout) -> Self {
        Self {
            rollout,
            started: Instant::now(),
            events: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            differences: AtomicU64::new(0),
            time_ns: AtomicU64::new(0),
            call_ns_max: AtomicU64::new(0),
            timed: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            live_events: AtomicU64::new(0),
            live_time_ns: AtomicU64::new(0),
            samples: Mutex::default(),
        }
    }

    /// Its bounds.
    pub fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    /// Adds what a shard saw.
    pub fn add(&self, seen: Seen) {
        // Failures first: a share is never taken for smaller than it is.
        self.failures.fetch_add(seen.failures, Ordering::Relaxed);
        self.differences.fetch_add(seen.differences, Ordering::Relaxed);
        self.events.fetch_add(seen.events, Ordering::Release);
    }

    /// Adds what the candidate took.
    pub fn add_time(&self, took: Took) {
        let nanos = nanos(took.time);
        self.time_ns.fetch_add(nanos, Ordering::Relaxed);
        self.call_ns_max.fetch_max(nanos.checked_div(took.events).unwrap_or(0), Ordering::Relaxed);
        self.slow.fetch_add(took.slow, Ordering::Relaxed);
        self.timed.fetch_add(took.timed, Ordering::Release);
    }

    /// Adds what the live version took for so many events.
    pub fn add_live(&self, time: Duration, events: u64) {
        self.live_time_ns.fetch_add(nanos(time), Ordering::Relaxed);
        self.live_events.fetch_add(events, Ordering::Relaxed);
    }

    /// Keeps an event that went wrong, if not enough of those are known already. `reason` is asked for only then.
    pub fn sample(&self, topic: &str, partition: i32, offset: i64, reason: impl FnOnce() -> String) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() < SAMPLES_MAX {
            let mut reason = reason();
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
            samples.push(Sample { origin: format!("{topic}/{partition}/{offset}"), reason });
        }
    }

    /// The first events that went wrong.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let events = self.events.load(Ordering::Acquire);
        let timed = self.timed.load(Ordering::Acquire);
        Counts {
            events,
            timed,
            slow: load(&self.slow),
            failures: load(&self.failures),
            differences: load(&self.differences),
            time: Duration::from_nanos(load(&self.time_ns)),
            call_max: Duration::from_nanos(load(&self.call_ns_max)),
            live_events: load(&self.live_events),
            live_time: Duration::from_nanos(load(&self.live_time_ns)),
        }
    }

    /// What is to become of it, by what was counted so far.
    pub fn judge(&self) -> Verdict {
        judge(&self.counts(), &self.rollout, self.started.elapsed())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What the counts mean. A bound ends the trial as soon as it is surely exceeded: when it would be even if all else went well,
/// or when it is by more than chance explains. After `events`, or after `time`, whichever comes first, every bound counts as it
/// is, and a version within all of them is promoted; one that has not answered a single event goes on for longer than `time`.
///
/// Latency is what one event takes of the candidate, its CPU time and what it waits for. Within a batch it is known in the mean
/// alone, so some events run on their own: of those no more than one in a hundred may take longer than the bound, and what is
/// more than chance explains ends the trial at any time.
pub fn judge(counts: &Counts, rollout: &Rollout, elapsed: Duration) -> Verdict {
    let over = counts.events >= rollout.events || elapsed >= rollout.time && counts.events > 0;
    let exceeds = |count: u64, bound: f64| {
        let all = bound * rollout.events.max(counts.events) as f64;
        let expected = bound * counts.events as f64;
        // Without a bound above zero there is no such thing as bad luck.
        let luck = if bound > 0.0 { luck(expected, DEVIATIONS) } else { 0.0 };
        let limit = if over { expected } else { all.min(expected + luck) };
        count as f64 > limit
    };
    if exceeds(counts.failures, rollout.errors_max) {
        let reason = share("failed", counts.failures, counts.events, "errors_max", rollout.errors_max);
        return Verdict::Abort { bound: Bound::Errors, reason };
    }
    if rollout.mode == RolloutMode::Shadow && exceeds(counts.differences, rollout.differences_max) {
        let reason = share(
            "were answered differently",
            counts.differences,
            counts.events,
            "differences_max",
            rollout.differences_max,
        );
        return Verdict::Abort { bound: Bound::Differences, reason };
    }
    if let Some(reason) = too_slow(counts, rollout, over) {
        return Verdict::Abort { bound: Bound::Latency, reason };
    }
    if over { Verdict::Promote } else { Verdict::Continue }
}

/// What so many events more may be by chance, where so many are expected.
fn luck(expected: f64, deviations: f64) -> f64 {
    deviations * expected.sqrt() + 1.0
}

/// In what the candidate takes too long, if it does.
fn too_slow(counts: &Counts, rollout: &Rollout, over: bool) -> Option<String> {
    let max = rollout.latency_max;
    if (over || counts.events >= LATENCY_EVENTS_MIN) && counts.latency() > max {
        let live = match counts.live_events {
            0 => String::new(),
            _ => format!(" (of the live version {:?})", counts.live_latency()),
        };
        let latency = counts.latency();
        return Some(format!("an event takes {latency:?} of it in the mean{live}, more than `latency_max`, {max:?}"));
    }
    let Counts { timed, slow, .. } = *counts;
    let expected = SLOW_MAX * timed as f64;
    let limit = expected + luck(expected, if over { SLOW_DEVIATIONS } else { DEVIATIONS });
    (slow as f64 > limit).then(|| {
        format!(
            "{slow} of {timed} events that were timed took longer than `latency_max`, {max:?}, and one in a hundred may"
        )
    })
}

fn share(what: &str, count: u64, events: u64, key: &str, bound: f64) -> String {
    format!("{count} of {events} events {what}, more than `{key}`, {bound}, allows")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(mode: RolloutMode) -> Rollout {
        Rollout {
            mode,
            share: 0.05,
            events: 10_000,
            time: Duration::from_secs(600),
            errors_max: 0.01,
            latency_max: Duration::from_millis(5),
            differences_max: 0.0,
        }
    }

    fn counts(events: u64, failures: u64, differences: u64, latency_us: u64) -> Counts {
        let time = Duration::from_micros(latency_us * events);
        Counts { events, failures, differences, time, ..Counts::default() }
    }

    /// `continue`, `promote`, or the key of the bound that was exceeded.
    fn check(rollout: &Rollout, counts: Counts, elapsed_s: u64, expected: &str) {
        let verdict = match judge(&counts, rollout, Duration::from_secs(elapsed_s)) {
            Verdict::Continue => "continue".to_owned(),
            Verdict::Promote => "promote".to_owned(),
            Verdict::Abort { reason, .. } => reason.split('`').nth(1).expect("a reason names its key").to_owned(),
        };
        assert_eq!(verdict, expected, "{counts:?} after {elapsed_s} s");
    }

    #[test]
    fn a_trial_ends_with_its_events_or_its_time() {
        let canary = rollout(RolloutMode::Canary);
        check(&canary, counts(0, 0, 0, 0), 1, "continue");
        check(&canary, counts(9_999, 0, 0, 10), 599, "continue");
        check(&canary, counts(10_000, 0, 0, 10), 1, "promote");
        check(&canary, counts(3, 0, 0, 10), 600, "promote");
        check(&canary, counts(0, 0, 0, 0), 6_000, "continue");
    }

    #[test]
    fn errors_end_it_once_they_are_more_than_bad_luck() {
        let canary = rollout(RolloutMode::Canary);
        check(&canary, counts(1, 1, 0, 10), 1, "continue");
        check(&canary, counts(20, 2, 0, 10), 1, "continue");
        check(&canary, counts(20, 5, 0, 10), 1, "errors_max");
        check(&canary, counts(1_000, 15, 0, 10), 1, "continue");
        check(&canary, counts(1_000, 30, 0, 10), 1, "errors_max");
        check(&canary, counts(9_000, 101, 0, 10), 1, "errors_max");
        check(&canary, counts(10_000, 100, 0, 10), 1, "promote");
        check(&canary, counts(10_000, 101, 0, 10), 1, "errors_max");
        check(&canary, counts(200, 3, 0, 10), 600, "errors_max");
        let strict = Rollout { errors_max: 0.0, ..canary };
        check(&strict, counts(1, 1, 0, 10), 1, "errors_max");
    }

    #[test]
    fn differences_count_in_the_shadow_alone() {
        let shadow = rollout(RolloutMode::Shadow);
        check(&shadow, counts(100, 0, 1, 10), 1, "differences_max");
        check(&rollout(RolloutMode::Canary), counts(10_000, 0, 1, 10), 1, "promote");
        let lenient = Rollout { differences_max: 0.5, ..shadow };
        check(&lenient, counts(10, 0, 10, 10), 1, "continue");
        check(&lenient, counts(100, 0, 90, 10), 1, "differences_max");
        check(&lenient, counts(10_000, 0, 5_000, 10), 1, "promote");
    }

    #[test]
    fn a_slow_version_is_found_out_once_its_mean_says_something() {
        let canary = rollout(RolloutMode::Canary);
        check(&canary, counts(49, 0, 0, 6_000), 1, "continue");
        check(&canary, counts(50, 0, 0, 6_000), 1, "latency_max");
        check(&canary, counts(50, 0, 0, 5_000), 1, "continue");
        check(&canary, counts(10, 0, 0, 6_000), 600, "latency_max");
    }

    #[test]
    fn a_version_that_is_slow_now_and_then_is_found_out_though_its_mean_is_small() {
        let canary = rollout(RolloutMode::Canary);
        let timed = |events: u64, timed: u64, slow: u64| Counts { timed, slow, ..counts(events, 0, 0, 100) };
        // An event in fifty is slow, of which a quarter is timed.
        check(&canary, timed(400, 100, 2), 1, "continue");
        check(&canary, timed(9_000, 2_250, 40), 1, "continue");
        check(&canary, timed(10_000, 2_500, 50), 1, "latency_max");
        // An event in a hundred may be, and one more by chance.
        check(&canary, timed(10_000, 2_500, 30), 1, "promote");
        check(&canary, timed(50, 12, 1), 600, "promote");
        // One in ten is seen at once.
        check(&canary, timed(1_000, 250, 25), 1, "latency_max");
    }

    #[test]
    fn reasons_are_sentences() {
        let mut counts = counts(50, 0, 0, 6_000);
        (counts.live_events, counts.live_time) = (10, Duration::from_micros(20));
        let verdict = judge(&counts, &rollout(RolloutMode::Canary), Duration::ZERO);
        let reason = "an event takes 6ms of it in the mean (of the live version 2µs), more than `latency_max`, 5ms";
        assert_eq!(verdict, Verdict::Abort { bound: Bound::Latency, reason: reason.to_owned() });
        (counts.live_time, counts.time, counts.timed, counts.slow) = (Duration::ZERO, Duration::ZERO, 40, 7);
        let verdict = judge(&counts, &rollout(RolloutMode::Canary), Duration::ZERO);
        let reason = "7 of 40 events that were timed took longer than `latency_max`, 5ms, and one in a hundred may";
        assert_eq!(verdict, Verdict::Abort { bound: Bound::Latency, reason: reason.to_owned() });
        let verdict = judge(&self::counts(100, 0, 2, 0), &rollout(RolloutMode::Shadow), Duration::ZERO);
        let reason = "2 of 100 events were answered differently, more than `differences_max`, 0, allows";
        assert_eq!(verdict, Verdict::Abort { bound: Bound::Differences, reason: reason.to_owned() });
    }

    #[test]
    fn samples_are_the_first_ones_and_bounded() {
        let trial = Trial::new(rollout(RolloutMode::Shadow));
        for offset in 0..100 {
            trial.sample("in", 3, offset, || "ä".repeat(1_000));
        }
        let samples = trial.samples();
        assert_eq!(samples.len(), SAMPLES_MAX);
        assert_eq!(samples[1].origin, "in/3/1");
        assert!(samples.iter().all(|sample| sample.reason.len() <= REASON_BYTES_MAX));
    }
}
