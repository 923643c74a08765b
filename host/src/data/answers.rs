//! What all routes of a lane said of a batch, event by event: what the engine is told of it, and what is then produced.
//! Pure; the order in here is the order of the outputs: by event, then by route, then as the plugins gave them.

use super::chain::{Answer, Ready, Run};
use super::engine::{OnFailure, Refusal, Refused, RouteFailure};
use super::failure::{Failure, Kind};
use super::route::{Picked, Plan};
use super::size;
use crate::config::model::{FailurePolicy, OnPermanent};

/// The answers of one route to the events that it took.
#[derive(Debug)]
struct RouteAnswers<'a> {
    route: u16,
    /// By event, ascending.
    entries: Vec<(u32, Answer)>,
    ready: Vec<Ready<'a>>,
    /// The events that other versions than the live ones answered, ascending, and which.
    variants: Vec<(u32, u8)>,
    /// The first entry that was not produced yet.
    next: usize,
}

/// The answers of all routes to the first events of a batch.
#[derive(Debug)]
pub struct Answers<'a> {
    routes: Vec<RouteAnswers<'a>>,
    /// How many events every route has answered, or passed over.
    count: usize,
}

/// What is to be produced for one event on one route.
#[derive(Debug)]
pub enum Product<'p, 'a> {
    /// These outputs, numbered from 0.
    Outputs(&'p [Ready<'a>]),
    /// A letter, if the engine asked for one.
    Failed {
        /// What happened.
        failure: &'p Failure,
        /// The plugin that it happened in: an index into the route's stages.
        stage: Option<usize>,
    },
}

/// What an output topic takes, as far as is known.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'t> {
    /// The topic's name.
    pub topic: &'t str,
    /// The bytes of one record that it takes.
    pub record_bytes_max: usize,
    /// How many partitions it has.
    pub partitions: Option<u32>,
}

impl Bound<'_> {
    /// Why the topic would never take an output, if so.
    pub fn refusal(&self, ready: &Ready<'_>) -> Option<Failure> {
        let Self { topic, record_bytes_max, partitions } = *self;
        let bytes = size::record(ready.key, ready.value, ready.headers);
        if bytes > record_bytes_max {
            let message = format!(
                "an output of {bytes} bytes for topic `{topic}`, which takes records of at most {record_bytes_max} bytes"
            );
            return Some(Failure::new(Kind::TooLarge, message));
        }
        let (partition, partitions) = ready.partition.zip(partitions)?;
        (partition >= partitions).then(|| {
            let message = format!(
                "an output for partition {partition} of topic `{topic}`, which has {partitions}, counted from 0"
            );
            Failure::new(Kind::Rejected, message)
        })
    }
}

impl RouteAnswers<'_> {
    fn variant(&self, event: u32) -> u8 {
        match self.variants.binary_search_by_key(&event, |(event, _)| *event) {
            Ok(index) => self.variants[index].1,
            Err(_) => 0,
        }
    }
}

impl<'a> Answers<'a> {
    /// No answers yet, to a batch of so many events.
    pub fn new(count: usize) -> Self {
        Self { routes: Vec::new(), count }
    }

    /// How many events are answered: all, unless their outputs are too much to be held at once.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the batch had no events.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a route's answers. To be called in the order of the routes in the config.
    pub fn add(&mut self, route: u16, picked: &mut Picked, run: Run<'a>) {
        let unanswered = if picked.all {
            Some(run.answers.len())
        } else {
            picked.events.get(run.answers.len()).map(|event| *event as usize)
        };
        self.count = self.count.min(unanswered.unwrap_or(usize::MAX));
        let event_of = |index: usize| if picked.all { index as u32 } else { picked.events[index] };
        let variants = run.variants.iter().enumerate().filter(|(_, variant)| **variant > 0);
        let variants = variants.map(|(index, variant)| (event_of(index), *variant)).collect();
        let mut entries: Vec<_> = if picked.all {
            run.answers.into_iter().enumerate().map(|(event, answer)| (event as u32, answer)).collect()
        } else {
            picked.events.iter().copied().zip(run.answers).collect()
        };
        if !picked.failed.is_empty() {
            entries.extend(
                picked.failed.drain(..).map(|(event, failure)| (event, Answer::Failed { failure, stage: None })),
            );
            entries.sort_by_key(|(event, _)| *event);
        }
        self.routes.push(RouteAnswers { route, entries, ready: run.ready, variants, next: 0 });
    }

    /// Fails what no topic would take: an event with such an output fails whole, on its route, by the plugin that made it.
    pub fn refuse_outputs(&mut self, mut refusal: impl FnMut(&Ready<'_>) -> Option<Failure>) {
        for RouteAnswers { entries, ready, .. } in &mut self.routes {
            for (_, answer) in entries {
                let Answer::Ready(range) = answer else { continue };
                let outputs = &ready[range.start as usize..range.end as usize];
                let refused = outputs.iter().find_map(|output| Some((refusal(output)?, stage_of(output))));
                if let Some((failure, stage)) = refused {
                    *answer = Answer::Failed { failure, stage };
                }
            }
        }
    }

    /// Fails what the broker refused before: an output of this event to the topic `name`, if its route still makes one.
    pub fn refuse(&mut self, event: u32, refused: Refused, name: &str) {
        let (kind, what) = match refused.reason {
            Refusal::TooLarge => (Kind::TooLarge, "is larger than it takes"),
            Refusal::Rejected => (Kind::Rejected, "was rejected by its broker"),
            // Its route has failed anyway.
            Refusal::LetterTooLarge { .. } => return,
        };
        for route in self.routes.iter_mut().filter(|route| route.route == refused.route) {
            let Ok(index) = route.entries.binary_search_by_key(&event, |(event, _)| *event) else { continue };
            let Answer::Ready(range) = &route.entries[index].1 else { continue };
            let outputs = &route.ready[range.start as usize..range.end as usize];
            if let Some(output) = outputs.iter().find(|ready| ready.topic == refused.output) {
                let failure = Failure::new(kind, format!("an output for topic `{name}` {what}"));
                route.entries[index].1 = Answer::Failed { failure, stage: stage_of(output) };
            }
        }
    }

    /// For each event that is answered how many outputs there are, and what failed, as the engine wants it.
    pub fn summary<'p>(&self, plans: &'p [Plan], messages: &mut Vec<u32>, failures: &mut Vec<RouteFailure<'p>>) {
        messages.clear();
        messages.resize(self.count, 0);
        failures.clear();
        for route in &self.routes {
            let policy = &plans[usize::from(route.route)].failure;
            for (event, answer) in route.entries.iter().take_while(|(event, _)| (*event as usize) < self.count) {
                match answer {
                    Answer::Ready(range) => messages[*event as usize] += range.end - range.start,
                    Answer::Failed { failure, .. } => {
                        failures.push(RouteFailure {
                            event: *event,
                            route: route.route,
                            on: on_failure(failure.kind, policy),
                        });
                    }
                }
            }
        }
        failures.sort_by_key(|failure| (failure.event, failure.route));
    }

    /// What failed of the events that are answered: the route, the event, the route's variant, what happened, and in which stage.
    pub fn failures(&self) -> impl Iterator<Item = (u16, u32, u8, &Failure, Option<usize>)> {
        self.routes.iter().flat_map(|route| {
            let entries = route.entries.iter().take_while(|(event, _)| (*event as usize) < self.count);
            entries.filter_map(|(event, answer)| match answer {
                Answer::Failed { failure, stage } => {
                    Some((route.route, *event, route.variant(*event), failure, *stage))
                }
                Answer::Ready(_) => None,
            })
        })
    }

    /// Hands the topics of all outputs and letters of an event to `ask`.
    pub fn topics<T>(&self, event: u32, plans: &[Plan], ask: impl FnOnce(&mut dyn Iterator<Item = u16>) -> T) -> T {
        let topics = self.routes.iter().flat_map(|route| {
            let answer = route.entries.binary_search_by_key(&event, |(event, _)| *event);
            let (outputs, letter) = match answer.map(|index| &route.entries[index].1) {
                Ok(Answer::Ready(range)) => (range.start as usize..range.end as usize, None),
                Ok(Answer::Failed { .. }) => (0..0, Some(plans[usize::from(route.route)].dead_letter)),
                Err(_) => (0..0, None),
            };
            route.ready[outputs].iter().map(|ready| ready.topic).chain(letter)
        });
        ask(&mut { topics })
    }

    /// Calls `produce` for what each route has for an event, and by which of its variants, in the order of the routes. Events
    /// come in ascending order: what is behind an event is not looked at again.
    pub fn of_event(&mut self, event: u32, mut produce: impl FnMut(u16, u8, Product<'_, 'a>)) {
        for route in &mut self.routes {
            while route.entries.get(route.next).is_some_and(|(behind, _)| *behind < event) {
                route.next += 1;
            }
            match route.entries.get(route.next) {
                Some((at, answer)) if *at == event => produce(
                    route.route,
                    route.variant(event),
                    match answer {
                        Answer::Ready(range) => {
                            Product::Outputs(&route.ready[range.start as usize..range.end as usize])
                        }
                        Answer::Failed { failure, stage } => Product::Failed { failure, stage: *stage },
                    },
                ),
                _ => {}
            }
        }
    }
}

/// The plugin that made an output, as an index into the route's stages.
fn stage_of(output: &Ready<'_>) -> Option<usize> {
    output.stage.map(usize::from)
}

/// What the policy of a route makes of a kind of failure.
fn on_failure(kind: Kind, policy: &FailurePolicy) -> OnFailure<'_> {
    match (kind, policy.on_permanent) {
        (Kind::Transient, _) => OnFailure::Retry { attempts: policy.attempts, backoff: &policy.backoff },
        (Kind::Permanent, OnPermanent::Drop) => OnFailure::Drop,
        (Kind::Permanent, OnPermanent::Halt) => OnFailure::Halt,
        _ => OnFailure::Letter,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::{Backoff, OnFilterError};
    use crate::data::event::Headers;

    fn plan(on_permanent: OnPermanent) -> Plan {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(1), jitter: 0.0 };
        Plan {
            id: "r".to_owned(),
            was: None,
            filter: None,
            on_filter_error: OnFilterError::DeadLetter,
            stages: Vec::new(),
            plugins: Vec::new(),
            direct: 0,
            label: None,
            failure: FailurePolicy {
                attempts: 3,
                backoff,
                breaker: None,
                on_permanent,
                dead_letter: "letters".to_owned(),
            },
            dead_letter: 9,
            trials: None,
        }
    }

    fn ready(topic: u16, value: &'static str) -> Ready<'static> {
        let value = Some(value.as_bytes());
        Ready { topic, stage: Some(topic), key: None, value, headers: Headers::Empty, timestamp: 0, partition: None }
    }

    /// A route's run from one word an event: `topic:value` outputs joined by `+`, `-` for none, or `!` and a kind.
    fn run(words: &[&'static str]) -> Run<'static> {
        let mut run = Run::default();
        for word in words {
            if let Some(kind) = word.strip_prefix('!') {
                let kind = *Kind::ALL.iter().find(|known| known.as_str() == kind).expect("a kind");
                run.answers.push(Answer::Failed { failure: Failure::new(kind, "because"), stage: Some(0) });
                continue;
            }
            let first = run.ready.len() as u32;
            for (topic, value) in word.split('+').filter_map(|output| output.split_once(':')) {
                run.ready.push(ready(topic.parse().expect("a number"), value));
            }
            run.answers.push(Answer::Ready(first..run.ready.len() as u32));
        }
        run
    }

    /// What is produced for each event: `route>outputs` or `route>!kind`; a variant behind the route.
    fn print(answers: &mut Answers<'_>) -> Vec<String> {
        let count = answers.len();
        let of_event = |event: usize| {
            let mut parts = Vec::new();
            answers.of_event(event as u32, |route, variant, product| {
                let what = match product {
                    Product::Failed { failure, stage } => {
                        format!("!{}{}", failure.kind, stage.map_or(String::new(), |stage| format!("@{stage}")))
                    }
                    Product::Outputs(outputs) => {
                        let print = |ready: &Ready<'_>| {
                            format!("{}:{}", ready.topic, String::from_utf8_lossy(ready.value.unwrap()))
                        };
                        outputs.iter().map(print).collect::<Vec<_>>().join("+")
                    }
                };
                let variant = if variant > 0 { format!("/{variant}") } else { String::new() };
                parts.push(format!("{route}{variant}>{what}"));
            });
            parts.join(" ")
        };
        (0..count).map(of_event).collect()
    }

    fn picked(events: &[u32]) -> Picked {
        Picked { events: events.to_vec(), ..Picked::default() }
    }

    fn all() -> Picked {
        Picked { all: true, ..Picked::default() }
    }

    #[test]
    fn answers_come_by_event_then_by_route() {
        let mut answers = Answers::new(3);
        answers.add(0, &mut all(), run(&["0:a", "-", "0:c+1:d"]));
        let mut filtered = picked(&[2]);
        filtered.failed.push((0, Failure::new(Kind::Filter, "no")));
        answers.add(1, &mut filtered, run(&["1:x"]));
        let (plans, mut messages, mut failures) =
            ([plan(OnPermanent::Drop), plan(OnPermanent::Drop)], Vec::new(), Vec::new());
        answers.summary(&plans, &mut messages, &mut failures);
        assert_eq!(messages, [1, 0, 3]);
        assert!(matches!(failures[..], [RouteFailure { event: 0, route: 1, on: OnFailure::Letter }]));
        assert_eq!(print(&mut answers), ["0>0:a 1>!filter", "0>", "0>0:c+1:d 1>1:x"]);
    }

    #[test]
    fn answers_name_the_versions_that_gave_them() {
        let mut answers = Answers::new(4);
        let versions = Run { variants: vec![0, 2, 1, 0], ..run(&["0:a", "0:b", "!trap", "0:d"]) };
        answers.add(0, &mut all(), versions);
        let mut filtered = picked(&[1, 3]);
        filtered.failed.push((2, Failure::new(Kind::Filter, "no")));
        answers.add(1, &mut filtered, Run { variants: vec![1, 1], ..run(&["1:x", "1:y"]) });
        assert_eq!(print(&mut answers), ["0>0:a", "0/2>0:b 1/1>1:x", "0/1>!trap@0 1>!filter", "0>0:d 1/1>1:y"]);
    }

    #[test]
    fn a_failure_means_what_the_policy_says() {
        let check = |kind: &'static str, on_permanent, expected: &str| {
            let mut answers = Answers::new(1);
            answers.add(0, &mut all(), run(&[kind]));
            let (plans, mut messages, mut failures) = ([plan(on_permanent)], Vec::new(), Vec::new());
            answers.summary(&plans, &mut messages, &mut failures);
            let on = format!("{:?}", failures[0].on);
            assert!(on.starts_with(expected), "{kind}: {on}");
        };
        check("!transient", OnPermanent::Halt, "Retry { attempts: 3");
        check("!permanent", OnPermanent::Halt, "Halt");
        check("!permanent", OnPermanent::Drop, "Drop");
        check("!permanent", OnPermanent::DeadLetter, "Letter");
        check("!trap", OnPermanent::Drop, "Letter");
    }

    #[test]
    fn what_no_topic_takes_fails_its_event_whole() {
        let mut answers = Answers::new(2);
        answers.add(0, &mut all(), run(&["0:small+1:a value that is too large", "1:b"]));
        let bound = |topic, record_bytes_max| Bound { topic, record_bytes_max, partitions: None };
        let bounds = [bound("out", 100), bound("tiny", 90)];
        answers.refuse_outputs(|ready| bounds[usize::from(ready.topic)].refusal(ready));
        assert_eq!(print(&mut answers), ["0>!too-large@1", "0>1:b"]);
    }

    #[test]
    fn a_topic_takes_what_fits_and_has_a_place() {
        let check = |partition, partitions, record_bytes_max, expected: Option<&str>| {
            let ready = Ready { partition, ..ready(0, "four") };
            let refusal = Bound { topic: "out", record_bytes_max, partitions }.refusal(&ready);
            assert_eq!(refusal.map(|failure| format!("{}: {}", failure.kind, failure.message)).as_deref(), expected);
        };
        check(None, Some(3), 86, None);
        check(Some(2), Some(3), 86, None);
        check(Some(9), None, 86, None);
        check(
            None,
            None,
            85,
            Some("too-large: an output of 86 bytes for topic `out`, which takes records of at most 85 bytes"),
        );
        let message = "rejected: an output for partition 3 of topic `out`, which has 3, counted from 0";
        check(Some(3), Some(3), 86, Some(message));
        let message = "rejected: an output for partition 4294967295 of topic `out`, which has 3, counted from 0";
        check(Some(u32::MAX), Some(3), 86, Some(message));
    }

    #[test]
    fn an_event_is_asked_of_the_topics_of_its_outputs_and_letters() {
        let mut answers = Answers::new(2);
        answers.add(0, &mut all(), run(&["0:a+2:b", "!trap"]));
        answers.add(1, &mut picked(&[1]), run(&["1:c"]));
        let plans = [plan(OnPermanent::Drop), plan(OnPermanent::Drop)];
        let topics = |event| answers.topics(event, &plans, |topics| topics.collect::<Vec<_>>());
        assert_eq!((topics(0), topics(1)), (vec![0, 2], vec![9, 1]));
    }

    #[test]
    fn what_was_refused_before_fails_the_route_that_made_it() {
        let refused = |route, output, reason| {
            let mut answers = Answers::new(2);
            answers.add(0, &mut all(), run(&["0:a", "1:b"]));
            answers.add(1, &mut all(), run(&["0:c", "0:d+1:e"]));
            answers.refuse(1, Refused { route, output, reason }, "out");
            print(&mut answers)
        };
        assert_eq!(refused(1, 1, Refusal::Rejected), ["0>0:a 1>0:c", "0>1:b 1>!rejected@1"]);
        assert_eq!(refused(0, 1, Refusal::TooLarge), ["0>0:a 1>0:c", "0>!too-large@1 1>0:d+1:e"]);
        let untouched = ["0>0:a 1>0:c", "0>1:b 1>0:d+1:e"];
        assert_eq!(refused(0, 0, Refusal::TooLarge), untouched);
        assert_eq!(refused(0, 1, Refusal::LetterTooLarge { cut: false }), untouched);
    }

    #[test]
    fn events_that_some_route_has_not_answered_are_left_out() {
        let mut answers = Answers::new(4);
        answers.add(0, &mut all(), run(&["0:a", "0:b", "0:c", "0:d"]));
        answers.add(1, &mut picked(&[1, 3]), run(&["0:x"]));
        assert_eq!(answers.len(), 3);
        assert_eq!(print(&mut answers), ["0>0:a", "0>0:b 1>0:x", "0>0:c"]);
    }
}
