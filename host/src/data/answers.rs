//! What all routes of a lane said of a batch, event by event: what the engine is told of it, and what is then produced.
//! Pure; the order in here is the order of the outputs: by event, then by route, then as the plugins gave them.

use super::chain::{Answer, Ready, Run};
use super::engine::{OnFailure, Refusal, RouteFailure};
use super::failure::{Failure, Kind};
use super::route::{Picked, Plan};
use crate::config::model::{FailurePolicy, OnPermanent};

/// The answers of one route to the events that it took.
#[derive(Debug)]
struct RouteAnswers<'a> {
    route: u16,
    /// By event, ascending.
    entries: Vec<(u32, Answer)>,
    ready: Vec<Ready<'a>>,
    /// The first entry that was not produced yet.
    next: usize,
}

/// The answers of all routes to a batch.
#[derive(Debug, Default)]
pub struct Answers<'a> {
    routes: Vec<RouteAnswers<'a>>,
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

/// What an output is too large for.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'t> {
    /// The topic's name.
    pub topic: &'t str,
    /// The bytes of one record that it takes.
    pub record_bytes_max: usize,
}

impl<'a> Answers<'a> {
    /// Adds a route's answers. To be called in the order of the routes in the config.
    pub fn add(&mut self, route: u16, picked: &mut Picked, run: Run<'a>) {
        let mut entries: Vec<_> = if picked.all {
            run.answers.into_iter().enumerate().map(|(event, answer)| (event as u32, answer)).collect()
        } else {
            picked.events.iter().copied().zip(run.answers).collect()
        };
        if !picked.failed.is_empty() {
            entries.extend(picked.failed.drain(..).map(|(event, failure)| (event, Answer::Failed { failure, stage: None })));
            entries.sort_by_key(|(event, _)| *event);
        }
        self.routes.push(RouteAnswers { route, entries, ready: run.ready, next: 0 });
    }

    /// Fails what no topic would take: an event with such an output fails whole, on its route.
    pub fn refuse_too_large(&mut self, bounds: &[Bound<'_>]) {
        for route in &mut self.routes {
            let RouteAnswers { entries, ready, .. } = route;
            let too_large = |ready: &Ready<'_>| record_bytes(ready) > bounds[usize::from(ready.topic)].record_bytes_max;
            if !ready.iter().any(too_large) {
                continue;
            }
            for (_, answer) in entries {
                let Answer::Ready(range) = answer else { continue };
                if let Some(output) = ready[range.start as usize..range.end as usize].iter().find(|ready| too_large(ready)) {
                    let bound = bounds[usize::from(output.topic)];
                    let message = format!(
                        "an output of {} bytes for topic `{}`, which takes records of at most {} bytes",
                        record_bytes(output),
                        bound.topic,
                        bound.record_bytes_max
                    );
                    *answer = Answer::Failed { failure: Failure::new(Kind::TooLarge, message), stage: None };
                }
            }
        }
    }

    /// Fails what the broker refused before: of this event, every route with an output to this topic.
    pub fn refuse(&mut self, event: u32, topic: u16, name: &str, reason: Refusal) {
        let (kind, what) = match reason {
            Refusal::TooLarge => (Kind::TooLarge, "is larger than it takes"),
            Refusal::Rejected => (Kind::Rejected, "was rejected by its broker"),
        };
        for route in &mut self.routes {
            let Ok(index) = route.entries.binary_search_by_key(&event, |(event, _)| *event) else { continue };
            let Answer::Ready(range) = &route.entries[index].1 else { continue };
            if route.ready[range.start as usize..range.end as usize].iter().any(|ready| ready.topic == topic) {
                let failure = Failure::new(kind, format!("an output for topic `{name}` {what}"));
                route.entries[index].1 = Answer::Failed { failure, stage: None };
            }
        }
    }

    /// For each of `count` events how many outputs there are, and what failed, as the engine wants it.
    pub fn summary<'p>(&self, plans: &'p [Plan], count: usize, messages: &mut Vec<u32>, failures: &mut Vec<RouteFailure<'p>>) {
        messages.clear();
        messages.resize(count, 0);
        failures.clear();
        for route in &self.routes {
            let policy = &plans[usize::from(route.route)].failure;
            for (event, answer) in &route.entries {
                match answer {
                    Answer::Ready(range) => messages[*event as usize] += range.end - range.start,
                    Answer::Failed { failure, .. } => {
                        failures.push(RouteFailure { event: *event, route: route.route, on: on_failure(failure.kind, policy) });
                    }
                }
            }
        }
        failures.sort_by_key(|failure| (failure.event, failure.route));
    }

    /// Calls `produce` for what each route has for an event, in the order of the routes. Events come in ascending order:
    /// what is behind an event is not looked at again.
    pub fn of_event(&mut self, event: u32, mut produce: impl FnMut(u16, Product<'_, 'a>)) {
        for route in &mut self.routes {
            while route.entries.get(route.next).is_some_and(|(behind, _)| *behind < event) {
                route.next += 1;
            }
            match route.entries.get(route.next) {
                Some((at, answer)) if *at == event => produce(
                    route.route,
                    match answer {
                        Answer::Ready(range) => Product::Outputs(&route.ready[range.start as usize..range.end as usize]),
                        Answer::Failed { failure, stage } => Product::Failed { failure, stage: *stage },
                    },
                ),
                _ => {}
            }
        }
    }
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

/// What a broker counts of a record that is alone in its batch: the batch's header (61 bytes), the record's own numbers
/// (21 at most), and its parts with their lengths. From the record batch format, version 2, of the Kafka protocol.
pub fn record_bytes(ready: &Ready<'_>) -> usize {
    let headers: usize = match ready.headers {
        super::event::Headers::Empty => 0,
        headers => headers.iter().map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len) + 10).sum(),
    };
    82 + ready.key.map_or(0, <[u8]>::len) + ready.value.map_or(0, <[u8]>::len) + headers
}
