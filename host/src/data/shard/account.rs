//! What a shard tells of its partitions when somebody asks: where each stands, why, and since when.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::carry::Flow;
use crate::data::engine::{Cause, LaneId, Now, Standing};
use crate::data::lane::Lane;
use crate::data::program::Program;
use crate::data::stop::{Known, Stop};
use crate::kafka::Partition;

/// A shard's account of itself.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Its partitions, in no order.
    pub partitions: Vec<PartitionAccount>,
    /// The routes whose breakers are open, by id, each with the time at which a partition tries it next at the earliest.
    pub open_breakers: Vec<(String, SystemTime)>,
}

/// A partition.
#[derive(Debug, Clone)]
pub struct PartitionAccount {
    /// Which.
    pub partition: Partition,
    /// How it stands.
    pub condition: Condition,
    /// Why, where it doesn't run.
    pub why: String,
    /// Since when it stands where it stands.
    pub since: Option<SystemTime>,
    /// When it goes on at the latest, where that is known.
    pub until: Option<SystemTime>,
    /// Which call of its event the next one is, where it has failed.
    pub attempt: Option<u32>,
    /// The route that stopped it, by id.
    pub route: Option<String>,
    /// What failed of its event there.
    pub failure: Option<Known>,
    /// The next event, or the one that it stands at.
    pub position: i64,
    /// What the group has committed of it.
    pub committed: Option<i64>,
    /// Where it ends, as far as the client has heard.
    pub end: Option<i64>,
}

/// How a partition stands; what somebody should look at comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Until somebody does something.
    Halted,
    /// Until a route works again.
    Breaker,
    /// Until an operator resumes it.
    Paused,
    /// For a while.
    Waiting,
    /// It goes to another member, or the host stops.
    Closing,
    /// It doesn't stand.
    Running,
}

impl Condition {
    /// All of them.
    pub const ALL: &[Condition] =
        &[Self::Halted, Self::Breaker, Self::Paused, Self::Waiting, Self::Closing, Self::Running];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::Breaker => "breaker",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Closing => "closing",
            Self::Running => "running",
        }
    }
}

impl Flow {
    /// All of it.
    pub(super) fn account(&self, program: &Program) -> Account {
        let open = self.engine.open_breakers();
        Account {
            partitions: self.lanes.iter().filter_map(|(id, lane)| self.account_of(id, lane, program)).collect(),
            open_breakers: open.map(|(route, until)| (route_id(program, route), self.clock(until))).collect(),
        }
    }

    fn account_of(&self, id: LaneId, lane: &Lane, program: &Program) -> Option<PartitionAccount> {
        let standing = self.engine.standing(id)?;
        let position = match standing {
            Standing::Probing { at } => at,
            _ => self.engine.position(id)?,
        };
        let stop = lane.stop.as_ref().filter(|stop| stop.offset == position && standing != Standing::Running);
        let (condition, why, route) = self.reason(standing, lane, stop, program);
        let failure = stop.and_then(|stop| known(stop, route.as_deref()));
        let until = match standing {
            Standing::Waiting { until, .. } => Some(self.clock(until)),
            _ => None,
        };
        let attempt = match standing {
            Standing::Waiting { cause: Cause::Retry { failures, .. }, .. } => Some(failures + 1),
            Standing::Waiting { cause: Cause::Breaker { failures: failures @ 1.., .. }, .. } => Some(failures + 1),
            _ => None,
        };
        Some(PartitionAccount {
            partition: lane.partition.clone(),
            condition,
            why,
            since: stop.map(|stop| stop.since),
            until,
            attempt,
            route,
            failure: failure.cloned(),
            position,
            committed: self.engine.committed_offset(id),
            end: self.consumer.end_heard_of(lane.topic(), lane.number()),
        })
    }

    /// How a partition stands, why, and by which route.
    fn reason(
        &self,
        standing: Standing,
        lane: &Lane,
        stop: Option<&Stop>,
        program: &Program,
    ) -> (Condition, String, Option<String>) {
        match standing {
            Standing::Running => (Condition::Running, String::new(), None),
            Standing::Probing { .. } => {
                (Condition::Breaker, "too much of the route failed: it is being tried with this event".to_owned(), None)
            }
            Standing::Closing => (Condition::Closing, "it goes to another member, or the host stops".to_owned(), None),
            Standing::Paused => {
                let route = self.paused_by(lane, program);
                (Condition::Paused, "an operator has paused the route".to_owned(), route)
            }
            Standing::Halted { route: Some(route) } => {
                let why = "the route says so (`on_permanent = \"halt\"`)".to_owned();
                (Condition::Halted, why, Some(route_id(program, route)))
            }
            Standing::Halted { route: None } => {
                let unreadable = stop.and_then(|stop| stop.unreadable.as_ref());
                let why = unreadable.map_or("it can't be read".to_owned(), ToString::to_string);
                (Condition::Halted, why, None)
            }
            Standing::Waiting { cause: Cause::Breaker { route, .. }, .. } => {
                let why = "too much of the route fails: it is tried with this event".to_owned();
                (Condition::Breaker, why, Some(route_id(program, route)))
            }
            Standing::Waiting { cause: Cause::Retry { route, .. }, .. } => {
                let why = "the event failed, and runs again".to_owned();
                (Condition::Waiting, why, Some(route_id(program, route)))
            }
            Standing::Waiting { cause, .. } => (Condition::Waiting, self.waits_for(cause), None),
        }
    }

    /// Why a partition waits that no route has stopped.
    fn waits_for(&self, cause: Cause) -> String {
        let why = match cause {
            Cause::Refused => "an output was refused: its event runs again",
            Cause::Failed => "a message was not written: its event runs again",
            Cause::Blocked => "an output topic takes nothing at present",
            Cause::ProducerLost | Cause::Lost => "the producer was replaced",
            Cause::Retry { .. } | Cause::Breaker { .. } | Cause::Paused | Cause::Again => "it is about to go on",
        };
        match (cause, self.sink.trouble()) {
            (Cause::Failed | Cause::Blocked, Some((topic, code))) => {
                format!("{why}; the last that was not written was for topic `{topic}`: {code}")
            }
            _ => why.to_owned(),
        }
    }

    /// The engine's time as the clock on the wall has it.
    fn clock(&self, at: Now) -> SystemTime {
        let (now, wall) = (self.now(), SystemTime::now());
        match at.checked_sub(now) {
            Some(left) => wall + left,
            None => wall - now.saturating_sub(at).min(Duration::from_secs(1 << 30)),
        }
    }
}

/// What is known of an event's failures: that of the route which stops it, else the first.
fn known<'s>(stop: &'s Stop, route: Option<&str>) -> Option<&'s Known> {
    let by_route = stop.failures.iter().find(|known| Some(known.route.as_str()) == route);
    by_route.or(stop.failures.first())
}

pub(super) fn route_id(program: &Program, route: u16) -> String {
    program.plans.get(usize::from(route)).map_or_else(String::new, |plan| plan.id.clone())
}
