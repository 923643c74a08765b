//! Breakers: of a route's last events, how many failed for good, and whether that is too much. One for each route; counts and
//! judges, and stops no partition itself.

use std::collections::VecDeque;
use std::ops::Range;

use super::input::{Now, Take};
use crate::config::model::Breaker as Policy;

/// The breakers of a shard's routes.
#[derive(Debug, Default)]
pub(super) struct Breakers {
    /// By the route's number.
    routes: Vec<Breaker>,
    /// How many are open. Mostly none, and then nothing is looked for.
    open: usize,
    /// The events of the present answer that were not run, and count for nothing.
    skipped: Range<u32>,
}

/// What is known of one route. What it forgets it doesn't hold: of events that went well there is only the count.
#[derive(Debug, Default)]
struct Breaker {
    /// Events that were counted.
    events: u64,
    /// Which of the last ones failed, by their number.
    failed: VecDeque<u64>,
    /// Not before this a partition tries whether the route works again, where that has to be tried.
    open_until: Option<Now>,
    /// How many of the route's events in the present answer were counted, or had been before.
    counted: u32,
}

impl Breaker {
    /// Counts the events of an answer up to one, all of which went well.
    fn pass(&mut self, counted: u32, policy: &Policy) {
        self.events += u64::from(counted.saturating_sub(self.counted));
        self.counted = self.counted.max(counted);
        self.forget(policy);
    }

    /// Forgets what has left the window.
    fn forget(&mut self, policy: &Policy) {
        while self.failed.front().is_some_and(|number| number + u64::from(policy.events) <= self.events) {
            self.failed.pop_front();
        }
    }

    /// Whether one more failure, of the next event, would be too much.
    fn is_full(&self, policy: &Policy) -> bool {
        let first = (self.events + 1).saturating_sub(u64::from(policy.events));
        let failed = self.failed.iter().filter(|number| **number >= first).count() as u64 + 1;
        failed >= failures_max(policy)
    }
}

/// So many failures among so many events are too much.
fn failures_max(policy: &Policy) -> u64 {
    ((f64::from(policy.events) * policy.failures).ceil() as u64).max(1)
}

impl Breakers {
    fn breaker(&mut self, route: u16) -> &mut Breaker {
        let index = usize::from(route);
        if self.routes.len() <= index {
            self.routes.resize_with(index + 1, Breaker::default);
        }
        &mut self.routes[index]
    }

    /// An answer comes, of which the events before `from` were counted when they ran before, and some were not run.
    pub(super) fn begin(&mut self, takes: &[Take<'_>], from: u32, skipped: Range<u32>) {
        self.skipped = skipped;
        for take in takes.iter().filter(|take| take.breaker.is_some()) {
            self.breaker(take.route).counted = self.run_of(take, from);
        }
    }

    /// How many of the first so many events of the answer a route took, and were run.
    fn run_of(&self, take: &Take<'_>, count: u32) -> u32 {
        let Range { start, end } = self.skipped;
        take.within(count) - (take.within(count.min(end)) - take.within(count.min(start)))
    }

    /// The first so many events of the answer go on: what of them wasn't counted went well.
    pub(super) fn end(&mut self, takes: &[Take<'_>], count: u32) {
        for take in takes {
            if let Some(policy) = take.breaker {
                let counted = self.run_of(take, count);
                self.breaker(take.route).pass(counted, policy);
            }
        }
    }

    /// Whether the failure of an event, on top of those before it, is too much.
    pub(super) fn would_trip(&mut self, take: &Take<'_>, event: u32, policy: &Policy) -> bool {
        let counted = self.run_of(take, event);
        let breaker = self.breaker(take.route);
        breaker.pass(counted, policy);
        breaker.is_full(policy)
    }

    /// Counts the failure of an event that goes on.
    pub(super) fn fail(&mut self, take: &Take<'_>, event: u32, policy: &Policy) {
        let (before, counted) = (self.run_of(take, event), self.run_of(take, event + 1));
        let breaker = self.breaker(take.route);
        breaker.pass(before, policy);
        breaker.failed.push_back(breaker.events);
        breaker.events += 1;
        // One whose filter failed is among the route's failures, and not among its events.
        breaker.counted = counted;
        breaker.forget(policy);
    }

    /// Opens one, or keeps it open for longer.
    pub(super) fn open(&mut self, route: u16, until: Now) {
        let before = self.breaker(route).open_until.replace(until);
        self.open += usize::from(before.is_none());
    }

    /// Closes one, and forgets what was counted. Whether it was open.
    pub(super) fn close(&mut self, route: u16) -> bool {
        let breaker = self.breaker(route);
        breaker.failed.clear();
        let was_open = breaker.open_until.take().is_some();
        self.open -= usize::from(was_open);
        was_open
    }

    /// Closes all, and forgets all: the routes are others.
    pub(super) fn reset(&mut self) {
        self.routes.clear();
        self.open = 0;
    }

    /// Not before when one that is open lets a partition try.
    pub(super) fn open_until(&self, route: u16) -> Option<Now> {
        self.routes.get(usize::from(route))?.open_until
    }

    /// Whether any is open.
    pub(super) fn any_open(&self) -> bool {
        self.open > 0
    }

    /// Those that are open, and until when.
    pub(super) fn all_open(&self) -> impl Iterator<Item = (u16, Now)> {
        let numbered = self.routes.iter().zip(0..);
        numbered.filter_map(|(breaker, route)| Some((route, breaker.open_until?)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What becomes of events, `.` for one that goes well and `x` for one that fails; `!` where that would be too much.
    fn check(failures: f64, events: u32, outcomes: &str, expected: &str) {
        let policy = Policy { failures, events, probe: Duration::ZERO };
        let mut breakers = Breakers::default();
        let take = Take { route: 3, events: None, breaker: Some(&policy) };
        let seen = outcomes.chars().map(|outcome| {
            breakers.begin(&[take], 0, 0..0);
            match outcome {
                '.' => {
                    breakers.end(&[take], 1);
                    '.'
                }
                _ if breakers.would_trip(&take, 0, &policy) => '!',
                outcome => {
                    breakers.fail(&take, 0, &policy);
                    outcome
                }
            }
        });
        assert_eq!(seen.collect::<String>(), expected);
    }

    #[test]
    fn half_of_the_last_events_are_too_much() {
        check(0.5, 4, "xx", "x!");
        check(0.5, 4, "x.x", "x.!");
        check(0.5, 4, "x..x", "x..!");
        check(0.5, 4, "x...x...x", "x...x...x");
        check(0.5, 100, &"x".repeat(50), &("x".repeat(49) + "!"));
        check(1.0, 3, "xx.xxx", "xx.xx!");
        check(0.0, 3, "..x", "..!");
        check(0.3, 10, "x.x.......xx", "x.x.......x!");
    }

    #[test]
    fn events_that_a_route_does_not_take_are_not_its_own() {
        let policy = Policy { failures: 0.5, events: 4, probe: Duration::ZERO };
        let mut breakers = Breakers::default();
        let take = Take { route: 0, events: Some(&[2, 5, 9]), breaker: Some(&policy) };
        breakers.begin(&[take], 0, 0..0);
        assert!(!breakers.would_trip(&take, 5, &policy));
        breakers.fail(&take, 5, &policy);
        breakers.end(&[take], 20);
        assert_eq!((breakers.routes[0].events, &breakers.routes[0].failed), (3, &[1].into()));
        assert!(breakers.would_trip(&take, 2, &policy));
        // Nor are those that are not run.
        breakers.begin(&[take], 0, 3..9);
        breakers.end(&[take], 20);
        assert_eq!(breakers.routes[0].events, 5);
    }
}
