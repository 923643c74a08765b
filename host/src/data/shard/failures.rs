//! Counts the events that fail, by route, plugin and kind.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Flow;
use super::account::route_id;
use super::counts::Counts;
use crate::data::engine::LaneId;
use crate::data::failure::Kind;
use crate::data::program::Program;
use crate::data::route::Plan;

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

/// The numbers of all shards of a host.
pub type FailureCounts = Counts<Failed>;

/// What one shard adds to.
#[derive(Debug)]
pub(super) struct Failures {
    counts: FailureCounts,
    /// By the route's number, the stage and the kind.
    known: HashMap<(u16, Option<usize>, Kind), Arc<AtomicU64>>,
}

impl Failures {
    pub(super) fn new(counts: FailureCounts) -> Self {
        Self { counts, known: HashMap::new() }
    }

    /// Routes have other numbers from here on.
    pub(super) fn forget_routes(&mut self) {
        self.known.clear();
    }

    /// An event has failed for good.
    pub(super) fn add(&mut self, route: u16, plan: &Plan, stage: Option<usize>, kind: Kind) {
        let Self { counts, known } = self;
        let number = known.entry((route, stage, kind)).or_insert_with(|| {
            let plugin = stage.and_then(|stage| plan.plugins.get(stage)).map(|(name, _)| name.clone());
            counts.number(Failed { route: plan.id.clone(), plugin: plugin.unwrap_or_default(), kind })
        });
        number.fetch_add(1, Ordering::Relaxed);
    }
}

impl Flow {
    /// Counts that an event has failed for good on a route, unless it did so when it ran before.
    pub(super) fn count_failure(
        &mut self,
        id: LaneId,
        offset: i64,
        (route, plan): (u16, &Plan),
        stage: Option<usize>,
        kind: Kind,
    ) {
        let committed = self.engine.committed_offset(id).unwrap_or(0);
        if self.lanes.get_mut(id).is_some_and(|lane| lane.counts(offset, route, committed)) {
            self.failures.add(route, plan, stage, kind);
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
