//! Candidates in the shadow: they get events that the live version has answered, and what they answer is compared with that and
//! thrown away. Nothing in here touches an event's outcome. How much of the shard's time they may take is bounded: beyond it,
//! fewer events are compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chain::{Worker, field, headers};
use super::event::{Event, Header, Headers};
use super::origin;
use super::plugin::Call;
use super::plugin::verdicts::{Output, Verdict, Verdicts};
use super::trial::{Seen, Trial};

/// The part of the shard's time that candidates in the shadow may take, all together.
const TIME_SHARE: f64 = 0.2;
/// What they may save up while there is little to do.
const SAVED_MAX: Duration = Duration::from_millis(100);
/// Events of the first comparison, before anything is known of a candidate's pace.
const EVENTS_FIRST: usize = 16;

/// A candidate in the shadow of one stage of a route.
#[derive(Debug, Clone)]
pub struct Shadow {
    /// The stage.
    pub stage: usize,
    /// Index of its worker on a shard.
    pub worker: usize,
    /// What the live version's ports are called.
    pub live_ports: Arc<[String]>,
    /// What its own ports are called.
    pub ports: Arc<[String]>,
    /// Counts what comes of it.
    pub trial: Arc<Trial>,
}

/// What the shadow may still take of a shard's time.
#[derive(Debug)]
pub struct Allowance {
    /// Negative, once a candidate took longer than was to be expected.
    saved_s: f64,
    last: Instant,
}

impl Allowance {
    /// As much as can be saved up.
    pub fn new() -> Self {
        Self { saved_s: SAVED_MAX.as_secs_f64(), last: Instant::now() }
    }

    /// How many events may be compared now, if one takes so long.
    fn events(&mut self, now: Instant, pace: Option<Duration>) -> usize {
        let earned = now.saturating_duration_since(self.last).as_secs_f64() * TIME_SHARE;
        self.last = now;
        self.saved_s = (self.saved_s + earned).min(SAVED_MAX.as_secs_f64());
        if self.saved_s <= 0.0 {
            return 0;
        }
        // At least one: a candidate that is slower than what can be saved up has to show itself, too.
        pace.map_or(EVENTS_FIRST, |pace| (self.saved_s / pace.as_secs_f64().max(1e-9)) as usize).max(1)
    }

    fn took(&mut self, time: Duration) {
        self.saved_s -= time.as_secs_f64();
    }
}

impl Shadow {
    /// Offers some of a stage's events to the candidate, and compares. `live` are the live version's verdicts of the first of
    /// them; `arena` takes those of the candidate.
    #[expect(clippy::too_many_arguments, reason = "the shard lends each of them apart")]
    pub fn compare<W: Worker>(
        &self,
        worker: &mut W,
        call: &Call<'_>,
        events: &[Event<'_>],
        live: &Verdicts,
        arena: &mut Verdicts,
        allowance: &mut Allowance,
        between: &mut dyn FnMut(),
    ) {
        let started = Instant::now();
        let counts = self.trial.counts();
        let pace = (counts.events > 0).then(|| counts.latency());
        let events = &events[..events.len().min(live.len()).min(allowance.events(started, pace))];
        if events.is_empty() {
            return;
        }
        worker.run(call, events, 1, arena, between);
        allowance.took(started.elapsed());
        let mut seen = Seen::default();
        for (index, event) in events.iter().enumerate().take(arena.len()) {
            seen.events += 1;
            let Some(difference) = self.difference(event, (live, live.get(index)), (arena, arena.get(index))) else {
                continue;
            };
            seen.differences += 1;
            seen.failures += u64::from(matches!(arena.get(index), Verdict::Failed(_)));
            self.trial.sample(event.topic, event.partition, event.offset, || difference);
        }
        self.trial.add(seen);
    }

    /// In what the candidate's answer to an event differs from that of the live version. A failure of the same kind is the same
    /// answer, whatever the message.
    fn difference(
        &self,
        event: &Event<'_>,
        (live, live_verdict): (&Verdicts, Verdict<'_>),
        (own, verdict): (&Verdicts, Verdict<'_>),
    ) -> Option<String> {
        let (expected, outputs) = match (live_verdict, verdict) {
            (Verdict::Outputs(expected), Verdict::Outputs(outputs)) => (expected, outputs),
            (Verdict::Failed(expected), Verdict::Failed(failure)) => {
                let (kind, message) = (failure.kind, &failure.message);
                return (expected.kind != kind)
                    .then(|| format!("it failed ({kind}: {message}) instead of {}", expected.kind));
            }
            (Verdict::Outputs(_), Verdict::Failed(failure)) => {
                return Some(format!(
                    "it failed ({}: {}), and the live version did not",
                    failure.kind, failure.message
                ));
            }
            (Verdict::Failed(expected), Verdict::Outputs(outputs)) => {
                let count = outputs.len();
                return Some(format!("it made {count} outputs where the live version failed ({})", expected.kind));
            }
        };
        if expected.len() != outputs.len() {
            return Some(format!("it made {} outputs instead of {}", outputs.len(), expected.len()));
        }
        let pairs = expected.iter().zip(outputs).enumerate();
        pairs.into_iter().find_map(|(index, (expected, output))| {
            let part = self.part(event, (live, expected), (own, output))?;
            Some(format!("output {index} has another {part}"))
        })
    }

    /// Which part of an output differs, and how.
    fn part(
        &self,
        event: &Event<'_>,
        (live, expected): (&Verdicts, &Output),
        (own, output): (&Verdicts, &Output),
    ) -> Option<String> {
        let port = |ports: &[String], output: &Output| ports[usize::from(output.port)].clone();
        let (expected_port, port) = (port(&self.live_ports, expected), port(&self.ports, output));
        if expected_port != port {
            return Some(format!("port: `{port}` instead of `{expected_port}`"));
        }
        let bytes = |name: &str, expected: Option<&[u8]>, found: Option<&[u8]>| {
            let print =
                |bytes: Option<&[u8]>| bytes.map_or("none".to_owned(), |bytes| format!("{} bytes", bytes.len()));
            let differs = expected != found;
            differs.then(|| format!("{name}: {} instead of {}, or not the same ones", print(found), print(expected)))
        };
        let time = |output: &Output| output.timestamp.unwrap_or(event.timestamp);
        bytes("key", field(expected.key, event.key, live), field(output.key, event.key, own))
            .or_else(|| bytes("value", field(expected.value, event.value, live), field(output.value, event.value, own)))
            .or_else(|| {
                let same = same_headers(headers(expected, event, live), headers(output, event, own));
                (!same).then(|| "set of headers".to_owned())
            })
            .or_else(|| {
                let (expected, found) = (time(expected), time(output));
                (expected != found).then(|| format!("timestamp: {found} instead of {expected}"))
            })
            .or_else(|| (expected.partition != output.partition).then(|| "partition".to_owned()))
    }
}

/// The host's own headers are not the plugin's to set: they are none of its answer.
fn same_headers(expected: Headers<'_>, found: Headers<'_>) -> bool {
    let own = |header: &Header<'_>| !header.name.starts_with(origin::PREFIX);
    expected.iter().filter(own).eq(found.iter().filter(own))
}
