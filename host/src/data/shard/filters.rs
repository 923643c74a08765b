//! What the filters of a shard's routes said of events: counted without a lock, and added after each part of a batch to what all
//! shards of the host count. Evaluates nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counts::Counts;
use crate::data::program::Program;
use crate::data::route;

/// Events of which a route's filter said the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filtered {
    /// The route, by id.
    pub route: String,
    /// What: `matched`, `not-matched`, `absent` or `error`.
    pub result: &'static str,
}

/// How many, all shards of a host together.
pub type FilterCounts = Counts<Filtered>;

/// What one shard counts.
#[derive(Debug)]
pub(super) struct Filters {
    shared: FilterCounts,
    /// By the route's number; of routes without a filter nothing.
    pub(super) counts: Vec<route::Counts>,
    /// As much of it as all shards' numbers have.
    added: Vec<route::Counts>,
    /// Those numbers, looked up once.
    numbers: Vec<Option<[Arc<AtomicU64>; 4]>>,
}

impl Filters {
    pub(super) fn new(program: &Program, shared: FilterCounts) -> Self {
        let none = vec![route::Counts::default(); program.plans.len()];
        let numbers = numbers(program, &shared);
        Self { shared, counts: none.clone(), added: none, numbers }
    }

    /// Routes have other numbers from here on. All that was counted was added.
    pub(super) fn adopt(&mut self, before: &Program, next: &Program) {
        let mut counts = vec![route::Counts::default(); next.plans.len()];
        for (count, number) in self.counts.iter().zip(before.renumbered(next)) {
            if let Some(number) = number {
                counts[usize::from(number)] = *count;
            }
        }
        *self = Self { added: counts.clone(), counts, ..Self::new(next, self.shared.clone()) };
    }

    /// Adds what was counted of these routes since the last time.
    pub(super) fn add(&mut self, routes: &[u16]) {
        let Self { counts, added, numbers, .. } = self;
        for route in routes.iter().map(|route| usize::from(*route)) {
            let (count, added) = (counts[route], &mut added[route]);
            let Some(numbers) = numbers[route].as_ref().filter(|_| count != *added) else { continue };
            for (((_, now), (_, before)), number) in count.by_result().into_iter().zip(added.by_result()).zip(numbers) {
                number.fetch_add(now - before, Ordering::Relaxed);
            }
            *added = count;
        }
    }

    /// Says what they let pass, and what not: a rule that never matches is seen.
    pub(super) fn say(&self, program: &Program) {
        let filtered = program.plans.iter().zip(&self.counts).filter(|(plan, _)| plan.filter.is_some());
        for (plan, route::Counts { matched, not_matched, absent, errors }) in filtered {
            tracing::info!(route = plan.id, matched, not_matched, absent, errors, "What the route's filter said.");
        }
    }
}

fn numbers(program: &Program, shared: &FilterCounts) -> Vec<Option<[Arc<AtomicU64>; 4]>> {
    let results = route::Counts::default().by_result().map(|(result, _)| result);
    let of_plan = |plan: &route::Plan| {
        plan.filter.as_ref()?;
        Some(results.map(|result| shared.number(Filtered { route: plan.id.clone(), result })))
    };
    program.plans.iter().map(of_plan).collect()
}
