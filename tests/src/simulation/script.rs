//! What the plugins of a schedule do with each event, and hence what must become of it.

use std::time::Duration;

use midplane::config::model::Breaker;

use crate::random::Random;

/// What a route's plugin does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// So many outputs; none is a deliberate drop.
    Outputs(u8),
    /// Fails transiently so many times, which is less than the attempts, then gives one output.
    Transient(u32),
    /// Fails transiently each time.
    Endless,
    /// Fails for good: a letter.
    Permanent,
    /// Fails for good: a deliberate drop.
    Dropped,
    /// Fails for good: the partition halts, until somebody repairs the plugin, which then gives one output.
    Halting,
    /// So many outputs, the last of which the broker refuses.
    TooLarge(u8),
    /// Fails for good while the route's plugin is sick; one output once it is well.
    Sick,
    /// The route doesn't take it.
    NotTaken,
}

/// What must be in the log for a route and an event before its offset is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Outputs(u8),
    Letter,
    /// One output, or a letter.
    Either,
}

impl Behaviour {
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Behaviour::Outputs(count) => Outcome::Outputs(count),
            Behaviour::Dropped | Behaviour::NotTaken => Outcome::Outputs(0),
            Behaviour::Sick => Outcome::Either,
            Behaviour::Transient(_) | Behaviour::Halting => Outcome::Outputs(1),
            Behaviour::Endless | Behaviour::Permanent | Behaviour::TooLarge(_) => Outcome::Letter,
        }
    }
}

/// A route of the schedule.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) attempts: u32,
    /// The topic of its outputs; routes may share one.
    pub(super) topic: usize,
    pub(super) breaker: Option<Breaker>,
}

/// An event of an input partition.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) offset: i64,
    /// By route.
    pub(super) behaviours: Vec<Behaviour>,
    /// Whether an operator has said that it is not to be run.
    pub(super) skipped: bool,
}

/// How a schedule's events and routes are made.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) routes: Vec<Route>,
    /// How many topics the outputs go to; each route has a letter topic beside them.
    pub(super) topics: usize,
    /// Failing behaviours, per mille.
    faulty: usize,
    /// Behaviours that depend on a plugin's health, per mille of the others.
    sick: usize,
}

impl Script {
    pub(super) fn new(random: &mut Random) -> Self {
        let topics = 1 + random.below(2);
        let routes = (0..1 + random.below(3))
            .map(|_| {
                let (attempts, topic) = (1 + random.below(4) as u32, random.below(topics));
                Route { attempts, topic, breaker: breaker(random) }
            })
            .collect();
        let faulty = [0, 50, 200, 500][random.below(4)];
        let sick = [0, 0, 300, 900][random.below(4)];
        Self { routes, topics, faulty, sick }
    }

    /// Topics of outputs, then one of letters for each route.
    pub(super) fn channels(&self) -> usize {
        self.topics + self.routes.len()
    }

    /// The next event of a partition that ends at an offset so far.
    pub(super) fn event(&self, end: i64, random: &mut Random) -> Event {
        let gap = if random.chance(200) { 1 + random.below(4) as i64 } else { 0 };
        let behaviours = self.routes.iter().map(|route| self.behaviour(route, random)).collect();
        Event { offset: end + gap, behaviours, skipped: false }
    }

    fn behaviour(&self, route: &Route, random: &mut Random) -> Behaviour {
        if !random.chance(self.faulty) {
            if random.chance(self.sick) {
                return Behaviour::Sick;
            }
            if random.chance(100) {
                return Behaviour::NotTaken;
            }
            return Behaviour::Outputs([1, 1, 1, 0, 2, 3][random.below(6)]);
        }
        match random.below(24) {
            0..8 if route.attempts > 1 => Behaviour::Transient(1 + random.below(route.attempts as usize - 1) as u32),
            0..10 => Behaviour::Endless,
            10..14 => Behaviour::Permanent,
            14..17 => Behaviour::Dropped,
            17 => Behaviour::Halting,
            _ => Behaviour::TooLarge(1 + random.below(3) as u8),
        }
    }
}

fn breaker(random: &mut Random) -> Option<Breaker> {
    let events = 1 + random.below(8) as u32;
    let failures = [0.3, 0.5, 0.9][random.below(3)];
    (!random.chance(300)).then_some(Breaker { failures, events, probe: Duration::from_millis(50) })
}
