//! The routes of a group as a shard follows them, and which of them an event takes. Pure: no I/O, no waiting. What an
//! event costs depends on the routes that read its topic, not on how many others there are: a lane's routes are looked
//! up once, when its partition is assigned.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use regex::Regex;

use super::canary::Canary;
use super::chain::Stage;
use super::event::Event;
use super::failure::{Failure, Kind};
use super::filter::{Filter, Outcome, Scratch};
use super::origin::{self, RouteLabel};
use super::shadow::Shadow;
use crate::config::model::{FailurePolicy, OnFilterError, Route, Selector};

/// A route, ready to be followed.
#[derive(Debug)]
pub struct Plan {
    /// Its id: what letters hang on.
    pub id: String,
    /// The id that it had before, if it says so.
    pub was: Option<String>,
    /// Which events it takes; none: all.
    pub filter: Option<Arc<Filter>>,
    /// What a filter that can't be evaluated means.
    pub on_filter_error: OnFilterError,
    /// Its plugins.
    pub stages: Vec<Stage>,
    /// The plugins' names and versions (as hexadecimal digits), for letters.
    pub plugins: Vec<(String, String)>,
    /// Where events go if there are no plugins: an index into the output topics.
    pub direct: u16,
    /// Its part of the origin header, if outputs carry one.
    pub label: Option<RouteLabel>,
    /// What becomes of events that fail.
    pub failure: FailurePolicy,
    /// The topic of its letters: an index into the output topics.
    pub dead_letter: u16,
    /// The versions of its plugins that are on trial; none in the usual case.
    pub trials: Option<Box<Trials>>,
}

/// The versions on trial in a route.
#[derive(Debug, Default)]
pub struct Trials {
    /// Those that serve a share of the keys.
    pub canaries: Vec<Canary>,
    /// The route as it is for events that canaries serve: the number of a variant has bit n set where the nth of them does, and
    /// that of the first one here is 1.
    pub variants: Vec<Plan>,
    /// Those that are compared.
    pub shadows: Vec<Shadow>,
}

impl Plan {
    /// The route as it is for events of a variant; 0 is the route with its live versions.
    pub fn variant(&self, number: u8) -> &Self {
        match (&self.trials, usize::from(number).checked_sub(1)) {
            (Some(trials), Some(index)) => &trials.variants[index],
            _ => self,
        }
    }

    /// Whether it is among routes that are named by their ids, under the one that it had before as well.
    pub fn is_among(&self, ids: &BTreeSet<String>) -> bool {
        !ids.is_empty() && (ids.contains(&self.id) || self.was.as_ref().is_some_and(|was| ids.contains(was)))
    }

    /// How many verdicts one batch leaves.
    pub fn arenas(&self) -> usize {
        self.stages.len() * (1 + self.trials.as_ref().map_or(0, |trials| trials.variants.len()))
    }
}

/// Which routes read a topic.
#[derive(Debug, Default)]
pub struct Index {
    topics: HashMap<String, Vec<u16>>,
    patterns: Vec<(Regex, u16)>,
}

impl Index {
    /// The index over routes in the order of the config.
    pub fn new<'a>(routes: impl Iterator<Item = &'a Route>) -> Self {
        let mut index = Self::default();
        for (number, route) in routes.enumerate() {
            let number = u16::try_from(number).expect("the config bounds the number of routes");
            for selector in &route.from {
                match selector {
                    Selector::Topic(topic) => index.topics.entry(topic.clone()).or_default().push(number),
                    Selector::Pattern(pattern) => index.patterns.push((pattern.clone(), number)),
                }
            }
        }
        index
    }

    /// The routes that read a topic, in the order of the config, each once.
    pub fn routes(&self, topic: &str) -> Arc<[u16]> {
        let mut routes = self.topics.get(topic).cloned().unwrap_or_default();
        routes.extend(self.patterns.iter().filter(|(pattern, _)| pattern.is_match(topic)).map(|(_, route)| *route));
        routes.sort_unstable();
        routes.dedup();
        routes.into()
    }

    /// Whether any route reads the topic.
    pub fn reads(&self, topic: &str) -> bool {
        self.topics.contains_key(topic) || self.patterns.iter().any(|(pattern, _)| pattern.is_match(topic))
    }

    /// The topics that are named, in no order.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(String::as_str)
    }

    /// Whether topics that don't exist yet could have to be read.
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }
}

/// Which events of a batch one route takes.
#[derive(Debug, Default)]
pub struct Picked {
    /// Indexes into the batch, ascending. Not filled where [`Picked::all`] holds.
    pub events: Vec<u32>,
    /// Every event was taken: the usual case without a filter, for which no list is made.
    pub all: bool,
    /// Events that the route could not even begin with.
    pub failed: Vec<(u32, Failure)>,
}

impl Picked {
    /// How many of the events that were taken are among the first so many of the batch.
    pub fn within(&self, count: usize) -> usize {
        if self.all { count } else { self.events.partition_point(|event| (*event as usize) < count) }
    }
}

/// How often a route's filter said what.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Events that the filter let pass.
    pub matched: u64,
    /// Events that it did not.
    pub not_matched: u64,
    /// Events without a field that it reads.
    pub absent: u64,
    /// Events that it could not be evaluated for.
    pub errors: u64,
}

impl Counts {
    /// The same, each with its name.
    pub fn by_result(&self) -> [(&'static str, u64); 4] {
        let Self { matched, not_matched, absent, errors } = *self;
        [("matched", matched), ("not-matched", not_matched), ("absent", absent), ("error", errors)]
    }
}

/// Sorts a batch by route: one [`Picked`] for each of `routes`, in their order. Event by event, so that what filters
/// read of an event is read once.
pub fn select(
    plans: &[Plan],
    routes: &[u16],
    events: &[Event<'_>],
    scratch: &mut Scratch,
    counts: &mut [Counts],
    picked: &mut Vec<Picked>,
) {
    let loops = |event: &Event<'_>| !event.headers.is_empty() && origin::hops(&event.headers) >= origin::HOPS_MAX;
    let any_loops = events.iter().any(loops);
    let unfiltered = |route: &u16| plans[usize::from(*route)].filter.is_none();
    picked.clear();
    picked.extend(routes.iter().map(|route| Picked { all: !any_loops && unfiltered(route), ..Picked::default() }));
    if picked.iter().all(|picked| picked.all) {
        return;
    }
    for (index, event) in events.iter().enumerate() {
        let looping = any_loops && loops(event);
        scratch.next_event();
        for (picked, route) in picked.iter_mut().zip(routes).filter(|(picked, _)| !picked.all) {
            let plan = &plans[usize::from(*route)];
            let index = index as u32;
            match &plan.filter {
                Some(filter) => {
                    apply(plan, filter.evaluate(event, scratch), index, &mut counts[usize::from(*route)], picked)
                }
                None => picked.events.push(index),
            }
            // A route that doesn't take the event has no part in its going in circles.
            if looping && picked.events.pop_if(|taken| *taken == index).is_some() {
                let message = format!("the event has passed {} routers", origin::HOPS_MAX);
                picked.failed.push((index, Failure::new(Kind::Loop, message)));
            }
        }
    }
}

fn apply(plan: &Plan, outcome: Outcome, index: u32, counts: &mut Counts, picked: &mut Picked) {
    match outcome {
        Outcome::Match => {
            counts.matched += 1;
            picked.events.push(index);
        }
        Outcome::NoMatch => counts.not_matched += 1,
        Outcome::Absent => counts.absent += 1,
        Outcome::Error(message) => {
            counts.errors += 1;
            match plan.on_filter_error {
                OnFilterError::DeadLetter => picked.failed.push((index, Failure::new(Kind::Filter, message))),
                OnFilterError::Drop => {}
                OnFilterError::Match => picked.events.push(index),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::{Backoff, OnPermanent};
    use crate::data::event::{Header, Headers};

    fn failure() -> FailurePolicy {
        FailurePolicy {
            attempts: 1,
            backoff: Backoff { first: Duration::ZERO, max: Duration::ZERO, jitter: 0.0 },
            breaker: None,
            on_permanent: OnPermanent::DeadLetter,
            dead_letter: "letters".to_owned(),
        }
    }

    fn route(from: &[&str]) -> Route {
        let selector = |from: &&str| match from.strip_prefix('/') {
            Some(pattern) => Selector::Pattern(Regex::new(pattern).unwrap()),
            None => Selector::Topic((*from).to_owned()),
        };
        Route {
            name: "r".to_owned(),
            id: "r".to_owned(),
            was: None,
            from: from.iter().map(selector).collect(),
            filter: None,
            on_filter_error: OnFilterError::DeadLetter,
            through: Vec::new(),
            to: std::collections::BTreeMap::new(),
            group: 0,
            provenance: true,
            allow_loop: false,
            failure: failure(),
        }
    }

    #[test]
    fn a_topic_has_its_routes_in_the_order_of_the_config_each_once() {
        let routes = [route(&["/^pay"]), route(&["orders", "payments"]), route(&["payments", "/ments$"])];
        let index = Index::new(routes.iter());
        assert_eq!(*index.routes("payments"), [0, 1, 2]);
        assert_eq!(*index.routes("orders"), [1]);
        assert_eq!(*index.routes("shipments"), [2]);
        assert!(index.routes("other").is_empty());
        assert!(index.has_patterns() && index.reads("payday") && !index.reads("other"));
    }

    /// Selects for routes with these filters, and prints for each `all`, or what was picked and `!` with what failed.
    fn check(filters: &[(Option<&str>, OnFilterError)], events: &[(&str, Option<&str>)], expected: &[&str]) {
        let plan = |(filter, on_filter_error): &(Option<&str>, OnFilterError)| Plan {
            id: "r".to_owned(),
            was: None,
            filter: filter.map(|filter| Arc::new(Filter::compile(filter).unwrap())),
            on_filter_error: *on_filter_error,
            stages: Vec::new(),
            plugins: Vec::new(),
            direct: 0,
            label: None,
            failure: failure(),
            dead_letter: 0,
            trials: None,
        };
        let plans: Vec<_> = filters.iter().map(plan).collect();
        let headers: Vec<_> = events
            .iter()
            .map(|(_, origin)| origin.map(|origin| Header { name: b"midplane-origin", value: Some(origin.as_bytes()) }))
            .collect();
        let events: Vec<_> = events
            .iter()
            .zip(&headers)
            .map(|((value, _), header)| Event {
                topic: "t",
                partition: 0,
                offset: 0,
                timestamp: 0,
                key: None,
                value: Some(value.as_bytes()),
                headers: header.as_ref().map_or(Headers::Empty, |header| Headers::Slice(std::slice::from_ref(header))),
            })
            .collect();
        let routes: Vec<_> = (0..plans.len() as u16).collect();
        let mut counts = vec![Counts::default(); plans.len()];
        let mut picked = Vec::new();
        select(&plans, &routes, &events, &mut Scratch::default(), &mut counts, &mut picked);
        let print = |picked: &Picked| {
            let mut parts: Vec<_> = picked.events.iter().map(u32::to_string).collect();
            parts.extend(picked.failed.iter().map(|(index, failure)| format!("!{index}:{}", failure.kind)));
            if picked.all { "all".to_owned() } else { parts.join(" ") }
        };
        assert_eq!(picked.iter().map(print).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn routes_pick_by_their_filters() {
        use OnFilterError::{DeadLetter, Drop, Match};
        let large = Some("event.json.amount >= 10");
        let events = [(r#"{"amount":10}"#, None), (r#"{"amount":9}"#, None), ("{}", None), ("{", None)];
        check(&[(None, DeadLetter), (large, DeadLetter)], &events, &["all", "0 !3:filter"]);
        check(&[(large, Drop), (large, Match)], &events, &["0", "0 3"]);
    }

    #[test]
    fn an_event_that_goes_in_circles_fails_on_every_route() {
        let circling = Some("t/0/1/0 r@1 hops=16");
        let events = [("{}", None), ("{}", circling), ("{}", Some("t/0/1/0 r@1 hops=15"))];
        check(
            &[(None, OnFilterError::Drop), (Some("true"), OnFilterError::Drop)],
            &events,
            &["0 2 !1:loop", "0 2 !1:loop"],
        );
    }
}
