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

impl Default for Allowance {
    /// As much as can be saved up.
    fn default() -> Self {
        Self { saved_s: SAVED_MAX.as_secs_f64(), last: Instant::now() }
    }
}

impl Allowance {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Rollout, RolloutMode};
    use crate::data::failure::{Failure, Kind};
    use crate::data::plugin::verdicts::{Field, HeaderList};
    use crate::data::trial::Counts;

    /// Answers each event as the words behind its value's `|` say: outputs joined by `+`, each `port:value`, with `@` and a
    /// timestamp or `%` and a partition behind it; `!` and a kind fails.
    struct Words;

    impl Worker for Words {
        fn run(&mut self, _: &Call<'_>, events: &[Event<'_>], _: usize, verdicts: &mut Verdicts, _: &mut dyn FnMut()) {
            verdicts.clear();
            for event in events {
                let value = std::str::from_utf8(event.value.unwrap_or_default()).expect("text");
                answer(verdicts, value.split_once('|').map_or("", |(_, own)| own));
            }
        }
    }

    fn answer(verdicts: &mut Verdicts, words: &str) {
        let first = verdicts.outputs_len();
        if let Some(kind) = words.strip_prefix('!') {
            let kind = *Kind::ALL.iter().find(|known| known.as_str() == kind).expect("a kind");
            return verdicts.fail(first, Failure::new(kind, "because"));
        }
        for (port, word) in words.split('+').filter_map(|word| word.split_once(':')) {
            let (word, partition) = word.split_once('%').map_or((word, None), |(word, it)| (word, it.parse().ok()));
            let (value, timestamp) = word.split_once('@').map_or((word, None), |(word, it)| (word, it.parse().ok()));
            let value = Field::Bytes(verdicts.push_bytes(value.as_bytes()));
            let port = port.parse().expect("a number");
            let (key, headers) = (Field::Inherited, HeaderList::Inherited);
            verdicts.push_output(Output { port, key, value, headers, timestamp, partition });
        }
        verdicts.answer(first);
    }

    fn shadow() -> Shadow {
        let rollout = Rollout {
            mode: RolloutMode::Shadow,
            share: 1.0,
            events: 100,
            time: Duration::from_secs(1),
            errors_max: 0.0,
            latency_max: Duration::from_secs(1),
            differences_max: 0.0,
        };
        let ports = |names: [&str; 2]| names.map(str::to_owned).to_vec().into();
        Shadow {
            stage: 0,
            worker: 0,
            live_ports: ports(["default", "alert"]),
            ports: ports(["alert", "default"]),
            trial: Arc::new(Trial::new(rollout)),
        }
    }

    fn compare(shadow: &Shadow, values: &[String], allowance: &mut Allowance) {
        let event = |(value, offset): (&'static str, i64)| Event {
            topic: "in",
            partition: 2,
            offset,
            timestamp: 7,
            key: Some(b"k"),
            value: Some(value.as_bytes()),
            headers: Headers::Empty,
        };
        let values: Vec<&'static str> = values.iter().map(|value| &*value.clone().leak()).collect();
        let events: Vec<_> = values.iter().copied().zip(0..).map(event).collect();
        let mut live = Verdicts::default();
        values.iter().for_each(|value| answer(&mut live, value.split_once('|').map_or("", |(live, _)| live)));
        let call = Call { route: "r", generation: 1, attempt: 1 };
        shadow.compare(&mut Words, &call, &events, &live, &mut Verdicts::default(), allowance, &mut || ());
    }

    /// What is said of an event that the live version answers with `live` and the candidate with `own`. Of the live version port
    /// 0 is `default`, of the candidate it is port 1.
    fn check(live: &str, own: &str, expected: Option<&str>) {
        let shadow = shadow();
        compare(&shadow, &[format!("{live}|{own}")], &mut Allowance::default());
        let Counts { events, failures, differences, .. } = shadow.trial.counts();
        let reasons = shadow.trial.samples().into_iter().map(|sample| sample.reason).collect::<Vec<_>>();
        assert_eq!(reasons, Vec::from_iter(expected.map(str::to_owned)), "{live}|{own}");
        let fails = u64::from(own.starts_with('!') && expected.is_some());
        assert_eq!((events, failures, differences), (1, fails, u64::from(expected.is_some())));
    }

    #[test]
    fn answers_are_compared_in_all_their_parts() {
        check("0:a+1:b", "1:a+0:b", None);
        check("", "", None);
        check("0:a@7", "1:a", None);
        check("0:a", "1:bc", Some("output 0 has another value: 2 bytes instead of 1 bytes, or not the same ones"));
        check("0:a", "0:a", Some("output 0 has another port: `alert` instead of `default`"));
        check("0:a", "", Some("it made 0 outputs instead of 1"));
        check("0:a", "1:a@8", Some("output 0 has another timestamp: 8 instead of 7"));
        check("0:a", "1:a%3", Some("output 0 has another partition"));
        check("0:a", "!trap", Some("it failed (trap: because), and the live version did not"));
        check("!permanent", "!permanent", None);
        check("!permanent", "!trap", Some("it failed (trap: because) instead of permanent"));
        check("!permanent", "1:a", Some("it made 1 outputs where the live version failed (permanent)"));
    }

    #[test]
    fn a_sample_names_its_event() {
        let shadow = shadow();
        compare(&shadow, &["0:a|1:a".to_owned(), "0:a|1:b".to_owned()], &mut Allowance::default());
        assert_eq!(shadow.trial.samples()[0].origin, "in/2/1");
    }

    #[test]
    fn the_shadow_takes_no_more_than_its_share_of_the_time() {
        let begin = Instant::now();
        let mut allowance = Allowance { saved_s: 0.0, last: begin };
        let (mut now, pace, mut spent) = (begin, Duration::from_millis(1), Duration::ZERO);
        for _ in 0..1_000 {
            now += Duration::from_millis(10);
            let time = pace * allowance.events(now, Some(pace)).min(512) as u32;
            allowance.took(time);
            (now, spent) = (now + time, spent + time);
        }
        let share = spent.as_secs_f64() / (now - begin).as_secs_f64();
        assert!((TIME_SHARE - 0.02..=TIME_SHARE + 0.01).contains(&share), "{share}");
        // One that overran waits until it is paid for.
        allowance.took(Duration::from_secs(1));
        assert_eq!(allowance.events(now + Duration::from_secs(1), Some(pace)), 0);
        assert!(allowance.events(now + Duration::from_secs(6), Some(pace)) > 0);
    }
}
