//! Counts what fails, by route, plugin and kind, and says it now and then.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Flow;
use super::account::route_id;
use super::counts::Counts;
use crate::data::engine::{LaneId, Now};
use crate::data::failure::{Failure, Kind};
use crate::data::program::Program;
use crate::data::route::Plan;

/// How long it stays said that events fail in some way on a route.
const SAID_FOR: Duration = Duration::from_secs(60);

/// What an event failed by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Failed {
    /// The route's id.
    pub route: String,
    /// The plugin's name; empty where it was none.
    pub plugin: String,
    /// The kind.
    pub kind: Kind,
}

/// What failed for now.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Retried {
    /// The route's id.
    pub route: String,
    /// The plugin's name; empty where it was none.
    pub plugin: String,
}

/// What was to be read and is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutOfRange {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
}

/// The numbers of all shards of a host.
#[derive(Debug, Clone, Default)]
pub struct FailureCounts {
    /// Events that failed for good.
    pub failed: Counts<Failed>,
    /// Events that failed transiently, and run again, each time.
    pub retried: Counts<Retried>,
    /// Partitions that went on elsewhere, or halted, since their offset was not in the log.
    pub out_of_range: Counts<OutOfRange>,
}

/// What one shard adds to.
#[derive(Debug)]
pub(super) struct Failures {
    counts: FailureCounts,
    /// By the route's number, the stage and the kind.
    known: HashMap<(u16, Option<usize>, Kind), Known>,
}

/// One way in which events fail on a route.
#[derive(Debug)]
struct Known {
    number: Arc<AtomicU64>,
    /// When it was said last.
    said: Option<Now>,
    /// How often it happened since.
    more: u64,
}

impl Failures {
    pub(super) fn new(counts: FailureCounts) -> Self {
        Self { counts, known: HashMap::new() }
    }

    /// Routes have other numbers from here on.
    pub(super) fn forget_routes(&mut self) {
        self.known.clear();
    }

    /// An event has failed for good. How many have since it was said last, where it is to be said again.
    fn add(&mut self, route: u16, plan: &Plan, stage: Option<usize>, kind: Kind, now: Now) -> Option<u64> {
        let Self { counts, known } = self;
        let known = known.entry((route, stage, kind)).or_insert_with(|| {
            let failed = Failed { route: plan.id.clone(), plugin: plugin(plan, stage).to_owned(), kind };
            Known { number: counts.failed.number(failed), said: None, more: 0 }
        });
        known.number.fetch_add(1, Ordering::Relaxed);
        if known.said.is_some_and(|said| now.saturating_sub(said) < SAID_FOR) {
            known.more += 1;
            return None;
        }
        known.said = Some(now);
        Some(std::mem::take(&mut known.more))
    }

    /// An event has failed for now.
    pub(super) fn retry(&self, route: &str, plugin: Option<&str>) {
        let retried = Retried { route: route.to_owned(), plugin: plugin.unwrap_or_default().to_owned() };
        self.counts.retried.number(retried).fetch_add(1, Ordering::Relaxed);
    }

    /// What was to be read is not in the log.
    pub(super) fn out_of_range(&self, group: &str, topic: &str) {
        let at = OutOfRange { group: group.to_owned(), topic: topic.to_owned() };
        self.counts.out_of_range.number(at).fetch_add(1, Ordering::Relaxed);
    }
}

/// The plugin of a stage; empty where it was none.
fn plugin(plan: &Plan, stage: Option<usize>) -> &str {
    stage.and_then(|stage| plan.plugins.get(stage)).map_or("", |(name, _)| name.as_str())
}

impl Flow {
    /// Counts that an event has failed for good on a route, unless it did so when it ran before; and says it, if that wasn't said
    /// of such failures a moment ago.
    pub(super) fn count_failure(
        &mut self,
        id: LaneId,
        offset: i64,
        (route, plan): (u16, &Plan),
        stage: Option<usize>,
        failure: &Failure,
    ) {
        let (committed, now) = (self.engine.committed_offset(id).unwrap_or(0), self.now());
        let Some(lane) = self.lanes.get_mut(id) else { return };
        if !lane.counts(offset, route, committed) {
            return;
        }
        if let Some(more) = self.failures.add(route, plan, stage, failure.kind, now) {
            let (topic, partition) = (lane.topic(), lane.number());
            let (plugin, kind, reason) = (plugin(plan, stage), failure.kind.as_str(), &failure.message);
            tracing::warn!(
                topic,
                partition,
                offset,
                route = plan.id,
                plugin,
                kind,
                reason,
                more,
                "An event has failed for good."
            );
        }
    }

    /// Says which breakers have tripped, or closed, since the last time.
    pub(super) fn note_breakers(&mut self, program: &Program) {
        if self.open_breakers.is_empty() && !self.engine.has_open_breakers() {
            return;
        }
        let open: Vec<String> = self.engine.open_breakers().map(|(route, _)| route_id(program, route)).collect();
        for route in open.iter().filter(|route| !self.open_breakers.contains(route)) {
            tracing::error!(
                shard = self.name,
                route,
                "Too much of a route fails: its group pauses where the route takes events, and tries one of each partition now and \
                 then. Another version of its plugins, or `midplane route resume`, ends that."
            );
        }
        for route in self.open_breakers.iter().filter(|route| !open.contains(route)) {
            tracing::info!(shard = self.name, route, "A route is trusted again: its group goes on.");
        }
        self.open_breakers = open;
    }
}
