//! What operators order of a shard's partitions, carried out: pauses, another try, events that are not to be run, routes that
//! are trusted again. What can't be read moves to where something can be, and it is said what was lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::account::route_id;
use super::carry::Flow;
use crate::data::engine::{Input, LaneId, Standing};
use crate::data::lane::Lane;
use crate::data::program::Program;
use crate::data::stop::Unreadable;
use crate::kafka::start::Begin;
use crate::kafka::{self, Partition};

/// How long the broker may take to say where a partition begins and ends, and to take another position of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What an operator wants of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Try again now.
    Again,
    /// Skip the event that it stands at, or all up to an offset.
    Skip {
        /// Where it was seen to stand. Without `to` nothing is skipped elsewhere.
        at: Option<i64>,
        /// The first event that is run again; none: the one behind where it stands.
        to: Option<i64>,
    },
}

impl Wish {
    /// As an operator means it who sees the partition stand at an offset: by the time that it is granted it may stand at another
    /// event, which nobody named.
    pub fn meant_at(self, offset: i64) -> Self {
        match self {
            Self::Skip { to, .. } => Self::Skip { at: Some(offset), to },
            Self::Again => Self::Again,
        }
    }
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    /// The shard doesn't have the partition.
    Elsewhere,
    /// It was done: what exactly.
    Done(String),
    /// It runs: there is nothing to do.
    Runs,
    /// It can't be done: why not.
    Refused(String),
}

/// A partition that can't be read on, and where it stands.
struct Lost {
    id: LaneId,
    partition: Partition,
    at: i64,
    why: Unreadable,
}

impl Flow {
    /// Takes up what operators have paused, where that is something else than before.
    pub(super) fn take_pauses(&mut self, program: &Program) -> Result<(), kafka::Error> {
        let Some((version, paused)) = self.handover.pauses(self.pauses_seen) else { return Ok(()) };
        (self.pauses_seen, self.paused) = (version, paused);
        self.apply_pauses(program)
    }

    /// Has the partitions stand still that a paused route reads, and lets the others go.
    pub(super) fn apply_pauses(&mut self, program: &Program) -> Result<(), kafka::Error> {
        let (mut stand, mut go) = (Vec::new(), Vec::new());
        for (id, lane) in self.lanes.iter() {
            if self.paused_by(lane, program).is_some() { &mut stand } else { &mut go }.push(id);
        }
        if !stand.is_empty() {
            self.step(Input::Paused { lanes: &stand })?;
        }
        if go.is_empty() { Ok(()) } else { self.step(Input::Unpaused { lanes: &go }) }
    }

    /// A paused route that reads a partition, by its id.
    pub(super) fn paused_by(&self, lane: &Lane, program: &Program) -> Option<String> {
        let is_paused = |route: &u16| program.plans[usize::from(*route)].is_among(&self.paused);
        lane.routes.iter().copied().find(|route| is_paused(route)).map(|route| route_id(program, route))
    }

    /// Trusts routes again, by their ids.
    pub(super) fn trust(&mut self, program: &Program, routes: &BTreeSet<String>) -> Result<(), kafka::Error> {
        let numbered = program.plans.iter().zip(0..);
        let numbers: Vec<u16> = numbered.filter(|(plan, _)| plan.is_among(routes)).map(|(_, number)| number).collect();
        self.step(Input::Trusted { routes: &numbers })
    }

    /// Does what an operator wants of a partition, if that can be done.
    pub(super) fn grant(
        &mut self,
        program: &Program,
        partition: &Partition,
        wish: Wish,
    ) -> Result<Granted, kafka::Error> {
        let Some(id) = self.lanes.find(partition) else { return Ok(Granted::Elsewhere) };
        match self.engine.standing(id) {
            None | Some(Standing::Closing) => {
                return Ok(Granted::Refused("it is about to go to another member, or the host stops".to_owned()));
            }
            Some(Standing::Running) => return Ok(Granted::Runs),
            Some(Standing::Probing { .. }) if wish == Wish::Again => return Ok(Granted::Runs),
            Some(Standing::Probing { at }) => {
                // It doesn't stand, and nothing is known to be wrong with what comes next.
                return Ok(Granted::Refused(format!(
                    "its route is being tried, with the next event from offset {at} on that it takes: there is nothing to skip \
                     unless the partition stops again"
                )));
            }
            Some(Standing::Paused) if wish == Wish::Again => {
                let route = self.lanes.get(id).and_then(|lane| self.paused_by(lane, program)).unwrap_or_default();
                return Ok(Granted::Refused(format!(
                    "route `{route}` is paused, and reads it: `midplane route resume {route}` lets it go on"
                )));
            }
            Some(_) => {}
        }
        let Some(at) = self.engine.stands_at(id).filter(|_| self.settling.is_none()) else {
            let message =
                "messages of it are still in flight, or its transaction is being settled: try again in a moment";
            return Ok(Granted::Refused(message.to_owned()));
        };
        if let Wish::Skip { at: Some(seen), to: None } = wish
            && seen != at
        {
            let message = format!("it stands at offset {at} by now, and stood at {seen}: nothing is skipped");
            return Ok(Granted::Refused(message));
        }
        if let Some(why) = self.unreadable(id) {
            if self.engine.committed_offset(id) != Some(at) {
                // Under exactly-once they would be lost with their transaction.
                let message = "what was read before is not committed yet: try again in a moment";
                return Ok(Granted::Refused(message.to_owned()));
            }
            return self.move_on(program, Lost { id, partition: partition.clone(), at, why }, wish);
        }
        match wish {
            Wish::Again => {
                self.step(Input::Again { lanes: &[id] })?;
                Ok(Granted::Done(format!("it goes on at offset {at}")))
            }
            Wish::Skip { to, .. } => self.skip(id, partition, at, to),
        }
    }

    /// Why a partition can't be read, if that is why it stands.
    fn unreadable(&self, id: LaneId) -> Option<Unreadable> {
        let halted = self.engine.standing(id) == Some(Standing::Halted { route: None });
        let stop = self.lanes.get(id)?.stop.as_ref().filter(|_| halted)?;
        stop.unreadable.clone()
    }

    fn skip(&mut self, id: LaneId, partition: &Partition, at: i64, to: Option<i64>) -> Result<Granted, kafka::Error> {
        let wanted = to.unwrap_or(at + 1);
        if wanted <= at {
            return Ok(Granted::Refused(format!("it stands at offset {at}: there is nothing below {wanted} to skip")));
        }
        let end = match self.ends(partition)? {
            Ok((_, end)) => end,
            Err(refused) => return Ok(refused),
        };
        let to = wanted.min(end);
        if to <= at {
            return Ok(Granted::Refused(format!("it stands at its end, offset {at}: there is no event to skip yet")));
        }
        let paused = self.engine.standing(id) == Some(Standing::Paused);
        self.step(Input::Skip { lane: id, to })?;
        let which = if to == at + 1 { format!("offset {at}") } else { format!("offsets {at} to {}", to - 1) };
        let bound = if to < wanted { format!(" (the log ends at {end})") } else { String::new() };
        let when = if paused { ", once the route is resumed" } else { "" };
        Ok(Granted::Done(format!(
            "{which}{bound}: to the dead letters of each route that takes them{when}; then it goes on"
        )))
    }

    /// Where a partition begins and ends; or why that can't be known now.
    fn ends(&mut self, partition: &Partition) -> Result<Result<(i64, i64), Granted>, kafka::Error> {
        let (topic, number) = (&*partition.0, partition.1);
        let ends = [Begin::Earliest, Begin::Latest].map(|begin| (topic, number, begin));
        let mut found = Vec::new();
        for end in ends {
            match self.consumer.offsets_at([end].into_iter(), ANSWER_TIMEOUT) {
                Ok(offsets) => found.extend(offsets),
                Err(error @ kafka::Error::Fatal { .. }) => return Err(error),
                Err(error) => {
                    return Ok(Err(Granted::Refused(format!(
                        "the broker doesn't say where it begins and ends: {error}"
                    ))));
                }
            }
        }
        Ok(Ok((found[0], found[1])))
    }

    /// Goes on with a partition that can't be read where it stands: at the nearest offset that can be, or further on.
    fn move_on(&mut self, program: &Program, lost: Lost, wish: Wish) -> Result<Granted, kafka::Error> {
        let (begin, end) = match self.ends(&lost.partition)? {
            Ok(ends) => ends,
            Err(refused) => return Ok(refused),
        };
        let recreated = matches!(lost.why, Unreadable::Recreated { .. });
        let (from, to) = match (&lost.why, wish) {
            (Unreadable::Recreated { .. }, Wish::Again) => (begin, begin),
            (Unreadable::Recreated { .. }, Wish::Skip { .. }) => {
                let message =
                    "its topic is another one than before: `midplane partition resume` begins it at its first event";
                return Ok(Granted::Refused(message.to_owned()));
            }
            (Unreadable::OutOfRange, Wish::Skip { to: Some(to), .. }) => {
                (lost.at.clamp(begin, end), to.clamp(begin, end))
            }
            (Unreadable::OutOfRange, _) => (lost.at.clamp(begin, end), begin),
            (Unreadable::Damaged { .. }, Wish::Again) => (lost.at, lost.at),
            (Unreadable::Damaged { .. }, Wish::Skip { to, .. }) => {
                let to = to.unwrap_or(lost.at + 1).clamp(lost.at, end);
                (to, to)
            }
        };
        if let Some(refused) = self.commit_elsewhere(program, &lost, from)? {
            return Ok(refused);
        }
        let Lost { id, partition, at, why } = lost;
        // As if it were assigned anew: what was known of it is about a log that isn't there any more.
        self.step(Input::Lost { lanes: &[id] })?;
        self.consumer.restart(&partition.0, partition.1, from)?;
        let id = self.take_on(program, partition.clone(), from, true)?;
        if to > from {
            self.step(Input::Paused { lanes: &[id] })?;
            self.step(Input::Skip { lane: id, to })?;
            self.apply_pauses(program)?;
        }
        let message = moved(at, from, to, recreated);
        tracing::warn!(topic = &*partition.0, partition = partition.1, before = at, offset = from, %why, "A partition goes on elsewhere: an operator said so.");
        Ok(Granted::Done(message))
    }

    /// Has the group go on elsewhere, before anything is read there.
    fn commit_elsewhere(
        &mut self,
        program: &Program,
        lost: &Lost,
        offset: i64,
    ) -> Result<Option<Granted>, kafka::Error> {
        let (topic, number) = (&*lost.partition.0, lost.partition.1);
        let ids = match self.consumer.topic_ids(&[topic], ANSWER_TIMEOUT) {
            Ok(ids) => ids,
            Err(error) => {
                return Ok(Some(Granted::Refused(format!("the broker doesn't say which topic it is: {error}"))));
            }
        };
        let id = ids.get(topic).cloned();
        let metadata = program.commit_metadata(id.as_ref());
        match self.consumer.commit_sync([(topic, number, offset, metadata.as_str())].into_iter(), ANSWER_TIMEOUT) {
            Ok(()) => {
                self.topic_ids.remove(topic);
                self.topic_ids.extend(id.map(|id| (Arc::clone(&lost.partition.0), id)));
                Ok(None)
            }
            Err(error @ kafka::Error::Fatal { .. }) => Err(error),
            Err(error) => Ok(Some(Granted::Refused(format!("the broker doesn't take where it is to go on: {error}")))),
        }
    }

    /// A partition can't be read on, for a reason that is kept.
    pub(super) fn halt_unreadable(&mut self, id: LaneId, why: Unreadable) -> Result<(), kafka::Error> {
        let Some(lane) = self.lanes.get(id) else { return Ok(()) };
        tracing::error!(topic = lane.topic(), partition = lane.number(), %why, "A partition can't be read on.");
        self.step(Input::Unreadable { lane: id })?;
        let offset = self.engine.position(id);
        if let (Some(offset), Some(lane)) = (offset, self.lanes.get_mut(id)) {
            *lane.stop_at(offset) = crate::data::stop::Stop {
                offset,
                since: SystemTime::now(),
                failures: Vec::new(),
                unreadable: Some(why),
            };
        }
        Ok(())
    }

    /// Whether a partition was found to be unreadable: it stands until somebody says how to go on.
    pub(super) fn is_unreadable(&self, id: LaneId) -> bool {
        self.engine.standing(id) == Some(Standing::Halted { route: None })
    }
}

/// Where a partition goes on that couldn't be read, and what is lost.
fn moved(at: i64, from: i64, to: i64, recreated: bool) -> String {
    let goes_on = format!("it goes on at offset {from}");
    let skipped =
        if to > from { format!("; offsets {from} to {} go to the dead letters", to - 1) } else { String::new() };
    let lost = match from - at {
        _ if recreated => {
            ", the first event of the topic that has its name now; what was left of the former one is gone".to_owned()
        }
        0 => String::new(),
        1 => format!("; offset {at} is lost, it can't be read"),
        2.. => format!("; offsets {at} to {} are lost, they can't be read", from - 1),
        _ => format!(", the log's end; it stood at {at}, which the log doesn't have (any more)"),
    };
    format!("{goes_on}{lost}{skipped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_skipped_is_named_before_it_is_skipped() {
        for to in [None, Some(9)] {
            assert_eq!(Wish::Skip { at: None, to }.meant_at(42), Wish::Skip { at: Some(42), to });
        }
        assert_eq!(Wish::Again.meant_at(42), Wish::Again);
    }

    #[test]
    fn it_is_said_what_is_lost() {
        let check = |(at, from, to, recreated), expected: &str| assert_eq!(moved(at, from, to, recreated), expected);
        check((5, 5, 5, false), "it goes on at offset 5");
        check((5, 6, 5, false), "it goes on at offset 6; offset 5 is lost, it can't be read");
        check(
            (5, 9, 12, false),
            "it goes on at offset 9; offsets 5 to 8 are lost, they can't be read; offsets 9 to 11 go to the dead letters",
        );
        check(
            (5, 3, 0, false),
            "it goes on at offset 3, the log's end; it stood at 5, which the log doesn't have (any more)",
        );
        let anew = ", the first event of the topic that has its name now; what was left of the former one is gone";
        check((5, 0, 0, true), &format!("it goes on at offset 0{anew}"));
    }
}
